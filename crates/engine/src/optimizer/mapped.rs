//! State in a file that is mapped for reading and writing: the system writes its pages to disk and
//! evicts them when memory is short, and reads them again when the next step comes to them.
//!
//! The file is nobody else's: it has no name any more once it is open (on Windows: once it is closed).
//! Never a checkpoint. The only place in `optimizer` with `unsafe`.

use super::OptimizerError;
use crate::signal::Signal;
use crate::{Error, Result};
use memmap2::MmapMut;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Zeros that are written at once.
const CHUNK: usize = 1 << 20;

/// A mapped file of fixed size.
pub(super) struct MappedState {
    // Dropped in this order: a file that is still mapped can't be removed everywhere.
    map: MmapMut,
    _file: Removed,
}

impl MappedState {
    /// Makes the file in `folder` (the nearest folder above it that exists), or in the system's folder
    /// for temporary files.
    ///
    /// Every byte is written before anything is mapped: a disk that is too small is an error here, and
    /// not a signal in the middle of a step. `signal` counts these bytes, and can stop between them.
    pub fn zeroed(folder: Option<&Path>, bytes: usize, signal: &Signal) -> Result<MappedState> {
        let folder = folder.map_or_else(std::env::temp_dir, existing);
        let failed = |source| OptimizerError::StateFile { folder: folder.clone(), bytes, source };
        let path = Removed(folder.join(unused_name()));
        let options = &mut File::options();
        let mut file =
            options.read(true).write(true).create_new(true).open(&path.0).map_err(failed)?;
        // Where an open file may lose its name, not even a kill leaves it behind.
        let _ = fs::remove_file(&path.0);
        if !reserve(&mut file, bytes, signal).map_err(failed)? {
            return Err(Error::Cancelled);
        }
        // SAFETY: `reserve` has given the file this length, so every page of the map has its place in it.
        // The file was made a moment ago under a new name (`create_new`) and is held by nobody else,
        // so nobody shortens it or writes to it beside this map.
        let map = unsafe { MmapMut::map_mut(&file) }.map_err(failed)?;
        Ok(MappedState { map, _file: path })
    }

    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map
    }
}

/// A file that is removed when this goes out of scope, if it still has its name.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The folder, or the nearest above it that is there: the output folder need not be made for this.
fn existing(folder: &Path) -> PathBuf {
    let found = folder.ancestors().find(|folder| folder.is_dir());
    found.map_or_else(|| PathBuf::from("."), PathBuf::from)
}

/// A name that no other process and no earlier call took.
fn unused_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!(".lora-train-state-{}-{number}", std::process::id())
}

/// Takes `bytes` of the disk by writing zeros, which every file system understands. False: cancelled.
fn reserve(file: &mut impl Write, bytes: usize, signal: &Signal) -> io::Result<bool> {
    let zeros = vec![0; CHUNK.min(bytes)];
    let mut left = bytes;
    while left > 0 {
        let chunk = left.min(CHUNK);
        file.write_all(&zeros[..chunk])?;
        left -= chunk;
        signal.advance(chunk as u64);
        if signal.cancelled() {
            return Ok(false);
        }
    }
    file.flush()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_no_name_and_starts_with_zeros() {
        let folder = std::env::temp_dir().join(format!("lora-train-mapped-{}", std::process::id()));
        fs::create_dir(&folder).expect("a temporary folder");
        let bytes = CHUNK + 4097;
        let signal = Signal::default();
        signal.expect(bytes as u64);
        signal.begin(0);
        let mut state =
            MappedState::zeroed(Some(&folder.join("not/there")), bytes, &signal).expect("a file");
        assert_eq!(signal.progress(), (bytes as u64, bytes as u64));
        assert_eq!(state.bytes(), vec![0; bytes]);
        state.bytes_mut()[CHUNK..].fill(7);
        assert_eq!(state.bytes()[CHUNK - 1..CHUNK + 1], [0, 7]);
        if cfg!(unix) {
            assert_eq!(fs::read_dir(&folder).expect("the folder").count(), 0);
        }
        drop(state);
        fs::remove_dir(&folder).expect("an empty folder");
    }

    #[test]
    fn a_place_where_no_file_can_be_made_is_named_with_its_size() {
        // A file stands where the folder should be: then the folder above is taken, and this is one.
        let Some(folder) = ["/proc", "/sys"].map(Path::new).into_iter().find(|path| path.is_dir())
        else {
            println!("skipped: no folder that takes no file is known here");
            return;
        };
        let error = MappedState::zeroed(Some(folder), 5 << 30, &Signal::default())
            .err()
            .expect("no file can be made");
        let text = error.to_string();
        assert!(
            text.contains(&folder.display().to_string()) && text.contains("5.00 GiB"),
            "{text}"
        );
        assert_eq!(error.code(), crate::Code::Output);
    }

    #[test]
    fn the_signal_ends_the_writing_of_zeros() {
        let signal = Signal::default();
        signal.cancel();
        let error = MappedState::zeroed(None, 3 * CHUNK, &signal).err().expect("cancelled");
        assert_eq!(error.code(), crate::Code::Cancelled);
        assert_eq!(signal.progress().0, CHUNK as u64, "what was written before it was asked");
    }

    #[test]
    fn a_full_disk_is_an_error_before_anything_is_mapped() {
        let Ok(mut full) = File::options().write(true).open("/dev/full") else {
            println!("skipped: there is no /dev/full");
            return;
        };
        let error = reserve(&mut full, 3 * CHUNK, &Signal::default()).expect_err("no space");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
