//! Gemma: Llama with a scaled embedding, norms by `1 + w`, GELU by tanh and a tied head
//! (Transformers' `modeling_gemma.py`).

use super::config::Config;
use super::{ConfigError, Family, llama};
use crate::spec::*;
use serde_json::Value;

pub(super) const FAMILY: Family = Family { model_types: &["gemma"], spec, ..llama::FAMILY };

fn spec(value: &Value) -> Result<DecoderSpec, ConfigError> {
    let config = Config(value);
    config.refuse_true("use_bidirectional_attention")?;
    let spec = llama::spec(value)?;
    let activation = match config.activation("hidden_act", "gelu_pytorch_tanh")? {
        // The first releases say `gelu` and were trained with tanh; Transformers corrects it too.
        Activation::Gelu => Activation::GeluTanh,
        other => other,
    };
    Ok(DecoderSpec {
        norm: Norm::Rms { eps: config.number_or("rms_norm_eps", 1e-6)? as f32, one_plus: true },
        embedding_scale: (spec.hidden_size as f64).sqrt() as f32,
        mlp: Mlp::Gated(activation),
        tied_head: config.bool_or("tie_word_embeddings", true)?,
        ..spec
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_releases_gelu_is_by_tanh_and_the_head_is_tied() {
        let config = json!({
            "model_type": "gemma", "hidden_act": "gelu", "hidden_size": 64, "head_dim": 32,
            "num_attention_heads": 4, "num_key_value_heads": 1, "intermediate_size": 128,
            "num_hidden_layers": 2, "vocab_size": 128
        });
        let spec = spec(&config).unwrap();
        assert_eq!(spec.mlp, Mlp::Gated(Activation::GeluTanh));
        assert!(spec.tied_head);
        assert_eq!(spec.embedding_scale, 8.0);
    }
}
