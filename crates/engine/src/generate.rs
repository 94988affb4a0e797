//! Greedy and sampled continuation with a cache of keys and values, with or without the adapter.
//!
//! The order of the filters is that of Transformers' `generate`: repetition penalty, temperature,
//! top-k, top-p.

use crate::Result;
use crate::ctx::{Ctx, read};
use crate::decoder;
use crate::model::Model;
use crate::signal::Signal;
use candle_core::Tensor;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::Deserialize;

/// Keys and values of one layer, with room for `capacity` tokens. Shapes: `[capacity, K·D]`.
pub struct LayerCache {
    k: Tensor,
    v: Tensor,
    len: usize,
}

impl LayerCache {
    pub fn new(ctx: &Ctx, capacity: usize, width: usize) -> Result<LayerCache> {
        let (k, v) = (ctx.zeros(&[capacity, width])?, ctx.zeros(&[capacity, width])?);
        Ok(LayerCache { k, v, len: 0 })
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn capacity(&self) -> usize {
        self.k.dims()[0]
    }

    /// Appends the rows and returns views of everything that is cached.
    pub fn extended(&mut self, k: &Tensor, v: &Tensor) -> Result<(Tensor, Tensor)> {
        self.k.slice_set(k, 0, self.len)?;
        self.v.slice_set(v, 0, self.len)?;
        self.len += k.dim(0)?;
        Ok((self.k.narrow(0, 0, self.len)?, self.v.narrow(0, 0, self.len)?))
    }
}

/// Transformers' `GenerationConfig`, as far as it is used here. A `top_k` of 0 and a `top_p` of 1
/// keep every token.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GenerateOptions {
    pub max_new_tokens: usize,
    #[serde(default)]
    pub do_sample: bool,
    #[serde(default = "one")]
    pub temperature: f32,
    #[serde(default)]
    pub top_k: usize,
    #[serde(default = "one")]
    pub top_p: f32,
    #[serde(default = "one")]
    pub repetition_penalty: f32,
    #[serde(default)]
    pub seed: u64,
    #[serde(default)]
    pub eos_ids: Vec<u32>,
    #[serde(default = "yes")]
    pub adapter_enabled: bool,
}

fn one() -> f32 {
    1.0
}

fn yes() -> bool {
    true
}

/// Returns the new ids, the end token last where one came. `prompt` is not empty.
pub fn generate(
    model: &mut Model,
    prompt: &[u32],
    options: &GenerateOptions,
    signal: &Signal,
) -> Result<Vec<u32>> {
    let capacity = prompt.len() + options.max_new_tokens;
    let width = model.spec.n_kv_heads * model.spec.head_dim;
    let mut caches = (0..model.spec.n_layers)
        .map(|_| LayerCache::new(&model.ctx, capacity, width))
        .collect::<Result<Vec<_>>>()?;
    signal.begin((options.max_new_tokens * model.spec.n_layers) as u64);
    let enabled = std::mem::replace(&mut model.adapter_enabled, options.adapter_enabled);
    let result = continue_from(model, prompt, options, &mut caches, signal);
    model.adapter_enabled = enabled;
    result
}

fn continue_from(
    model: &mut Model,
    prompt: &[u32],
    options: &GenerateOptions,
    caches: &mut [LayerCache],
    signal: &Signal,
) -> Result<Vec<u32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut seen = prompt.to_vec();
    let mut next = prompt.to_vec();
    while seen.len() - prompt.len() < options.max_new_tokens {
        let logits = decoder::next_logits(model, &next, caches, signal)?
            .to_device(&candle_core::Device::Cpu)?;
        let mut logits = read::<f32, _>(&logits, <[f32]>::to_vec)?;
        penalise(&mut logits, &seen, options.repetition_penalty);
        let id =
            if options.do_sample { sample(&logits, options, &mut rng) } else { argmax(&logits) };
        seen.push(id);
        next = vec![id];
        if options.eos_ids.contains(&id) {
            break;
        }
    }
    Ok(seen.split_off(prompt.len()))
}

/// The first of the largest, as torch's argmax.
fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, v) in logits.iter().enumerate() {
        if *v > logits[best] {
            best = i;
        }
    }
    best as u32
}

/// Keskar et al., 2019: seen tokens' logits are divided by the penalty, or multiplied where negative.
fn penalise(logits: &mut [f32], seen: &[u32], penalty: f32) {
    if penalty == 1.0 {
        return;
    }
    let unique: std::collections::BTreeSet<u32> = seen.iter().copied().collect();
    for id in unique {
        if let Some(v) = logits.get_mut(id as usize) {
            *v = if *v < 0.0 { *v * penalty } else { *v / penalty };
        }
    }
}

/// Draws from the softmax of what top-k and top-p leave, largest first.
fn sample(logits: &[f32], options: &GenerateOptions, rng: &mut ChaCha8Rng) -> u32 {
    let temperature = f64::from(options.temperature.max(1e-6));
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
    if options.top_k > 0 {
        order.truncate(options.top_k);
    }
    let top = f64::from(logits[order[0] as usize]);
    let weights: Vec<f64> = order
        .iter()
        .map(|&id| ((f64::from(logits[id as usize]) - top) / temperature).exp())
        .collect();
    let total: f64 = weights.iter().sum();
    // A token stays while the mass before it is below top_p.
    let mut mass = 0.0;
    let kept = weights.iter().take_while(|&&w| {
        let stays = mass < f64::from(options.top_p) * total;
        mass += w;
        stays
    });
    let kept: Vec<f64> = kept.copied().collect();
    let uniform = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let mut left = uniform * kept.iter().sum::<f64>();
    for (&id, &w) in order.iter().zip(&kept) {
        left -= w;
        if left < 0.0 {
            return id;
        }
    }
    order[kept.len().saturating_sub(1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(top_k: usize, top_p: f32) -> GenerateOptions {
        let json = format!(r#"{{"maxNewTokens":1,"doSample":true,"topK":{top_k},"topP":{top_p}}}"#);
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn filters_keep_the_most_likely() {
        let logits = [0.0, 3.0, 2.9, -1.0];
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut draw = |o: &GenerateOptions| {
            (0..200).map(|_| sample(&logits, o, &mut rng)).collect::<Vec<_>>()
        };
        assert!(draw(&options(1, 1.0)).iter().all(|&id| id == 1));
        assert!(draw(&options(0, 0.3)).iter().all(|&id| id == 1));
        let two = draw(&options(2, 1.0));
        assert!(two.iter().all(|&id| id == 1 || id == 2) && two.contains(&2));
        assert!(draw(&options(0, 1.0)).contains(&0));
    }

    #[test]
    fn sampling_follows_the_softmax() {
        let logits = [1.0f32, 0.0];
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let hits = (0..20_000).filter(|_| sample(&logits, &options(0, 1.0), &mut rng) == 0).count();
        let p = 1.0 / (1.0 + (-1.0f64).exp());
        assert!((hits as f64 / 20_000.0 - p).abs() < 0.01, "{hits}");
    }

    #[test]
    fn the_penalty_lowers_what_was_seen() {
        let mut logits = [2.0, -2.0, 1.0];
        penalise(&mut logits, &[0, 1, 0], 2.0);
        assert_eq!(logits, [1.0, -4.0, 1.0]);
        assert_eq!(argmax(&[1.0, 5.0, 5.0]), 1);
    }
}
