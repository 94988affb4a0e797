//! Backward of the attention: probabilities again from `lse`, tile by tile.
//!
//! Where the sequences and kv heads are many, a task has one of each and makes dq, dk and dv in one
//! pass over its tiles (five products). Where they are few (one long sequence), tasks are tiles of
//! queries for dq, then tiles of keys for dk and dv: seven products, but any number of threads has
//! work. Which way is taken depends on the shapes alone.

use super::product::{Product, Scalars, Store, product};
use super::scratch::{HeadCells, Scratch, padded, with_scratch};
use super::tile::{Bias, Head, Place, dot, dot_keys, mask, probabilities, scaled};
use super::transpose::transpose;
use super::{AttentionShape, KEYS, QUERIES, check_seq_starts};
use crate::Isa;
use rayon::prelude::*;

/// Fewer whole tasks of the largest one's cost than this, and tiles become the tasks.
pub(super) const TASKS_MIN: usize = 4;

/// What [`backward`] writes, each in the shape of its input.
pub struct Gradients<'a> {
    pub dq: &'a mut [f32],
    pub dk: &'a mut [f32],
    pub dv: &'a mut [f32],
}

/// Inputs and outputs of forward and the gradient that comes in.
#[derive(Clone, Copy)]
pub(super) struct Saved<'a, T = f32> {
    pub q: &'a [T],
    pub k: &'a [T],
    pub v: &'a [T],
    pub out: &'a [T],
    pub lse: &'a [f32],
    pub dout: &'a [f32],
}

/// Overwrites dq, dk and dv. Panics where lengths contradict the shape.
#[expect(clippy::too_many_arguments, reason = "isa and shape, six inputs: named in the header")]
pub fn backward(
    isa: Isa,
    shape: &AttentionShape,
    seq_starts: &[usize],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &[f32],
    lse: &[f32],
    dout: &[f32],
    grads: Gradients,
) {
    let saved = Saved { q, k, v, out, lse, dout };
    let cells = Cells::new(shape, seq_starts, &saved, grads);
    let sequences: Vec<Sequence> = (seq_starts.windows(2))
        .map(|s| Sequence { isa, shape, saved, first: s[0], len: s[1] - s[0] })
        .collect();
    let kv_heads = shape.n_kv_heads;
    if whole_tasks(shape, seq_starts) >= TASKS_MIN {
        return (0..sequences.len() * kv_heads).into_par_iter().for_each(|task| {
            sequences[task / kv_heads].whole(task % kv_heads, &cells);
        });
    }
    let tiles = |step: usize| {
        let tiles = |s: usize| (0..sequences[s].len).step_by(step).map(move |at| (s, at));
        (0..sequences.len()).flat_map(tiles).collect::<Vec<(usize, usize)>>()
    };
    let query_tiles = tiles(QUERIES);
    (0..query_tiles.len() * shape.n_heads).into_par_iter().for_each(|task| {
        let (s, query) = query_tiles[task / shape.n_heads];
        sequences[s].query_tile(query, task % shape.n_heads, &cells.dq);
    });
    let key_tiles = tiles(KEYS);
    (0..key_tiles.len() * kv_heads).into_par_iter().for_each(|task| {
        let (s, key) = key_tiles[task / kv_heads];
        sequences[s].key_tile(key, task % kv_heads, &cells);
    });
}

/// How many of the largest task's cost all (sequence, kv head) tasks amount to.
pub(super) fn whole_tasks(shape: &AttentionShape, seq_starts: &[usize]) -> usize {
    let costs = seq_starts.windows(2).map(|s| {
        let len = (s[1] - s[0]) as u128;
        len * len.min(shape.sliding_window.unwrap_or(usize::MAX) as u128)
    });
    let (sum, max) = costs.fold((0, 0), |(sum, max), cost| (sum + cost, cost.max(max)));
    (sum * shape.n_kv_heads as u128 / max.max(1)) as usize
}

/// Floats of a [`QueryTile`] with its gradient of q.
fn tile_floats(head_dim: usize) -> usize {
    3 * padded(QUERIES * head_dim) + 2 * padded(KEYS * QUERIES)
}

pub(super) struct Cells<'a> {
    pub dq: HeadCells<'a>,
    pub dk: HeadCells<'a>,
    pub dv: HeadCells<'a>,
}

impl<'a> Cells<'a> {
    /// Panics where lengths contradict the shape.
    pub(super) fn new<T>(
        shape: &AttentionShape,
        seq_starts: &[usize],
        saved: &Saved<T>,
        grads: Gradients<'a>,
    ) -> Cells<'a> {
        shape.check();
        check_seq_starts(seq_starts, saved.lse.len() / shape.n_heads);
        let Gradients { dq, dk, dv } = grads;
        let wide = [saved.q.len(), saved.out.len(), saved.dout.len()];
        assert!(wide.iter().all(|&len| len == dq.len()), "attention: q, out, dout");
        let narrow = [saved.k.len(), saved.v.len(), dv.len()];
        assert!(narrow.iter().all(|&len| len == dk.len()), "attention: k, v, dk, dv");
        Cells {
            dq: HeadCells::new(dq, shape.n_heads, shape.head_dim),
            dk: HeadCells::new(dk, shape.n_kv_heads, shape.head_dim),
            dv: HeadCells::new(dv, shape.n_kv_heads, shape.head_dim),
        }
    }
}

