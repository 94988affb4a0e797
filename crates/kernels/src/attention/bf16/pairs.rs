//! Words of two bf16, even k in the low half, and their products on AVX-512 BF16.
//!
//! `vdpbf16ps` multiplies pairs and adds both products to an f32; it and the rounding take subnormals
//! as 0 (see `gemm/x86.rs`).

use super::operands::{Operands, Part, Put, ScoreWords, WordProduct};
use super::softmax::{as_words, probabilities, softmax};
use crate::Isa;
use crate::attention::QUERIES;
use crate::attention::tile::{Bias, Running};
use crate::gemm::columns16;
use crate::isa::Avx512Bf16;
use half::bf16;
use std::arch::x86_64::*;

/// Words of a register.
const LANES: usize = 16;
/// Values of a register.
const VALUES: usize = 2 * LANES;

#[derive(Clone, Copy)]
pub(super) struct Pairs(Avx512Bf16);

impl Pairs {
    pub(super) fn new(proof: Avx512Bf16) -> Pairs {
        Pairs(proof)
    }
}

impl Operands for Pairs {
    const PER_WORD: usize = 2;
    const SCORE_UNIT: f32 = std::f32::consts::LOG2_E;

    fn isa(self) -> Isa {
        Isa::Avx512Bf16(self.0)
    }

    fn round(self, x: &[f32], y: &mut [bf16]) {
        // SAFETY: `self.0` proves `avx512bf16` and all that `Avx512` does.
        unsafe { round(x, y) }
    }

    fn rows(self, x: Part, words: &mut [u32]) {
        // SAFETY: as above.
        unsafe { rows(x, words) }
    }

    fn steps(self, x: Part, words: &mut [u32]) {
        // SAFETY: as above.
        unsafe { steps(x, words) }
    }

    fn columns(self, x: Part, words: &mut [u32]) {
        // SAFETY: as above.
        unsafe { columns(x, words) }
    }

    fn product(self, x: WordProduct, c: &mut [f32]) {
        x.check(c);
        // SAFETY: as above; the views hold `m`, `n` and `k`, as just checked.
        unsafe { product(x, c) }
    }

    fn softmax(self, scores: &mut [f32], bias: Bias, running: &mut Running, p: &mut [u32]) {
        // SAFETY: `self.0` proves `avx512bf16` and all that `Avx512` does.
        unsafe { softmax(scores, bias, running, p) }
    }

