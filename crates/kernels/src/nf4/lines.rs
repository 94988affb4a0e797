//! From codes to whole cache lines of values, each stored at once: where nobody reads soon, past the
//! caches, so that memory is written only, and not read before. Nothing here knows instructions.

use super::FourBitBlocks;
use super::ops::LineOps;
use super::tables::Table;
use super::unpack::Unpacked;
use crate::blocks::ELEMENTS;

/// Words of a cache line.
const WORDS: usize = 16;

/// A cache line of output.
#[repr(align(64))]
pub(crate) struct Line(pub(super) [u32; WORDS]);

/// How lines are stored.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    Cached,
    PastCaches,
}

impl Way {
    /// Elements of a task. A fence waits for what is on its way to memory, so there are few of them.
    pub(super) fn elements(self) -> usize {
        match self {
            Way::Cached => ELEMENTS,
            Way::PastCaches => 16 * ELEMENTS,
        }
    }
}

impl FourBitBlocks<'_> {
    /// Whether lines from element `start` on hold pairs of whole bytes, and none of them more than two
    /// blocks.
    #[inline(always)]
    pub(super) fn fills_lines<T: Unpacked>(&self, start: usize) -> bool {
        (self.first + start).is_multiple_of(2)
            && self.block_size.is_multiple_of(2)
            && self.block_size >= WORDS * T::PER_WORD
    }

    /// Unpacks the elements from `start` on, for which [`FourBitBlocks::fills_lines`].
    ///
    /// # Safety
    /// - After [`Way::PastCaches`] the same thread calls [`fence`] before anything else touches `out`.
    #[inline(always)]
    pub(super) unsafe fn unpack_lines<O: LineOps, T: Unpacked>(
        &self,
        (ops, table): (O, &Table),
        start: usize,
        out: &mut [Line],
        way: Way,
    ) {
        let per_line = WORDS * T::PER_WORD;
        if out.is_empty() {
            return;
        }
        assert!(start + out.len() * per_line <= self.len && self.fills_lines::<T>(start));
        let values = |block| T::values(ops, table, self.scales.absmax(block));
        let codes = T::codes(&self.codes[(self.first + start) / 2..]);
        let mut lines = out.iter_mut().zip(codes);
        let (mut block, inside) = self.place(start);
        // `left` values of the block come after, and `found` has its 16.
        let (mut left, mut found) = (self.block_size - inside, values(block));
        loop {
            for (out, codes) in lines.by_ref().take(left / per_line) {
                // SAFETY: the caller fences.
                unsafe { ops.store(T::line(ops, &found, codes), out, way) };
            }
            left %= per_line;
            if lines.len() == 0 {
                return;
            }
            block += 1;
            let next = values(block);
            if left > 0
                && let Some((out, codes)) = lines.next()
            {
                let (first, second) = (T::line(ops, &found, codes), T::line(ops, &next, codes));
                // SAFETY: the caller fences.
                unsafe { ops.store(ops.join(left / T::PER_WORD, first, second), out, way) };
                left = left + self.block_size - per_line;
            } else {
                left = self.block_size;
            }
            found = next;
        }
    }
}

/// Ends a series of stores past the caches.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn fence() {
    // SAFETY: SSE is part of every x86-64 CPU.
    unsafe { std::arch::x86_64::_mm_sfence() };
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(super) fn fence() {}
