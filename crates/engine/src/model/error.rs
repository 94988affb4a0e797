//! Why a model's files don't make a decoder, or an adapter doesn't fit it.

use crate::error::Code;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("{}: there is no tensor `{name}`", path.display())]
    MissingTensor { path: PathBuf, name: String },
    #[error("{}: tensor `{name}` has the shape {found:?}, config.json makes it {expected:?}", path.display())]
    WrongShape { path: PathBuf, name: String, found: Vec<usize>, expected: Vec<usize> },
    #[error("target_modules: `{target}` matches no linear module of this model")]
    NoTarget { target: String, linears: Vec<String> },
    #[error("target_modules: `{target}` is not a regular expression: {reason}")]
    BadPattern { target: String, reason: String },
    #[error("modules_to_save: `{name}` matches no module of this model")]
    NoModuleToSave { name: String, modules: Vec<String> },
    #[error("{bits}-bit weights can't be trained: full fine-tuning needs the whole weights")]
    QuantizedFull { bits: u8 },
    #[error(
        "the model is stored in {bits} bits, which can't be trained: full fine-tuning needs the whole weights"
    )]
    StoredFull { bits: u8 },
    #[error("llm_int8_skip_modules: `{pattern}` is not a regular expression: {reason}")]
    BadSkip { pattern: String, reason: String },
    #[error("a block of {block_size} values can't be quantised")]
    BlockSize { block_size: usize },
    #[error("the adapter has `{name}`, which this model does not")]
    AdapterTensor { name: String },
    #[error("the adapter lacks `{name}`")]
    AdapterLacks { name: String },
    #[error("the adapter's `{name}` has the shape {found:?}, this model needs {expected:?}")]
    AdapterShape { name: String, found: Vec<usize>, expected: Vec<usize> },
}

impl ModelError {
    pub fn code(&self) -> Code {
        match self {
            Self::NoTarget { .. }
            | Self::BadPattern { .. }
            | Self::NoModuleToSave { .. }
            | Self::QuantizedFull { .. }
            | Self::BadSkip { .. }
            | Self::BlockSize { .. } => Code::Config,
            _ => Code::ModelFiles,
        }
    }

    pub fn hint(&self) -> String {
        match self {
            Self::NoTarget { linears, .. } => {
                format!("Its linear modules are {}; `all-linear` means all of them.", linears.join(", "))
            }
            Self::NoModuleToSave { modules, .. } => format!("Its modules are {}.", modules.join(", ")),
            Self::BadPattern { .. } => "Name modules in a list, or write a pattern that matches their whole path.".into(),
            Self::QuantizedFull { bits } => format!("Train a LoRA adapter on them, or leave load_in_{bits}bit out."),
            Self::StoredFull { .. } => "Train a LoRA adapter on it (section `lora`), or take the model's unquantised weights.".into(),
            Self::BadSkip { .. } => "Name modules, as `mlp.down_proj` or `model.layers.0`.".into(),
            Self::BlockSize { .. } => "bitsandbytes takes blocks of 64.".into(),
            Self::MissingTensor { .. } | Self::WrongShape { .. } => {
                "Check that config.json and the weights are of the same model; download it again if they are.".into()
            }
            _ => "Use the base model that the adapter was trained on; adapter_config.json names it.".into(),
        }
    }
}
