//! From codes to values: runs of blocks into f32 or pairs of bf16, and whole matrices on all threads.
//! Nothing here knows instructions.

use super::FourBitBlocks;
use super::ops::{CodeOps, Task, run};
use super::stream::{LINE, fence, pass};
use super::tables::{FP4, NF4, QuantType, Table};
use crate::Isa;
use crate::blocks::ELEMENTS;
use half::bf16;
use rayon::prelude::*;
use std::ops::Range;

/// Words that are unpacked before they are copied to memory: 4 KiB, whole cache lines.
const STAGE: usize = 1024;
/// Bytes of output from which on it would not stay in the caches.
const PAST_CACHES: usize = 32 << 20;

#[repr(align(64))]
struct Stage([u32; STAGE]);

/// What values are unpacked to.
pub(crate) trait Unpacked: Copy + Send {
    /// Values in one word.
    const PER_WORD: usize;

    /// Unpacks the elements `at` into words; a last one may be half full.
    fn read(codec: (impl CodeOps, &Table), x: &FourBitBlocks, at: Range<usize>, words: &mut [u32]);

    fn from_words(words: &[u32], out: &mut [Self]);
}

impl Unpacked for f32 {
    const PER_WORD: usize = 1;

    #[inline(always)]
    fn read(codec: (impl CodeOps, &Table), x: &FourBitBlocks, at: Range<usize>, words: &mut [u32]) {
        x.read(codec, at.start, words);
    }

    #[inline(always)]
    fn from_words(words: &[u32], out: &mut [f32]) {
        for (out, word) in out.iter_mut().zip(words) {
            *out = f32::from_bits(*word);
        }
    }
}

impl Unpacked for bf16 {
    const PER_WORD: usize = 2;

    #[inline(always)]
    fn read(codec: (impl CodeOps, &Table), x: &FourBitBlocks, at: Range<usize>, words: &mut [u32]) {
        let (start, len) = (at.start, at.len());
        let (pairs, last) = words.split_at_mut(len / 2);
        if !x.read_pairs(codec, start, pairs) {
            for (i, pair) in pairs.iter_mut().enumerate() {
                let mut bits = [0; 2];
                x.read(codec, start + 2 * i, &mut bits);
                *pair = half_bits(bits[0]) | half_bits(bits[1]) << 16;
            }
        }
        if let [last] = last {
            let mut bits = [0];
            x.read(codec, start + len - 1, &mut bits);
            *last = half_bits(bits[0]);
        }
    }

    #[inline(always)]
    fn from_words(words: &[u32], out: &mut [bf16]) {
        let (pairs, last) = out.as_chunks_mut::<2>();
        for ([low, high], word) in pairs.iter_mut().zip(words) {
            (*low, *high) = (bf16::from_bits(*word as u16), bf16::from_bits((word >> 16) as u16));
        }
        if let ([last], Some(word)) = (last, words.last()) {
            *last = bf16::from_bits(*word as u16);
        }
    }
}

#[inline(always)]
fn half_bits(bits: u32) -> u32 {
    u32::from(bf16::from_f32(f32::from_bits(bits)).to_bits())
}

impl FourBitBlocks<'_> {
    /// The bits of the f32 values of the `out.len()` elements from `start` on, read with their own table.
    #[inline(always)]
    pub(crate) fn read(&self, codec: (impl CodeOps, &Table), start: usize, out: &mut [u32]) {
        assert!(start + out.len() <= self.len);
        let (mut block, mut inside) = self.place(start);
        let mut at = self.first + start;
        let mut rest = out;
        while !rest.is_empty() {
            let n = (self.block_size - inside).min(rest.len());
            let (run, after) = rest.split_at_mut(n);
            unpack_run(codec, self.codes, at, self.scales.absmax(block), run);
            (at, rest) = (at + n, after);
            (block, inside) = (block + 1, 0);
        }
    }

    /// The same as pairs of bf16, the first in the low half: `out.len()` words, twice as many
    /// elements. Does nothing and says `false` where pairs lie across bytes or blocks.
    #[inline(always)]
    pub(crate) fn read_pairs(
        &self,
        (ops, table): (impl CodeOps, &Table),
        start: usize,
        out: &mut [u32],
    ) -> bool {
        assert!(start + 2 * out.len() <= self.len);
        let mut at = self.first + start;
        if !at.is_multiple_of(2) || !self.block_size.is_multiple_of(2) {
            return false;
        }
        let (mut block, mut inside) = self.place(start);
        let mut rest = out;
        while !rest.is_empty() {
            let n = ((self.block_size - inside) / 2).min(rest.len());
            let (run, after) = rest.split_at_mut(n);
            let values = ops.half(table, self.scales.absmax(block));
            ops.half_pairs(values, &self.codes[at / 2..][..n], run);
            (at, rest) = (at + 2 * n, after);
            (block, inside) = (block + 1, 0);
        }
        true
    }

    /// The block of an element, and its place in there. Most block sizes are powers of two, and a
    /// division takes as long as half a block.
    #[inline(always)]
    fn place(&self, start: usize) -> (usize, usize) {
        let at = self.first + start;
        if self.block_size.is_power_of_two() {
            (at >> self.block_size.trailing_zeros(), at & (self.block_size - 1))
        } else {
            (at / self.block_size, at % self.block_size)
        }
    }
}

