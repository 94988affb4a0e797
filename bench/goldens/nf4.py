"""NF4 and FP4 with double quantisation, in NumPy: what the goldens' 4-bit parts are computed with.

The definition, which every line below follows: blocks of the flattened row-major tensor; codes by f32 midpoints;
block maxima, less their mean, in 8-bit dynamic codes; unpacking without a fused multiply-add.
bitsandbytes' CPU build is not used because its AVX-512 unpacking is wrong where a row is no multiple of the block.
Never touches torch, files or models.

    absmax = max|x|            per block of 64
    code   = order[#{midpoints of the table in ascending order < x / absmax}]
    offset = mean(absmax);  z = absmax - offset;  absmax2 = max|z| per 256;  q = nearest(dynamic table, z / absmax2)
    x'     = table[code] * (dynamic[q] * absmax2 + offset)
"""

import numpy as np

# QLoRA (Dettmers et al., 2023), appendix E: quantiles of a normal distribution, scaled to +-1, with an exact zero.
NF4_CODE = np.array(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
        -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ],
    np.float32,
)
# bitsandbytes' get_4bit_type: a sign, two bits of exponent in an order of its own, one of fraction. Both zeros are +0.
FP4_CODE = np.array([0, 0.0625, 8, 12, 4, 6, 2, 3, 0, -0.0625, -8, -12, -4, -6, -2, -3], np.float32) / np.float32(12)
F32 = np.float32


def _edges(n: int) -> np.ndarray:
    """n + 1 even steps from 0.1 to 1, as torch.linspace rounds them: f32 step, fused multiply-add, upper half from 1."""
    step, i = np.float64((F32(1) - F32(0.1)) / F32(n)), np.arange(n + 1)
    return np.where(i < (n + 1) // 2, np.float64(F32(0.1)) + step * i, 1 - step * (n - i)).astype(np.float32)


def dynamic_code() -> np.ndarray:
    """The 256 signed 8-bit dynamic values: a sign, a decimal exponent and a linear fraction (Dettmers, 2015)."""
    values = [0.0, 1.0]
    for exponent in range(7):
        edges = _edges(2**exponent)
        means = (edges[:-1] + edges[1:]) / F32(2)
        scaled = F32(10.0 ** (exponent - 6)) * means
        values += [*scaled, *(-scaled)]
    return np.sort(np.array(values, np.float32))


def _nearest(table: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Index of the nearest entry, ties to the lower: the number of f32 midpoints strictly below x."""
    midpoints = (table[:-1] + table[1:]) / F32(2)
    return np.searchsorted(midpoints, x, side="left")


def _blocks(x: np.ndarray, size: int) -> np.ndarray:
    """[n] -> [ceil(n / size), size], zeros behind the end: they change neither a maximum nor a code in front of them."""
    return np.pad(x, (0, -len(x) % size)).reshape(-1, size)


def quantize(x: np.ndarray, block: int, table: np.ndarray = NF4_CODE) -> tuple[np.ndarray, np.ndarray]:
    """Codes 0-15 [n] and absmax [ceil(n / block)] of a flat f32 array."""
    blocks = _blocks(x, block)
    absmax = np.abs(blocks).max(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = blocks * (F32(1) / absmax)[:, None]
        if len(x) % block:
            scaled[-1] = blocks[-1] / absmax[-1]
    scaled[absmax == 0] = 0
    order = np.argsort(table, kind="stable")  # of equal values the lower code first
    codes = order[_nearest(table[order], np.clip(scaled, F32(-1), F32(1)))]
    return codes.reshape(-1)[: len(x)].astype(np.uint8), absmax


def quantize_absmax(absmax: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.float32]:
    """8-bit codes, absmax2 (per 256) and offset of the block maxima."""
    offset = F32(absmax.astype(np.float64).sum() / len(absmax))
    blocks = _blocks(absmax - offset, 256)
    absmax2 = np.abs(blocks).max(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = blocks * (F32(1) / absmax2)[:, None]
    scaled[absmax2 == 0] = 0
    return _nearest(dynamic_code(), scaled).reshape(-1)[: len(absmax)].astype(np.uint8), absmax2, offset


def dequantize_absmax(codes: np.ndarray, absmax2: np.ndarray, offset: np.float32) -> np.ndarray:
    """The block maxima as unpacking sees them: product rounded, then sum rounded."""
    return dynamic_code()[codes] * np.repeat(absmax2, 256)[: len(codes)] + offset


def dequantize(codes: np.ndarray, absmax: np.ndarray, block: int, table: np.ndarray = NF4_CODE) -> np.ndarray:
    """The f32 values of the codes, flat."""
    return table[codes] * np.repeat(absmax, block)[: len(codes)]


def round_trip(weight: np.ndarray, block: int = 64) -> np.ndarray:
    """What a weight becomes when it is stored as NF4 with double quantisation; f32, of the same shape."""
    codes, absmax = quantize(weight.reshape(-1), block)
    return dequantize(codes, dequantize_absmax(*quantize_absmax(absmax)), block).reshape(weight.shape)
