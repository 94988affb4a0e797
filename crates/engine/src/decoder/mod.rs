//! The one decoder: embedding, blocks, final norm, head and loss, forward and backward, driven by a
//! [`DecoderSpec`](crate::spec::DecoderSpec). No family has a pass of its own.
//!
//! Shapes: x `[N, C]` with N the tokens of a pass, all sequences one after another.

mod batch;
pub mod block;
pub mod linears;
pub mod norms;
pub mod passes;
pub mod saved;

pub use batch::MicroBatch;
pub use linears::{Adapters, StepKey};
pub use saved::Recomputation;

use crate::Result;
use crate::ctx::Ctx;
use crate::generate::LayerCache;
use crate::model::{Model, NormModule};
use crate::ops::attention::AttentionSpec;
use crate::ops::head_loss::{self, HeadLoss};
use crate::ops::rope::RopeTables;
use crate::ops::{elementwise, embedding};
use crate::signal::Signal;
use crate::spec::{DecoderSpec, Positions};
use crate::weight::Weight;
use block::Want;
use candle_core::{DType, Tensor};
use norms::{NormSaved, norm_backward, norm_forward};
use saved::{Attended, Saved};

/// What all blocks of one pass share.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    pub ctx: &'a Ctx,
    pub spec: &'a DecoderSpec,
    pub adapters: Adapters,
    pub attention: &'a AttentionSpec,
    pub rope: Option<&'a RopeTables>,
    pub positions: &'a [u32],
    pub seq_starts: &'a [usize],
}

/// How one pass of a training step runs.
pub struct Training<'a> {
    /// 1 / supervised tokens of the whole step.
    pub dloss: f32,
    pub key: StepKey,
    pub recomputation: Recomputation,
    pub signal: &'a Signal,
}

/// What a block keeps for backward beside its input.
enum Keep {
    All(Box<Saved>),
    Attended(Attended),
    Nothing,
}

/// Returns the summed loss of the supervised tokens, and adds to all gradients.
pub fn loss_and_grads(model: &mut Model, batch: &MicroBatch, run: &Training) -> Result<f64> {
    let (targets, positions) = (batch.targets(), batch.positions());
    let attention = attention_spec(&model.spec);
    model.rope_tables(batch.longest())?;
    let model = &*model;
    let adapters = if model.adapter_enabled { Adapters::Training(run.key) } else { Adapters::Off };
    let pass = pass(model, adapters, &attention, &positions, &batch.seq_starts);
    let Pass { ctx, spec, .. } = pass;

    let (e, mut x, embedding_norm) = embed_ids(model, &batch.ids)?;
    let mut kept = Vec::with_capacity(model.blocks.len());
    for (layer, block) in model.blocks.iter().enumerate() {
        let (y, mut saved) = block::forward(&pass, block, &x, None)?;
        let keep = if layer >= run.recomputation.blocks {
            saved.thin(ctx);
            Keep::All(Box::new(saved))
        } else if run.recomputation.keeps_attention {
            Keep::Attended(saved.into_attended(ctx))
        } else {
            saved.recycle(ctx);
            Keep::Nothing
        };
        kept.push((x, keep));
        x = y;
        run.signal.block()?;
    }
    let (last, final_norm) = norm_forward(ctx, spec.norm, &model.final_norm, &x, DType::F32)?;
    let loss = HeadLoss {
        x: &last,
        head: &model.head.weight,
        targets: &targets,
        dloss: run.dloss,
        dhead: model.head.dweight.as_ref(),
    };
    let out = head_loss::forward_backward(ctx, loss)?;
    ctx.recycle([last]);

    let mut dx = norm_backward(ctx, spec.norm, &model.final_norm, &out.dx, &x, &final_norm)?;
    ctx.recycle([out.dx, x]);
    let below = model.embedding.dweight.is_some()
        || model.embedding_norm.as_ref().is_some_and(|n| n.dweight.is_some());
    for (layer, block) in model.blocks.iter().enumerate().rev() {
        let (x, keep) = kept.pop().expect("one entry a block");
        let saved = match keep {
            Keep::All(saved) => *saved,
            Keep::Attended(attended) => block::recompute(&pass, block, &x, Some(attended))?,
            Keep::Nothing => block::recompute(&pass, block, &x, None)?,
        };
        let want = if layer > 0 || below { Want::Dx } else { Want::Nothing };
        run.signal.block()?;
        let next = block::backward(&pass, block, &dx, &x, &saved, want)?;
        saved.recycle(ctx);
        ctx.recycle([x, dx]);
        match next {
            Some(next) => dx = next,
            None => return Ok(out.loss_sum),
        }
    }
    if let (Some(norm), Some(saved)) = (&model.embedding_norm, &embedding_norm) {
        dx = norm_backward(ctx, spec.norm, norm, &dx, &e, saved)?;
    }
    if let Some(dtable) = &model.embedding.dweight {
        if spec.embedding_scale != 1.0 {
            elementwise::scale(ctx, &dx, spec.embedding_scale)?;
        }
        embedding::backward(ctx, &dx, &batch.ids, dtable)?;
    }
    Ok(out.loss_sum)
}

