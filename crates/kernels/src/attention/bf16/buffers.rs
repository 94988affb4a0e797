//! The memory of backward's tasks in bf16: how much it is, and the tiles that it is divided into.
//! Computes nothing.

use super::operands::{Operands, ScoreWords};
use super::{HEADS, columns_of};
use crate::attention::scratch::{Scratch, padded};
use crate::attention::{KEYS, QUERIES};
use half::bf16;

/// Floats of [`Buffers`] and of a [`Dkv`] of `rows` keys.
pub(super) fn scratch_of<O: Operands>(d: usize, rows: usize) -> usize {
    let n = columns_of(d);
    let keys = 2 * padded(KEYS * O::words(d)) + padded(O::words(KEYS) * n);
    let work = 2 * padded(KEYS * QUERIES)
        + 2 * padded(KEYS * O::words(QUERIES))
        + padded(O::words(KEYS) * QUERIES);
    let head =
        2 * padded(O::words(d) * QUERIES) + 2 * padded(O::words(QUERIES) * n) + padded(QUERIES * n);
    let dout = padded((QUERIES * d).div_ceil(2));
    2 * padded(rows * n) + keys + work + dout + HEADS * head
}

/// The keys and values of a tile, in words.
pub(super) struct KeyTile<'s> {
    /// k and v `[KEYS][D]`.
    pub k_rows: &'s mut [u32],
    pub v_rows: &'s mut [u32],
    /// k along the keys, `[KEYS][columns_of(D)]`.
    pub k_steps: &'s mut [u32],
}

impl<'s> KeyTile<'s> {
    fn new<O: Operands>(scratch: &mut Scratch<'s>, d: usize) -> KeyTile<'s> {
        KeyTile {
            k_rows: scratch.take_words(KEYS * O::words(d)),
            v_rows: scratch.take_words(KEYS * O::words(d)),
            k_steps: scratch.take_words(O::words(KEYS) * columns_of(d)),
        }
    }
}

/// The queries of a tile of one head, in words.
pub(super) struct QueryTile<'s> {
    pub head: usize,
    /// q and dout `[D][QUERIES]`.
    pub q_columns: &'s mut [u32],
    pub dout_columns: &'s mut [u32],
    /// q and dout along the queries, `[QUERIES][columns_of(D)]`.
    pub q_steps: &'s mut [u32],
    pub dout_steps: &'s mut [u32],
    /// `[QUERIES][columns_of(D)]`; scale is left to the end.
    pub dq: &'s mut [f32],
    pub lse: [f32; QUERIES],
    pub delta: [f32; QUERIES],
}

impl<'s> QueryTile<'s> {
    fn new<O: Operands>(scratch: &mut Scratch<'s>, d: usize) -> QueryTile<'s> {
        QueryTile {
            head: 0,
            q_columns: scratch.take_words(O::words(d) * QUERIES),
            dout_columns: scratch.take_words(O::words(d) * QUERIES),
            q_steps: scratch.take_words(O::words(QUERIES) * columns_of(d)),
            dout_steps: scratch.take_words(O::words(QUERIES) * columns_of(d)),
            dq: scratch.take(QUERIES * columns_of(d)),
            lse: [0.0; QUERIES],
            delta: [0.0; QUERIES],
        }
    }
}

/// A tile of scores.
pub(super) struct Scores<'s> {
    /// `[KEYS][QUERIES]`.
    pub scores: &'s mut [f32],
    pub dp: &'s mut [f32],
    pub words: ScoreWords<'s>,
}

impl<'s> Scores<'s> {
    fn new<O: Operands>(scratch: &mut Scratch<'s>) -> Scores<'s> {
        Scores {
            scores: scratch.take(KEYS * QUERIES),
            dp: scratch.take(KEYS * QUERIES),
            words: ScoreWords {
                p_rows: scratch.take_words(KEYS * O::words(QUERIES)),
                ds_rows: scratch.take_words(KEYS * O::words(QUERIES)),
                ds_steps: scratch.take_words(O::words(KEYS) * QUERIES),
            },
        }
    }
}

/// All that a task computes in.
pub(super) struct Buffers<'s> {
    pub keys: KeyTile<'s>,
    pub scores: Scores<'s>,
    pub tiles: [QueryTile<'s>; HEADS],
    /// The gradient of a tile, rounded: `[QUERIES][D]`.
    pub dout: &'s mut [bf16],
}

impl<'s> Buffers<'s> {
    pub(super) fn new<O: Operands>(scratch: &mut Scratch<'s>, d: usize) -> Buffers<'s> {
        Buffers {
            keys: KeyTile::new::<O>(scratch, d),
            scores: Scores::new::<O>(scratch),
            tiles: std::array::from_fn(|_| QueryTile::new::<O>(scratch, d)),
            dout: scratch.take_bf16(QUERIES * d),
        }
    }
}

/// Gradients of some keys and their values, `[keys][columns_of(D)]`; scale is left to the end.
pub(super) struct Dkv<'s> {
    pub dk: &'s mut [f32],
    pub dv: &'s mut [f32],
}

impl<'s> Dkv<'s> {
    /// Of `rows` keys, all zero.
    pub(super) fn new(scratch: &mut Scratch<'s>, rows: usize, d: usize) -> Dkv<'s> {
        let (dk, dv) = (scratch.take(rows * columns_of(d)), scratch.take(rows * columns_of(d)));
        dk.fill(0.0);
        dv.fill(0.0);
        Dkv { dk, dv }
    }
}
