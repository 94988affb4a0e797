//! CPU kernels on plain slices: GEMM, NF4, FP4 and int8, norms, rope, attention, loss, AdamW.
//!
//! Invariants: no candle, no I/O, no config, no global state; nothing here knows what a model is.
//! Every kernel takes the instruction set as its first argument and runs on the current rayon pool.
//! Results are the same bits for any number of threads: work is cut into blocks that depend on the
//! shapes alone, and reductions add those blocks in order.

pub mod activation;
pub mod adamw;
pub mod attention;
mod blocks;
pub mod dropout;
pub mod dynamic;
pub mod elementwise;
pub mod gemm;
pub mod int8;
pub mod isa;
pub mod loss;
pub mod nf4;
pub mod norm;
pub mod peak;
pub mod rope;
pub mod simd;
#[cfg(test)]
mod testing;
pub mod value;

pub use isa::Isa;
