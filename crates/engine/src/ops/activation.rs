//! The activations of an MLP, plain and gated, and their gradients.
//!
//! ```text
//! silu(x)      = x / (1 + exp(−x))
//! gelu(x)      = x · (1 + erf(x/√2)) / 2
//! gelu_tanh(x) = x · (1 + tanh(√(2/π) · (x + 0.044715·x³))) / 2
//! gated   y = f(gate) · up        dgate = dy · up · f'(gate)        dup = dy · f(gate)
//! plain   y = f(x)                dx = dy · f'(x)
//! ```
//! Shapes: all tensors of a call `[N, F]`. On the CPU x, gate, up and what is made of them have one type,
//! f32 or bf16; dy is f32.

use super::{read_all, same_len};
use crate::ctx::{Ctx, read, with_element, write};
use crate::error::Result;
use crate::spec::Activation;
use candle_core::Tensor;
use kernels::activation as kernel;

/// `f(gate) · up`.
pub fn gated_forward(ctx: &Ctx, f: Activation, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let len = same_len("gated_forward", [gate, up])?;
    if !ctx.is_cpu() {
        return reference::gated_forward(f, gate, up);
    }
    with_element!(gate.dtype(), |T| {
        let mut y = ctx.buffer::<T>(len);
        read_all([gate, up], |[gate, up]| {
            kernel::gated_forward::<T>(ctx.isa, f.into(), gate, up, &mut y);
        })?;
        ctx.tensor(y, gate.dims())
    })
}

/// `(dgate, dup)`. On the CPU they take the places of `gate` and `up`, whose clones have the gradients too
/// from then on.
pub fn gated_backward(
    ctx: &Ctx,
    f: Activation,
    dy: &Tensor,
    gate: Tensor,
    up: Tensor,
) -> Result<(Tensor, Tensor)> {
    same_len("gated_backward", [dy, &gate, &up])?;
    if !ctx.is_cpu() {
        return reference::gated_backward(f, dy, &gate, &up);
    }
    with_element!(gate.dtype(), |T| read::<f32, _>(dy, |dy| {
        write::<T, _>(&gate, |gate| {
            write(&up, |up| kernel::gated_backward(ctx.isa, f.into(), dy, gate, up))
        })
    }))???;
    Ok((gate, up))
}

/// `f(x)`.
pub fn plain_forward(ctx: &Ctx, f: Activation, x: &Tensor) -> Result<Tensor> {
    if !ctx.is_cpu() {
        return Ok(reference::value_and_slope(f, x)?.0);
    }
    with_element!(x.dtype(), |T| {
        let mut y = ctx.buffer::<T>(x.elem_count());
        read::<T, _>(x, |x| kernel::plain_forward(ctx.isa, f.into(), x, &mut y))?;
        ctx.tensor(y, x.dims())
    })
}

/// `dx`. On the CPU it takes the place of `x`, whose clones have the gradient too from then on.
pub fn plain_backward(ctx: &Ctx, f: Activation, dy: &Tensor, x: Tensor) -> Result<Tensor> {
    same_len("plain_backward", [dy, &x])?;
    if !ctx.is_cpu() {
        return Ok(dy.mul(&reference::value_and_slope(f, &x)?.1)?);
    }
    with_element!(x.dtype(), |T| read::<f32, _>(dy, |dy| {
        write::<T, _>(&x, |x| kernel::plain_backward(ctx.isa, f.into(), dy, x))
    }))??;
    Ok(x)
}

impl From<Activation> for kernel::Activation {
    fn from(f: Activation) -> Self {
        match f {
            Activation::Silu => kernel::Activation::Silu,
            Activation::Gelu => kernel::Activation::Gelu,
            Activation::GeluTanh => kernel::Activation::GeluTanh,
        }
    }
}

/// The same, composed of candle's operations.
pub mod reference {
    use super::{Activation, Result, Tensor};
    use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

    pub fn gated_forward(f: Activation, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        Ok(value_and_slope(f, gate)?.0.mul(up)?)
    }

    pub fn gated_backward(
        f: Activation,
        dy: &Tensor,
        gate: &Tensor,
        up: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let (value, slope) = value_and_slope(f, gate)?;
        Ok((dy.mul(up)?.mul(&slope)?, dy.mul(&value)?))
    }

