//! Causal self-attention over ragged sequences, and its gradient: the op over
//! [`kernels::attention`], where the formulas stand. Never holds scores of a whole sequence on the
//! CPU; the reference does.
//!
//! Shapes: q, out, dout, dq `[N, H·D]` · k, v, dk, dv `[N, K·D]` · lse `[N, H]`, where N tokens of
//! all sequences · H query heads · K kv heads · D head_dim. `seq_starts` rises from 0 to N.

use super::{read_all, refuse};
use crate::ctx::Ctx;
use crate::error::Result;
use candle_core::Tensor;
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
    let (mut out, mut lse) = (vec![0.0; q.elem_count()], vec![0.0; n * spec.n_heads]);
    read_all([q, k, v], |[q, k, v]| {
        attention::forward(ctx.isa, &spec.shape(), seq_starts, q, k, v, &mut out, &mut lse);
    })?;
    Ok((ctx.tensor(out, q.dims())?, Saved { lse: ctx.tensor(lse, &[n, spec.n_heads])? }))
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
    let mut dq = vec![0.0; q.elem_count()];
    let [mut dk, mut dv] = [(); 2].map(|()| vec![0.0; k.elem_count()]);
    read_all([q, k, v, out, &saved.lse, dout], |[q, k, v, out, lse, dout]| {
        let grads = Gradients { dq: &mut dq, dk: &mut dk, dv: &mut dv };
        attention::backward(ctx.isa, &spec.shape(), seq_starts, q, k, v, out, lse, dout, grads);
    })?;
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
mod tests {
    use super::*;
    use crate::ctx::Precision;
    use candle_core::{DType, Device};

