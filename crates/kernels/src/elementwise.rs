//! Element by element: sums and scales in place, sums of squares and of columns, the first value that
//! is not finite, and the conversions from and to bf16.
//!
//! Shapes: x, y any, of one length · dy `[N, O]` · db `[O]`.

use crate::Isa;
use crate::blocks::ELEMENTS;
use crate::simd::shells;
use crate::value::Value;
use half::bf16;
use rayon::prelude::*;

/// `y += x`.
pub fn add_assign(isa: Isa, y: &mut [f32], x: &[f32]) {
    assert_eq!(x.len(), y.len(), "add_assign: x and y differ in length");
    y.par_chunks_mut(ELEMENTS).zip(x.par_chunks(ELEMENTS)).for_each(|(y, x)| add_block(isa, y, x));
}

/// `y += a·x`, the product rounded before it is added.
pub fn axpy(isa: Isa, a: f32, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "axpy: x and y differ in length");
    y.par_chunks_mut(ELEMENTS)
        .zip(x.par_chunks(ELEMENTS))
        .for_each(|(y, x)| axpy_block(isa, a, x, y));
}

/// `y = a·y`.
pub fn scale(isa: Isa, y: &mut [f32], a: f32) {
    y.par_chunks_mut(ELEMENTS).for_each(|y| scale_block(isa, y, a));
}

/// `Σ x²` in f64.
pub fn sum_sq(isa: Isa, x: &[f32]) -> f64 {
    let blocks: Vec<f64> = x.par_chunks(ELEMENTS).map(|x| sum_sq_block(isa, x)).collect();
    blocks.iter().sum()
}

/// Columns of a block of [`column_sum_add`]: their sums, 2 KiB, lie in a first-level cache.
const COLUMNS: usize = 256;

/// `db[o] += Σ_n dy[n, o]`: the gradient of a bias. Summed in f64, in the order of the rows: N is long,
/// and the bias is one number for all of it.
pub fn column_sum_add<X: Value>(isa: Isa, dy: &[X], db: &mut [f32]) {
    let cols = db.len();
    if cols == 0 {
        return;
    }
    assert!(dy.len().is_multiple_of(cols), "column_sum_add: dy has no whole number of rows");
    let blocks = db.par_chunks_mut(COLUMNS).enumerate();
    blocks.for_each(|(i, db)| column_sum_block(isa, dy, cols, i * COLUMNS, db));
}

/// Where the first NaN or infinity is.
pub fn first_non_finite(isa: Isa, x: &[f32]) -> Option<usize> {
    x.par_chunks(ELEMENTS).enumerate().find_map_first(|(i, x)| {
        if all_finite(isa, x) {
            return None;
        }
        x.iter().position(|x| !x.is_finite()).map(|at| i * ELEMENTS + at)
    })
}

/// `y = x`, exactly.
pub fn bf16_to_f32(isa: Isa, x: &[bf16], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "bf16_to_f32: x and y differ in length");
    y.par_chunks_mut(ELEMENTS)
        .zip(x.par_chunks(ELEMENTS))
        .for_each(|(y, x)| bf16_to_f32_block(isa, x, y));
}

/// `y = x` rounded to the nearest, ties to even; a NaN stays one.
pub fn f32_to_bf16(isa: Isa, x: &[f32], y: &mut [bf16]) {
    assert_eq!(x.len(), y.len(), "f32_to_bf16: x and y differ in length");
    y.par_chunks_mut(ELEMENTS)
        .zip(x.par_chunks(ELEMENTS))
        .for_each(|(y, x)| f32_to_bf16_block(isa, x, y));
}

shells! {
    fn add_block(y: &mut [f32], x: &[f32]) = add_body;
    fn axpy_block(a: f32, x: &[f32], y: &mut [f32]) = axpy_body;
    fn scale_block(y: &mut [f32], a: f32) = scale_body;
    fn sum_sq_block(x: &[f32]) -> f64 = sum_sq_body;
    fn column_sum_block<X: Value>(dy: &[X], cols: usize, first: usize, db: &mut [f32]) = column_sum_body;
    fn all_finite(x: &[f32]) -> bool = all_finite_body;
    fn bf16_to_f32_block(x: &[bf16], y: &mut [f32]) = bf16_to_f32_body;
    pub(crate) fn f32_to_bf16_block(x: &[f32], y: &mut [bf16]) = f32_to_bf16_body;
}

