//! One op a file: `reference` (candle ops, any device), the fused CPU path, forward and backward side by side.
//!
//! Gradients of activations are returned, gradients of parameters are added to in place.

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod dropout;
pub mod elementwise;
pub mod embedding;
pub mod head_loss;
pub mod layer_norm;
pub mod linear;
pub mod lora;
pub mod low_rank;
pub mod qkv;
pub mod rms_norm;
pub mod rope;
pub mod rope_frequencies;

use crate::error::Result;
use candle_core::{Storage, Tensor, WithDType};

/// Calls `f` with the elements of contiguous CPU tensors of one type.
pub(crate) fn read_all<T: WithDType, const K: usize, R>(
    tensors: [&Tensor; K],
    f: impl FnOnce([&[T]; K]) -> R,
) -> Result<R> {
    let guards = tensors.map(|x| x.storage_and_layout());
    let mut slices: [&[T]; K] = [&[]; K];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&guards) {
        let (Storage::Cpu(storage), Some((from, to))) = (&**storage, layout.contiguous_offsets())
        else {
            return refuse("read_all", "a tensor is not on the CPU or not contiguous".into());
        };
        *slice = &storage.as_slice::<T>()?[from..to];
    }
    Ok(f(slices))
}

/// The rows of a norm: how often `w` fits into `x`.
pub(crate) fn norm_rows(op: &str, x: &Tensor, w: &Tensor) -> Result<usize> {
    let (elements, hidden_size) = (x.elem_count(), w.elem_count());
    if hidden_size == 0 || !elements.is_multiple_of(hidden_size) {
        return refuse(op, format!("x {:?} is not made of rows of {hidden_size}", x.dims()));
    }
    Ok(elements / hidden_size)
}

/// Refuses tensors whose numbers of elements differ.
pub(crate) fn same_len<const K: usize>(op: &str, tensors: [&Tensor; K]) -> Result<usize> {
    let lens = tensors.map(|x| x.elem_count());
    match lens.first() {
        Some(&len) if lens.iter().all(|&other| other == len) => Ok(len),
        _ => refuse(op, format!("tensors of {lens:?} elements should have one length")),
    }
}

/// Shapes come from the decoder, so a wrong one is our bug and an error of candle's kind.
pub(crate) fn refuse<T>(op: &str, what: String) -> Result<T> {
    Err(candle_core::Error::Msg(format!("{op}: {what}")).into())
}
