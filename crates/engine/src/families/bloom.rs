//! BLOOM: ALiBi, a norm after the embedding, q, k and v interleaved per head
//! (Transformers' `modeling_bloom.py`).

use super::config::Config;
use super::{ConfigError, Family, alibi};
use crate::spec::*;
use serde_json::Value;

pub(super) const FAMILY: Family = Family {
    model_types: &["bloom"],
    spec,
    module,
    default_targets: &["query_key_value"],
    base_prefix: "transformer.",
    renamed: &[],
    refused_tensors: &[],
};

fn spec(config: &Value) -> Result<DecoderSpec, ConfigError> {
    let config = Config(config);
    // Transformers, too, prefers the old name of the width where there are both.
    let hidden_size = config.size(&["n_embed", "hidden_size"])?;
    let n_heads = config.size(&["n_head", "num_attention_heads"])?;
    let head_dim = config.head_dim("hidden_size", hidden_size, n_heads)?;
    config.refuse_true("apply_residual_connection_post_layernorm")?;
    Ok(DecoderSpec {
        model_type: "bloom".into(),
        vocab_size: config.size(&["vocab_size"])?,
        hidden_size,
        intermediate_size: 4 * hidden_size,
        n_layers: config.size(&["n_layer", "num_hidden_layers"])?,
        n_heads,
        n_kv_heads: n_heads,
        head_dim,
        norm: Norm::Layer { eps: config.number_or("layer_norm_epsilon", 1e-5)? as f32, bias: true },
        embedding_norm: true,
        embedding_scale: 1.0,
        positions: Positions::Alibi { slopes: alibi::bloom_slopes(n_heads) },
        residual: Residual::Sequential,
        qkv: QkvLayout::FusedPerHead,
        attention_scale: (head_dim as f32).powf(-0.5),
        clip_qkv: None,
        sliding_window: None,
        qk_norm: false,
        mlp: Mlp::Plain(Activation::GeluTanh),
        biases: Biases { qkv: true, o: true, mlp: true, head: false },
        tied_head: config.bool_or("tie_word_embeddings", true)?,
        max_positions: config.optional_size(&["seq_length"])?.unwrap_or(2048),
    })
}

/// The tensor names, which Falcon shares.
pub(super) fn module(slot: Slot, layer: usize) -> String {
    let inner = match slot {
        Slot::Embedding => return "transformer.word_embeddings".into(),
        Slot::EmbeddingNorm => return "transformer.word_embeddings_layernorm".into(),
        Slot::FinalNorm => return "transformer.ln_f".into(),
        Slot::Head => return "lm_head".into(),
        Slot::AttentionNorm => "input_layernorm",
        Slot::Qkv => "self_attention.query_key_value",
        Slot::O => "self_attention.dense",
        Slot::MlpNorm => "post_attention_layernorm",
        Slot::Up => "mlp.dense_h_to_4h",
        Slot::Down => "mlp.dense_4h_to_h",
        absent => unreachable!("neither BLOOM nor Falcon has {absent:?}"),
    };
    format!("transformer.h.{layer}.{inner}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The keys of bigscience/bloom-7b1.
    fn published() -> Value {
        json!({
            "apply_residual_connection_post_layernorm": false, "attention_dropout": 0.0,
            "attention_softmax_in_fp32": true, "bias_dropout_fusion": true,
            "hidden_dropout": 0.0, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05,
            "masked_softmax_fusion": true, "model_type": "bloom", "n_embed": 4096, "n_inner": null,
            "n_layer": 30, "num_attention_heads": 32, "offset_alibi": 100, "pretraining_tp": 4,
            "seq_length": 2048, "skip_bias_add": true, "skip_bias_add_qkv": false,
            "unk_token_id": 0, "vocab_size": 250880
        })
    }

    #[test]
    fn old_and_new_keys_give_the_same_decoder() {
        let new = json!({
            "model_type": "bloom", "hidden_size": 4096, "n_head": 32, "num_hidden_layers": 30,
            "vocab_size": 250880, "tie_word_embeddings": true
        });
        assert_eq!(spec(&published()).unwrap(), spec(&new).unwrap());
    }

    #[test]
    fn the_german_model_has_6_247_456_768_parameters() {
        let mut config = published();
        config["vocab_size"] = 50_304.into();
        assert_eq!(spec(&config).unwrap().n_params(), 6_247_456_768);
    }

    #[test]
    fn a_residual_after_the_norm_is_refused_by_name() {
        let mut config = published();
        config["apply_residual_connection_post_layernorm"] = true.into();
        let error = spec(&config).unwrap_err();
        assert!(matches!(error, ConfigError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("apply_residual_connection_post_layernorm"), "{error}");
    }

    #[test]
    fn heads_must_divide_the_width() {
        let mut config = published();
        config["num_attention_heads"] = 33.into();
        assert!(spec(&config).unwrap_err().to_string().contains("hidden_size"));
    }
}
