//! Int8: 8-bit codes of values, and the largest magnitude of each row.
//!
//! ```text
//! value[i] = (code[i] · absmax[i / cols]) · (1 / 127)         both products are rounded
//! ```
//! Codes lie row-major, one row as long as another. Nothing here knows of layers or files.
//!
//! Source: the weights of LLM.int8 (Dettmers et al., 2022); layout and order of roundings are those of
//! bitsandbytes on the CPU (`int8_vectorwise_quant`, `int8_vectorwise_dequant`). Its CUDA kernel differs
//! where `127 / absmax` and `(1 / absmax) · 127` round to two sides of a tie.

mod quantize;
#[cfg(test)]
mod tests;

pub use quantize::quantize;

use crate::Isa;
use crate::blocks::ELEMENTS;
use crate::simd::shells;
use rayon::prelude::*;
use std::ops::Range;

/// The magnitude of the code of a row's largest value.
const CODE_MAX: f32 = 127.0;
/// What a code times its maximum is multiplied by.
pub(crate) const RECIPROCAL: f32 = 1.0 / CODE_MAX;

/// Rows of codes with their maxima, where they lie. All lengths fit each other: `new` has checked them.
#[derive(Clone, Copy, Debug)]
pub struct Int8Rows<'a> {
    codes: &'a [i8],
    absmax: &'a [f32],
    cols: Divisor,
    /// Where a slice begins among all values.
    first: usize,
    len: usize,
}

impl<'a> Int8Rows<'a> {
    /// Shapes: codes `[rows, cols]` · absmax `[rows]`.
    ///
    /// # Panics
    /// If the lengths do not fit each other, or rows are empty.
    pub fn new(codes: &'a [i8], absmax: &'a [f32], cols: usize) -> Int8Rows<'a> {
        assert!(cols > 0, "int8: rows of no values");
        assert_eq!(Some(codes.len()), absmax.len().checked_mul(cols), "int8: codes of the rows");
        Int8Rows { codes, absmax, cols: Divisor::new(cols), first: 0, len: codes.len() }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The values of a range; they need not begin with a row.
    ///
    /// # Panics
    /// If the range reaches outside.
    pub fn slice(self, range: Range<usize>) -> Int8Rows<'a> {
        let inside = range.start <= range.end && range.end <= self.len;
        assert!(inside, "int8: {range:?} of {}", self.len);
        Int8Rows { first: self.first + range.start, len: range.len(), ..self }
    }

    /// The address of the first value's code: only to fetch from, not to read.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn first_byte(&self) -> *const u8 {
        self.codes.as_ptr().wrapping_add(self.first).cast()
    }

    /// The codes of `len` elements from `start` on and their maximum, where they lie in one row: as all runs of
    /// a matrix do that is packed whole.
    #[inline(always)]
    pub(crate) fn run(&self, start: usize, len: usize) -> Option<(&'a [i8], f32)> {
        assert!(start + len <= self.len);
        if len == 0 {
            return Some((&[], 0.0)); // perhaps behind the last row
        }
        let at = self.first + start;
        let (row, inside) = self.cols.divide(at);
        let fits = inside + len <= self.cols.divisor;
        fits.then(|| (&self.codes[at..at + len], self.absmax[row]))
    }

    /// The `out.len()` values from `start` on, each as `to` makes it, in whatever rows they lie.
    #[inline(always)]
    pub(crate) fn read<T>(&self, start: usize, out: &mut [T], to: impl Fn(f32) -> T) {
        match self.run(start, out.len()) {
            Some((codes, absmax)) => read_run(codes, absmax, out, to),
            None => self.read_rows(start, out, to),
        }
    }

    #[cold]
    #[inline(never)]
    fn read_rows<T>(&self, start: usize, out: &mut [T], to: impl Fn(f32) -> T) {
        let mut at = self.first + start;
        let (row, inside) = self.cols.divide(at);
        let cols = self.cols.divisor;
        let (head, rest) = out.split_at_mut(cols - inside);
        let runs = std::iter::once(head).chain(rest.chunks_mut(cols));
        for (run, &absmax) in runs.zip(&self.absmax[row..]) {
            let codes = &self.codes[at..at + run.len()];
            at += run.len();
            read_run(codes, absmax, run, &to);
        }
    }
}

/// Values of one row.
#[inline(always)]
pub(crate) fn read_run<T>(codes: &[i8], absmax: f32, out: &mut [T], to: impl Fn(f32) -> T) {
    for (out, &code) in out.iter_mut().zip(codes) {
        *out = to(f32::from(code) * absmax * RECIPROCAL);
    }
}

/// A divisor, and what a division by it can be multiplied by: a division takes as long as the values of
/// a panel's step.
#[derive(Clone, Copy, Debug)]
struct Divisor {
    divisor: usize,
    /// `2⁶⁴ / divisor`, rounded up.
    inverse: u64,
}

impl Divisor {
    fn new(divisor: usize) -> Divisor {
        // 2⁶⁴ itself, for 1, wraps to 0: `divide` takes that as a sign.
        let inverse = (u64::MAX / divisor as u64).wrapping_add(1);
        Divisor { divisor, inverse }
    }

    /// Quotient and remainder.
    #[inline(always)]
    fn divide(self, at: usize) -> (usize, usize) {
        // Exact where both numbers have 32 bits (Lemire, Kaser, Kurz, 2019).
        let small = (at | self.divisor) >> 32 == 0 && self.inverse != 0;
        let quotient = match small {
            true => ((u128::from(self.inverse) * at as u128) >> 64) as usize,
            false => at / self.divisor,
        };
        (quotient, at - quotient * self.divisor)
    }
}

/// `out[i] = value[i]`, on all threads.
///
/// # Panics
/// If the lengths differ.
pub fn unpack(isa: Isa, x: Int8Rows, out: &mut [f32]) {
    assert_eq!(out.len(), x.len(), "int8: unpacking {} values", x.len());
    out.par_chunks_mut(ELEMENTS).enumerate().for_each(|(chunk, out)| {
        unpack_chunk(isa, x, chunk * ELEMENTS, out);
    });
}

shells! {
    fn unpack_chunk(x: Int8Rows, start: usize, out: &mut [f32]) = unpack_body;
}

#[inline(always)]
fn unpack_body(x: Int8Rows, start: usize, out: &mut [f32]) {
    x.read(start, out, |value| value);
}
