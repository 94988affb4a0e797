//! The napi-rs bridge: handles, typed arrays, one JSON options object, error mapping.
//!
//! Holds no defaults, no ranges and no words for people; every call that works answers with a promise
//! and leaves the event loop free.

#![cfg_attr(
    test,
    allow(dead_code, reason = "napi registers its functions in the addon, not in a test binary")
)]

mod batch;
mod error;
mod machine;
mod session;
mod tokenizer;
mod worker;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
