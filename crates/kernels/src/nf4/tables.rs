//! The values that NF4's codes and the 8-bit dynamic codes stand for, and the borders between them.

/// The 4-bit values: quantiles of a normal distribution, scaled to ±1, with an exact zero.
/// Source: QLoRA (Dettmers et al., 2023), appendix E.
pub const CODE: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];
/// The code of 0.
pub(super) const ZERO: u8 = 7;

/// The 8-bit values: a sign, a decimal exponent and a linear fraction, with 0 and 1.
/// Source: 8-bit approximations for parallelism in deep learning (Dettmers, 2015).
pub const DYNAMIC_CODE: [f32; 256] = dynamic_code();
/// The 8-bit code of 0.
pub(super) const DYNAMIC_ZERO: u8 = 127;

/// A value's code is the number of midpoints strictly below it: the nearest, of two the lower.
pub(super) const MIDPOINTS: [f32; 15] = midpoints(&CODE);
pub(super) const DYNAMIC_MIDPOINTS: [f32; 255] = midpoints(&DYNAMIC_CODE);

const fn midpoints<const N: usize, const M: usize>(table: &[f32; N]) -> [f32; M] {
    let mut middle = [0.0; M];
    let mut i = 0;
    while i < M {
        middle[i] = (table[i] + table[i + 1]) / 2.0;
        i += 1;
    }
    middle
}

const fn dynamic_code() -> [f32; 256] {
    const POWERS: [f32; 7] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];
    let mut code = [0.0; 256];
    let (mut exponent, mut magnitude) = (0, 1);
    while exponent < POWERS.len() {
        let steps = 1 << exponent;
        let mut i = 0;
        while i < steps {
            let middle = (edge(i, steps) + edge(i + 1, steps)) / 2.0;
            let value = POWERS[exponent] * middle;
            code[DYNAMIC_ZERO as usize + magnitude] = value;
            code[DYNAMIC_ZERO as usize - magnitude] = -value;
            magnitude += 1;
            i += 1;
        }
        exponent += 1;
    }
    code[255] = 1.0;
    code
}

/// Edge `i` of `n` even steps from 0.1 to 1, as `torch.linspace` rounds it: the step in f32, then a
/// fused multiply-add (exact in f64, rounded once), the upper half counted from 1.
const fn edge(i: usize, n: usize) -> f32 {
    let step = ((1.0f32 - 0.1f32) / n as f32) as f64;
    if i < n.div_ceil(2) {
        (0.1f32 as f64 + step * i as f64) as f32
    } else {
        (1.0 - step * (n - i) as f64) as f32
    }
}
