//! Reads a JSON file of bounded size; an error names the line and the column.

use super::mapped::{is_lfs_pointer, refuse_irregular};
use super::{FormatError, Result};
use serde::de::DeserializeOwned;
use std::io::Read;
use std::path::Path;

/// Longest file of settings. A value of JSON takes up to 16 times its bytes in memory.
pub(super) const CONFIG_BYTES_MAX: u64 = 4 << 20;
/// Longest index of shards; those of the largest models in use have 9 to 14 MB.
pub(super) const INDEX_BYTES_MAX: u64 = 16 << 20;

pub(super) fn read<T: DeserializeOwned>(path: &Path, limit: u64) -> Result<T> {
    let failed = |source| FormatError::read(path, source);
    let mut bytes = Vec::new();
    refuse_irregular(path)?;
    let file = std::fs::File::open(path).map_err(failed)?;
    // One byte more than allowed shows that the file is longer, whatever its length claims to be.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(FormatError::TooLong { path: path.into(), what: "a JSON file", limit });
    }
    if is_lfs_pointer(&bytes) {
        return Err(FormatError::LfsPointer { path: path.into() });
    }
    serde_json::from_slice(&bytes).map_err(|e| FormatError::Json {
        path: path.into(),
        line: e.line(),
        column: e.column(),
        what: cause(&e),
    })
}

/// serde_json's message without the place that it appends.
pub(super) fn cause(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}
