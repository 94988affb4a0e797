//! The passes of single modules: a linear with its adapter, a norm of either kind.
//!
//! Shapes: x `[N, I]` · y, dy `[N, O]` · h `[N, r]` (the adapter's inner values).

use crate::Result;
use crate::ctx::Ctx;
use crate::model::{Linear, NormModule};
use crate::ops::dropout::DropKey;
use crate::ops::low_rank::LowRank;
use crate::ops::rms_norm::WeightOffset;
use crate::ops::{dropout, elementwise, layer_norm, linear, lora, rms_norm};
use crate::spec::Norm;
use candle_core::Tensor;

/// What keys the dropout of one micro-batch; layers and modules add theirs.
#[derive(Clone, Copy, Debug)]
pub struct StepKey {
    pub seed: u64,
    pub step: u64,
    pub micro: u32,
}

/// How adapters act in a pass.
#[derive(Clone, Copy, Debug)]
pub enum Adapters {
    Off,
    /// Without dropout: evaluation and generation.
    On,
    Training(StepKey),
}

/// The adapter that acts on `linear` in this pass, with its input after dropout.
fn adapted<'a>(
    ctx: &Ctx,
    linear: &'a Linear,
    x: &Tensor,
    adapters: Adapters,
) -> Result<Option<(lora::Factors<'a>, Tensor, Option<DropKey>)>> {
    let Some(module) = &linear.lora else { return Ok(None) };
    let factors = lora::Factors { a: &module.a, b: &module.b, scale: module.scale };
    match adapters {
        Adapters::Off => Ok(None),
        Adapters::Training(StepKey { seed, step, micro }) if module.dropout > 0.0 => {
            let key = DropKey { seed, step, layer: 0, module: module.index, micro };
            Ok(Some((factors, dropout::drop(ctx, x, module.dropout, &key)?, Some(key))))
        }
        _ => Ok(Some((factors, x.clone(), None))),
    }
}

/// Returns `y`, and `h` where an adapter acts.
pub fn linear_forward(
    ctx: &Ctx,
    module: &Linear,
    x: &Tensor,
    adapters: Adapters,
) -> Result<(Tensor, Option<Tensor>)> {
    let bias = module.bias.as_ref();
    let Some((factors, dropped, key)) = adapted(ctx, module, x, adapters)? else {
        return Ok((linear::forward(ctx, x, &module.weight, bias, None)?, None));
    };
    let h = lora::forward(ctx, &dropped, &factors)?;
    if key.is_some() {
        ctx.recycle([dropped]); // else it is x
    }
    let y = linear::forward(ctx, x, &module.weight, bias, Some(factors.forward_term(&h)))?;
    Ok((y, Some(h)))
}

/// Adds to the module's gradients, and to `dx` where it is wanted (`None` inside: made here).
pub fn linear_backward(
    ctx: &Ctx,
    module: &Linear,
    dy: &Tensor,
    (x, h): (&Tensor, Option<&Tensor>),
    adapters: Adapters,
    dx: Option<&mut Option<Tensor>>,
) -> Result<()> {
    if let Some(dweight) = &module.dweight {
        linear::backward_weight(ctx, dy, x, dweight)?;
    }
    if let Some(dbias) = &module.dbias {
        linear::backward_bias(ctx, dy, dbias)?;
    }
    let adapter = match (&module.lora, h) {
        (Some(trained), Some(h)) => adapted(ctx, module, x, adapters)?.map(|it| (trained, h, it)),
        _ => None,
    };
    let Some((trained, h, (factors, dropped, key))) = adapter else {
        return add_input_gradient(ctx, module, dy, None, dx).map(|_| ());
    };
    let grads = (&trained.da, &trained.db);
    let dh = lora::backward_factors(ctx, dy, (&dropped, h), &factors, grads)?;
    let Some(key) = key else {
        let term = Some(factors.backward_term(&dh));
        add_input_gradient(ctx, module, dy, term, dx)?;
        ctx.recycle([dh]);
        return Ok(());
    };
    ctx.recycle([dropped]);
    let Some(dx) = add_input_gradient(ctx, module, dy, None, dx)? else { return Ok(()) };
    let undropped = lora::backward_input(ctx, &dh, &factors)?;
    let through = dropout::drop(ctx, &undropped, trained.dropout, &key)?;
    ctx.recycle([undropped]);
    elementwise::add_assign(ctx, dx, &through)?;
    ctx.recycle([dh, through]);
    Ok(())
}

/// Adds `dy · w` and the adapter's term to `dx`, which is made here where there is none yet.
fn add_input_gradient<'a>(
    ctx: &Ctx,
    module: &Linear,
    dy: &Tensor,
    term: Option<LowRank>,
    dx: Option<&'a mut Option<Tensor>>,
) -> Result<Option<&'a Tensor>> {
    let Some(slot) = dx else { return Ok(None) };
    match slot {
        Some(dx) => linear::backward_input_add(ctx, dy, &module.weight, term, dx)?,
        None => *slot = Some(linear::backward_input(ctx, dy, &module.weight, term)?),
    }
    Ok(slot.as_ref())
}

/// What a norm's backward needs besides its input.
pub enum NormSaved {
    Rms(rms_norm::Saved),
    Layer(layer_norm::Saved),
}

fn offset(one_plus: bool) -> WeightOffset {
    if one_plus { WeightOffset::One } else { WeightOffset::Zero }
}

pub fn norm_forward(
    ctx: &Ctx,
    kind: Norm,
    module: &NormModule,
    x: &Tensor,
) -> Result<(Tensor, NormSaved)> {
    match kind {
        Norm::Rms { eps, one_plus } => {
            let (y, saved) = rms_norm::forward(ctx, x, &module.weight, eps, offset(one_plus))?;
            Ok((y, NormSaved::Rms(saved)))
        }
        Norm::Layer { eps, .. } => {
            let (y, saved) =
                layer_norm::forward(ctx, x, &module.weight, module.bias.as_ref(), eps)?;
            Ok((y, NormSaved::Layer(saved)))
        }
    }
}

/// Returns `dx`, adds to the module's gradients.
pub fn norm_backward(
    ctx: &Ctx,
    kind: Norm,
    module: &NormModule,
    dy: &Tensor,
    x: &Tensor,
    saved: &NormSaved,
) -> Result<Tensor> {
    let (w, dw, db) = (&module.weight, module.dweight.as_ref(), module.dbias.as_ref());
    match (saved, kind) {
        (NormSaved::Rms(saved), Norm::Rms { one_plus, .. }) => {
            rms_norm::backward(ctx, dy, x, w, saved, offset(one_plus), dw)
        }
        (NormSaved::Layer(saved), _) => layer_norm::backward(ctx, dy, x, w, saved, dw, db),
        (NormSaved::Rms(_), Norm::Layer { .. }) => {
            unreachable!("forward and backward have the same spec")
        }
    }
}
