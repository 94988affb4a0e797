//! Reads GGUF files of versions 2 and 3: metadata, tensors' places, and (in the files beside this
//! one) the values of GGML's block formats and the translation to Hugging Face's names.
//!
//! ```text
//! "GGUF" · u32 version · u64 tensors · u64 keys
//! keys    × (text key · u32 type · value)
//! tensors × (text name · u32 n · n × u64 dimension, innermost first · u32 type · u64 offset)
//! padding to the alignment · data
//! ```
//! Numbers are little endian, texts are u64 length and UTF-8. Nothing is allocated beyond what the
//! file's own length and a fixed budget allow.

mod cursor;
pub(super) mod hf;
mod k_quants;
pub(super) mod quants;
mod rope;
mod value;

pub use value::{Array, Value};

use super::dtype::StoredDtype;
use super::error::GgufFault;
use super::mapped::MappedFile;
use super::model::read_values;
use super::{FormatError, Result};
use cursor::{Cursor, Fault};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

const KEYS_MAX: u64 = 1 << 16;
const TENSORS_MAX: u64 = 1 << 16;
/// The format's own limit for keys; names of tensors are shorter.
const NAME_BYTES_MAX: u64 = (1 << 16) - 1;
const DIMS_MAX: u32 = 4;
const ALIGNMENT: u64 = 32;

/// A tensor of the file. `begin` counts from the file's start; the shape is row-major, as in NumPy.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufTensor {
    pub name: String,
    pub dtype: StoredDtype,
    pub shape: Vec<usize>,
    pub begin: usize,
    pub bytes: usize,
}

/// A mapped GGUF file, its header checked.
#[derive(Debug)]
pub struct Gguf {
    pub(super) file: MappedFile,
    metadata: BTreeMap<String, Value>,
    tensors: Vec<GgufTensor>,
}

impl Gguf {
    pub fn open(path: &Path) -> Result<Gguf> {
        let file = MappedFile::open(path)?;
        let (metadata, tensors) = parse(&file.map).map_err(|(byte, what)| FormatError::Gguf {
            path: path.into(),
            byte,
            what,
        })?;
        Ok(Gguf { file, metadata, tensors })
    }

    /// A value of the metadata.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.metadata
    }

    /// The tensors in the order of the header.
    pub fn tensors(&self) -> &[GgufTensor] {
        &self.tensors
    }

    /// The values of one of `tensors`, in the order of the file.
    pub fn values(&self, tensor: &GgufTensor) -> Result<Vec<f32>> {
        let bytes = &self.file.map[tensor.begin..tensor.begin + tensor.bytes];
        read_values(&self.file.path, &tensor.name, tensor.dtype, bytes)
    }
}

type Header = (BTreeMap<String, Value>, Vec<GgufTensor>);

fn parse(data: &[u8]) -> Result<Header, Fault> {
    let mut cursor = Cursor::new(data);
    if !data.starts_with(b"GGUF") {
        return cursor.fault(GgufFault::Magic);
    }
    cursor.u32("the magic")?;
    match cursor.u32("the version")? {
        2 | 3 => {}
        version if matches!(version.swap_bytes(), 1..=3) => return Err((4, GgufFault::BigEndian)),
        version => return Err((4, GgufFault::Version(version))),
    }
    // Least sizes: a tensor's name, count of dimensions, type and offset; a key and a value of a byte.
    let n_tensors = cursor.count("tensors", 24, TENSORS_MAX)?;
    let n_keys = cursor.count("keys", 13, KEYS_MAX)?;
    let mut metadata = BTreeMap::new();
    for _ in 0..n_keys {
        let at = cursor.position();
        let key = cursor.string("bytes of a key", NAME_BYTES_MAX)?;
        let value = cursor.value()?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err((at, GgufFault::DuplicateKey(key)));
        }
    }
    let alignment = match metadata.get("general.alignment").map(Value::as_u64) {
        None => ALIGNMENT,
        Some(Some(n)) if n.is_power_of_two() && (8..=65536).contains(&n) => n,
        Some(_) => return cursor.fault(GgufFault::Alignment),
    };
    let mut raw = Vec::with_capacity(n_tensors);
    for _ in 0..n_tensors {
        raw.push(read_tensor(&mut cursor, alignment)?);
    }
    let start = cursor.position().next_multiple_of(alignment);
    let tensors = place(raw, start, data.len() as u64)?;
    Ok((metadata, tensors))
}

