//! The softmax of a tile on AVX-512 BF16: scores in powers of two, probabilities straight to words.
//!
//! ```text
//! 2^x = 2^n · 2^f,  n = ⌊x⌉,  |f| ≤ 1/2        2^f a polynomial (Cephes, `exp2f`)
//! ```
//! The common bodies of `tile.rs` may not fuse a multiply with an add, because their bits are those of
//! every set; here they took as long as a product does. An argument of −∞ gives 0, NaN stays NaN.

use super::operands::ScoreWords;
use crate::attention::QUERIES;
use crate::attention::tile::{Bias, Running};
use std::arch::x86_64::*;

/// Queries of a register.
const LANES: usize = 16;

/// Below this 2^x is 0 in f32.
const EXPONENT_MIN: f32 = -160.0;

/// Turns scores into the words of `2^(score − max)` along the keys, and moves `running` on.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn softmax(scores: &[f32], bias: Bias, running: &mut Running, p: &mut [u32]) {
    let (rows, _) = scores.as_chunks::<QUERIES>();
    let (words, _) = p.as_chunks_mut::<QUERIES>();
    assert!(words.len() >= rows.len().div_ceil(2), "attention: words of p");
    // Loops, not adapters: a closure that those call has none of this function's features.
    let zero = _mm512_setzero_ps();
    let old = [load(&running.max, 0), load(&running.max, 1)];
    let mut max = old;
    for (j, row) in rows.iter().enumerate() {
        let row = biased(row, bias, j);
        for half in 0..2 {
            // A NaN score is passed over here, and found below.
            max[half] = _mm512_max_ps(row[half], max[half]);
        }
    }
    let mut sum = [zero; 2];
    let (pairs, last) = rows.as_chunks::<2>();
    for (j, (pair, words)) in pairs.iter().zip(&mut *words).enumerate() {
        let (low, high) = (biased(&pair[0], bias, 2 * j), biased(&pair[1], bias, 2 * j + 1));
        for half in 0..2 {
            let low = exp2(_mm512_sub_ps(low[half], max[half]));
            let high = exp2(_mm512_sub_ps(high[half], max[half]));
            sum[half] = _mm512_add_ps(sum[half], _mm512_add_ps(low, high));
            store_words(joined(low, high), words, half);
        }
    }
    if let [row] = last {
        let low = biased(row, bias, rows.len() - 1);
        for half in 0..2 {
            let low = exp2(_mm512_sub_ps(low[half], max[half]));
            sum[half] = _mm512_add_ps(sum[half], low);
            store_words(joined(low, zero), &mut words[pairs.len()], half);
        }
    }
    for half in 0..2 {
        let correction = exp2(_mm512_sub_ps(old[half], max[half]));
        let sum = _mm512_fmadd_ps(load(&running.sum, half), correction, sum[half]);
        store(max[half], &mut running.max, half);
        store(correction, &mut running.correction, half);
        store(sum, &mut running.sum, half);
    }
}

/// Turns scores and `dp` into the words of p and `ds = p · (dp − δ)`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn probabilities(
    (scores, dp): (&[f32], &[f32]),
    bias: Bias,
    (lse, delta): (&[f32; QUERIES], &[f32; QUERIES]),
    words: ScoreWords,
) {
    let (rows, _) = scores.as_chunks::<QUERIES>();
    let (dp, _) = dp.as_chunks::<QUERIES>();
    let (p_rows, _) = words.p_rows.as_chunks_mut::<LANES>();
    let (ds_rows, _) = words.ds_rows.as_chunks_mut::<LANES>();
    let (ds_steps, _) = words.ds_steps.as_chunks_mut::<QUERIES>();
    assert!(dp.len() == rows.len() && p_rows.len() >= rows.len() && ds_rows.len() >= rows.len());
    let log2e = _mm512_set1_ps(std::f32::consts::LOG2_E);
    let lse = [_mm512_mul_ps(log2e, load(lse, 0)), _mm512_mul_ps(log2e, load(lse, 1))];
    let delta = [load(delta, 0), load(delta, 1)];
    let zero = _mm512_setzero_ps();
    let mut low = [zero; 2];
    for (j, (row, dp)) in rows.iter().zip(dp).enumerate() {
        let (row, mut p, mut ds) = (biased(row, bias, j), [zero; 2], [zero; 2]);
        for half in 0..2 {
            p[half] = exp2(_mm512_sub_ps(row[half], lse[half]));
            ds[half] = _mm512_mul_ps(p[half], _mm512_sub_ps(load(dp, half), delta[half]));
        }
        store_words(as_words(_mm512_cvtne2ps_pbh(p[1], p[0])), &mut p_rows[j], 0);
        store_words(as_words(_mm512_cvtne2ps_pbh(ds[1], ds[0])), &mut ds_rows[j], 0);
        // An odd row finds its even neighbour in `low`; a last even one has none.
        let (even, odd) = if j % 2 == 1 { (low, ds) } else { (ds, [zero; 2]) };
        if j % 2 == 1 || j + 1 == rows.len() {
            for half in 0..2 {
                store_words(joined(even[half], odd[half]), &mut ds_steps[j / 2], half);
            }
        }
        low = ds;
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn biased(row: &[f32; QUERIES], bias: Bias, j: usize) -> [__m512; 2] {
    let bias = _mm512_set1_ps(bias.slope * (bias.key + j) as f32);
    [_mm512_add_ps(load(row, 0), bias), _mm512_add_ps(load(row, 1), bias)]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn exp2(x: __m512) -> __m512 {
    // The second operand is what `max` gives for NaN.
    let x = _mm512_max_ps(_mm512_set1_ps(EXPONENT_MIN), x);
    let n = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
    let f = _mm512_sub_ps(x, n);
    let mut y = _mm512_set1_ps(1.535_336_2e-4);
    for coefficient in
        [1.339_887_4e-3, 9.618_437e-3, 5.550_332_6e-2, 2.402_264_8e-1, 6.931_472e-1, 1.0]
    {
        y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(coefficient));
    }
    _mm512_scalef_ps(y, n)
}

/// The pairs of `low[i]` and `high[i]`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn joined(low: __m512, high: __m512) -> __m512i {
    // Halves i and 16 + i become neighbours.
    let order: [u16; 32] = std::array::from_fn(|i| (i / 2 + i % 2 * 16) as u16);
    // SAFETY: `order` is 512 bits.
    let order = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
    _mm512_permutexvar_epi16(order, as_words(_mm512_cvtne2ps_pbh(high, low)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn as_words(pairs: __m512bh) -> __m512i {
    // SAFETY: both types are 512 bits of plain data.
    unsafe { std::mem::transmute(pairs) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(row: &[f32; QUERIES], half: usize) -> __m512 {
    let lanes = &row.as_chunks::<LANES>().0[half];
    // SAFETY: `lanes` is 16 floats.
    unsafe { _mm512_loadu_ps(lanes.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(x: __m512, row: &mut [f32; QUERIES], half: usize) {
    let lanes = &mut row.as_chunks_mut::<LANES>().0[half];
    // SAFETY: `lanes` is 16 floats.
    unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), x) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_words<const N: usize>(x: __m512i, row: &mut [u32; N], part: usize) {
    let lanes = &mut row.as_chunks_mut::<LANES>().0[part];
    // SAFETY: `lanes` is 16 words.
    unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), x) }
}
