//! The readers and writers of model files, against the reference libraries and against each other.
//!
//! What damaged files do is tested in `formats_hostile` and `formats_limits`.

mod gguf;
mod model;
mod peft;
mod support;
mod torch;
mod write;

use std::path::{Path, PathBuf};

/// A file beside the repository, in `../shared` or where `LORA_TRAIN_SHARED` says.
fn shared(path: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = std::env::var_os("LORA_TRAIN_SHARED").map_or_else(beside, PathBuf::from);
    present(folder.join(path))
}

/// The path, if it is there. If not, that is said on stderr, and fails under `CI=true`.
fn present(path: PathBuf) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{} is missing", path.display());
    eprintln!("skipped: {} is not there", path.display());
    None
}