    fn probabilities(
        self,
        (scores, dp): (&mut [f32], &mut [f32]),
        bias: Bias,
        lse_and_delta: (&[f32; QUERIES], &[f32; QUERIES]),
        words: ScoreWords,
    ) {
        // SAFETY: as above.
        unsafe { probabilities((scores, dp), bias, lse_and_delta, words) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn round(x: &[f32], y: &mut [bf16]) {
    assert_eq!(x.len(), y.len());
    for (x, y) in x.chunks(VALUES).zip(y.chunks_mut(VALUES)) {
        let (first, second) = x.split_at(x.len().min(LANES));
        let pairs = as_words(_mm512_cvtne2ps_pbh(load(second), load(first)));
        if let Some(y) = y.first_chunk_mut::<VALUES>() {
            // SAFETY: `y` is 32 values.
            unsafe { _mm512_storeu_si512(y.as_mut_ptr().cast(), pairs) }
        } else {
            // SAFETY: the mask stores `y.len()` values.
            unsafe { _mm512_mask_storeu_epi16(y.as_mut_ptr().cast(), first_values(y.len()), pairs) }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn rows(x: Part, words: &mut [u32]) {
    let width = x.width.div_ceil(2);
    for (r, words) in words.chunks_exact_mut(width).take(x.n).enumerate() {
        for (from, to) in x.row(r).chunks(VALUES).zip(words.chunks_mut(LANES)) {
            store(pairs(from), to);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn steps(x: Part, words: &mut [u32]) {
    let width = x.width.next_multiple_of(LANES);
    for (r, words) in words.chunks_exact_mut(width).take(x.n.div_ceil(2)).enumerate() {
        let low = x.row(2 * r).chunks(VALUES);
        let (words, _) = words.as_chunks_mut::<LANES>();
        let odd = 2 * r + 1 < x.n;
        for ((block, low), words) in low.enumerate().zip(words.chunks_mut(2)) {
            let high = if odd {
                pairs(&x.row(2 * r + 1)[block * VALUES..][..low.len()])
            } else {
                _mm512_setzero_si512()
            };
            for (step, to) in joined(pairs(low), high).into_iter().zip(words) {
                store16(step, to);
            }
        }
    }
}

/// Blocks of 16 words of 16 rows.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn columns(x: Part, words: &mut [u32]) {
    let width = x.width.div_ceil(2);
    let (words, _) = words[..width * QUERIES].as_chunks_mut::<QUERIES>();
    for first in (0..QUERIES).step_by(LANES) {
        for (block, words) in words.chunks_mut(LANES).enumerate() {
            let from = block * VALUES;
            let to = x.width.min(from + VALUES);
            let mut rows = [_mm512_setzero_si512(); LANES];
            for (r, words) in rows.iter_mut().enumerate().take(x.n.saturating_sub(first)) {
                *words = pairs(&x.row(first + r)[from..to]);
            }
            for (column, words) in columns16(rows).into_iter().zip(words) {
                store16(column, &mut words.as_chunks_mut().0[first / LANES]);
            }
        }
    }
}

/// At most 32 values as words; zeros after them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn pairs(x: &[bf16]) -> __m512i {
    if let Some(x) = x.first_chunk::<VALUES>() {
        // SAFETY: `x` is 32 values.
        return unsafe { _mm512_loadu_si512(x.as_ptr().cast()) };
    }
    // SAFETY: the mask loads `x.len()` values.
    unsafe { _mm512_maskz_loadu_epi16(first_values(x.len()), x.as_ptr().cast()) }
}

/// Where the values of [`joined`] come from: value i of `low` is i, of `high` 32 + i.
const JOINED: [[u16; VALUES]; 2] = {
    let mut orders = [[0; VALUES]; 2];
    let mut at = 0;
    while at < 2 * VALUES {
        orders[at / VALUES][at % VALUES] = (at / 2 + at % 2 * VALUES) as u16;
        at += 1;
    }
    orders
};

/// The words of `low[i]` and `high[i]`: the first 16, and the others.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn joined(low: __m512i, high: __m512i) -> [__m512i; 2] {
    // SAFETY: each order is 512 bits.
    let orders = unsafe {
        [
            _mm512_loadu_si512(JOINED[0].as_ptr().cast()),
            _mm512_loadu_si512(JOINED[1].as_ptr().cast()),
        ]
    };
    [
        _mm512_permutex2var_epi16(low, orders[0], high),
        _mm512_permutex2var_epi16(low, orders[1], high),
    ]
}

#[inline(always)]
fn first_values(n: usize) -> __mmask32 {
    ((1u64 << n) - 1) as __mmask32
}

/// At most 16 floats; zeros after them.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(x: &[f32]) -> __m512 {
    assert!(x.len() <= LANES);
    // SAFETY: the mask loads `x.len()` floats.
    unsafe { _mm512_maskz_loadu_ps(first_lanes(x.len()), x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store16(words: __m512i, to: &mut [u32; LANES]) {
    // SAFETY: `to` is 16 words.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), words) }
}

/// The first of the words, at most 16.
#[inline]
#[target_feature(enable = "avx512f")]
fn store(words: __m512i, to: &mut [u32]) {
    // A store with a mask costs many times what another does.
    if let Some(to) = to.first_chunk_mut() {
        return store16(words, to);
    }
    // SAFETY: the mask stores `to.len()` words.
    unsafe { _mm512_mask_storeu_epi32(to.as_mut_ptr().cast(), first_lanes(to.len()), words) }
}

#[inline(always)]
fn first_lanes(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn as_bf16(words: __m512i) -> __m512bh {
    // SAFETY: both types are 512 bits of plain data.
    unsafe { std::mem::transmute(words) }
}

/// Blocks of 8 rows × two vectors, and narrower ones for what is left.
///
/// # Safety
/// - [`WordProduct::check`] has passed.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn product(x: WordProduct, c: &mut [f32]) {
    let mut col = 0;
    // SAFETY: columns end at `n`, which is whole vectors.
    unsafe {
        while col + 2 * LANES <= x.n {
            columns_of_blocks::<2>(&x, c, col);
            col += 2 * LANES;
        }
        if col < x.n {
            columns_of_blocks::<1>(&x, c, col);
        }
    }
}

/// # Safety
/// - As [`product`], and `col` plus `W` vectors is at most `n`.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn columns_of_blocks<const W: usize>(x: &WordProduct, c: &mut [f32], col: usize) {
    let mut row = 0;
    // SAFETY: rows end at `m`.
    unsafe {
        while row + 8 <= x.m {
            block::<8, W>(x, c, row, col);
            row += 8;
        }
        if row + 4 <= x.m {
            block::<4, W>(x, c, row, col);
            row += 4;
        }
        if row + 2 <= x.m {
            block::<2, W>(x, c, row, col);
            row += 2;
        }
        if row < x.m {
            block::<1, W>(x, c, row, col);
        }
    }
}

/// `R` rows × `W` vectors of `c` from `(row, col)`.
///
/// # Safety
/// - As [`product`], and the block lies inside `m × n`.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn block<const R: usize, const W: usize>(
    x: &WordProduct,
    c: &mut [f32],
    row: usize,
    col: usize,
) {
    // SAFETY: every index below is one of row `row + r < m`, of a vector inside `n` columns and of
    // `p < k`, which the views hold.
    unsafe {
        let a: [*const u32; R] =
            std::array::from_fn(|r| x.a.data.as_ptr().add((row + r) * x.a.row_stride));
        let b = x.b.as_ptr().add(col);
        let at = |r: usize, w: usize| (row + r) * x.n + col + w * LANES;
        let mut sums = [[_mm512_setzero_ps(); W]; R];
        if let Put::Added = x.put {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (w, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_loadu_ps(c.as_ptr().add(at(r, w)));
                }
            }
        }
        for p in 0..x.k {
            let mut columns = [as_bf16(_mm512_setzero_si512()); W];
            for (w, column) in columns.iter_mut().enumerate() {
                *column = as_bf16(_mm512_loadu_si512(b.add(p * x.n + w * LANES).cast()));
            }
            for (sums, a) in sums.iter_mut().zip(a) {
                let word = *a.add(p * x.a.col_stride);
                let a = as_bf16(_mm512_set1_epi32(word.cast_signed()));
                for (sum, &column) in sums.iter_mut().zip(&columns) {
                    *sum = _mm512_dpbf16_ps(*sum, a, column);
                }
            }
        }
        if let Put::Scaled(factor) = x.put {
            let factor = _mm512_set1_ps(factor);
            for sum in sums.as_flattened_mut() {
                *sum = _mm512_mul_ps(factor, *sum);
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (w, &sum) in sums.iter().enumerate() {
                _mm512_storeu_ps(c.as_mut_ptr().add(at(r, w)), sum);
            }
        }
    }
}
