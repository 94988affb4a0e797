//! From values to 8-bit codes and the maxima of rows.
//!
//! ```text
//! h      = f16(x)                              nearest even
//! absmax = max|h|                              per row
//! code   = round(h · ((1 / absmax) · 127))     nearest even; every operation is rounded to f32
//! ```
//! A row of zeros has the maximum 0 and the codes 0. A value that is not finite, or not in f16, makes the
//! maximum infinite or NaN, and so the row NaN: the loss then says so.

use super::CODE_MAX;
use crate::Isa;
use crate::blocks::ELEMENTS;
use crate::gemm::Elements;
use crate::simd::shells;
use rayon::prelude::*;

/// Quantises `x`, read in the type that it is stored in.
///
/// Shapes: x, codes `[rows, cols]` · absmax `[rows]`.
///
/// # Panics
/// If the lengths do not fit each other.
pub fn quantize(isa: Isa, x: Elements, codes: &mut [i8], absmax: &mut [f32]) {
    let (n, rows) = (x.len(), absmax.len());
    assert_eq!(codes.len(), n, "int8: codes for {n} values");
    assert!(n == 0 && rows == 0 || rows > 0 && n.is_multiple_of(rows), "int8: rows of {n} values");
    if n == 0 {
        return absmax.fill(0.0);
    }
    let cols = n / rows;
    let rows = (ELEMENTS / cols).max(1);
    let chunks = codes.par_chunks_mut(rows * cols).zip(absmax.par_chunks_mut(rows));
    chunks.enumerate().for_each(|(chunk, (codes, absmax))| {
        let start = chunk * rows * cols;
        quantize_rows(isa, x.slice(start..start + codes.len()), codes, absmax);
    });
}

shells! {
    fn quantize_rows(x: Elements, codes: &mut [i8], absmax: &mut [f32]) = quantize_body;
}

#[inline(always)]
fn quantize_body(x: Elements, codes: &mut [i8], absmax: &mut [f32]) {
    /// 1.5·2²³: adding it rounds to whole numbers, which are then the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let cols = codes.len() / absmax.len();
    let mut row = vec![0u32; cols];
    for (i, (codes, absmax)) in codes.chunks_exact_mut(cols).zip(absmax).enumerate() {
        x.read(i * cols, &mut row);
        let mut max = 0;
        for bits in &mut row {
            *bits = to_half(*bits);
            // As whole numbers the bits of magnitudes have the same order, NaN above all.
            max = max.max(*bits & 0x7fff_ffff);
        }
        *absmax = f32::from_bits(max);
        let factor = 1.0 / *absmax * CODE_MAX;
        for (code, bits) in codes.iter_mut().zip(&row) {
            // What is no number (0 · ∞ in a row of zeros) has no low bits: the code 0.
            *code = (f32::from_bits(*bits) * factor + ROUND).to_bits() as i8;
        }
    }
}

/// The bits of an f32 rounded to f16, still as those of an f32. NaN loses its payload.
#[inline(always)]
pub(super) fn to_half(bits: u32) -> u32 {
    const INFINITY: u32 = 0xff << 23;
    const NAN: u32 = INFINITY | 1 << 22;
    const MIN_NORMAL: u32 = (127 - 14) << 23;
    const PAST_MAX: u32 = (127 + 16) << 23;
    let magnitude = bits & 0x7fff_ffff;
    let normal = (magnitude + 0x0fff + (magnitude >> 13 & 1)) & !0x1fff;
    // Beside 0.5 the last place of an f32 is that of f16's subnormals.
    let subnormal = ((f32::from_bits(magnitude) + 0.5) - 0.5).to_bits();
    let finite = if magnitude < MIN_NORMAL { subnormal } else { normal };
    let half = if finite >= PAST_MAX { INFINITY } else { finite };
    let half = if magnitude > INFINITY { NAN } else { half };
    half | bits & 0x8000_0000
}
