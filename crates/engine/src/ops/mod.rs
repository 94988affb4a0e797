//! One op a file: `reference` (candle ops, any device), the fused CPU path, forward and backward side by side.
//!
//! Gradients of activations are returned, gradients of parameters are added to in place.

pub mod attention;
pub mod head_loss;

use crate::error::Result;
use candle_core::{Storage, Tensor};

/// Calls `f` with the elements of contiguous CPU tensors of f32.
pub(crate) fn read_all<const K: usize, R>(
    tensors: [&Tensor; K],
    f: impl FnOnce([&[f32]; K]) -> R,
) -> Result<R> {
    let guards = tensors.map(|x| x.storage_and_layout());
    let mut slices: [&[f32]; K] = [&[]; K];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&guards) {
        let (Storage::Cpu(storage), Some((from, to))) = (&**storage, layout.contiguous_offsets())
        else {
            return refuse("read_all", "a tensor is not on the CPU or not contiguous".into());
        };
        *slice = &storage.as_slice::<f32>()?[from..to];
    }
    Ok(f(slices))
}

/// Shapes come from the decoder, so a wrong one is our bug and an error of candle's kind.
pub(crate) fn refuse<T>(op: &str, what: String) -> Result<T> {
    Err(candle_core::Error::Msg(format!("{op}: {what}")).into())
}
