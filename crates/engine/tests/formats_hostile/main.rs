//! Damaged and hostile model files: each is refused with its place. How fast, and with how much memory,
//! is tested in `formats_limits`.

mod bitsandbytes;
mod build;
mod gguf;
mod int8;
mod random;
mod safetensors;
#[path = "../formats/support.rs"]
mod support;
mod torch;
