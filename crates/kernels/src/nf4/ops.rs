//! What an instruction set does in registers with the 16 values of a block, and what any of them does
//! without: look-ups of codes, and the search of a value's code. Nothing here reads maxima.
//!
//! ```text
//! values[c]    = VALUES[c] · absmax                 16 products a block, and 16 roundings to bf16
//! out[2i]      = values[codes[i] >> 4]
//! out[2i + 1]  = values[codes[i] & 15]
//! ```
//! The bits are those of a product, and a rounding, for each value by itself.

use super::lines::{Line, Way};
use super::tables::Table;
use crate::Isa;
use half::bf16;

#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2Codes, avx512::Avx512Codes};

/// Look-ups and searches. A value of such a type exists only where the CPU has its instructions.
pub(crate) trait CodeOps: Copy {
    /// The 16 values of a block in f32.
    type Wide: Copy;
    /// The same rounded to bf16.
    type Half: Copy;

    fn wide(self, table: &Table, absmax: f32) -> Self::Wide;
    fn half(self, table: &Table, absmax: f32) -> Self::Half;

    /// The bits of two f32 for each byte: `out` is twice as long as `codes`.
    fn wide_values(self, values: Self::Wide, codes: &[u8], out: &mut [u32]);

    /// A pair of bf16 for each byte, the first in the low half: `out` is as long as `codes`.
    fn half_pairs(self, values: Self::Half, codes: &[u8], out: &mut [u32]);

    /// The codes of `x[i] · factor`, two in a byte: `x` is bits of f32, twice as many as `codes`.
    #[inline(always)]
    fn encode(self, table: &Table, x: &[u32], factor: f32, codes: &mut [u8]) {
        assert_eq!(x.len(), 2 * codes.len());
        let code = |x: u32| table.nearest(f32::from_bits(x) * factor);
        for (byte, [high, low]) in codes.iter_mut().zip(x.as_chunks::<2>().0) {
            *byte = code(*high) << 4 | code(*low);
        }
    }
}

/// Look-ups of whole cache lines, which stay in registers until they are stored.
pub(crate) trait LineOps: CodeOps {
    /// 64 bytes of values.
    type Line: Copy;

    fn wide_line(self, values: &Self::Wide, codes: &[u8; 8]) -> Self::Line;
    fn half_line(self, values: &Self::Half, codes: &[u8; 16]) -> Self::Line;

    /// The first `n` words of `first`, and after them those of `second`.
    fn join(self, n: usize, first: Self::Line, second: Self::Line) -> Self::Line;

    /// Stores a line.
    ///
    /// # Safety
    /// - After [`Way::PastCaches`] the same thread calls `fence` before anything else touches `out`.
    unsafe fn store(self, line: Self::Line, out: &mut Line, way: Way);
}

/// One code after another.
#[derive(Clone, Copy)]
pub(crate) struct PlainCodes;

impl CodeOps for PlainCodes {
    type Wide = [u32; 16];
    type Half = [u16; 16];

    #[inline(always)]
    fn wide(self, table: &Table, absmax: f32) -> [u32; 16] {
        table.values.map(|value| (value * absmax).to_bits())
    }

    #[inline(always)]
    fn half(self, table: &Table, absmax: f32) -> [u16; 16] {
        table.values.map(|value| bf16::from_f32(value * absmax).to_bits())
    }

    #[inline(always)]
    fn wide_values(self, values: [u32; 16], codes: &[u8], out: &mut [u32]) {
        write_wide(&values, codes, out);
    }

    #[inline(always)]
    fn half_pairs(self, values: [u16; 16], codes: &[u8], out: &mut [u32]) {
        write_half(&values, codes, out);
    }
}

impl LineOps for PlainCodes {
    type Line = [u32; 16];

    #[inline(always)]
    fn wide_line(self, values: &[u32; 16], codes: &[u8; 8]) -> [u32; 16] {
        let mut line = [0; 16];
        write_wide(values, codes, &mut line);
        line
    }

    #[inline(always)]
    fn half_line(self, values: &[u16; 16], codes: &[u8; 16]) -> [u32; 16] {
        let mut line = [0; 16];
        write_half(values, codes, &mut line);
        line
    }

    #[inline(always)]
    fn join(self, n: usize, first: [u32; 16], second: [u32; 16]) -> [u32; 16] {
        std::array::from_fn(|i| if i < n { first[i] } else { second[i] })
    }

    #[inline(always)]
    unsafe fn store(self, line: [u32; 16], out: &mut Line, _: Way) {
        out.0 = line;
    }
}

#[inline(always)]
fn write_wide(values: &[u32; 16], codes: &[u8], out: &mut [u32]) {
    for ([high, low], byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(codes) {
        *high = values[usize::from(byte >> 4)];
        *low = values[usize::from(byte & 15)];
    }
}

#[inline(always)]
fn write_half(values: &[u16; 16], codes: &[u8], out: &mut [u32]) {
    for (out, byte) in out.iter_mut().zip(codes) {
        let low = values[usize::from(byte & 15)];
        *out = u32::from(values[usize::from(byte >> 4)]) | u32::from(low) << 16;
    }
}

/// A task that is compiled for each instruction set. Write `run` as `#[inline(always)]`.
pub(super) trait Task {
    fn run(self, ops: impl LineOps);
}

/// Runs a task with what `isa` has.
pub(super) fn run(isa: Isa, task: impl Task) {
    match isa.for_f32() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves that this CPU has what `run_avx2` enables.
        Isa::Avx2(_) => unsafe { run_avx2(task) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token proves that this CPU has what `run_avx512` enables.
        Isa::Avx512(_) => unsafe { run_avx512(task) },
        _ => task.run(PlainCodes),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn run_avx2(task: impl Task) {
    task.run(Avx2Codes::here());
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
fn run_avx512(task: impl Task) {
    task.run(Avx512Codes::here());
}
