"""Makes the stand-ins for the two models of the two runs: a small BLOOM and a small MPT as such models lie on the hub.

usage: python make_standins.py         needs torch, transformers, tokenizers, safetensors (versions: made.json)
Reads test/goldens/standins/rows.json, whose rows were written for it. Writes test/goldens/standins/{bloom, mpt, made.json}.
Weights are random. Then `make_standins_logs.py` makes what the Trainer logs with them.

bloom  pytorch_model-0000k-of-00003.bin by torch.save in f16, the tied head stored once more on the embedding's storage;
       the config of 2022 (`n_embed`, `num_attention_heads`, `torch_dtype`); three heads; BLOOM's four special tokens
mpt    model-0000k-of-00003.safetensors in bf16, the config of the original checkpoints (`attn_config`, `auto_map`,
       `init_config`); three heads; 512 rows for fewer tokens; GPT-NeoX's kind of tokenizer, which names no pad token
"""

import json
import shutil
from pathlib import Path

import tokenizers
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM

from make_models import randomize

OUT = Path(__file__).resolve().parents[2] / "test" / "goldens" / "standins"
HIDDEN, HEADS, LAYERS, ROWS, SHARDS = 48, 3, 2, 512, 3

BLOOM_CONFIG = dict(
    apply_residual_connection_post_layernorm=False, architectures=["BloomForCausalLM"], attention_dropout=0.0,
    attention_softmax_in_fp32=True, bias_dropout_fusion=True, bos_token_id=1, eos_token_id=2, hidden_dropout=0.0,
    initializer_range=0.02, layer_norm_epsilon=1e-05, masked_softmax_fusion=True, model_type="bloom", n_embed=HIDDEN,
    n_inner=None, n_layer=LAYERS, num_attention_heads=HEADS, offset_alibi=100, pad_token_id=3, pretraining_tp=4,
    seq_length=2048, skip_bias_add=True, skip_bias_add_qkv=False, slow_but_exact=False, torch_dtype="float16",
    transformers_version="4.20.0", unk_token_id=0, use_cache=True, vocab_size=ROWS,
)
MPT_CONFIG = dict(
    architectures=["MPTForCausalLM"],
    attn_config=dict(
        alibi=True, alibi_bias_max=8, attn_impl="torch", attn_pdrop=0, attn_type="multihead_attention",
        attn_uses_sequence_id=False, clip_qkv=None, prefix_lm=False, qk_ln=False, softmax_scale=None,
    ),
    auto_map=dict(AutoConfig="configuration_mpt.MPTConfig", AutoModelForCausalLM="modeling_mpt.MPTForCausalLM"),
    d_model=HIDDEN, emb_pdrop=0, embedding_fraction=1.0, expansion_ratio=4,
    init_config=dict(
        emb_init_std=None, emb_init_uniform_lim=None, fan_mode="fan_in", init_div_is_residual=True, init_gain=0,
        init_nonlinearity="relu", init_std=0.02, name="kaiming_normal_", verbose=0,
    ),
    init_device="cpu", learned_pos_emb=True, logit_scale=None, max_seq_len=2048, model_type="mpt", n_heads=HEADS,
    n_layers=LAYERS, no_bias=True, norm_type="low_precision_layernorm", resid_pdrop=0,
    tokenizer_name="EleutherAI/gpt-neox-20b", torch_dtype="bfloat16", transformers_version="4.28.1", use_cache=False,
    verbose=0, vocab_size=ROWS,
)
# What the rows lack: the words of the prompts, and more of both languages.
SENTENCES = [
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n### Instruction:\n\n### Input:\n\n### Response:",
    "Die Antwort steht auf der nächsten Seite, und der Rest ist schnell erklärt.",
    "Zwischen den Häusern wächst Gras; über den Dächern kreisen die Schwalben.",
    "Please describe what happened, when it happened, and who was there.",
    "The answer is short, the question was longer than the answer.",
    "Schreibe eine Liste, erkläre die Gründe und nenne ein Beispiel.",
]


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def train(tokenizer: Tokenizer, size: int, specials: list[str]) -> Tokenizer:
    rows = json.loads((OUT / "rows.json").read_text())
    texts = SENTENCES + [text for row in rows for text in row.values()]
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def bloom_tokenizer(folder: Path) -> None:
    """BLOOM's pipeline: its own split, then bytes. 508 tokens for 512 rows, as 50,257 for 50,304 in the German model."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(" ?[^(\\s|[.,!?…。，、।۔،])]+"), behavior="isolated", invert=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=True, trim_offsets=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    train(tokenizer, ROWS - 4, ["<unk>", "<s>", "</s>", "<pad>"]).save(str(folder / "tokenizer.json"), pretty=False)
    names = dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>")
    write_json(folder / "special_tokens_map.json", names)
    write_json(
        folder / "tokenizer_config.json",
        names | dict(padding_side="left", special_tokens_map_file=None, tokenizer_class="BloomTokenizerFast"),
    )


def mpt_tokenizer(folder: Path) -> None:
    """GPT-NeoX's pipeline: NFC, bytes, runs of spaces as added tokens. One name for begin, end and unknown; no pad."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    train(tokenizer, ROWS - 40, ["<|endoftext|>", "<|padding|>"])
    tokenizer.add_tokens([AddedToken(" " * count, normalized=True) for count in (8, 4, 2)])
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    names = dict(bos_token="<|endoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>")
    write_json(folder / "special_tokens_map.json", names)
    write_json(
        folder / "tokenizer_config.json",
        names | dict(add_prefix_space=False, model_max_length=2048, tokenizer_class="GPTNeoXTokenizer"),
    )


