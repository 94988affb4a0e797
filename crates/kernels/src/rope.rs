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
use crate::value::Value;
use half::bf16;
use rayon::prelude::*;

/// By θ for activations, by −θ for their gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

impl Direction {
    fn sign(self) -> f32 {
        match self {
            Direction::Forward => 1.0,
            Direction::Backward => -1.0,
        }
    }
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

impl<'a> CosSin<'a> {
    #[inline(always)]
    fn at(self, position: u32, half: usize) -> CosSin<'a> {
        let at = position as usize * half;
        CosSin { cos: &self.cos[at..at + half], sin: &self.sin[at..at + half] }
    }
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
    check(shape, x.len(), tables, positions);
    if shape.rotary_dim == 0 || shape.heads == 0 {
        return;
    }
    let block = rows_per_block(positions.len());
    let row = shape.heads * shape.head_dim;
    x.par_chunks_mut(block * row)
        .zip(positions.par_chunks(block))
        .for_each(|(x, positions)| rotate_rows(isa, shape, x, tables, positions, direction));
}

/// Writes x rotated and rounded to y; what lies behind `rotary_dim` is rounded only. Panics as
/// [`rotate`] does.
pub fn rotate_into_bf16(
    isa: Isa,
    shape: RopeShape,
    x: &[f32],
    tables: CosSin,
    positions: &[u32],
    direction: Direction,
    y: &mut [bf16],
) {
    check(shape, x.len(), tables, positions);
    assert_eq!(x.len(), y.len(), "rotate: x and y differ in length");
    if x.is_empty() {
        return;
    }
    let block = rows_per_block(positions.len());
    let row = shape.heads * shape.head_dim;
    y.par_chunks_mut(block * row)
        .zip(x.par_chunks(block * row))
        .zip(positions.par_chunks(block))
        .for_each(|((y, x), at)| rotate_rows_into(isa, shape, x, tables, at, direction, y));
}

fn check(shape: RopeShape, len: usize, tables: CosSin, positions: &[u32]) {
    let RopeShape { heads, head_dim, rotary_dim } = shape;
    assert!(rotary_dim.is_multiple_of(2) && rotary_dim <= head_dim, "rotate: {shape:?}");
    assert_eq!(len, positions.len() * heads * head_dim, "rotate: x and positions differ in rows");
    assert_eq!(tables.cos.len(), tables.sin.len(), "rotate: cos and sin differ in length");
    if rotary_dim == 0 {
        return;
    }
    let max_positions = tables.cos.len() / (rotary_dim / 2);
    let last = positions.iter().max().map_or(0, |&p| p as usize + 1);
    assert!(last <= max_positions, "rotate: {last} positions, tables for {max_positions}");
}

shells! {
    fn rotate_rows(
        shape: RopeShape, x: &mut [f32], tables: CosSin, positions: &[u32], direction: Direction,
    ) = rotate_rows_body;
    fn rotate_rows_into(
        shape: RopeShape, x: &[f32], tables: CosSin, positions: &[u32], direction: Direction,
        y: &mut [bf16],
    ) = rotate_rows_into_body;
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
    let sign = direction.sign();
    for (row, &position) in x.chunks_exact_mut(shape.heads * shape.head_dim).zip(positions) {
        let CosSin { cos, sin } = tables.at(position, half);
        for head in row.chunks_exact_mut(shape.head_dim) {
            let (first, second) = head[..2 * half].split_at_mut(half);
            for (((a, b), &cos), &sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                (*a, *b) = turned((*a, *b), cos, sign * sin);
            }
        }
    }
}

#[inline(always)]
fn rotate_rows_into_body(
    shape: RopeShape,
    x: &[f32],
    tables: CosSin,
    positions: &[u32],
    direction: Direction,
    y: &mut [bf16],
) {
    let (row, half) = (shape.heads * shape.head_dim, shape.rotary_dim / 2);
    let sign = direction.sign();
    let rows = x.chunks_exact(row).zip(y.chunks_exact_mut(row));
    for ((x, y), &position) in rows.zip(positions) {
        let CosSin { cos, sin } = tables.at(position, half);
        let heads = x.chunks_exact(shape.head_dim).zip(y.chunks_exact_mut(shape.head_dim));
        for (x, y) in heads {
            let ((x, x_rest), (y, y_rest)) = (x.split_at(2 * half), y.split_at_mut(2 * half));
            let ((a, b), (ya, yb)) = (x.split_at(half), y.split_at_mut(half));
            let pairs = a.iter().zip(b).zip(ya.iter_mut().zip(yb));
            for ((((&a, &b), (ya, yb)), &cos), &sin) in pairs.zip(cos).zip(sin) {
                let (a, b) = turned((a, b), cos, sign * sin);
                (*ya, *yb) = (Value::round(a), Value::round(b));
            }
            for (y, &x) in y_rest.iter_mut().zip(x_rest) {
                *y = Value::round(x);
            }
        }
    }
}

#[inline(always)]
fn turned((a, b): (f32, f32), cos: f32, sin: f32) -> (f32, f32) {
    (a * cos - b * sin, b * cos + a * sin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{rounded, same_bits, values, widened};

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

    #[test]
    fn into_bf16_it_is_the_rotation_rounded() {
        for (head_dim, rotary_dim) in [(20, 14), (5, 4), (64, 64), (7, 0)] {
            let shape = RopeShape { heads: 3, head_dim, rotary_dim };
            let half = rotary_dim / 2;
            let (cos, sin) = (values(1, 11 * half), values(2, 11 * half));
            let tables = CosSin { cos: &cos, sin: &sin };
            let positions: Vec<u32> = (0..70).map(|n| n * 3 % 11).collect();
            let x = values(3, 70 * 3 * head_dim);
            for direction in [Direction::Forward, Direction::Backward] {
                let mut want = x.clone();
                rotate(Isa::best(), shape, &mut want, tables, &positions, direction);
                let got = same_bits(|isa| {
                    let mut y = vec![bf16::NAN; x.len()];
                    rotate_into_bf16(isa, shape, &x, tables, &positions, direction, &mut y);
                    widened(&y)
                });
                assert_eq!(got, widened(&rounded(&want)), "{shape:?} {direction:?}");
            }
        }
    }
}
