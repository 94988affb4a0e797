//! NF4 and FP4: 4-bit codes of blocks of values, and 8-bit codes of the blocks' maxima (double quantisation).
//!
//! ```text
//! value[i]  = VALUES[code[i]] · absmax[i / block_size]
//! absmax[b] = DYNAMIC_CODE[q[b]] · absmax2[b / 256] + offset      where it is quantised too
//! ```
//! Blocks run over the flattened, row-major matrix, whatever its rows. Two codes share a byte, the
//! first in the high nibble. Nothing here knows of matrices, files or models.
//!
//! The two differ in their tables alone (`tables.rs`).
//!
//! Source: QLoRA (Dettmers et al., 2023); the layout and the order of roundings are those of
//! bitsandbytes. FP4's codes are the nearest as NF4's are, which is what bitsandbytes computes on the CPU.
//! Its CUDA kernel differs in FP4 where s lies within 4e-7 of a midpoint (its borders are decimal fractions of 6
//! to 8 digits, and a tie goes to the smaller magnitude: 2 of 10⁷ normal f32 values, 7 of 10⁴ in bf16), and in
//! which of the two zeros a tiny value gets.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod lines;
mod ops;
mod quantize;
mod tables;
#[cfg(test)]
mod tests;
mod unpack;

pub use crate::dynamic::SIGNED as DYNAMIC_CODE;
pub use quantize::{BLOCK_SIZE_MAX, quantize, quantize_scales};
pub use tables::QuantType;
pub use unpack::{unpack, unpack_bf16, write_alone};

use std::ops::Range;
use tables::Table;

pub(crate) use ops::{CodeOps, PlainCodes};
#[cfg(target_arch = "x86_64")]
pub(crate) use {avx2::Avx2Codes, avx512::Avx512Codes, avx512::Bf16Codes};

/// Maxima that share one absmax2.
pub const NESTED_BLOCK_SIZE: usize = 256;

/// How values become codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    pub quant_type: QuantType,
    /// Values that share one maximum.
    pub block_size: usize,
}

/// Values in 4 bits, where they lie. All lengths fit each other: `new` has checked them.
#[derive(Clone, Copy, Debug)]
pub struct FourBitBlocks<'a> {
    codes: &'a [u8],
    scales: Scales<'a>,
    table: &'static Table,
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

impl<'a> FourBitBlocks<'a> {
    /// `len` values of a codec.
    ///
    /// Shapes: codes `[len / 2]` · maxima `[len / block_size]` · absmax2 `[maxima / 256]`, each
    /// rounded up.
    ///
    /// # Panics
    /// If the lengths do not fit each other.
    pub fn new(codes: &'a [u8], scales: Scales<'a>, codec: Codec, len: usize) -> FourBitBlocks<'a> {
        let (table, block_size) = (codec.quant_type.table(), codec.block_size);
        assert!(block_size > 0, "nf4: a block of no values");
        assert_eq!(codes.len(), len.div_ceil(2), "nf4: codes for {len} values");
        assert_eq!(scales.len(), len.div_ceil(block_size), "nf4: blocks of {len} values");
        if let Scales::Nested { codes, absmax2, .. } = scales {
            assert_eq!(absmax2.len(), codes.len().div_ceil(NESTED_BLOCK_SIZE), "nf4: absmax2");
        }
        FourBitBlocks { codes, scales, table, block_size, first: 0, len }
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
    pub fn slice(self, range: Range<usize>) -> FourBitBlocks<'a> {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "nf4: {range:?} of {}",
            self.len
        );
        FourBitBlocks { first: self.first + range.start, len: range.len(), ..self }
    }

    /// What the codes are read with.
    #[inline(always)]
    pub(crate) fn table(&self) -> &'static Table {
        self.table
    }

    /// The address of the byte that holds the first value: only to fetch from, not to read.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn first_byte(&self) -> *const u8 {
        self.codes.as_ptr().wrapping_add(self.first / 2)
    }
}
