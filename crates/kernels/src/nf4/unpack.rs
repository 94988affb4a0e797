//! From codes to values: runs of blocks into f32 or pairs of bf16, and whole matrices on all threads.
//! Nothing here knows instructions.

use super::FourBitBlocks;
use super::lines::{Line, Way, fence};
use super::ops::{CodeOps, LineOps, Task, run};
use super::tables::{FP4, NF4, QuantType, Table};
use crate::Isa;
use half::bf16;
use rayon::prelude::*;
use std::ops::Range;

/// Words that are unpacked before they are copied to where no whole lines can be written.
const STAGE: usize = 256;
/// Bytes of output from which on it would not stay in the caches.
const PAST_CACHES: usize = 32 << 20;

/// What values are unpacked to: f32 or bf16.
pub(crate) trait Unpacked: Copy + Send {
    /// Values in one word.
    const PER_WORD: usize;
    /// The codes of a cache line.
    type Codes;
    /// The 16 values of a block.
    type Values<O: CodeOps>: Copy;

    fn codes(bytes: &[u8]) -> &[Self::Codes];
    fn values<O: CodeOps>(ops: O, table: &Table, absmax: f32) -> Self::Values<O>;
    fn line<O: LineOps>(ops: O, values: &Self::Values<O>, codes: &Self::Codes) -> O::Line;

    /// Unpacks the elements `at` into words; a last one may be half full.
    fn read(codec: (impl CodeOps, &Table), x: &FourBitBlocks, at: Range<usize>, words: &mut [u32]);

    fn from_words(words: &[u32], out: &mut [Self]);
}

impl Unpacked for f32 {
    const PER_WORD: usize = 1;
    type Codes = [u8; 8];
    type Values<O: CodeOps> = O::Wide;

    #[inline(always)]
    fn codes(bytes: &[u8]) -> &[[u8; 8]] {
        bytes.as_chunks().0
    }

    #[inline(always)]
    fn values<O: CodeOps>(ops: O, table: &Table, absmax: f32) -> O::Wide {
        ops.wide(table, absmax)
    }

    #[inline(always)]
    fn line<O: LineOps>(ops: O, values: &O::Wide, codes: &[u8; 8]) -> O::Line {
        ops.wide_line(values, codes)
    }

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
    type Codes = [u8; 16];
    type Values<O: CodeOps> = O::Half;

    #[inline(always)]
    fn codes(bytes: &[u8]) -> &[[u8; 16]] {
        bytes.as_chunks().0
    }

    #[inline(always)]
    fn values<O: CodeOps>(ops: O, table: &Table, absmax: f32) -> O::Half {
        ops.half(table, absmax)
    }

    #[inline(always)]
    fn line<O: LineOps>(ops: O, values: &O::Half, codes: &[u8; 16]) -> O::Line {
        ops.half_line(values, codes)
    }

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
    pub(super) fn place(&self, start: usize) -> (usize, usize) {
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
    let past_caches = size_of_val(out) >= PAST_CACHES;
    unpack_by(isa, x, out, if past_caches { Way::PastCaches } else { Way::Cached });
}

pub(super) fn unpack_by<T: Unpacked>(isa: Isa, x: FourBitBlocks, out: &mut [T], way: Way) {
    assert_eq!(out.len(), x.len(), "nf4: unpacking {} values", x.len());
    let size = way.elements();
    out.par_chunks_mut(size).enumerate().for_each(|(chunk, out)| {
        run(isa, Chunk { x, start: chunk * size, out, way });
    });
}

/// Values from `start` on.
struct Chunk<'a, T> {
    x: FourBitBlocks<'a>,
    start: usize,
    out: &'a mut [T],
    way: Way,
}

impl<T: Unpacked> Task for Chunk<'_, T> {
    #[inline(always)]
    fn run(self, ops: impl LineOps) {
        // Each by its name, so that each is compiled with its own table.
        match self.x.table.quant_type {
            QuantType::Nf4 => self.unpack((ops, &NF4)),
            QuantType::Fp4 => self.unpack((ops, &FP4)),
        }
    }
}

impl<T: Unpacked> Chunk<'_, T> {
    #[inline(always)]
    fn unpack(self, codec: (impl LineOps, &Table)) {
        let Chunk { x, start, out, way } = self;
        if !x.fills_lines::<T>(start + out.as_ptr().align_offset(align_of::<Line>())) {
            return unpack_staged(codec, &x, start, out);
        }
        // SAFETY: lines and values, f32 or bf16, are plain words, of which all bits are valid.
        let (head, lines, tail) = unsafe { out.align_to_mut::<Line>() };
        let lines_start = start + head.len();
        let tail_start = lines_start + size_of_val(lines) / size_of::<T>();
        unpack_staged(codec, &x, start, head);
        // SAFETY: `fence` is called below, and until then nothing else touches the lines.
        unsafe { x.unpack_lines::<_, T>(codec, lines_start, lines, way) };
        unpack_staged(codec, &x, tail_start, tail);
        if let Way::PastCaches = way {
            fence();
        }
    }
}

/// Unpacks any elements to anywhere, by way of words that lie side by side.
#[inline(always)]
fn unpack_staged<T: Unpacked>(
    codec: (impl CodeOps, &Table),
    x: &FourBitBlocks,
    start: usize,
    out: &mut [T],
) {
    let mut stage = [0; STAGE];
    for (i, out) in out.chunks_mut(STAGE * T::PER_WORD).enumerate() {
        let at = start + i * STAGE * T::PER_WORD;
        let words = &mut stage[..out.len().div_ceil(T::PER_WORD)];
        T::read(codec, x, at..at + out.len(), words);
        T::from_words(words, out);
    }
}

/// Writes 1 to all of `out` as unpacking writes what does not stay in the caches, and computes nothing: no
/// unpacking of as many bytes is faster. For benchmarks.
pub fn write_alone(isa: Isa, out: &mut [f32]) {
    out.par_chunks_mut(Way::PastCaches.elements()).for_each(|out| run(isa, Ones { out }));
}

struct Ones<'a> {
    out: &'a mut [f32],
}

impl Task for Ones<'_> {
    #[inline(always)]
    fn run(self, ops: impl LineOps) {
        // SAFETY: lines and f32 are plain words, of which all bits are valid.
        let (head, lines, tail) = unsafe { self.out.align_to_mut::<Line>() };
        head.fill(1.0);
        tail.fill(1.0);
        let ones = ops.wide_line(&ops.wide(&NF4, 1.0), &[0xff; 8]);
        for line in lines {
            // SAFETY: the fence below comes before anything else touches the lines.
            unsafe { ops.store(ones, line, Way::PastCaches) };
        }
        fence();
    }
}
