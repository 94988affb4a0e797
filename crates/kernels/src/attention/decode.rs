//! Attention of new queries over the keys and values of one sequence's cache, in f32 always.

use super::forward::{Inputs, Span, run};
use super::scratch::{padded, with_scratch};
use super::tile::Head;
use super::{AttentionShape, QUERIES};
use crate::Isa;
use crate::simd::{self, shells};
use rayon::prelude::*;

/// From this many queries on, tiles are faster than single rows.
const QUERIES_MIN_FOR_TILES: usize = QUERIES / 4;

/// Writes `out [n_new, H·D]` of the queries `q [n_new, H·D]`, which are the last positions of the
/// sequence whose `T` keys and values `k_cache`, `v_cache [T, K·D]` hold. Panics where lengths
/// contradict the shape.
pub fn decode(
    isa: Isa,
    shape: &AttentionShape,
    q: &[f32],
    k_cache: &[f32],
    v_cache: &[f32],
    out: &mut [f32],
) {
    shape.check();
    let (heads, d) = (shape.n_heads, shape.head_dim);
    let (n_new, len) = (q.len() / (heads * d), k_cache.len() / (shape.n_kv_heads * d));
    assert!(n_new <= len, "attention: more new queries than keys");
    assert_eq!(q.len(), out.len(), "attention: q and out");
    assert_eq!(k_cache.len(), v_cache.len(), "attention: k and v");
    if n_new >= QUERIES_MIN_FOR_TILES {
        let span = Span { first_query: 0, first_key: 0, n_queries: n_new, n_keys: len };
        let inputs = Inputs { q, k: k_cache, v: v_cache };
        return run(isa, shape, &inputs, std::iter::once(span), out, None);
    }
    out.par_chunks_mut(d).zip(q.par_chunks(d)).enumerate().for_each(|(task, (out, q))| {
        let (position, head) = (len - n_new + task / heads, task % heads);
        let kv_head = head / shape.heads_per_kv_head();
        let first = shape.first_key(position);
        let row = DecodeRow {
            q,
            k: Head::new(k_cache, (shape.n_kv_heads, d), first, kv_head),
            v: Head::new(v_cache, (shape.n_kv_heads, d), first, kv_head),
            scale: shape.scale,
            slope: shape.slope(head),
            first,
        };
        let n_keys = position + 1 - first;
        with_scratch(padded(n_keys), |mut scratch| {
            decode_row(isa, row, scratch.take(n_keys), out);
        });
    });
}

/// One query of one head, and the keys that it sees.
struct DecodeRow<'a> {
    q: &'a [f32],
    k: Head<'a>,
    v: Head<'a>,
    scale: f32,
    slope: f32,
    /// Position of the first key.
    first: usize,
}

shells! {
    fn decode_row(x: DecodeRow, scores: &mut [f32], out: &mut [f32]) = decode_row_body;
}

#[inline(always)]
fn decode_row_body(x: DecodeRow, scores: &mut [f32], out: &mut [f32]) {
    for (j, score) in scores.iter_mut().enumerate() {
        *score = x.scale * simd::dot(x.q, x.k.row(j)) + x.slope * (x.first + j) as f32;
    }
    let max = simd::max(scores);
    scores.iter_mut().for_each(|score| *score = simd::exp(*score - max));
    let factor = 1.0 / simd::sum(scores);
    out.fill(0.0);
    for (j, &p) in scores.iter().enumerate() {
        let p = p * factor;
        out.iter_mut().zip(x.v.row(j)).for_each(|(out, &v)| *out += p * v);
    }
}
