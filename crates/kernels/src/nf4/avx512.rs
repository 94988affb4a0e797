//! Look-ups and searches of codes for AVX-512 and AVX2: the 16 values of a block stay in registers.
//! Nothing here knows blocks or maxima.

use super::lines::{Line, Way};
use super::ops::{CodeOps, LineOps};
use super::tables::Table;
use std::arch::x86_64::*;

/// Exists only where `avx512f`, `bw`, `vl` and `dq` are there.
#[derive(Clone, Copy)]
pub(crate) struct Avx512Codes(());

impl Avx512Codes {
    /// Can be called without `unsafe` only in a function that enables the same.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    pub(crate) fn here() -> Avx512Codes {
        Avx512Codes(())
    }
}

impl CodeOps for Avx512Codes {
    type Wide = __m512;
    /// The 16 values twice: an index has 5 bits, of which the upper counts for nothing.
    type Half = __m512i;

    #[inline(always)]
    fn wide(self, table: &Table, absmax: f32) -> __m512 {
        // SAFETY: this value exists, so the CPU has `avx512f`.
        unsafe { products(table, absmax) }
    }

    #[inline(always)]
    fn half(self, table: &Table, absmax: f32) -> __m512i {
        // SAFETY: this value exists, so the CPU has `avx512f`, `bw`, `vl` and `dq`.
        unsafe { twice(round(products(table, absmax))) }
    }

    #[inline(always)]
    fn wide_values(self, values: __m512, codes: &[u8], out: &mut [u32]) {
        // SAFETY: this value exists, so the CPU has `avx512f`, `bw`, `vl` and `dq`.
        unsafe { wide_values(values, codes, out) }
    }

    #[inline(always)]
    fn half_pairs(self, values: __m512i, codes: &[u8], out: &mut [u32]) {
        // SAFETY: this value exists, so the CPU has `avx512f`, `bw`, `vl` and `dq`.
        unsafe { half_pairs(values, codes, out) }
    }

    #[inline(always)]
    fn encode(self, table: &Table, x: &[u32], factor: f32, codes: &mut [u8]) {
        // SAFETY: this value exists, so the CPU has `avx512f`, `bw`, `vl` and `dq`.
        unsafe { encode(table, x, factor, codes) }
    }
}

impl LineOps for Avx512Codes {
    type Line = __m512i;

