//! Model families: each turns a `config.json` into a [`DecoderSpec`] and names the checkpoint's
//! modules. A family never has a forward of its own, and reads no files.

mod config;
mod llama;

use crate::error::Code;
use crate::spec::{DecoderSpec, Slot};
use serde_json::Value;

/// A table over the one decoder.
pub struct Family {
    /// The `model_type` values that it reads.
    pub model_types: &'static [&'static str],
    pub spec: fn(&Value) -> Result<DecoderSpec, ConfigError>,
    /// The checkpoint's module path of a slot; `layer` counts for slots inside a block.
    pub module: fn(Slot, usize) -> String,
    /// PEFT's targets where `target_modules` is not set.
    pub default_targets: &'static [&'static str],
}

/// Every family, in the order in which an error lists them.
pub const FAMILIES: &[Family] = &[llama::FAMILY];

/// A `config.json` that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("config.json has no `model_type`")]
    NoModelType,
    #[error("the architecture `{found}` is not known")]
    UnknownArchitecture { found: String },
    #[error("config.json: `{key}` is missing")]
    Missing { key: String },
    #[error("config.json: `{key}` is {found}, expected {expected}")]
    Invalid { key: String, found: String, expected: String },
}

impl ConfigError {
    pub fn code(&self) -> Code {
        Code::ModelFiles
    }

    pub fn hint(&self) -> String {
        match self {
            ConfigError::UnknownArchitecture { .. } => {
                let known: Vec<_> = FAMILIES.iter().flat_map(|f| f.model_types).copied().collect();
                format!("Known are: {}.", known.join(", "))
            }
            _ => "Check that the folder is a whole Hugging Face model; download it again if not."
                .into(),
        }
    }
}

/// The family of a config, by its `model_type`.
pub fn find(config: &Value) -> Result<&'static Family, ConfigError> {
    let found = config.get("model_type").and_then(Value::as_str).ok_or(ConfigError::NoModelType)?;
    FAMILIES
        .iter()
        .find(|family| family.model_types.contains(&found))
        .ok_or_else(|| ConfigError::UnknownArchitecture { found: found.to_owned() })
}
