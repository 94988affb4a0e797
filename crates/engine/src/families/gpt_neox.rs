//! GPT-NeoX and Pythia: rotary positions on a part of each head, attention and MLP side by side, q, k
//! and v interleaved per head (Transformers' `modeling_gpt_neox.py`).

use super::config::{Config, invalid};
use super::{ConfigError, Family, Renamed};
use crate::spec::*;
use serde_json::Value;

pub(super) const FAMILY: Family = Family {
    model_types: &["gpt_neox"],
    spec,
    module,
    default_targets: &["query_key_value"],
    base_prefix: "gpt_neox.",
    renamed: &[Renamed { stored: "embed_out.", module: "lm_head." }],
    refused_tensors: &[],
};

fn spec(config: &Value) -> Result<DecoderSpec, ConfigError> {
    let config = Config(config);
    let hidden_size = config.size(&["hidden_size"])?;
    let n_heads = config.size(&["num_attention_heads"])?;
    let head_dim = config.head_dim("hidden_size", hidden_size, n_heads)?;
    let max_positions = config.optional_size(&["max_position_embeddings"])?.unwrap_or(2048);
    let (theta, scaling) = config.rope(max_positions)?;
    let residual = match config.bool_or("use_parallel_residual", true)? {
        true => Residual::ParallelTwoNorms,
        false => Residual::Sequential,
    };
    let attention_bias = config.bool_or("attention_bias", true)?;
    Ok(DecoderSpec {
        model_type: "gpt_neox".into(),
        vocab_size: config.size(&["vocab_size"])?,
        hidden_size,
        intermediate_size: config.size(&["intermediate_size"])?,
        n_layers: config.size(&["num_hidden_layers"])?,
        n_heads,
        n_kv_heads: n_heads,
        head_dim,
        norm: Norm::Layer { eps: config.number_or("layer_norm_eps", 1e-5)? as f32, bias: true },
        embedding_norm: false,
        embedding_scale: 1.0,
        positions: Positions::Rope { rotary_dim: rotary_dim(&config, head_dim)?, theta, scaling },
        residual,
        qkv: QkvLayout::FusedPerHead,
        attention_scale: (head_dim as f32).powf(-0.5),
        clip_qkv: None,
        sliding_window: None,
        qk_norm: false,
        mlp: Mlp::Plain(config.activation("hidden_act", "gelu")?),
        biases: Biases { qkv: attention_bias, o: attention_bias, mlp: true, head: false },
        tied_head: config.bool_or("tie_word_embeddings", false)?,
        max_positions,
    })
}

/// `partial_rotary_factor` among the rotary parameters, or the old `rotary_pct`, of the head's size.
fn rotary_dim(config: &Config, head_dim: usize) -> Result<usize, ConfigError> {
    let old = config.number_or("rotary_pct", 0.25)?;
    let factor = match config.get("rope_parameters") {
        Some(parameters) => Config(parameters).number_or("partial_rotary_factor", old)?,
        None => old,
    };
    let dim = (factor * head_dim as f64) as usize;
    if (1..=head_dim).contains(&dim) && dim.is_multiple_of(2) {
        return Ok(dim);
    }
    let expected = format!("a share of the head's {head_dim} values that is even");
    Err(invalid("partial_rotary_factor", &Value::from(factor), &expected))
}

fn module(slot: Slot, layer: usize) -> String {
    let inner = match slot {
        Slot::Embedding => return "gpt_neox.embed_in".into(),
        Slot::FinalNorm => return "gpt_neox.final_layer_norm".into(),
        Slot::Head => return "lm_head".into(),
        Slot::AttentionNorm => "input_layernorm",
        Slot::Qkv => "attention.query_key_value",
        Slot::O => "attention.dense",
        Slot::MlpNorm => "post_attention_layernorm",
        Slot::Up => "mlp.dense_h_to_4h",
        Slot::Down => "mlp.dense_4h_to_h",
        absent => unreachable!("GPT-NeoX has no {absent:?}"),
    };
    format!("gpt_neox.layers.{layer}.{inner}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The keys of EleutherAI/pythia-70m.
    fn pythia() -> Value {
        json!({
            "hidden_act": "gelu", "hidden_size": 512, "intermediate_size": 2048,
            "layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "model_type": "gpt_neox",
            "num_attention_heads": 8, "num_hidden_layers": 6, "rotary_emb_base": 10000,
            "rotary_pct": 0.25, "tie_word_embeddings": false, "use_parallel_residual": true,
            "vocab_size": 50304
        })
    }

    #[test]
    fn old_and_new_rotary_keys_give_the_same_decoder() {
        let mut new = pythia();
        let keys = new.as_object_mut().unwrap();
        keys.remove("rotary_pct");
        keys.remove("rotary_emb_base");
        new["rope_parameters"] =
            json!({ "rope_type": "default", "rope_theta": 20000.0, "partial_rotary_factor": 0.5 });
        let mut old = pythia();
        old["rotary_pct"] = 0.5.into();
        old["rotary_emb_base"] = 20000.into();
        assert_eq!(spec(&old).unwrap(), spec(&new).unwrap());
        let Positions::Rope { rotary_dim, theta, .. } = spec(&new).unwrap().positions else {
            panic!("no rotary positions");
        };
        assert_eq!((rotary_dim, theta), (32, 20000.0));
    }

    #[test]
    fn pythia_70m_has_70_426_624_parameters() {
        assert_eq!(spec(&pythia()).unwrap().n_params(), 70_426_624);
    }

    #[test]
    fn a_share_that_is_no_even_size_is_refused() {
        for share in [0.0, 1.5, 0.05] {
            let mut config = pythia();
            config["rotary_pct"] = share.into();
            assert!(spec(&config).is_err(), "{share}");
        }
    }
}
