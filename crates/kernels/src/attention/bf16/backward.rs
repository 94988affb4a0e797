//! Backward with operands in bf16: probabilities again from `lse`, tile by tile.
//!
//! Tasks are cut as in f32: one pass of five products where sequences and kv heads are many, seven
//! products in tiles of queries and then of keys where they are few.

use super::buffers::{Buffers, Dkv, KeyTile, QueryTile, Scores, scratch_of};
use super::operands::{Operands, Part, Put, WordProduct, Words, dot_columns};
use super::{Sequence, columns_of, head_groups, tiles, with_operands};
use crate::Isa;
use crate::attention::backward::{Cells, Gradients, Saved, TASKS_MIN, whole_tasks};
use crate::attention::product::Rows;
use crate::attention::scratch::{HeadCells, with_scratch};
use crate::attention::tile::{Bias, Place, mask, scaled};
use crate::attention::{AttentionShape, KEYS, QUERIES};
use crate::simd::{self, shells};
use crate::value::Value;
use half::bf16;
use rayon::prelude::*;
use std::ops::Range;

/// Overwrites dq, dk and dv. Panics where lengths contradict the shape.
#[expect(clippy::too_many_arguments, reason = "isa and shape, six inputs: named in the header")]
pub fn backward_bf16(
    isa: Isa,
    shape: &AttentionShape,
    seq_starts: &[usize],
    q: &[bf16],
    k: &[bf16],
    v: &[bf16],
    out: &[bf16],
    lse: &[f32],
    dout: &[f32],
    grads: Gradients,
) {
    let saved = Saved { q, k, v, out, lse, dout };
    let cells = Cells::new(shape, seq_starts, &saved, grads);
    with_operands!(isa, |ops| run(ops, shape, seq_starts, saved, &cells))
}

fn run<O: Operands>(
    ops: O,
    shape: &AttentionShape,
    seq_starts: &[usize],
    saved: Saved<bf16>,
    cells: &Cells,
) {
    let sequences = Sequence::all(seq_starts);
    let delta = deltas(ops, shape, saved);
    let delta = &delta;
    let task = |sequence| Task { ops, shape, saved, delta, sequence };
    let kv_heads = shape.n_kv_heads;
    if whole_tasks(shape, seq_starts) >= TASKS_MIN {
        return (0..sequences.len() * kv_heads).into_par_iter().for_each(|at| {
            task(sequences[at / kv_heads]).whole(at % kv_heads, cells);
        });
    }
    let (query_tiles, groups) = (tiles(&sequences, QUERIES), head_groups(shape));
    (0..query_tiles.len() * groups.len()).into_par_iter().for_each(|at| {
        let (sequence, query) = query_tiles[at / groups.len()];
        task(sequence).query_tile(query, &groups[at % groups.len()], &cells.dq);
    });
    let key_tiles = tiles(&sequences, KEYS);
    (0..key_tiles.len() * kv_heads).into_par_iter().for_each(|at| {
        let (sequence, key) = key_tiles[at / kv_heads];
        task(sequence).key_tile(key, at % kv_heads, cells);
    });
}

/// δ `[N, H]`, of the rounded dout: then the ds of a query add up to 0 but for the rounding of p.
fn deltas<O: Operands>(ops: O, shape: &AttentionShape, saved: Saved<bf16>) -> Vec<f32> {
    let mut delta = vec![0.0; saved.lse.len()];
    let d = shape.head_dim;
    let rows = saved.dout.par_chunks(d).zip(saved.out.par_chunks(d)).with_min_len(QUERIES);
    rows.zip(&mut delta)
        .for_each(|((dout, out), delta)| *delta = dot_rounded(ops.isa(), dout, out));
    delta
}

shells! {
    /// `Σ ⌊x⌉·y`.
    fn dot_rounded(x: &[f32], y: &[bf16]) -> f32 = dot_rounded_body;
}

#[inline(always)]
fn dot_rounded_body(x: &[f32], y: &[bf16]) -> f32 {
    simd::sum_map2(x, y, |x, y| bf16::round(x).widen() * y.widen())
}

/// One sequence; rows below count from its first.
#[derive(Clone, Copy)]
struct Task<'a, O> {
    ops: O,
    shape: &'a AttentionShape<'a>,
    saved: Saved<'a, bf16>,
    delta: &'a [f32],
    sequence: Sequence,
}

