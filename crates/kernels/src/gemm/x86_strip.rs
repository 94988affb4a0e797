//! Packing f32 and bf16 for AVX-512 without a stage: 16 lanes are read, turned and stored from registers alone.

use super::pack::{GROUP, Strip};
use super::x86::fetch_source;
use super::x86_pack::{as_words, columns16, lanes_mask};
use half::bf16;
use std::arch::x86_64::*;

/// The lanes of a strip as pairs, 32 elements of each at a time.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn strip_of_pairs(from: &[f32], strip: &Strip, out: &mut [u32]) {
    strip.assert_inside(from, strip.k.div_ceil(2), out);
    for p in (0..strip.k).step_by(32) {
        let count = (strip.k - p).min(32);
        let mask = u32::MAX >> (32 - count);
        let rows: [__m512i; 16] = std::array::from_fn(|r| {
            if r >= strip.filled {
                return _mm512_setzero_si512();
            }
            let at = from.as_ptr().wrapping_add(strip.start + r * strip.lane_stride + p);
            strip.fetch_ahead(at, 32);
            // SAFETY: `assert_inside` checked the lanes, and the masks load `count` floats of one.
            unsafe {
                let first = _mm512_maskz_loadu_ps(mask as __mmask16, at);
                let second = _mm512_maskz_loadu_ps((mask >> 16) as __mmask16, at.wrapping_add(16));
                as_words(_mm512_cvtne2ps_pbh(second, first))
            }
        });
        store_columns(rows, strip, (p / 2, count.div_ceil(2)), out);
    }
}

/// The lanes of a strip as they are, 16 elements of each at a time.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn strip_of_words(from: &[f32], strip: &Strip, out: &mut [u32]) {
    strip.assert_inside(from, strip.k, out);
    for p in (0..strip.k).step_by(16) {
        let count = (strip.k - p).min(16);
        let rows: [__m512i; 16] = std::array::from_fn(|r| {
            if r >= strip.filled {
                return _mm512_setzero_si512();
            }
            let at = from.as_ptr().wrapping_add(strip.start + r * strip.lane_stride + p);
            strip.fetch_ahead(at, 16);
            // SAFETY: `assert_inside` checked the lanes, and the mask loads `count` words of one.
            unsafe { _mm512_maskz_loadu_epi32(lanes_mask(count), at.cast()) }
        });
        store_columns(rows, strip, (p, count), out);
    }
}

/// The lanes of a strip as pairs, which they are already: 32 elements of each at a time.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn strip_of_halves(from: &[bf16], strip: &Strip, out: &mut [u32]) {
    strip.assert_inside(from, strip.k.div_ceil(2), out);
    for p in (0..strip.k).step_by(32) {
        let count = (strip.k - p).min(32);
        let mask = u32::MAX >> (32 - count);
        let rows: [__m512i; 16] = std::array::from_fn(|r| {
            if r >= strip.filled {
                return _mm512_setzero_si512();
            }
            let at = from.as_ptr().wrapping_add(strip.start + r * strip.lane_stride + p);
            strip.fetch_ahead(at, 32);
            // SAFETY: `assert_inside` checked the lanes, and the mask loads `count` elements of one.
            unsafe { _mm512_maskz_loadu_epi16(mask, at.cast()) }
        });
        store_columns(rows, strip, (p / 2, count.div_ceil(2)), out);
    }
}

/// Words `first` to `first + count` of k, from one vector of words for each lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn store_columns(
    rows: [__m512i; 16],
    strip: &Strip,
    (first, count): (usize, usize),
    out: &mut [u32],
) {
    let mask = lanes_mask(strip.lanes);
    for (i, column) in columns16(rows).into_iter().enumerate().take(count) {
        let at = (first + i) * strip.width;
        // SAFETY: the mask stores `lanes` words from `at` on, which `assert_inside` checked.
        unsafe { _mm512_mask_storeu_epi32(out.as_mut_ptr().add(at).cast(), mask, column) };
    }
}

impl Strip {
    /// Panics unless all lanes lie in `from`, and `words` words of each fit `out`.
    fn assert_inside<T>(&self, from: &[T], words: usize, out: &[u32]) {
        assert!(self.k > 0 && self.filled <= self.lanes && self.lanes <= GROUP);
        let last = self.start + self.filled.saturating_sub(1) * self.lane_stride + self.k;
        assert!(self.filled == 0 || last <= from.len(), "packing: a lane outside of its operand");
        assert!(out.len() >= (words - 1) * self.width + self.lanes, "packing: a short panel");
    }

    /// Asks for `len` elements of what will be packed next.
    #[inline(always)]
    fn fetch_ahead<T>(&self, at: *const T, len: usize) {
        if self.ahead != 0 {
            for line in (0..len).step_by(64 / size_of::<T>()) {
                fetch_source(at.wrapping_add(self.ahead + line).cast());
            }
        }
    }
}
