//! Operands as words: how an instruction set packs them and multiplies them.
//!
//! A word holds one value or two neighbours along the sum. Three ways of packing serve all products:
//! along the columns of a matrix, along its rows, and along its columns with the rows side by side.

use crate::Isa;
use crate::attention::QUERIES;
use crate::attention::product::Rows;
use crate::attention::tile::{Bias, Running};
use half::bf16;

/// A part of a matrix: `n` rows of `width` values.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub rows: Rows<'a, bf16>,
    pub n: usize,
    pub width: usize,
}

impl<'a> Part<'a> {
    pub(super) fn row(&self, row: usize) -> &'a [bf16] {
        &self.rows.data[row * self.rows.stride..][..self.width]
    }
}

/// Word `(r, p)` is `data[r·row_stride + p·col_stride]`.
#[derive(Clone, Copy)]
pub(super) struct Words<'a> {
    pub data: &'a [u32],
    pub row_stride: usize,
    pub col_stride: usize,
}

/// What becomes of a product.
#[derive(Clone, Copy)]
pub(super) enum Put {
    /// `c = factor · a·b`
    Scaled(f32),
    /// `c += a·b`
    Added,
}

/// `c[m, n]` of words `a[m, k] · b[k, n]`; rows of `b` and `c` lie one after another.
#[derive(Clone, Copy)]
pub(super) struct WordProduct<'a> {
    pub m: usize,
    /// A multiple of 16.
    pub n: usize,
    /// In words.
    pub k: usize,
    pub a: Words<'a>,
    pub b: &'a [u32],
    pub put: Put,
}

impl WordProduct<'_> {
    /// Panics where a part is too short.
    pub(super) fn check(&self, c: &[f32]) {
        let &WordProduct { m, n, k, a, b, .. } = self;
        assert!(n.is_multiple_of(16) && m > 0 && k > 0, "attention: a product of whole vectors");
        let a_last = (m - 1) * a.row_stride + (k - 1) * a.col_stride;
        assert!(a.data.len() > a_last, "attention: a is too short");
        assert!(b.len() >= k * n && c.len() >= m * n, "attention: b or c is too short");
    }
}

/// What a tile of scores becomes in backward.
pub(super) struct ScoreWords<'s> {
    /// p and ds along the queries, `[KEYS][QUERIES]`.
    pub p_rows: &'s mut [u32],
    pub ds_rows: &'s mut [u32],
    /// ds along the keys, `[KEYS][QUERIES]`.
    pub ds_steps: &'s mut [u32],
}

impl ScoreWords<'_> {
    /// The same words, for a call.
    pub(super) fn lent(&mut self) -> ScoreWords<'_> {
        ScoreWords {
            p_rows: &mut *self.p_rows,
            ds_rows: &mut *self.ds_rows,
            ds_steps: &mut *self.ds_steps,
        }
    }
}

/// An instruction set's words and arithmetic.
pub(super) trait Operands: Copy + Send + Sync {
    /// Values in one word.
    const PER_WORD: usize;
    /// Scores, their bias and the running maximum are multiplied by it: log₂ e where `exp` is `2^x`.
    const SCORE_UNIT: f32;

    fn isa(self) -> Isa;

    /// `y = ⌊x⌉`, of one length.
    fn round(self, x: &[f32], y: &mut [bf16]);

    /// `words[r][w]` = values of row `r` from column `w · PER_WORD` on; 0 past `width`.
    fn rows(self, x: Part, words: &mut [u32]);

    /// `words[w][c]` = values of column `c` from row `w · PER_WORD` on; 0 past `n`, and in columns
    /// from `width` to the next multiple of 16.
    fn steps(self, x: Part, words: &mut [u32]);

    /// `words[w][r]` = values of row `r` from column `w · PER_WORD` on, [`QUERIES`] rows; 0 past `n`
    /// and `width`.
    fn columns(self, x: Part, words: &mut [u32]);

    /// Each element of `c` is summed in the order of `k`.
    fn product(self, x: WordProduct, c: &mut [f32]);

    /// Turns scores `[n][QUERIES]` into the words of `exp(score − max)`, as [`Operands::steps`] packs
    /// them, and moves `running` on. The scores may hold anything then.
    fn softmax(self, scores: &mut [f32], bias: Bias, running: &mut Running, p: &mut [u32]);

    /// Turns scores and `dp` `[n][QUERIES]` into the words of `p = exp(score − lse)` and
    /// `ds = p · (dp − δ)`; `lse` is not in [`Operands::SCORE_UNIT`]s. Scores and dp may hold
    /// anything then.
    fn probabilities(
        self,
        scores_and_dp: (&mut [f32], &mut [f32]),
        bias: Bias,
        lse_and_delta: (&[f32; QUERIES], &[f32; QUERIES]),
        words: ScoreWords,
    );

    /// Words of `len` values along the sum.
    fn words(len: usize) -> usize {
        len.div_ceil(Self::PER_WORD)
    }
}

/// The scores' and the gradients' side of a tile: `c[j][i] = factor · rows[j]·columns[i]`.
pub(super) fn dot_columns<O: Operands>(
    ops: O,
    (n_keys, head_dim): (usize, usize),
    (rows, columns): (&[u32], &[u32]),
    factor: f32,
    c: &mut [f32],
) {
    let k = O::words(head_dim);
    let a = Words { data: rows, row_stride: k, col_stride: 1 };
    let put = Put::Scaled(factor);
    ops.product(WordProduct { m: n_keys, n: QUERIES, k, a, b: columns, put }, c);
}
