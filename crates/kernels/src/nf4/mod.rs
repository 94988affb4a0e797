//! NF4: 4-bit codes of blocks of values, and 8-bit codes of the blocks' maxima (double quantisation).
//!
//! ```text
//! value[i]  = CODE[code[i]] · absmax[i / block_size]
//! absmax[b] = DYNAMIC_CODE[q[b]] · absmax2[b / 256] + offset      where it is quantised too
//! ```
//! Blocks run over the flattened, row-major matrix, whatever its rows. Two codes share a byte, the
//! first in the high nibble. Nothing here knows of matrices, files or models.
//!
//! Source: QLoRA (Dettmers et al., 2023); the layout and the order of roundings are those of
//! bitsandbytes.

mod quantize;
mod tables;
#[cfg(test)]
mod tests;

pub use crate::dynamic::SIGNED as DYNAMIC_CODE;
pub use quantize::{BLOCK_SIZE_MAX, quantize, quantize_scales};
pub use tables::CODE;

use crate::Isa;
use crate::blocks::ELEMENTS;
use crate::simd::shells;
use rayon::prelude::*;
use std::ops::Range;

/// Maxima that share one absmax2.
pub const NESTED_BLOCK_SIZE: usize = 256;

/// Values in 4 bits, where they lie. All lengths fit each other: `new` has checked them.
#[derive(Clone, Copy, Debug)]
pub struct Nf4Blocks<'a> {
    codes: &'a [u8],
    scales: Scales<'a>,
    block_size: usize,
    /// Where a slice begins among all values.
    first: usize,
    len: usize,
}

/// The maximum of each block, as it is or in 8 bits.
#[derive(Clone, Copy, Debug)]
pub enum Scales<'a> {
    Plain(&'a [f32]),
    Nested { codes: &'a [u8], absmax2: &'a [f32], offset: f32 },
}

impl Scales<'_> {
    /// The number of blocks.
    pub fn len(&self) -> usize {
        match self {
            Scales::Plain(absmax) => absmax.len(),
            Scales::Nested { codes, .. } => codes.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The maximum of a block. Product and sum are rounded one after the other.
    #[inline(always)]
    fn absmax(&self, block: usize) -> f32 {
        match self {
            Scales::Plain(absmax) => absmax[block],
            Scales::Nested { codes, absmax2, offset } => {
                DYNAMIC_CODE[usize::from(codes[block])] * absmax2[block / NESTED_BLOCK_SIZE]
                    + offset
            }
        }
    }
}

impl<'a> Nf4Blocks<'a> {
    /// `len` values in blocks of `block_size`.
    ///
    /// Shapes: codes `[len / 2]` · maxima `[len / block_size]` · absmax2 `[maxima / 256]`, each
    /// rounded up.
    ///
    /// # Panics
    /// If the lengths do not fit each other.
    pub fn new(
        codes: &'a [u8],
        scales: Scales<'a>,
        block_size: usize,
        len: usize,
    ) -> Nf4Blocks<'a> {
        assert!(block_size > 0, "nf4: a block of no values");
        assert_eq!(codes.len(), len.div_ceil(2), "nf4: codes for {len} values");
        assert_eq!(scales.len(), len.div_ceil(block_size), "nf4: blocks of {len} values");
        if let Scales::Nested { codes, absmax2, .. } = scales {
            assert_eq!(absmax2.len(), codes.len().div_ceil(NESTED_BLOCK_SIZE), "nf4: absmax2");
        }
        Nf4Blocks { codes, scales, block_size, first: 0, len }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The values of a range; they need not begin with a block.
    ///
    /// # Panics
    /// If the range reaches outside.
    pub fn slice(self, range: Range<usize>) -> Nf4Blocks<'a> {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "nf4: {range:?} of {}",
            self.len
        );
        Nf4Blocks { first: self.first + range.start, len: range.len(), ..self }
    }

    /// The address of the byte that holds the first value: only to fetch from, not to read.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn first_byte(&self) -> *const u8 {
        self.codes.as_ptr().wrapping_add(self.first / 2)
    }

    /// Unpacks the `out.len()` values from `start` on, each as `store` makes it of the f32.
    #[inline(always)]
    pub(crate) fn read<T>(&self, start: usize, out: &mut [T], store: impl Fn(f32) -> T + Copy) {
        assert!(start + out.len() <= self.len);
        let mut at = self.first + start;
        let mut rest = out;
        while !rest.is_empty() {
            let n = (self.block_size - at % self.block_size).min(rest.len());
            let (run, after) = rest.split_at_mut(n);
            let absmax = self.scales.absmax(at / self.block_size);
            unpack_run(self.codes, at, absmax, run, store);
            (at, rest) = (at + n, after);
        }
    }
}

/// Unpacks values of one block: the codes from number `at` on.
#[inline(always)]
fn unpack_run<T>(
    codes: &[u8],
    at: usize,
    absmax: f32,
    out: &mut [T],
    store: impl Fn(f32) -> T + Copy,
) {
    let value = |code: u8| store(CODE[usize::from(code & 15)] * absmax);
    let (odd, out) = out.split_at_mut(at % 2);
    if let [first] = odd {
        *first = value(codes[at / 2]);
    }
    let bytes = &codes[at.div_ceil(2)..][..out.len().div_ceil(2)];
    let (pairs, last) = out.as_chunks_mut::<2>();
    for ([high, low], byte) in pairs.iter_mut().zip(bytes) {
        *high = value(byte >> 4);
        *low = value(*byte);
    }
    if let ([last], [.., byte]) = (last, bytes) {
        *last = value(byte >> 4);
    }
}

/// `out[i] = value[i]`, on all threads.
///
/// # Panics
/// If the lengths differ.
pub fn unpack(isa: Isa, x: Nf4Blocks, out: &mut [f32]) {
    assert_eq!(out.len(), x.len(), "nf4: unpacking {} values", x.len());
    out.par_chunks_mut(ELEMENTS)
        .enumerate()
        .for_each(|(chunk, out)| unpack_chunk(isa, x, chunk * ELEMENTS, out));
}

shells! {
    fn unpack_chunk(x: Nf4Blocks, start: usize, out: &mut [f32]) = unpack_chunk_body;
}

#[inline(always)]
fn unpack_chunk_body(x: Nf4Blocks, start: usize, out: &mut [f32]) {
    x.read(start, out, |value| value);
}
