//! Packing for AVX2 and AVX-512: shells around the common bodies of `pack.rs`, and transpositions in
//! registers. Nothing here multiplies.

use super::pack::{Encoding, GROUP, Lanes, PackOps, Panel, Strip, pack_panel};
use super::tiles::pack_tiles;
use super::x86::fetch_source;
use super::x86_int8::{pairs_avx512, values_avx512};
use super::x86_strip::{strip_of_halves, strip_of_pairs, strip_of_words};
use crate::nf4::{Avx2Codes, Avx512Codes, Bf16Codes, CodeOps};
use half::bf16;
use std::arch::x86_64::*;

#[target_feature(enable = "avx2,fma")]
pub(super) fn pack_avx2(panel: &Panel, out: &mut [u32]) {
    pack_panel(OpsAvx2(()), panel, out);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn pack_avx512(panel: &Panel, out: &mut [u32]) {
    pack_panel(OpsAvx512(()), panel, out);
}

/// For words that are pairs.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(super) fn pack_bf16(panel: &Panel, out: &mut [u32]) {
    pack_panel(OpsBf16(()), panel, out);
}

/// For words that are pairs, and tiles that have the words of a lane side by side.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(super) fn pack_tiles_bf16(panel: &Panel, out: &mut [u32]) {
    pack_tiles(OpsBf16(()), panel, out);
}

/// Made in `pack_avx2` only, where `avx2` is there.
#[derive(Clone, Copy)]
struct OpsAvx2(());

impl PackOps for OpsAvx2 {
    #[inline(always)]
    fn codes(self) -> impl CodeOps {
        // SAFETY: this value exists, so the caller is `pack_avx2`, which has `avx2`.
        unsafe { Avx2Codes::here() }
    }

    #[inline(always)]
    fn transpose(self, from: &Lanes, words: usize, lanes: usize, out: &mut [u32], width: usize) {
        // SAFETY: this value exists, so the caller is `pack_avx2`, which has `avx2`.
        unsafe { transpose_avx2(from, words, lanes, out, width) }
    }
}

/// Made in `pack_avx512` only, where `avx512f` is there.
#[derive(Clone, Copy)]
struct OpsAvx512(());

impl PackOps for OpsAvx512 {
    #[inline(always)]
    fn fetch(self, address: *const u8) {
        fetch_source(address);
    }

    #[inline(always)]
    fn pack_strip(self, encoding: Encoding, from: &[f32], strip: &Strip, out: &mut [u32]) -> bool {
        if encoding == Encoding::Exact {
            // SAFETY: this value exists, so the caller is `pack_avx512`, which has `avx512f`.
            unsafe { strip_of_words(from, strip, out) }
        }
        encoding == Encoding::Exact
    }

    #[inline(always)]
    fn codes(self) -> impl CodeOps {
        // SAFETY: this value exists, so the caller is `pack_avx512`, which has `avx512f`, `bw`, `vl` and `dq`.
        unsafe { Avx512Codes::here() }
    }

    #[inline(always)]
    fn int8(self, codes: &[i8], absmax: f32, out: &mut [u32]) {
        // SAFETY: this value exists, so the caller is `pack_avx512`, which has `avx512f`, `bw` and `vl`.
        unsafe { values_avx512(codes, absmax, out) }
    }

    #[inline(always)]
    fn transpose(self, from: &Lanes, words: usize, lanes: usize, out: &mut [u32], width: usize) {
        // SAFETY: this value exists, so the caller is `pack_avx512`, which has `avx512f`.
        unsafe { transpose_avx512(from, words, lanes, out, width) }
    }
}

/// Made in `pack_bf16` and `pack_tiles_bf16` only, where `avx512f`, `bw` and `bf16` are there.
#[derive(Clone, Copy)]
struct OpsBf16(());

impl PackOps for OpsBf16 {
    #[inline(always)]
    fn fetch(self, address: *const u8) {
        fetch_source(address);
    }

