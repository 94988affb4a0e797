//! Reads a JSON file of bounded size; an error names the line and the column.

use super::{FormatError, Result};
use serde::de::DeserializeOwned;
use std::io::Read;
use std::path::Path;

/// Longest JSON file that is read. The largest in use, indexes of models in hundreds of shards, have
/// some 10 MB.
pub(super) const JSON_BYTES_MAX: u64 = 32 << 20;

pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let failed = |source| FormatError::read(path, source);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    // One byte more than allowed shows that the file is longer, whatever its length claims to be.
    file.take(JSON_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > JSON_BYTES_MAX {
        return Err(FormatError::TooLong {
            path: path.into(),
            what: "a JSON file",
            limit: JSON_BYTES_MAX,
        });
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
