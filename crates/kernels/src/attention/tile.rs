//! What forward and backward share of a tile: a head's rows, scores, mask, and the vectorised steps
//! of the softmax.
//!
//! A tile of scores is `[keys][QUERIES]`; columns past the last query hold numbers that nobody reads.

use super::product::{Product, Rows, Scalars, Store, product};
use super::{AttentionShape, QUERIES};
use crate::Isa;
use crate::simd::{self, shells};
use crate::value::Value;

/// One head of a matrix `[tokens, heads·D]`, from a sequence's first token on.
#[derive(Clone, Copy)]
pub(super) struct Head<'a, T = f32> {
    pub data: &'a [T],
    pub stride: usize,
    pub head_dim: usize,
}

impl<'a, T> Head<'a, T> {
    /// Head `head` of `matrix`, whose rows hold `heads` heads, from row `first_row` on.
    pub(super) fn new(
        matrix: &'a [T],
        (heads, head_dim): (usize, usize),
        first_row: usize,
        head: usize,
    ) -> Head<'a, T> {
        let stride = heads * head_dim;
        Head { data: &matrix[first_row * stride + head * head_dim..], stride, head_dim }
    }

    pub(super) fn row(&self, row: usize) -> &'a [T] {
        &self.data[row * self.stride..][..self.head_dim]
    }

    /// The rows from `row` on, to be read along the rows.
    pub(super) fn rows(&self, row: usize) -> Rows<'a, T> {
        Rows { data: &self.data[row * self.stride..], stride: self.stride }
    }
}

impl<'a> Head<'a> {
    /// The rows from `row` on, to be read element by element.
    pub(super) fn scalars(&self, row: usize) -> Scalars<'a> {
        Scalars { data: &self.data[row * self.stride..], row_stride: self.stride, col_stride: 1 }
    }
}

/// Which scores a tile holds: keys `key..key + n_keys`, queries from `query` on (positions).
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub key: usize,
    pub n_keys: usize,
    pub query: usize,
    pub n_queries: usize,
}

/// `scores[j][i] = x[key + j] · t[·][i]`, where `t` is [transposed](super::transpose::transpose).
pub(super) fn dot_keys(isa: Isa, x: Head, at: Place, t: &[f32], scores: &mut [f32]) {
    let b = Rows { data: t, stride: QUERIES };
    let (m, n, k) = (at.n_keys, QUERIES, x.head_dim);
    product(isa, Product { m, n, k, a: x.scalars(at.key), b, store: Store::Overwrite }, scores);
}

/// Sets the scores that the causal order and the window hide to −∞.
pub(super) fn mask(shape: &AttentionShape, at: Place, scores: &mut [f32]) {
    let last_key = at.key + at.n_keys - 1;
    let window = shape.sliding_window.unwrap_or(usize::MAX);
    if last_key <= at.query && at.query + QUERIES - 1 - at.key < window {
        return;
    }
    for (j, row) in scores.chunks_exact_mut(QUERIES).take(at.n_keys).enumerate() {
        let key = at.key + j;
        let first = key.saturating_sub(at.query).min(QUERIES);
        let end = key.saturating_add(window).saturating_sub(at.query).min(QUERIES);
        row[..first].fill(f32::NEG_INFINITY);
        row[end..].fill(f32::NEG_INFINITY);
    }
}

/// The running softmax of a tile's queries.
pub(super) struct Running {
    /// The largest score so far. Finite from the start, so that `−∞ − max` is never NaN.
    pub max: [f32; QUERIES],
    /// `Σ exp(score − max)`.
    pub sum: [f32; QUERIES],
    /// What the last step multiplied earlier sums by.
    pub correction: [f32; QUERIES],
}

impl Running {
    pub(super) fn new() -> Running {
        Running { max: [f32::MIN; QUERIES], sum: [0.0; QUERIES], correction: [1.0; QUERIES] }
    }
}

/// `slope · key position`, added to the scores of each key.
#[derive(Clone, Copy)]
pub(super) struct Bias {
    pub slope: f32,
    pub key: usize,
}

shells! {
    /// Turns scores into `exp(score − max)` with the new running maximum, and moves `running` on.
    pub(super) fn softmax_step(scores: &mut [f32], bias: Bias, running: &mut Running) = softmax_step_body;
    /// Turns scores into probabilities and `dp` into `ds = p · (dp − δ)`.
    pub(super) fn probabilities(scores: &mut [f32], dp: &mut [f32], bias: Bias, lse: &[f32; QUERIES], delta: &[f32; QUERIES]) = probabilities_body;
    /// `x *= factor`.
    pub(super) fn scale(x: &mut [f32], factor: f32) = scale_body;
    /// `y = x · factor`.
    pub(super) fn scaled<Y: Value>(x: &[f32], factor: f32, y: &mut [Y]) = scaled_body;
    /// `Σ x·y`.
    pub(super) fn dot(x: &[f32], y: &[f32]) -> f32 = simd::dot;
}

#[inline(always)]
fn softmax_step_body(scores: &mut [f32], bias: Bias, running: &mut Running) {
    let (rows, _) = scores.as_chunks_mut::<QUERIES>();
    let mut max = running.max;
    for (j, row) in rows.iter_mut().enumerate() {
        let bias = bias.slope * (bias.key + j) as f32;
        for i in 0..QUERIES {
            row[i] += bias;
            max[i] = if row[i] > max[i] { row[i] } else { max[i] };
        }
    }
    let mut sum = [0.0; QUERIES];
    for row in rows {
        for i in 0..QUERIES {
            row[i] = simd::exp(row[i] - max[i]);
            sum[i] += row[i];
        }
    }
    for i in 0..QUERIES {
        running.correction[i] = simd::exp(running.max[i] - max[i]);
        running.sum[i] = running.sum[i] * running.correction[i] + sum[i];
    }
    running.max = max;
}

#[inline(always)]
fn probabilities_body(
    scores: &mut [f32],
    dp: &mut [f32],
    bias: Bias,
    lse: &[f32; QUERIES],
    delta: &[f32; QUERIES],
) {
    let (rows, _) = scores.as_chunks_mut::<QUERIES>();
    let (dp_rows, _) = dp.as_chunks_mut::<QUERIES>();
    for (j, (row, dp)) in rows.iter_mut().zip(dp_rows).enumerate() {
        let bias = bias.slope * (bias.key + j) as f32;
        for i in 0..QUERIES {
            let p = simd::exp(row[i] + bias - lse[i]);
            row[i] = p;
            dp[i] = p * (dp[i] - delta[i]);
        }
    }
}

#[inline(always)]
fn scale_body(x: &mut [f32], factor: f32) {
    x.iter_mut().for_each(|x| *x *= factor);
}

#[inline(always)]
fn scaled_body<Y: Value>(x: &[f32], factor: f32, y: &mut [Y]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = Y::round(x * factor);
    }
}
