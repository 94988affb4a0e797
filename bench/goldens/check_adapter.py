"""Loads a PEFT adapter that lora-train wrote with PEFT itself, and stores or prints what the model answers with it.

usage: python check_adapter.py DIR_MODEL DIR_ADAPTER [--batch batch.json] [--out logits.safetensors]
batch.json holds input_ids and attention_mask; the default is DIR_MODEL/batch.json. With --out the tensor `logits`
[B, T, V] (CPU, f32) goes into that file; without it one JSON object goes to stdout. Fails if PEFT misses a key of the
adapter or finds one that it does not know. Never changes the two folders.
"""

import argparse
import json
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from reference import batch_of, load_base


def check_keys(model: PeftModel, adapter: Path) -> int:
    """Names and values in PEFT's model are those of the file; returns their number."""
    written, loaded = load_file(adapter / "adapter_model.safetensors"), get_peft_model_state_dict(model)
    if set(written) != set(loaded):
        raise SystemExit(f"keys differ: {sorted(set(written) ^ set(loaded))[:4]}")
    wrong = [name for name in written if not torch.equal(written[name].float(), loaded[name].float())]
    if wrong:
        raise SystemExit(f"values differ after loading: {wrong[:4]}")
    return len(written)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--batch", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    model = PeftModel.from_pretrained(load_base(args.model), args.adapter).eval()
    keys = check_keys(model, args.adapter)
    batch = batch_of(args.model) if args.batch is None else json.loads(args.batch.read_text())
    inputs = {k: torch.as_tensor(batch[k]) for k in ("input_ids", "attention_mask")}
    with torch.no_grad():
        logits = model(**inputs).logits.float()
    if args.out:
        save_file({"logits": logits.contiguous()}, args.out)
    print(json.dumps({"keys": keys, "shape": list(logits.shape)} | ({} if args.out else {"logits": logits.tolist()})))


if __name__ == "__main__":
    main()
