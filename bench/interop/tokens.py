"""Loads an adapter whose vocabulary grew with PEFT and its tokenizer with Transformers, as a user of both would.

usage: python tokens.py DIR_MODEL DIR_ADAPTER [--batch batch.json] [--out logits.safetensors]

The base gets as many rows as the adapter's embedding, or as many as the tokenizer in DIR_ADAPTER needs where it was
saved without one; PEFT then loads what it finds. Fails where names or values differ after loading, where a matrix has
other rows than the tokenizer's last id needs, or where the tokenizer's ids change when it is saved again. With --out
the tensor `logits` [B, T, V] (CPU, f32) of --batch goes into that file. Never changes the two folders.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "goldens"))
from reference import load_base  # noqa: E402

TEXTS = ["repeat 1:", "[PAD]", "a [PAD]b</s>", ""]


def check_tokenizer(folder: Path) -> int:
    """Roles and ids survive Transformers' own saving; returns the rows that the ids need."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    seen = lambda t: (t.special_tokens_map, len(t), [t(text)["input_ids"] for text in TEXTS])
    with tempfile.TemporaryDirectory() as saved:
        tokenizer.save_pretrained(saved)
        assert seen(AutoTokenizer.from_pretrained(saved)) == seen(tokenizer), "the tokenizer changes when saved"
    if tokenizer.pad_token is not None:
        assert tokenizer(tokenizer.pad_token, add_special_tokens=False)["input_ids"] == [tokenizer.pad_token_id]
    return 1 + max(tokenizer.get_vocab().values())


def load(model_folder: Path, adapter: Path, rows: int) -> PeftModel:
    written = load_file(adapter / "adapter_model.safetensors")
    base = load_base(model_folder)
    name = next(n for n, p in base.named_parameters() if p is base.get_input_embeddings().weight)
    saved = written.get(f"base_model.model.{name}")
    rows = max(rows, base.get_input_embeddings().weight.shape[0]) if saved is None else saved.shape[0]
    if rows != base.get_input_embeddings().weight.shape[0]:
        base.resize_token_embeddings(rows)
    model = PeftModel.from_pretrained(base, adapter).eval()
    loaded = {n.replace(".default", ""): p for n, p in model.state_dict().items()}
    for key, value in written.items():
        assert torch.equal(loaded[key].float(), value.float()), f"{key} differs after loading"
    return model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--batch", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    needed = check_tokenizer(args.adapter) if (args.adapter / "tokenizer.json").exists() else 0
    model = load(args.model, args.adapter, needed)
    rows = [layer.weight.shape[0] for layer in (model.get_input_embeddings(), model.get_output_embeddings())]
    assert min(rows) >= needed, f"{rows} rows for {needed} ids"
    facts = {"rows": rows[0], "tokenizer_rows": needed}
    if args.out:
        batch = json.loads(args.batch.read_text())
        inputs = {key: torch.as_tensor(batch[key]) for key in ("input_ids", "attention_mask")}
        with torch.no_grad():
            save_file({"logits": model(**inputs).logits.float().contiguous()}, args.out)
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
