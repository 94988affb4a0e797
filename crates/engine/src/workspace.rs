//! The memory of tensors that a step is done with, kept for those that it makes next: after the first
//! step hardly any large buffer is allocated, none is zeroed, and the system clears no page.
//!
//! What a buffer holds is left from before, so it is for outputs that are written whole. Knows no op.

use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Floats below which a buffer isn't worth keeping.
const FLOATS_MIN: usize = 4096;
/// Buffers kept at most: more than a step has where no block of a large model is recomputed.
const BUFFERS_MAX: usize = 2048;

/// Buffers of one session; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Workspace(Arc<Mutex<Vec<Vec<f32>>>>);

impl Workspace {
    /// A buffer of `len` floats of any value.
    pub fn take(&self, len: usize) -> Vec<f32> {
        match self.kept(len) {
            None => vec![0.0; len],
            Some(mut buffer) => {
                buffer.truncate(len);
                buffer.resize(len, 0.0);
                buffer
            }
        }
    }

    /// The smallest buffer that is large enough, unless it is more than twice as large. Where there is
    /// none, micro-batches have grown: the largest of the smaller ones makes room for the new buffer.
    fn kept(&self, len: usize) -> Option<Vec<f32>> {
        if len < FLOATS_MIN {
            return None;
        }
        let mut buffers = self.buffers();
        let fits = |buffer: &Vec<f32>| (len..=2 * len).contains(&buffer.capacity());
        let sized = || buffers.iter().enumerate().map(|(i, buffer)| (buffer.capacity(), i));
        let best = sized().filter(|&(_, i)| fits(&buffers[i])).min();
        let smaller = sized().filter(|&(capacity, _)| capacity < len).max();
        match (best, smaller) {
            (Some((_, i)), _) => Some(buffers.swap_remove(i)),
            (None, Some((_, i))) => {
                buffers.swap_remove(i);
                None
            }
            (None, None) => None,
        }
    }

    /// Keeps a buffer.
    pub fn put(&self, buffer: Vec<f32>) {
        let mut buffers = self.buffers();
        if buffer.capacity() >= FLOATS_MIN && buffers.len() < BUFFERS_MAX {
            buffers.push(buffer);
        }
    }

    /// Sets all that is kept to a value and returns how many buffers there are: with NaN, a test sees
    /// an output that isn't written whole.
    pub fn fill(&self, value: f32) -> usize {
        let mut buffers = self.buffers();
        buffers.iter_mut().for_each(|buffer| buffer.fill(value));
        buffers.len()
    }

    /// Keeps the memory of a tensor whose values nobody will read again: clones and views of it are
    /// empty from now on, and reading one panics. A view of a part of a buffer is only dropped.
    pub fn recycle(&self, x: Tensor) {
        let taken = Taken(Mutex::new(Vec::new()));
        // A tensor of another device or type keeps its memory, which is all that an error can mean.
        if x.inplace_op1(&taken).is_ok() {
            self.put(taken.0.into_inner().unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn buffers(&self) -> MutexGuard<'_, Vec<Vec<f32>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a tensor's memory as candle's in-place op.
struct Taken(Mutex<Vec<f32>>);

impl InplaceOp1 for Taken {
    fn name(&self) -> &'static str {
        "recycle"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        if let CpuStorage::F32(data) = storage
            && layout.contiguous_offsets() == Some((0, data.len()))
        {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = std::mem::take(data);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn held(workspace: &Workspace) -> Vec<usize> {
        let mut sizes: Vec<usize> = workspace.buffers().iter().map(Vec::capacity).collect();
        sizes.sort_unstable();
        sizes
    }

    #[test]
    fn a_tensors_memory_is_the_next_ones() {
        let workspace = Workspace::default();
        let x = Tensor::from_vec(vec![7.0f32; 5000], 5000, &Device::Cpu).expect("a tensor");
        workspace.recycle(x);
        assert_eq!(held(&workspace), [5000]);
        let buffer = workspace.take(4500);
        assert_eq!((buffer.len(), buffer.capacity(), buffer[0]), (4500, 5000, 7.0));
        workspace.put(buffer);
        assert_eq!(workspace.take(5000).len(), 5000);
        assert!(held(&workspace).is_empty());
    }

    #[test]
    fn what_is_too_small_makes_room_and_what_is_far_too_large_stays() {
        let workspace = Workspace::default();
        for len in [5000, 6000, 40_000] {
            workspace.put(vec![0.0; len]);
        }
        assert_eq!(workspace.take(10_000).capacity(), 10_000);
        assert_eq!(held(&workspace), [5000, 40_000]);
        workspace.put(vec![0.0; FLOATS_MIN - 1]);
        assert_eq!(held(&workspace), [5000, 40_000]);
    }

    #[test]
    fn views_and_other_types_are_left_alone() -> candle_core::Result<()> {
        let workspace = Workspace::default();
        let x = Tensor::ones((100, 100), candle_core::DType::F32, &Device::Cpu)?;
        workspace.recycle(x.narrow(0, 10, 50)?);
        workspace.recycle(x.t()?);
        workspace.recycle(x.to_dtype(candle_core::DType::BF16)?);
        assert!(held(&workspace).is_empty());
        assert_eq!(x.sum_all()?.to_scalar::<f32>()?, 10_000.0);
        workspace.recycle(x.clone());
        assert_eq!(held(&workspace), [10_000]);
        Ok(())
    }
}
