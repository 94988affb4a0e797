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
use crate::ctx::{Ctx, write};
use crate::error::Result;
use candle_core::Tensor;
pub use kernels::norm::WeightOffset;

/// What `backward` needs besides its inputs: one number per row.
pub struct Saved {
    pub rstd: Tensor,
}

/// Returns `y` and what `backward` needs. `eps` is inside the root; sums are made in f32.
pub fn forward(
    ctx: &Ctx,
    x: &Tensor,
    w: &Tensor,
    eps: f32,
    offset: WeightOffset,
) -> Result<(Tensor, Saved)> {
    let rows = norm_rows("rms_norm", x, w)?;
    if !ctx.is_cpu() {
        return reference::forward(x, w, eps, offset);
    }
    let mut y = vec![0.0; x.elem_count()];
    let mut rstd = vec![0.0; rows];
    read_all([x, w], |[x, w]| {
        let norm = kernels::norm::RmsNorm { x, w, offset };
        kernels::norm::rms_norm_forward(ctx.isa, norm, eps, &mut y, &mut rstd);
    })?;
    Ok((ctx.tensor(y, x.dims())?, Saved { rstd: ctx.tensor(rstd, &[rows])? }))
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
    let mut dx = vec![0.0; x.elem_count()];
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
