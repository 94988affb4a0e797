"""Times one product `x @ w.T` of PyTorch at a time, as a line of stdin asks for it. Compares no values.

usage: python gemm.py --threads N

A line is `NAME ROWS OUTPUTS INPUTS SECONDS`, NAME `torch-f32` or `torch-bf16` (16-bit inputs and outputs). Its answer
is a line of JSON: the best and the median of the repetitions that fit SECONDS, and of one at least, as
crates/engine/examples/products.rs answers for ours and candle's. The output is written into the same tensor each time.
"""

import argparse
import json
import sys
import time

import torch

DTYPES = {"torch-f32": torch.float32, "torch-bf16": torch.bfloat16}
REPETITIONS_MIN = 1


def repeated(seconds: float, work) -> list[float]:
    start, times = time.perf_counter(), []
    while len(times) < REPETITIONS_MIN or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        work()
        times.append(time.perf_counter() - before)
    return sorted(times)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, required=True)
    torch.set_num_threads(parser.parse_args().threads)
    for line in sys.stdin:
        name, rows, outputs, inputs, seconds = line.split()
        rows, outputs, inputs = int(rows), int(outputs), int(inputs)
        x = torch.rand(rows, inputs).to(DTYPES[name]) - 0.5
        w = torch.rand(outputs, inputs).to(DTYPES[name]) - 0.5
        y = torch.empty(rows, outputs, dtype=DTYPES[name])
        times = repeated(float(seconds), lambda: torch.mm(x, w.T, out=y))
        print(json.dumps({"best_s": times[0], "median_s": times[len(times) // 2]}), flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
