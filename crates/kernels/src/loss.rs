//! Cross-entropy on tiles of logits, rows × vocabulary, without the whole row in sight.
//!
//! ```text
//! loss[r]     = log Σ_v exp(l[r,v]) − l[r,t]                      t: the target of row r
//! dlogits[r,v] = dloss · (softmax(l[r])[v] − [v = t])
//! ```
//! The target's own exponential is kept apart from the others: `softmax(l)[t] − 1` is then
//! `−others / (others + own)`, exact also where the model is sure, and a caller that rounds
//! probabilities to bf16 doesn't lose the difference from 1.
//!
//! Shapes: a tile `[R, n]` holds the logits of the vocabulary entries `first..first + n`. Rows run in
//! parallel; within a row sums go in fixed order, in f32 over a tile and in f64 over tiles.

use crate::Isa;
use crate::simd::{self, shells};
use rayon::prelude::*;

/// What is known of a row after the tiles seen so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossRow {
    pub target: usize,
    /// The largest logit. Finite from the start, so that `−∞ − max` is never NaN.
    max: f32,
    /// `Σ exp(l − max)` over the entries other than the target.
    others: f64,
    target_logit: f32,
}

impl LossRow {
    pub fn new(target: usize) -> LossRow {
        LossRow { target, max: f32::MIN, others: 0.0, target_logit: f32::NEG_INFINITY }
    }

    /// `exp(l[t] − max)`.
    fn own(&self) -> f64 {
        (self.target_logit as f64 - self.max as f64).exp()
    }

    /// The loss, once all tiles were seen.
    pub fn loss(&self) -> f64 {
        self.max as f64 - self.target_logit as f64 + (self.others + self.own()).ln()
    }

    /// `1 / Σ_v exp(l − max)`: the factor from exponentials to probabilities.
    pub fn factor(&self) -> f32 {
        (1.0 / (self.others + self.own())) as f32
    }

    /// `softmax(l)[t] − 1`.
    pub fn target_gradient(&self) -> f32 {
        (-self.others / (self.others + self.own())) as f32
    }

    fn target_in(&self, first: usize, n: usize) -> Option<usize> {
        self.target.checked_sub(first).filter(|&at| at < n)
    }
}

/// Turns a tile of logits into `exp(l − max)` with each row's new maximum, 0 at the target, and moves
/// `rows` on. `correction[r]` is what sums made with the earlier maximum have to be multiplied by.
/// Panics where lengths differ.
pub fn exponentials(
    isa: Isa,
    logits: &mut [f32],
    first: usize,
    rows: &mut [LossRow],
    correction: &mut [f32],
) {
    let Some(n) = row_len(logits, rows) else { return };
    assert_eq!(rows.len(), correction.len(), "loss: one correction per row");
    let tile = logits.par_chunks_exact_mut(n).zip(rows).zip(correction);
    tile.for_each(|((logits, row), correction)| {
        let max = largest(isa, logits).max(row.max);
        if let Some(at) = row.target_in(first, n) {
            row.target_logit = logits[at];
            logits[at] = f32::NEG_INFINITY;
        }
        // The maximum passes over NaN; the sum shows it.
        let sum = f64::from(exponentials_of_row(isa, logits, max));
        let scale = (f64::from(row.max) - f64::from(max)).exp();
        *correction = scale as f32;
        row.others = row.others * scale + sum;
        row.max = max;
    });
}

/// `sums[r] *= correction[r]` for the rows of `sums [R, C]`. Panics unless these are whole rows.
pub fn scale_rows(isa: Isa, sums: &mut [f32], correction: &[f32]) {
    let Some(n) = row_len(sums, correction) else { return };
    sums.par_chunks_exact_mut(n).zip(correction).for_each(|(sums, &correction)| {
        if correction != 1.0 {
            scale_row(isa, sums, correction);
        }
    });
}