    /// `f(x)` and `f'(x)`.
    pub fn value_and_slope(f: Activation, x: &Tensor) -> Result<(Tensor, Tensor)> {
        const SQRT_2_OVER_PI: f64 = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
        match f {
            Activation::Silu => {
                let s = (x.neg()?.exp()? + 1.0)?.recip()?;
                let slope = s.mul(&(x.mul(&s.affine(-1.0, 1.0)?)? + 1.0)?)?;
                Ok((x.mul(&s)?, slope))
            }
            Activation::Gelu => {
                let cumulative = (x * FRAC_1_SQRT_2)?.erf()?.affine(0.5, 0.5)?;
                let density = ((x.sqr()? * -0.5)?.exp()? * (SQRT_2_OVER_PI / 2.0))?;
                let slope = (&cumulative + x.mul(&density)?)?;
                Ok((x.mul(&cumulative)?, slope))
            }
            Activation::GeluTanh => {
                let square = x.sqr()?;
                let inner = (x.mul(&square.affine(0.044_715, 1.0)?)? * SQRT_2_OVER_PI)?;
                let t = inner.tanh()?;
                let half = t.affine(0.5, 0.5)?;
                let inner_slope =
                    square.affine(3.0 * 0.044_715 * SQRT_2_OVER_PI, SQRT_2_OVER_PI)?;
                let bend = (x.mul(&t.sqr()?.affine(-1.0, 1.0)?)?.mul(&inner_slope)? * 0.5)?;
                Ok((x.mul(&half)?, (half + bend)?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Precision;
    use crate::testing::{central_differences, distance, tensor, to_f64};

    #[test]
    fn fused_reference_and_central_differences_agree() -> Result<()> {
        let ctx = Ctx::cpu(Precision::F32);
        let (x, up, dy) = (tensor(1, &[7, 30]), tensor(2, &[7, 30]), tensor(3, &[7, 30]));
        let x = (x * 3.0)?; // Into the tails.
        let (x64, up64, dy64) = (to_f64(&x), to_f64(&up), to_f64(&dy));
        for f in [Activation::Silu, Activation::Gelu, Activation::GeluTanh] {
            let (value, slope) = reference::value_and_slope(f, &x64)?;
            let differences =
                central_differences(&x64, |x| Ok(reference::value_and_slope(f, x)?.0));
            assert!(distance(&slope, &differences) < 1e-8, "{f:?}");

            let (dgate64, dup64) = reference::gated_backward(f, &dy64, &x64, &up64)?;
            let (dgate, dup) = gated_backward(&ctx, f, &dy, x.copy()?, up.copy()?)?;
            let pairs = [
                (plain_forward(&ctx, f, &x)?, value),
                (plain_backward(&ctx, f, &dy, x.copy()?)?, dy64.mul(&slope)?),
                (gated_forward(&ctx, f, &x, &up)?, reference::gated_forward(f, &x64, &up64)?),
                (dgate, dgate64),
                (dup, dup64),
            ];
            for (i, (got, want)) in pairs.iter().enumerate() {
                assert!(distance(got, want) < 3e-7, "{f:?} {i}: {}", distance(got, want));
            }
        }
        Ok(())
    }

    /// Printed by PyTorch 2.15 in f64: silu, gelu, gelu(approximate="tanh").
    #[test]
    fn values_are_those_of_torch() -> Result<()> {
        let ctx = Ctx::cpu(Precision::F32);
        let x = Tensor::new(&[-3.0f32, -0.5, 0.1, 2.0], &ctx.device)?;
        for (f, want) in TORCH {
            for (got, want) in plain_forward(&ctx, f, &x)?.to_vec1::<f32>()?.iter().zip(want) {
                assert!((*got as f64 - want).abs() < 2e-7, "{f:?}: {got} for {want}");
            }
        }
        Ok(())
    }

    const TORCH: [(Activation, [f64; 4]); 3] = [
        (Activation::Silu, [-0.142277619533, -0.188770334399, 0.052497919567, 1.761594155956]),
        (Activation::Gelu, [-0.004049694095, -0.154268769363, 0.053982784591, 1.954499736104]),
        (Activation::GeluTanh, [-0.003637392082, -0.154285990175, 0.053982751909, 1.954597694088]),
    ];
}
