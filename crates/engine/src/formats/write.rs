//! Writes files and folders that appear whole or not at all: beside their place, synced, renamed.
//!
//! What a failure or a kill leaves behind is named `NAME.tmp-…`; a failure removes it. Never writes
//! into a file that is there already.

use super::dtype::StoredDtype;
use super::{FormatError, Result};
use crate::signal::Signal;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that are written before they are synced: else a large file waits for its disk at the end, unseen.
const SYNC_BYTES: u64 = 256 << 20;
/// Bytes of a tensor that are counted at a time.
const COUNTED_BYTES: usize = 16 << 20;

/// A file that is being written; errors name its final place.
pub struct OutFile {
    path: PathBuf,
    file: BufWriter<File>,
    unsynced: u64,
    signal: Signal,
}

impl OutFile {
    fn new(path: &Path, file: File) -> OutFile {
        let file = BufWriter::with_capacity(1 << 20, file);
        OutFile { path: path.into(), file, unsynced: 0, signal: Signal::default() }
    }

    /// The signal that counts the tensors' bytes from here on.
    pub fn watch(&mut self, signal: &Signal) {
        self.signal = signal.clone();
    }

    /// The file, everything written to it.
    fn into_file(self) -> Result<File> {
        self.file.into_inner().map_err(|e| FormatError::write(&self.path, e.into_error()))
    }

    pub fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_and_sync(bytes).map_err(|e| FormatError::write(&self.path, e))
    }

    /// Writes a tensor's bytes, counted.
    fn write_tensor(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(COUNTED_BYTES) {
            self.write_all(piece)?;
            self.signal.advance(piece.len() as u64);
        }
        Ok(())
    }

    fn write_and_sync(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= SYNC_BYTES {
            self.unsynced = 0;
            self.file.flush()?;
            self.file.get_ref().sync_data()?;
        }
        Ok(())
    }
}

/// Writes `path` by `fill`. The old file stays if anything fails.
pub fn write_atomically<E: From<FormatError>>(
    path: &Path,
    fill: impl FnOnce(&mut OutFile) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |e| FormatError::write(path, e);
    let temp = Leftover(beside(path));
    let file = File::options().write(true).create_new(true).open(&temp.0).map_err(failed)?;
    let mut out = OutFile::new(path, file);
    fill(&mut out)?;
    out.into_file()?.sync_all().map_err(failed)?;
    fs::rename(&temp.0, path).map_err(failed)?;
    sync_folder(path.parent()).map_err(failed)?;
    Ok(())
}

/// A name beside `path` that no other process and no earlier call took.
fn beside(path: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".tmp-{}-{number}", std::process::id()));
    path.with_file_name(name)
}

/// A temporary file or folder, removed when it goes out of scope before it was renamed.
struct Leftover(PathBuf);

impl Drop for Leftover {
    fn drop(&mut self) {
        // After the rename there is nothing to remove; after a failure its cause is reported already.
        let _ = match self.0.is_dir() {
            true => fs::remove_dir_all(&self.0),
            false => fs::remove_file(&self.0),
        };
    }
}

/// Makes renames inside a folder last. Only Unix can open a folder.
fn sync_folder(folder: Option<&Path>) -> io::Result<()> {
    let here = Path::new(".");
    let folder = folder.map(|f| if f.as_os_str().is_empty() { here } else { f }).unwrap_or(here);
    match cfg!(unix) {
        true => File::open(folder)?.sync_all(),
        false => Ok(()),
    }
}

/// A folder of files that appears by one rename, if nothing is in its place yet.
pub struct OutFolder {
    target: PathBuf,
    temp: Leftover,
}

impl OutFolder {
    /// Makes the temporary folder and the parents of `target`: what can't be written fails here.
    pub fn create(target: &Path) -> Result<OutFolder> {
        let failed = |e| FormatError::write(target, e);
        if target.exists() && !target.is_dir() {
            return Err(failed(io::ErrorKind::NotADirectory.into()));
        }
        // `a/..` or `/` has no name of its own to write beside.
        if target.file_name().is_none() {
            return Err(failed(io::ErrorKind::InvalidFilename.into()));
        }
        let temp = Leftover(beside(target));
        fs::create_dir_all(&temp.0).map_err(failed)?;
        Ok(OutFolder { target: target.into(), temp })
    }

    /// Where the files are to be written.
    pub fn path(&self) -> &Path {
        &self.temp.0
    }

