//! One transformer block, forward and backward, for every residual layout.
//!
//! ```text
//! sequential:   h = x + O(attn(norm1 x));  y = h + mlp(norm2 h)
//! parallel:     y = x + O(attn(norm1 x)) + mlp(norm1 x, or norm2 x)
//! ```
//! Shapes: x, y, h, n1, n2 `[N, C]` · q, attn `[N, H·D]` · k, v `[N, K·D]` · gate, up, m `[N, F]`.
//! Parameter gradients are added to, activation gradients returned. In bf16 mode everything between a norm
//! and the residual stream is bf16 (see `Ctx::activation_dtype`): n1, n2, q, k, v, attn, gate, up and m,
//! rounded once as they are made; x, h, y and the gradients of activations but gate's and up's are f32.

use super::Pass;
use super::linears::*;
use super::norms::*;
use super::saved::{Attended, LoraSaved, Projected, Saved};
use crate::Result;
use crate::generate::LayerCache;
use crate::model::{Block, Linear, NormModule};
use crate::ops::rope::Direction;
use crate::ops::{activation, attention, elementwise, qkv, rope};
use crate::spec::{Mlp, QkvLayout, Residual};
use candle_core::{DType, Tensor};
use std::slice::from_ref;

/// Returns `y`. With a cache, the tokens continue the one sequence whose keys and values it holds.
pub fn forward(
    pass: &Pass,
    block: &Block,
    x: &Tensor,
    cache: Option<&mut LayerCache>,
) -> Result<(Tensor, Saved)> {
    let Pass { ctx, adapters, .. } = *pass;
    let attend = cache.map_or(Attend::Each, Attend::Cache);
    let (h, m, saved) = up_to_down(pass, block, x, attend)?;
    let (y, down) = linear_forward(ctx, &block.down, &m, adapters)?;
    elementwise::add_assign(ctx, &y, &h)?;
    Ok((y, saved.whole(h, m, down, pass.spec.residual)))
}

/// What [`forward`] saves, computed again: all but the block's output, and what attention made if that was kept.
pub fn recompute(
    pass: &Pass,
    block: &Block,
    x: &Tensor,
    attended: Option<Attended>,
) -> Result<Saved> {
    let attend = attended.map_or(Attend::Each, Attend::Made);
    let (h, m, saved) = up_to_down(pass, block, x, attend)?;
    let down = group_inner(pass.ctx, &[&block.down], &m, pass.adapters)?;
    Ok(saved.whole(h, m, down, pass.spec.residual))
}

/// What a pass's tokens attend to.
enum Attend<'a> {
    /// Those of their own sequence in the pass.
    Each,
    /// Those that it holds, and each other.
    Cache(&'a mut LayerCache),
    /// They have attended before.
    Made(Attended),
}

