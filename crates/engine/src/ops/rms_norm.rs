//! RMS norm over the last axis, and its gradient (Zhang & Sennrich, 2019).
//!
//! ```text
//! r  = 1 / √(mean(x²) + eps)                  one per row
//! y  = ŵ · x · r                              ŵ = w + offset
//! dx = r · (ŵ·dy − x · r² · mean(ŵ·dy·x))
//! dw = Σ_rows dy · x · r
//! ```
//! Shapes: x, y, dy, dx any whose elements are rows of C, `[N, C]` or `[N, heads·C]` (a norm of each
//! head) · w, dw `[C]` · r `[rows]`.

use super::{norm_rows, read_all, same_len};
use crate::ctx::{Ctx, with_element, write};
use crate::error::Result;
use candle_core::{DType, Tensor};
pub use kernels::norm::WeightOffset;

/// What `backward` needs besides its inputs: one number per row.
pub struct Saved {
    pub rstd: Tensor,
}

/// Returns `y`, on the CPU in `dtype`, and what `backward` needs. `eps` is inside the root; sums are
/// made in f32.
pub fn forward(
    ctx: &Ctx,
    x: &Tensor,
    w: &Tensor,
    (eps, offset): (f32, WeightOffset),
    dtype: DType,
) -> Result<(Tensor, Saved)> {
    let rows = norm_rows("rms_norm", x, w)?;
    if !ctx.is_cpu() {
        return reference::forward(x, w, eps, offset);
    }
    let mut rstd = vec![0.0; rows];
    let y = with_element!(dtype, |T| {
        let mut y = ctx.buffer::<T>(x.elem_count());
        read_all([x, w], |[x, w]| {
            let norm = kernels::norm::RmsNorm { x, w, offset };
            kernels::norm::rms_norm_forward(ctx.isa, norm, eps, &mut y, &mut rstd);
        })?;
        ctx.tensor(y, x.dims())?
    });
    Ok((y, Saved { rstd: ctx.tensor(rstd, &[rows])? }))
}

/// Returns `dx`. Adds to `dw` when there is one; a frozen weight passes `None`.
pub fn backward(
    ctx: &Ctx,
    dy: &Tensor,
    x: &Tensor,
    w: &Tensor,
    saved: &Saved,
    offset: WeightOffset,
    dw: Option<&Tensor>,
) -> Result<Tensor> {
    norm_rows("rms_norm", x, w)?;
    same_len("rms_norm", [dy, x])?;
    if !ctx.is_cpu() {
        return reference::backward(dy, x, w, saved, offset, dw);
    }
    let mut dx = ctx.buffer(x.elem_count());
    let mut run = |dw: Option<&mut [f32]>| {
        read_all([dy, x, w, &saved.rstd], |[dy, x, w, rstd]| {
            let norm = kernels::norm::RmsNorm { x, w, offset };
            kernels::norm::rms_norm_backward(ctx.isa, dy, norm, rstd, &mut dx, dw);
        })
    };
    match dw {
        Some(dw) => write(dw, |dw| run(Some(dw)))??,
        None => run(None)?,
    }
    ctx.tensor(dx, x.dims())
}

/// The same, composed of candle's operations: the oracle of the tests, and the path of a device that
/// has no kernel of ours.
pub mod reference {
    use super::{Result, Saved, Tensor, WeightOffset};
    use candle_core::D;

    pub fn forward(
        x: &Tensor,
        w: &Tensor,
        eps: f32,
        offset: WeightOffset,
    ) -> Result<(Tensor, Saved)> {
        let rows = x.reshape(((), w.elem_count()))?;
        let r = (rows.sqr()?.mean_keepdim(D::Minus1)? + eps as f64)?.sqrt()?.recip()?;
        let w = (w + offset.value() as f64)?;
        let y = rows.broadcast_mul(&r)?.broadcast_mul(&w)?.reshape(x.shape())?;
        Ok((y, Saved { rstd: r.squeeze(1)? }))
    }

