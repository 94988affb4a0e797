//! Qwen3: Llama with an RMS norm over each head of q and k (Transformers' `modeling_qwen3.py`).

use super::{ConfigError, Family, llama, qwen2};
use crate::spec::*;
use serde_json::Value;

pub(super) const FAMILY: Family = Family { model_types: &["qwen3"], spec, ..llama::FAMILY };

fn spec(config: &Value) -> Result<DecoderSpec, ConfigError> {
    let spec = llama::spec(config)?;
    let sliding_window = qwen2::sliding_window(config, spec.n_layers)?;
    Ok(DecoderSpec { qk_norm: true, sliding_window, ..spec })
}
