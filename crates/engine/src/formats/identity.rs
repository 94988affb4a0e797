//! What tells tensors on disk apart from all others without reading them whole: the key of what is made of them
//! and kept.
//!
//! A hash of each file's length and time of last change, of each tensor's name, type, shape and place, and of
//! eight pages of it, the first and the last among them. Whoever writes into a file changes its time; a copy
//! that keeps the time of another file must agree with it in length, header and all those pages to be taken
//! for it, and trained weights differ in nearly every page. Paths don't count: a folder that is moved, or
//! copied with its times, is the same.

use super::mapped::MappedFile;
use super::model::{Place, TensorInfo};
use std::time::UNIX_EPOCH;

const PAGE: usize = 4096;
const PAGES: usize = 8;

/// `None` where the system does not tell when a file was changed.
pub(super) fn identity<'a>(
    files: &[MappedFile],
    tensors: impl Iterator<Item = (&'a TensorInfo, &'a Place)>,
) -> Option<blake3::Hash> {
    let mut hash = blake3::Hasher::new();
    for MappedFile { map, modified, .. } in files {
        let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok())?;
        hash.update(&(map.len() as u64).to_le_bytes()).update(&since.as_nanos().to_le_bytes());
    }
    let mut pages = Vec::with_capacity(PAGES * PAGE);
    for (info, place) in tensors {
        hash.update(format!("{info:?} {place:?}").as_bytes());
        let from = &files[place.file].map[place.begin..];
        let bytes = &from[..from.len().min(info.bytes)];
        let last = bytes.len().saturating_sub(PAGE);
        // At once: the hash takes many blocks at a time.
        pages.clear();
        for i in 0..PAGES {
            let begin = last / (PAGES - 1) * i;
            let begin = if i + 1 == PAGES { last } else { begin };
            pages.extend_from_slice(&bytes[begin..bytes.len().min(begin + PAGE)]);
        }
        hash.update(&pages);
        // The system maps the neighbours of each page too: a third of a model, that nobody reads where what
        // was kept is found.
        files[place.file].release(place.begin..place.begin + bytes.len());
    }
    Some(hash.finalize())
}
