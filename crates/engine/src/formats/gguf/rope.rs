//! The rotary embedding's parameters of a GGUF file, as Hugging Face's `rope_parameters`.
//!
//! Llama 3's scaling has no keys of its own: llama.cpp's converter writes the divisor of each
//! frequency as the tensor `rope_freqs.weight`. Its parameters are found again by computing them:
//!
//! ```text
//! wavelength_i = 2π · theta^(2i/D)
//! divisor_i    = 1                              wavelength < L/high
//!              = factor                         wavelength > L/low
//!              = 1 / ((1 − s)/factor + s)       between; s = (L/wavelength − low)/(high − low)
//! ```

use super::hf::Metadata;
use crate::formats::{FormatError, Result};
use serde_json::{Value, json};

pub(super) const FREQS: &str = "rope_freqs.weight";
/// theta where the file does not say, as in ggml.
const THETA: f64 = 10000.0;
/// Llama 3.1 to 3.3 have these three; the factor is 8 or 32.
const LOW: f64 = 1.0;
const HIGH: f64 = 4.0;
const ORIGINAL: u64 = 8192;

pub(super) fn parameters(metadata: &Metadata, head_dim: u64) -> Result<Value> {
    let theta = metadata.optional_float("rope.freq_base")?.unwrap_or(THETA);
    if let Some(divisors) = divisors(metadata)? {
        return from_divisors(metadata, &divisors, theta, head_dim);
    }
    let kind = metadata.get("rope.scaling.type").and_then(|v| v.as_str()).unwrap_or("none");
    let factor = || metadata.optional_float("rope.scaling.factor");
    match kind {
        "none" => match metadata.optional_float("rope.scale_linear")? {
            // The key of files from before scaling had a type.
            Some(factor) if factor != 1.0 => {
                Ok(json!({"rope_type": "linear", "rope_theta": theta, "factor": factor}))
            }
            _ => Ok(json!({"rope_type": "default", "rope_theta": theta})),
        },
        "linear" => {
            let factor = factor()?
                .ok_or_else(|| metadata.missing("rope.scaling.factor", "a finite number"))?;
            Ok(json!({"rope_type": "linear", "rope_theta": theta, "factor": factor}))
        }
        "yarn" => yarn(metadata, theta),
        other => Err(unknown(metadata, format!("the rotary embedding is scaled by `{other}`"))),
    }
}

fn yarn(metadata: &Metadata, theta: f64) -> Result<Value> {
    // Keys that change the result in a way that has no counterpart in `rope_parameters`.
    for key in [
        "rope.scaling.attn_factor",
        "rope.scaling.yarn_attn_factor",
        "rope.scaling.yarn_log_multiplier",
    ] {
        if metadata.get(key).is_some() {
            return Err(unknown(metadata, format!("YaRN is scaled by `{key}`")));
        }
    }
    let factor = metadata.optional_float("rope.scaling.factor")?;
    let original = metadata.optional_count("rope.scaling.original_context_length")?;
    let (Some(factor), Some(original)) = (factor, original) else {
        return Err(metadata.missing("rope.scaling", "YaRN's factor and original_context_length"));
    };
    let mut rope = json!({
        "rope_type": "yarn",
        "rope_theta": theta,
        "factor": factor,
        "original_max_position_embeddings": original,
    });
    for (hf, key) in [("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")] {
        if let Some(beta) = metadata.optional_float(&format!("rope.scaling.{key}"))? {
            rope[hf] = beta.into();
        }
    }
    Ok(rope)
}

/// The values of `rope_freqs.weight`, if there are any.
fn divisors(metadata: &Metadata) -> Result<Option<Vec<f32>>> {
    let gguf = metadata.gguf;
    match gguf.tensors().iter().find(|tensor| tensor.name == FREQS) {
        Some(tensor) => gguf.values(tensor).map(Some),
        None => Ok(None),
    }
}

fn from_divisors(
    metadata: &Metadata,
    divisors: &[f32],
    theta: f64,
    head_dim: u64,
) -> Result<Value> {
    if divisors.iter().all(|&d| d == 1.0) {
        return Ok(json!({"rope_type": "default", "rope_theta": theta}));
    }
    let factor = divisors.iter().copied().fold(0.0, f32::max);
    let computed = |i: usize| llama3_divisor(theta, head_dim, i, factor.into());
    // The converter computes in f32; the parameters of another model are off by far more.
    let same = |(i, &d): (usize, &f32)| (f64::from(d) - computed(i)).abs() <= 1e-4 * computed(i);
    if divisors.len() as u64 * 2 != head_dim || !divisors.iter().enumerate().all(same) {
        return Err(unknown(
            metadata,
            "rope_freqs.weight holds a scaling other than Llama 3's".into(),
        ));
    }
    Ok(json!({
        "rope_type": "llama3",
        "rope_theta": theta,
        "factor": f64::from(factor),
        "low_freq_factor": LOW,
        "high_freq_factor": HIGH,
        "original_max_position_embeddings": ORIGINAL,
    }))
}

fn llama3_divisor(theta: f64, head_dim: u64, i: usize, factor: f64) -> f64 {
    let wavelength = std::f64::consts::TAU * theta.powf(2.0 * i as f64 / head_dim as f64);
    let original = ORIGINAL as f64;
    if wavelength < original / HIGH {
        1.0
    } else if wavelength > original / LOW {
        factor
    } else {
        let smooth = (original / wavelength - LOW) / (HIGH - LOW);
        1.0 / ((1.0 - smooth) / factor + smooth)
    }
}

fn unknown(metadata: &Metadata, what: String) -> FormatError {
    FormatError::RopeScaling { path: metadata.gguf.file.path.clone(), what }
}
