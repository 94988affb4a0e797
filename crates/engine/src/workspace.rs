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

/// Buffers that no tensor holds, and the room that new ones get.
#[derive(Debug)]
pub struct Kept {
    f32: Buffers<f32>,
    bf16: Buffers<bf16>,
    /// Tokens of the pass that runs, and of the largest.
    tokens: (usize, usize),
}

impl Default for Kept {
    fn default() -> Kept {
        Kept { f32: vec![], bf16: vec![], tokens: (1, 1) }
    }
}

impl Kept {
    /// Values that a buffer of `len` would have in the largest pass, but twice as many at most: what is not written
    /// costs no memory, and the next pass may be larger.
    fn room(&self, len: usize) -> usize {
        let (tokens, most) = self.tokens;
        (len * most / tokens).clamp(len, 2 * len)
    }
}

/// Buffers of one session; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Workspace(Arc<Mutex<Kept>>);

impl Workspace {
    /// Says that a pass of so many tokens begins, and how many a pass has at most.
    pub fn begin_pass(&self, tokens: usize, most: usize) {
        self.lock().tokens = (tokens.max(1), most.max(tokens).max(1));
    }

    /// A buffer of `len` values, whichever.
    pub fn take<T: Element>(&self, len: usize) -> Vec<T> {
        let mut buffer = if len < VALUES_MIN { vec![] } else { self.large(len) };
        buffer.truncate(len);
        buffer.resize(len, T::zero());
        buffer
    }

    /// Of the buffers that are large enough and not far too large the one that is nearest to what the largest pass
    /// needs. Where there is none, the largest of the smaller ones makes room for a new one.
    fn large<T: Element>(&self, len: usize) -> Vec<T> {
        let mut kept = self.lock();
        let room = kept.room(len);
        let buffers = T::buffers(&mut kept);
        let sized = || buffers.iter().map(Vec::capacity).enumerate();
        let best = sized()
            .filter(|(_, capacity)| (len..=2 * room).contains(capacity))
            .min_by_key(|(_, capacity)| capacity.abs_diff(room));
        if let Some((i, _)) = best {
            return buffers.swap_remove(i);
        }
        let smaller = sized().filter(|(_, capacity)| *capacity < len).max_by_key(|(_, c)| *c);
        if let Some((i, _)) = smaller {
            buffers.swap_remove(i);
        }
        Vec::with_capacity(room)
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
    fn a_small_pass_leaves_room_for_the_largest() {
        let workspace = Workspace::default();
        let capacities = |tokens: usize, widths: [usize; 3]| {
            workspace.begin_pass(tokens, 1000);
            let buffers = widths.map(|width| workspace.take::<f32>(tokens * width));
            let capacities = buffers.each_ref().map(Vec::capacity);
            buffers.into_iter().for_each(|buffer| workspace.put(buffer));
            capacities
        };
        let widths = [30, 10, 20];
        assert_eq!(capacities(600, widths), [30_000, 10_000, 20_000]);
        // Each gets its own again, also where a smaller one would do.
        for tokens in [1000, 501, 900] {
            assert_eq!(capacities(tokens, widths), [30_000, 10_000, 20_000], "{tokens}");
        }
        // Not more than twice what is asked for.
        assert_eq!(capacities(410, [100; 3]), [82_000; 3]);
        // More than a pass should have.
        assert_eq!(capacities(2000, [100; 3]), [200_000; 3]);
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
