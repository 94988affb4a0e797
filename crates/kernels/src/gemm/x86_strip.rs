//! Packing f32 and bf16 for AVX-512 without a stage: 16 lanes are read, turned and stored from registers alone.

use super::pack::{GROUP, Strip};
use super::x86::fetch_source;
use super::x86_pack::{as_words, columns16, lanes_mask};
use half::bf16;
use std::arch::x86_64::*;

/// The lanes of a strip as they are.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn strip_of_words(from: &[f32], strip: &Strip, out: &mut [u32]) {
    let load = |at: *const f32, mask: u32| {
        // SAFETY: the elements of `mask` may be read, says `turn_strip`; it has 16 of them at most.
        unsafe { _mm512_maskz_loadu_epi32(mask as __mmask16, at.cast()) }
    };
    // SAFETY: this shell has `avx512f`, and `load` reads by its mask.
    unsafe { turn_strip::<_, 1>(from, strip, out, load) }
}

/// The lanes of a strip as pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn strip_of_pairs(from: &[f32], strip: &Strip, out: &mut [u32]) {
    let load = |at: *const f32, mask: u32| {
        // SAFETY: the elements of `mask` may be read, says `turn_strip`.
        unsafe {
            let first = _mm512_maskz_loadu_ps(mask as __mmask16, at);
            let second = _mm512_maskz_loadu_ps((mask >> 16) as __mmask16, at.wrapping_add(16));
            as_words(_mm512_cvtne2ps_pbh(second, first))
        }
    };
    // SAFETY: this shell has `avx512f`, and `load` reads by its mask.
    unsafe { turn_strip::<_, 2>(from, strip, out, load) }
}

/// The lanes of a strip as pairs, which they are already.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn strip_of_halves(from: &[bf16], strip: &Strip, out: &mut [u32]) {
    let load = |at: *const bf16, mask: u32| {
        // SAFETY: the elements of `mask` may be read, says `turn_strip`.
        unsafe { _mm512_maskz_loadu_epi16(mask, at.cast()) }
    };
    // SAFETY: this shell has `avx512f`, and `load` reads by its mask.
    unsafe { turn_strip::<_, 2>(from, strip, out, load) }
}

/// Packs 16 words of each lane at a time, which `load` makes of PER_WORD elements each: it is given an address, and
/// the mask of the elements that may be read from there on. Inlined, so that the words stay in their registers.
///
/// # Safety
/// - The CPU has `avx512f`.
/// - `load` reads no other elements than those of its mask.
#[inline(always)]
unsafe fn turn_strip<T, const PER_WORD: usize>(
    from: &[T],
    strip: &Strip,
    out: &mut [u32],
    load: impl Fn(*const T, u32) -> __m512i,
) {
    strip.assert_inside(from, strip.k.div_ceil(PER_WORD), out);
    for p in (0..strip.k).step_by(16 * PER_WORD) {
        let count = (strip.k - p).min(16 * PER_WORD);
        // `assert_inside` checked that the lanes have these elements.
        let mask = u32::MAX >> (32 - count);
        let rows: [__m512i; 16] = std::array::from_fn(|r| {
            if r >= strip.filled {
                // SAFETY: as the caller promises.
                return unsafe { _mm512_setzero_si512() };
            }
            let at = from.as_ptr().wrapping_add(strip.start + r * strip.lane_stride + p);
            strip.fetch_ahead(at, 16 * PER_WORD);
            load(at, mask)
        });
        // SAFETY: as the caller promises.
        unsafe { store_columns(rows, strip, (p / PER_WORD, count.div_ceil(PER_WORD)), out) }
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
