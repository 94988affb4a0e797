//! Look-ups and searches of codes for AVX2: bytes of bf16 values by one shuffle each, f32 values by
//! two permutations of 8. Nothing here knows blocks or maxima.

use super::lines::{Line, Way};
use super::ops::{CodeOps, LineOps};
use super::tables::Table;
use std::arch::x86_64::*;

/// Exists only where `avx2` is there.
#[derive(Clone, Copy)]
pub(crate) struct Avx2Codes(());

impl Avx2Codes {
    /// Can be called without `unsafe` only in a function that enables the same.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(crate) fn here() -> Avx2Codes {
        Avx2Codes(())
    }
}

impl CodeOps for Avx2Codes {
    /// The values of codes 0 to 7, and of 8 to 15.
    type Wide = [__m256; 2];
    /// The low bytes of the 16 values, and the high ones, in each 128-bit lane.
    type Half = [__m256i; 2];

    #[inline(always)]
    fn wide(self, table: &Table, absmax: f32) -> [__m256; 2] {
        // SAFETY: this value exists, so the CPU has `avx2`.
        unsafe { products(table, absmax) }
    }

    #[inline(always)]
    fn half(self, table: &Table, absmax: f32) -> [__m256i; 2] {
        // SAFETY: this value exists, so the CPU has `avx2`.
        unsafe { bytes(products(table, absmax)) }
    }

    #[inline(always)]
    fn wide_values(self, values: [__m256; 2], codes: &[u8], out: &mut [u32]) {
        // SAFETY: this value exists, so the CPU has `avx2`.
        unsafe { wide_values(values, codes, out) }
    }

    #[inline(always)]
    fn half_pairs(self, values: [__m256i; 2], codes: &[u8], out: &mut [u32]) {
        // SAFETY: this value exists, so the CPU has `avx2`.
        unsafe { half_pairs(values, codes, out) }
    }

    #[inline(always)]
    fn encode(self, table: &Table, x: &[u32], factor: f32, codes: &mut [u8]) {
        // SAFETY: this value exists, so the CPU has `avx2`.
        unsafe { encode(table, x, factor, codes) }
    }
}

impl LineOps for Avx2Codes {
    type Line = [__m256i; 2];

    #[inline(always)]
    fn wide_line(self, values: &[__m256; 2], codes: &[u8; 8]) -> [__m256i; 2] {
        // SAFETY: this value exists, so the CPU has `avx2`.
        unsafe { wide16(*values, *codes) }
    }

    #[inline(always)]
    fn half_line(self, values: &[__m256i; 2], codes: &[u8; 16]) -> [__m256i; 2] {
        // SAFETY: this value exists, so the CPU has `avx2`.
        unsafe { half32(*values, codes) }
    }

    #[inline(always)]
    fn join(self, n: usize, first: [__m256i; 2], second: [__m256i; 2]) -> [__m256i; 2] {
        // SAFETY: this value exists, so the CPU has `avx2`.
        unsafe { join(n, first, second) }
    }

