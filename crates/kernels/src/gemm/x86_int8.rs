//! Packing of int8 weights for AVX-512: values, and pairs of them in bf16, made in registers. The bits are those
//! of the plain loops in `pack.rs`.

use super::x86_pack::{as_words, lanes_mask};
use crate::int8::RECIPROCAL;
use std::arch::x86_64::*;

/// `out[i]`: the bits of the value of `codes[i]`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn values_avx512(codes: &[i8], absmax: f32, out: &mut [u32]) {
    assert_eq!(codes.len(), out.len());
    for (codes, out) in codes.chunks(16).zip(out.chunks_mut(16)) {
        let mask = lanes_mask(out.len());
        // SAFETY: the mask loads `out.len()` bytes, as many as `codes` has, and stores as many words.
        unsafe {
            let codes = _mm_maskz_loadu_epi8(mask, codes.as_ptr());
            _mm512_mask_storeu_ps(out.as_mut_ptr().cast(), mask, values16(codes, absmax));
        }
    }
}

/// `out[i]`: the pair of the values of `codes[2i]` and `codes[2i + 1]`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn pairs_avx512(codes: &[i8], absmax: f32, out: &mut [u32]) {
    assert_eq!(codes.len(), 2 * out.len());
    for (codes, out) in codes.chunks(32).zip(out.chunks_mut(16)) {
        let mask = u32::MAX >> (32 - codes.len());
        // SAFETY: the masks load `codes.len()` bytes and store half as many words, `out.len()`.
        unsafe {
            let first = _mm_maskz_loadu_epi8(mask as __mmask16, codes.as_ptr());
            let second =
                _mm_maskz_loadu_epi8((mask >> 16) as __mmask16, codes.as_ptr().wrapping_add(16));
            let pairs = _mm512_cvtne2ps_pbh(values16(second, absmax), values16(first, absmax));
            let mask = lanes_mask(out.len());
            _mm512_mask_storeu_epi32(out.as_mut_ptr().cast(), mask, as_words(pairs));
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn values16(codes: __m128i, absmax: f32) -> __m512 {
    let whole = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes));
    let scaled = _mm512_mul_ps(whole, _mm512_set1_ps(absmax));
    _mm512_mul_ps(scaled, _mm512_set1_ps(RECIPROCAL))
}
