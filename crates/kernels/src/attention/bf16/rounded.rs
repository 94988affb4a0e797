//! Words of one f32 that was rounded to bf16, and f32 arithmetic: for sets without products of bf16.

use super::operands::{Operands, Part, Put, ScoreWords, WordProduct};
use crate::Isa;
use crate::attention::QUERIES;
use crate::attention::product::{Product, Rows, Scalars, Store, product};
use crate::attention::scratch::{as_floats, as_floats_mut};
use crate::attention::tile::{Bias, Head, Running, probabilities, scale, softmax_step};
use crate::attention::transpose::transpose;
use crate::gemm::round;
use crate::simd::shells;

#[derive(Clone, Copy)]
pub(super) struct Rounded(Isa);

impl Rounded {
    pub(super) fn new(isa: Isa) -> Rounded {
        Rounded(isa)
    }
}

impl Operands for Rounded {
    const PER_WORD: usize = 1;
    const SCORE_UNIT: f32 = 1.0;

    fn isa(self) -> Isa {
        self.0
    }

    fn rows(self, x: Part, words: &mut [u32]) {
        round_rows(self.0, x, x.width, words);
    }

    fn steps(self, x: Part, words: &mut [u32]) {
        round_rows(self.0, x, x.width.next_multiple_of(16), words);
    }

    fn columns(self, x: Part, words: &mut [u32]) {
        let head = Head { data: x.rows.data, stride: x.rows.stride, head_dim: x.width };
        let words = &mut words[..x.width * QUERIES];
        transpose(self.0, head, 0, x.n, 1.0, as_floats_mut(words));
        round_words(self.0, words);
    }

    fn product(self, x: WordProduct, c: &mut [f32]) {
        x.check(c);
        let a = Scalars {
            data: as_floats(x.a.data),
            row_stride: x.a.row_stride,
            col_stride: x.a.col_stride,
        };
        let b = Rows { data: as_floats(x.b), stride: x.n };
        let store = match x.put {
            Put::Scaled(_) => Store::Overwrite,
            Put::Added => Store::Add,
        };
        product(self.0, Product { m: x.m, n: x.n, k: x.k, a, b, store }, c);
        if let Put::Scaled(factor) = x.put
            && factor != 1.0
        {
            scale(self.0, &mut c[..x.m * x.n], factor);
        }
    }

    fn softmax(self, scores: &mut [f32], bias: Bias, running: &mut Running, p: &mut [u32]) {
        softmax_step(self.0, scores, bias, running);
        self.steps(tile(scores), p);
    }

    fn probabilities(
        self,
        (scores, dp): (&mut [f32], &mut [f32]),
        bias: Bias,
        (lse, delta): (&[f32; QUERIES], &[f32; QUERIES]),
        words: ScoreWords,
    ) {
        probabilities(self.0, scores, dp, bias, lse, delta);
        self.rows(tile(scores), words.p_rows);
        self.rows(tile(dp), words.ds_rows);
        self.steps(tile(dp), words.ds_steps);
    }
}

/// A tile of scores, to be packed.
fn tile(scores: &[f32]) -> Part<'_> {
    let rows = Rows { data: scores, stride: QUERIES };
    Part { rows, n: scores.len() / QUERIES, width: QUERIES }
}

shells! {
    /// Each row of `x` rounded, then zeros up to `width`.
    fn round_rows(x: Part, width: usize, words: &mut [u32]) = round_rows_body;
    fn round_words(words: &mut [u32]) = round_words_body;
}

#[inline(always)]
fn round_rows_body(x: Part, width: usize, words: &mut [u32]) {
    for (r, words) in words.chunks_exact_mut(width).take(x.n).enumerate() {
        let (words, padding) = words.split_at_mut(x.width);
        for (word, value) in words.iter_mut().zip(x.row(r)) {
            *word = round(value.to_bits());
        }
        padding.fill(0);
    }
}

#[inline(always)]
fn round_words_body(words: &mut [u32]) {
    for word in words {
        *word = round(*word);
    }
}
