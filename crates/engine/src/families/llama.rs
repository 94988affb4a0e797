//! Llama: RMS norm, rotary positions, grouped-query attention, gated SiLU
//! (Transformers' `modeling_llama.py`).

use super::config::{Config, invalid};
use super::{ConfigError, Family};
use crate::spec::*;
use serde_json::Value;

pub(super) const FAMILY: Family = Family {
    model_types: &["llama"],
    spec,
    module,
    default_targets: &["q_proj", "v_proj"],
    base_prefix: "model.",
    renamed: &[],
    refused_tensors: &[],
};

/// Also the start of the families that differ from Llama in a few values.
pub(super) fn spec(config: &Value) -> Result<DecoderSpec, ConfigError> {
    let config = Config(config);
    let hidden_size = config.size(&["hidden_size"])?;
    let n_heads = config.size(&["num_attention_heads"])?;
    let n_kv_heads = config.optional_size(&["num_key_value_heads"])?.unwrap_or(n_heads);
    if n_heads % n_kv_heads != 0 {
        let expected = format!("a divisor of num_attention_heads ({n_heads})");
        return Err(invalid("num_key_value_heads", &Value::from(n_kv_heads), &expected));
    }
    let head_dim = match config.optional_size(&["head_dim"])? {
        Some(d) => d,
        None => config.head_dim("hidden_size", hidden_size, n_heads)?,
    };
    if head_dim % 2 != 0 {
        return Err(invalid("head_dim", &Value::from(head_dim), "an even number"));
    }
    let max_positions = config.optional_size(&["max_position_embeddings"])?.unwrap_or(2048);
    let (theta, scaling) = config.rope(max_positions)?;
    let attention_bias = config.bool_or("attention_bias", false)?;
    Ok(DecoderSpec {
        model_type: config.string_or("model_type", "llama")?.into(),
        vocab_size: config.size(&["vocab_size"])?,
        hidden_size,
        intermediate_size: config.size(&["intermediate_size"])?,
        n_layers: config.size(&["num_hidden_layers"])?,
        n_heads,
        n_kv_heads,
        head_dim,
        norm: Norm::Rms { eps: config.number_or("rms_norm_eps", 1e-6)? as f32, one_plus: false },
        embedding_norm: false,
        embedding_scale: 1.0,
        positions: Positions::Rope { rotary_dim: head_dim, theta, scaling },
        residual: Residual::Sequential,
        qkv: QkvLayout::Separate,
        attention_scale: (head_dim as f32).powf(-0.5),
        clip_qkv: None,
        sliding_window: None,
        qk_norm: false,
        mlp: Mlp::Gated(config.activation("hidden_act", "silu")?),
        biases: Biases {
            qkv: attention_bias,
            o: attention_bias,
            mlp: config.bool_or("mlp_bias", false)?,
            head: false,
        },
        tied_head: config.bool_or("tie_word_embeddings", false)?,
        max_positions,
    })
}

fn module(slot: Slot, layer: usize) -> String {
    let inner = match slot {
        Slot::Embedding => return "model.embed_tokens".into(),
        Slot::FinalNorm => return "model.norm".into(),
        Slot::Head => return "lm_head".into(),
        Slot::AttentionNorm => "input_layernorm",
        Slot::Q => "self_attn.q_proj",
        Slot::K => "self_attn.k_proj",
        Slot::V => "self_attn.v_proj",
        Slot::QNorm => "self_attn.q_norm",
        Slot::KNorm => "self_attn.k_norm",
        Slot::O => "self_attn.o_proj",
        Slot::MlpNorm => "post_attention_layernorm",
        Slot::Gate => "mlp.gate_proj",
        Slot::Up => "mlp.up_proj",
        Slot::Down => "mlp.down_proj",
        absent => unreachable!("a Llama has no {absent:?}"),
    };
    format!("model.layers.{layer}.{inner}")
}
