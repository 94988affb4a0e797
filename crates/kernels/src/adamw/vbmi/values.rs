//! The values of codes, a group at a time: each byte of them is looked up by itself, for all codes of a
//! register at once, and the bytes are interleaved.

use crate::dynamic::{SIGNED, SIGNED_ZERO, UNSIGNED};
use std::arch::x86_64::*;

/// The bytes of a table's values, the lowest of each value first.
#[repr(C, align(64))]
struct Planes<const N: usize>([[u8; N]; 4]);

/// Of the magnitudes of the signed codes, from that next to 0 to 1.
static MEANS: Planes<128> = {
    let mut values = [0.0; 128];
    let mut i = 0;
    while i < values.len() {
        values[i] = SIGNED[SIGNED_ZERO as usize + 1 + i];
        i += 1;
    }
    planes(&values)
};

static SQUARES: Planes<256> = planes(&UNSIGNED);

const fn planes<const N: usize>(values: &[f32; N]) -> Planes<N> {
    let mut planes = [[0; N]; 4];
    let mut i = 0;
    while i < N {
        let bytes = values[i].to_bits().to_le_bytes();
        let mut byte = 0;
        while byte < 4 {
            planes[byte][i] = bytes[byte];
            byte += 1;
        }
        i += 1;
    }
    Planes(planes)
}

/// The values of a group's codes of m, in order.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
pub(super) fn signed_values(codes: __m512i) -> [__m512; 4] {
    let codes = transpose(codes);
    let one = _mm512_set1_epi8(1);
    let magnitudes = _mm512_abs_epi8(_mm512_sub_epi8(codes, _mm512_set1_epi8(SIGNED_ZERO as i8)));
    // Below 128, except that of the code of 0: it takes the bytes of 1, of which the upper two are not 0.
    let places = _mm512_sub_epi8(magnitudes, one);
    let some = lower_half(places);
    let mut planes = [_mm512_setzero_si512(); 4];
    for (plane, table) in planes.iter_mut().zip(&MEANS.0) {
        let [low, high] = halves(table);
        *plane = _mm512_permutex2var_epi8(low, places, high);
    }
    let signs = _mm512_andnot_si512(codes, _mm512_set1_epi8(i8::MIN));
    planes[2] = _mm512_and_si512(planes[2], some);
    // some & (plane | signs)
    planes[3] = _mm512_ternarylogic_epi32::<0b1110_0000>(some, planes[3], signs);
    interleave(planes)
}

/// The values of a group's codes of v, in order.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
pub(super) fn unsigned_values(codes: __m512i) -> [__m512; 4] {
    let codes = transpose(codes);
    let lower = lower_half(codes);
    let mut planes = [_mm512_setzero_si512(); 4];
    for (plane, table) in planes.iter_mut().zip(&SQUARES.0) {
        let (tables, _) = table.as_chunks::<128>();
        let [low, high] = [halves(&tables[0]), halves(&tables[1])];
        let high = _mm512_permutex2var_epi8(high[0], codes, high[1]);
        let low = _mm512_permutex2var_epi8(low[0], codes, low[1]);
        // Where lower, low, and else high.
        *plane = _mm512_ternarylogic_epi32::<0b1100_1010>(lower, low, high);
    }
    interleave(planes)
}

/// All bits of the bytes below 128. A shuffle costs less than to go through a mask register.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn lower_half(x: __m512i) -> __m512i {
    _mm512_shuffle_epi8(_mm512_set1_epi8(-1), x)
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn halves(table: &[u8; 128]) -> [__m512i; 2] {
    // SAFETY: `table` is two registers long.
    unsafe {
        [_mm512_loadu_si512(table.as_ptr().cast()), _mm512_loadu_si512(table[64..].as_ptr().cast())]
    }
}

/// Four bytes of value `16j + 4l + i` in place `16l + 4j + i`, and back: what interleaving and packing,
/// which stay in each quarter of a register, make of the order of values.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose(codes: __m512i) -> __m512i {
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_permutexvar_epi32(order, codes)
}

/// The values whose bytes these are, lowest first, put in order.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn interleave([a, b, c, d]: [__m512i; 4]) -> [__m512; 4] {
    let [low, high] = [_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b)];
    let [low_2, high_2] = [_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d)];
    [
        _mm512_castsi512_ps(_mm512_unpacklo_epi16(low, low_2)),
        _mm512_castsi512_ps(_mm512_unpackhi_epi16(low, low_2)),
        _mm512_castsi512_ps(_mm512_unpacklo_epi16(high, high_2)),
        _mm512_castsi512_ps(_mm512_unpackhi_epi16(high, high_2)),
    ]
}