    #[inline(always)]
    fn pack_strip(self, encoding: Encoding, from: &[f32], strip: &Strip, out: &mut [u32]) -> bool {
        if encoding == Encoding::Pairs {
            // SAFETY: this value exists, so the caller has `avx512f`, `bw` and `bf16`.
            unsafe { strip_of_pairs(from, strip, out) }
        }
        encoding == Encoding::Pairs
    }

    #[inline(always)]
    fn pack_pairs(self, encoding: Encoding, from: &[bf16], strip: &Strip, out: &mut [u32]) -> bool {
        if encoding == Encoding::Pairs {
            // SAFETY: this value exists, so the caller has `avx512f` and `bw`.
            unsafe { strip_of_halves(from, strip, out) }
        }
        encoding == Encoding::Pairs
    }

    #[inline(always)]
    fn codes(self) -> impl CodeOps {
        // SAFETY: this value exists, so the caller has `avx512f`, `bw`, `vl`, `dq` and `bf16`.
        unsafe { Bf16Codes::here() }
    }

    #[inline(always)]
    fn int8(self, codes: &[i8], absmax: f32, out: &mut [u32]) {
        // SAFETY: this value exists, so the caller has `avx512f`, `bw` and `vl`.
        unsafe { values_avx512(codes, absmax, out) }
    }

    #[inline(always)]
    fn int8_pairs(self, codes: &[i8], absmax: f32, out: &mut [u32]) {
        // SAFETY: this value exists, so the caller has `avx512f`, `bw`, `vl` and `bf16`.
        unsafe { pairs_avx512(codes, absmax, out) }
    }

    #[inline(always)]
    fn transpose(self, from: &Lanes, words: usize, lanes: usize, out: &mut [u32], width: usize) {
        // SAFETY: this value exists, so the caller has `avx512f`.
        unsafe { transpose_avx512(from, words, lanes, out, width) }
    }

    #[inline(always)]
    fn pairs(self, from: &[f32], out: &mut [u32]) {
        // SAFETY: this value exists, so the caller has `avx512f`, `bw` and `bf16`.
        unsafe { pairs_bf16(from, out) }
    }

    #[inline(always)]
    fn zip(self, low: &[u32], high: &[u32], out: &mut [u32]) {
        // SAFETY: this value exists, so the caller has `avx512f` and `bw`.
        unsafe { zip_bf16(low, high, out) }
    }

    #[inline(always)]
    fn join(self, low: &mut [u32], high: &[u32]) {
        // SAFETY: this value exists, so the caller has `avx512f`, `bw` and `bf16`.
        unsafe { join_bf16(low, high) }
    }
}

/// The instruction rounds to nearest even too, but takes subnormals as 0: so the last, partial
/// vector must go through it as well.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pairs_bf16(from: &[f32], out: &mut [u32]) {
    assert_eq!(from.len(), 2 * out.len());
    let (whole, rest) = from.as_chunks::<32>();
    let (whole_out, rest_out) = out.as_chunks_mut::<16>();
    for (from, out) in whole.iter().zip(whole_out) {
        pairs16(from, out);
    }
    if !rest.is_empty() {
        pairs16(rest, rest_out);
    }
}

