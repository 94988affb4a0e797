//! Why an optimizer's state can't be taken over.

use crate::error::Code;
use crate::formats::StoredDtype;

/// Names the tensor of the state that does not fit.
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
}

impl OptimizerError {
    pub fn code(&self) -> Code {
        Code::ModelFiles
    }

    pub fn hint(&self) -> String {
        "Go on with the model and with the options (optim, lora, trained modules) that the state was saved with.".into()
    }
}
