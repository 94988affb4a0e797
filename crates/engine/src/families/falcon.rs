//! Falcon: three generations under one `model_type` (Transformers' `modeling_falcon.py`): ALiBi and one
//! key head per query head (rw), one key head for all (7b), groups of heads and two norms (40b).

// Falcon's code began as BLOOM's, and kept its names.
use super::bloom::module;
use super::config::{Config, invalid};
use super::{ConfigError, Family, alibi};
use crate::spec::*;
use half::bf16;
use serde_json::Value;

pub(super) const FAMILY: Family = Family {
    model_types: &["falcon"],
    spec,
    module,
    default_targets: &["query_key_value"],
    base_prefix: "transformer.",
    renamed: &[],
    refused_tensors: &[],
};

/// The names where attention and MLP, side by side, have a norm each.
pub(super) const TWO_NORMS: Family = Family { module: two_norms_module, ..FAMILY };

fn spec(config: &Value) -> Result<DecoderSpec, ConfigError> {
    let config = Config(config);
    let hidden_size = config.size(&["n_embed", "hidden_size"])?;
    let n_heads = config.size(&["num_attention_heads", "n_head"])?;
    let head_dim = config.head_dim("hidden_size", hidden_size, n_heads)?;
    let grouped = config.bool_or("new_decoder_architecture", false)?;
    let (n_kv_heads, qkv) = match (grouped, config.bool_or("multi_query", true)?) {
        (true, _) => (
            config.optional_size(&["num_kv_heads", "n_head_kv"])?.unwrap_or(n_heads),
            QkvLayout::FusedPerGroup,
        ),
        (false, true) => (1, QkvLayout::Fused),
        (false, false) => (n_heads, QkvLayout::FusedPerHead),
    };
    if !n_heads.is_multiple_of(n_kv_heads) {
        let expected = format!("a divisor of num_attention_heads ({n_heads})");
        return Err(invalid("num_kv_heads", &Value::from(n_kv_heads), &expected));
    }
    let norms = config.optional_size(&["num_ln_in_parallel_attn"])?.unwrap_or(2);
    let residual = match (grouped, config.bool_or("parallel_attn", true)?) {
        (true, _) if norms == 2 => Residual::ParallelTwoNorms,
        (true, _) | (false, true) => Residual::ParallelOneNorm,
        (false, false) => Residual::Sequential,
    };
    let max_positions = config.optional_size(&["max_position_embeddings"])?.unwrap_or(2048);
    let bias = config.bool_or("bias", false)?;
    Ok(DecoderSpec {
        model_type: "falcon".into(),
        vocab_size: config.size(&["vocab_size"])?,
        hidden_size,
        intermediate_size: config.optional_size(&["ffn_hidden_size"])?.unwrap_or(4 * hidden_size),
        n_layers: config.size(&["num_hidden_layers", "n_layer"])?,
        n_heads,
        n_kv_heads,
        head_dim,
        norm: Norm::Layer { eps: config.number_or("layer_norm_epsilon", 1e-5)? as f32, bias: true },
        embedding_norm: false,
        embedding_scale: 1.0,
        positions: positions(&config, n_heads, head_dim, max_positions)?,
        residual,
        qkv,
        attention_scale: (head_dim as f32).powf(-0.5),
        clip_qkv: None,
        sliding_window: None,
        qk_norm: false,
        mlp: Mlp::Plain(config.activation("activation", "gelu")?),
        biases: Biases { qkv: bias, o: bias, mlp: bias, head: false },
        tied_head: config.bool_or("tie_word_embeddings", true)?,
        max_positions,
    })
}

/// Falcon's ALiBi is scaled with the scores, and its slopes are bf16. (Transformers rounds the
/// products with the positions too, which loses positions beyond 256; they are exact here.)
fn positions(
    config: &Config,
    n_heads: usize,
    head_dim: usize,
    max_positions: usize,
) -> Result<Positions, ConfigError> {
    if config.bool_or("alibi", false)? {
        let scale = (head_dim as f32).powf(-0.5);
        let scaled = |slope| bf16::from_f32(slope).to_f32() * scale;
        let slopes = alibi::bloom_slopes(n_heads).into_iter().map(scaled).collect();
        return Ok(Positions::Alibi { slopes });
    }
    if !head_dim.is_multiple_of(2) {
        let expected = format!("a multiple of twice the number of heads ({n_heads})");
        return Err(invalid("hidden_size", &Value::from(head_dim * n_heads), &expected));
    }
    let (theta, scaling) = config.rope(max_positions)?;
    Ok(Positions::Rope { rotary_dim: head_dim, theta, scaling })
}

fn two_norms_module(slot: Slot, layer: usize) -> String {
    match slot {
        Slot::AttentionNorm => format!("transformer.h.{layer}.ln_attn"),
        Slot::MlpNorm => format!("transformer.h.{layer}.ln_mlp"),
        same => module(same, layer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(changes: Value) -> Value {
        let mut config = json!({
            "model_type": "falcon", "hidden_size": 64, "num_attention_heads": 4,
            "num_hidden_layers": 2, "vocab_size": 128
        });
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    }

    fn layout(changes: Value) -> (usize, QkvLayout, Residual) {
        let spec = spec(&config(changes)).unwrap();
        (spec.n_kv_heads, spec.qkv, spec.residual)
    }

    #[test]
    fn the_generations_differ_in_heads_norms_and_order() {
        use QkvLayout::*;
        use Residual::*;
        assert_eq!(layout(json!({})), (1, Fused, ParallelOneNorm));
        assert_eq!(
            layout(json!({ "multi_query": false, "parallel_attn": false })),
            (4, FusedPerHead, Sequential)
        );
        let grouped = json!({ "new_decoder_architecture": true, "num_kv_heads": 2 });
        assert_eq!(layout(grouped), (2, FusedPerGroup, ParallelTwoNorms));
        let one_norm = json!({ "new_decoder_architecture": true, "num_ln_in_parallel_attn": 1 });
        assert_eq!(layout(one_norm), (4, FusedPerGroup, ParallelOneNorm));
    }

    #[test]
    fn alibi_is_scaled_and_rounded() {
        let config = config(json!({ "alibi": true, "num_attention_heads": 16 }));
        let Positions::Alibi { slopes } = spec(&config).unwrap().positions else {
            panic!("no ALiBi");
        };
        // 2^(−1/2) in bf16 is 0.70703125; heads of 4 values halve it.
        assert_eq!(slopes[..2], [0.707_031_25 / 2.0, 0.25]);
    }

    #[test]
    fn key_heads_must_divide_the_heads() {
        let wrong = config(json!({ "new_decoder_architecture": true, "num_kv_heads": 3 }));
        assert!(spec(&wrong).unwrap_err().to_string().contains("num_kv_heads"));
    }
}
