//! Why a model's files don't make a decoder, or an adapter doesn't fit it.

use crate::error::Code;

#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("the model files have no tensor `{name}`")]
    MissingTensor { name: String },
    #[error("tensor `{name}` has the shape {found:?}, config.json makes it {expected:?}")]
    WrongShape { name: String, found: Vec<usize>, expected: Vec<usize> },
    #[error("target_modules: `{target}` matches no linear module of this model")]
    NoTarget { target: String, linears: Vec<String> },
    #[error("target_modules: `{target}` is not a regular expression: {reason}")]
    BadPattern { target: String, reason: String },
    #[error("modules_to_save: `{name}` matches no module of this model")]
    NoModuleToSave { name: String, modules: Vec<String> },
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
            Self::NoTarget { .. } | Self::BadPattern { .. } | Self::NoModuleToSave { .. } => {
                Code::Config
            }
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
            Self::MissingTensor { .. } | Self::WrongShape { .. } => {
                "Check that config.json and the weights are of the same model; download it again if they are.".into()
            }
            _ => "Use the base model that the adapter was trained on; adapter_config.json names it.".into(),
        }
    }
}
