//! The nearest codes of values, a group at a time, by the lines of [`lines`]. Nothing here knows maxima.

use super::values::halves;
use super::{GROUP, LANES, group, lanes};
use crate::adamw::eight_bit::look_up;
use crate::adamw::lines::{self, NEAR};
use crate::dynamic::{SIGNED_ZERO, signed_code, unsigned_code};
use std::arch::x86_64::*;

pub(super) struct Tables {
    pub m: MeanTables,
    pub v: SquareTables,
}

impl Tables {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn new() -> Tables {
        Tables { m: MeanTables::new(), v: SquareTables::new() }
    }
}

#[cold]
#[inline(never)]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn look_up_group(
    (m, v): (&[f32; GROUP], &[f32; GROUP]),
    factors: (f32, f32),
    codes: (&mut [u8], &mut [u8]),
) {
    look_up(m, factors.0, codes.0, signed_code);
    look_up(v, factors.1, codes.1, unsigned_code);
}

/// [`lines::MAGNITUDES`] in registers.
pub(super) struct MeanTables {
    scale: __m512,
    offset: __m512,
    codes: [[__m512i; 2]; 2],
}

impl MeanTables {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new() -> MeanTables {
        let table = &lines::MAGNITUDES;
        let (codes, _) = table.codes.as_chunks::<128>();
        MeanTables {
            scale: lanes(&table.scale),
            offset: lanes(&table.offset),
            codes: [halves(&codes[0]), halves(&codes[1])],
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    pub(super) fn line(&self, m: __m512, factor: f32) -> __m512i {
        let s = _mm512_mul_ps(m, _mm512_set1_ps(factor));
        // The larger magnitude, without its sign.
        let s = _mm512_range_ps::<0b1011>(s, _mm512_set1_ps(lines::MAGNITUDE_LEAST));
        let bin = _mm512_srli_epi32::<24>(_mm512_castps_si512(s));
        let scale = _mm512_permutexvar_ps(bin, self.scale);
        let offset = _mm512_permutexvar_ps(bin, self.offset);
        _mm512_castps_si512(_mm512_fmadd_ps(s, scale, offset))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
    pub(super) fn codes(&self, lines: [__m512i; 4], m: [__m512; 4]) -> __m512i {
        let places = packed(lines, group(&THIRD));
        let [low, high] = self.codes.map(|[a, b]| _mm512_permutex2var_epi8(a, places, b));
        let magnitudes = _mm512_mask_blend_epi8(_mm512_movepi8_mask(places), low, high);
        let negative =
            _mm512_movepi8_mask(packed(m.map(|m| _mm512_castps_si512(m)), group(&FOURTH)));
        let zero = _mm512_set1_epi8(SIGNED_ZERO as i8);
        let codes = _mm512_add_epi8(zero, magnitudes);
        // The largest negative code is that of the value next to -1.
        _mm512_mask_subs_epu8(codes, negative, zero, magnitudes)
    }
}

/// [`lines::SQUARES`] in registers.
pub(super) struct SquareTables {
    carry: __m512i,
    scale: __m512,
    offset: __m512,
    last: __m512,
}

impl SquareTables {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new() -> SquareTables {
        let table = &lines::SQUARES;
        SquareTables {
            carry: _mm512_castps_si512(lanes(&table.carry.map(f32::from_bits))),
            scale: lanes(&table.scale),
            offset: lanes(&table.offset),
            last: lanes(&table.last),
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq")]
    pub(super) fn line(&self, v: __m512, factor: f32) -> __m512i {
        let s = _mm512_mul_ps(v, _mm512_set1_ps(factor));
        let s = _mm512_max_ps(s, _mm512_set1_ps(lines::SQUARE_LEAST));
        let bits = _mm512_castps_si512(s);
        let carry = _mm512_permutexvar_epi32(_mm512_srli_epi32::<24>(bits), self.carry);
        let bin = _mm512_srli_epi32::<24>(_mm512_add_epi32(bits, carry));
        let scale = _mm512_permutexvar_ps(bin, self.scale);
        let offset = _mm512_permutexvar_ps(bin, self.offset);
        let last = _mm512_permutexvar_ps(bin, self.last);
        _mm512_castps_si512(_mm512_min_ps(_mm512_fmadd_ps(s, scale, offset), last))
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn square_codes(lines: [__m512i; 4]) -> __m512i {
    _mm512_sub_epi8(packed(lines, group(&THIRD)), _mm512_set1_epi8(1))
}

/// Whether a fraction is below [`NEAR`]. The upper halves, with the exponents, are never so small.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn near(m: [__m512i; 4], v: [__m512i; 4]) -> bool {
    let least = |x: [__m512i; 4]| {
        _mm512_min_epu16(_mm512_min_epu16(x[0], x[1]), _mm512_min_epu16(x[2], x[3]))
    };
    let least = _mm512_min_epu16(least(m), least(v));
    _mm512_cmplt_epu16_mask(least, _mm512_set1_epi16(NEAR as i16)) != 0
}

/// Places of bytes 2 of each four, in two registers; and of bytes 3.
static THIRD: [u8; GROUP] = every_fourth(2);
static FOURTH: [u8; GROUP] = every_fourth(3);

const fn every_fourth(first: usize) -> [u8; GROUP] {
    let mut places = [0; GROUP];
    let mut i = 0;
    while i < GROUP {
        places[i] = (4 * (i % 32) + first) as u8;
        i += 1;
    }
    places
}

/// The bytes at `places` of the first two registers, then those of the others.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn packed([a, b, c, d]: [__m512i; 4], places: __m512i) -> __m512i {
    let low = _mm512_permutex2var_epi8(a, places, b);
    let high = _mm512_permutex2var_epi8(c, places, d);
    _mm512_mask_blend_epi64(0xf0, low, high)
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn quarters(x: &[f32; GROUP]) -> [__m512; 4] {
    [lanes(x), lanes(&x[LANES..]), lanes(&x[2 * LANES..]), lanes(&x[3 * LANES..])]
}
