//! Sums, scales, norms and checks of whole tensors, in place where they write.
//!
//! Shapes: any; two tensors of a call have one length.

use super::{read_all, same_len};
use crate::ctx::{Ctx, write};
use crate::error::Result;
use candle_core::{DType, Tensor};
use kernels::elementwise as kernel;

/// `y += x`.
pub fn add_assign(ctx: &Ctx, y: &Tensor, x: &Tensor) -> Result<()> {
    same_len("add_assign", [y, x])?;
    if !ctx.is_cpu() {
        return reference::add_assign(y, x);
    }
    write(y, |y| read_all([x], |[x]| kernel::add_assign(ctx.isa, y, x)))?
}

/// `x` rounded to bf16, whose memory it gives back, where `dtype` is that; else `x` itself.
pub fn rounded(ctx: &Ctx, x: Tensor, dtype: DType) -> Result<Tensor> {
    if dtype != DType::BF16 || !ctx.is_cpu() {
        return Ok(x);
    }
    let mut y = ctx.buffer(x.elem_count());
    read_all([&x], |[x]| kernel::f32_to_bf16(ctx.isa, x, &mut y))?;
    let y = ctx.tensor(y, x.dims())?;
    ctx.recycle([x]);
    Ok(y)
}

/// `y = a·y`.
pub fn scale(ctx: &Ctx, y: &Tensor, a: f32) -> Result<()> {
    if !ctx.is_cpu() {
        return reference::scale(y, a);
    }
    write(y, |y| kernel::scale(ctx.isa, y, a))
}

/// `Σ x²`, summed in f64.
pub fn sum_sq(ctx: &Ctx, x: &Tensor) -> Result<f64> {
    if !ctx.is_cpu() {
        return reference::sum_sq(x);
    }
    read_all([x], |[x]| kernel::sum_sq(ctx.isa, x))
}

/// Where the first NaN or infinity is, in row-major order.
pub fn first_non_finite(ctx: &Ctx, x: &Tensor) -> Result<Option<usize>> {
    if !ctx.is_cpu() {
        return reference::first_non_finite(x);
    }
    read_all([x], |[x]| kernel::first_non_finite(ctx.isa, x))
}

/// The same, composed of candle's operations.
pub mod reference {
    use super::{Result, Tensor};
    use candle_core::DType;

    pub fn add_assign(y: &Tensor, x: &Tensor) -> Result<()> {
        assign(y, &(y + x.reshape(y.shape())?)?)
    }

    pub fn scale(y: &Tensor, a: f32) -> Result<()> {
        assign(y, &(y * a as f64)?)
    }

    /// `y = x`, in place.
    pub fn assign(y: &Tensor, x: &Tensor) -> Result<()> {
        Ok(y.slice_set(&x.contiguous()?, 0, 0)?)
    }

    pub fn sum_sq(x: &Tensor) -> Result<f64> {
        Ok(x.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar()?)
    }

    pub fn first_non_finite(x: &Tensor) -> Result<Option<usize>> {
        let values = x.flatten_all()?.to_vec1::<f32>()?;
        Ok(values.iter().position(|x| !x.is_finite()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Precision;
    use crate::testing::tensor;

    #[test]
    fn fused_and_reference_agree_and_write_in_place() -> Result<()> {
        let ctx = Ctx::cpu(Precision::F32);
        let (x, y, z) = (tensor(1, &[50, 7]), tensor(2, &[50, 7]), tensor(2, &[50, 7]));
        add_assign(&ctx, &y, &x)?;
        scale(&ctx, &y, 0.3)?;
        reference::add_assign(&z, &x)?;
        reference::scale(&z, 0.3)?;
        assert_eq!(y.to_vec2::<f32>()?, z.to_vec2::<f32>()?);
        let (fused, composed) = (sum_sq(&ctx, &y)?, reference::sum_sq(&y)?);
        assert!((fused - composed).abs() < 1e-12 * composed);
        assert_eq!(first_non_finite(&ctx, &y)?, None);
        let broken = Tensor::new(&[[1.0f32, 2.0], [f32::NAN, f32::INFINITY]], &ctx.device)?;
        assert_eq!(first_non_finite(&ctx, &broken)?, Some(2));
        assert_eq!(reference::first_non_finite(&broken)?, Some(2));
        assert!(add_assign(&ctx, &y, &tensor(1, &[3])).is_err());
        Ok(())
    }
}
