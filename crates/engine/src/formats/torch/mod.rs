//! Reads `pytorch_model.bin`: a ZIP archive with a pickle of names and the bytes of each storage.
//!
//! ```text
//! NAME/data.pkl        {name: (storage, offset, shape, strides)}, see `pickle.rs`
//! NAME/data/KEY        a storage's values, aligned to 64 bytes
//! NAME/byteorder       "little"; absent in older files
//! ```
//! Runs nothing, copies nothing: a tensor is a place in the mapped file. Two tensors may share a storage
//! (tied weights); a tensor may be a view with strides of its own.

mod fault;
mod pickle;
mod value;
mod zip;

pub use fault::TorchFault;

use super::dtype::StoredDtype;
use super::mapped::MappedFile;
use super::strided::{is_contiguous, span};
use super::{FormatError, Result};
use fault::Fault;
use pickle::RawTensor;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// Longest pickle that is read: room for 80,000 tensors.
const PICKLE_BYTES_MAX: u64 = 16 << 20;
/// How the format from before PyTorch 1.6 begins: the pickle of its magic number.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

/// A tensor of a file. `begin` counts from the file's start.
#[derive(Clone, Debug, PartialEq)]
pub struct TorchTensor {
    pub name: String,
    pub dtype: StoredDtype,
    pub shape: Vec<usize>,
    /// Of its first value.
    pub begin: usize,
    /// Values from one index to the next, for each dimension; none where the values lie one after another.
    pub strides: Option<Vec<usize>>,
}

/// A mapped `.bin` file, all its tensors checked.
#[derive(Debug)]
pub struct TorchFile {
    pub(super) file: MappedFile,
    tensors: Vec<TorchTensor>,
}

impl TorchFile {
    pub fn open(path: &Path) -> Result<TorchFile> {
        let file = MappedFile::open(path)?;
        let tensors = parse(&file.map).map_err(|(byte, what)| FormatError::Torch {
            path: path.into(),
            byte,
            what: Box::new(what),
        })?;
        Ok(TorchFile { file, tensors })
    }

    /// The tensors in the order of the state dict.
    pub fn tensors(&self) -> &[TorchTensor] {
        &self.tensors
    }
}

fn parse(data: &[u8]) -> Result<Vec<TorchTensor>, Fault> {
    if data.starts_with(LEGACY) {
        return Err((0, TorchFault::Legacy));
    }
    let entries = zip::entries(data)?;
    let of_pickle = |name: &str| matches!(name.split_once('/'), Some((_, "data.pkl")));
    let pickles: Vec<&zip::Entry> = entries.iter().filter(|e| of_pickle(e.name)).collect();
    let &[pickle] = pickles.as_slice() else {
        return Err((0, TorchFault::Pickles { found: pickles.len() }));
    };
    let (at, value) = (pickle.begin as u64, pickle.bytes as u64);
    if value > PICKLE_BYTES_MAX {
        let what = "bytes of a pickle";
        return Err((at, TorchFault::Count { what, value, limit: PICKLE_BYTES_MAX }));
    }
    let folder = pickle.name.strip_suffix("data.pkl").expect("it ends so");
    let bytes = |entry: &zip::Entry| &data[entry.begin..entry.begin + entry.bytes];
    let below: HashMap<&str, &zip::Entry> =
        entries.iter().filter_map(|e| Some((e.name.strip_prefix(folder)?, e))).collect();
    if let Some(order) = below.get("byteorder")
        && bytes(order) != b"little"
    {
        return Err((order.begin as u64, TorchFault::BigEndian));
    }
    let mut names = HashSet::new();
    let mut tensors = Vec::new();
    for (name, raw) in pickle::read(bytes(pickle), at)? {
        if !names.insert(name) {
            return Err((raw.at, TorchFault::DuplicateTensor(name.to_owned())));
        }
        let storage = below.get(format!("data/{}", raw.storage.key).as_str());
        tensors.push(place(name, raw, storage.copied())?);
    }
    Ok(tensors)
}

/// Checks a tensor against its storage, and the storage against its entry.
fn place(name: &str, raw: RawTensor, entry: Option<&zip::Entry>) -> Result<TorchTensor, Fault> {
    let RawTensor { at, storage, offset, shape, strides } = raw;
    let named = || (name.to_owned(), storage.key.to_owned());
    let Some(entry) = entry else {
        let (tensor, storage) = named();
        return Err((at, TorchFault::NoStorage { tensor, storage }));
    };
    let (dtype, values, bytes) = (storage.dtype, storage.values, entry.bytes as u64);
    if dtype.bytes_of(values) != Some(bytes) {
        let (tensor, storage) = named();
        return Err((at, TorchFault::StorageSize { tensor, storage, values, dtype, bytes }));
    }
    match fitted(offset, values, &shape, &strides) {
        None => {
            let tensor = name.to_owned();
            Err((at, TorchFault::View { tensor, shape, strides, offset, values }))
        }
        Some((offset, shape, strides)) => {
            // Inside the entry, as the view is inside the storage.
            let begin = entry.begin + offset * dtype.block().1;
            let strides = (!is_contiguous(&shape, &strides)).then_some(strides);
            Ok(TorchTensor { name: name.to_owned(), dtype, shape, begin, strides })
        }
    }
}

/// The view as places in memory, if it lies in a storage of `values` and has no more values than it.
fn fitted(
    offset: u64,
    values: u64,
    shape: &[u64],
    strides: &[u64],
) -> Option<(usize, Vec<usize>, Vec<usize>)> {
    let fits = |n: &u64| usize::try_from(*n).ok();
    let offset = fits(&offset)?;
    let shape = shape.iter().map(fits).collect::<Option<Vec<_>>>()?;
    let strides = strides.iter().map(fits).collect::<Option<Vec<_>>>()?;
    if shape.len() != strides.len() {
        return None;
    }
    // One value may be shown many times (torch's `expand`), but not more often than would be stored.
    let elements = shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim))?;
    let end = span(&shape, &strides)?.checked_add(offset)?;
    (elements as u64 <= values && end as u64 <= values).then_some((offset, shape, strides))
}
