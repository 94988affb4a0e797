//! Dropout whose mask is a function of where and when it is used, so that backward and a block that is
//! computed again make the same mask.
//!
//! ```text
//! y = mask · x / (1 − p)          dx = mask · dy / (1 − p)
//! ```
//! The mask's random numbers are ChaCha8's key stream under a key made of [`DropKey`].
//! Shapes: x, y any, of one shape.

use super::refuse;
use crate::ctx::{Ctx, read, with_element};
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
    /// Which pass of the step.
    pub pass: u32,
}

impl DropKey {
    /// The 256 bits of the ChaCha key; different keys never share a stream.
    fn words(self) -> [u32; 8] {
        let DropKey { seed, step, layer, module, pass } = self;
        let halves = |x: u64| [x as u32, (x >> 32) as u32];
        let ([a, b], [c, d]) = (halves(seed), halves(step));
        [a, b, c, d, layer, module, pass, u32::from_le_bytes(*b"drop")]
    }
}

/// Returns `y` in f32; the same call on `dy` returns `dx`. Refuses a `p` outside of 0 ≤ p < 1.
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
    let mut y: Vec<f32> = ctx.buffer(x.elem_count());
    with_element!(x.dtype(), |T| read::<T, _>(x, |x| {
        kernels::dropout::drop(ctx.isa, key.words(), p, x, &mut y);
    }))?;
    ctx.tensor(y, x.dims())
}

/// The same, composed of candle's operations; the mask comes from `rand_chacha`.
pub mod reference {
    use super::{Ctx, DropKey, Result, Tensor};
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};
    use std::array::from_fn;

    pub fn drop(ctx: &Ctx, x: &Tensor, p: f32, key: &DropKey) -> Result<Tensor> {
        let mut seed = [0; 32];
        for (bytes, word) in seed.as_chunks_mut::<4>().0.iter_mut().zip(key.words()) {
            *bytes = word.to_le_bytes();
        }
        let mut stream = ChaCha8Rng::from_seed(seed);
        let threshold = (p as f64 * 4_294_967_296.0) as u32;
        let factor = (1.0 / (1.0 - p as f64)) as f32;
        let mut mask = Vec::with_capacity(x.elem_count().next_multiple_of(256));
        while mask.len() < x.elem_count() {
            // 16 blocks of 16 words; the elements take the first words of all blocks first.
            let blocks: [[u32; 16]; 16] = from_fn(|_| from_fn(|_| stream.next_u32()));
            let words = (0..16).flat_map(|word| blocks.iter().map(move |block| block[word]));
            mask.extend(words.map(|word| if word >= threshold { factor } else { 0.0 }));
        }
        mask.truncate(x.elem_count());
        Ok(x.mul(&ctx.tensor(mask, x.dims())?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Precision;
    use crate::testing::tensor;

    const KEY: DropKey = DropKey { seed: 42, step: 7, layer: 3, module: 1, pass: 0 };

    /// The reference takes its numbers from another implementation of ChaCha8.
    #[test]
    fn fused_and_reference_make_the_same_mask() -> Result<()> {
        let ctx = Ctx::cpu(Precision::F32);
        let x = tensor(1, &[130, 257]);
        for p in [0.05, 0.5, 0.999] {
            let fused = drop(&ctx, &x, p, &KEY)?.to_vec2::<f32>()?;
            assert_eq!(fused, reference::drop(&ctx, &x, p, &KEY)?.to_vec2::<f32>()?);
            assert_eq!(fused, drop(&ctx, &x, p, &KEY)?.to_vec2::<f32>()?);
        }
        Ok(())
    }

    #[test]
    fn every_part_of_the_key_changes_the_mask() -> Result<()> {
        let ctx = Ctx::cpu(Precision::F32);
        let ones = ctx.tensor(vec![1.0f32; 256], &[256])?;
        let keys = [
            KEY,
            DropKey { seed: 43, ..KEY },
            DropKey { seed: 42 + (1 << 40), ..KEY },
            DropKey { step: 8, ..KEY },
            DropKey { layer: 4, ..KEY },
            DropKey { module: 2, ..KEY },
            DropKey { pass: 1, ..KEY },
        ];
        let masks: Result<Vec<Vec<f32>>> =
            keys.iter().map(|key| Ok(drop(&ctx, &ones, 0.5, key)?.to_vec1()?)).collect();
        let masks = masks?;
        for (i, a) in masks.iter().enumerate() {
            for b in &masks[..i] {
                let equal = a.iter().zip(b).filter(|(a, b)| a == b).count();
                assert!((80..176).contains(&equal), "{equal} of 256 are equal");
            }
        }
        Ok(())
    }

    #[test]
    fn no_dropout_is_the_identity_and_a_wrong_probability_is_refused() -> Result<()> {
        let ctx = Ctx::cpu(Precision::F32);
        let x = tensor(1, &[3, 5]);
        assert_eq!(drop(&ctx, &x, 0.0, &KEY)?.to_vec2::<f32>()?, x.to_vec2::<f32>()?);
        for p in [1.0, -0.1, f32::NAN] {
            assert!(drop(&ctx, &x, p, &KEY).is_err(), "{p}");
        }
        Ok(())
    }
}
