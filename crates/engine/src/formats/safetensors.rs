//! Reads a safetensors file: checks the header and finds each tensor's bytes in the map.
//!
//! ```text
//! u64 n (little endian) · n bytes of JSON {name: {dtype, shape, data_offsets: [begin, end]}} · data
//! ```
//! The rules are those of the format's own library: offsets count from the data's start, tensors
//! lie one after another without gaps or overlaps, and the last ends with the file. Copies nothing.

use super::dtype::StoredDtype;
use super::mapped::MappedFile;
use super::{FormatError, Result, json};
use serde::Deserialize;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;

/// Longest header that is read: 130,000 tensors with long names, and 20 times as much as any model
/// in use has. (The format's own library allows 100 MB.)
pub const HEADER_BYTES_MAX: u64 = 16 << 20;
const DIMS_MAX: usize = 8;

/// A tensor of a file. `begin` counts from the file's start.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub name: String,
    pub dtype: StoredDtype,
    pub shape: Vec<usize>,
    pub begin: usize,
    pub bytes: usize,
}

/// A mapped safetensors file, its header checked.
#[derive(Debug)]
pub struct SafetensorsFile {
    pub(super) file: MappedFile,
    entries: Vec<Entry>,
    metadata: BTreeMap<String, String>,
}

impl SafetensorsFile {
    pub fn open(path: &Path) -> Result<SafetensorsFile> {
        let file = MappedFile::open(path)?;
        let (entries, metadata) = parse(path, &file.map)?;
        Ok(SafetensorsFile { file, entries, metadata })
    }

    /// The tensors in the order of their bytes.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The header's `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The bytes of one of `entries`.
    pub fn bytes(&self, entry: &Entry) -> &[u8] {
        &self.file.map[entry.begin..entry.begin + entry.bytes]
    }
}

/// Checks the header against the file's length. Allocates in proportion to the header only.
fn parse(path: &Path, data: &[u8]) -> Result<(Vec<Entry>, BTreeMap<String, String>)> {
    let len = data.len() as u64;
    let Some(first) = data.first_chunk::<8>() else {
        return Err(FormatError::Truncated {
            path: path.into(),
            what: "the header's length",
            end: 8,
            len,
        });
    };
    let header_bytes = u64::from_le_bytes(*first);
    if header_bytes > HEADER_BYTES_MAX {
        return Err(FormatError::Promise {
            path: path.into(),
            byte: 0,
            what: "the header",
            value: header_bytes,
            limit: HEADER_BYTES_MAX,
        });
    }
    let start = 8 + header_bytes;
    let Some(text) = data.get(8..start as usize) else {
        return Err(FormatError::Truncated {
            path: path.into(),
            what: "the header",
            end: start,
            len,
        });
    };
    let header: Header = serde_json::from_slice(text).map_err(|e| FormatError::Header {
        path: path.into(),
        byte: 8 + byte_of(text, e.line(), e.column()),
        what: json::cause(&e),
    })?;
    Ok((place(path, header.tensors, start, len)?, header.metadata))
}

/// The position of a line and column in `text`.
fn byte_of(text: &[u8], line: usize, column: usize) -> u64 {
    let before: usize =
        text.split_inclusive(|&b| b == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    (before + column.saturating_sub(1)) as u64
}

/// Turns the header's claims into entries that lie inside the file, or says which does not.
fn place(
    path: &Path,
    mut raw: Vec<(String, RawEntry)>,
    start: u64,
    len: u64,
) -> Result<Vec<Entry>> {
    raw.sort_by(|(a_name, a), (b_name, b)| (a.data_offsets, a_name).cmp(&(b.data_offsets, b_name)));
    let mut names = HashSet::with_capacity(raw.len());
    for (name, _) in &raw {
        if !names.insert(name.as_str()) {
            return Err(FormatError::DuplicateTensor { path: path.into(), tensor: name.clone() });
        }
    }
    drop(names);
    let mut expected = start;
    let mut entries = Vec::with_capacity(raw.len());
    for (tensor, raw) in raw {
        let entry = place_one(path, tensor, raw, start, expected, len)?;
        expected += entry.bytes as u64;
        entries.push(entry);
    }
    if expected != len {
        return Err(FormatError::BytesLeft { path: path.into(), end: expected, len });
    }
    Ok(entries)
}

fn place_one(
    path: &Path,
    tensor: String,
    raw: RawEntry,
    start: u64,
    expected: u64,
    len: u64,
) -> Result<Entry> {
    let Some(dtype) = StoredDtype::from_safetensors(&raw.dtype) else {
        return Err(FormatError::UnknownDtype { path: path.into(), tensor, dtype: raw.dtype });
    };
    let (begin, end) =
        (start.saturating_add(raw.data_offsets.0), start.saturating_add(raw.data_offsets.1));
    if end > len {
        return Err(FormatError::TensorPastEnd { path: path.into(), tensor, end, len });
    }
    if begin != expected || end < begin {
        return Err(FormatError::TensorPlace { path: path.into(), tensor, begin, expected });
    }
    let bytes = end - begin;
    let elements = raw.shape.0.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim));
    if elements.and_then(|n| dtype.bytes_of(n)) != Some(bytes) {
        return Err(FormatError::TensorSize {
            path: path.into(),
            tensor,
            shape: raw.shape.0,
            dtype,
            begin,
            bytes,
        });
    }
    // A dimension beside a zero may be of any size; it fits a usize all the same, or is no shape.
    let shape: Result<Vec<usize>, _> =
        raw.shape.0.iter().map(|&dim| usize::try_from(dim)).collect();
    let Ok(shape) = shape else {
        return Err(FormatError::TensorSize {
            path: path.into(),
            tensor,
            shape: raw.shape.0,
            dtype,
            begin,
            bytes,
        });
    };
    Ok(Entry { name: tensor, dtype, shape, begin: begin as usize, bytes: bytes as usize })
}

/// The header as it stands there; names may repeat.
struct Header {
    tensors: Vec<(String, RawEntry)>,
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Dims,
    data_offsets: (u64, u64),
}

/// A shape of at most `DIMS_MAX` dimensions, so that a long list is refused while it is read.
struct Dims(Vec<u64>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Header, D::Error> {
        struct HeaderVisitor;
        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header { tensors: Vec::new(), metadata: BTreeMap::new() };
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        header.metadata = map.next_value()?;
                    } else {
                        header.tensors.push((name, map.next_value()?));
                    }
                }
                Ok(header)
            }
        }
        d.deserialize_map(HeaderVisitor)
    }
}

impl<'de> Deserialize<'de> for Dims {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Dims, D::Error> {
        struct DimsVisitor;
        impl<'de> Visitor<'de> for DimsVisitor {
            type Value = Dims;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, "a shape of at most {DIMS_MAX} dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Dims, A::Error> {
                let mut dims = Vec::with_capacity(4);
                while let Some(dim) = seq.next_element()? {
                    if dims.len() == DIMS_MAX {
                        return Err(A::Error::invalid_length(DIMS_MAX + 1, &self));
                    }
                    dims.push(dim);
                }
                Ok(Dims(dims))
            }
        }
        d.deserialize_seq(DimsVisitor)
    }
}
