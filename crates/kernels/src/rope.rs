//! Rotary position embedding: the first `rotary_dim` values of each head, halves rotated (NeoX style).
//!
//! ```text
//! a, b = the first and second half          a' = a·cos − b·sin        b' = b·cos + a·sin
//! ```
//! The gradient is the rotation by −θ: the same with −sin.
//! Shapes: x `[N, heads·D]` · cos, sin `[max_positions, rotary_dim/2]` · positions `[N]`.

use crate::Isa;
use crate::blocks::rows_per_block;
use crate::simd::shells;
use rayon::prelude::*;

/// By θ for activations, by −θ for their gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

/// How a row of x lies.
#[derive(Clone, Copy, Debug)]
pub struct RopeShape {
    pub heads: usize,
    pub head_dim: usize,
    /// Even, at most `head_dim`; what lies behind it in a head stays as it is.
    pub rotary_dim: usize,
}

/// Cosine and sine of every position, `[max_positions, rotary_dim/2]`.
#[derive(Clone, Copy)]
pub struct CosSin<'a> {
    pub cos: &'a [f32],
    pub sin: &'a [f32],
}

/// Rotates x in place. Panics if a position lies behind the tables.
pub fn rotate(
    isa: Isa,
    shape: RopeShape,
    x: &mut [f32],
    tables: CosSin,
    positions: &[u32],
    direction: Direction,
) {
    let RopeShape { heads, head_dim, rotary_dim } = shape;
    assert!(rotary_dim.is_multiple_of(2) && rotary_dim <= head_dim, "rotate: {shape:?}");
    assert_eq!(
        x.len(),
        positions.len() * heads * head_dim,
        "rotate: x and positions differ in rows"
    );
    assert_eq!(tables.cos.len(), tables.sin.len(), "rotate: cos and sin differ in length");
    if rotary_dim == 0 || heads == 0 {
        return;
    }
    let max_positions = tables.cos.len() / (rotary_dim / 2);
    let last = positions.iter().max().map_or(0, |&p| p as usize + 1);
    assert!(last <= max_positions, "rotate: {last} positions, tables for {max_positions}");
    let block = rows_per_block(positions.len());
    x.par_chunks_mut(block * heads * head_dim)
        .zip(positions.par_chunks(block))
        .for_each(|(x, positions)| rotate_rows(isa, shape, x, tables, positions, direction));
}

shells! {
    fn rotate_rows(
        shape: RopeShape, x: &mut [f32], tables: CosSin, positions: &[u32], direction: Direction,
    ) = rotate_rows_body;
}

#[inline(always)]
fn rotate_rows_body(
    shape: RopeShape,
    x: &mut [f32],
    tables: CosSin,
    positions: &[u32],
    direction: Direction,
) {
    let half = shape.rotary_dim / 2;
    let sign = match direction {
        Direction::Forward => 1.0,
        Direction::Backward => -1.0,
    };
    for (row, &position) in x.chunks_exact_mut(shape.heads * shape.head_dim).zip(positions) {
        let at = position as usize * half;
        let (cos, sin) = (&tables.cos[at..at + half], &tables.sin[at..at + half]);
        for head in row.chunks_exact_mut(shape.head_dim) {
            let (first, second) = head[..2 * half].split_at_mut(half);
            for (((a, b), &cos), &sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                let sin = sign * sin;
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }
}
