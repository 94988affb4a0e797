//! Dropout whose mask is a function of where and when it is used, so that backward and a block that is
//! computed again make the same mask.
//!
//! ```text
//! y = mask · x / (1 − p)          dx = mask · dy / (1 − p)
//! ```
//! The mask's random numbers are ChaCha8's key stream under a key made of [`DropKey`].
//! Shapes: x, y any, of one shape.

use super::{read_all, refuse};
use crate::ctx::Ctx;
use crate::error::Result;
use candle_core::Tensor;

/// What a mask depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropKey {
    pub seed: u64,
    /// Optimizer step.
    pub step: u64,
    pub layer: u32,
    /// Which of the layer's modules.
    pub module: u32,
    /// Micro-batch of the step.
    pub micro: u32,
}

impl DropKey {
    /// The 256 bits of the ChaCha key; different keys never share a stream.
    fn words(self) -> [u32; 8] {
        let DropKey { seed, step, layer, module, micro } = self;
        let halves = |x: u64| [x as u32, (x >> 32) as u32];
        let ([a, b], [c, d]) = (halves(seed), halves(step));
        [a, b, c, d, layer, module, micro, u32::from_le_bytes(*b"drop")]
    }
}

/// Returns `y`; the same call on `dy` returns `dx`. Refuses a `p` outside of 0 ≤ p < 1.
pub fn drop(ctx: &Ctx, x: &Tensor, p: f32, key: &DropKey) -> Result<Tensor> {
    if !(0.0..1.0).contains(&p) {
        return refuse("dropout", format!("the probability {p} is not in 0 ≤ p < 1"));
    }
    if p == 0.0 {
        return Ok(x.clone());
    }
    if !ctx.is_cpu() {
        return reference::drop(ctx, x, p, key);
    }
    let mut y = vec![0.0; x.elem_count()];
    read_all([x], |[x]| kernels::dropout::drop(ctx.isa, key.words(), p, x, &mut y))?;
    ctx.tensor(y, x.dims())
}

/// The same, composed of candle's operations; the mask comes from `rand_chacha`.
pub mod reference {
    use super::{Ctx, DropKey, Result, Tensor};
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    pub fn drop(ctx: &Ctx, x: &Tensor, p: f32, key: &DropKey) -> Result<Tensor> {
        let mut seed = [0; 32];
        for (bytes, word) in seed.as_chunks_mut::<4>().0.iter_mut().zip(key.words()) {
            *bytes = word.to_le_bytes();
        }
        let mut words = ChaCha8Rng::from_seed(seed);
        let threshold = (p as f64 * 4_294_967_296.0) as u32;
        let factor = (1.0 / (1.0 - p as f64)) as f32;
        let mask: Vec<f32> = (0..x.elem_count())
            .map(|_| if words.next_u32() >= threshold { factor } else { 0.0 })
            .collect();
        Ok(x.mul(&ctx.tensor(mask, x.dims())?)?)
    }
}