#[inline(always)]
fn add_body(y: &mut [f32], x: &[f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

#[inline(always)]
fn axpy_body(a: f32, x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

#[inline(always)]
fn scale_body(y: &mut [f32], a: f32) {
    for y in y {
        *y *= a;
    }
}

#[inline(always)]
fn sum_sq_body(x: &[f32]) -> f64 {
    const LANES: usize = 16;
    let mut lanes = [0.0f64; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += x as f64 * x as f64;
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += x as f64 * x as f64;
    }
    lanes.iter().sum()
}

/// The columns from `first` on, of `cols`.
#[inline(always)]
fn column_sum_body<X: Value>(dy: &[X], cols: usize, first: usize, db: &mut [f32]) {
    let mut sums = [0.0f64; COLUMNS];
    let sums = &mut sums[..db.len()];
    for row in dy.chunks_exact(cols) {
        for (sum, &x) in sums.iter_mut().zip(&row[first..first + db.len()]) {
            *sum += f64::from(x.widen());
        }
    }
    for (db, &mut sum) in db.iter_mut().zip(sums) {
        *db = (f64::from(*db) + sum) as f32;
    }
}

/// Without a way out of the loop, so that it is vectorised.
#[inline(always)]
fn all_finite_body(x: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    let mut finite = true;
    for x in x {
        finite &= x.to_bits() & EXPONENT != EXPONENT;
    }
    finite
}

#[inline(always)]
fn bf16_to_f32_body(x: &[bf16], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = x.widen();
    }
}

#[inline(always)]
fn f32_to_bf16_body(x: &[f32], y: &mut [bf16]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = Value::round(x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{rounded, same_bits, values, widened};

    #[test]
    fn the_same_bits_on_every_set_and_for_any_number_of_threads() {
        for n in [0, 1, 31, 3 * ELEMENTS + 7] {
            let (x, y) = (values(1, n), values(2, n));
            let got = same_bits(|isa| {
                let mut y = y.clone();
                add_assign(isa, &mut y, &x);
                axpy(isa, 0.3, &x, &mut y);
                scale(isa, &mut y, 1.7);
                y
            });
            let want = y.iter().zip(&x).map(|(y, x)| (y + x + 0.3 * x) * 1.7);
            assert!(got.iter().zip(want).all(|(got, want)| got.to_bits() == want.to_bits()));
            let sums = same_bits(|isa| vec![sum_sq(isa, &x) as f32]);
            let want: f64 = x.iter().map(|&x| x as f64 * x as f64).sum();
            assert!((sum_sq(Isa::best(), &x) - want).abs() <= 1e-12 * want);
            assert_eq!(sums, [want as f32]);
        }
    }

    #[test]
    fn column_sums_are_those_of_f64_rounded_once() {
        for (rows, cols) in [(0, 3), (1, 1), (15, 40), (2000, 21), (7, 2 * COLUMNS + 5)] {
            let dy = values(1, rows * cols);
            let half = rounded(&dy);
            for (dy, in_bf16) in [(dy, false), (widened(&half), true)] {
                let got = same_bits(|isa| {
                    let mut db = vec![1.0; cols];
                    match in_bf16 {
                        true => column_sum_add(isa, &half, &mut db),
                        false => column_sum_add(isa, &dy, &mut db),
                    }
                    db
                });
                let sum =
                    |col| dy.iter().skip(col).step_by(cols).map(|&x| f64::from(x)).sum::<f64>();
                let want: Vec<f32> = (0..cols).map(|col| (1.0 + sum(col)) as f32).collect();
                assert_eq!(got, want, "{rows}×{cols}, bf16: {in_bf16}");
            }
        }
    }

    #[test]
    fn the_first_value_that_is_not_finite_is_found_on_every_set() {
        for isa in Isa::available() {
            let mut x = values(1, 3 * ELEMENTS);
            assert_eq!(first_non_finite(isa, &x), None);
            x[2 * ELEMENTS + 5] = f32::NAN;
            assert_eq!(first_non_finite(isa, &x), Some(2 * ELEMENTS + 5));
            x[ELEMENTS + 1] = f32::NEG_INFINITY;
            assert_eq!(first_non_finite(isa, &x), Some(ELEMENTS + 1));
        }
    }

    #[test]
    fn bf16_rounds_as_the_half_crate_does() {
        let mut x = values(1, 1000);
        let odd = [
            0.0,
            -0.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            f32::MAX,
            1e-45,
            f32::MIN_POSITIVE,
        ];
        x.extend(odd);
        x.extend([0x3f80_8000, 0x3f81_8000, 0x3f80_8001, 0x7f80_0001].map(f32::from_bits)); // ties, NaN
        for isa in Isa::available() {
            let mut rounded = vec![bf16::ZERO; x.len()];
            f32_to_bf16(isa, &x, &mut rounded);
            let mut back = vec![0.0; x.len()];
            bf16_to_f32(isa, &rounded, &mut back);
            for ((x, rounded), back) in x.iter().zip(&rounded).zip(back) {
                assert_eq!(
                    rounded.to_bits(),
                    bf16::from_f32(*x).to_bits(),
                    "{x} on {}",
                    isa.name()
                );
                assert_eq!(back.to_bits(), rounded.to_f32().to_bits());
            }
        }
    }
}
