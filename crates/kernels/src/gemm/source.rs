//! Reading stored elements as f32: one impl for each type that a weight is stored in. Packs nothing.

use super::Elements;
use super::pack::{Encoding, PackOps, PlainOps, STAGE, Strip};
use crate::int8::Int8Rows;
use crate::nf4::FourBitBlocks;
use half::{bf16, f16};

/// Stored elements that can be read as f32.
pub(super) trait Source: Copy {
    /// The bits of the f32 values of the `out.len()` elements from `start` on.
    fn read(self, ops: impl PackOps, start: usize, out: &mut [u32]);

    /// The same as pairs of bf16: `out.len()` words, twice as many elements.
    #[inline(always)]
    fn read_pairs(self, ops: impl PackOps, start: usize, out: &mut [u32]) {
        read_and_round(self, ops, start, out);
    }

    /// Asks for the cache lines of `len` elements from `start` on, which may lie outside.
    #[inline(always)]
    fn fetch(self, _ops: impl PackOps, _start: usize, _len: usize) {}

    /// Packs the lanes of a strip in registers alone, where a set can; else does nothing and says `false`.
    #[inline(always)]
    fn pack_strip(self, _: impl PackOps, _: Encoding, _: &Strip, _out: &mut [u32]) -> bool {
        false
    }
}

#[inline(always)]
fn read_and_round(source: impl Source, ops: impl PackOps, start: usize, out: &mut [u32]) {
    let mut bits = [0u32; 2 * STAGE];
    source.read(ops, start, &mut bits[..2 * out.len()]);
    ops.pairs(&bits.map(f32::from_bits)[..2 * out.len()], out);
}

impl Source for &[f32] {
    #[inline(always)]
    fn read(self, _: impl PackOps, start: usize, out: &mut [u32]) {
        let run = &self[start..start + out.len()];
        for (out, x) in out.iter_mut().zip(run) {
            *out = x.to_bits();
        }
    }

    #[inline(always)]
    fn fetch(self, ops: impl PackOps, start: usize, len: usize) {
        let first = self.as_ptr().wrapping_add(start);
        for at in (0..len).step_by(16) {
            ops.fetch(first.wrapping_add(at).cast());
        }
    }

    #[inline(always)]
    fn pack_strip(
        self,
        ops: impl PackOps,
        encoding: Encoding,
        strip: &Strip,
        out: &mut [u32],
    ) -> bool {
        ops.pack_strip(encoding, self, strip, out)
    }

    #[inline(always)]
    fn read_pairs(self, ops: impl PackOps, start: usize, out: &mut [u32]) {
        ops.pairs(&self[start..start + 2 * out.len()], out);
    }
}

impl Source for &[bf16] {
    #[inline(always)]
    fn pack_strip(
        self,
        ops: impl PackOps,
        encoding: Encoding,
        strip: &Strip,
        out: &mut [u32],
    ) -> bool {
        ops.pack_pairs(encoding, self, strip, out)
    }

    #[inline(always)]
    fn read(self, _: impl PackOps, start: usize, out: &mut [u32]) {
        let run = &self[start..start + out.len()];
        for (out, x) in out.iter_mut().zip(run) {
            *out = u32::from(x.to_bits()) << 16;
        }
    }

    #[inline(always)]
    fn read_pairs(self, _: impl PackOps, start: usize, out: &mut [u32]) {
        let pairs = self[start..start + 2 * out.len()].as_chunks::<2>().0;
        for (out, [low, high]) in out.iter_mut().zip(pairs) {
            *out = u32::from(low.to_bits()) | u32::from(high.to_bits()) << 16;
        }
    }
}

impl Source for &[f16] {
    #[inline(always)]
    fn read(self, _: impl PackOps, start: usize, out: &mut [u32]) {
        let run = &self[start..start + out.len()];
        for (out, x) in out.iter_mut().zip(run) {
            *out = f16_to_f32_bits(x.to_bits());
        }
    }
}

impl Source for FourBitBlocks<'_> {
    #[inline(always)]
    fn read(self, ops: impl PackOps, start: usize, out: &mut [u32]) {
        FourBitBlocks::read(&self, (ops.codes(), self.table()), start, out);
    }

    /// Rounds the 16 values of a block, not each where it stands.
    #[inline(always)]
    fn read_pairs(self, ops: impl PackOps, start: usize, out: &mut [u32]) {
        if !FourBitBlocks::read_pairs(&self, (ops.codes(), self.table()), start, out) {
            read_and_round(self, ops, start, out);
        }
    }
}

impl Source for Int8Rows<'_> {
    #[inline(always)]
    fn read(self, ops: impl PackOps, start: usize, out: &mut [u32]) {
        match self.run(start, out.len()) {
            Some((codes, absmax)) => ops.int8(codes, absmax, out),
            None => Int8Rows::read(&self, start, out, f32::to_bits),
        }
    }

    #[inline(always)]
    fn read_pairs(self, ops: impl PackOps, start: usize, out: &mut [u32]) {
        match self.run(start, 2 * out.len()) {
            Some((codes, absmax)) => ops.int8_pairs(codes, absmax, out),
            None => read_and_round(self, ops, start, out),
        }
    }
}

impl Elements<'_> {
    /// The bits of the f32 values of the `out.len()` elements from `start` on.
    #[inline(always)]
    pub(crate) fn read(self, start: usize, out: &mut [u32]) {
        match self {
            Elements::F32(x) => x.read(PlainOps, start, out),
            Elements::Bf16(x) => x.read(PlainOps, start, out),
            Elements::F16(x) => x.read(PlainOps, start, out),
            Elements::FourBits(x) => Source::read(x, PlainOps, start, out),
            Elements::Int8(x) => Source::read(x, PlainOps, start, out),
        }
    }
}

/// Exact, and without the branches and the CPU detection that keep `f16::to_f32` from vectorising.
#[inline(always)]
fn f16_to_f32_bits(half: u16) -> u32 {
    const EXPONENT: u32 = 0x7c00 << 13;
    let magnitude = u32::from(half & 0x7fff) << 13;
    let exponent = magnitude & EXPONENT;
    let normal = magnitude + ((127 - 15) << 23);
    let special = normal + ((128 - 16) << 23);
    // A subnormal's fraction, put behind an implicit 1 that is then subtracted.
    let subnormal = f32::from_bits(normal + (1 << 23)) - f32::from_bits(113 << 23);
    let value = if exponent == EXPONENT { special } else { normal };
    let value = if exponent == 0 { subnormal.to_bits() } else { value };
    value | u32::from(half & 0x8000) << 16
}