/// At most 16 words of [`pairs_bf16`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pairs16(from: &[f32], out: &mut [u32]) {
    assert!(from.len() == 2 * out.len() && (1..=16).contains(&out.len()));
    let mask = u32::MAX >> (32 - from.len());
    // SAFETY: the masks load `from.len()` floats and store half as many words, `out.len()`.
    unsafe {
        let first = _mm512_maskz_loadu_ps(mask as __mmask16, from.as_ptr());
        let second =
            _mm512_maskz_loadu_ps((mask >> 16) as __mmask16, from.as_ptr().wrapping_add(16));
        let words = as_words(_mm512_cvtne2ps_pbh(second, first));
        _mm512_mask_storeu_epi32(out.as_mut_ptr().cast(), lanes_mask(out.len()), words);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn zip_bf16(low: &[u32], high: &[u32], out: &mut [u32]) {
    assert!(low.len() == high.len() && out.len() == 2 * low.len());
    let parts = low.chunks(16).zip(high.chunks(16)).zip(out.chunks_mut(32));
    for ((low, high), out) in parts {
        let mask = lanes_mask(low.len());
        let halves = ((1u64 << out.len()) - 1) as u32;
        // SAFETY: the masks load `low.len()` words, as many as `high` has, and store twice as many.
        unsafe {
            let x = _mm512_maskz_loadu_epi32(mask, low.as_ptr().cast());
            let y = _mm512_maskz_loadu_epi32(mask, high.as_ptr().cast());
            let first = _mm512_permutex2var_epi16(x, zip_order(0), y);
            let second = _mm512_permutex2var_epi16(x, zip_order(16), y);
            let to = out.as_mut_ptr();
            _mm512_mask_storeu_epi32(to.cast(), halves as __mmask16, first);
            let to = to.wrapping_add(16);
            _mm512_mask_storeu_epi32(to.cast(), (halves >> 16) as __mmask16, second);
        }
    }
}

/// Halves `first`, `first + 1`, … of two vectors, in turn.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn zip_order(first: usize) -> __m512i {
    let order: [u16; 32] = std::array::from_fn(|i| (first + i / 2 + i % 2 * 32) as u16);
    // SAFETY: `order` is 512 bits.
    unsafe { _mm512_loadu_si512(order.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn join_bf16(low: &mut [u32], high: &[u32]) {
    assert_eq!(low.len(), high.len());
    let (whole, rest) = low.as_chunks_mut::<16>();
    let (whole_high, rest_high) = high.as_chunks::<16>();
    for (low, high) in whole.iter_mut().zip(whole_high) {
        join16(low, high);
    }
    if !rest.is_empty() {
        join16(rest, rest_high);
    }
}

/// At most 16 words of [`join_bf16`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn join16(low: &mut [u32], high: &[u32]) {
    assert!(low.len() == high.len() && low.len() <= 16);
    // Halves i and 16 + i become neighbours.
    let order: [u16; 32] = std::array::from_fn(|i| (i / 2 + i % 2 * 16) as u16);
    let mask = lanes_mask(low.len());
    // SAFETY: `order` is 512 bits; the mask loads and stores `low.len()` words, and `high` has as
    // many.
    unsafe {
        let order = _mm512_loadu_si512(order.as_ptr().cast());
        let x = _mm512_maskz_loadu_ps(mask, low.as_ptr().cast());
        let y = _mm512_maskz_loadu_ps(mask, high.as_ptr().cast());
        let words = _mm512_permutexvar_epi16(order, as_words(_mm512_cvtne2ps_pbh(y, x)));
        _mm512_mask_storeu_epi32(low.as_mut_ptr().cast(), mask, words);
    }
}

/// The first `lanes` of 16.
#[inline(always)]
pub(super) fn lanes_mask(lanes: usize) -> __mmask16 {
    ((1u32 << lanes) - 1) as __mmask16
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn as_words(pairs: __m512bh) -> __m512i {
    // SAFETY: both types are 512 bits of plain data.
    unsafe { std::mem::transmute(pairs) }
}

/// Blocks of 8 × 8 words.
#[target_feature(enable = "avx2")]
fn transpose_avx2(from: &Lanes, words: usize, lanes: usize, out: &mut [u32], width: usize) {
    for lane in (0..lanes).step_by(8) {
        let count = (lanes - lane).min(8);
        for p in (0..words).step_by(8) {
            let rows: [__m256; 8] = std::array::from_fn(|r| {
                let run: &[u32; 8] = from[lane + r][p..p + 8].try_into().expect("8 words");
                // SAFETY: `run` is 8 words.
                unsafe { _mm256_loadu_ps(run.as_ptr().cast()) }
            });
            for (i, column) in columns8(rows).into_iter().enumerate().take(words - p) {
                let out = &mut out[(p + i) * width + lane..][..count];
                let mut whole = [0u32; 8];
                // SAFETY: `whole` is 8 words.
                unsafe { _mm256_storeu_ps(whole.as_mut_ptr().cast(), column) };
                match <&mut [u32; 8]>::try_from(&mut *out) {
                    Ok(out) => *out = whole,
                    Err(_) => out.copy_from_slice(&whole[..count]),
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn columns8(r: [__m256; 8]) -> [__m256; 8] {
    // Pairs of rows, then fours, then the two 128-bit halves.
    let pairs: [__m256; 8] = std::array::from_fn(|i| {
        let (x, y) = (r[i & !1], r[i | 1]);
        if i % 2 == 0 { _mm256_unpacklo_ps(x, y) } else { _mm256_unpackhi_ps(x, y) }
    });
    let fours: [__m256; 8] = std::array::from_fn(|i| {
        let first = i & 4 | i >> 1 & 1;
        let (x, y) = (pairs[first], pairs[first + 2]);
        if i % 2 == 0 { _mm256_shuffle_ps::<0x44>(x, y) } else { _mm256_shuffle_ps::<0xee>(x, y) }
    });
    std::array::from_fn(|i| {
        let (x, y) = (fours[i & 3], fours[i & 3 | 4]);
        if i < 4 {
            _mm256_permute2f128_ps::<0x20>(x, y)
        } else {
            _mm256_permute2f128_ps::<0x31>(x, y)
        }
    })
}

/// Blocks of 16 × 16 words.
#[target_feature(enable = "avx512f")]
fn transpose_avx512(from: &Lanes, words: usize, lanes: usize, out: &mut [u32], width: usize) {
    assert!(lanes <= GROUP && out.len() >= (words - 1) * width + lanes);
    let mask = lanes_mask(lanes);
    for p in (0..words).step_by(16) {
        let rows: [__m512i; 16] = std::array::from_fn(|r| load16(&from[r], p / 16));
        for (i, column) in columns16(rows).into_iter().enumerate().take(words - p) {
            let at = (p + i) * width;
            // SAFETY: the mask stores `lanes` words from `at` on, and `p + i < words`, so the last
            // lies inside of `out` by the assertion above.
            unsafe { _mm512_mask_storeu_epi32(out.as_mut_ptr().add(at).cast(), mask, column) };
        }
    }
}

/// Word `c` of row `r` becomes word `r` of row `c`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn columns16(r: [__m512i; 16]) -> [__m512i; 16] {
    // Pairs of rows, then fours, then the 128-bit quarters in two steps.
    let pairs: [__m512i; 16] = std::array::from_fn(|i| {
        let (x, y) = (r[i & !1], r[i | 1]);
        if i % 2 == 0 { _mm512_unpacklo_epi32(x, y) } else { _mm512_unpackhi_epi32(x, y) }
    });
    // fours[4g + c]: column c of every quarter, of rows 4g to 4g + 3.
    let fours: [__m512i; 16] = std::array::from_fn(|i| {
        let first = i & 12 | i >> 1 & 1;
        let (x, y) = (pairs[first], pairs[first + 2]);
        if i % 2 == 0 { _mm512_unpacklo_epi64(x, y) } else { _mm512_unpackhi_epi64(x, y) }
    });
    // halves[8h + 4s + c]: rows of half h, quarters 0 and 2 (s = 0) or 1 and 3 of column c.
    let halves: [__m512i; 16] = std::array::from_fn(|i| {
        let (x, y) = (fours[i & 8 | i & 3], fours[i & 8 | i & 3 | 4]);
        if i & 4 == 0 {
            _mm512_shuffle_i32x4::<0x88>(x, y)
        } else {
            _mm512_shuffle_i32x4::<0xdd>(x, y)
        }
    });
    // Column 4q + c of the block: quarter q is in `halves` s = q & 1, its first or second place.
    std::array::from_fn(|i| {
        let (quarter, c) = (i >> 2, i & 3);
        let from = (quarter & 1) * 4 + c;
        let (x, y) = (halves[from], halves[from + 8]);
        if quarter < 2 {
            _mm512_shuffle_i32x4::<0x88>(x, y)
        } else {
            _mm512_shuffle_i32x4::<0xdd>(x, y)
        }
    })
}

/// Words `16 · part` to `16 · part + 15`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load16<const N: usize>(words: &[u32; N], part: usize) -> __m512i {
    let words = &words.as_chunks::<16>().0[part];
    // SAFETY: `words` is 16 words.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}
