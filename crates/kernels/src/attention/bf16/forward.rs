//! Forward with operands in bf16: a task per tile of queries and group of heads, with a running
//! softmax over the tiles of keys.

use super::operands::{Operands, Part, Put, WordProduct, Words, dot_columns};
use super::{HEADS, Sequence, columns_of, head_groups, tiles, with_operands};
use crate::Isa;
use crate::attention::forward::{Inputs, check};
use crate::attention::scratch::{HeadCells, padded, with_scratch};
use crate::attention::tile::{Bias, Place, Running, mask, scale, scaled};
use crate::attention::{AttentionShape, KEYS, QUERIES, check_seq_starts};
use half::bf16;
use rayon::prelude::*;
use std::ops::Range;

/// Writes `out`, rounded, and, for [`super::backward_bf16`], `lse`. Panics where lengths contradict the
/// shape.
#[expect(
    clippy::too_many_arguments,
    reason = "isa and shape, four inputs, two outputs: named in the header"
)]
pub fn forward_bf16(
    isa: Isa,
    shape: &AttentionShape,
    seq_starts: &[usize],
    q: &[bf16],
    k: &[bf16],
    v: &[bf16],
    out: &mut [bf16],
    lse: &mut [f32],
) {
    let inputs = Inputs { q, k, v };
    check(shape, &inputs, out);
    check_seq_starts(seq_starts, lse.len() / shape.n_heads);
    with_operands!(isa, |ops| run(ops, shape, seq_starts, &inputs, out, lse))
}

fn run<O: Operands>(
    ops: O,
    shape: &AttentionShape,
    seq_starts: &[usize],
    inputs: &Inputs<bf16>,
    out: &mut [bf16],
    lse: &mut [f32],
) {
    let tiles = tiles(&Sequence::all(seq_starts), QUERIES);
    let groups = head_groups(shape);
    let out = HeadCells::new(out, shape.n_heads, shape.head_dim);
    let lse = HeadCells::new(lse, shape.n_heads, 1);
    (0..tiles.len() * groups.len()).into_par_iter().for_each(|task| {
        let (sequence, query) = tiles[task / groups.len()];
        let heads = groups[task % groups.len()].clone();
        Tile { ops, shape, inputs, sequence, query, heads }.run(&out, &lse);
    });
}

/// The queries from `query` on, of some heads that share a kv head.
struct Tile<'a, O> {
    ops: O,
    shape: &'a AttentionShape<'a>,
    inputs: &'a Inputs<'a, bf16>,
    sequence: Sequence,
    query: usize,
    heads: Range<usize>,
}

/// One head of a tile.
struct HeadTile<'s> {
    head: usize,
    /// q: `[D][QUERIES]` in words.
    columns: &'s mut [u32],
    /// `Σ_j p[i,j] · v[j]` so far, `[QUERIES][columns_of(D)]`.
    sums: &'s mut [f32],
    running: Running,
}

impl<O: Operands> Tile<'_, O> {
    fn run(&self, out: &HeadCells<bf16>, lse: &HeadCells) {
        let (ops, shape, d) = (self.ops, self.shape, self.shape.head_dim);
        let (query, n_queries) = (self.query, QUERIES.min(self.sequence.len - self.query));
        let k = self.sequence.kv_head(shape, self.inputs.k, self.heads.start);
        let v = self.sequence.kv_head(shape, self.inputs.v, self.heads.start);
        with_scratch(scratch_floats::<O>(d), |mut scratch| {
            let k_rows = scratch.take_words(KEYS * O::words(d));
            let v_steps = scratch.take_words(O::words(KEYS) * columns_of(d));
            let scores = scratch.take(KEYS * QUERIES);
            let p = scratch.take_words(O::words(KEYS) * QUERIES);
            let load = |head: usize| {
                let columns = scratch.take_words(O::words(d) * QUERIES);
                let q = self.sequence.query_head(shape, self.inputs.q, head).rows(query);
                ops.columns(Part { rows: q, n: n_queries, width: d }, columns);
                let sums = scratch.take(QUERIES * columns_of(d));
                sums.fill(0.0);
                HeadTile { head, columns, sums, running: Running::new() }
            };
            let mut tiles: Vec<HeadTile> = self.heads.clone().map(load).collect();
            let end = query + n_queries;
            for key in (shape.first_key(query)..end).step_by(KEYS) {
                let n_keys = KEYS.min(end - key);
                let at = Place { key, n_keys, query, n_queries };
                ops.rows(Part { rows: k.rows(key), n: n_keys, width: d }, k_rows);
                ops.steps(Part { rows: v.rows(key), n: n_keys, width: d }, v_steps);
                for tile in &mut tiles {
                    let scores = &mut scores[..n_keys * QUERIES];
                    let factor = shape.scale * O::SCORE_UNIT;
                    dot_columns(ops, (n_keys, d), (k_rows, tile.columns), factor, scores);
                    mask(shape, at, scores);
                    let slope = shape.slope(tile.head) * O::SCORE_UNIT;
                    ops.softmax(scores, Bias { slope, key }, &mut tile.running, p);
                    self.add_values(tile, at, p, v_steps);
                }
            }
            tiles.iter().for_each(|tile| self.write(tile, n_queries, out, lse));
        });
    }

    /// `sums[i] = correction[i] · sums[i] + Σ_j p[i,j] · v[j]`.
    fn add_values(&self, tile: &mut HeadTile, at: Place, p: &[u32], v_steps: &[u32]) {
        let n = columns_of(self.shape.head_dim);
        for (sums, &correction) in tile.sums.chunks_exact_mut(n).zip(&tile.running.correction) {
            if correction != 1.0 {
                scale(self.ops.isa(), sums, correction);
            }
        }
        let a = Words { data: p, row_stride: 1, col_stride: QUERIES };
        let (m, k) = (at.n_queries, O::words(at.n_keys));
        self.ops.product(WordProduct { m, n, k, a, b: v_steps, put: Put::Added }, tile.sums);
    }

    fn write(&self, tile: &HeadTile, n_queries: usize, out: &HeadCells<bf16>, lse: &HeadCells) {
        let d = self.shape.head_dim;
        for (i, sums) in tile.sums.chunks_exact(columns_of(d)).enumerate().take(n_queries) {
            let row = self.sequence.first + self.query + i;
            // SAFETY: this task alone has the queries of this tile in this head.
            let (out, lse) = unsafe { (out.cell(row, tile.head), lse.cell(row, tile.head)) };
            let sum = tile.running.sum[i];
            scaled(self.ops.isa(), &sums[..d], 1.0 / sum, out);
            lse[0] = tile.running.max[i] / O::SCORE_UNIT + sum.ln();
        }
    }
}

/// Floats of a task's scratch.
fn scratch_floats<O: Operands>(d: usize) -> usize {
    let shared = [
        KEYS * O::words(d),
        O::words(KEYS) * columns_of(d),
        KEYS * QUERIES,
        O::words(KEYS) * QUERIES,
    ];
    let of_head = [O::words(d) * QUERIES, QUERIES * columns_of(d)];
    let sum = |parts: &[usize]| -> usize { parts.iter().map(|&len| padded(len)).sum() };
    sum(&shared) + HEADS * sum(&of_head)
}
