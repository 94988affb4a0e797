//! Words of one f32 that holds a bf16, and f32 arithmetic: for sets without products of bf16.

use super::operands::{Operands, Part, Put, ScoreWords, WordProduct};
use crate::Isa;
use crate::attention::QUERIES;
use crate::attention::product::{Product, Rows, Scalars, Store, product};
use crate::attention::scratch::{as_floats, as_floats_mut};
use crate::attention::tile::{Bias, Head, Running, probabilities, scale, softmax_step};
use crate::attention::transpose::transpose;
use crate::elementwise::f32_to_bf16_block;
use crate::simd::shells;
use crate::value::{Value, round_bits};
use half::bf16;

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

    fn round(self, x: &[f32], y: &mut [bf16]) {
        f32_to_bf16_block(self.0, x, y);
    }

    fn rows(self, x: Part, words: &mut [u32]) {
        widen_rows(self.0, x, x.width, words);
    }

    fn steps(self, x: Part, words: &mut [u32]) {
        widen_rows(self.0, x, x.width.next_multiple_of(16), words);
    }

    fn columns(self, x: Part, words: &mut [u32]) {
        let head = Head { data: x.rows.data, stride: x.rows.stride, head_dim: x.width };
        transpose(self.0, head, 0, x.n, 1.0, as_floats_mut(&mut words[..x.width * QUERIES]));
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
        round_tile(self.0, scores, p);
    }

    fn probabilities(
        self,
        (scores, dp): (&mut [f32], &mut [f32]),
        bias: Bias,
        (lse, delta): (&[f32; QUERIES], &[f32; QUERIES]),
        words: ScoreWords,
    ) {
        probabilities(self.0, scores, dp, bias, lse, delta);
        round_tile(self.0, scores, words.p_rows);
        round_tile(self.0, dp, words.ds_rows);
        round_tile(self.0, dp, words.ds_steps);
    }
}

shells! {
    /// Each row of `x`, then zeros up to `width`.
    fn widen_rows(x: Part, width: usize, words: &mut [u32]) = widen_rows_body;
    /// A tile of scores, rounded: its rows and its steps are the same words.
    fn round_tile(scores: &[f32], words: &mut [u32]) = round_tile_body;
}

#[inline(always)]
fn widen_rows_body(x: Part, width: usize, words: &mut [u32]) {
    for (r, words) in words.chunks_exact_mut(width).take(x.n).enumerate() {
        let (words, padding) = words.split_at_mut(x.width);
        for (word, value) in words.iter_mut().zip(x.row(r)) {
            *word = value.widen().to_bits();
        }
        padding.fill(0);
    }
}

#[inline(always)]
fn round_tile_body(scores: &[f32], words: &mut [u32]) {
    for (word, &score) in words.iter_mut().zip(scores) {
        *word = round_bits(score.to_bits());
    }
}
