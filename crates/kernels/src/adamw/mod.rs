//! One step of AdamW (Loshchilov & Hutter, 2019), fused with the clipping of gradients: with f32
//! moments in the two orders of operations that there are, and with moments in 8-bit codes.
//!
//! ```text
//! g ← grad_scale · g
//! m ← β1·m + (1 − β1)·g
//! v ← β2·v + (1 − β2)·g·g
//! p ← p · f32(1 − lr·weight_decay)
//! p ← p − (lr / (1 − β1^t)) · m / (√v / √(1 − β2^t) + eps)             torch
//! p ← p − (lr·√(1 − β2^t) / (1 − β1^t)) · m / (√v + eps·√(1 − β2^t))    bitsandbytes, 32 bits
//! ```
//! Factors are computed in f64 and rounded once; the last additions of m and v are fused with their
//! products, as in PyTorch's loops on a CPU, and so m and v are the same bits as there. p is within an
//! ulp of it: PyTorch's square root is not correctly rounded.
//! Shapes: p, g, m, v of one length.

mod eight_bit;
#[cfg(target_arch = "x86_64")]
mod lines;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod vbmi;

pub use eight_bit::{BLOCK_SIZE, Moment8, adamw8};

use crate::Isa;
use crate::blocks::ELEMENTS;
use crate::simd::shells;
use rayon::prelude::*;

/// The numbers of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    /// Counted from 1.
    pub step: u64,
    /// What clipping multiplies every gradient by, 1 where it doesn't.
    pub grad_scale: f32,
}

/// Whose order of operations f32 moments are updated in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `torch.optim.AdamW`: m is written `m + (1 − β1)·(g − m)`.
    Torch,
    /// bitsandbytes' AdamW with 32 bits, which its 8-bit AdamW uses for small tensors too.
    BitsAndBytes,
}

/// Updates p, m and v by the gradient g.
pub fn adamw(
    isa: Isa,
    order: Order,
    step: &AdamWStep,
    p: &mut [f32],
    g: &[f32],
    [m, v]: [&mut [f32]; 2],
) {
    assert!(
        g.len() == p.len() && m.len() == p.len() && v.len() == p.len(),
        "adamw: lengths differ"
    );
    let factors = Factors::new(step);
    p.par_chunks_mut(ELEMENTS)
        .zip(g.par_chunks(ELEMENTS))
        .zip(m.par_chunks_mut(ELEMENTS).zip(v.par_chunks_mut(ELEMENTS)))
        .for_each(|((p, g), (m, v))| match order {
            Order::Torch => torch_block(isa, factors, p, g, m, v),
            Order::BitsAndBytes => bitsandbytes_block(isa, factors, p, g, m, v),
        });
}

/// The factors of a step, rounded to f32.
#[derive(Clone, Copy)]
struct Factors {
    grad_scale: f32,
    decay: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    /// `lr / (1 − β1^t)`.
    step_size: f32,
    /// `√(1 − β2^t)`.
    root_correction: f32,
    eps: f32,
    /// The same two for the other order: `lr·√(1 − β2^t) / (1 − β1^t)` and `eps·√(1 − β2^t)`.
    corrected_step_size: f32,
    corrected_eps: f32,
}

impl Factors {
    fn new(step: &AdamWStep) -> Factors {
        let t = step.step as f64;
        let correction = 1.0 - step.beta1.powf(t);
        let root_correction = (1.0 - step.beta2.powf(t)).sqrt();
        Factors {
            grad_scale: step.grad_scale,
            decay: (1.0 - step.lr * step.weight_decay) as f32,
            beta1: step.beta1 as f32,
            one_minus_beta1: (1.0 - step.beta1) as f32,
            beta2: step.beta2 as f32,
            one_minus_beta2: (1.0 - step.beta2) as f32,
            step_size: (step.lr / correction) as f32,
            root_correction: root_correction as f32,
            eps: step.eps as f32,
            corrected_step_size: (step.lr * root_correction / correction) as f32,
            corrected_eps: (step.eps * root_correction) as f32,
        }
    }

    /// `β1·m + (1 − β1)·g`.
    #[inline(always)]
    fn mean(&self, m: f32, g: f32) -> f32 {
        self.one_minus_beta1.mul_add(g, self.beta1 * m)
    }

    /// `β2·v + (1 − β2)·g·g`.
    #[inline(always)]
    fn square(&self, v: f32, g: f32) -> f32 {
        (self.one_minus_beta2 * g).mul_add(g, self.beta2 * v)
    }

    /// p after torch's order.
    #[inline(always)]
    fn torch(&self, p: f32, m: f32, v: f32) -> f32 {
        p * self.decay - self.step_size * m / (v.sqrt() / self.root_correction + self.eps)
    }
}

shells! {
    fn torch_block(factors: Factors, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) = torch_body;
    fn bitsandbytes_block(factors: Factors, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) = bitsandbytes_body;
}

#[inline(always)]
fn torch_body(f: Factors, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        let g = g * f.grad_scale;
        *m = f.one_minus_beta1.mul_add(g - *m, *m);
        *v = f.square(*v, g);
        *p = f.torch(*p, *m, *v);
    }
}

#[inline(always)]
fn bitsandbytes_body(f: Factors, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        let g = g * f.grad_scale;
        *m = f.mean(*m, g);
        *v = f.square(*v, g);
        let change = *m / (v.sqrt() + f.corrected_eps);
        *p = (-f.corrected_step_size).mul_add(change, *p * f.decay);
    }
}
