//! Models, forward and backward pairs, optimizers, checkpoints, file formats and the memory plan.
//!
//! candle is the storage and device layer: a `Tensor` holds every activation and every trained
//! weight. There is no autograd tape: each op in [`ops`] is a pair of functions, `forward` and
//! `backward`. Nothing here knows of Node, of options' defaults, or prints.

pub mod checkpoint;
pub mod ctx;
pub mod decoder;
pub mod error;
pub mod families;
pub mod formats;
pub mod four_bit;
pub mod generate;
pub mod int8;
pub mod machine;
pub mod model;
pub mod ops;
pub mod optimizer;
pub mod options;
pub mod plan;
pub mod session;
pub mod signal;
pub mod spec;
pub mod speed;
#[cfg(test)]
mod testing;
pub mod token_ids;
pub mod tokenizer;
pub mod train;
pub mod weight;
pub mod workspace;

pub use ctx::Ctx;
pub use error::{Code, Error, Result};
