"""Makes the project's own golden of optimizer trajectories: small, with a last block that is not full and blocks of zeros.

usage: python make_adamw.py        needs torch, bitsandbytes, numpy and safetensors; writes test/goldens/adamw.safetensors
`adamw32` is torch.optim.AdamW, `paged_adamw32bit` is bitsandbytes.optim.PagedAdamW32bit itself; `adamw8bit` is adamw.py, which
check_adamw.py compares with the results of another author. The layout is that of the other goldens' adamw.safetensors.
"""

from pathlib import Path

import bitsandbytes
import numpy as np
import torch
from safetensors.numpy import save_file

import adamw
import nf4

OUT = Path(__file__).resolve().parents[2] / "test" / "goldens" / "adamw.safetensors"
STEPS = 4


def _case(rng: np.random.Generator, n: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Start and gradients, of sizes that differ between and within blocks; the second block gets none in two steps."""
    start = (rng.standard_normal(n) * 0.05).astype(np.float32)
    grads = [(rng.standard_normal(n) * np.exp(3 * rng.standard_normal(n) - t)).astype(np.float32) for t in range(STEPS)]
    for grad in grads[:2]:
        grad[256:512] = 0
    return start, grads


def _library(kind, start: np.ndarray, grads: list[np.ndarray]):
    """The parameter after each step, and the state after the last."""
    p = torch.nn.Parameter(torch.from_numpy(start.copy()))
    options = dict(lr=adamw.LR, betas=(adamw.BETA1, adamw.BETA2), eps=adamw.EPS, weight_decay=adamw.DECAY)
    optimizer, after = kind([p], **options), []
    for grad in grads:
        p.grad = torch.from_numpy(grad.copy())
        optimizer.step()
        after.append(p.detach().numpy().copy())
    state = {name: value.numpy() for name, value in optimizer.state[p].items() if torch.is_tensor(value) and value.ndim}
    return after, state


def _eight_bits(start: np.ndarray, grads: list[np.ndarray]):
    p, state, after = start, adamw.zero_state(len(start)), []
    for t, grad in enumerate(grads):
        p, state = adamw.step8(p, state, grad, t + 1)
        after.append(p)
    names = ["state1", "absmax1", "state2", "absmax2"]
    tables = {"qmap1": nf4.dynamic_code(), "qmap2": adamw.unsigned_code()}
    return after, dict(zip(names, state)) | tables


def main() -> None:
    rng, tensors = np.random.default_rng(7), {}
    start, grads = _case(rng, 700)
    for kind, (after, state) in {
        "adamw32": _library(torch.optim.AdamW, start[:300], [grad[:300] for grad in grads]),
        "paged_adamw32bit": _library(bitsandbytes.optim.PagedAdamW32bit, start[:300], [grad[:300] for grad in grads]),
        "adamw8bit": _eight_bits(start, grads),
    }.items():
        n = len(after[0])
        tensors[f"{kind}/p0/start"] = start[:n]
        tensors |= {f"{kind}/p0/grad{t}": grad[:n] for t, grad in enumerate(grads)}
        tensors |= {f"{kind}/p0/after{t}": p for t, p in enumerate(after)}
        tensors |= {f"{kind}/p0/state/{name}": value for name, value in state.items()}
    versions = {"torch": torch.__version__, "bitsandbytes": bitsandbytes.__version__}
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, OUT, versions)
    print(f"{OUT.name}: {OUT.stat().st_size / 1024:.0f} KiB, {len(tensors)} tensors, {versions}")


if __name__ == "__main__":
    main()