/// A tensor as the header has it. `at` is the place of its entry.
struct RawTensor {
    at: u64,
    name: String,
    shape: Vec<u64>,
    dtype: StoredDtype,
    offset: u64,
    bytes: u64,
}

fn read_tensor(cursor: &mut Cursor, alignment: u64) -> Result<RawTensor, Fault> {
    let at = cursor.position();
    let name = cursor.string("bytes of a tensor's name", NAME_BYTES_MAX)?;
    let n_dims = cursor.u32("a tensor's dimensions")?;
    if n_dims > DIMS_MAX {
        let (value, limit) = (n_dims.into(), DIMS_MAX.into());
        return Err((at, GgufFault::Count { what: "dimensions", value, limit }));
    }
    let mut shape = Vec::with_capacity(DIMS_MAX as usize);
    for _ in 0..n_dims {
        shape.push(cursor.u64("a tensor's dimensions")?);
    }
    let kind = cursor.u32("a tensor's type")?;
    let offset = cursor.u64("a tensor's offset")?;
    let Some(dtype) = ggml_type(kind) else {
        return Err((at, GgufFault::TensorType { tensor: name, dtype: kind }));
    };
    // A row is a whole number of blocks, so that rows can be moved without decoding them.
    let row_fits = shape.first().is_none_or(|row| row % dtype.block().0 as u64 == 0);
    let elements = shape.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim));
    shape.reverse();
    let Some(bytes) = elements.filter(|_| row_fits).and_then(|n| dtype.bytes_of(n)) else {
        return Err((at, GgufFault::TensorBlocks { tensor: name, shape, dtype }));
    };
    if offset % alignment != 0 {
        return Err((at, GgufFault::TensorAlignment { tensor: name, offset, alignment }));
    }
    Ok(RawTensor { at, name, shape, dtype, offset, bytes })
}

/// GGML's numbers of the types that can be read.
fn ggml_type(kind: u32) -> Option<StoredDtype> {
    use StoredDtype::*;
    Some(match kind {
        0 => F32,
        1 => F16,
        2 => Q4_0,
        3 => Q4_1,
        6 => Q5_0,
        7 => Q5_1,
        8 => Q8_0,
        10 => Q2K,
        11 => Q3K,
        12 => Q4K,
        13 => Q5K,
        14 => Q6K,
        28 => F64,
        30 => Bf16,
        _ => return None,
    })
}

/// Turns the header's claims into tensors that lie inside the file and apart from each other.
fn place(raw: Vec<RawTensor>, start: u64, len: u64) -> Result<Vec<GgufTensor>, Fault> {
    let mut names = HashSet::with_capacity(raw.len());
    let mut tensors = Vec::with_capacity(raw.len());
    for raw in &raw {
        if !names.insert(raw.name.as_str()) {
            return Err((raw.at, GgufFault::DuplicateTensor(raw.name.clone())));
        }
        let begin = start.saturating_add(raw.offset);
        let end = begin.saturating_add(raw.bytes);
        if end > len {
            return Err((raw.at, GgufFault::TensorPastEnd { tensor: raw.name.clone(), end, len }));
        }
        tensors.push(GgufTensor {
            name: raw.name.clone(),
            dtype: raw.dtype,
            // Inside the file each dimension fits, unless another is zero: then none is a shape.
            shape: raw
                .shape
                .iter()
                .map(|&dim| usize::try_from(dim).unwrap_or(usize::MAX))
                .collect(),
            begin: begin as usize,
            bytes: raw.bytes as usize,
        });
    }
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&i| (tensors[i].begin, tensors[i].bytes));
    for pair in order.windows(2) {
        let (first, second) = (&tensors[pair[0]], &tensors[pair[1]]);
        if first.begin + first.bytes > second.begin {
            let what =
                GgufFault::Overlap { first: first.name.clone(), second: second.name.clone() };
            return Err((raw[pair[1]].at, what));
        }
    }
    Ok(tensors)
}
