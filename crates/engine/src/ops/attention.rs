//! Causal self-attention over ragged sequences, and its gradient: the op over
//! [`kernels::attention`], where the formulas stand. Never holds scores of a whole sequence on the
//! CPU; the reference does.
//!
//! Shapes: q, out, dout, dq `[N, H·D]` · k, v, dk, dv `[N, K·D]` · lse `[N, H]`, where N tokens of
//! all sequences · H query heads · K kv heads · D head_dim. `seq_starts` rises from 0 to N. On the CPU
//! q, k, v and out are all f32 or all bf16, the rest is f32.

use super::{read_all, refuse};
use crate::ctx::Ctx;
use crate::error::Result;
use candle_core::{DType, Tensor};
use kernels::attention::{self, AttentionShape, Gradients};

/// The heads of an attention and how its scores are made.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionSpec {
    pub n_heads: usize,
    /// `n_heads` is a multiple of it.
    pub n_kv_heads: usize,
    pub head_dim: usize,
    pub scale: f32,
    /// One slope per query head: `slope · key position` is added to the scores.
    pub alibi_slopes: Option<Vec<f32>>,
    /// Key `j` is seen by query `i` if `i − j` is below it; at least 1.
    pub sliding_window: Option<usize>,
}

impl AttentionSpec {
    /// The kernels' view of it.
    pub fn shape(&self) -> AttentionShape<'_> {
        AttentionShape {
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            head_dim: self.head_dim,
            scale: self.scale,
            alibi_slopes: self.alibi_slopes.as_deref(),
            sliding_window: self.sliding_window,
        }
    }

    /// Refuses tensors that aren't `n_tokens` rows of these heads.
    fn check(&self, n_tokens: usize, wide: &[&Tensor], narrow: &[&Tensor]) -> Result<()> {
        let (heads, kv_heads) = (self.n_heads, self.n_kv_heads);
        if kv_heads == 0 || self.head_dim == 0 || !heads.is_multiple_of(kv_heads) {
            return refuse("attention", format!("{heads} heads on {kv_heads} kv heads"));
        }
        let rows = |tensors: &[&Tensor], n: usize, heads: usize| {
            let wrong = tensors.iter().find(|x| x.dims() != [n, heads * self.head_dim]);
            wrong.map_or(Ok(()), |x| {
                refuse(
                    "attention",
                    format!("{:?} is not [{n}, {heads}·{}]", x.dims(), self.head_dim),
                )
            })
        };
        rows(wide, n_tokens, heads)?;
        rows(narrow, n_tokens, kv_heads)
    }
}

/// What `backward` needs besides inputs and output: `log Σ exp(scores)` of each query and head.
#[derive(Clone, Debug)]
pub struct Saved {
    pub lse: Tensor,
}

/// Returns `out` and what `backward` needs.
pub fn forward(
    ctx: &Ctx,
    spec: &AttentionSpec,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    seq_starts: &[usize],
) -> Result<(Tensor, Saved)> {
    let n = q.dim(0)?;
    spec.check(n, &[q], &[k, v])?;
    if !ctx.is_cpu() {
        return reference::forward(spec, q, k, v, seq_starts);
    }
    let (isa, shape) = (ctx.isa, spec.shape());
    let mut lse = ctx.buffer(n * spec.n_heads);
    let out = match q.dtype() {
        DType::BF16 => {
            let mut out = ctx.buffer(q.elem_count());
            read_all([q, k, v], |[q, k, v]| {
                attention::forward_bf16(isa, &shape, seq_starts, q, k, v, &mut out, &mut lse);
            })?;
            ctx.tensor(out, q.dims())?
        }
        _ => {
            let mut out = ctx.buffer(q.elem_count());
            read_all([q, k, v], |[q, k, v]| {
                attention::forward(isa, &shape, seq_starts, q, k, v, &mut out, &mut lse);
            })?;
            ctx.tensor(out, q.dims())?
        }
    };
    Ok((out, Saved { lse: ctx.tensor(lse, &[n, spec.n_heads])? }))
}

