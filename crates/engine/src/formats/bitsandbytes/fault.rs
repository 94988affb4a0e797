//! What can be wrong with a weight in 4 or 8 bits, and what to do. The tensor is named by the error around it.

use crate::formats::StoredDtype;

#[derive(Debug, thiserror::Error, PartialEq)]
pub enum PackedFault {
    #[error("its 4-bit codes are of the type {0:?}, only NF4 and FP4 can be read")]
    Kind(String),
    #[error("its part `{0}` is missing")]
    Lacks(&'static str),
    #[error("its quant_state is not the JSON that bitsandbytes writes: {0}")]
    State(String),
    #[error("its quant_state has {key} {value}, needed is {needed}")]
    Key { key: &'static str, value: String, needed: String },
    #[error(
        "its part `{part}` has {bytes} bytes in {dtype}, needed are {needed} in {needed_dtype}"
    )]
    Size {
        part: &'static str,
        bytes: usize,
        dtype: StoredDtype,
        needed: usize,
        needed_dtype: &'static str,
    },
    #[error("its part `{0}` is not the table that it should be")]
    Table(&'static str),
    #[error("its int8 codes have the shape {0:?}, needed is a matrix that is not empty")]
    Shape(Vec<usize>),
    #[error("its weight_format is {0}, only 0 (rows) can be read")]
    Format(u8),
}

impl PackedFault {
    /// What to do about it, in one sentence.
    pub fn hint(&self) -> &'static str {
        match self {
            PackedFault::Kind(_) | PackedFault::Key { .. } | PackedFault::Table(_) => {
                "Take the model's unquantised weights; load_in_4bit quantises them while they are read."
            }
            PackedFault::Format(_) => {
                "Take the model's unquantised weights; load_in_8bit quantises them while they are read."
            }
            _ => "Download the file again; this copy is damaged or incomplete.",
        }
    }
}
