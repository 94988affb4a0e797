//! The activations of an MLP, plain and gated, and their gradients.
//!
//! ```text
//! silu(x)      = x / (1 + exp(−x))
//! gelu(x)      = x · (1 + erf(x/√2)) / 2
//! gelu_tanh(x) = x · (1 + tanh(√(2/π) · (x + 0.044715·x³))) / 2
//! gated   y = f(gate) · up        dgate = dy · up · f'(gate)        dup = dy · f(gate)
//! plain   y = f(x)                dx = dy · f'(x)
//! ```
//! Shapes: all of a function's slices have one length. In bf16 a value is widened when it is read and
//! rounded once when it is written.

use crate::Isa;
use crate::blocks::ELEMENTS;
use crate::simd::{erf, exp, shells, tanh};
use crate::value::Value;
use rayon::prelude::*;
use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    Silu,
    /// By erf.
    Gelu,
    GeluTanh,
}

/// `y = f(x)`.
pub fn plain_forward<T: Value>(isa: Isa, f: Activation, x: &[T], y: &mut [T]) {
    assert_eq!(x.len(), y.len(), "plain_forward: x and y differ in length");
    y.par_chunks_mut(ELEMENTS)
        .zip(x.par_chunks(ELEMENTS))
        .for_each(|(y, x)| plain_forward_block(isa, f, x, y));
}

/// `x` becomes `dx = dy · f'(x)`.
pub fn plain_backward<T: Value>(isa: Isa, f: Activation, dy: &[f32], x: &mut [T]) {
    assert_eq!(x.len(), dy.len(), "plain_backward: x and dy differ in length");
    x.par_chunks_mut(ELEMENTS)
        .zip(dy.par_chunks(ELEMENTS))
        .for_each(|(x, dy)| plain_backward_block(isa, f, dy, x));
}

/// `y = f(gate) · up`.
pub fn gated_forward<T: Value>(isa: Isa, f: Activation, gate: &[T], up: &[T], y: &mut [T]) {
    assert!(gate.len() == y.len() && up.len() == y.len(), "gated_forward: lengths differ");
    y.par_chunks_mut(ELEMENTS)
        .zip(gate.par_chunks(ELEMENTS).zip(up.par_chunks(ELEMENTS)))
        .for_each(|(y, (gate, up))| gated_forward_block(isa, f, gate, up, y));
}

/// `gate` becomes `dgate = dy · up · f'(gate)`, `up` becomes `dup = dy · f(gate)`.
pub fn gated_backward<T: Value>(isa: Isa, f: Activation, dy: &[f32], gate: &mut [T], up: &mut [T]) {
    assert!(gate.len() == dy.len() && up.len() == dy.len(), "gated_backward: lengths differ");
    let values = gate.par_chunks_mut(ELEMENTS).zip(up.par_chunks_mut(ELEMENTS));
    dy.par_chunks(ELEMENTS).zip(values).for_each(|(dy, (gate, up))| {
        gated_backward_block(isa, f, dy, gate, up);
    });
}

shells! {
    fn plain_forward_block<T: Value>(f: Activation, x: &[T], y: &mut [T]) = plain_forward_body;
    fn plain_backward_block<T: Value>(f: Activation, dy: &[f32], x: &mut [T]) = plain_backward_body;
    fn gated_forward_block<T: Value>(f: Activation, gate: &[T], up: &[T], y: &mut [T]) = gated_forward_body;
    fn gated_backward_block<T: Value>(f: Activation, dy: &[f32], gate: &mut [T], up: &mut [T]) = gated_backward_body;
}

/// One loop for each activation, `$f` standing for its function.
macro_rules! per_activation {
    ($activation:expr, $f:ident => $loop:expr) => {
        match $activation {
            Activation::Silu => {
                let $f = silu;
                $loop
            }
            Activation::Gelu => {
                let $f = gelu;
                $loop
            }
            Activation::GeluTanh => {
                let $f = gelu_tanh;
                $loop
            }
        }
    };
}

#[inline(always)]
fn plain_forward_body<T: Value>(f: Activation, x: &[T], y: &mut [T]) {
    per_activation!(f, f => {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = T::round(f(x.widen()).0);
        }
    });
}

#[inline(always)]
fn plain_backward_body<T: Value>(f: Activation, dy: &[f32], x: &mut [T]) {
    per_activation!(f, f => {
        for (x, &dy) in x.iter_mut().zip(dy) {
            *x = T::round(dy * f(x.widen()).1);
        }
    });
}

#[inline(always)]
fn gated_forward_body<T: Value>(f: Activation, gate: &[T], up: &[T], y: &mut [T]) {
    per_activation!(f, f => {
        for ((y, &gate), &up) in y.iter_mut().zip(gate).zip(up) {
            *y = T::round(f(gate.widen()).0 * up.widen());
        }
    });
}