impl<O: Operands> Task<'_, O> {
    /// dq, dk and dv of one kv head and its query heads.
    fn whole(&self, kv_head: usize, cells: &Cells) {
        let (d, len) = (self.shape.head_dim, self.sequence.len);
        with_scratch(scratch_of::<O>(d, len), |mut scratch| {
            let mut dkv = Dkv::new(&mut scratch, len, d);
            let mut buffers = Buffers::new::<O>(&mut scratch, d);
            let groups = head_groups(self.shape);
            let groups = groups.iter().filter(|heads| self.kv_head_of(heads.start) == kv_head);
            let groups: Vec<&Range<usize>> = groups.collect();
            for query in (0..len).step_by(QUERIES) {
                for &heads in &groups {
                    self.queries(&mut buffers, (query, heads), &cells.dq, Some(&mut dkv));
                }
            }
            self.write_dkv(cells, (0, kv_head), &dkv);
        });
    }

    /// dq of a tile of queries of some heads that share a kv head.
    fn query_tile(&self, query: usize, heads: &Range<usize>, dq: &HeadCells) {
        let d = self.shape.head_dim;
        with_scratch(scratch_of::<O>(d, 0), |mut scratch| {
            let mut buffers = Buffers::new::<O>(&mut scratch, d);
            self.queries(&mut buffers, (query, heads), dq, None);
        });
    }

    /// The same; adds to the gradients of all their keys where these are wanted.
    fn queries(
        &self,
        buffers: &mut Buffers,
        (query, heads): (usize, &Range<usize>),
        dq: &HeadCells,
        mut dkv: Option<&mut Dkv>,
    ) {
        let Buffers { keys, scores, tiles, dout } = buffers;
        let tiles = &mut tiles[..heads.len()];
        for (tile, head) in tiles.iter_mut().zip(heads.clone()) {
            self.load(tile, head, query, dout);
            tile.dq.fill(0.0);
        }
        let (kv_head, end) = (self.kv_head_of(heads.start), self.sequence.len.min(query + QUERIES));
        let n = columns_of(self.shape.head_dim);
        for key in (self.shape.first_key(query)..end).step_by(KEYS) {
            let at = self.place(query, key, KEYS.min(end - key));
            self.load_keys(keys, kv_head, at);
            self.load_key_steps(keys, kv_head, at);
            for tile in &mut *tiles {
                self.compute(tile, keys, at, scores);
                if let Some(Dkv { dk, dv }) = &mut dkv {
                    self.add_dkv(tile, at, scores, &mut dk[key * n..], &mut dv[key * n..]);
                }
                self.add_dq(tile, keys, at, scores);
            }
        }
        for tile in &*tiles {
            let dq_rows = &tile.dq[..(end - query) * n];
            self.write(dq, (query, tile.head), self.shape.scale, dq_rows);
        }
    }

    /// dk and dv of a tile of keys of one kv head.
    fn key_tile(&self, key: usize, kv_head: usize, cells: &Cells) {
        let d = self.shape.head_dim;
        let n_keys = KEYS.min(self.sequence.len - key);
        with_scratch(scratch_of::<O>(d, KEYS), |mut scratch| {
            let dkv = Dkv::new(&mut scratch, n_keys, d);
            let Buffers { mut keys, mut scores, tiles: [mut tile, ..], dout } =
                Buffers::new::<O>(&mut scratch, d);
            self.load_keys(&mut keys, kv_head, self.place(key, key, n_keys));
            let group = self.shape.heads_per_kv_head();
            let query_end = self.shape.query_end(key + n_keys - 1, self.sequence.len);
            for query in (key / QUERIES * QUERIES..query_end).step_by(QUERIES) {
                let end = self.sequence.len.min(query + QUERIES);
                // On the diagonal the last keys may lie behind all queries of the tile.
                let at = self.place(query, key, n_keys.min(end - key));
                for head in kv_head * group..(kv_head + 1) * group {
                    self.load(&mut tile, head, query, dout);
                    self.compute(&tile, &keys, at, &mut scores);
                    self.add_dkv(&tile, at, &scores, dkv.dk, dkv.dv);
                }
            }
            self.write_dkv(cells, (key, kv_head), &dkv);
        });
    }

    fn kv_head_of(&self, head: usize) -> usize {
        head / self.shape.heads_per_kv_head()
    }

    fn place(&self, query: usize, key: usize, n_keys: usize) -> Place {
        Place { key, n_keys, query, n_queries: QUERIES.min(self.sequence.len - query) }
    }

    /// Uses `dout [QUERIES][D]` for the rounded gradient.
    fn load(&self, tile: &mut QueryTile, head: usize, query: usize, dout: &mut [bf16]) {
        let (n, d) = (QUERIES.min(self.sequence.len - query), self.shape.head_dim);
        let exact = self.sequence.query_head(self.shape, self.saved.dout, head);
        for (i, row) in dout.chunks_exact_mut(d).enumerate().take(n) {
            self.ops.round(exact.row(query + i), row);
        }
        let dout = Part { rows: Rows { data: dout, stride: d }, n, width: d };
        let rows = self.sequence.query_head(self.shape, self.saved.q, head).rows(query);
        let q = Part { rows, n, width: d };
        self.ops.columns(q, tile.q_columns);
        self.ops.columns(dout, tile.dout_columns);
        self.ops.steps(q, tile.q_steps);
        self.ops.steps(dout, tile.dout_steps);
        tile.head = head;
        // Columns without a query get probability exp(−∞) = 0.
        tile.lse.fill(f32::INFINITY);
        tile.delta.fill(0.0);
        for i in 0..n {
            let at = (self.sequence.first + query + i) * self.shape.n_heads + head;
            tile.lse[i] = self.saved.lse[at];
            tile.delta[i] = self.delta[at];
        }
    }

    fn load_keys(&self, keys: &mut KeyTile, kv_head: usize, at: Place) {
        self.ops.rows(self.key_part(self.saved.k, kv_head, at), keys.k_rows);
        self.ops.rows(self.key_part(self.saved.v, kv_head, at), keys.v_rows);
    }

    fn load_key_steps(&self, keys: &mut KeyTile, kv_head: usize, at: Place) {
        self.ops.steps(self.key_part(self.saved.k, kv_head, at), keys.k_steps);
    }

    fn key_part<'m>(&self, matrix: &'m [bf16], kv_head: usize, at: Place) -> Part<'m> {
        let head = kv_head * self.shape.heads_per_kv_head();
        let rows = self.sequence.kv_head(self.shape, matrix, head).rows(at.key);
        Part { rows, n: at.n_keys, width: self.shape.head_dim }
    }

    /// Fills the words of p and ds.
    fn compute(&self, tile: &QueryTile, keys: &KeyTile, at: Place, x: &mut Scores) {
        let (ops, shape) = (self.ops, self.shape);
        let (size, floats) = ((at.n_keys, shape.head_dim), at.n_keys * QUERIES);
        let (scores, dp) = (&mut x.scores[..floats], &mut x.dp[..floats]);
        let factor = shape.scale * O::SCORE_UNIT;
        dot_columns(ops, size, (keys.k_rows, tile.q_columns), factor, scores);
        mask(shape, at, scores);
        dot_columns(ops, size, (keys.v_rows, tile.dout_columns), 1.0, dp);
        let bias = Bias { slope: shape.slope(tile.head) * O::SCORE_UNIT, key: at.key };
        ops.probabilities((scores, dp), bias, (&tile.lse, &tile.delta), x.words.lent());
    }

    /// `dv[j] += Σ_i p[i,j] · dout[i]`, `dk[j] += Σ_i ds[i,j] · q[i]`; scale is left to the end.
    fn add_dkv(&self, tile: &QueryTile, at: Place, x: &Scores, dk: &mut [f32], dv: &mut [f32]) {
        let (n, k) = (columns_of(self.shape.head_dim), O::words(at.n_queries));
        let row_stride = O::words(QUERIES);
        let add = |data: &[u32], b: &[u32], sums: &mut [f32]| {
            let a = Words { data, row_stride, col_stride: 1 };
            self.ops.product(WordProduct { m: at.n_keys, n, k, a, b, put: Put::Added }, sums);
        };
        add(x.words.p_rows, tile.dout_steps, dv);
        add(x.words.ds_rows, tile.q_steps, dk);
    }

    /// `dq[i] += Σ_j ds[i,j] · k[j]`; scale is left to the end.
    fn add_dq(&self, tile: &mut QueryTile, keys: &KeyTile, at: Place, x: &Scores) {
        let a = Words { data: x.words.ds_steps, row_stride: 1, col_stride: QUERIES };
        let (m, n, k) = (at.n_queries, columns_of(self.shape.head_dim), O::words(at.n_keys));
        let product = WordProduct { m, n, k, a, b: keys.k_steps, put: Put::Added };
        self.ops.product(product, tile.dq);
    }

    fn write_dkv(&self, cells: &Cells, place: (usize, usize), dkv: &Dkv) {
        self.write(&cells.dk, place, self.shape.scale, dkv.dk);
        self.write(&cells.dv, place, 1.0, dkv.dv);
    }

    /// `cells = factor · rows` from row `place.0` on, in head `place.1`, which the calling task owns.
    fn write(&self, cells: &HeadCells, place: (usize, usize), factor: f32, rows: &[f32]) {
        let d = self.shape.head_dim;
        for (i, row) in rows.chunks_exact(columns_of(d)).enumerate() {
            // SAFETY: a task writes the rows and the heads that it was given, and no two tasks of
            // one pass were given the same ones.
            let cell = unsafe { cells.cell(self.sequence.first + place.0 + i, place.1) };
            scaled(self.ops.isa(), &row[..d], factor, cell);
        }
    }
}