/// Returns h, m and what else is saved.
fn up_to_down(
    pass: &Pass,
    block: &Block,
    x: &Tensor,
    attend: Attend,
) -> Result<(Tensor, Tensor, Saved)> {
    let Pass { ctx, spec, adapters, .. } = *pass;
    let dtype = ctx.activation_dtype();
    let (n1, norm1) = norm_forward(ctx, spec.norm, &block.attention_norm, x, dtype)?;
    // A cache holds f32.
    let qkv_dtype = if matches!(attend, Attend::Cache(_)) { DType::F32 } else { dtype };
    let (qkv, lora_qkv) = project(pass, block, &n1, qkv_dtype)?;
    let attended = match attend {
        Attend::Each => {
            let (out, saved) =
                attention::forward(ctx, pass.attention, &qkv.q, &qkv.k, &qkv.v, pass.seq_starts)?;
            Attended { out, saved: Some(saved) }
        }
        Attend::Cache(cache) => {
            let (k, v) = cache.extended(&qkv.k, &qkv.v)?;
            let out = attention::decode(ctx, pass.attention, &qkv.q, &k, &v)?;
            Attended { out, saved: None }
        }
        Attend::Made(attended) => attended,
    };
    let (o, lora_o) = linear_forward(ctx, &block.o, &attended.out, adapters)?;
    elementwise::add_assign(ctx, &o, x)?;
    let h = o;
    let (n2, norm2) = match (&block.mlp_norm, spec.residual) {
        (Some(norm), Residual::Sequential) => Some(norm_forward(ctx, spec.norm, norm, &h, dtype)?),
        (Some(norm), _) => Some(norm_forward(ctx, spec.norm, norm, x, dtype)?),
        (None, _) => None,
    }
    .unzip();
    let mlp_in = n2.as_ref().unwrap_or(&n1);
    let (mut outs, lora_mlp) = group_forward(ctx, &mlp_linears(block), mlp_in, adapters, dtype)?;
    let up = outs.pop().expect("up is the last");
    let gate = outs.pop();
    let m = activate(pass, gate.as_ref(), &up)?;
    let down = GroupSaved::default();
    let lora = LoraSaved { qkv: lora_qkv, o: lora_o, mlp: lora_mlp, down };
    let saved =
        Saved { n1: Some(n1), norm1, qkv, attended, h: None, n2, norm2, gate, up, m: None, lora };
    Ok((h, m, saved))
}

/// Returns `dx`, or nothing where the caller needs none. What `saved` holds may be gradients afterwards.
pub fn backward(
    pass: &Pass,
    block: &Block,
    dy: &Tensor,
    x: &Tensor,
    saved: &Saved,
    want: Want,
) -> Result<Option<Tensor>> {
    let Pass { ctx, spec, .. } = *pass;
    let h = saved.h.as_ref().unwrap_or(x);
    let normed = |kept: &Option<Tensor>, norm: &NormModule, x: &Tensor| match kept {
        Some(n) => Ok(n.clone()),
        None => norm_forward(ctx, spec.norm, norm, x, ctx.activation_dtype()).map(|(n, _)| n),
    };
    let n1 = || normed(&saved.n1, &block.attention_norm, x);
    let (mlp_in, mut n1_again) = match &block.mlp_norm {
        Some(norm) => (normed(&saved.n2, norm, h)?, None),
        None => n1().map(|n1| (n1.clone(), Some(n1)))?,
    };
    let dmlp_in = mlp_backward(pass, block, dy, &mlp_in, saved)?;

    // dh: the gradient of what the attention's output was added to.
    let mut dn1_mlp = None;
    let dh = match (&block.mlp_norm, &saved.norm2) {
        (Some(norm), Some(norm2)) => {
            ctx.recycle([mlp_in]);
            let dh = norm_backward(ctx, spec.norm, norm, &dmlp_in, h, norm2)?;
            elementwise::add_assign(ctx, &dh, dy)?;
            ctx.recycle([dmlp_in]);
            dh
        }
        _ => {
            dn1_mlp = Some(dmlp_in);
            dy.clone()
        }
    };
    let do_ = if spec.residual == Residual::Sequential { &dh } else { dy };
    let dqkv = attention_backward(pass, block, do_, saved)?;
    let trained_norm =
        block.attention_norm.dweight.is_some() || block.attention_norm.dbias.is_some();
    let mut dn1 = dn1_mlp;
    let wanted = (want == Want::Dx || trained_norm).then_some(&mut dn1);
    let n1 = n1_again.take().map_or_else(n1, Ok)?;
    project_backward(pass, block, dqkv, (&n1, saved), wanted)?;
    ctx.recycle([n1]);
    if want == Want::Nothing && !trained_norm {
        return Ok(None);
    }
    let dn1 = dn1.expect("asked for");
    let dx = norm_backward(ctx, spec.norm, &block.attention_norm, &dn1, x, &saved.norm1)?;
    elementwise::add_assign(ctx, &dx, &dh)?;
    ctx.recycle([dn1]);
    if block.mlp_norm.is_some() {
        ctx.recycle([dh]); // else it is the caller's dy
    }
    Ok(Some(dx))
}

