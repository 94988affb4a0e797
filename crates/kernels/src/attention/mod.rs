//! Causal attention with grouped-query heads, ragged sequences, ALiBi and a sliding window.
//!
//! ```text
//! s[i,j] = scale · q[i]·k[j] + slope · j        for j ≤ i, i − j < window, in one sequence
//! p      = softmax_j(s),  lse[i] = log Σ_j exp(s[i,j])
//! out[i] = Σ_j p[i,j] · v[j]
//! δ[i]   = dout[i]·out[i],  ds[i,j] = p[i,j] · (dout[i]·v[j] − δ[i])
//! dq[i]  = scale · Σ_j ds[i,j] · k[j],  dk[j] = scale · Σ_i ds[i,j] · q[i],  dv[j] = Σ_i p[i,j] · dout[i]
//! ```
//! `i` and `j` are positions inside a sequence. Query head `h` reads key head `h / (H/K)`.
//!
//! Shapes: q, out, dout, dq `[N, H·D]` · k, v, dk, dv `[N, K·D]` · lse `[N, H]`, where N tokens ·
//! H query heads · K kv heads · D head_dim. All sums and scores are f32. [`forward_bf16`] and
//! [`backward_bf16`] read q, k, v and out in bf16, and the operands of their seven products are bf16, see
//! [`bf16`].
//!
//! Never holds scores of a whole sequence: both passes work on tiles of [`QUERIES`] × [`KEYS`], and
//! backward computes the probabilities again from `lse` (Dao, FlashAttention-2, 2023). Scores lie
//! transposed, `[key][query]`, so that the softmax runs down the vectors without sums across lanes
//! and in f32 no key or value is ever packed.

mod backward;
mod bf16;
mod decode;
mod forward;
mod lanes;
mod product;
mod scratch;
mod tile;
mod transpose;

pub use backward::{Gradients, backward};
pub use bf16::{backward_bf16, forward_bf16};
pub use decode::decode;
pub use forward::forward;

/// Queries of a tile: two AVX-512 registers.
pub const QUERIES: usize = 32;
/// Keys of a tile.
pub const KEYS: usize = 64;

/// The heads of an attention and how its scores are made.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape<'a> {
    pub n_heads: usize,
    /// `n_heads` is a multiple of it.
    pub n_kv_heads: usize,
    pub head_dim: usize,
    pub scale: f32,
    /// One slope per query head: `slope · key position` is added to the scores.
    pub alibi_slopes: Option<&'a [f32]>,
    /// Key `j` is seen by query `i` if `i − j` is below it; at least 1.
    pub sliding_window: Option<usize>,
}

impl AttentionShape<'_> {
    /// Panics where the parts of the shape contradict each other: that is the caller's mistake.
    fn check(&self) {
        assert!(self.head_dim > 0 && self.n_kv_heads > 0, "attention: no heads");
        assert_eq!(self.n_heads % self.n_kv_heads, 0, "attention: heads per kv head");
        assert!(
            self.alibi_slopes.is_none_or(|slopes| slopes.len() == self.n_heads),
            "attention: one slope per head"
        );
        assert!(self.sliding_window.is_none_or(|window| window > 0), "attention: window of 0");
    }

    fn heads_per_kv_head(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }

    fn slope(&self, head: usize) -> f32 {
        self.alibi_slopes.map_or(0.0, |slopes| slopes[head])
    }

    /// The first key that the query at `position` sees.
    fn first_key(&self, position: usize) -> usize {
        self.sliding_window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// One after the last query that sees the key at `position`, in a sequence of `len`.
    fn query_end(&self, position: usize, len: usize) -> usize {
        self.sliding_window.map_or(len, |window| len.min(position.saturating_add(window)))
    }
}

/// Panics unless `seq_starts` rises from 0 to the number of tokens.
fn check_seq_starts(seq_starts: &[usize], n_tokens: usize) {
    assert!(seq_starts.first() == Some(&0), "attention: the first sequence starts at 0");
    assert!(seq_starts.last() == Some(&n_tokens), "attention: the last sequence ends at N");
    assert!(seq_starts.is_sorted(), "attention: sequences in order");
}

#[cfg(test)]
mod tests;
