//! Why an optimizer's state can't be held, or taken over.

use crate::error::Code;
use crate::formats::StoredDtype;
use crate::plan::gib;
use std::io;
use std::path::PathBuf;

/// Names the tensor of the state that does not fit, or the folder that has no room.
#[derive(Debug, thiserror::Error)]
pub enum OptimizerError {
    #[error("the optimizer's state has no `{name}`")]
    Missing { name: String },
    #[error("the optimizer's state has `{name}`, which nothing here is trained by")]
    Unknown { name: String },
    #[error("the optimizer's state has `{name}` twice")]
    Twice { name: String },
    #[error(
        "`{name}` of the optimizer's state is {found_dtype} {found_shape:?}, and should be {dtype} {shape:?}"
    )]
    Differs {
        name: String,
        found_dtype: StoredDtype,
        found_shape: Vec<usize>,
        dtype: StoredDtype,
        shape: Vec<usize>,
    },
    #[error("`{name}` of the optimizer's state has {found} bytes, and should have {bytes}")]
    Length { name: String, found: usize, bytes: usize },
    #[error("{} can't take the {} of the optimizer's paged state: {source}", .folder.display(), gib(*.bytes as u64))]
    StateFile { folder: PathBuf, bytes: usize, source: io::Error },
}

impl OptimizerError {
    pub fn code(&self) -> Code {
        match self {
            Self::StateFile { .. } => Code::Output,
            _ => Code::ModelFiles,
        }
    }

    pub fn hint(&self) -> String {
        match self {
            Self::StateFile { .. } => "Make room there, or take an optimizer whose state lies in memory: optim adamw_8bit or adamw_torch.",
            _ => "Go on with the model and with the options (optim, lora, trained modules) that the state was saved with.",
        }
        .into()
    }
}