/// Returns dq, dk and dv of `do_`, the gradient of what o returned.
fn attention_backward(
    pass: &Pass,
    block: &Block,
    do_: &Tensor,
    saved: &Saved,
) -> Result<(Tensor, Tensor, Tensor)> {
    let Pass { ctx, adapters, .. } = *pass;
    let mut dattn = None;
    let Attended { out, saved: attention_saved } = &saved.attended;
    let inputs = (out, &saved.lora.o);
    group_backward(ctx, &[&block.o], from_ref(do_), inputs, adapters, Some(&mut dattn))?;
    let dattn = dattn.expect("asked for");
    let attention_saved = attention_saved.as_ref().expect("backward of a pass without a cache");
    let Projected { q, k, v, .. } = &saved.qkv;
    let dqkv = attention::backward(
        ctx,
        pass.attention,
        &dattn,
        q,
        k,
        v,
        out,
        attention_saved,
        pass.seq_starts,
    )?;
    ctx.recycle([dattn]);
    Ok(dqkv)
}

/// Returns the gradient of the MLP's input.
fn mlp_backward(
    pass: &Pass,
    block: &Block,
    dy: &Tensor,
    mlp_in: &Tensor,
    saved: &Saved,
) -> Result<Tensor> {
    let Pass { ctx, spec, adapters, .. } = *pass;
    let m = match &saved.m {
        Some(m) => m.clone(),
        None => activate(pass, saved.gate.as_ref(), &saved.up)?,
    };
    let mut dm = None;
    let inputs = (&m, &saved.lora.down);
    group_backward(ctx, &[&block.down], from_ref(dy), inputs, adapters, Some(&mut dm))?;
    ctx.recycle([m]);
    let dm = dm.expect("asked for");
    let dys = match (spec.mlp, &saved.gate) {
        // In the places of gate and up, which `saved` gives back.
        (Mlp::Gated(act), Some(gate)) => {
            let (gate, up) = (gate.clone(), saved.up.clone());
            let (dgate, dup) = activation::gated_backward(ctx, act, &dm, gate, up)?;
            vec![dgate, dup]
        }
        (Mlp::Plain(act) | Mlp::Gated(act), _) => {
            vec![activation::plain_backward(ctx, act, &dm, saved.up.clone())?]
        }
    };
    ctx.recycle([dm]);
    let mut dmlp_in = None;
    let inputs = (mlp_in, &saved.lora.mlp);
    group_backward(ctx, &mlp_linears(block), &dys, inputs, adapters, Some(&mut dmlp_in))?;
    Ok(dmlp_in.expect("asked for"))
}

/// Whether the gradient of the block's input is of use to anyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    Dx,
    Nothing,
}

/// What reads the MLP's input: gate, where there is one, and up.
fn mlp_linears(block: &Block) -> Vec<&Linear> {
    block.gate.iter().chain([&block.up]).collect()
}

fn activate(pass: &Pass, gate: Option<&Tensor>, up: &Tensor) -> Result<Tensor> {
    match (pass.spec.mlp, gate) {
        (Mlp::Gated(act), Some(gate)) => activation::gated_forward(pass.ctx, act, gate, up),
        (Mlp::Plain(act) | Mlp::Gated(act), _) => activation::plain_forward(pass.ctx, act, up),
    }
}

