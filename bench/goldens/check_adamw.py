"""Compares adamw.py with optimizer trajectories that were made elsewhere.

usage: python check_adamw.py FILE  needs numpy and safetensors; exit 1 where codes or tables differ, an absmax is more than an ulp
                                   off, or a parameter more than 1e-7
"""

import sys

import numpy as np
from safetensors.numpy import load_file

import adamw
import nf4


def trajectory(want: dict, case: str) -> dict[str, float]:
    """Deviations of one case, by part."""
    start = want[f"{case}/start"].reshape(-1)
    count = sum(key.startswith(f"{case}/grad") for key in want)
    eight = f"{case}/state/absmax1" in want
    p, zeros = start, np.zeros_like(start)
    state, worst = adamw.zero_state(len(start)) if eight else (zeros, zeros), 0.0
    for t in range(count):
        g = want[f"{case}/grad{t}"].reshape(-1)
        if eight:
            p, state = adamw.step8(p, state, g, t + 1)
        else:
            p, *state = adamw.step32(p, *state, g, t + 1)
        worst = max(worst, float(np.abs(p - want[f"{case}/after{t}"].reshape(-1)).max()))
    found = {"parameters": worst}
    if not eight:
        return found
    at = lambda name: want[f"{case}/state/{name}"].reshape(-1)
    for name, got in {"state1": state[0], "state2": state[2]}.items():
        found[name] = float((got != at(name)).sum())
    for name, got in {"absmax1": state[1], "absmax2": state[3]}.items():
        found[name] = float((np.abs(got - at(name)) / np.spacing(np.maximum(at(name), np.float32(1e-38)))).max())
    found["qmap1"] = float((nf4.dynamic_code() != at("qmap1")).sum())
    found["qmap2"] = float((adamw.unsigned_code() != at("qmap2")).sum())
    return found


def main(path: str) -> int:
    bounds = {"parameters": 1e-7, "absmax1": 1.0, "absmax2": 1.0}
    want, passes = load_file(path), True
    cases = sorted({key.rsplit("/start", 1)[0] for key in want if key.endswith("/start")})
    for case in (case for case in cases if not case.startswith("adamw32/")):
        for part, deviation in trajectory(want, case).items():
            passes &= deviation <= bounds.get(part, 0.0)
            print(f"{case} {part}: {deviation:.2g}")
    return 0 if passes else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
