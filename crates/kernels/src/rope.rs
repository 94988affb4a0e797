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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{same_bits, values};

    #[test]
    fn the_same_bits_everywhere_and_the_rest_of_a_head_is_left_alone() {
        let shape = RopeShape { heads: 3, head_dim: 20, rotary_dim: 14 };
        let (rows, max_positions) = (70, 11);
        let x = values(1, rows * 60);
        let angles = values(2, max_positions * 7);
        let cos: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
        let sin: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
        let tables = CosSin { cos: &cos, sin: &sin };
        let positions: Vec<u32> = (0..rows as u32).map(|n| n % 11).collect();
        let turned = same_bits(|isa| {
            let mut x = x.clone();
            rotate(isa, shape, &mut x, tables, &positions, Direction::Forward);
            x
        });
        for (n, (got, was)) in turned.chunks(20).zip(x.chunks(20)).enumerate() {
            let at = positions[n / 3] as usize * 7;
            for i in 0..7 {
                let (cos, sin) = (cos[at + i] as f64, sin[at + i] as f64);
                let (a, b) = (was[i] as f64, was[i + 7] as f64);
                assert!((got[i] as f64 - (a * cos - b * sin)).abs() < 1e-6);
                assert!((got[i + 7] as f64 - (b * cos + a * sin)).abs() < 1e-6);
            }
            assert_eq!(got[14..], was[14..]);
        }
        let mut back = turned;
        rotate(Isa::best(), shape, &mut back, tables, &positions, Direction::Backward);
        assert!(back.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