    #[inline(always)]
    fn wide_line(self, values: &__m512, codes: &[u8; 8]) -> __m512i {
        // SAFETY: this value exists, so the CPU has `avx512f` and `bw`; `codes` is 8 bytes.
        unsafe { _mm512_castps_si512(wide16(*values, _mm_loadl_epi64(codes.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn half_line(self, values: &__m512i, codes: &[u8; 16]) -> __m512i {
        // SAFETY: this value exists, so the CPU has `avx512f` and `bw`; `codes` is 16 bytes.
        unsafe { half32(*values, _mm_loadu_si128(codes.as_ptr().cast())) }
    }

    #[inline(always)]
    fn join(self, n: usize, line: __m512i, second: __m512i) -> __m512i {
        // SAFETY: this value exists, so the CPU has `avx512f`.
        unsafe { _mm512_mask_mov_epi32(second, first(n), line) }
    }

    #[inline(always)]
    unsafe fn store(self, line: __m512i, out: &mut Line, way: Way) {
        let out = out.0.as_mut_ptr().cast();
        // SAFETY: this value exists, so the CPU has `avx512f`; `out` is 64 bytes that begin with a
        // cache line, and the caller fences.
        unsafe {
            match way {
                Way::Cached => _mm512_store_si512(out, line),
                Way::PastCaches => _mm512_stream_si512(out, line),
            }
        }
    }
}

/// [`Avx512Codes`] that round to bf16 as gemm's packing does on these sets: subnormals become 0.
/// Exists only where `avx512bf16` is there too.
#[derive(Clone, Copy)]
pub(crate) struct Bf16Codes(());

impl Bf16Codes {
    /// Can be called without `unsafe` only in a function that enables the same.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
    pub(crate) fn here() -> Bf16Codes {
        Bf16Codes(())
    }
}

impl CodeOps for Bf16Codes {
    type Wide = __m512;
    type Half = __m512i;

    #[inline(always)]
    fn wide(self, table: &Table, absmax: f32) -> __m512 {
        Avx512Codes(()).wide(table, absmax)
    }

    #[inline(always)]
    fn half(self, table: &Table, absmax: f32) -> __m512i {
        // SAFETY: this value exists, so the CPU has `avx512f` and `avx512bf16`.
        unsafe { twice(round_bf16(products(table, absmax))) }
    }

    #[inline(always)]
    fn wide_values(self, values: __m512, codes: &[u8], out: &mut [u32]) {
        Avx512Codes(()).wide_values(values, codes, out);
    }

    #[inline(always)]
    fn half_pairs(self, values: __m512i, codes: &[u8], out: &mut [u32]) {
        Avx512Codes(()).half_pairs(values, codes, out);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn products(table: &Table, absmax: f32) -> __m512 {
    // SAFETY: `values` is 16 floats.
    let code = unsafe { _mm512_loadu_ps(table.values.as_ptr()) };
    _mm512_mul_ps(code, _mm512_set1_ps(absmax))
}

/// To bf16, nearest even. NaN stays NaN.
#[inline]
#[target_feature(enable = "avx512f")]
fn round(values: __m512) -> __m256i {
    let bits = _mm512_castps_si512(values);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(values, values);
    let bits = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x0040_0000));
    _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(bits))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn round_bf16(values: __m512) -> __m256i {
    // SAFETY: both types are 256 bits of plain data.
    unsafe { std::mem::transmute(_mm512_cvtneps_pbh(values)) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn twice(half: __m256i) -> __m512i {
    _mm512_broadcast_i64x4(half)
}

/// The first `n` of 16.
#[inline(always)]
fn first(n: usize) -> u16 {
    ((1u32 << n) - 1) as u16
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn wide_values(values: __m512, codes: &[u8], out: &mut [u32]) {
    assert_eq!(out.len(), 2 * codes.len());
    let (codes, last_codes) = codes.as_chunks::<8>();
    let (out, last) = out.as_chunks_mut::<16>();
    for (codes, out) in codes.iter().zip(out) {
        // SAFETY: `codes` is 8 bytes, `out` 16 words.
        unsafe {
            let found = wide16(values, _mm_loadl_epi64(codes.as_ptr().cast()));
            _mm512_storeu_ps(out.as_mut_ptr().cast(), found);
        }
    }
    if !last.is_empty() {
        // SAFETY: the masks load `last_codes.len()` bytes and store `last.len()` words.
        unsafe {
            let codes = _mm_maskz_loadu_epi8(first(last_codes.len()), last_codes.as_ptr().cast());
            let found = wide16(values, codes);
            _mm512_mask_storeu_ps(last.as_mut_ptr().cast(), first(last.len()), found);
        }
    }
}

/// Shifts by which a byte that stands twice gives two indices: its high nibble is shifted down, its low one
/// stands where it should. Of an index only the lowest bits count.
const HIGH_THEN_LOW: i64 = 4;

/// The values of the lowest 8 bytes. Each byte stands in two words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn wide16(values: __m512, codes: __m128i) -> __m512 {
    // A lane has all 8, and spreads its own two.
    const PLACES: [u8; 64] = each_repeated(8);
    // SAFETY: `PLACES` is 64 bytes.
    let places = unsafe { _mm512_loadu_si512(PLACES.as_ptr().cast()) };
    let bytes = _mm512_shuffle_epi8(_mm512_broadcastq_epi64(codes), places);
    let index = _mm512_srlv_epi32(bytes, _mm512_set1_epi64(HIGH_THEN_LOW));
    _mm512_permutexvar_ps(index, values)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn half_pairs(values: __m512i, codes: &[u8], out: &mut [u32]) {
    assert_eq!(out.len(), codes.len());
    let (codes, last_codes) = codes.as_chunks::<16>();
    let (out, last) = out.as_chunks_mut::<16>();
    for (codes, out) in codes.iter().zip(out) {
        // SAFETY: `codes` is 16 bytes, `out` 16 words.
        unsafe {
            let found = half32(values, _mm_loadu_si128(codes.as_ptr().cast()));
            _mm512_storeu_si512(out.as_mut_ptr().cast(), found);
        }
    }
    if !last.is_empty() {
        let mask = first(last.len());
        // SAFETY: the mask loads `last.len()` bytes, as many as there are, and stores as many words.
        unsafe {
            let found = half32(values, _mm_maskz_loadu_epi8(mask, last_codes.as_ptr().cast()));
            _mm512_mask_storeu_epi32(last.as_mut_ptr().cast(), mask, found);
        }
    }
}

/// The values of 16 bytes. Each byte stands in two half words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn half32(values: __m512i, codes: __m128i) -> __m512i {
    // A lane has all 16, and spreads its own four.
    const PLACES: [u8; 64] = each_repeated(4);
    // SAFETY: `PLACES` is 64 bytes.
    let places = unsafe { _mm512_loadu_si512(PLACES.as_ptr().cast()) };
    let bytes = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(codes), places);
    let index = _mm512_srlv_epi16(bytes, _mm512_set1_epi32(HIGH_THEN_LOW as i32));
    _mm512_permutexvar_epi16(index, values)
}

/// 0, 1, 2, …, each `times` times.
const fn each_repeated(times: usize) -> [u8; 64] {
    let mut places = [0; 64];
    let mut i = 0;
    while i < 64 {
        places[i] = (i / times) as u8;
        i += 1;
    }
    places
}

/// Per vector, the number of a leaf of the tree: 16 and the place among the values.
#[inline]
#[target_feature(enable = "avx512f")]
fn search(table: &Table, s: __m512) -> __m512i {
    // SAFETY: the tree is 16 floats.
    let tree = unsafe { _mm512_loadu_ps(table.tree.as_ptr()) };
    let one = _mm512_set1_epi32(1);
    let mut node = one;
    for _ in 0..4 {
        let above = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(_mm512_permutexvar_ps(node, tree), s);
        node = _mm512_add_epi32(node, node);
        node = _mm512_mask_add_epi32(node, above, node, one);
    }
    node
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn encode(table: &Table, x: &[u32], factor: f32, codes: &mut [u8]) {
    assert_eq!(x.len(), 2 * codes.len());
    let (x, last_x) = x.as_chunks::<64>();
    let (codes, last) = codes.as_chunks_mut::<32>();
    for (x, codes) in x.iter().zip(codes) {
        *codes = encode64(table, x, factor);
    }
    if !last.is_empty() {
        let mut padded = [0; 64];
        padded[..last_x.len()].copy_from_slice(last_x);
        last.copy_from_slice(&encode64(table, &padded, factor)[..last.len()]);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn encode64(table: &Table, x: &[u32; 64], factor: f32) -> [u8; 32] {
    let factor = _mm512_set1_ps(factor);
    let nodes: [__m512i; 4] = std::array::from_fn(|i| {
        let x = &x.as_chunks::<16>().0[i];
        // SAFETY: `x` is 16 floats.
        search(table, _mm512_mul_ps(unsafe { _mm512_loadu_ps(x.as_ptr().cast()) }, factor))
    });
    // Of an index only the lowest 4 bits count: a leaf's place.
    // SAFETY: `order` is 16 bytes.
    let order = unsafe { _mm_loadu_si128(table.order.as_ptr().cast()) };
    let bytes = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(order), in_order(nodes));
    let pairs = _mm512_maddubs_epi16(bytes, _mm512_set1_epi16(0x0110));
    let mut codes = [0; 32];
    // SAFETY: `codes` is 32 bytes.
    unsafe { _mm256_storeu_si256(codes.as_mut_ptr().cast(), _mm512_cvtepi16_epi8(pairs)) };
    codes
}

/// The low bytes of 64 words below 256.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn in_order(words: [__m512i; 4]) -> __m512i {
    let low = _mm512_packus_epi32(words[0], words[1]);
    let high = _mm512_packus_epi32(words[2], words[3]);
    // Each 128-bit lane holds its 4 bytes of all vectors: a transposition of 4 by 4.
    let order: [u32; 16] = std::array::from_fn(|i| (i % 4 * 4 + i / 4) as u32);
    // SAFETY: `order` is 512 bits.
    let order = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
    _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high))
}