/// Returns `(dq, dk, dv)`.
#[expect(clippy::too_many_arguments, reason = "forward's inputs and results, and the gradient")]
pub fn backward(
    ctx: &Ctx,
    spec: &AttentionSpec,
    dout: &Tensor,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    out: &Tensor,
    saved: &Saved,
    seq_starts: &[usize],
) -> Result<(Tensor, Tensor, Tensor)> {
    spec.check(q.dim(0)?, &[q, out, dout], &[k, v])?;
    if !ctx.is_cpu() {
        return reference::backward(spec, dout, q, k, v, seq_starts);
    }
    let mut dq = ctx.buffer(q.elem_count());
    let [mut dk, mut dv] = [(); 2].map(|()| ctx.buffer(k.elem_count()));
    let (isa, shape) = (ctx.isa, spec.shape());
    let grads = Gradients { dq: &mut dq, dk: &mut dk, dv: &mut dv };
    read_all([&saved.lse, dout], |[lse, dout]| match q.dtype() {
        DType::BF16 => read_all([q, k, v, out], |[q, k, v, out]| {
            attention::backward_bf16(isa, &shape, seq_starts, q, k, v, out, lse, dout, grads);
        }),
        _ => read_all([q, k, v, out], |[q, k, v, out]| {
            attention::backward(isa, &shape, seq_starts, q, k, v, out, lse, dout, grads);
        }),
    })??;
    Ok((ctx.tensor(dq, q.dims())?, ctx.tensor(dk, k.dims())?, ctx.tensor(dv, v.dims())?))
}

/// Returns `out [n_new, H·D]` of `q [n_new, H·D]`, the last positions of the one sequence whose T
/// keys and values are `k_cache`, `v_cache [T, K·D]`.
pub fn decode(
    ctx: &Ctx,
    spec: &AttentionSpec,
    q: &Tensor,
    k_cache: &Tensor,
    v_cache: &Tensor,
) -> Result<Tensor> {
    let (n_new, len) = (q.dim(0)?, k_cache.dim(0)?);
    spec.check(n_new, &[q], &[])?;
    spec.check(len, &[], &[k_cache, v_cache])?;
    if n_new > len {
        return refuse("attention", format!("{n_new} new queries on {len} keys"));
    }
    if !ctx.is_cpu() {
        return reference::decode(spec, q, k_cache, v_cache);
    }
    let mut out = vec![0.0; q.elem_count()];
    read_all([q, k_cache, v_cache], |[q, k, v]| {
        attention::decode(ctx.isa, &spec.shape(), q, k, v, &mut out);
    })?;
    ctx.tensor(out, q.dims())
}

/// The same, composed of candle's operations with all scores of a sequence at once: the oracle of
/// the tests, and the path of a device that has no kernel of ours. Works in the tensors' dtype.
pub mod reference {
    use super::{AttentionSpec, Result, Saved, Tensor};
    use candle_core::{D, DType, Device};

    pub fn forward(
        spec: &AttentionSpec,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        seq_starts: &[usize],
    ) -> Result<(Tensor, Saved)> {
        let (mut outs, mut lses) = (Vec::new(), Vec::new());
        for (first, len) in sequences(seq_starts) {
            let rows = |x: &Tensor| x.narrow(0, first, len);
            let (p, lse) = probabilities(spec, &rows(q)?, &rows(k)?)?;
            let v = heads(&rows(v)?, spec.n_kv_heads)?;
            outs.push(merge(&p.matmul(&repeat(&v, spec)?)?)?);
            lses.push(lse.squeeze(2)?.t()?.contiguous()?);
        }
        Ok((Tensor::cat(&outs, 0)?, Saved { lse: Tensor::cat(&lses, 0)? }))
    }

    pub fn backward(
        spec: &AttentionSpec,
        dout: &Tensor,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        seq_starts: &[usize],
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let (mut dqs, mut dks, mut dvs) = (Vec::new(), Vec::new(), Vec::new());
        for (first, len) in sequences(seq_starts) {
            let rows = |x: &Tensor| x.narrow(0, first, len);
            let (p, _) = probabilities(spec, &rows(q)?, &rows(k)?)?;
            let dout = heads(&rows(dout)?, spec.n_heads)?;
            let q = heads(&rows(q)?, spec.n_heads)?;
            let k = repeat(&heads(&rows(k)?, spec.n_kv_heads)?, spec)?;
            let v = repeat(&heads(&rows(v)?, spec.n_kv_heads)?, spec)?;
            let dp = dout.matmul(&v.transpose(1, 2)?.contiguous()?)?;
            let delta = p.mul(&dp)?.sum_keepdim(D::Minus1)?;
            let ds = (p.mul(&dp.broadcast_sub(&delta)?)? * spec.scale as f64)?;
            dqs.push(merge(&ds.matmul(&k)?)?);
            let over_queries = |x: &Tensor, y: &Tensor| -> Result<Tensor> {
                merge(&sum_groups(&x.transpose(1, 2)?.contiguous()?.matmul(y)?, spec)?)
            };
            dks.push(over_queries(&ds, &q)?);
            dvs.push(over_queries(&p, &dout)?);
        }
        Ok((Tensor::cat(&dqs, 0)?, Tensor::cat(&dks, 0)?, Tensor::cat(&dvs, 0)?))
    }