/// Turns a tile of [`exponentials`], made when `rows` were complete, into `dlogits`.
pub fn gradient_of_exponentials(
    isa: Isa,
    tile: &mut [f32],
    first: usize,
    rows: &[LossRow],
    dloss: f32,
) {
    let Some(n) = row_len(tile, rows) else { return };
    tile.par_chunks_exact_mut(n).zip(rows).for_each(|(tile, row)| {
        scale_row(isa, tile, dloss * row.factor());
        if let Some(at) = row.target_in(first, n) {
            tile[at] = dloss * row.target_gradient();
        }
    });
}

/// Turns a tile of logits into `dlogits`, once `rows` are complete.
pub fn gradient(isa: Isa, logits: &mut [f32], first: usize, rows: &[LossRow], dloss: f32) {
    let Some(n) = row_len(logits, rows) else { return };
    logits.par_chunks_exact_mut(n).zip(rows).for_each(|(logits, row)| {
        gradient_of_row(isa, logits, row.max, dloss * row.factor());
        if let Some(at) = row.target_in(first, n) {
            logits[at] = dloss * row.target_gradient();
        }
    });
}

/// The length of a tile's rows; `None` of an empty tile.
fn row_len<T>(tile: &[f32], rows: &[T]) -> Option<usize> {
    if rows.is_empty() || tile.is_empty() {
        return None;
    }
    assert_eq!(tile.len() % rows.len(), 0, "loss: a tile of whole rows");
    Some(tile.len() / rows.len())
}

shells! {
    fn largest(x: &[f32]) -> f32 = simd::max;
    /// `x = exp(x − max)`; returns the sum.
    fn exponentials_of_row(x: &mut [f32], max: f32) -> f32 = exponentials_of_row_body;
    /// `x = factor · exp(x − max)`.
    fn gradient_of_row(x: &mut [f32], max: f32, factor: f32) = gradient_of_row_body;
    /// `x *= factor`.
    fn scale_row(x: &mut [f32], factor: f32) = scale_row_body;
}

#[inline(always)]
fn exponentials_of_row_body(x: &mut [f32], max: f32) -> f32 {
    let mut lanes = [0.0; simd::LANES];
    let (chunks, rest) = x.as_chunks_mut::<{ simd::LANES }>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *x = simd::exp(*x - max);
            *lane += *x;
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *x = simd::exp(*x - max);
        *lane += *x;
    }
    simd::add_lanes(lanes)
}

#[inline(always)]
fn gradient_of_row_body(x: &mut [f32], max: f32, factor: f32) {
    x.iter_mut().for_each(|x| *x = factor * simd::exp(*x - max));
}