/// One sequence; rows below count from its `first`.
#[derive(Clone, Copy)]
struct Sequence<'a> {
    isa: Isa,
    shape: &'a AttentionShape<'a>,
    saved: Saved<'a>,
    first: usize,
    len: usize,
}

impl<'a> Sequence<'a> {
    /// dq, dk and dv of one kv head and its query heads.
    fn whole(&self, kv_head: usize, cells: &Cells) {
        let d = self.shape.head_dim;
        let size = 2 * padded(self.len * d) + tile_floats(d);
        with_scratch(size, |mut scratch| {
            let dk = scratch.take(self.len * d);
            let dv = scratch.take(self.len * d);
            dk.fill(0.0);
            dv.fill(0.0);
            let mut buffers = Buffers::new(&mut scratch, d);
            let dq = scratch.take(QUERIES * d);
            for query in (0..self.len).step_by(QUERIES) {
                for head in self.heads_of(kv_head) {
                    let mut tile = self.load(&mut buffers, query, head);
                    dq.fill(0.0);
                    let end = query + tile.n_queries;
                    for key in (self.shape.first_key(query)..end).step_by(KEYS) {
                        let at = tile.compute(key, KEYS.min(end - key));
                        tile.add_dkv(at, &mut dk[key * d..], &mut dv[key * d..]);
                        tile.add_dq(at, dq);
                    }
                    self.write(
                        &cells.dq,
                        (query, head),
                        self.shape.scale,
                        &dq[..tile.n_queries * d],
                    );
                }
            }
            self.write(&cells.dk, (0, kv_head), self.shape.scale, dk);
            self.write(&cells.dv, (0, kv_head), 1.0, dv);
        });
    }

    /// dq of a tile of queries of one head.
    fn query_tile(&self, query: usize, head: usize, cells: &HeadCells) {
        let d = self.shape.head_dim;
        with_scratch(tile_floats(d), |mut scratch| {
            let mut buffers = Buffers::new(&mut scratch, d);
            let dq = scratch.take(QUERIES * d);
            let mut tile = self.load(&mut buffers, query, head);
            dq.fill(0.0);
            let end = query + tile.n_queries;
            for key in (self.shape.first_key(query)..end).step_by(KEYS) {
                let at = tile.compute(key, KEYS.min(end - key));
                tile.add_dq(at, dq);
            }
            self.write(cells, (query, head), self.shape.scale, &dq[..tile.n_queries * d]);
        });
    }

    /// dk and dv of a tile of keys of one kv head.
    fn key_tile(&self, key: usize, kv_head: usize, cells: &Cells) {
        let d = self.shape.head_dim;
        let n_keys = KEYS.min(self.len - key);
        with_scratch(2 * padded(KEYS * d) + tile_floats(d), |mut scratch| {
            let dk = scratch.take(n_keys * d);
            let dv = scratch.take(n_keys * d);
            dk.fill(0.0);
            dv.fill(0.0);
            let mut buffers = Buffers::new(&mut scratch, d);
            let query_end = self.shape.query_end(key + n_keys - 1, self.len);
            for query in (key / QUERIES * QUERIES..query_end).step_by(QUERIES) {
                for head in self.heads_of(kv_head) {
                    let mut tile = self.load(&mut buffers, query, head);
                    // On the diagonal the last keys may lie behind all queries of the tile.
                    let at = tile.compute(key, n_keys.min(query + tile.n_queries - key));
                    tile.add_dkv(at, dk, dv);
                }
            }
            self.write(&cells.dk, (key, kv_head), self.shape.scale, dk);
            self.write(&cells.dv, (key, kv_head), 1.0, dv);
        });
    }

    fn heads_of(&self, kv_head: usize) -> std::ops::Range<usize> {
        let group = self.shape.heads_per_kv_head();
        kv_head * group..(kv_head + 1) * group
    }