    fn random(shape: (usize, usize), seed: u64) -> Tensor {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / (1u64 << 23) as f64 - 1.0
        };
        let data: Vec<f64> = (0..shape.0 * shape.1).map(|_| next()).collect();
        Tensor::from_vec(data, shape, &Device::Cpu).expect("a tensor")
    }

    fn spec(heads: (usize, usize), head_dim: usize) -> AttentionSpec {
        AttentionSpec {
            n_heads: heads.0,
            n_kv_heads: heads.1,
            head_dim,
            scale: (head_dim as f32).sqrt().recip(),
            alibi_slopes: None,
            sliding_window: None,
        }
    }

    fn variants() -> Vec<(AttentionSpec, Vec<usize>)> {
        let starts = vec![0, 1, 38, 38, 70, 170];
        let slopes = Some(vec![0.25, 0.0625]);
        vec![
            (spec((2, 2), 8), starts.clone()),
            (spec((4, 2), 16), starts.clone()),
            (spec((9, 3), 64), starts.clone()),
            (spec((8, 2), 80), vec![0, 66]),
            (spec((2, 1), 128), starts.clone()),
            (AttentionSpec { alibi_slopes: slopes.clone(), ..spec((2, 2), 16) }, starts.clone()),
            (AttentionSpec { sliding_window: Some(17), ..spec((4, 1), 8) }, starts.clone()),
            (
                AttentionSpec {
                    sliding_window: Some(1),
                    alibi_slopes: slopes,
                    scale: 1.0,
                    ..spec((2, 1), 24)
                },
                starts,
            ),
        ]
    }

    /// q, k, v and dout in f64.
    fn inputs(spec: &AttentionSpec, n: usize) -> [Tensor; 4] {
        let (wide, narrow) = (spec.n_heads * spec.head_dim, spec.n_kv_heads * spec.head_dim);
        [random((n, wide), 1), random((n, narrow), 2), random((n, narrow), 3), random((n, wide), 4)]
    }

    fn f32(x: &Tensor) -> Tensor {
        x.to_dtype(DType::F32).expect("a cast")
    }

    /// The largest difference.
    fn deviation(got: &Tensor, want: &Tensor) -> Result<f64> {
        let off = (got.to_dtype(DType::F64)? - want)?.abs()?.flatten_all()?;
        Ok(off.max(0)?.to_scalar::<f64>()?)
    }

    #[test]
    fn fused_path_agrees_with_the_reference_in_f64() -> Result<()> {
        let ctx = Ctx::cpu(Precision::F32);
        for (spec, starts) in variants() {
            let [q, k, v, dout] = inputs(&spec, starts[starts.len() - 1]);
            let (want, want_saved) = reference::forward(&spec, &q, &k, &v, &starts)?;
            let want_grads = reference::backward(&spec, &dout, &q, &k, &v, &starts)?;
            let [q, k, v, dout] = [q, k, v, dout].map(|x| f32(&x));
            let (out, saved) = forward(&ctx, &spec, &q, &k, &v, &starts)?;
            let grads = backward(&ctx, &spec, &dout, &q, &k, &v, &out, &saved, &starts)?;
            let off = [
                deviation(&out, &want)?,
                deviation(&saved.lse, &want_saved.lse)?,
                deviation(&grads.0, &want_grads.0)?,
                deviation(&grads.1, &want_grads.1)?,
                deviation(&grads.2, &want_grads.2)?,
            ];
            println!(
                "{spec:?}: out lse dq dk dv {}",
                off.map(|off| format!("{off:.1e}")).join(" ")
            );
            assert!(off.iter().all(|&off| off <= 5e-6), "{spec:?}");
        }
        Ok(())
    }

    #[test]
    fn reference_gradients_agree_with_central_differences() -> Result<()> {
        for (spec, _) in variants().into_iter().filter(|(spec, _)| spec.head_dim <= 24) {
            let starts = [0, 1, 6];
            let [q, k, v, dout] = inputs(&spec, 6);
            let loss = |q: &Tensor, k: &Tensor, v: &Tensor| -> Result<f64> {
                let (out, _) = reference::forward(&spec, q, k, v, &starts)?;
                Ok(out.mul(&dout)?.sum_all()?.to_scalar::<f64>()?)
            };
            let (dq, dk, dv) = reference::backward(&spec, &dout, &q, &k, &v, &starts)?;
            let step = 1e-5;
            for (which, (x, dx)) in [(&q, &dq), (&k, &dk), (&v, &dv)].into_iter().enumerate() {
                let (rows, cols) = x.dims2()?;
                let values: Vec<f64> = x.flatten_all()?.to_vec1()?;
                let dx: Vec<f64> = dx.flatten_all()?.to_vec1()?;
                for at in (0..values.len()).step_by(5) {
                    let moved = |by: f64| -> Result<f64> {
                        let mut values = values.clone();
                        values[at] += by;
                        let x = Tensor::from_vec(values, (rows, cols), &Device::Cpu)?;
                        let mut inputs = [&q, &k, &v];
                        inputs[which] = &x;
                        loss(inputs[0], inputs[1], inputs[2])
                    };
                    let slope = (moved(step)? - moved(-step)?) / (2.0 * step);
                    assert!(
                        (slope - dx[at]).abs() < 1e-8,
                        "input {which} at {at}: {slope} {}",
                        dx[at]
                    );
                }
            }
        }
        Ok(())
    }

    #[test]
    fn decode_gives_the_last_rows_of_forward() -> Result<()> {
        let ctx = Ctx::cpu(Precision::F32);
        for (spec, _) in variants() {
            let [q, k, v, _] = inputs(&spec, 45);
            let (want, _) = reference::forward(&spec, &q, &k, &v, &[0, 45])?;
            for n_new in [1, 2, 20, 45] {
                let last = |x: &Tensor| x.narrow(0, 45 - n_new, n_new);
                let same = reference::decode(&spec, &last(&q)?, &k, &v)?;
                assert!(deviation(&same, &last(&want)?)? < 1e-12);
                let out = decode(&ctx, &spec, &f32(&last(&q)?.contiguous()?), &f32(&k), &f32(&v))?;
                assert!(deviation(&out, &last(&want)?)? < 5e-6, "{n_new} new, {spec:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn tensors_of_other_shapes_are_refused() {
        let ctx = Ctx::cpu(Precision::F32);
        let spec = spec((4, 2), 8);
        let x = f32(&random((5, 32), 1));
        let message = match forward(&ctx, &spec, &x, &x, &x, &[0, 5]) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        assert!(message.contains("[5, 32] is not [5, 2·8]"), "{message}");
    }
}
