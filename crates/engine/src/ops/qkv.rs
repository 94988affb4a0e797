//! Taking q, k and v out of one projection's output, for the checkpoints that fuse them, and the way
//! back for the gradients. Compositions of candle's views and copies: they move each value once.
//!
//! Shapes: y `[N, (H + 2K)·D]` · q `[N, H·D]` · k, v `[N, K·D]`.

use crate::error::Result;
use crate::spec::{DecoderSpec, QkvLayout};
use candle_core::Tensor;

/// Returns `(q, k, v)`. The layout is not `Separate`.
pub fn split(spec: &DecoderSpec, y: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
    let (h, k, d, n) = (spec.n_heads, spec.n_kv_heads, spec.head_dim, y.dim(0)?);
    let part = |x: Tensor, from: usize, len: usize, width: usize| -> Result<Tensor> {
        Ok(x.narrow(2, from, len)?.contiguous()?.reshape((n, width))?)
    };
    let (groups, queries) = groups(spec);
    let y = y.reshape((n, groups, (queries + 2 * k / groups) * d))?;
    let kv = k / groups * d;
    Ok((
        part(y.clone(), 0, queries * d, h * d)?,
        part(y.clone(), queries * d, kv, k * d)?,
        part(y, queries * d + kv, kv, k * d)?,
    ))
}

/// The inverse of [`split`]: gradients of q, k and v back in the projection's order.
pub fn merge(spec: &DecoderSpec, (q, k, v): (&Tensor, &Tensor, &Tensor)) -> Result<Tensor> {
    let n = q.dim(0)?;
    let (groups, _) = groups(spec);
    let grouped = |x: &Tensor| x.reshape((n, groups, ()));
    let y = Tensor::cat(&[grouped(q)?, grouped(k)?, grouped(v)?], 2)?;
    Ok(y.contiguous()?.reshape((n, ()))?)
}

/// How many times `[q…, k…, v…]` repeats in a row, and the query heads in each.
fn groups(spec: &DecoderSpec) -> (usize, usize) {
    let groups = match spec.qkv {
        QkvLayout::Separate | QkvLayout::Fused => 1,
        QkvLayout::FusedPerHead => spec.n_heads,
        QkvLayout::FusedPerGroup => spec.n_kv_heads,
    };
    (groups, spec.n_heads / groups)
}
