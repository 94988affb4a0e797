//! One step of AdamW: with f32 moments in the order of operations of torch or of bitsandbytes, or with
//! moments in 8-bit codes. The same in exact arithmetic:
//!
//! ```text
//! p ← p · (1 − lr·weight_decay)
//! m ← β1·m + (1 − β1)·g
//! v ← β2·v + (1 − β2)·g·g
//! p ← p − (lr / (1 − β1^t)) · m / (√v / √(1 − β2^t) + eps)
//! ```
//! Shapes: p, g, m, v of one length.

use super::elementwise::reference::assign;
use super::{read_all, refuse, same_len};
use crate::ctx::{Ctx, write};
use crate::error::Result;
use candle_core::{Device, Tensor};
pub use kernels::adamw::{AdamWStep, BLOCK_SIZE, Moment8, Order};

/// Updates p, m and v in place.
pub fn update(
    ctx: &Ctx,
    order: Order,
    step: &AdamWStep,
    p: &Tensor,
    g: &Tensor,
    [m, v]: [&mut [f32]; 2],
) -> Result<()> {
    let n = same_len("adamw", [p, g])?;
    if (m.len(), v.len()) != (n, n) {
        return refuse("adamw", format!("moments of {} and {} for {n} values", m.len(), v.len()));
    }
    on_host(ctx, p, g, |p, g| kernels::adamw::adamw(ctx.isa, order, step, p, g, [m, v]))
}

/// Updates p and the 8-bit codes of m and v in place.
pub fn update8(
    ctx: &Ctx,
    step: &AdamWStep,
    p: &Tensor,
    g: &Tensor,
    moments: [Moment8; 2],
) -> Result<()> {
    let n = same_len("adamw8", [p, g])?;
    if moments.iter().any(|m| (m.codes.len(), m.absmax.len()) != (n, n.div_ceil(BLOCK_SIZE))) {
        return refuse("adamw8", format!("the moments are not those of {n} values"));
    }
    on_host(ctx, p, g, |p, g| kernels::adamw::adamw8(ctx.isa, step, p, g, moments))
}

/// The state lies on the host, so that is where the step is taken, wherever p and g are.
fn on_host(ctx: &Ctx, p: &Tensor, g: &Tensor, f: impl FnOnce(&mut [f32], &[f32])) -> Result<()> {
    if ctx.is_cpu() {
        return write(p, |p| read_all([g], |[g]| f(p, g)))?;
    }
    let (p_host, g_host) = (p.to_device(&Device::Cpu)?, g.to_device(&Device::Cpu)?);
    write(&p_host, |p| read_all([&g_host], |[g]| f(p, g)))??;
    assign(p, &p_host.to_device(&ctx.device)?)
}

/// The same, composed of candle's operations.
pub mod reference {
    use super::{AdamWStep, Result, Tensor, assign};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Precision;
    use crate::testing::{distance, tensor, to_f64};

    fn step(step: u64) -> AdamWStep {
        AdamWStep {
            lr: 2e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            step,
            grad_scale: 0.25,
        }
    }

    /// The trajectories of the libraries are compared in `bench/golden`.
    #[test]
    fn fused_and_reference_agree() -> Result<()> {
        let ctx = Ctx::cpu(Precision::F32);
        let shape = [40, 9];
        for order in [Order::Torch, Order::BitsAndBytes] {
            let (p, mut m, mut v) = (tensor(1, &shape), vec![0.0; 360], vec![0.0; 360]);
            let p64 = to_f64(&p);
            let (m64, v64) = (p64.zeros_like()?, p64.zeros_like()?);
            for t in 1..=5 {
                let g = tensor(10 + t, &shape);
                update(&ctx, order, &step(t), &p, &g, [&mut m, &mut v])?;
                reference::update(&step(t), &p64, &to_f64(&g), &m64, &v64)?;
            }
            let [m, v] = [ctx.tensor(m, &shape)?, ctx.tensor(v, &shape)?];
            for (got, want) in [(&p, &p64), (&m, &m64), (&v, &v64)] {
                assert!(distance(got, want) < 1e-6, "{order:?}: {}", distance(got, want));
            }
        }
        Ok(())
    }

    /// The first step has no state that was rounded: p is that of f32 moments.
    #[test]
    fn eight_bits_take_the_same_first_step() -> Result<()> {
        let ctx = Ctx::cpu(Precision::F32);
        let shape = [40, 9];
        let (p, g) = (tensor(1, &shape), tensor(2, &shape));
        let (mut codes, mut absmax) = ([[0u8; 360]; 2], [[0.0; 2]; 2]);
        let [c1, c2] = &mut codes;
        let [a1, a2] = &mut absmax;
        let moments = [Moment8 { codes: c1, absmax: a1 }, Moment8 { codes: c2, absmax: a2 }];
        let p64 = to_f64(&p);
        let (m64, v64) = (p64.zeros_like()?, p64.zeros_like()?);
        update8(&ctx, &step(1), &p, &g, moments)?;
        reference::update(&step(1), &p64, &to_f64(&g), &m64, &v64)?;
        assert!(distance(&p, &p64) < 1e-6, "{}", distance(&p, &p64));
        let largest = m64.abs()?.flatten_all()?.narrow(0, 0, 256)?.max(0)?.to_scalar::<f64>()?;
        assert!((f64::from(absmax[0][0]) - largest).abs() < 1e-6 * largest);
        Ok(())
    }

    #[test]
    fn moments_of_another_length_are_refused() {
        let ctx = Ctx::cpu(Precision::F32);
        let (p, g) = (tensor(1, &[8]), tensor(2, &[8]));
        let (mut seven, mut eight) = (vec![0.0; 7], vec![0.0; 8]);
        let wrong = [&mut seven[..], &mut eight[..]];
        assert!(update(&ctx, Order::Torch, &step(1), &p, &g, wrong).is_err());
        let (mut codes, mut absmax) = ([[0u8; 8]; 2], [vec![0.0; 1], vec![0.0; 2]]);
        let [c1, c2] = &mut codes;
        let [a1, a2] = &mut absmax;
        let wrong = [Moment8 { codes: c1, absmax: a1 }, Moment8 { codes: c2, absmax: a2 }];
        assert!(update8(&ctx, &step(1), &p, &g, wrong).is_err());
    }
}