    #[inline(always)]
    unsafe fn store(self, [low, high]: [__m256i; 2], out: &mut Line, way: Way) {
        let out = out.0.as_mut_ptr().cast::<__m256i>();
        // SAFETY: this value exists, so the CPU has `avx2`; `out` is 64 bytes that begin with a cache
        // line, and the caller fences.
        unsafe {
            match way {
                Way::Cached => {
                    _mm256_store_si256(out, low);
                    _mm256_store_si256(out.add(1), high);
                }
                Way::PastCaches => {
                    _mm256_stream_si256(out, low);
                    _mm256_stream_si256(out.add(1), high);
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn products(table: &Table, absmax: f32) -> [__m256; 2] {
    let absmax = _mm256_set1_ps(absmax);
    let (low, high) = table.values.split_at(8);
    // SAFETY: each half is 8 floats.
    let halves = unsafe { [_mm256_loadu_ps(low.as_ptr()), _mm256_loadu_ps(high.as_ptr())] };
    halves.map(|code| _mm256_mul_ps(code, absmax))
}

/// To bf16 in the low half of each word, nearest even. NaN stays NaN.
#[inline]
#[target_feature(enable = "avx2")]
fn round(values: __m256) -> __m256i {
    let bits = _mm256_castps_si256(values);
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(values, values));
    let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
    _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, nan))
}

#[inline]
#[target_feature(enable = "avx2")]
fn bytes(values: [__m256; 2]) -> [__m256i; 2] {
    let [first, second] = values.map(|values| round(values));
    // Lanes hold values 0–3 and 8–11, and 4–7 and 12–15: the quarters in the middle change places.
    let halves = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(first, second));
    let low = _mm256_and_si256(halves, _mm256_set1_epi16(0xff));
    let high = _mm256_srli_epi16::<8>(halves);
    // Lanes hold low 0–7 and high 0–7, and the same of 8–15.
    let both = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(low, high));
    [_mm256_permute2x128_si256::<0x00>(both, both), _mm256_permute2x128_si256::<0x11>(both, both)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn wide_values(values: [__m256; 2], codes: &[u8], out: &mut [u32]) {
    assert_eq!(out.len(), 2 * codes.len());
    let (codes, last_codes) = codes.as_chunks::<4>();
    let (out, last) = out.as_chunks_mut::<8>();
    for (codes, out) in codes.iter().zip(out) {
        *out = words(wide8(values, *codes));
    }
    if !last.is_empty() {
        let mut padded = [0; 4];
        padded[..last_codes.len()].copy_from_slice(last_codes);
        last.copy_from_slice(&words(wide8(values, padded))[..last.len()]);
    }
}

/// The values of 4 bytes. Each byte stands in two words; a high nibble, which comes first, is shifted down
/// to be an index, of which only the lowest 3 bits count. The fourth chooses among the two results.
#[inline]
#[target_feature(enable = "avx2")]
fn wide8([low, high]: [__m256; 2], codes: [u8; 4]) -> __m256i {
    let places = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(i32::from_le_bytes(codes)), places);
    let index = _mm256_srlv_epi32(bytes, _mm256_set1_epi64x(4));
    let upper = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index));
    let low = _mm256_permutevar8x32_ps(low, index);
    let high = _mm256_permutevar8x32_ps(high, index);
    _mm256_castps_si256(_mm256_blendv_ps(low, high, upper))
}

#[inline]
#[target_feature(enable = "avx2")]
fn wide16(values: [__m256; 2], [a, b, c, d, e, f, g, h]: [u8; 8]) -> [__m256i; 2] {
    [wide8(values, [a, b, c, d]), wide8(values, [e, f, g, h])]
}

#[inline]
#[target_feature(enable = "avx2")]
fn half_pairs(values: [__m256i; 2], codes: &[u8], out: &mut [u32]) {
    assert_eq!(out.len(), codes.len());
    let (codes, last_codes) = codes.as_chunks::<16>();
    let (out, last) = out.as_chunks_mut::<16>();
    for (codes, out) in codes.iter().zip(out) {
        out.copy_from_slice(half32(values, codes).map(|half| words(half)).as_flattened());
    }
    if !last.is_empty() {
        let mut padded = [0; 16];
        padded[..last_codes.len()].copy_from_slice(last_codes);
        let found = half32(values, &padded).map(|half| words(half));
        last.copy_from_slice(&found.as_flattened()[..last.len()]);
    }
}

