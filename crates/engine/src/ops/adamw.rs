//! One step of AdamW in f32, in the order of operations of `torch.optim.AdamW`.
//!
//! ```text
//! p ← p · (1 − lr·weight_decay)
//! m ← m + (1 − β1)·(g − m)
//! v ← β2·v + (1 − β2)·g·g
//! p ← p − (lr / (1 − β1^t)) · m / (√v / √(1 − β2^t) + eps)
//! ```
//! Shapes: p, g, m, v of one length.

use super::{read_all, same_len};
use crate::ctx::{Ctx, write};
use crate::error::Result;
use candle_core::Tensor;
pub use kernels::adamw::AdamWStep;

/// Updates p, m and v in place.
pub fn update(
    ctx: &Ctx,
    step: &AdamWStep,
    p: &Tensor,
    g: &Tensor,
    m: &Tensor,
    v: &Tensor,
) -> Result<()> {
    same_len("adamw", [p, g, m, v])?;
    if !ctx.is_cpu() {
        return reference::update(step, p, g, m, v);
    }
    write(p, |p| {
        write(m, |m| {
            write(v, |v| read_all([g], |[g]| kernels::adamw::adamw(ctx.isa, step, p, g, (m, v))))
        })
    })???
}

/// The same, composed of candle's operations.
pub mod reference {
    use super::{AdamWStep, Result, Tensor};
    use crate::ops::elementwise::reference::assign;

    pub fn update(step: &AdamWStep, p: &Tensor, g: &Tensor, m: &Tensor, v: &Tensor) -> Result<()> {
        let t = step.step as f64;
        let g = (g.reshape(p.shape())? * step.grad_scale as f64)?;
        assign(m, &(m + ((&g - m)? * (1.0 - step.beta1))?)?)?;
        assign(v, &((v * step.beta2)? + (g.sqr()? * (1.0 - step.beta2))?)?)?;
        let root = v.sqrt()?.affine((1.0 - step.beta2.powf(t)).sqrt().recip(), step.eps)?;
        let change = (m.div(&root)? * (step.lr / (1.0 - step.beta1.powf(t))))?;
        assign(p, &((p * (1.0 - step.lr * step.weight_decay))? - change)?)
    }
}
