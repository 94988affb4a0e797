//! Layer norm over the last axis, and its gradient (Ba, Kiros & Hinton, 2016).
//!
//! ```text
//! r  = 1 / √(mean((x − μ)²) + eps)            one per row
//! x̂  = (x − μ) · r
//! y  = w · x̂ + b
//! dx = r · (w·dy − mean(w·dy) − x̂ · mean(w·dy·x̂))
//! dw = Σ_rows dy · x̂                          db = Σ_rows dy
//! ```
//! Shapes: x, y, dy, dx `[N, C]` · w, b, dw, db `[C]` · mean, rstd `[N]`.

use super::{norm_rows, read_all, same_len};
use crate::ctx::{Ctx, write};
use crate::error::Result;
use candle_core::Tensor;
use kernels::norm;

/// What `backward` needs besides its inputs: two numbers per row.
pub struct Saved {
    pub mean: Tensor,
    pub rstd: Tensor,
}

/// Returns `y` and what `backward` needs. `eps` is inside the root; sums are made in f32.
pub fn forward(
    ctx: &Ctx,
    x: &Tensor,
    w: &Tensor,
    b: Option<&Tensor>,
    eps: f32,
) -> Result<(Tensor, Saved)> {
    let rows = norm_rows("layer_norm", x, w)?;
    if let Some(b) = b {
        same_len("layer_norm", [w, b])?;
    }
    if !ctx.is_cpu() {
        return reference::forward(x, w, b, eps);
    }
    let mut y = vec![0.0; x.elem_count()];
    let (mut mean, mut rstd) = (vec![0.0; rows], vec![0.0; rows]);
    let mut run = |x: &[f32], w: &[f32], b: Option<&[f32]>| {
        let stats = (&mut mean[..], &mut rstd[..]);
        norm::layer_norm_forward(ctx.isa, norm::LayerNorm { x, w }, b, eps, &mut y, stats);
    };
    match b {
        Some(b) => read_all([x, w, b], |[x, w, b]| run(x, w, Some(b)))?,
        None => read_all([x, w], |[x, w]| run(x, w, None))?,
    }
    let saved = Saved { mean: ctx.tensor(mean, &[rows])?, rstd: ctx.tensor(rstd, &[rows])? };
    Ok((ctx.tensor(y, x.dims())?, saved))
}

/// Returns `dx`. Adds to `dw` and `db` where there are some; frozen ones pass `None`.
pub fn backward(
    ctx: &Ctx,
    dy: &Tensor,
    x: &Tensor,
    w: &Tensor,
    saved: &Saved,
    dw: Option<&Tensor>,
    db: Option<&Tensor>,
) -> Result<Tensor> {
    norm_rows("layer_norm", x, w)?;
    same_len("layer_norm", [dy, x])?;
    if !ctx.is_cpu() {
        return reference::backward(dy, x, w, saved, dw, db);
    }
    let mut dx = vec![0.0; x.elem_count()];
    let mut run = |dw: Option<&mut [f32]>, db: Option<&mut [f32]>| {
        read_all([dy, x, w, &saved.mean, &saved.rstd], |[dy, x, w, mean, rstd]| {
            let stats = norm::LayerNormStats { mean, rstd };
            let inputs = norm::LayerNorm { x, w };
            norm::layer_norm_backward(ctx.isa, dy, inputs, stats, &mut dx, (dw, db));
        })
    };
    match (dw, db) {
        (Some(dw), Some(db)) => write(dw, |dw| write(db, |db| run(Some(dw), Some(db))))???,
        (Some(dw), None) => write(dw, |dw| run(Some(dw), None))??,
        (None, Some(db)) => write(db, |db| run(None, Some(db)))??,
        (None, None) => run(None, None)?,
    }
    ctx.tensor(dx, x.dims())
}

/// The same, composed of candle's operations.
pub mod reference {
    use super::{Result, Saved, Tensor};
    use crate::ops::elementwise::reference::add_assign;
    use candle_core::D;

    pub fn forward(
        x: &Tensor,
        w: &Tensor,
        b: Option<&Tensor>,
        eps: f32,
    ) -> Result<(Tensor, Saved)> {
        let rows = x.reshape(((), w.elem_count()))?;
        let mean = rows.mean_keepdim(D::Minus1)?;
        let centred = rows.broadcast_sub(&mean)?;
        let r = (centred.sqr()?.mean_keepdim(D::Minus1)? + eps as f64)?.sqrt()?.recip()?;
        let mut y = centred.broadcast_mul(&r)?.broadcast_mul(w)?;
        if let Some(b) = b {
            y = y.broadcast_add(b)?;
        }
        Ok((y.reshape(x.shape())?, Saved { mean: mean.squeeze(1)?, rstd: r.squeeze(1)? }))
    }

    pub fn backward(
        dy: &Tensor,
        x: &Tensor,
        w: &Tensor,
        saved: &Saved,
        dw: Option<&Tensor>,
        db: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (mean, r) = (saved.mean.unsqueeze(1)?, saved.rstd.unsqueeze(1)?);
        let rows = ((), w.elem_count());
        let dy = dy.reshape(rows)?;
        let x_hat = x.reshape(rows)?.broadcast_sub(&mean)?.broadcast_mul(&r)?;
        if let Some(dw) = dw {
            add_assign(dw, &dy.mul(&x_hat)?.sum(0)?)?;
        }
        if let Some(db) = db {
            add_assign(db, &dy.sum(0)?)?;
        }
        let dx_hat = dy.broadcast_mul(w)?;
        let mean = dx_hat.mean_keepdim(D::Minus1)?;
        let pull = dx_hat.mul(&x_hat)?.mean_keepdim(D::Minus1)?;
        let dx = (dx_hat.broadcast_sub(&mean)? - x_hat.broadcast_mul(&pull)?)?;
        Ok(dx.broadcast_mul(&r)?.reshape(x.shape())?)
    }
}