    fn query_head(&self, matrix: &'a [f32], head: usize) -> Head<'a> {
        Head::new(matrix, (self.shape.n_heads, self.shape.head_dim), self.first, head)
    }

    fn kv_head(&self, matrix: &'a [f32], head: usize) -> Head<'a> {
        let kv_head = head / self.shape.heads_per_kv_head();
        Head::new(matrix, (self.shape.n_kv_heads, self.shape.head_dim), self.first, kv_head)
    }

    /// `cells = factor · rows` from row `place.0` on, in head `place.1`, which the calling task owns.
    fn write(&self, cells: &HeadCells, place: (usize, usize), factor: f32, rows: &[f32]) {
        for (i, row) in rows.chunks_exact(self.shape.head_dim).enumerate() {
            // SAFETY: a task writes the rows and the head that it was given, and no two tasks of
            // one pass were given the same ones.
            let cell = unsafe { cells.cell(self.first + place.0 + i, place.1) };
            scaled(self.isa, row, factor, cell);
        }
    }

    /// Reads the queries from `query` on into `buffers`.
    fn load<'b>(&self, buffers: &'b mut Buffers, query: usize, head: usize) -> QueryTile<'b>
    where
        'a: 'b,
    {
        let Saved { q, k, v, out, lse, dout } = self.saved;
        let (q, dout) = (self.query_head(q, head), self.query_head(dout, head));
        let n_queries = QUERIES.min(self.len - query);
        transpose(self.isa, q, query, n_queries, self.shape.scale, buffers.queries);
        transpose(self.isa, dout, query, n_queries, 1.0, buffers.douts);
        // Columns without a query get probability exp(−∞) = 0.
        let (mut tile_lse, mut delta) = ([f32::INFINITY; QUERIES], [0.0; QUERIES]);
        let out = self.query_head(out, head);
        for i in 0..n_queries {
            tile_lse[i] = lse[(self.first + query + i) * self.shape.n_heads + head];
            delta[i] = dot(self.isa, dout.row(query + i), out.row(query + i));
        }
        QueryTile {
            isa: self.isa,
            shape: self.shape,
            q,
            dout,
            k: self.kv_head(k, head),
            v: self.kv_head(v, head),
            lse: tile_lse,
            delta,
            slope: self.shape.slope(head),
            query,
            n_queries,
            queries: buffers.queries,
            douts: buffers.douts,
            p: buffers.p,
            ds: buffers.ds,
        }
    }
}

/// Memory of a [`QueryTile`].
struct Buffers<'a> {
    queries: &'a mut [f32],
    douts: &'a mut [f32],
    p: &'a mut [f32],
    ds: &'a mut [f32],
}

impl<'a> Buffers<'a> {
    fn new(scratch: &mut Scratch<'a>, d: usize) -> Buffers<'a> {
        Buffers {
            queries: scratch.take(QUERIES * d),
            douts: scratch.take(QUERIES * d),
            p: scratch.take(KEYS * QUERIES),
            ds: scratch.take(KEYS * QUERIES),
        }
    }
}

/// The queries from `query` on of one head, and the keys and values that they read.
struct QueryTile<'a> {
    isa: Isa,
    shape: &'a AttentionShape<'a>,
    q: Head<'a>,
    dout: Head<'a>,
    k: Head<'a>,
    v: Head<'a>,
    lse: [f32; QUERIES],
    delta: [f32; QUERIES],
    slope: f32,
    query: usize,
    n_queries: usize,
    /// `scale · q` and dout, transposed: `[D][QUERIES]`.
    queries: &'a mut [f32],
    douts: &'a mut [f32],
    /// `[KEYS][QUERIES]`.
    p: &'a mut [f32],
    ds: &'a mut [f32],
}

impl QueryTile<'_> {
    /// Fills `p` and `ds` for the keys from `key` on.
    fn compute(&mut self, key: usize, n_keys: usize) -> Place {
        let at = Place { key, n_keys, query: self.query, n_queries: self.n_queries };
        let (p, ds) = (&mut self.p[..n_keys * QUERIES], &mut self.ds[..n_keys * QUERIES]);
        dot_keys(self.isa, self.k, at, self.queries, p);
        mask(self.shape, at, p);
        dot_keys(self.isa, self.v, at, self.douts, ds);
        probabilities(self.isa, p, ds, Bias { slope: self.slope, key }, &self.lse, &self.delta);
        at
    }

    /// `dv[j] += Σ_i p[i,j] · dout[i]`, `dk[j] += Σ_i ds[i,j] · q[i]`; scale is left to the end.
    fn add_dkv(&self, at: Place, dk: &mut [f32], dv: &mut [f32]) {
        let (m, n, k) = (at.n_keys, self.q.head_dim, at.n_queries);
        for (a, x, sums) in [(&*self.p, self.dout, dv), (&*self.ds, self.q, dk)] {
            let a = Scalars { data: a, row_stride: QUERIES, col_stride: 1 };
            let b = x.rows(at.query);
            product(self.isa, Product { m, n, k, a, b, store: Store::Add }, sums);
        }
    }

    /// `dq[i] += Σ_j ds[i,j] · k[j]`; scale is left to the end.
    fn add_dq(&self, at: Place, dq: &mut [f32]) {
        let (m, n, k) = (at.n_queries, self.q.head_dim, at.n_keys);
        let a = Scalars { data: self.ds, row_stride: 1, col_stride: QUERIES };
        let b = self.k.rows(at.key);
        product(self.isa, Product { m, n, k, a, b, store: Store::Add }, dq);
    }
}
