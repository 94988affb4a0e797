//! Attention on q, k and v in bf16, whose products have operands in bf16, as gemm's have in
//! [`Precision::Bf16`](crate::gemm::Precision).
//!
//! ```text
//! s = scale · (q·k) + slope · j      out = ⌊Σ_j ⌊p⌉ · v / Σ_j p⌉      dp = ⌊dout⌉·v      δ = ⌊dout⌉·out
//! dv = Σ_i ⌊p⌉ · ⌊dout⌉      dk = scale · Σ_i ⌊ds⌉ · q      dq = scale · Σ_j ⌊ds⌉ · k
//! ```
//! ⌊x⌉ is x rounded to bf16 (nearest even); p in forward is relative to the running maximum. All sums,
//! the softmax, lse, δ and the gradients are f32. Operands are packed into words ([`Operands`]) tile by
//! tile; keys and values once for up to [`HEADS`] query heads that share them. Nothing here knows the
//! f32 path.

mod backward;
mod buffers;
mod forward;
mod operands;
#[cfg(target_arch = "x86_64")]
mod pairs;
mod rounded;
#[cfg(target_arch = "x86_64")]
mod softmax;

pub use backward::backward_bf16;
pub use forward::forward_bf16;

use super::{AttentionShape, tile::Head};
use half::bf16;
use std::ops::Range;

/// Query heads of a kv head that one task computes.
const HEADS: usize = 4;

/// Calls the body with the operands of an instruction set.
macro_rules! with_operands {
    ($isa:expr, |$ops:ident| $body:expr) => {{
        #[cfg(target_arch = "x86_64")]
        if let Some(proof) = $isa.bf16_pairs() {
            let $ops = super::pairs::Pairs::new(proof);
            return $body;
        }
        let $ops = super::rounded::Rounded::new($isa);
        $body
    }};
}
use with_operands;

/// Columns of a packed operand or a sum of `head_dim` values: whole vectors.
fn columns_of(head_dim: usize) -> usize {
    head_dim.next_multiple_of(16)
}

/// The query heads of the groups of up to [`HEADS`] that share a kv head, in order.
fn head_groups(shape: &AttentionShape) -> Vec<Range<usize>> {
    let group = shape.heads_per_kv_head();
    let of_kv_head = |kv_head: usize| {
        let end = (kv_head + 1) * group;
        (kv_head * group..end).step_by(HEADS).map(move |head| head..end.min(head + HEADS))
    };
    (0..shape.n_kv_heads).flat_map(of_kv_head).collect()
}

/// A sequence: its first row and its length.
#[derive(Clone, Copy)]
struct Sequence {
    first: usize,
    len: usize,
}

impl Sequence {
    fn all(seq_starts: &[usize]) -> Vec<Sequence> {
        let sequence = |s: &[usize]| Sequence { first: s[0], len: s[1] - s[0] };
        seq_starts.windows(2).map(sequence).collect()
    }

    /// A query head of a matrix `[N, H·D]`.
    fn query_head<'a, T>(
        &self,
        shape: &AttentionShape,
        matrix: &'a [T],
        head: usize,
    ) -> Head<'a, T> {
        Head::new(matrix, (shape.n_heads, shape.head_dim), self.first, head)
    }

    /// The head of a matrix `[N, K·D]` that query head `head` reads.
    fn kv_head<'a>(
        &self,
        shape: &AttentionShape,
        matrix: &'a [bf16],
        head: usize,
    ) -> Head<'a, bf16> {
        let kv_head = head / shape.heads_per_kv_head();
        Head::new(matrix, (shape.n_kv_heads, shape.head_dim), self.first, kv_head)
    }
}

/// `(sequence, position)` of the tiles of `step` positions.
fn tiles(sequences: &[Sequence], step: usize) -> Vec<(Sequence, usize)> {
    let tiles = |&s: &Sequence| (0..s.len).step_by(step).map(move |at| (s, at));
    sequences.iter().flat_map(tiles).collect()
}

#[cfg(test)]
mod tests;
