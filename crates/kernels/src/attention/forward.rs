//! Forward of the attention: a task per tile of queries and head, with a running softmax over the
//! tiles of keys.

use super::product::{Product, Scalars, Store, product};
use super::scratch::{HeadCells, padded, with_scratch};
use super::tile::{Bias, Head, Place, Running, dot_keys, mask, scale, scaled, softmax_step};
use super::transpose::transpose;
use super::{AttentionShape, KEYS, QUERIES, check_seq_starts};
use crate::Isa;
use rayon::prelude::*;

/// Writes `out` and, for [`super::backward`], `lse`. Panics where lengths contradict the shape.
#[expect(
    clippy::too_many_arguments,
    reason = "isa and shape, four inputs, two outputs: named in the header"
)]
pub fn forward(
    isa: Isa,
    shape: &AttentionShape,
    seq_starts: &[usize],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &mut [f32],
    lse: &mut [f32],
) {
    let sequences = seq_starts.windows(2).map(|s| Span {
        first_query: s[0],
        first_key: s[0],
        n_queries: s[1] - s[0],
        n_keys: s[1] - s[0],
    });
    check_seq_starts(seq_starts, lse.len() / shape.n_heads);
    run(isa, shape, &Inputs { q, k, v }, sequences, out, Some(lse));
}

pub(super) struct Inputs<'a, T = f32> {
    pub q: &'a [T],
    pub k: &'a [T],
    pub v: &'a [T],
}

/// A sequence: rows of q and of k and v. The queries are its last positions.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub first_query: usize,
    pub first_key: usize,
    pub n_queries: usize,
    pub n_keys: usize,
}

pub(super) fn check<T>(shape: &AttentionShape, inputs: &Inputs<T>, out: &[T]) {
    shape.check();
    assert_eq!(inputs.q.len(), out.len(), "attention: q and out");
    assert_eq!(inputs.k.len(), inputs.v.len(), "attention: k and v");
}

/// All tiles of all `spans`, in parallel.
pub(super) fn run(
    isa: Isa,
    shape: &AttentionShape,
    inputs: &Inputs,
    spans: impl Iterator<Item = Span>,
    out: &mut [f32],
    lse: Option<&mut [f32]>,
) {
    check(shape, inputs, out);
    let (heads, d) = (shape.n_heads, shape.head_dim);
    let tiles: Vec<(Span, usize)> = spans
        .flat_map(|span| (0..span.n_queries).step_by(QUERIES).map(move |query| (span, query)))
        .collect();
    let out = HeadCells::new(out, heads, d);
    let lse = lse.map(|lse| HeadCells::new(lse, heads, 1));
    (0..tiles.len() * heads).into_par_iter().for_each(|task| {
        let (span, query) = tiles[task / heads];
        let tile = Tile { isa, shape, inputs, span, query, head: task % heads };
        tile.run(&out, lse.as_ref());
    });
}

/// The queries from `query` on, of one head.
struct Tile<'a> {
    isa: Isa,
    shape: &'a AttentionShape<'a>,
    inputs: &'a Inputs<'a>,
    span: Span,
    query: usize,
    head: usize,
}

impl Tile<'_> {
    fn run(&self, out: &HeadCells, lse: Option<&HeadCells>) {
        let (isa, shape, span, d) = (self.isa, self.shape, self.span, self.shape.head_dim);
        let kv_head = self.head / shape.heads_per_kv_head();
        let q = Head::new(self.inputs.q, (shape.n_heads, d), span.first_query, self.head);
        let k = Head::new(self.inputs.k, (shape.n_kv_heads, d), span.first_key, kv_head);
        let v = Head::new(self.inputs.v, (shape.n_kv_heads, d), span.first_key, kv_head);
        let n_queries = QUERIES.min(span.n_queries - self.query);
        let position = span.n_keys - span.n_queries + self.query;
        let size = padded(QUERIES * d) * 2 + padded(KEYS * QUERIES);
        with_scratch(size, |mut scratch| {
            let queries = scratch.take(QUERIES * d);
            let sums = scratch.take(QUERIES * d);
            let scores = scratch.take(KEYS * QUERIES);
            transpose(isa, q, self.query, n_queries, shape.scale, queries);
            sums.fill(0.0);
            let mut running = Running::new();
            let end = position + n_queries;
            for key in (shape.first_key(position)..end).step_by(KEYS) {
                let at = Place { key, n_keys: KEYS.min(end - key), query: position, n_queries };
                let scores = &mut scores[..at.n_keys * QUERIES];
                dot_keys(isa, k, at, queries, scores);
                mask(shape, at, scores);
                softmax_step(
                    isa,
                    scores,
                    Bias { slope: shape.slope(self.head), key },
                    &mut running,
                );
                self.add_values(v, at, scores, &running, sums);
            }
            for i in 0..n_queries {
                let row = span.first_query + self.query + i;
                // SAFETY: this task alone has the queries of this tile in this head.
                let out = unsafe { out.cell(row, self.head) };
                scaled(isa, &sums[i * d..][..d], 1.0 / running.sum[i], out);
                if let Some(lse) = lse {
                    // SAFETY: as above.
                    let lse = unsafe { lse.cell(row, self.head) };
                    lse[0] = running.max[i] + running.sum[i].ln();
                }
            }
        });
    }

    /// `sums[i] = correction[i] · sums[i] + Σ_j p[i,j] · v[j]`.
    fn add_values(&self, v: Head, at: Place, p: &[f32], running: &Running, sums: &mut [f32]) {
        let d = v.head_dim;
        for (sums, &correction) in sums.chunks_exact_mut(d).zip(&running.correction) {
            if correction != 1.0 {
                scale(self.isa, sums, correction);
            }
        }
        let a = Scalars { data: p, row_stride: 1, col_stride: QUERIES };
        let (m, n, k) = (at.n_queries, d, at.n_keys);
        product(self.isa, Product { m, n, k, a, b: v.rows(at.key), store: Store::Add }, sums);
    }
}
