//! The expected tensors, read by the safetensors library: not by the reader that is under test.

use crate::Error;
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::Path;

pub(crate) struct Expected {
    path: String,
    tensors: BTreeMap<String, Vec<f32>>,
}

impl Expected {
    pub(crate) fn open(path: &Path) -> Result<Expected, Error> {
        let name = path.display().to_string();
        let data =
            std::fs::read(path).map_err(|source| Error::Io { path: name.clone(), source })?;
        let bad = |source| Error::Safetensors { path: name.clone(), source };
        let file = SafeTensors::deserialize(&data).map_err(bad)?;
        let values = |bytes: &[u8]| {
            bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        };
        let tensors = file.iter().filter(|(_, view)| view.dtype() == Dtype::F32);
        let tensors = tensors.map(|(name, view)| (name.to_owned(), values(view.data()))).collect();
        Ok(Expected { path: name, tensors })
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub(crate) fn get(&self, name: &str) -> Result<&[f32], Error> {
        let missing = || Error::Missing { path: self.path.clone(), key: name.to_owned() };
        self.tensors.get(name).map(Vec::as_slice).ok_or_else(missing)
    }
}
