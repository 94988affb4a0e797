//! Stored values to f32, on all threads. Each value depends on its own block alone, so the cut into
//! pieces can't change a bit.

use super::dtype::StoredDtype;
use super::gguf::quants;
use half::{bf16, f16};
use rayon::prelude::*;

/// Values that one task converts.
const PIECE: usize = 1 << 16;

/// Converts `bytes` into `out`. False if `dtype` is no weight's.
///
/// The caller has checked that `bytes` holds just `out.len()` values.
pub(super) fn to_f32(dtype: StoredDtype, bytes: &[u8], out: &mut [f32]) -> bool {
    match dtype {
        StoredDtype::F32 => plain(bytes, out, f32::from_le_bytes),
        // Rounded to the nearest f32.
        StoredDtype::F64 => plain(bytes, out, |b| f64::from_le_bytes(b) as f32),
        StoredDtype::F16 => plain(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
        StoredDtype::Bf16 => plain(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
        _ => return quants::dequantize(dtype, bytes, out),
    }
    true
}

fn plain<const SIZE: usize>(
    bytes: &[u8],
    out: &mut [f32],
    value: impl Fn([u8; SIZE]) -> f32 + Sync,
) {
    let (values, _) = bytes.as_chunks::<SIZE>();
    out.par_chunks_mut(PIECE).zip(values.par_chunks(PIECE)).for_each(|(out, values)| {
        for (out, bytes) in out.iter_mut().zip(values) {
            *out = value(*bytes);
        }
    });
}
