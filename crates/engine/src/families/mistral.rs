//! Mistral: Llama with a window over the keys (Transformers' `modeling_mistral.py`).

use super::config::Config;
use super::{ConfigError, Family, llama};
use crate::spec::*;
use serde_json::Value;

pub(super) const FAMILY: Family = Family { model_types: &["mistral"], spec, ..llama::FAMILY };

/// Where the key is missing altogether; null is no window.
const WINDOW_DEFAULT: usize = 4096;

fn spec(config: &Value) -> Result<DecoderSpec, ConfigError> {
    let sliding_window = match config.get("sliding_window") {
        None => Some(WINDOW_DEFAULT),
        Some(_) => Config(config).optional_size(&["sliding_window"])?,
    };
    Ok(DecoderSpec { sliding_window, ..llama::spec(config)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_missing_window_is_the_default_and_null_is_none() {
        let mut config = json!({
            "model_type": "mistral", "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 128,
            "intermediate_size": 128, "num_hidden_layers": 2
        });
        assert_eq!(spec(&config).unwrap().sliding_window, Some(4096));
        config["sliding_window"] = Value::Null;
        assert_eq!(spec(&config).unwrap().sliding_window, None);
        config["sliding_window"] = 8.into();
        assert_eq!(spec(&config).unwrap().sliding_window, Some(8));
    }
}
