//! The pass of a norm of either kind.
//!
//! Shapes: x, dx, y, dy `[rows, hidden]`.

use crate::Result;
use crate::ctx::Ctx;
use crate::model::NormModule;
use crate::ops::rms_norm::WeightOffset;
use crate::ops::{layer_norm, rms_norm};
use crate::spec::Norm;
use candle_core::{DType, Tensor};

/// What a norm's backward needs besides its input.
pub enum NormSaved {
    Rms(rms_norm::Saved),
    Layer(layer_norm::Saved),
}

fn offset(one_plus: bool) -> WeightOffset {
    if one_plus { WeightOffset::One } else { WeightOffset::Zero }
}

/// Returns `y` in `dtype`, and what backward needs.
pub fn norm_forward(
    ctx: &Ctx,
    kind: Norm,
    module: &NormModule,
    x: &Tensor,
    dtype: DType,
) -> Result<(Tensor, NormSaved)> {
    match kind {
        Norm::Rms { eps, one_plus } => {
            let how = (eps, offset(one_plus));
            let (y, saved) = rms_norm::forward(ctx, x, &module.weight, how, dtype)?;
            Ok((y, NormSaved::Rms(saved)))
        }
        Norm::Layer { eps, .. } => {
            let wb = (&module.weight, module.bias.as_ref());
            let (y, saved) = layer_norm::forward(ctx, x, wb, eps, dtype)?;
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