/// `(summed loss, supervised tokens)` of a batch, without gradients.
pub fn loss(model: &mut Model, batch: &MicroBatch, signal: &Signal) -> Result<(f64, usize)> {
    let targets = batch.targets();
    let x = hidden(model, batch, signal)?;
    Ok((head_loss::loss_only(&model.ctx, &x, &model.head.weight, &targets)?, targets.len()))
}

/// Logits `[N, V]` of every token: for small models and single rows; training never holds them.
pub fn logits(model: &mut Model, batch: &MicroBatch, signal: &Signal) -> Result<Tensor> {
    let x = hidden(model, batch, signal)?;
    head_loss::logits(&model.ctx, &x, &model.head.weight)
}

/// The head's input `[N, C]`.
fn hidden(model: &mut Model, batch: &MicroBatch, signal: &Signal) -> Result<Tensor> {
    let positions = batch.positions();
    let attention = attention_spec(&model.spec);
    model.rope_tables(batch.longest())?;
    let model = &*model;
    let pass = pass(model, inference_adapters(model), &attention, &positions, &batch.seq_starts);
    let (_, mut x, _) = embed_ids(model, &batch.ids)?;
    for block in &model.blocks {
        let (y, saved) = block::forward(&pass, block, &x, None)?;
        saved.recycle(pass.ctx);
        pass.ctx.recycle([std::mem::replace(&mut x, y)]);
        signal.block()?;
    }
    Ok(norm_forward(pass.ctx, pass.spec.norm, &model.final_norm, &x, DType::F32)?.0)
}

/// Logits `[1, V]` after the last of `ids`, which continue the sequence that the caches hold.
pub fn next_logits(
    model: &mut Model,
    ids: &[u32],
    caches: &mut [LayerCache],
    signal: &Signal,
) -> Result<Tensor> {
    let from = caches.first().map_or(0, LayerCache::len);
    let positions: Vec<u32> = (from as u32..(from + ids.len()) as u32).collect();
    let attention = attention_spec(&model.spec);
    let reach = caches.first().map_or(ids.len(), LayerCache::capacity);
    model.rope_tables(reach)?;
    let model = &*model;
    let seq_starts = [0, ids.len()];
    let pass = pass(model, inference_adapters(model), &attention, &positions, &seq_starts);
    let (_, mut x, _) = embed_ids(model, ids)?;
    for (block, cache) in model.blocks.iter().zip(caches) {
        x = block::forward(&pass, block, &x, Some(cache))?.0;
        signal.block()?;
    }
    let last = x.narrow(0, ids.len() - 1, 1)?.contiguous()?;
    let (last, _) = norm_forward(pass.ctx, pass.spec.norm, &model.final_norm, &last, DType::F32)?;
    head_loss::logits(pass.ctx, &last, &model.head.weight)
}

fn inference_adapters(model: &Model) -> Adapters {
    if model.adapter_enabled { Adapters::On } else { Adapters::Off }
}

fn embed_ids(model: &Model, ids: &[u32]) -> Result<(Tensor, Tensor, Option<NormSaved>)> {
    let norm = model.embedding_norm.as_ref();
    embed(&model.ctx, &model.spec, &model.embedding.weight, norm, ids)
}

/// The embedding's rows, scaled, before and after the embedding's norm.
pub(crate) fn embed(
    ctx: &Ctx,
    spec: &DecoderSpec,
    table: &Weight,
    norm: Option<&NormModule>,
    ids: &[u32],
) -> Result<(Tensor, Tensor, Option<NormSaved>)> {
    let e = embedding::forward(ctx, table, ids)?;
    if spec.embedding_scale != 1.0 {
        elementwise::scale(ctx, &e, spec.embedding_scale)?;
    }
    match norm {
        None => Ok((e.clone(), e, None)),
        Some(norm) => {
            let (x, saved) = norm_forward(ctx, spec.norm, norm, &e, DType::F32)?;
            Ok((e, x, Some(saved)))
        }
    }
}

pub(crate) fn attention_spec(spec: &DecoderSpec) -> AttentionSpec {
    AttentionSpec {
        n_heads: spec.n_heads,
        n_kv_heads: spec.n_kv_heads,
        head_dim: spec.head_dim,
        scale: spec.attention_scale,
        alibi_slopes: match &spec.positions {
            Positions::Alibi { slopes } => Some(slopes.clone()),
            Positions::Rope { .. } => None,
        },
        sliding_window: spec.sliding_window,
    }
}

pub(crate) fn pass<'a>(
    model: &'a Model,
    adapters: Adapters,
    attention: &'a AttentionSpec,
    positions: &'a [u32],
    seq_starts: &'a [usize],
) -> Pass<'a> {
    let rope = model.current_rope();
    Pass { ctx: &model.ctx, spec: &model.spec, adapters, attention, rope, positions, seq_starts }
}
