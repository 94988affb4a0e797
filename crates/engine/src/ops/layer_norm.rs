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
use crate::ctx::{Ctx, with_element, write};
use crate::error::Result;
use candle_core::{DType, Tensor};
use kernels::norm;

/// What `backward` needs besides its inputs: two numbers per row.
pub struct Saved {
    pub mean: Tensor,
    pub rstd: Tensor,
}

/// Returns `y`, on the CPU in `dtype`, and what `backward` needs. `eps` is inside the root; sums are
/// made in f32.
pub fn forward(
    ctx: &Ctx,
    x: &Tensor,
    (w, b): (&Tensor, Option<&Tensor>),
    eps: f32,
    dtype: DType,
) -> Result<(Tensor, Saved)> {
    let rows = norm_rows("layer_norm", x, w)?;
    if let Some(b) = b {
        same_len("layer_norm", [w, b])?;
    }
    if !ctx.is_cpu() {
        return reference::forward(x, w, b, eps);
    }
    let (mut mean, mut rstd) = (vec![0.0; rows], vec![0.0; rows]);
    let y = with_element!(dtype, |T| {
        let mut y = ctx.buffer::<T>(x.elem_count());
        let mut run = |x: &[f32], w: &[f32], b: Option<&[f32]>| {
            let stats = (&mut mean[..], &mut rstd[..]);
            norm::layer_norm_forward(ctx.isa, norm::LayerNorm { x, w }, b, eps, &mut y, stats);
        };
        match b {
            Some(b) => read_all([x, w, b], |[x, w, b]| run(x, w, Some(b)))?,
            None => read_all([x, w], |[x, w]| run(x, w, None))?,
        }
        ctx.tensor(y, x.dims())?
    });
    let saved = Saved { mean: ctx.tensor(mean, &[rows])?, rstd: ctx.tensor(rstd, &[rows])? };
    Ok((y, saved))
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
    let mut dx = ctx.buffer(x.elem_count());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Precision;
    use crate::testing::{central_differences, distance, tensor, to_f64};

    #[test]
    fn fused_reference_and_central_differences_agree() -> Result<()> {
        let ctx = Ctx::cpu(Precision::F32);
        let (w, b) = (tensor(2, &[24]), tensor(4, &[24]));
        let (w64, b64) = (to_f64(&w), to_f64(&b));
        for (rows, bias) in [(1, None), (5, Some((&b, &b64))), (40, Some((&b, &b64)))] {
            let (x, dy) = (tensor(1, &[rows, 24]), tensor(3, &[rows, 24]));
            let (x64, dy64) = (to_f64(&x), to_f64(&dy));
            let (b, b64) = bias.unzip();
            let (y, saved) = forward(&ctx, &x, (&w, b), 1e-5, DType::F32)?;
            let (y64, saved64) = reference::forward(&x64, &w64, b64, 1e-5)?;
            assert!(distance(&y, &y64) < 3e-7, "y: {}", distance(&y, &y64));

            let [dw, db] = [ctx.zeros(&[24])?, ctx.zeros(&[24])?];
            let (dw64, db64) = (to_f64(&dw), to_f64(&db));
            let dx = backward(&ctx, &dy, &x, &w, &saved, Some(&dw), Some(&db))?;
            let dx64 = reference::backward(&dy64, &x64, &w64, &saved64, Some(&dw64), Some(&db64))?;
            for (name, got, want) in [("dx", &dx, &dx64), ("dw", &dw, &dw64), ("db", &db, &db64)] {
                assert!(distance(got, want) < 1e-6, "{name}: {}", distance(got, want));
            }

            let loss = |x: &Tensor, w: &Tensor, b: Option<&Tensor>| {
                Ok(reference::forward(x, w, b, 1e-5)?.0.mul(&dy64)?)
            };
            let slope = central_differences(&x64, |x| loss(x, &w64, b64));
            assert!(distance(&dx64, &slope) < 1e-8, "dx: {}", distance(&dx64, &slope));
            let slope = central_differences(&w64, |w| loss(&x64, w, b64));
            assert!(distance(&dw64, &slope) < 1e-8, "dw: {}", distance(&dw64, &slope));
            if let Some(b64) = b64 {
                let slope = central_differences(b64, |b| loss(&x64, &w64, Some(b)));
                assert!(distance(&db64, &slope) < 1e-8, "db: {}", distance(&db64, &slope));
            }
        }
        Ok(())
    }

    #[test]
    fn each_gradient_can_be_left_out() -> Result<()> {
        let ctx = Ctx::cpu(Precision::F32);
        let (x, w, dy) = (tensor(1, &[3, 8]), tensor(2, &[8]), tensor(3, &[3, 8]));
        let (_, saved) = forward(&ctx, &x, (&w, None), 1e-5, DType::F32)?;
        let [dw, db, dw_alone, db_alone] = [(); 4].map(|()| ctx.zeros(&[8]));
        let (dw, db, dw_alone, db_alone) = (dw?, db?, dw_alone?, db_alone?);
        let all = backward(&ctx, &dy, &x, &w, &saved, Some(&dw), Some(&db))?.to_vec2::<f32>()?;
        for (dw, db) in [(Some(&dw_alone), None), (None, Some(&db_alone)), (None, None)] {
            assert_eq!(backward(&ctx, &dy, &x, &w, &saved, dw, db)?.to_vec2::<f32>()?, all);
        }
        assert_eq!(dw.to_vec1::<f32>()?, dw_alone.to_vec1::<f32>()?);
        assert_eq!(db.to_vec1::<f32>()?, db_alone.to_vec1::<f32>()?);
        Ok(())
    }
}
