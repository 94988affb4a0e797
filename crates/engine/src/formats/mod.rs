//! Readers and writers of model files. Every size, offset and name from a file is checked before use.
//!
//! Nothing here runs code from a file, knows what a decoder is, or follows a name out of its folder.

mod bitsandbytes;
mod convert;
mod described;
pub mod dtype;
pub mod error;
mod folder;
pub mod gguf;
pub mod hf_folder;
mod identity;
mod json;
mod mapped;
pub mod model;
pub mod peft;
pub mod safetensors;
mod strided;
pub mod torch;
pub mod write;

pub use bitsandbytes::{PackedFault, PackedFile, write_packed};
pub(crate) use bitsandbytes::{Part, parts};
pub use described::Described;
pub use dtype::StoredDtype;
pub use error::FormatError;
pub(crate) use mapped::{is_lfs_pointer, refuse_irregular};
pub use model::{ModelFiles, Residency, TensorInfo};

type Result<T, E = FormatError> = std::result::Result<T, E>;
