//! A file of weights in few bits that `write_packed` wrote: opened whole or refused. Knows no model.

use super::packed::{Packed, fold};
use crate::formats::model::{Place, RowOrder, TensorInfo};
use crate::formats::safetensors::{Entry, SafetensorsFile};
use crate::formats::{FormatError, Result};
use crate::weight::{Layout, Weight};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Weights in few bits that stay where they lie in the mapped file.
pub struct PackedFile {
    file: SafetensorsFile,
    packed: HashMap<String, Packed>,
}

impl PackedFile {
    /// Checks the header, each weight's parts and the checksum, for which all bytes are read.
    ///
    /// Errors: what [`SafetensorsFile::open`] refuses, parts that don't fit, a wrong checksum.
    pub fn open(path: &Path) -> Result<PackedFile> {
        let file = SafetensorsFile::open(path)?;
        let begin = file.entries().first().map_or(file.file.map.len(), |entry| entry.begin);
        let checksum = blake3::Hasher::new().update_rayon(&file.file.map[begin..]).finalize();
        if file.metadata().get(super::CHECKSUM).map(String::as_str) != Some(&checksum.to_hex()) {
            return Err(FormatError::Checksum { path: path.into() });
        }
        let part = |Entry { name, dtype, shape, begin, bytes }: &Entry| {
            let (name, shape) = (name.clone(), shape.clone());
            let place = Place { file: 0, begin: *begin, rows: RowOrder::AsIs };
            (TensorInfo { name, shape, dtype: *dtype, bytes: *bytes }, place)
        };
        let parts = file.entries().iter().map(part).collect();
        let (_, packed) = fold(std::slice::from_ref(&file.file), parts)?;
        Ok(PackedFile { file, packed })
    }

    pub fn metadata(&self) -> &BTreeMap<String, String> {
        self.file.metadata()
    }

    /// How a weight is laid out, and its `(rows, cols)`.
    pub fn describe(&self, name: &str) -> Option<(Layout, (usize, usize))> {
        self.packed.get(name).map(|packed| (packed.layout(), packed.dims()))
    }

    /// A weight where it lies; `None` for a name that is not there.
    pub fn weight(&self, name: &str) -> Result<Option<Weight>> {
        let files = std::slice::from_ref(&self.file.file);
        self.packed.get(name).map(|packed| packed.weight(files)).transpose()
    }

    /// The file's length.
    pub fn bytes(&self) -> u64 {
        self.file.file.map.len() as u64
    }
}
