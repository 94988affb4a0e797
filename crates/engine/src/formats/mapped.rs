//! A file mapped for reading. The only place in `formats` with `unsafe`.

use super::{FormatError, Result};
use memmap2::{Mmap, UncheckedAdvice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// A mapped file and its path, for messages.
#[derive(Clone, Debug)]
pub(super) struct MappedFile {
    pub path: PathBuf,
    pub map: Arc<Mmap>,
    /// When it was last changed, where the system knows.
    pub modified: Option<SystemTime>,
}

/// Whether a file is the text that git keeps in place of a large file, and that a clone without git-lfs
/// leaves there.
pub(crate) fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(b"version https://git-lfs.github.com/spec/v1")
}

/// Refuses folders, pipes and devices before they are opened: to open a pipe may take for ever. What can't
/// be asked about is left to the call that opens it.
pub(crate) fn refuse_irregular(path: &Path) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(meta) if !meta.is_file() => Err(FormatError::NotAFile { path: path.into() }),
        _ => Ok(()),
    }
}

impl MappedFile {
    pub fn open(path: &Path) -> Result<MappedFile> {
        let failed = |source| FormatError::read(path, source);
        refuse_irregular(path)?;
        let file = std::fs::File::open(path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() {
            return Err(FormatError::NotAFile { path: path.into() });
        }
        // SAFETY: a regular file (checked above) opened for reading; the map is never written
        // through. Another process may still change the file: then values change, and access past a
        // new end ends the process, as with every program that maps model files.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        match is_lfs_pointer(&map) {
            true => Err(FormatError::LfsPointer { path: path.into() }),
            false => {
                let modified = meta.modified().ok();
                Ok(MappedFile { path: path.into(), map: Arc::new(map), modified })
            }
        }
    }

    /// Gives back the pages that lie wholly in `range`; a later read loads them from the file again.
    pub fn release(&self, range: Range<usize>) {
        const PAGE: usize = 4096;
        let (from, to) = (range.start.next_multiple_of(PAGE), range.end / PAGE * PAGE);
        if from >= to || to > self.map.len() {
            return;
        }
        // SAFETY: the map is a read-only view of a file (see `open`), so a dropped page has no
        // content of its own: slices into it read the same bytes again. The range was checked.
        // A refusal (other page size) only leaves the pages where they are.
        let _ =
            unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, from, to - from) };
    }
}
