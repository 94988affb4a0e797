//! One step of AdamW (Loshchilov & Hutter, 2019) in f32, in the order of operations of
//! `torch.optim.AdamW`.
//!
//! ```text
//! p ← p · f32(1 − lr·weight_decay)
//! m ← m + (1 − β1)·(g − m)
//! v ← β2·v + (1 − β2)·g·g
//! p ← p − (lr / (1 − β1^t)) · m / (√v / √(1 − β2^t) + eps)
//! ```
//! The factors are computed in f64 and rounded once; the last additions of m and v are fused with
//! their products, as in PyTorch's loops on a CPU, and so m and v are the same bits as there. p is
//! within an ulp of it: PyTorch's square root is not correctly rounded.
//! Shapes: p, g, m, v of one length.

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

/// Updates p, m and v by the gradient g.
pub fn adamw(
    isa: Isa,
    step: &AdamWStep,
    p: &mut [f32],
    g: &[f32],
    (m, v): (&mut [f32], &mut [f32]),
) {
    assert!(
        g.len() == p.len() && m.len() == p.len() && v.len() == p.len(),
        "adamw: lengths differ"
    );
    let factors = Factors::new(step);
    p.par_chunks_mut(ELEMENTS)
        .zip(g.par_chunks(ELEMENTS))
        .zip(m.par_chunks_mut(ELEMENTS).zip(v.par_chunks_mut(ELEMENTS)))
        .for_each(|((p, g), (m, v))| adamw_block(isa, factors, p, g, m, v));
}

/// The factors of a step, rounded to f32.
#[derive(Clone, Copy)]
struct Factors {
    grad_scale: f32,
    decay: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    step_size: f32,
    root_correction: f32,
    eps: f32,
}

impl Factors {
    fn new(step: &AdamWStep) -> Factors {
        let t = step.step as f64;
        Factors {
            grad_scale: step.grad_scale,
            decay: (1.0 - step.lr * step.weight_decay) as f32,
            one_minus_beta1: (1.0 - step.beta1) as f32,
            beta2: step.beta2 as f32,
            one_minus_beta2: (1.0 - step.beta2) as f32,
            step_size: (step.lr / (1.0 - step.beta1.powf(t))) as f32,
            root_correction: (1.0 - step.beta2.powf(t)).sqrt() as f32,
            eps: step.eps as f32,
        }
    }
}

shells! {
    fn adamw_block(factors: Factors, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) = adamw_body;
}

#[inline(always)]
fn adamw_body(factors: Factors, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    let f = factors;
    for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        let g = g * f.grad_scale;
        *m = f.one_minus_beta1.mul_add(g - *m, *m);
        *v = (f.one_minus_beta2 * g).mul_add(g, f.beta2 * *v);
        *p = *p * f.decay - f.step_size * *m / (v.sqrt() / f.root_correction + f.eps);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{same_bits, values};

    #[test]
    fn the_same_bits_on_every_set_and_for_any_number_of_threads() {
        for n in [0, 1, 31, 3 * ELEMENTS + 7] {
            let (p, g) = (values(1, n), values(2, n));
            same_bits(|isa| {
                let (mut p, mut m, mut v) = (p.clone(), vec![0.0; n], vec![0.0; n]);
                for step in 1..=3 {
                    let step = AdamWStep {
                        lr: 1e-3,
                        beta1: 0.9,
                        beta2: 0.999,
                        eps: 1e-8,
                        weight_decay: 0.01,
                        step,
                        grad_scale: 0.5,
                    };
                    adamw(isa, &step, &mut p, &g, (&mut m, &mut v));
                }
                [p, m, v].concat()
            });
        }
    }
}
