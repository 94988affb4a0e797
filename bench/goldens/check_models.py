"""Compares what reference.py computes with golden folders that were made elsewhere. Never writes anything.

usage: python check_models.py DIR...
Prints per folder the largest absolute deviation of logits and losses and the largest relative (L2) one of gradients;
exit status 1 where one is over the bound or a name is missing.
"""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from reference import batch_of, compute

# Two builds of the same f32 computation; a wrong definition shows from 3e-5 up.
BOUNDS = {"logits": 1e-5, "grads": 1e-5, "losses": 1e-6}


def deviations(folder: Path) -> dict[str, float]:
    facts, tensors = compute(folder)
    want_facts = json.loads((folder / "expected.json").read_text())
    want = load_file(folder / "expected.safetensors")
    if set(want) != set(tensors):
        raise SystemExit(f"{folder}: tensors differ by name: {sorted(set(want) ^ set(tensors))[:4]}")
    real = batch_of(folder)["attention_mask"].numpy().astype(bool)
    worst = dict.fromkeys(BOUNDS, 0.0)
    for name, got in tensors.items():
        if name.endswith("logits"):
            worst["logits"] = max(worst["logits"], float(np.abs(got - want[name])[real].max()))
        else:
            relative = np.linalg.norm(got - want[name]) / np.linalg.norm(want[name])
            worst["grads"] = max(worst["grads"], float(relative))
    for name, got in facts.items():
        if name != "targets":
            worst["losses"] = max(worst["losses"], float(np.abs(np.subtract(got, want_facts[name])).max()))
    return worst


def main(folders: list[str]) -> int:
    failed = 0
    for folder in map(Path, folders):
        worst = deviations(folder)
        over = [k for k, bound in BOUNDS.items() if not worst[k] <= bound]
        failed += bool(over)
        numbers = "  ".join(f"{k} {v:.1e}" for k, v in worst.items())
        print(f"{'OVER' if over else 'ok'}  {folder.name}  {numbers}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