def random_state(config: dict, seed: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    keys = {k: v for k, v in config.items() if k not in ("architectures", "auto_map", "model_type", "torch_dtype")}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config["model_type"], **keys), dtype=torch.float32)
    randomize(model, torch.Generator().manual_seed(seed))
    return model.to(dtype).state_dict()


def shards_of(state: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """Consecutive names, cut where a third and two thirds of the bytes are reached; tensors that share bytes together."""
    total, at, shards = sum(t.nbytes for t in state.values()), 0, [{} for _ in range(SHARDS)]
    places: dict[int, int] = {}
    for name, tensor in state.items():
        place = places.setdefault(tensor.data_ptr(), min(SHARDS - 1, SHARDS * at // total))
        shards[place][name] = tensor
        at += tensor.nbytes
    return shards


def write_shards(folder: Path, state: dict[str, torch.Tensor], stem: str, ending: str, save) -> None:
    weight_map = {}
    for number, shard in enumerate(shards_of(state), 1):
        file = f"{stem}-{number:05d}-of-{SHARDS:05d}.{ending}"
        save(shard, folder / file)
        weight_map |= dict.fromkeys(shard, file)
    total = sum(t.nbytes for t in state.values())
    write_json(
        folder / f"{stem}.{ending}.index.json",
        {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))},
    )


def folder_of(name: str, config: dict) -> Path:
    shutil.rmtree(OUT / name, ignore_errors=True)
    (OUT / name).mkdir()
    write_json(OUT / name / "config.json", config)
    return OUT / name


def make_bloom() -> None:
    folder = folder_of("bloom", BLOOM_CONFIG)
    state = random_state(BLOOM_CONFIG, 151, torch.float16)
    assert state["lm_head.weight"].data_ptr() == state["transformer.word_embeddings.weight"].data_ptr()
    write_shards(folder, state, "pytorch_model", "bin", torch.save)
    bloom_tokenizer(folder)


def make_mpt() -> None:
    folder = folder_of("mpt", MPT_CONFIG)
    state = random_state(MPT_CONFIG, 152, torch.bfloat16)
    del state["lm_head.weight"]  # The original code has no head of its own.
    write_shards(folder, state, "model", "safetensors", lambda t, path: save_file(t, path, metadata={"format": "pt"}))
    mpt_tokenizer(folder)
    write_json(folder / "generation_config.json", {"_from_model_config": True, "transformers_version": "4.28.1", "use_cache": False})


def main() -> None:
    make_bloom()
    make_mpt()
    versions = {m.__name__: m.__version__ for m in (torch, transformers, tokenizers)}
    write_json(OUT / "made.json", {"by": "bench/goldens/make_standins.py", "versions": versions})
    size = sum(f.stat().st_size for f in OUT.rglob("*") if f.is_file())
    print(f"{size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
