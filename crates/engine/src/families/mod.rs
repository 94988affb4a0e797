//! Model families: each turns a `config.json` into a [`DecoderSpec`] and names the checkpoint's
//! modules. A family never has a forward of its own, and reads no files.

mod alibi;
mod bloom;
mod config;
mod llama;
mod mpt;

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
    /// What Transformers calls `base_model_prefix`, with its dot: a checkpoint that was saved from
    /// the decoder without its head has names without it.
    pub base_prefix: &'static str,
    /// What a checkpoint may hold and the decoder can't do.
    pub refused_tensors: &'static [RefusedTensor],
}

/// A tensor that makes a model unusable here, and what it is.
pub struct RefusedTensor {
    pub name: &'static str,
    pub what: &'static str,
}

/// Every family, in the order in which an error lists them. Where two read one `model_type`, the files'
/// names decide.
pub const FAMILIES: &[Family] = &[llama::FAMILY, bloom::FAMILY, mpt::FAMILY, mpt::MOSAIC_GPT];

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
    #[error("config.json: `{key}` {found} is not supported")]
    Unsupported { key: String, found: String },
    #[error("the model files hold `{name}`: {what} are not supported")]
    UnsupportedTensor { name: &'static str, what: &'static str },
}

impl ConfigError {
    pub fn code(&self) -> Code {
        Code::ModelFiles
    }

    pub fn hint(&self) -> String {
        match self {
            ConfigError::UnknownArchitecture { .. } => {
                let mut known: Vec<&str> = vec![];
                for model_type in FAMILIES.iter().flat_map(|f| f.model_types) {
                    if !known.contains(model_type) {
                        known.push(model_type);
                    }
                }
                format!("Known are: {}.", known.join(", "))
            }
            ConfigError::Unsupported { .. } | ConfigError::UnsupportedTensor { .. } => {
                "Take a model of this family without it; changing config.json changes what the weights compute.".into()
            }
            _ => "Check that the folder is a whole Hugging Face model; download it again if not."
                .into(),
        }
    }
}

/// The family and the decoder of a model whose files hold the tensors that `has_tensor` knows.
///
/// `has_tensor` may know none: then the config alone decides.
pub fn read(
    config: &Value,
    has_tensor: impl Fn(&str) -> bool,
) -> Result<(&'static Family, DecoderSpec), ConfigError> {
    let (first, rest) = find(config)?;
    let named = |family: &&Family| has_tensor(&probe(family));
    let family = if named(&first) { first } else { rest.into_iter().find(named).unwrap_or(first) };
    if let Some(refused) = family.refused_tensors.iter().find(|refused| has_tensor(refused.name)) {
        let RefusedTensor { name, what } = refused;
        return Err(ConfigError::UnsupportedTensor { name, what });
    }
    Ok((family, (family.spec)(config)?))
}

/// A tensor that tells the namings of one `model_type` apart.
fn probe(family: &Family) -> String {
    format!("{}.weight", (family.module)(Slot::AttentionNorm, 0))
}

/// Puts the base model's prefix before the names of a checkpoint that lacks it everywhere.
/// The head, if there is one, stands outside the base model.
pub fn complete_names(config: &Value, names: Vec<&mut String>) {
    let Ok((family, _)) = find(config) else { return }; // refused when it is read
    let head = (family.module)(Slot::Head, 0);
    if names.iter().any(|name| name.starts_with(family.base_prefix)) {
        return;
    }
    for name in names.into_iter().filter(|name| !name.starts_with(&head)) {
        name.insert_str(0, family.base_prefix);
    }
}

/// The first family of a config's `model_type`, and the others.
fn find(config: &Value) -> Result<(&'static Family, Vec<&'static Family>), ConfigError> {
    let found = config.get("model_type").and_then(Value::as_str).ok_or(ConfigError::NoModelType)?;
    let mut families = FAMILIES.iter().filter(|family| family.model_types.contains(&found));
    let first = families
        .next()
        .ok_or_else(|| ConfigError::UnknownArchitecture { found: found.to_owned() })?;
    Ok((first, families.collect()))
}
