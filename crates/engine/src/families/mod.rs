//! Model families: each turns a `config.json` into a [`DecoderSpec`] and names the checkpoint's
//! modules. A family never has a forward of its own, and reads no files.

mod alibi;
mod bloom;
mod config;
mod falcon;
mod gemma;
mod gpt_neox;
mod llama;
mod mistral;
mod mpt;
mod quantization;
mod qwen2;
mod qwen3;

pub use config::stored_dtype;
pub use quantization::{FourBits, StoredQuantization, stored_quantization};

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
    /// Starts of tensor names, where the files have another one than the module.
    pub renamed: &'static [Renamed],
    /// What a checkpoint may hold and the decoder can't do.
    pub refused_tensors: &'static [RefusedTensor],
}

/// The start of a tensor's name, as files have it and as Transformers' modules are called.
pub struct Renamed {
    pub stored: &'static str,
    pub module: &'static str,
}

/// A tensor that makes a model unusable here, and what it is.
pub struct RefusedTensor {
    pub name: &'static str,
    pub what: &'static str,
}

impl Family {
    /// The name in the files of a tensor that has the module's name.
    pub fn stored_name(&self, name: &str) -> String {
        let renamed = |r: &Renamed| Some(format!("{}{}", r.stored, name.strip_prefix(r.module)?));
        self.renamed.iter().find_map(renamed).unwrap_or_else(|| name.to_owned())
    }

    /// The inverse of [`stored_name`](Family::stored_name).
    pub fn module_name(&self, name: &str) -> String {
        let renamed = |r: &Renamed| Some(format!("{}{}", r.module, name.strip_prefix(r.stored)?));
        self.renamed.iter().find_map(renamed).unwrap_or_else(|| name.to_owned())
    }
}

/// Every family, in the order in which an error lists them. Where two read one `model_type`, the files'
/// names decide.
pub const FAMILIES: &[Family] = &[
    llama::FAMILY,
    mistral::FAMILY,
    qwen2::FAMILY,
    qwen3::FAMILY,
    gemma::FAMILY,
    bloom::FAMILY,
    mpt::FAMILY,
    mpt::MOSAIC_GPT,
    falcon::FAMILY,
    falcon::TWO_NORMS,
    gpt_neox::FAMILY,
];

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
    /// The same of a key in a section.
    fn below(self, section: &str) -> ConfigError {
        let name = |key| format!("{section}.{key}");
        match self {
            ConfigError::Missing { key } => ConfigError::Missing { key: name(key) },
            ConfigError::Invalid { key, found, expected } => {
                ConfigError::Invalid { key: name(key), found, expected }
            }
            ConfigError::Unsupported { key, found } => {
                ConfigError::Unsupported { key: name(key), found }
            }
            other => other,
        }
    }

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

/// Turns the names of files into those of the modules: renamed ones, and those of a checkpoint of the
/// bare decoder, whose embedding (and so all but the head) lacks the base model's prefix.
pub fn complete_names(config: &Value, mut names: Vec<&mut String>) {
    let Ok((family, _)) = find(config) else { return }; // refused when it is read
    for name in &mut names {
        **name = family.module_name(name);
    }
    let embedding = format!("{}.weight", (family.module)(Slot::Embedding, 0));
    let bare = embedding.strip_prefix(family.base_prefix);
    if !names.iter().any(|name| bare == Some(name.as_str())) {
        return;
    }
    let head = (family.module)(Slot::Head, 0);
    let stays = |name: &str| name.starts_with(family.base_prefix) || name.starts_with(&head);
    for name in names.into_iter().filter(|name| !stays(name)) {
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

#[cfg(test)]
mod tests;
