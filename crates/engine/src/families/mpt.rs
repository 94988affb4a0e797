//! MPT: ALiBi, one projection for q, k and v, optional clamping of its output, mostly without biases.
//! Reads three kinds of config: the original checkpoints' (llm-foundry: nested `attn_config`), the
//! flat one of its forerunner `mosaic_gpt`, and Transformers' (`modeling_mpt.py`).
//!
//! Where Transformers ignores a key that the original code obeys (`alibi_bias_max`, `no_bias`,
//! `expansion_ratio`), the original code counts.

use super::config::{Config, invalid, unsupported};
use super::{ConfigError, Family, RefusedTensor, alibi};
use crate::spec::*;
use serde_json::Value;

pub(super) const FAMILY: Family = Family {
    model_types: &["mpt", "mosaic_gpt"],
    spec,
    module,
    default_targets: &["Wqkv"],
    base_prefix: "transformer.",
    renamed: &[],
    refused_tensors: REFUSED_TENSORS,
};

/// The same decoder under the names of `mosaic_gpt`'s own code.
pub(super) const MOSAIC_GPT: Family =
    Family { model_types: &["mosaic_gpt"], module: mosaic_gpt_module, ..FAMILY };

/// `learned_pos_emb` is true in every published config; positions count where the file holds them.
const REFUSED_TENSORS: &[RefusedTensor] =
    &[RefusedTensor { name: "transformer.wpe.weight", what: "learned positions" }];

fn spec(value: &Value) -> Result<DecoderSpec, ConfigError> {
    let config = Config(value);
    let attention = AttentionKeys::of(value)?;
    // Only the forerunner's defaults differ from Transformers'.
    let is_mosaic_gpt = config.string_or("model_type", "mpt")? == "mosaic_gpt";
    refuse_unsupported(&config, &attention, is_mosaic_gpt)?;
    let hidden_size = config.size(&["d_model", "hidden_size"])?;
    let n_heads = config.size(&["n_heads", "num_attention_heads"])?;
    let head_dim = config.head_dim("d_model", hidden_size, n_heads)?;
    let bias = !config.bool_or("no_bias", !is_mosaic_gpt)?;
    let scale = attention.config.optional_number("softmax_scale")?;
    let clip_qkv =
        attention.config.optional_number(attention.clip_qkv)?.filter(|clip| *clip != 0.0);
    if let Some(clip) = clip_qkv.filter(|clip| *clip < 0.0) {
        return Err(invalid(attention.clip_qkv, &Value::from(clip), "a positive number"));
    }
    let bias_max = attention.config.number_or("alibi_bias_max", 8.0)?;
    if bias_max <= 0.0 {
        return Err(invalid("alibi_bias_max", &Value::from(bias_max), "a positive number"));
    }
    Ok(DecoderSpec {
        model_type: config.string_or("model_type", "mpt")?.into(),
        vocab_size: config.size(&["vocab_size"])?,
        hidden_size,
        intermediate_size: intermediate_size(&config, hidden_size)?,
        n_layers: config.size(&["n_layers", "num_hidden_layers"])?,
        n_heads,
        n_kv_heads: n_heads,
        head_dim,
        norm: Norm::Layer { eps: config.number_or("layer_norm_epsilon", 1e-5)? as f32, bias },
        embedding_norm: false,
        embedding_scale: 1.0,
        positions: Positions::Alibi { slopes: alibi::mpt_slopes(n_heads, bias_max) },
        residual: Residual::Sequential,
        qkv: QkvLayout::Fused,
        attention_scale: scale.map_or((head_dim as f32).powf(-0.5), |scale| scale as f32),
        clip_qkv: clip_qkv.map(|clip| clip as f32),
        sliding_window: None,
        qk_norm: false,
        mlp: Mlp::Plain(Activation::Gelu),
        biases: Biases { qkv: bias, o: bias, mlp: bias, head: false },
        tied_head: config.bool_or("tie_word_embeddings", true)?,
        max_positions: config.optional_size(&["max_seq_len"])?.unwrap_or(2048),
    })
}

/// Where a config keeps the options of attention, and under which names.
struct AttentionKeys<'a> {
    config: Config<'a>,
    kind: &'static str,
    clip_qkv: &'static str,
    qk_ln: &'static str,
}

impl AttentionKeys<'_> {
    fn of(config: &Value) -> Result<AttentionKeys<'_>, ConfigError> {
        match config.get("attn_config").filter(|v| !v.is_null()) {
            Some(nested) if nested.is_object() => Ok(AttentionKeys {
                config: Config(nested),
                kind: "attn_type",
                clip_qkv: "clip_qkv",
                qk_ln: "qk_ln",
            }),
            Some(other) => Err(invalid("attn_config", other, "an object")),
            None => Ok(AttentionKeys {
                config: Config(config),
                kind: "attn_type",
                clip_qkv: "attn_clip_qkv",
                qk_ln: "attn_qk_ln",
            }),
        }
    }
}

