//! The memory of tensors that a step is done with, kept for those that it makes next: after the first
//! step hardly any large buffer is allocated, none is zeroed, and the system clears no page.
//!
//! What a buffer holds is left from before, so it is for outputs that are written whole. Knows no op.

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Tensor, WithDType};
use half::bf16;
use kernels::value::Value;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Values below which a buffer isn't worth keeping.
const VALUES_MIN: usize = 4096;
/// Buffers kept at most: more than a step has where no block of a large model is recomputed.
const BUFFERS_MAX: usize = 2048;

/// The types that activations have on the CPU.
pub trait Element: WithDType + Value {
    /// The values of a tensor that has this type.
    fn values(storage: &mut CpuStorage) -> Option<&mut Vec<Self>>;
    fn buffers(kept: &mut Kept) -> &mut Buffers<Self>;
}

impl Element for f32 {
    fn values(storage: &mut CpuStorage) -> Option<&mut Vec<f32>> {
        if let CpuStorage::F32(values) = storage { Some(values) } else { None }
    }

    fn buffers(kept: &mut Kept) -> &mut Buffers<f32> {
        &mut kept.f32
    }
}

impl Element for bf16 {
    fn values(storage: &mut CpuStorage) -> Option<&mut Vec<bf16>> {
        if let CpuStorage::BF16(values) = storage { Some(values) } else { None }
    }

    fn buffers(kept: &mut Kept) -> &mut Buffers<bf16> {
        &mut kept.bf16
    }
}

type Buffers<T> = Vec<Vec<T>>;

/// Buffers that no tensor holds.
#[derive(Debug, Default)]
pub struct Kept {
    f32: Buffers<f32>,
    bf16: Buffers<bf16>,
}

/// Buffers of one session; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Workspace(Arc<Mutex<Kept>>);

impl Workspace {
    /// A buffer of `len` values, whichever.
    pub fn take<T: Element>(&self, len: usize) -> Vec<T> {
        let mut buffer = self.kept(len).unwrap_or_default();
        buffer.truncate(len);
        buffer.resize(len, T::zero());
        buffer
    }

    /// The smallest buffer that is large enough, unless it is more than twice as large. Where there is
    /// none, micro-batches have grown: the largest of the smaller ones makes room for the new buffer.
    fn kept<T: Element>(&self, len: usize) -> Option<Vec<T>> {
        if len < VALUES_MIN {
            return None;
        }
        let mut kept = self.lock();
        let buffers = T::buffers(&mut kept);
        let fits = |buffer: &Vec<T>| (len..=2 * len).contains(&buffer.capacity());
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
    pub fn put<T: Element>(&self, buffer: Vec<T>) {
        let mut kept = self.lock();
        let buffers = T::buffers(&mut kept);
        if buffer.capacity() >= VALUES_MIN && buffers.len() < BUFFERS_MAX {
            buffers.push(buffer);
        }
    }

    /// Sets all that is kept to a value and returns how many buffers there are: with NaN, a test sees
    /// an output that isn't written whole.
    pub fn fill(&self, value: f32) -> usize {
        fn fill<T: Element>(kept: &mut Kept, value: f32) -> usize {
            let buffers = T::buffers(kept);
            buffers.iter_mut().for_each(|buffer| buffer.fill(T::round(value)));
            buffers.len()
        }
        let mut kept = self.lock();
        fill::<f32>(&mut kept, value) + fill::<bf16>(&mut kept, value)
    }

    /// Keeps the memory of a tensor whose values nobody will read again: clones and views of it are
    /// empty from now on, and reading one panics. A view of a part of a buffer is only dropped.
    pub fn recycle(&self, x: Tensor) {
        match x.dtype() {
            DType::F32 => self.recycle_values::<f32>(x),
            DType::BF16 => self.recycle_values::<bf16>(x),
            _ => {}
        }
    }

    fn recycle_values<T: Element>(&self, x: Tensor) {
        let taken = Taken::<T>(Mutex::new(Vec::new()));
        // A tensor of another device keeps its memory, which is all that an error can mean.
        if x.inplace_op1(&taken).is_ok() {
            self.put(taken.0.into_inner().unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a tensor's memory as candle's in-place op.
struct Taken<T>(Mutex<Vec<T>>);

impl<T: Element> InplaceOp1 for Taken<T> {
    fn name(&self) -> &'static str {
        "recycle"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        if let Some(values) = T::values(storage)
            && layout.contiguous_offsets() == Some((0, values.len()))
        {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = std::mem::take(values);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn held(workspace: &Workspace) -> Vec<usize> {
        let mut sizes: Vec<usize> = workspace.lock().f32.iter().map(Vec::capacity).collect();
        sizes.sort_unstable();
        sizes
    }

    #[test]
    fn a_tensors_memory_is_the_next_ones() {
        let workspace = Workspace::default();
        let x = Tensor::from_vec(vec![7.0f32; 5000], 5000, &Device::Cpu).expect("a tensor");
        workspace.recycle(x);
        assert_eq!(held(&workspace), [5000]);
        let buffer: Vec<f32> = workspace.take(4500);
        assert_eq!((buffer.len(), buffer.capacity(), buffer[0]), (4500, 5000, 7.0));
        workspace.put(buffer);
        assert_eq!(workspace.take::<f32>(5000).len(), 5000);
        assert!(held(&workspace).is_empty());
    }

    #[test]
    fn what_is_too_small_makes_room_and_what_is_far_too_large_stays() {
        let workspace = Workspace::default();
        for len in [5000, 6000, 40_000] {
            workspace.put(vec![0.0f32; len]);
        }
        assert_eq!(workspace.take::<f32>(10_000).capacity(), 10_000);
        assert_eq!(held(&workspace), [5000, 40_000]);
        workspace.put(vec![0.0f32; VALUES_MIN - 1]);
        assert_eq!(held(&workspace), [5000, 40_000]);
    }

    #[test]
    fn each_type_has_buffers_of_its_own() {
        let workspace = Workspace::default();
        let x = Tensor::from_vec(vec![bf16::ONE; 5000], 5000, &Device::Cpu).expect("a tensor");
        workspace.recycle(x);
        assert!(held(&workspace).is_empty());
        assert_eq!(workspace.fill(f32::NAN), 1);
        let buffer: Vec<bf16> = workspace.take(5000);
        assert!(buffer.iter().all(|x| x.is_nan()) && workspace.fill(0.0) == 0);
    }

    #[test]
    fn views_and_other_types_are_left_alone() -> candle_core::Result<()> {
        let workspace = Workspace::default();
        let x = Tensor::ones((100, 100), candle_core::DType::F32, &Device::Cpu)?;
        workspace.recycle(x.narrow(0, 10, 50)?);
        workspace.recycle(x.t()?);
        workspace.recycle(x.to_dtype(DType::F16)?);
        assert!(held(&workspace).is_empty());
        assert_eq!(x.sum_all()?.to_scalar::<f32>()?, 10_000.0);
        workspace.recycle(x.clone());
        assert_eq!(held(&workspace), [10_000]);
        Ok(())
    }
}
