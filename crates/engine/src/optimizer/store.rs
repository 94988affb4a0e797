//! The memory of the optimizer's state: one run of bytes, all zero at first. Knows nothing of what it
//! holds.

use std::ops::Range;

/// Bytes in memory.
pub(super) struct Store {
    /// As f32, so that the parts are aligned.
    memory: Vec<f32>,
}

impl Store {
    /// Pages are taken from the system when they are first written.
    pub fn zeroed(bytes: usize) -> Store {
        Store { memory: vec![0.0; bytes.div_ceil(size_of::<f32>())] }
    }

    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.memory)
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.memory)
    }

    /// Two ranges as f32. The layout makes ranges that are inside, apart and aligned.
    pub fn f32s(&mut self, ranges: [Range<usize>; 2]) -> [&mut [f32]; 2] {
        let parts = self.bytes_mut().get_disjoint_mut(ranges);
        parts.expect("ranges of one layout").map(bytemuck::cast_slice_mut)
    }
}