/// The values of 16 bytes. Each byte stands in a half word: its high nibble is the first index, its low
/// one the second.
#[inline]
#[target_feature(enable = "avx2")]
fn half32([low, high]: [__m256i; 2], codes: &[u8; 16]) -> [__m256i; 2] {
    // SAFETY: `codes` is 16 bytes.
    let codes = unsafe { _mm_loadu_si128(codes.as_ptr().cast()) };
    // What is interleaved below comes from the lower and the upper halves of lanes.
    let places = _mm256_setr_epi8(
        0, 0, 1, 1, 2, 2, 3, 3, 8, 8, 9, 9, 10, 10, 11, 11, //
        4, 4, 5, 5, 6, 6, 7, 7, 12, 12, 13, 13, 14, 14, 15, 15,
    );
    let bytes = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(codes), places);
    let first = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), _mm256_set1_epi16(0x000f));
    let second = _mm256_and_si256(bytes, _mm256_set1_epi16(0x0f00));
    let index = _mm256_or_si256(first, second);
    let (low, high) = (_mm256_shuffle_epi8(low, index), _mm256_shuffle_epi8(high, index));
    [_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn join(n: usize, first: [__m256i; 2], second: [__m256i; 2]) -> [__m256i; 2] {
    let n = _mm256_set1_epi32(n as i32);
    let places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    let below = [places, _mm256_add_epi32(places, _mm256_set1_epi32(8))]
        .map(|places| _mm256_cmpgt_epi32(n, places));
    std::array::from_fn(|i| _mm256_blendv_epi8(second[i], first[i], below[i]))
}

#[inline]
#[target_feature(enable = "avx2")]
fn words(vector: __m256i) -> [u32; 8] {
    // SAFETY: both types are 256 bits of plain data.
    unsafe { std::mem::transmute(vector) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn encode(table: &Table, x: &[u32], factor: f32, codes: &mut [u8]) {
    assert_eq!(x.len(), 2 * codes.len());
    let (x, last_x) = x.as_chunks::<32>();
    let (codes, last) = codes.as_chunks_mut::<16>();
    for (x, codes) in x.iter().zip(codes) {
        *codes = encode32(table, x, factor);
    }
    if !last.is_empty() {
        let mut padded = [0; 32];
        padded[..last_x.len()].copy_from_slice(last_x);
        last.copy_from_slice(&encode32(table, &padded, factor)[..last.len()]);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn encode32(table: &Table, x: &[u32; 32], factor: f32) -> [u8; 16] {
    let factor = _mm256_set1_ps(factor);
    let nodes: [__m256i; 4] = std::array::from_fn(|i| {
        let x = &x.as_chunks::<8>().0[i];
        // SAFETY: `x` is 8 floats.
        search(table, _mm256_mul_ps(unsafe { _mm256_loadu_ps(x.as_ptr().cast()) }, factor))
    });
    let low = _mm256_packus_epi32(nodes[0], nodes[1]);
    let high = _mm256_packus_epi32(nodes[2], nodes[3]);
    // Each 128-bit lane holds its 4 bytes of all vectors.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), order);
    // Of an index only the lowest 4 bits count: a leaf's place.
    // SAFETY: `order` is 16 bytes.
    let order = unsafe { _mm_loadu_si128(table.order.as_ptr().cast()) };
    let bytes = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(order), bytes);
    let pairs = _mm256_maddubs_epi16(bytes, _mm256_set1_epi16(0x0110));
    let (low, high) = (_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs));
    let mut codes = [0; 16];
    // SAFETY: `codes` is 16 bytes.
    unsafe { _mm_storeu_si128(codes.as_mut_ptr().cast(), _mm_packus_epi16(low, high)) };
    codes
}

/// Per lane, the number of a leaf of the tree: 16 and the place among the values.
#[inline]
#[target_feature(enable = "avx2")]
fn search(table: &Table, s: __m256) -> __m256i {
    let (upper, lower) = table.tree.split_at(8);
    // SAFETY: each half of the tree is 8 floats.
    let levels = unsafe { [_mm256_loadu_ps(upper.as_ptr()), _mm256_loadu_ps(lower.as_ptr())] };
    let mut node = _mm256_set1_epi32(1);
    // An index has 3 bits: the nodes of the last level, from 8 on, are found by their rest.
    for level in [levels[0], levels[0], levels[0], levels[1]] {
        let border = _mm256_permutevar8x32_ps(level, node);
        let above = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_LT_OQ>(border, s));
        node = _mm256_sub_epi32(_mm256_add_epi32(node, node), above);
    }
    node
}