/// What the original code can do and no published MPT asks for.
fn refuse_unsupported(
    config: &Config,
    attention: &AttentionKeys,
    is_mosaic_gpt: bool,
) -> Result<(), ConfigError> {
    attention.config.refuse_true(attention.qk_ln)?;
    attention.config.refuse_true("qk_gn")?;
    attention.config.refuse_true("prefix_lm")?;
    attention.config.refuse_true("rope")?;
    attention.config.refuse_true("multiquery_attention")?;
    attention.config.only(attention.kind, &["multihead_attention"])?;
    if !attention.config.bool_or("alibi", !is_mosaic_gpt)? {
        return Err(unsupported("alibi", "false"));
    }
    if let Some(scale) = config.get("logit_scale") {
        return Err(unsupported("logit_scale", &scale.to_string()));
    }
    config.only("norm_type", &["low_precision_layernorm", "layernorm"])?;
    if let Some(mlp) = config.get("ffn_config") {
        Config(mlp).only("ffn_type", &["mptmlp"])?;
    }
    Ok(())
}

/// `expansion_ratio` (`mlp_ratio` in mosaic_gpt) times the width; the original code takes fractions
/// where the product is whole.
fn intermediate_size(config: &Config, hidden_size: usize) -> Result<usize, ConfigError> {
    let key = match config.get("expansion_ratio") {
        Some(_) => "expansion_ratio",
        None => "mlp_ratio",
    };
    let ratio = config.number_or(key, 4.0)?;
    let size = ratio * hidden_size as f64;
    if size.fract() == 0.0 && (1.0..=f64::from(1 << 24)).contains(&size) {
        return Ok(size as usize);
    }
    let expected = format!("a ratio that gives a whole size with d_model {hidden_size}");
    Err(invalid(key, &Value::from(ratio), &expected))
}

fn module(slot: Slot, layer: usize) -> String {
    let inner = match slot {
        Slot::Embedding => return "transformer.wte".into(),
        Slot::FinalNorm => return "transformer.norm_f".into(),
        Slot::Head => return "lm_head".into(),
        Slot::AttentionNorm => "norm_1",
        Slot::Qkv => "attn.Wqkv",
        Slot::O => "attn.out_proj",
        Slot::MlpNorm => "norm_2",
        Slot::Up => "ffn.up_proj",
        Slot::Down => "ffn.down_proj",
        absent => unreachable!("MPT has no {absent:?}"),
    };
    format!("transformer.blocks.{layer}.{inner}")
}