    pub fn decode(
        spec: &AttentionSpec,
        q: &Tensor,
        k_cache: &Tensor,
        v_cache: &Tensor,
    ) -> Result<Tensor> {
        let (p, _) = probabilities(spec, q, k_cache)?;
        merge(&p.matmul(&repeat(&heads(v_cache, spec.n_kv_heads)?, spec)?)?)
    }

    /// `(first row, length)` of the sequences that have tokens.
    fn sequences(seq_starts: &[usize]) -> impl Iterator<Item = (usize, usize)> {
        seq_starts.windows(2).map(|s| (s[0], s[1] - s[0])).filter(|&(_, len)| len > 0)
    }

    /// Probabilities `[H, n, T]` and lse `[H, n, 1]` of the queries `[n, H·D]`, the last of T
    /// positions.
    fn probabilities(spec: &AttentionSpec, q: &Tensor, k: &Tensor) -> Result<(Tensor, Tensor)> {
        let (n, len) = (q.dim(0)?, k.dim(0)?);
        let q = heads(q, spec.n_heads)?;
        let k = repeat(&heads(k, spec.n_kv_heads)?, spec)?;
        let scores = (q.matmul(&k.transpose(1, 2)?.contiguous()?)? * spec.scale as f64)?;
        let scores = scores.broadcast_add(&bias(spec, n, len, q.dtype(), q.device())?)?;
        let max = scores.max_keepdim(D::Minus1)?;
        let exp = scores.broadcast_sub(&max)?.exp()?;
        let sum = exp.sum_keepdim(D::Minus1)?;
        Ok((exp.broadcast_div(&sum)?, (max + sum.log()?)?))
    }

    /// `[H, n, T]`: slope · key position, and −∞ where a query doesn't see a key.
    fn bias(
        spec: &AttentionSpec,
        n: usize,
        len: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let window = spec.sliding_window.unwrap_or(usize::MAX);
        let mut bias = Vec::with_capacity(spec.n_heads * n * len);
        for head in 0..spec.n_heads {
            let slope = spec.alibi_slopes.as_ref().map_or(0.0, |slopes| slopes[head]);
            for (i, j) in (len - n..len).flat_map(|i| (0..len).map(move |j| (i, j))) {
                let seen = j <= i && i - j < window;
                bias.push(if seen { slope as f64 * j as f64 } else { f64::NEG_INFINITY });
            }
        }
        Ok(Tensor::from_vec(bias, (spec.n_heads, n, len), &Device::Cpu)?
            .to_dtype(dtype)?
            .to_device(device)?)
    }

    /// `[T, heads·D]` → `[heads, T, D]`.
    fn heads(x: &Tensor, heads: usize) -> Result<Tensor> {
        let (n, width) = x.dims2()?;
        Ok(x.reshape((n, heads, width / heads))?.transpose(0, 1)?.contiguous()?)
    }

    /// `[heads, T, D]` → `[T, heads·D]`.
    fn merge(x: &Tensor) -> Result<Tensor> {
        let (heads, n, d) = x.dims3()?;
        Ok(x.transpose(0, 1)?.contiguous()?.reshape((n, heads * d))?)
    }

    /// `[K, T, D]` → `[H, T, D]`: each kv head once for each of its query heads.
    fn repeat(x: &Tensor, spec: &AttentionSpec) -> Result<Tensor> {
        let (kv_heads, n, d) = x.dims3()?;
        let group = spec.n_heads / kv_heads;
        let x = x.unsqueeze(1)?.broadcast_as((kv_heads, group, n, d))?.contiguous()?;
        Ok(x.reshape((spec.n_heads, n, d))?)
    }

    /// `[H, T, D]` → `[K, T, D]`: the sum over the query heads of each kv head.
    fn sum_groups(x: &Tensor, spec: &AttentionSpec) -> Result<Tensor> {
        let (_, n, d) = x.dims3()?;
        let group = spec.n_heads / spec.n_kv_heads;
        Ok(x.reshape((spec.n_kv_heads, group, n, d))?.sum(1)?)
    }
}

#[cfg(test)]
mod tests;