    pub fn backward(
        dy: &Tensor,
        x: &Tensor,
        w: &Tensor,
        saved: &Saved,
        offset: WeightOffset,
        dw: Option<&Tensor>,
    ) -> Result<Tensor> {
        let r = saved.rstd.unsqueeze(1)?;
        let rows = ((), w.elem_count());
        let dy = dy.reshape(rows)?;
        let x_hat = x.reshape(rows)?.broadcast_mul(&r)?;
        if let Some(dw) = dw {
            crate::ops::elementwise::reference::add_assign(dw, &dy.mul(&x_hat)?.sum(0)?)?;
        }
        let dx_hat = dy.broadcast_mul(&(w + offset.value() as f64)?)?;
        let mean = dx_hat.mul(&x_hat)?.mean_keepdim(D::Minus1)?;
        let dx = (dx_hat - x_hat.broadcast_mul(&mean)?)?.broadcast_mul(&r)?;
        Ok(dx.reshape(x.shape())?)
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
        for offset in [WeightOffset::Zero, WeightOffset::One] {
            for shape in [&[1, 8][..], &[5, 24], &[3, 2, 40]] {
                let (x, w, dy) = (tensor(1, shape), tensor(2, &[8]), tensor(3, shape));
                let (x64, w64, dy64) = (to_f64(&x), to_f64(&w), to_f64(&dy));
                let (y, saved) = forward(&ctx, &x, &w, (1e-6, offset), DType::F32)?;
                let (y64, saved64) = reference::forward(&x64, &w64, 1e-6, offset)?;
                assert!(distance(&y, &y64) < 3e-7, "y: {}", distance(&y, &y64));

                let (dw, dw64) = (ctx.zeros(&[8])?, to_f64(&ctx.zeros(&[8])?));
                let dx = backward(&ctx, &dy, &x, &w, &saved, offset, Some(&dw))?;
                let dx64 = reference::backward(&dy64, &x64, &w64, &saved64, offset, Some(&dw64))?;
                assert!(distance(&dx, &dx64) < 1e-6, "dx: {}", distance(&dx, &dx64));
                assert!(distance(&dw, &dw64) < 1e-6, "dw: {}", distance(&dw, &dw64));

                let loss = |x: &Tensor, w: &Tensor| {
                    Ok(reference::forward(x, w, 1e-6, offset)?.0.mul(&dy64)?)
                };
                let slope = central_differences(&x64, |x| loss(x, &w64));
                assert!(distance(&dx64, &slope) < 1e-8, "dx: {}", distance(&dx64, &slope));
                let slope = central_differences(&w64, |w| loss(&x64, w));
                assert!(distance(&dw64, &slope) < 1e-8, "dw: {}", distance(&dw64, &slope));
            }
        }
        Ok(())
    }

    #[test]
    fn a_gradient_is_added_to_and_a_frozen_weight_has_none() -> Result<()> {
        let ctx = Ctx::cpu(Precision::F32);
        let (x, w, dy) = (tensor(1, &[3, 8]), tensor(2, &[8]), tensor(3, &[3, 8]));
        let (_, saved) = forward(&ctx, &x, &w, (1e-6, WeightOffset::Zero), DType::F32)?;
        let dw = ctx.zeros(&[8])?;
        let trained = backward(&ctx, &dy, &x, &w, &saved, WeightOffset::Zero, Some(&dw))?;
        let once = dw.copy()?;
        backward(&ctx, &dy, &x, &w, &saved, WeightOffset::Zero, Some(&dw))?;
        assert_eq!(dw.to_vec1::<f32>()?, (once * 2.0)?.to_vec1::<f32>()?);
        let frozen = backward(&ctx, &dy, &x, &w, &saved, WeightOffset::Zero, None)?;
        assert_eq!(trained.to_vec2::<f32>()?, frozen.to_vec2::<f32>()?);
        Ok(())
    }

    #[test]
    fn rows_that_the_weight_does_not_divide_are_refused() {
        let ctx = Ctx::cpu(Precision::F32);
        let refused = forward(
            &ctx,
            &tensor(1, &[3, 8]),
            &tensor(2, &[7]),
            (1e-6, WeightOffset::Zero),
            DType::F32,
        );
        let message = refused.err().map(|error| error.to_string());
        assert_eq!(message.as_deref(), Some("rms_norm: x [3, 8] is not made of rows of 7"));
    }
}
