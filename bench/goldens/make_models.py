"""Makes the project's own golden models: tiny, random, with shapes that no other golden has.

usage: python make_models.py [NAME...]          needs torch, transformers, peft, safetensors, numpy (versions: expected.json)
Writes test/goldens/models/NAME/{config.json, generation_config.json, model.safetensors, batch.json, adapter/,
expected.json, expected.safetensors}. The same versions give the same weights, batch and adapter; expected values
differ in their last bits between machines.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from reference import compute

MODELS = Path(__file__).resolve().parents[2] / "test" / "goldens" / "models"
BOS, EOS, PAD = 1, 2, 3
# By suffix: PEFT writes "all-linear" as full module names for small models and as suffixes for large ones.
LINEARS = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "bloom": ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"],
    "falcon": ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"],
    "mpt": ["Wqkv", "out_proj", "up_proj", "down_proj"],
}


@dataclass
class Golden:
    seed: int
    config: dict
    lora: dict
    model_type: str = "llama"
    lengths: tuple[int, ...] = (17, 12, 9)
    # The names of a checkpoint of the bare decoder, as BLOOM's on the hub.
    without_prefix: bool = False
    # What config.json says instead, for configs that Transformers reads and never writes.
    written_config: dict | None = None
    common: dict = field(default_factory=lambda: dict(bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD))


GOLDENS = {
    # Biases everywhere, three query heads per key head, heads wider together than the hidden size.
    "llama-bias": Golden(
        seed=11,
        config=dict(
            vocab_size=97, hidden_size=42, intermediate_size=56, num_hidden_layers=2,
            num_attention_heads=6, num_key_value_heads=2, head_dim=8, max_position_embeddings=64,
            rms_norm_eps=1e-5, attention_bias=True, mlp_bias=True, tie_word_embeddings=False,
            rope_parameters=dict(rope_type="default", rope_theta=10000.0),
        ),
        lora=dict(r=3, lora_alpha=5),
    ),
    # YaRN: frequencies that are interpolated, kept and mixed (original length 16: the batch goes beyond it), a factor
    # on cos and sin; tied head; odd sizes.
    "llama-yarn": Golden(
        seed=12,
        config=dict(
            vocab_size=97, hidden_size=48, intermediate_size=88, num_hidden_layers=1,
            num_attention_heads=4, num_key_value_heads=4, head_dim=12, max_position_embeddings=64,
            rms_norm_eps=1e-6, tie_word_embeddings=True,
            rope_parameters=dict(
                rope_type="yarn", rope_theta=100.0, factor=4.0, original_max_position_embeddings=16,
                beta_fast=4.0, beta_slow=1.0,
            ),
        ),
        lora=dict(r=4, lora_alpha=6),
        lengths=(24, 19, 8),
    ),
    # Linear scaling with a fraction, one key head for all, three blocks, an adapter with rank-stabilised scale.
    "llama-linear": Golden(
        seed=13,
        config=dict(
            vocab_size=67, hidden_size=36, intermediate_size=44, num_hidden_layers=3,
            num_attention_heads=3, num_key_value_heads=1, head_dim=10, max_position_embeddings=80,
            rms_norm_eps=1e-6, tie_word_embeddings=False,
            rope_parameters=dict(rope_type="linear", rope_theta=5000.0, factor=2.5),
        ),
        lora=dict(r=2, lora_alpha=3, use_rslora=True),
        lengths=(21, 13, 16),
    ),
    # Five heads, odd sizes, the hub's names without `transformer.` and its old keys.
    "bloom-hub": Golden(
        seed=14,
        model_type="bloom",
        config=dict(vocab_size=67, hidden_size=30, n_layer=2, n_head=5, layer_norm_epsilon=1e-4),
        lora=dict(r=3, lora_alpha=5),
        without_prefix=True,
        written_config=dict(
            architectures=["BloomModel"], model_type="bloom", vocab_size=67, n_embed=30, n_layer=2, num_attention_heads=5,
            layer_norm_epsilon=1e-4, apply_residual_connection_post_layernorm=False, attention_dropout=0.0,
            hidden_dropout=0.0, bias_dropout_fusion=True, seq_length=64, unk_token_id=0, torch_dtype="float32",
        ),
    ),
    # ALiBi in the scores' scale, biases, one block after the other. (Slopes of 8 heads are exact in bf16, as are their
    # products with these positions: Transformers rounds both.)
    "falcon-rw": Golden(
        seed=16,
        model_type="falcon",
        config=dict(
            vocab_size=53, hidden_size=24, num_hidden_layers=2, num_attention_heads=8, alibi=True, bias=True,
            multi_query=False, parallel_attn=False, new_decoder_architecture=False,
        ),
        lora=dict(r=2, lora_alpha=3),
    ),
    # Three heads whose slopes reach 2^-5 instead of 2^-8, clamping that is felt, another scale; the config of the
    # original checkpoints. (Transformers ignores `expansion_ratio`: its MLP is always four times as wide.)
    "mpt-original": Golden(
        seed=15,
        model_type="mpt",
        config=dict(
            vocab_size=61, d_model=30, n_layers=2, n_heads=3, expansion_ratio=4, max_seq_len=64,
            attn_config=dict(alibi_bias_max=5, clip_qkv=0.7, softmax_scale=0.4),
        ),
        lora=dict(r=2, lora_alpha=3),
        lengths=(16, 11, 13),
        written_config=dict(
            architectures=["MPTForCausalLM"], model_type="mpt", vocab_size=61, d_model=30, n_layers=2, n_heads=3,
            attn_config=dict(
                alibi=True, alibi_bias_max=5, attn_impl="torch", attn_pdrop=0, attn_type="multihead_attention",
                attn_uses_sequence_id=False, clip_qkv=0.7, prefix_lm=False, qk_ln=False, softmax_scale=0.4,
            ),
            auto_map=dict(
                AutoConfig="configuration_mpt.MPTConfig", AutoModelForCausalLM="modeling_mpt.MPTForCausalLM"
            ),
            emb_pdrop=0, embedding_fraction=1.0, expansion_ratio=4,
            init_config=dict(init_div_is_residual=True, init_std=0.02, name="kaiming_normal_", verbose=0),
            init_device="cpu", learned_pos_emb=True, logit_scale=None, max_seq_len=64, no_bias=True,
            norm_type="low_precision_layernorm", resid_pdrop=0, torch_dtype="float32", use_cache=False, verbose=0,
        ),
    ),
}


def randomize(model: torch.nn.Module, generator: torch.Generator) -> None:
    """Weights that keep activations near 1, norms near but not at 1, biases that are felt."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.ndim == 2:
                p.copy_(noise * (0.3 if "embed" in name or "wte" in name else p.shape[1] ** -0.5))
            else:
                # Every vector that is called a weight is a norm's.
                p.copy_(1 + 0.2 * noise if "norm" in name or name.endswith("weight") else 0.2 * noise)


