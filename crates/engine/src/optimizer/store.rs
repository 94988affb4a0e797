//! Where the optimizer's state lies: one run of bytes, all zero at first, in memory or in a mapped file.
//! Knows nothing of what it holds.

use super::layout::Part;
use super::mapped::MappedState;
use crate::Result;
use crate::signal::Signal;
use std::path::Path;

/// The bytes of all parts of a layout.
pub(super) enum Store {
    /// As f32, so that the parts are aligned.
    Memory(Vec<f32>),
    Mapped(MappedState),
}

impl Store {
    /// Pages are taken from the system when they are first written.
    pub fn in_memory(bytes: usize) -> Store {
        Store::Memory(vec![0.0; bytes.div_ceil(size_of::<f32>())])
    }

    /// In a file of `folder`, or of the system's folder for temporary files.
    pub fn mapped(folder: Option<&Path>, bytes: usize, signal: &Signal) -> Result<Store> {
        Ok(Store::Mapped(MappedState::zeroed(folder, bytes, signal)?))
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            Store::Memory(memory) => bytemuck::cast_slice(memory),
            Store::Mapped(mapped) => mapped.bytes(),
        }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Store::Memory(memory) => bytemuck::cast_slice_mut(memory),
            Store::Mapped(mapped) => mapped.bytes_mut(),
        }
    }

    /// The bytes of some parts of the layout that this was made for.
    pub fn slices<const K: usize>(&mut self, parts: &[Part; K]) -> [&mut [u8]; K] {
        let ranges = parts.each_ref().map(|part| part.bytes.clone());
        self.bytes_mut().get_disjoint_mut(ranges).expect("parts of one layout lie apart")
    }
}
