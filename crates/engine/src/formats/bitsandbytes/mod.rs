//! Weights that bitsandbytes saves in 4 or 8 bits: parts that lie under names of their own, read as one matrix
//! and written in the same form.
//!
//! ```text
//! NAME                                   codes, two in a byte, of n values: ceil(n / 2) bytes of any dtype
//! NAME.absmax                            B = ceil(n / blocksize) maxima: F32, or U8 codes where nested
//! NAME.quant_map                         F32 [16]: the values of the codes
//! NAME.nested_absmax, .nested_quant_map  F32 [ceil(B / 256)], F32 [256]: the maxima's own maxima and table
//! NAME.quant_state.bitsandbytes__TYPE    nf4 or fp4; JSON: type, sizes, shape, the maxima's offset
//!
//! MODULE.weight                          I8 [rows, cols]
//! MODULE.SCB                             F32 [rows]: the rows' maxima
//! MODULE.weight_format                   U8 []: 0, rows one after another; older files lack it
//! ```
//! How values follow from them: `kernels::nf4` and `kernels::int8`. Nothing here unpacks a code, or decides what is quantised.

mod fault;
mod file;
mod int8;
mod packed;
mod read;
mod write;

pub use fault::PackedFault;
pub use file::PackedFile;
pub(super) use packed::{Packed, fold};
pub use write::{Part, parts, write_packed};

/// What stands between a weight's name and the kind of its codes.
const STATE: &str = ".quant_state.bitsandbytes__";
const ABSMAX: &str = "absmax";
const QUANT_MAP: &str = "quant_map";
const NESTED_ABSMAX: &str = "nested_absmax";
const NESTED_QUANT_MAP: &str = "nested_quant_map";
/// The parts of a weight in 8 bits, beside it and not below it.
const ROW_ABSMAX: &str = "SCB";
const FORMAT: &str = "weight_format";
/// The metadata's key of the checksum in files of our own.
const CHECKSUM: &str = "lora_train_checksum";