    /// Writes one file.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write_with(name, |file| file.write_all(bytes))
    }

    /// Writes one file by `fill`; `finish` syncs it.
    pub fn write_with<E: From<FormatError>>(
        &self,
        name: &str,
        fill: impl FnOnce(&mut OutFile) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = self.target.join(name);
        let failed = |e| FormatError::write(&path, e);
        let file = File::create(self.path().join(name)).map_err(failed)?;
        let mut out = OutFile::new(&path, file);
        fill(&mut out)?;
        out.into_file()?;
        Ok(())
    }

    /// Syncs what was written and puts it in its place. A folder that is there already keeps its other
    /// files, except those that `is_stale` names: each new file replaces its namesake by a rename.
    pub fn finish(self, is_stale: impl Fn(&str) -> bool) -> Result<()> {
        let failed = |e| FormatError::write(&self.target, e);
        let names = self.sync_files().map_err(failed)?;
        sync_folder(Some(self.path())).map_err(failed)?;
        if !self.target.exists() {
            fs::rename(self.path(), &self.target).map_err(failed)?;
            return sync_folder(self.target.parent()).map_err(failed);
        }
        for name in &names {
            fs::rename(self.path().join(name), self.target.join(name)).map_err(failed)?;
        }
        for entry in fs::read_dir(&self.target).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if !names.contains(&name) && is_stale(&name.to_string_lossy()) {
                fs::remove_file(self.target.join(&name)).map_err(failed)?;
            }
        }
        sync_folder(Some(&self.target)).map_err(failed)
    }

    fn sync_files(&self) -> io::Result<Vec<std::ffi::OsString>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path())? {
            let entry = entry?;
            // Windows syncs only a file that may be written.
            File::options().write(true).open(entry.path())?.sync_all()?;
            names.push(entry.file_name());
        }
        Ok(names)
    }
}

/// Name, dtype and shape of a tensor to be written.
pub type TensorHead<'a> = (&'a str, StoredDtype, &'a [usize]);

/// A tensor to be written.
#[derive(Clone, Copy, Debug)]
pub struct TensorBytes<'a> {
    pub name: &'a str,
    pub dtype: StoredDtype,
    pub shape: &'a [usize],
    pub bytes: &'a [u8],
}

/// Writes a safetensors file, to the byte as the format's own library writes it.
///
/// Panics if a dtype is GGML's, or bytes and shape differ: the caller made both.
pub fn write_safetensors(
    file: &mut OutFile,
    tensors: &[TensorBytes],
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let described: Vec<TensorHead> = tensors.iter().map(|t| (t.name, t.dtype, t.shape)).collect();
    let (order, header) = header(&described, metadata);
    file.write_all(&header)?;
    for i in order {
        let tensor = &tensors[i];
        assert_eq!(
            tensor.bytes.len() as u64,
            bytes_of(tensor.dtype, tensor.shape),
            "`{}`",
            tensor.name
        );
        file.write_tensor(tensor.bytes)?;
    }
    Ok(())
}

/// The order of tensors in the file: by dtype, then by name.
pub(super) fn order<'a>(tensors: impl Iterator<Item = (&'a str, StoredDtype)>) -> Vec<usize> {
    let rank =
        |dtype: StoredDtype| dtype.safetensors_rank().expect("a dtype that safetensors can hold");
    let keys: Vec<_> = tensors.map(|(name, dtype)| (rank(dtype), name)).collect();
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by_key(|&i| keys[i]);
    order
}

/// The order of the tensors in the file, and the bytes before their data.
pub(super) fn header(
    tensors: &[TensorHead],
    metadata: &BTreeMap<String, String>,
) -> (Vec<usize>, Vec<u8>) {
    let order = order(tensors.iter().map(|(name, dtype, _)| (*name, *dtype)));
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut entries = Vec::with_capacity(tensors.len() + 1);
    if !metadata.is_empty() {
        let pairs: Vec<String> =
            metadata.iter().map(|(k, v)| format!("{}:{}", quoted(k), quoted(v))).collect();
        entries.push(format!("\"__metadata__\":{{{}}}", pairs.join(",")));
    }
    let mut begin = 0;
    for &i in &order {
        let (name, dtype, shape) = tensors[i];
        let end = begin + bytes_of(dtype, shape);
        let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
        let (name, shape) = (quoted(name), shape.join(","));
        entries.push(format!(
            "{name}:{{\"dtype\":\"{dtype}\",\"shape\":[{shape}],\"data_offsets\":[{begin},{end}]}}"
        ));
        begin = end;
    }
    let mut json = format!("{{{}}}", entries.join(",")).into_bytes();
    // Spaces up to a multiple of 8 align the data.
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    (order, bytes)
}

/// Bytes of a tensor that is in memory, or of a plan for one: the product can't overflow.
pub(crate) fn bytes_of(dtype: StoredDtype, shape: &[usize]) -> u64 {
    shape.iter().map(|&dim| dim as u64).product::<u64>() * dtype.block().1 as u64
}
