"""Compares nf4.py with a file of NF4 reference results, bit for bit.

usage: python check_nf4.py NF4.safetensors      (per CASE/BS: codes, absmax, dequant, dq/*; and the two tables)
Prints one line per case; exit status 1 where one bit differs.
"""

import sys

import numpy as np
from safetensors.numpy import load_file

import nf4


def pack(codes: np.ndarray, table: np.ndarray = nf4.NF4_CODE) -> np.ndarray:
    """Two codes per byte, the first in the high nibble; a missing last one is the (first) code of 0: 7 in NF4."""
    padded = np.append(codes, np.uint8(np.flatnonzero(table == 0)[0])) if len(codes) % 2 else codes
    return padded[0::2] << 4 | padded[1::2]


def parts(x: np.ndarray, block: int, table: np.ndarray = nf4.NF4_CODE) -> dict[str, np.ndarray]:
    codes, absmax = nf4.quantize(x, block, table)
    q, absmax2, offset = nf4.quantize_absmax(absmax)
    return {
        "codes": pack(codes, table),
        "absmax": absmax,
        "dequant": nf4.dequantize(codes, absmax, block, table),
        "dq/absmax": q,
        "dq/absmax2": absmax2,
        "dq/offset": offset,
        "dq/dequant": nf4.dequantize(codes, nf4.dequantize_absmax(q, absmax2, offset), block, table),
    }


def main(path: str) -> int:
    want = load_file(path)
    results = {
        "nf4_code": bool((want["nf4_code"] == nf4.NF4_CODE).all()),
        "dynamic_code": bool((want["dynamic_code"] == nf4.dynamic_code()).all()),
    }
    for key in sorted(k for k in want if k.endswith("/codes")):
        case, block = key.split("/")[:2]
        for name, got in parts(want[f"{case}/input"].reshape(-1), int(block)).items():
            expected = want[f"{case}/{block}/{name}"].reshape(-1)
            results[f"{case}/{block}/{name}"] = expected.tobytes() == np.asarray(got).reshape(-1).tobytes()
    for name, equal in results.items():
        print("equal  " if equal else "DIFFERS", name)
    print(f"{sum(results.values())} of {len(results)} equal")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
