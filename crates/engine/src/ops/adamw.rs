//! One step of AdamW in f32, in the order of operations of `torch.optim.AdamW`.
//!
//! ```text
//! p ← p · (1 − lr·weight_decay)
//! m ← m + (1 − β1)·(g − m)
//! v ← β2·v + (1 − β2)·g·g
//! p ← p − (lr / (1 − β1^t)) · m / (√v / √(1 − β2^t) + eps)
//! ```
//! Shapes: p, g, m, v of one length.

use super::elementwise::reference::assign;
use super::{read_all, refuse, same_len};
use crate::ctx::{Ctx, write};
use crate::error::Result;
use candle_core::{Device, Tensor};
pub use kernels::adamw::AdamWStep;

/// Updates p, m and v in place. m and v lie on the host, wherever p and g are.
pub fn update(
    ctx: &Ctx,
    step: &AdamWStep,
    p: &Tensor,
    g: &Tensor,
    [m, v]: [&mut [f32]; 2],
) -> Result<()> {
    let n = same_len("adamw", [p, g])?;
    if (m.len(), v.len()) != (n, n) {
        return refuse("adamw", format!("moments of {} and {} for {n} values", m.len(), v.len()));
    }
    if !ctx.is_cpu() {
        let host = Ctx { device: Device::Cpu, ..ctx.clone() };
        let on_host = p.to_device(&host.device)?;
        update(&host, step, &on_host, &g.to_device(&host.device)?, [m, v])?;
        return assign(p, &on_host.to_device(&ctx.device)?);
    }
    write(p, |p| read_all([g], |[g]| kernels::adamw::adamw(ctx.isa, step, p, g, (m, v))))?
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
    use crate::testing::{distance, f64s, shared, tensor, to_f64};
    use candle_core::Device;

    fn step(step: u64) -> AdamWStep {
        AdamWStep {
            lr: 2e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            step,
            grad_scale: 1.0,
        }
    }

    /// Ten steps of `torch.optim.AdamW`: the moments are equal, and the parameters within an ulp a step.
    #[test]
    fn the_trajectory_is_that_of_torch() -> Result<()> {
        let Some(path) = shared("goldens/adamw.safetensors") else {
            return Ok(());
        };
        let golden = candle_core::safetensors::load(path, &Device::Cpu)?;
        let ctx = Ctx::cpu(Precision::F32);
        for name in ["p0", "p1"] {
            let at = |what: &str| golden[&format!("adamw32/{name}/{what}")].clone();
            let p = at("start").copy()?;
            let (mut m, mut v) = (vec![0.0; p.elem_count()], vec![0.0; p.elem_count()]);
            let mut worst = 0.0f64;
            for t in 0..10 {
                let g = at(&format!("grad{t}"));
                update(&ctx, &step(t + 1), &p, &g, [&mut m, &mut v])?;
                let want = f64s(&at(&format!("after{t}")));
                let deviations = f64s(&p).into_iter().zip(want).map(|(a, b)| (a - b).abs());
                worst = deviations.fold(worst, f64::max);
            }
            println!("adamw32/{name}: {worst:e}");
            assert!(worst <= 1e-7, "{name}: {worst:e}");
            let state = |what: &str| at(what).flatten_all()?.to_vec1::<f32>();
            assert_eq!(m, state("state/exp_avg")?, "{name}");
            assert_eq!(v, state("state/exp_avg_sq")?, "{name}");
        }
        Ok(())
    }

    #[test]
    fn fused_and_reference_agree() -> Result<()> {
        let ctx = Ctx::cpu(Precision::F32);
        let shape = [40, 9];
        let (p, mut m, mut v) = (tensor(1, &shape), vec![0.0; 360], vec![0.0; 360]);
        let p64 = to_f64(&p);
        let (m64, v64) = (p64.zeros_like()?, p64.zeros_like()?);
        for t in 1..=5 {
            let step = AdamWStep { grad_scale: 0.25, ..step(t) };
            let g = tensor(10 + t, &shape);
            update(&ctx, &step, &p, &g, [&mut m, &mut v])?;
            reference::update(&step, &p64, &to_f64(&g), &m64, &v64)?;
        }
        let [m, v] = [ctx.tensor(m, &shape)?, ctx.tensor(v, &shape)?];
        for (got, want) in [(&p, &p64), (&m, &m64), (&v, &v64)] {
            assert!(distance(got, want) < 1e-6, "{}", distance(got, want));
        }
        Ok(())
    }
}
