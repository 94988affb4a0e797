"""Writes test/goldens/tokens: what Transformers' `add_special_tokens` makes of tokenizers, and what a vocabulary that
grows makes of models (the function of Stanford Alpaca's train.py).

Run from the repository's root with a Python that has torch, transformers, peft and tokenizers (made with
Transformers 5.24, PEFT 0.21.2). `python bench/goldens/make_tokens.py [tokenizers] [models]`; both without a name.
Never changes a golden that another script made.
"""

import json
import sys
import tempfile
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer

OUT = Path("test/goldens/tokens")
TEXTS = ["abc", "a [PAD]b", "[PAD]", "ab</s>c", "cab[PAD][PAD]", "a<extra> <|end|>b", ""]
ROLES = ["pad_token", "eos_token", "bos_token", "unk_token"]


def special(text: str) -> AddedToken:
    return AddedToken(text, normalized=False, special=True)


def llama() -> tuple[Tokenizer, dict]:
    """A BPE of characters as SentencePiece makes it: byte fallback, `<s>` before each text, no pad token."""
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + list("▁abc") + ["▁a", "ab"]
    tokenizer = Tokenizer(models.BPE(
        {token: id for id, token in enumerate(tokens)}, [("▁", "a"), ("a", "b")],
        unk_token="<unk>", byte_fallback=True, fuse_unk=True,
    ))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0),
    ])
    tokenizer.add_special_tokens([special(text) for text in tokens[:3]])
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", 1)])
    return tokenizer, {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def byte_level() -> tuple[Tokenizer, dict]:
    """A byte-level BPE as MPT has it: one end token for every role, an added token behind the vocabulary."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|end|>"] + alphabet + ["ab"]
    tokenizer = Tokenizer(models.BPE({token: id for id, token in enumerate(tokens)}, [("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([special("<|end|>")])
    tokenizer.add_tokens([AddedToken("<extra>", normalized=False)])
    state = {id: token.__getstate__() for id, token in tokenizer.get_added_tokens_decoder().items()}
    names = {name: "<|end|>" for name in ["bos_token", "eos_token", "unk_token"]}
    return tokenizer, {"tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": state, **names}


CASES = {
    "llama": (llama, [
        {"pad_token": "[PAD]"},
        {"pad_token": "[PAD]", "eos_token": "</s>", "bos_token": "</s>", "unk_token": "</s>"},
        {"pad_token": "ab"},
        {"bos_token": "<begin>"},
    ]),
    "byte-level": (byte_level, [
        {"pad_token": "[PAD]"},
        {"pad_token": "<|end|>"},
        {"pad_token": "<extra>", "eos_token": "</s>", "bos_token": "</s>", "unk_token": "</s>"},
    ]),
}


def case(folder: Path, tokens: dict) -> dict:
    """What Transformers makes of the tokens; the saved files load with the same ids and roles, or this fails."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for name, text in tokens.items():
        tokenizer.add_special_tokens({name: text})
    seen = lambda t: {
        "length": len(t),
        "ids": [t(text)["input_ids"] for text in TEXTS],
        "roles": {name: [getattr(t, name), getattr(t, f"{name}_id")] for name in ROLES if getattr(t, name) is not None},
    }
    with tempfile.TemporaryDirectory() as saved:
        tokenizer.save_pretrained(saved)
        file = json.loads((Path(saved) / "tokenizer.json").read_text())
        source = json.loads((folder / "tokenizer.json").read_text())
        # Transformers 5 writes its own unk_token and post-processor; what they do is in the ids.
        assert all(file["model"][key] == source["model"][key] for key in ["vocab", "merges"]), "only tokens are added"
        assert seen(AutoTokenizer.from_pretrained(saved)) == seen(tokenizer)
    return {"tokens": tokens, **seen(tokenizer), "added_tokens": file["added_tokens"]}


def make_tokenizers() -> None:
    for name, (make, cases) in CASES.items():
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer, config = make()
        tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
        made = {"texts": TEXTS, "cases": [case(folder, tokens) for tokens in cases]}
        (folder / "expected.json").write_text(json.dumps(made, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["tokenizers", "models"]
    if "tokenizers" in wanted:
        make_tokenizers()
    if "models" in wanted:
        from tokens_models import make_models
        make_models(OUT)
