"""AdamW in NumPy, with f32 moments in the orders of torch and of bitsandbytes, and with moments in 8-bit codes.

The definition that the goldens' `adamw*` follow; check_adamw.py compares it with reference results of other authors.
bitsandbytes' CPU build is not used for the codes: its quantiser goes through a table of 65,536 steps instead of taking the
nearest. Never touches torch, files or models.

    g' = g;  p <- p * f32(1 - lr * wd)
    m <- b1 * m + (1 - b1) * g;  v <- b2 * v + (1 - b2) * g * g          the last addition fused with its product
    torch, 8 bits:   p <- p - (lr / (1 - b1^t)) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)
    32 bits:         p <- p - lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps * sqrt(1 - b2^t))
    codes: absmax = max|x| per 256;  code = nearest(table, x * (1 / absmax))
"""

import numpy as np

import nf4

F32 = np.float32
BLOCK = 256
LR, BETA1, BETA2, EPS, DECAY = 2e-3, 0.9, 0.999, 1e-8, 0.01


def unsigned_code() -> np.ndarray:
    """The 256 unsigned 8-bit dynamic values: a decimal exponent and a linear fraction (Dettmers, 2015)."""
    values = [F32(0), F32(1)]
    for exponent in range(7):
        edges = nf4._edges(2 ** (exponent + 1))
        values += list(F32(10.0 ** (exponent - 6)) * ((edges[:-1] + edges[1:]) / F32(2)))
    return np.sort(np.array(values, np.float32))


def quantize(x: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes [n] and absmax [ceil(n / 256)] of a flat f32 array."""
    blocks = nf4._blocks(x, BLOCK)
    absmax = np.abs(blocks).max(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = blocks * (F32(1) / absmax)[:, None]
    scaled[absmax == 0] = 0
    return nf4._nearest(table, scaled).reshape(-1)[: len(x)].astype(np.uint8), absmax


def dequantize(codes: np.ndarray, absmax: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The f32 values of the codes, flat."""
    return table[codes] * np.repeat(absmax, BLOCK)[: len(codes)]


def _fma(a, b, c) -> np.ndarray:
    """a * b + c: the product is exact in f64, the sum is rounded there and once more to f32."""
    return (np.asarray(a, np.float64) * np.asarray(b, np.float64) + np.asarray(c, np.float64)).astype(np.float32)


def _moments(m, v, g):
    g_scaled = F32(1 - BETA2) * g
    return _fma(F32(1 - BETA1), g, F32(BETA1) * m), _fma(g_scaled, g, F32(BETA2) * v)


def step32(p, m, v, g, t: int):
    """bitsandbytes' 32-bit order; returns p, m, v."""
    m, v = _moments(m, v, g)
    root = np.sqrt(1 - BETA2**t)
    change = m / (np.sqrt(v) + F32(EPS * root))
    return _fma(F32(-LR * root / (1 - BETA1**t)), change, p * F32(1 - LR * DECAY)), m, v


def step8(p, state, g, t: int):
    """8-bit codes; `state` is (codes1, absmax1, codes2, absmax2). Returns p and the new state."""
    codes1, absmax1, codes2, absmax2 = state
    m = dequantize(codes1, absmax1, nf4.dynamic_code())
    v = dequantize(codes2, absmax2, unsigned_code())
    m, v = _moments(m, v, g)
    root = np.sqrt(v) / F32(np.sqrt(1 - BETA2**t)) + F32(EPS)
    p = p * F32(1 - LR * DECAY) - F32(LR / (1 - BETA1**t)) * m / root
    return p, (*quantize(m, nf4.dynamic_code()), *quantize(v, unsigned_code()))


def zero_state(n: int):
    blocks = -(-n // BLOCK)
    return (np.zeros(n, np.uint8), np.zeros(blocks, np.float32)) * 2