/// Unpacks values of one block: the codes from number `at` on.
#[inline(always)]
fn unpack_run(
    (ops, table): (impl CodeOps, &Table),
    codes: &[u8],
    at: usize,
    absmax: f32,
    out: &mut [u32],
) {
    let value = |code: u8| (table.values[usize::from(code & 15)] * absmax).to_bits();
    let (odd, out) = out.split_at_mut(at % 2);
    if let [first] = odd {
        *first = value(codes[at / 2]);
    }
    let bytes = &codes[at.div_ceil(2)..][..out.len().div_ceil(2)];
    let (pairs, last) = out.split_at_mut(out.len() & !1);
    ops.wide_values(ops.wide(table, absmax), &bytes[..pairs.len() / 2], pairs);
    if let ([last], [.., byte]) = (last, bytes) {
        *last = value(byte >> 4);
    }
}

/// `out[i] = value[i]`, on all threads.
///
/// # Panics
/// If the lengths differ.
pub fn unpack(isa: Isa, x: FourBitBlocks, out: &mut [f32]) {
    unpack_all(isa, x, out);
}

/// `out[i] = value[i]` rounded to bf16 (nearest even), on all threads.
///
/// # Panics
/// If the lengths differ.
pub fn unpack_bf16(isa: Isa, x: FourBitBlocks, out: &mut [bf16]) {
    unpack_all(isa, x, out);
}

fn unpack_all<T: Unpacked>(isa: Isa, x: FourBitBlocks, out: &mut [T]) {
    assert_eq!(out.len(), x.len(), "nf4: unpacking {} values", x.len());
    let past_caches = size_of_val(out) >= PAST_CACHES;
    // A fence waits for what is on its way to memory, so there are few of them.
    let size = if past_caches { 16 * ELEMENTS } else { ELEMENTS };
    out.par_chunks_mut(size).enumerate().for_each(|(chunk, out)| {
        run(isa, Chunk { x, start: chunk * size, out, past_caches });
    });
}

/// Writes to all of `out` as unpacking writes what does not stay in the caches, and computes nothing: no unpacking of
/// as many bytes is faster. For benchmarks.
pub fn write_alone(out: &mut [f32]) {
    let stage = Stage([1f32.to_bits(); STAGE]);
    out.par_chunks_mut(16 * ELEMENTS).for_each(|out| {
        for piece in out.chunks_mut(STAGE) {
            // SAFETY: the fence below comes before the chunk's end, and nothing touches `out` before.
            unsafe { pass(&stage.0[..piece.len()], piece) };
        }
        fence();
    });
}

/// Values from `start` on.
struct Chunk<'a, T> {
    x: FourBitBlocks<'a>,
    start: usize,
    out: &'a mut [T],
    past_caches: bool,
}

impl<T: Unpacked> Task for Chunk<'_, T> {
    #[inline(always)]
    fn run(self, ops: impl CodeOps) {
        // Each by its name, so that each is compiled with its own table.
        match self.x.table.quant_type {
            QuantType::Nf4 => self.unpack((ops, &NF4)),
            QuantType::Fp4 => self.unpack((ops, &FP4)),
        }
    }
}

impl<T: Unpacked> Chunk<'_, T> {
    #[inline(always)]
    fn unpack(self, codec: (impl CodeOps, &Table)) {
        let mut stage = Stage([0; STAGE]);
        let (mut at, mut rest) = (self.start, self.out);
        // The first piece ends with a line, so that all others are whole lines.
        let mut len = STAGE * T::PER_WORD - rest.as_ptr().addr() % LINE / 4 * T::PER_WORD;
        while !rest.is_empty() {
            let (out, after) = rest.split_at_mut(len.min(rest.len()));
            let words = &mut stage.0[..out.len().div_ceil(T::PER_WORD)];
            T::read(codec, &self.x, at..at + out.len(), words);
            if self.past_caches {
                // SAFETY: `fence` is called below, and until then nothing else touches `out`.
                unsafe { pass(words, out) };
            } else {
                T::from_words(words, out);
            }
            at += out.len();
            (rest, len) = (after, STAGE * T::PER_WORD);
        }
        if self.past_caches {
            fence();
        }
    }
}