/// The projections, clamped, normed and rotated as the spec asks, at last in `dtype`.
fn project(
    pass: &Pass,
    block: &Block,
    n1: &Tensor,
    dtype: DType,
) -> Result<(Projected, GroupSaved)> {
    let Pass { ctx, spec, adapters, positions, .. } = *pass;
    let group: Vec<&Linear> = block.qkv.iter().collect();
    let (mut outs, lora) = group_forward(ctx, &group, n1, adapters, DType::F32)?;
    let mut unclamped = vec![];
    if let Some(clip) = spec.clip_qkv {
        let clamped = outs.iter().map(|y| Ok(y.clamp(-clip, clip)?)).collect::<Result<_>>()?;
        unclamped = std::mem::replace(&mut outs, clamped);
    }
    let (mut q, mut k, v) = match (spec.qkv, outs.as_slice()) {
        (QkvLayout::Separate, [q, k, v]) => (q.clone(), k.clone(), v.clone()),
        _ => qkv::split(spec, &outs[0])?,
    };
    let mut unnormed = None;
    if let (Some(q_norm), Some(k_norm)) = (&block.q_norm, &block.k_norm) {
        let heads = |x: &Tensor| x.reshape(((), spec.head_dim));
        let (raw_q, raw_k) = (heads(&q)?, heads(&k)?);
        let (new_q, saved_q) = norm_forward(ctx, spec.norm, q_norm, &raw_q, DType::F32)?;
        let (new_k, saved_k) = norm_forward(ctx, spec.norm, k_norm, &raw_k, DType::F32)?;
        (q, k) = (new_q.reshape(q.dims())?, new_k.reshape(k.dims())?);
        unnormed = Some([(raw_q, saved_q), (raw_k, saved_k)]);
    }
    let placed = |x: Tensor, heads: usize| match pass.rope {
        Some(tables) => rope::rotated(ctx, x, (heads, spec.head_dim), tables, positions, dtype),
        None => elementwise::rounded(ctx, x, dtype),
    };
    let (q, k) = (placed(q, spec.n_heads)?, placed(k, spec.n_kv_heads)?);
    let v = elementwise::rounded(ctx, v, dtype)?;
    Ok((Projected { q, k, v, unclamped, unnormed }, lora))
}

fn project_backward(
    pass: &Pass,
    block: &Block,
    (mut dq, mut dk, dv): (Tensor, Tensor, Tensor),
    (n1, saved): (&Tensor, &Saved),
    dn1: Option<&mut Option<Tensor>>,
) -> Result<()> {
    let Pass { ctx, spec, adapters, .. } = *pass;
    if let Some(tables) = pass.rope {
        for (x, heads) in [(&dq, spec.n_heads), (&dk, spec.n_kv_heads)] {
            let heads = (heads, spec.head_dim);
            rope::rotate(ctx, x, heads, tables, pass.positions, Direction::Backward)?;
        }
    }
    if let (Some(q_norm), Some(k_norm), Some([(raw_q, saved_q), (raw_k, saved_k)])) =
        (&block.q_norm, &block.k_norm, &saved.qkv.unnormed)
    {
        let heads = |x: &Tensor| x.reshape(((), spec.head_dim));
        let new_dq = norm_backward(ctx, spec.norm, q_norm, &heads(&dq)?, raw_q, saved_q)?;
        let new_dk = norm_backward(ctx, spec.norm, k_norm, &heads(&dk)?, raw_k, saved_k)?;
        (dq, dk) = (new_dq.reshape(dq.dims())?, new_dk.reshape(dk.dims())?);
    }
    let mut grads = match spec.qkv {
        QkvLayout::Separate => vec![dq, dk, dv],
        _ => vec![qkv::merge(spec, (&dq, &dk, &dv))?],
    };
    if let Some(clip) = spec.clip_qkv {
        for (dy, y) in grads.iter_mut().zip(&saved.qkv.unclamped) {
            let inside = y.abs()?.le(f64::from(clip))?.to_dtype(dy.dtype())?;
            *dy = dy.mul(&inside)?;
        }
    }
    let group: Vec<&Linear> = block.qkv.iter().collect();
    group_backward(ctx, &group, &grads, (n1, &saved.lora.qkv), adapters, dn1)?;
    grads.into_iter().for_each(|dy| ctx.recycle([dy]));
    Ok(())
}
