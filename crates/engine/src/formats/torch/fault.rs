//! What a `.bin` file of PyTorch has at a place where it should not, and what to do about it.

use crate::formats::dtype::StoredDtype;

/// A place in the file, and what is wrong there.
pub(super) type Fault = (u64, TorchFault);

/// The kinds of fault. Names from the file are escaped where they could hold anything.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum TorchFault {
    #[error("the file is in the format that torch.save wrote before PyTorch 1.6")]
    Legacy,
    #[error("the file is no ZIP archive, which torch.save writes")]
    NotAZip,
    #[error("the file ends inside {0}")]
    End(&'static str),
    #[error("{value} {what} are more than the {limit} that can be there")]
    Count { what: &'static str, value: u64, limit: u64 },
    #[error("the archive's directory is damaged: {0}")]
    Directory(&'static str),
    #[error("entry `{entry}` is {how}; torch.save stores entries as they are")]
    Packed { entry: String, how: &'static str },
    #[error("entry `{entry}`: its own header and the archive's directory differ in {what}")]
    Header { entry: String, what: &'static str },
    #[error("entries `{first}` and `{second}` overlap")]
    Overlap { first: String, second: String },
    #[error("entry `{0}` is there twice")]
    DuplicateEntry(String),
    #[error("the archive has {found} entries NAME/data.pkl; torch.save writes one")]
    Pickles { found: usize },
    #[error("the values are written for big-endian machines")]
    BigEndian,

    #[error("the pickle calls for `{name}`, which is no part of a tensor; nothing was run")]
    Global { name: String },
    #[error("the pickle calls `{name}` in a way that torch.save does not write; nothing was run")]
    Call { name: &'static str },
    #[error("the pickle's opcode {code:#04x} is none that tensors need; nothing was run")]
    Opcode { code: u8 },
    #[error("pickle protocol {0} is not known; up to 5 are")]
    Protocol(u8),
    #[error("the pickle takes a value that is not there")]
    Empty,
    #[error("the pickle takes {found} where {needed} should be")]
    Type { found: &'static str, needed: &'static str },
    #[error("a text of the pickle is not UTF-8")]
    Utf8,
    #[error("a number of the pickle has {0} bytes")]
    LongNumber(u8),
    #[error("the pickle ends before its data do")]
    Rest,

    #[error("`{name}` is {found}, not a tensor")]
    NotATensor { name: String, found: &'static str },
    #[error("tensor `{0}` is there twice")]
    DuplicateTensor(String),
    #[error("tensor `{tensor}`: the archive has no storage `{storage}`")]
    NoStorage { tensor: String, storage: String },
    #[error(
        "tensor `{tensor}`: storage `{storage}` of {values} values in {dtype} does not fit its {bytes} bytes"
    )]
    StorageSize { tensor: String, storage: String, values: u64, dtype: StoredDtype, bytes: u64 },
    #[error(
        "tensor `{tensor}` of shape {shape:?} with strides {strides:?} from value {offset} does not fit its \
         storage of {values}"
    )]
    View { tensor: String, shape: Vec<u64>, strides: Vec<u64>, offset: u64, values: u64 },
}

impl TorchFault {
    /// What to do about it, in one sentence.
    pub fn hint(&self) -> &'static str {
        use TorchFault::*;
        match self {
            Legacy => {
                "Save it again with a current PyTorch: torch.save(torch.load(FILE, map_location=\"cpu\", weights_only=True), FILE)."
            }
            Global { .. } | Call { .. } | Opcode { .. } | NotATensor { .. } => {
                "Take the model in safetensors, or save its state dict alone: tensors under their names."
            }
            BigEndian | Protocol(_) | Packed { .. } => {
                "Save it again with torch.save of a current PyTorch on an ordinary machine."
            }
            _ => "Download the file again; this copy is damaged or incomplete.",
        }
    }
}
