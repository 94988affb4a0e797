"""Makes the project's own NF4 golden: small, with block sizes and ends that no other golden has.

usage: python make_nf4.py          needs numpy and safetensors; writes test/goldens/nf4.safetensors
The layout is that of check_nf4.py, which compares nf4.py with the results of another author.
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import nf4
from check_nf4 import parts

OUT = Path(__file__).resolve().parents[2] / "test" / "goldens" / "nf4.safetensors"


def _ties(rng: np.random.Generator) -> np.ndarray:
    """A full block of 64 and one of 63 whose codes depend on how they are scaled: x / absmax, or x * (1 / absmax)."""
    midpoints = (nf4.NF4_CODE[:-1] + nf4.NF4_CODE[1:]) / np.float32(2)
    for absmax in rng.uniform(0.5, 1, 1000).astype(np.float32):
        near = midpoints * absmax
        x = np.concatenate([np.nextafter(near, np.float32(-1)), near, np.nextafter(near, np.float32(1))])
        divided, multiplied = x / absmax, x * (np.float32(1) / absmax)
        differs = nf4._nearest(nf4.NF4_CODE, divided) != nf4._nearest(nf4.NF4_CODE, multiplied)
        if differs.sum() >= 6:
            block = np.resize(np.append(absmax, x[differs]), 64)
            return np.concatenate([block, block[:63]])
    raise ValueError("no maximum makes enough difference")


def cases() -> dict[str, tuple[np.ndarray, list[int]]]:
    """Values and the block sizes that they are quantised with."""
    rng = np.random.default_rng(21)
    normal = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    edges = normal(257) * np.float32(0.02)
    edges[:16] = nf4.NF4_CODE  # every value of the table, in a block whose maximum is 1
    edges[64:79] = (nf4.NF4_CODE[:-1] + nf4.NF4_CODE[1:]) / np.float32(2)  # every midpoint, with a 1 beside them
    edges[79] = 1
    edges[128:192] = 0  # a block of zeros between others
    edges[192:256] = -np.float32(1e-30)  # one value, tiny
    return {
        # 271 blocks of 16 make two nested blocks, the second not full; an odd number of values. With this seed the mean of
        # the maxima comes out otherwise when it is summed in f32.
        "nested-61x71": (normal(61, 71) * np.exp(normal(61, 1)), [16]),
        "odd-7x13": (normal(7, 13), [32, 256]),
        "one-1x1": (np.array([[-0.3]], np.float32), [64]),
        "edges-257": (edges, [64]),
        "ties-127": (_ties(rng), [64]),
    }


def main() -> None:
    tensors = {"nf4_code": nf4.NF4_CODE, "dynamic_code": nf4.dynamic_code()}
    for name, (x, blocks) in cases().items():
        tensors[f"{name}/input"] = x
        for block in blocks:
            for part, value in parts(x.reshape(-1), block).items():
                tensors[f"{name}/{block}/{part}"] = np.atleast_1d(np.asarray(value))
    save_file(tensors, OUT)
    print(f"{OUT.name}: {OUT.stat().st_size / 1024:.0f} KiB, {len(tensors)} tensors")


if __name__ == "__main__":
    main()
