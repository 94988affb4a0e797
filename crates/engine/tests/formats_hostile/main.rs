//! Damaged and hostile model files: each is refused with its place, fast, without memory.
//!
//! A program of its own, because it watches the memory of its process.

mod build;
mod gguf;
mod limits;
mod random;
mod safetensors;
#[path = "../formats/support.rs"]
mod support;