fn mosaic_gpt_module(slot: Slot, layer: usize) -> String {
    let inner = match slot {
        Slot::FinalNorm => return "transformer.ln_f".into(),
        Slot::AttentionNorm => "ln_1",
        Slot::MlpNorm => "ln_2",
        Slot::Up => "mlp.mlp_up",
        Slot::Down => "mlp.mlp_down",
        same => return module(same, layer),
    };
    format!("transformer.blocks.{layer}.{inner}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The keys of mosaicml/mpt-30b.
    fn original() -> Value {
        json!({
            "architectures": ["MPTForCausalLM"],
            "attn_config": {
                "alibi": true, "alibi_bias_max": 8, "attn_impl": "torch", "attn_pdrop": 0,
                "attn_type": "multihead_attention", "attn_uses_sequence_id": false,
                "clip_qkv": null, "prefix_lm": false, "qk_ln": false, "softmax_scale": null
            },
            "auto_map": { "AutoConfig": "configuration_mpt.MPTConfig" },
            "d_model": 7168, "emb_pdrop": 0, "embedding_fraction": 1.0, "expansion_ratio": 4,
            "init_config": {
                "emb_init_std": null, "init_div_is_residual": true, "init_std": 0.02,
                "name": "kaiming_normal_", "verbose": 0
            },
            "init_device": "cpu", "learned_pos_emb": true, "logit_scale": null,
            "max_seq_len": 8192, "model_type": "mpt", "n_heads": 64, "n_layers": 48,
            "no_bias": true, "norm_type": "low_precision_layernorm", "resid_pdrop": 0,
            "torch_dtype": "bfloat16", "use_cache": false, "verbose": 0, "vocab_size": 50432
        })
    }

    fn flat() -> Value {
        json!({
            "alibi": true, "alibi_bias_max": 8, "attn_clip_qkv": null, "attn_impl": "torch",
            "attn_pdrop": 0, "attn_qk_ln": false, "attn_uses_sequence_id": false, "d_model": 7168,
            "embedding_fraction": 1.0, "low_precision_layernorm": true, "max_seq_len": 8192,
            "mlp_ratio": 4, "model_type": "mosaic_gpt", "n_heads": 64, "n_layers": 48,
            "no_bias": true, "param_init_fn": "kaiming_normal_", "prefix_lm": false,
            "softmax_scale": null, "torch_dtype": "bfloat16", "vocab_size": 50432
        })
    }

    /// As `original`, with one key of it or of its `attn_config` changed.
    fn changed(key: &str, value: Value) -> Value {
        let mut config = original();
        match config["attn_config"].get(key).is_some() {
            true => config["attn_config"][key] = value,
            false => config[key] = value,
        }
        config
    }

    #[test]
    fn mpt_30b_has_29_957_200_896_parameters() {
        let spec = spec(&original()).unwrap();
        assert_eq!(spec.n_params(), 29_957_200_896);
        assert_eq!((spec.head_dim, spec.intermediate_size), (112, 28_672));
        assert_eq!(spec.attention_scale, 112f32.powf(-0.5));
    }

    #[test]
    fn the_three_kinds_of_config_give_the_same_decoder() {
        let original_spec = spec(&original()).unwrap();
        let flat_spec = spec(&flat()).unwrap();
        assert_eq!(DecoderSpec { model_type: "mpt".into(), ..flat_spec }, original_spec);
        let transformers = json!({
            "attn_config": { "alibi": true, "model_type": "" }, "d_model": 7168, "dtype": "bfloat16",
            "max_seq_len": 8192, "model_type": "mpt", "n_heads": 64, "n_layers": 48,
            "layer_norm_epsilon": 1e-5, "vocab_size": 50432
        });
        assert_eq!(spec(&transformers).unwrap(), original_spec);
    }

    #[test]
    fn the_options_of_attention_count_in_both_places() {
        let mut nested = changed("clip_qkv", 6.into());
        nested["attn_config"]["softmax_scale"] = 0.1.into();
        nested["attn_config"]["alibi_bias_max"] = 16.into();
        let mut flat = flat();
        flat["attn_clip_qkv"] = 6.into();
        flat["softmax_scale"] = 0.1.into();
        flat["alibi_bias_max"] = 16.into();
        for config in [nested, flat] {
            let spec = spec(&config).unwrap();
            assert_eq!((spec.clip_qkv, spec.attention_scale), (Some(6.0), 0.1));
            let Positions::Alibi { slopes } = spec.positions else { panic!("no ALiBi") };
            assert_eq!(slopes[63], 2f32.powi(-16));
        }
        // As the original code has it, 0 clamps nothing.
        assert_eq!(spec(&changed("clip_qkv", 0.into())).unwrap().clip_qkv, None);
    }

    #[test]
    fn biases_are_there_where_no_bias_is_false() {
        let spec = spec(&changed("no_bias", false.into())).unwrap();
        assert!(spec.has_bias(Slot::Qkv) && spec.has_bias(Slot::O) && spec.has_bias(Slot::Down));
        assert!(spec.has_bias(Slot::MlpNorm) && spec.has_bias(Slot::FinalNorm));
        assert!(!spec.has_bias(Slot::Head) && !spec.has_bias(Slot::Embedding));
    }

    #[test]
    fn the_ratio_may_be_a_fraction_with_a_whole_product() {
        assert_eq!(
            spec(&changed("expansion_ratio", 2.5.into())).unwrap().intermediate_size,
            17_920
        );
        for wrong in [0.3.into(), Value::from(-1), Value::from(1e9)] {
            let error = spec(&changed("expansion_ratio", wrong)).unwrap_err().to_string();
            assert!(error.contains("expansion_ratio"), "{error}");
        }
    }

    #[test]
    fn what_no_published_model_uses_is_refused_by_name() {
        let cases: [(&str, Value); 10] = [
            ("qk_ln", true.into()),
            ("prefix_lm", true.into()),
            ("alibi", false.into()),
            ("attn_type", "multiquery_attention".into()),
            ("attn_type", "grouped_query_attention".into()),
            ("logit_scale", "inv_sqrt_d_model".into()),
            ("logit_scale", 0.5.into()),
            ("norm_type", "rmsnorm".into()),
            ("attn_config", json!({ "rope": true })),
            ("ffn_config", json!({ "ffn_type": "mptglu" })),
        ];
        for (key, value) in cases {
            let error = spec(&changed(key, value)).unwrap_err();
            assert!(matches!(error, ConfigError::Unsupported { .. }), "{key}: {error}");
            let named = match key {
                "attn_config" => "rope",
                "ffn_config" => "ffn_type",
                key => key,
            };
            assert!(error.to_string().contains(named), "{error}");
            assert_eq!(error.code(), crate::error::Code::ModelFiles);
        }
        for key in ["attn_qk_ln", "prefix_lm", "multiquery_attention"] {
            let mut config = flat();
            config[key] = true.into();
            assert!(spec(&config).unwrap_err().to_string().contains(key));
        }
    }

    #[test]
    fn values_of_the_wrong_kind_name_their_key() {
        for (key, value) in [
            ("clip_qkv", json!(-1)),
            ("alibi_bias_max", json!(0)),
            ("softmax_scale", json!("auto")),
            ("n_heads", json!(48)),
            ("attn_config", json!(3)),
        ] {
            let error = spec(&changed(key, value)).unwrap_err();
            assert!(matches!(error, ConfigError::Invalid { .. }), "{key}: {error}");
        }
    }
}