#[inline(always)]
fn scale_row_body(x: &mut [f32], factor: f32) {
    x.iter_mut().for_each(|x| *x *= factor);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits in [−spread, spread), the same for a seed.
    fn random(n: usize, seed: u32, spread: f32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761) | 1;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 * 2.0 - 1.0
        };
        (0..n).map(|_| spread * next()).collect()
    }

    /// Loss and dlogits of one row in f64.
    fn naive(logits: &[f32], target: usize, dloss: f64) -> (f64, Vec<f64>) {
        let max = logits.iter().fold(f64::MIN, |max, &l| max.max(l as f64));
        let sum: f64 = logits.iter().map(|&l| (l as f64 - max).exp()).sum();
        let gradient = |(v, &l): (usize, &f32)| {
            dloss * ((l as f64 - max).exp() / sum - f64::from(u8::from(v == target)))
        };
        let loss = max + sum.ln() - logits[target] as f64;
        (loss, logits.iter().enumerate().map(gradient).collect())
    }

    /// Loss and dlogits of `[rows, vocab]` by tiles of `n` entries.
    fn tiled(
        isa: Isa,
        logits: &[f32],
        targets: &[usize],
        (vocab, n): (usize, usize),
        dloss: f32,
    ) -> (Vec<f64>, Vec<f32>) {
        let mut rows: Vec<LossRow> = targets.iter().map(|&t| LossRow::new(t)).collect();
        let mut correction = vec![0.0; rows.len()];
        let tile = |first: usize| -> Vec<f32> {
            let end = vocab.min(first + n);
            logits.chunks(vocab).flat_map(|row| row[first..end].to_vec()).collect()
        };
        let mut last = Vec::new();
        for first in (0..vocab).step_by(n) {
            last = tile(first);
            exponentials(isa, &mut last, first, &mut rows, &mut correction);
        }
        let mut dlogits = vec![0.0; logits.len()];
        for first in (0..vocab).step_by(n) {
            let mut part = tile(first);
            gradient(isa, &mut part, first, &rows, dloss);
            let len = part.len() / rows.len();
            for (to, from) in dlogits.chunks_mut(vocab).zip(part.chunks(len)) {
                to[first..first + len].copy_from_slice(from);
            }
        }
        if n >= vocab {
            gradient_of_exponentials(isa, &mut last, 0, &rows, dloss);
            let differ = last.iter().zip(&dlogits).map(|(a, b)| (a - b).abs());
            assert!(differ.fold(0.0, f32::max) <= 1e-6 * dloss, "both ways to dlogits agree");
        }
        (rows.iter().map(LossRow::loss).collect(), dlogits)
    }

    #[test]
    fn loss_and_gradient_agree_with_f64_on_every_set_for_any_tile() {
        let mut worst = (0.0f64, 0.0f64);
        for (vocab, n, spread) in [
            (1, 1, 1.0),
            (7, 3, 3.0),
            (128, 128, 5.0),
            (1000, 64, 20.0),
            (1003, 1003, 20.0),
            (515, 100, 1e4),
        ] {
            let logits = random(5 * vocab, vocab as u32, spread);
            let targets = [0, vocab / 2, vocab - 1, vocab - 1, vocab / 3];
            let first = tiled(Isa::Portable, &logits, &targets, (vocab, n), 0.25);
            for (r, (row, &target)) in logits.chunks(vocab).zip(&targets).enumerate() {
                let (loss, dlogits) = naive(row, target, 0.25);
                let loss_off = (first.0[r] - loss).abs() / loss.abs().max(1.0);
                let grad = &first.1[r * vocab..][..vocab];
                let grad_off = grad.iter().zip(&dlogits).map(|(&a, b)| (a as f64 - b).abs());
                worst = (worst.0.max(loss_off), grad_off.fold(worst.1, f64::max));
            }
            for isa in Isa::available() {
                let other = tiled(isa, &logits, &targets, (vocab, n), 0.25);
                assert_eq!(other, first, "{} at {vocab} by {n}", isa.name());
            }
        }
        println!("largest deviation: loss {:.1e} (relative), dlogits {:.1e}", worst.0, worst.1);
        assert!(worst.0 <= 2e-7 && worst.1 <= 2e-7);
    }

    #[test]
    fn a_sure_row_keeps_its_gradient() {
        let mut logits = vec![0.0; 1000];
        logits[999] = 25.0;
        let (loss, dlogits) = tiled(Isa::best(), &logits, &[999], (1000, 300), 1.0);
        let (want, want_dlogits) = naive(&logits, 999, 1.0);
        assert!((loss[0] / want - 1.0).abs() < 1e-6, "{} against {want}", loss[0]);
        assert!((f64::from(dlogits[999]) / want_dlogits[999] - 1.0).abs() < 1e-5);
    }

    #[test]
    fn hidden_and_broken_logits() {
        let mut logits = vec![f32::NEG_INFINITY; 64];
        logits[40] = -3.0e38;
        logits[41] = 1.0;
        let (loss, dlogits) = tiled(Isa::best(), &logits, &[41], (64, 16), 1.0);
        assert_eq!((loss[0], dlogits[41]), (0.0, 0.0));
        logits[3] = f32::NAN;
        assert!(tiled(Isa::best(), &logits, &[41], (64, 16), 1.0).0[0].is_nan());
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let logits = random(33 * 700, 5, 8.0);
        let targets: Vec<usize> = (0..33).map(|r| r * 21).collect();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("a pool").install(|| tiled(Isa::best(), &logits, &targets, (700, 256), 0.1))
        };
        let one = run(1);
        assert!([2, 3].into_iter().all(|threads| run(threads) == one));
    }
}
