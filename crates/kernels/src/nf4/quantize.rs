//! From values to 4-bit codes and block maxima, and from the maxima to 8-bit codes.
//!
//! ```text
//! absmax = max|x|                     per block of block_size
//! s      = x · (1 / absmax)           x / absmax in a last block that is not full
//! code   = ORDER[#{MIDPOINTS < s}]     the tables of a type
//!
//! offset  = mean(absmax)              in f64
//! z       = absmax − offset
//! absmax2 = max|z|                    per 256
//! q       = nearest of DYNAMIC_CODE to z · (1 / absmax2)
//! ```
//! A block of zeros has the maximum 0 and the codes of 0. A value that is not finite makes the
//! maximum, and so the block, NaN or infinite: the loss then says so.

use super::ops::{CodeOps, Task, run};
use super::tables::Table;
use super::{Codec, NESTED_BLOCK_SIZE};
use crate::Isa;
use crate::blocks::ELEMENTS;
use crate::dynamic::{SIGNED_ZERO, signed_code};
use crate::gemm::Elements;
use crate::simd::shells;
use rayon::prelude::*;

/// Values in a block, at most.
pub const BLOCK_SIZE_MAX: usize = 1 << 16;
/// Maxima that a task quantises.
const CHUNK_MAXIMA: usize = 16 * NESTED_BLOCK_SIZE;

/// Quantises `x`, read in the type that it is stored in.
///
/// Shapes: x `[n]` · codes `[n / 2]` and absmax `[n / block_size]`, rounded up.
///
/// # Panics
/// If the lengths do not fit each other, or the block size is 0 or above [`BLOCK_SIZE_MAX`].
pub fn quantize(isa: Isa, x: Elements, codec: Codec, codes: &mut [u8], absmax: &mut [f32]) {
    let (table, block_size) = (codec.quant_type.table(), codec.block_size);
    let n = x.len();
    assert!((1..=BLOCK_SIZE_MAX).contains(&block_size), "nf4: blocks of {block_size}");
    assert_eq!(codes.len(), n.div_ceil(2), "nf4: codes for {n} values");
    assert_eq!(absmax.len(), n.div_ceil(block_size), "nf4: blocks of {n} values");
    // An even number of blocks, so that each chunk begins with a byte.
    let blocks = (ELEMENTS / block_size).max(1).next_multiple_of(2);
    let size = blocks * block_size;
    codes.par_chunks_mut(size / 2).zip(absmax.par_chunks_mut(blocks)).enumerate().for_each(
        |(chunk, (codes, absmax))| {
            let x = x.slice(chunk * size..n.min((chunk + 1) * size));
            run(isa, Chunk { x, table, block_size, codes, absmax });
        },
    );
}

/// Quantises block maxima and returns their offset.
///
/// Shapes: absmax, codes `[n]` · absmax2 `[n / 256]`, rounded up.
///
/// # Panics
/// If the lengths do not fit each other.
pub fn quantize_scales(isa: Isa, absmax: &[f32], codes: &mut [u8], absmax2: &mut [f32]) -> f32 {
    let n = absmax.len();
    assert_eq!(codes.len(), n, "nf4: codes for {n} maxima");
    assert_eq!(absmax2.len(), n.div_ceil(NESTED_BLOCK_SIZE), "nf4: absmax2 for {n} maxima");
    let sum = |block: &[f32]| block.iter().map(|&a| f64::from(a)).sum::<f64>();
    let total: f64 = absmax.chunks(NESTED_BLOCK_SIZE).map(sum).sum();
    let offset = if n == 0 { 0.0 } else { (total / n as f64) as f32 };
    absmax
        .par_chunks(CHUNK_MAXIMA)
        .zip(codes.par_chunks_mut(CHUNK_MAXIMA))
        .zip(absmax2.par_chunks_mut(CHUNK_MAXIMA / NESTED_BLOCK_SIZE))
        .for_each(|((absmax, codes), absmax2)| scales_chunk(isa, absmax, offset, codes, absmax2));
    offset
}

/// Whole blocks, except for the last.
struct Chunk<'a> {
    x: Elements<'a>,
    table: &'a Table,
    block_size: usize,
    codes: &'a mut [u8],
    absmax: &'a mut [f32],
}

impl Task for Chunk<'_> {
    #[inline(always)]
    fn run(self, ops: impl CodeOps) {
        let Chunk { x, table, block_size, codes, absmax } = self;
        let mut stage = vec![0u32; block_size.min(x.len())];
        for (block, absmax) in absmax.iter_mut().enumerate() {
            let start = block * block_size;
            let values = &mut stage[..block_size.min(x.len() - start)];
            x.read(start, values);
            *absmax = max_abs(values);
            if values.len() == block_size && block_size.is_multiple_of(2) && *absmax != 0.0 {
                let codes = &mut codes[start / 2..][..block_size / 2];
                ops.encode(table, values, 1.0 / *absmax, codes);
            } else {
                encode_odd((table, block_size), values, *absmax, (codes, start));
            }
        }
    }
}

/// The codes from number `start` on of a block that has no maximum, no whole bytes, or no full length.
#[inline(always)]
fn encode_odd(
    (table, block_size): (&Table, usize),
    values: &[u32],
    absmax: f32,
    (codes, start): (&mut [u8], usize),
) {
    let zero = table.zero;
    let factor = 1.0 / absmax;
    for (at, &x) in (start..).zip(values) {
        let x = f32::from_bits(x);
        let s = if values.len() == block_size { x * factor } else { x / absmax };
        let code = if absmax == 0.0 { zero } else { table.nearest(s) };
        let byte = &mut codes[at / 2];
        // The nibble behind an odd number of values has the code of 0.
        *byte = if at % 2 == 0 { code << 4 | zero } else { *byte & 0xf0 | code };
    }
}

shells! {
    fn scales_chunk(absmax: &[f32], offset: f32, codes: &mut [u8], absmax2: &mut [f32]) = scales_body;
}

#[inline(always)]
fn scales_body(absmax: &[f32], offset: f32, codes: &mut [u8], absmax2: &mut [f32]) {
    let blocks = absmax.chunks(NESTED_BLOCK_SIZE).zip(codes.chunks_mut(NESTED_BLOCK_SIZE));
    for ((absmax, codes), absmax2) in blocks.zip(absmax2) {
        let mut z = [0u32; NESTED_BLOCK_SIZE];
        for (z, absmax) in z.iter_mut().zip(absmax) {
            *z = (absmax - offset).to_bits();
        }
        *absmax2 = max_abs(&z);
        if *absmax2 == 0.0 {
            codes.fill(SIGNED_ZERO);
            continue;
        }
        let factor = 1.0 / *absmax2;
        for (code, z) in codes.iter_mut().zip(z) {
            *code = signed_code(f32::from_bits(z) * factor);
        }
    }
}

/// The largest magnitude of values given as bits. As whole numbers the bits of magnitudes have the
/// same order, infinity above all numbers and NaN above infinity.
#[inline(always)]
fn max_abs(values: &[u32]) -> f32 {
    let mut max = 0;
    for x in values {
        max = max.max(x & 0x7fff_ffff);
    }
    f32::from_bits(max)
}