#[inline(always)]
fn gated_backward_body<T: Value>(f: Activation, dy: &[f32], gate: &mut [T], up: &mut [T]) {
    per_activation!(f, f => {
        for ((gate, up), &dy) in gate.iter_mut().zip(up).zip(dy) {
            let (value, slope) = f(gate.widen());
            *gate = T::round(dy * up.widen() * slope);
            *up = T::round(dy * value);
        }
    });
}

/// `(silu(x), silu'(x))`. A caller that uses one of them pays for one of them.
#[inline(always)]
fn silu(x: f32) -> (f32, f32) {
    let s = 1.0 / (1.0 + exp(-x));
    (x * s, s * (1.0 + x * (1.0 - s)))
}

/// `(gelu(x), gelu'(x))` by erf.
#[inline(always)]
fn gelu(x: f32) -> (f32, f32) {
    const DENSITY_AT_0: f32 = FRAC_2_SQRT_PI * FRAC_1_SQRT_2 / 2.0; // 1/√(2π)
    let cumulative = 0.5 * (1.0 + erf(x * FRAC_1_SQRT_2));
    let density = DENSITY_AT_0 * exp(-0.5 * x * x);
    (x * cumulative, cumulative + x * density)
}

/// `(gelu_tanh(x), gelu_tanh'(x))`.
#[inline(always)]
fn gelu_tanh(x: f32) -> (f32, f32) {
    const SQRT_2_OVER_PI: f32 = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
    const CUBE: f32 = 0.044_715;
    let t = tanh(SQRT_2_OVER_PI * x * (1.0 + CUBE * x * x));
    let slope = SQRT_2_OVER_PI * (1.0 + 3.0 * CUBE * x * x);
    let half = 0.5 * (1.0 + t);
    (x * half, half + 0.5 * x * (1.0 - t * t) * slope)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{rounded, same_bits, values, widened};
    use half::bf16;

    /// y, dx and the gated y, dgate, dup of values in T.
    fn all<T: Value>(isa: Isa, f: Activation, (x, up): (&[T], &[T]), dy: &[f32]) -> Vec<T> {
        let [mut y, mut z] = [(); 2].map(|()| x.to_vec());
        let (mut dx, mut dgate, mut dup) = (x.to_vec(), x.to_vec(), up.to_vec());
        plain_forward(isa, f, x, &mut y);
        plain_backward(isa, f, dy, &mut dx);
        gated_forward(isa, f, x, up, &mut z);
        gated_backward(isa, f, dy, &mut dgate, &mut dup);
        [y, dx, z, dgate, dup].concat()
    }

    #[test]
    fn the_same_bits_on_every_set_and_in_bf16_rounded() {
        for f in [Activation::Silu, Activation::Gelu, Activation::GeluTanh] {
            for n in [0, 1, 31, 3 * ELEMENTS + 7] {
                let (x, up, dy) = (rounded(&values(1, n)), rounded(&values(2, n)), values(3, n));
                let (wide_x, wide_up) = (widened(&x), widened(&up));
                let want = same_bits(|isa| all(isa, f, (&wide_x, &wide_up), &dy));
                let got = same_bits(|isa| widened(&all(isa, f, (&x, &up), &dy)));
                assert_eq!(got, widened(&rounded(&want)), "{n} of {f:?}");
            }
        }
    }

    #[test]
    fn a_nan_in_bf16_stays_one() {
        let nan = [bf16::NAN; 40];
        for isa in Isa::available() {
            let (mut y, mut dgate, mut dup) = ([bf16::ZERO; 40], nan, nan);
            gated_forward(isa, Activation::Silu, &nan, &[bf16::ONE; 40], &mut y);
            gated_backward(isa, Activation::Silu, &[1.0; 40], &mut dgate, &mut dup);
            assert!(y.iter().chain(&dgate).chain(&dup).all(|x| x.is_nan()), "{}", isa.name());
        }
    }

    #[test]
    fn far_from_zero_they_are_the_identity_or_zero() {
        let x = [-1e4, -100.0, 100.0, 1e4];
        for f in [Activation::Silu, Activation::Gelu, Activation::GeluTanh] {
            let (mut y, mut dx) = ([1.0; 4], x);
            plain_forward(Isa::best(), f, &x, &mut y);
            plain_backward(Isa::best(), f, &[1.0; 4], &mut dx);
            assert!(y[..2].iter().chain(&dx[..2]).all(|y| y.abs() < 1e-30), "{f:?}: {y:?} {dx:?}");
            assert_eq!((&y[2..], &dx[2..]), (&x[2..], &[1.0, 1.0][..]), "{f:?}");
        }
    }
}
