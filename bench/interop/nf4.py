"""Times bitsandbytes' NF4 codec on the CPU. Compares no values and writes no file.

usage: python nf4.py [--values N] [--threads N]

Prints one JSON object a line: `case` as crates/kernels/examples/nf4_bench.rs names it, `value` and its `unit`, the
best of several repetitions. Blocks of 64; quantises an eighth of the values. Unpacking returns a new tensor: only where
the C library keeps freed memory (MALLOC_MMAP_MAX_=0, MALLOC_TRIM_THRESHOLD_) is that not paid for by page faults.
"""

import argparse
import json
import time

import bitsandbytes.functional as bnb
import torch


def best_seconds(work, repetitions: int) -> float:
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--values", type=int, default=32 << 20)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    for name, dtype in [("f32", torch.float32), ("bf16", torch.bfloat16)]:
        x = torch.randn(args.values // 1024, 1024).to(dtype)
        for kind, nested in [("plain", False), ("nested", True)]:
            options = {"blocksize": 64, "quant_type": "nf4", "compress_statistics": nested}
            packed, state = bnb.quantize_4bit(x, **options)
            part = x[: len(x) // 8]
            quantise = part.numel() / best_seconds(lambda: bnb.quantize_4bit(part, **options), 3) * 1e-6
            unpack = x.nbytes / best_seconds(lambda: bnb.dequantize_4bit(packed, state), 8) * 1e-9
            print(json.dumps({"case": f"quantise {name}, {kind}", "value": quantise, "unit": "M values/s"}))
            print(json.dumps({"case": f"unpack to {name}, {kind}", "value": unpack, "unit": "GB/s"}))


if __name__ == "__main__":
    main()
