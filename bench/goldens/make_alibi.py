"""Makes test/goldens/alibi.json: the ALiBi slopes of 1 to 40 heads, by Transformers' BLOOM and MPT.

usage: python make_alibi.py          needs torch, transformers (5.24)
MPT's function is given the `alibi_bias_max` that Transformers' own model never passes to it: 8, and 5.
"""

import json
from pathlib import Path

import torch
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

HEADS = range(1, 41)
FILE = Path(__file__).resolve().parents[2] / "test" / "goldens" / "alibi.json"


def bloom(n: int) -> list[float]:
    """The bias of key position 1."""
    return build_alibi_tensor(torch.ones(1, 2), n, torch.float32)[:, 0, 1].tolist()


def mpt(n: int, bias_max: int) -> list[float]:
    """The bias of the key one place before the query, which is −slope."""
    return (-build_mpt_alibi_tensor(n, 2, bias_max).reshape(n, 2)[:, 0]).tolist()


tables = {
    "bloom": [bloom(n) for n in HEADS],
    "mpt_8": [mpt(n, 8) for n in HEADS],
    "mpt_5": [mpt(n, 5) for n in HEADS],
}
rounded = {name: [[float(f"{x:.8g}") for x in row] for row in table] for name, table in tables.items()}
lines = (f'"{name}": [\n' + ",\n".join(map(json.dumps, table)) + "\n]" for name, table in rounded.items())
FILE.write_text("{" + ",\n".join(lines) + "}\n")
print(FILE.stat().st_size, "bytes")