def make_batch(golden: Golden) -> dict[str, list]:
    """Rows of different lengths, right-padded; the first third of each is the source, masked with -100."""
    generator = torch.Generator().manual_seed(golden.seed + 1000)
    width = max(golden.lengths)
    batch = {"input_ids": [], "attention_mask": [], "labels": []}
    for length in golden.lengths:
        ids = torch.randint(4, golden.config["vocab_size"], (length,), generator=generator).tolist()
        padding, source = width - length, length // 3
        batch["input_ids"].append(ids + [PAD] * padding)
        batch["attention_mask"].append([1] * length + [0] * padding)
        batch["labels"].append([-100] * source + ids[source:] + [-100] * padding)
    return batch


def make_adapter(name: str, golden: Golden, folder: Path, generator: torch.Generator) -> None:
    config = LoraConfig(
        target_modules=LINEARS[golden.model_type], lora_dropout=0.0, bias="none", task_type="CAUSAL_LM", **golden.lora
    )
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), config)
    with torch.no_grad():
        for parameter_name, p in model.named_parameters():
            if "lora_" in parameter_name:
                p.copy_(torch.randn(p.shape, generator=generator) * 0.15)
    model.peft_config["default"].base_model_name_or_path = name
    model.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    path = folder / "adapter" / "adapter_config.json"
    saved = json.loads(path.read_text())
    # A set in PEFT: its order changes from run to run.
    saved["target_modules"] = sorted(saved["target_modules"])
    path.write_text(json.dumps(saved, indent=2) + "\n")


def rewrite(golden: Golden, folder: Path) -> None:
    """Brings the saved folder into the form that the golden is about."""
    if golden.written_config is not None:
        text = json.dumps(golden.common | golden.written_config, indent=2, sort_keys=True)
        (folder / "config.json").write_text(text + "\n")
    if golden.without_prefix:
        path = folder / "model.safetensors"
        tensors = {name.removeprefix("transformer."): t for name, t in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})


def make(name: str, golden: Golden) -> None:
    folder = MODELS / name
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(golden.seed)
    config = AutoConfig.for_model(golden.model_type, **golden.common, **golden.config)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    randomize(model, generator)
    model.generation_config = GenerationConfig.from_model_config(model.config)
    model.save_pretrained(folder)
    rewrite(golden, folder)
    (folder / "batch.json").write_text(json.dumps(make_batch(golden)) + "\n")
    make_adapter(name, golden, folder, generator)
    facts, tensors = compute(folder)
    versions = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "numpy": np.__version__,
        "seed": golden.seed,
    }
    (folder / "expected.json").write_text(json.dumps(versions | facts, indent=1) + "\n")
    save_file(tensors, folder / "expected.safetensors")
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(f"{name}: {size / 1024:.0f} KiB, loss {facts['loss']:.4f}, lora {facts['lora_loss']:.4f}, nf4 {facts['nf4_loss']:.4f}")


if __name__ == "__main__":
    for chosen in sys.argv[1:] or GOLDENS:
        make(chosen, GOLDENS[chosen])
