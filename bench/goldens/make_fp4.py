"""Makes the project's own FP4 golden, and compares its definition with bitsandbytes, bit for bit.

usage: python make_fp4.py          needs numpy, safetensors, torch and bitsandbytes

fp4.safetensors                    what the definition says of the edge cases
bitsandbytes/fp4                   a weight as bitsandbytes saves it, and its `values`, unpacked by bitsandbytes

The definition is that of nf4.py with another table; the layout is make_nf4.py's, with `fp4_code` and no `dynamic_code`.
Every case, and more that are too large to keep, is quantised and unpacked by bitsandbytes on the CPU too (made with 0.50.2).
Its AVX-512 unpacking is right where a row is a whole number of blocks or of odd length, so tensors are given as one row.

Left out of the comparison, where bitsandbytes departs from what it does elsewhere: a block whose maximum is below 1e-38 (it
is scaled by 1e38), the maximum of a last, short block of zeros (it is stored as 1e-38), nested codes (a table of 65,536
steps; the nested part does not depend on the type).
"""

from pathlib import Path

import bitsandbytes.functional as bnb
import numpy as np
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

import nf4
from check_nf4 import parts

GOLDENS = Path(__file__).resolve().parents[2] / "test" / "goldens"
OUT = GOLDENS / "fp4.safetensors"
TABLE = nf4.FP4_CODE
SORTED = np.sort(TABLE)
MIDPOINTS = (SORTED[:-1] + SORTED[1:]) / np.float32(2)


def _ties(rng: np.random.Generator, size: int) -> np.ndarray:
    """A block whose codes depend on how they are scaled: x / absmax, or x * (1 / absmax)."""
    for absmax in rng.uniform(0.5, 1, 10000).astype(np.float32):
        near = MIDPOINTS * absmax
        x = np.concatenate([np.nextafter(near, np.float32(-1)), near, np.nextafter(near, np.float32(1))])
        divided, multiplied = x / absmax, x * (np.float32(1) / absmax)
        differs = nf4._nearest(SORTED, divided) != nf4._nearest(SORTED, multiplied)
        if differs.sum() >= 6:
            return np.resize(np.append(absmax, x[differs]), size)
    raise ValueError("no maximum makes enough difference")


def edges() -> np.ndarray:
    """Blocks of 16: the table, its midpoints, zeros of both signs, subnormal numbers, ties; the last has 13 values."""
    rng = np.random.default_rng(22)
    subnormal = rng.uniform(-1e-38, 1e-38, 16).astype(np.float32)
    subnormal[3] = 2e-38
    zeros = np.zeros(16, np.float32)
    zeros[::2] = -0.0
    tiny = rng.uniform(-0.006, 0.006, 16).astype(np.float32)  # around the smallest value, on both sides of 0
    tiny[0] = -1
    normal = rng.standard_normal(16).astype(np.float32)
    ties = _ties(rng, 16)
    return np.concatenate([TABLE, np.append(MIDPOINTS, 1), zeros, subnormal, tiny, normal, ties, ties[:13]]).astype(np.float32)


def by_bitsandbytes(x: np.ndarray, block: int) -> dict[str, np.ndarray]:
    tensor = torch.from_numpy(x.reshape(1, -1))
    codes, absmax = torch.ops.bitsandbytes.quantize_4bit(tensor, block, "fp4", torch.uint8)
    values = torch.ops.bitsandbytes.dequantize_4bit(codes, absmax, block, "fp4", tensor.shape, torch.float32)
    return {"codes": codes.numpy(), "absmax": absmax.numpy(), "dequant": values.numpy()}


def compare(name: str, x: np.ndarray, block: int) -> None:
    ours = parts(x, block, TABLE)
    for part, value in by_bitsandbytes(x, block).items():
        # Whether a zero has a sign depends on which of its kernels unpacks it: `+ 0.0` takes the sign off.
        a, b = (v.reshape(-1) + v.dtype.type(0) for v in (ours[part], value))
        assert a.tobytes() == b.tobytes(), f"{name}/{block}/{part}: {np.flatnonzero(a != b)[:8]}"
        print(f"equal  {name}/{block}/{part}: {a.size}")


def saved_by_bitsandbytes(rng: np.random.Generator) -> None:
    """Two blocks of which the last is short, an odd number of values."""
    weight = torch.from_numpy(rng.standard_normal((5, 15)).astype(np.float32))
    codes, state = bnb.quantize_4bit(weight, blocksize=64, quant_type="fp4")
    parts = {f"w.weight.{name}": part for name, part in state.as_dict(packed=True).items()}
    values = bnb.dequantize_4bit(codes, state)
    folder = GOLDENS / "bitsandbytes" / "fp4"
    folder.mkdir(exist_ok=True)
    save_tensors({"w.weight": codes, "values": values} | parts, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "llama"}\n')


def main() -> None:
    assert bnb.get_4bit_type("fp4", "cpu").numpy().tobytes() == TABLE.tobytes()
    rng = np.random.default_rng(23)
    normal = lambda n: (rng.standard_normal(n) * np.exp(rng.standard_normal(n))).astype(np.float32)
    halves = torch.from_numpy(normal(1 << 18)).bfloat16().float().numpy()  # more ties
    for name, x in {"normal": normal(1 << 20), "bf16": halves, "odd": normal(100_001)}.items():
        for block in (64, 128):
            compare(name, x, block)
    x = edges()
    compare("edges", x, 16)
    tensors = {"fp4_code": TABLE, "edges/input": x}
    tensors |= {f"edges/16/{part}": np.atleast_1d(np.asarray(value)) for part, value in parts(x, 16, TABLE).items()}
    save_file(tensors, OUT)
    saved_by_bitsandbytes(rng)
    print(f"{OUT.name}: {OUT.stat().st_size} bytes, {len(tensors)} tensors")


if __name__ == "__main__":
    main()
