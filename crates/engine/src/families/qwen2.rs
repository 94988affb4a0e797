//! Qwen2: Llama with biases on q, k and v (Transformers' `modeling_qwen2.py`).

use super::config::{Config, unsupported};
use super::{ConfigError, Family, llama};
use crate::spec::*;
use serde_json::Value;

pub(super) const FAMILY: Family = Family { model_types: &["qwen2"], spec, ..llama::FAMILY };

fn spec(config: &Value) -> Result<DecoderSpec, ConfigError> {
    let spec = llama::spec(config)?;
    Ok(DecoderSpec {
        biases: Biases { qkv: true, ..Biases::default() },
        sliding_window: sliding_window(config, spec.n_layers)?,
        ..spec
    })
}

/// Qwen's window is off unless `use_sliding_window`, and then on the layers from `max_window_layers`
/// on, or on those that `layer_types` names. A decoder whose layers differ is refused.
pub(super) fn sliding_window(
    config: &Value,
    n_layers: usize,
) -> Result<Option<usize>, ConfigError> {
    let config = Config(config);
    if !config.bool_or("use_sliding_window", false)? {
        return Ok(None);
    }
    let window = config.optional_size(&["sliding_window"])?;
    let Some(types) = config.get("layer_types").and_then(Value::as_array) else {
        return match config.number_or("max_window_layers", 28.0)? {
            first if first <= 0.0 => Ok(window),
            first if first >= n_layers as f64 => Ok(None),
            first => Err(unsupported("max_window_layers", &first.to_string())),
        };
    };
    let slide = |kind: &Value| kind == "sliding_attention";
    match (types.iter().any(slide), types.iter().all(slide)) {
        (true, true) => Ok(window),
        (true, false) => Err(unsupported("layer_types", "with layers of two kinds")),
        (false, _) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn window(changes: Value) -> Result<Option<usize>, ConfigError> {
        let mut config = json!({ "use_sliding_window": true, "sliding_window": 8 });
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        sliding_window(&config, 4)
    }

    #[test]
    fn all_layers_slide_or_none() {
        assert_eq!(window(json!({ "use_sliding_window": false })).unwrap(), None);
        assert_eq!(window(json!({ "max_window_layers": 28 })).unwrap(), None);
        assert_eq!(window(json!({ "max_window_layers": 0 })).unwrap(), Some(8));
        let (full, slide) = ("full_attention", "sliding_attention");
        assert_eq!(window(json!({ "layer_types": [full, full] })).unwrap(), None);
        assert_eq!(window(json!({ "layer_types": [slide, slide] })).unwrap(), Some(8));
        let mixed = [json!({ "max_window_layers": 2 }), json!({ "layer_types": [full, slide] })];
        for (mixed, key) in mixed.into_iter().zip(["max_window_layers", "layer_types"]) {
            let error = window(mixed).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
