//! What a task of a product does: the loops around the microkernels.
//!
//! ```text
//! for groups of blocks of all terms' k     as many as fit A_WORDS, or A_WORDS_UNPACKING
//!   pack a's rows of the group             read on and on from the L2 or L3 cache
//!   for panels of NR columns
//!     for runs of blocks                   as many as fit B_WORDS
//!       pack b's panels of the run         stay in the L1 or L2 cache
//!       for panels of MR rows              a tile of c stays in the L1 cache
//!         for blocks of k in the run: microkernel
//! ```
//! Nothing here chooses the rectangle.

use super::blocks::{Block, Product, runs, words_of};
use super::kernel::Kernel;
use super::pack::Panel;
use super::{Mat, Store};
use std::cell::RefCell;
use std::ops::Range;

/// Tiles of a panel of `b` up to which its successor is fetched while the panel is packed: they are too
/// short to wait for memory meanwhile.
const FEW_TILES: usize = 4;

/// Words of k that are packed for all columns before the next, where packing goes along the rows of `b`.
const WORDS_AT_ONCE: usize = 16;

/// Words of a buffer at first: more is rarely needed.
const BUFFER_WORDS: usize = 512 * 1024;

thread_local! {
    /// Packed panels of `a` and `b`. They are made once and used again.
    static BUFFERS: RefCell<[Vec<u32>; 2]> = const { RefCell::new([const { Vec::new() }; 2]) };
}

/// The tiles of one panel of `b`, for some blocks of k.
struct Run<'a> {
    rows: Range<usize>,
    cols: Range<usize>,
    blocks: &'a [Block],
    /// `a`'s rows and `b`'s panel, one block after another.
    a_packed: &'a [u32],
    b_packed: &'a [u32],
    store: Store,
}

impl<K: Kernel> Product<'_, K> {
    /// Computes the rectangle `rows` × `cols` of `c`.
    pub(super) fn task(&self, rows: Range<usize>, cols: Range<usize>) {
        let height = rows.len().next_multiple_of(K::ROW_STEP);
        let session = self.kernel.start();
        BUFFERS.with_borrow_mut(|[a_buffer, b_buffer]| {
            let mut first = true;
            for group in runs(&self.blocks, self.a_words / height) {
                let a_packed = aligned(a_buffer, height * words_of(group));
                let mut at = 0;
                for block in group {
                    self.pack_rows(rows.clone(), block, &mut a_packed[at..]);
                    at += height * block.words;
                }
                let place = (&rows, &cols);
                // With few rows packing is most of the work, and the way through memory decides.
                if rows.len() <= FEW_TILES * K::MR && self.has_rows_of_b(group) {
                    self.columns_along_rows(&session, place, group, (a_packed, b_buffer), first);
                } else {
                    self.columns(&session, place, group, (a_packed, b_buffer), first);
                }
                first = false;
            }
        });
    }

    /// All panels of `b`, one after another, for the blocks of a group, as many as fit B_WORDS at a time.
    fn columns(
        &self,
        session: &K::Session,
        (rows, cols): (&Range<usize>, &Range<usize>),
        group: &[Block],
        (a_packed, b_buffer): (&[u32], &mut Vec<u32>),
        first: bool,
    ) {
        let height = rows.len().next_multiple_of(K::ROW_STEP);
        let few_tiles = rows.len() <= FEW_TILES * K::MR;
        let parts = || runs(group, K::B_WORDS / K::NR);
        let mut order =
            cols.clone().step_by(K::NR).flat_map(|j| parts().map(move |part| (j, part)));
        let mut next = order.next();
        let mut at = 0;
        while let Some((j, part)) = next {
            let b_packed = aligned(b_buffer, words_of(part) * K::NR);
            let mut rest = &mut *b_packed;
            for block in part {
                let mut panel = self.b_panel(j, cols, block);
                if few_tiles {
                    panel.ahead = K::NR * panel.lane_stride;
                }
                let (packed, after) = rest.split_at_mut(panel.words());
                self.kernel.pack(&panel, packed);
                rest = after;
            }
            next = order.next();
            let run = Run {
                rows: rows.clone(),
                cols: j..cols.end.min(j + K::NR),
                blocks: part,
                a_packed: &a_packed[at..][..height * words_of(part)],
                b_packed,
                store: if first && at == 0 { self.store } else { Store::Add },
            };
            self.column_of_tiles(session, run, |index, count| {
                if few_tiles {
                    return;
                }
                for (j, block) in next.iter().flat_map(|(j, part)| part.iter().map(|x| (*j, x))) {
                    self.kernel.prefetch(&self.b_panel(j, cols, block), index, count);
                }
            });
            at = (at + height * words_of(part)) % a_packed.len();
        }
    }

    /// Whether the columns of `b` lie side by side, in all blocks of a group.
    fn has_rows_of_b(&self, group: &[Block]) -> bool {
        group.iter().all(|block| self.terms[block.term].b.row_stride != 1)
    }

    /// The same, but one block of k at a time, whose panels are packed together: rows of `b` are read as
    /// they lie in memory.
    fn columns_along_rows(
        &self,
        session: &K::Session,
        (rows, cols): (&Range<usize>, &Range<usize>),
        group: &[Block],
        (a_packed, b_buffer): (&[u32], &mut Vec<u32>),
        first: bool,
    ) {
        let height = rows.len().next_multiple_of(K::ROW_STEP);
        let mut at = 0;
        for block in group {
            let store = if first && at == 0 { self.store } else { Store::Add };
            let a_packed = &a_packed[at..][..height * block.words];
            at += a_packed.len();
            let panel_words = block.words * K::NR;
            let width = (K::A_WORDS / panel_words).max(1) * K::NR;
            for start in cols.clone().step_by(width) {
                let cols = start..cols.end.min(start + width);
                let panels = cols.len().div_ceil(K::NR);
                let b_packed = aligned(b_buffer, panels * panel_words);
                self.pack_along_rows(&cols, block, b_packed);
                let packed = b_packed.chunks_exact(panel_words);
                for (j, b_packed) in cols.clone().step_by(K::NR).zip(packed) {
                    let (rows, cols) = (rows.clone(), j..cols.end.min(j + K::NR));
                    let blocks = std::slice::from_ref(block);
                    let run = Run { rows, cols, blocks, a_packed, b_packed, store };
                    self.column_of_tiles(session, run, |_, _| {});
                }
            }
        }
    }

    /// Packs all panels of `b`, a few rows of all of them before the next.
    fn pack_along_rows(&self, cols: &Range<usize>, block: &Block, b_packed: &mut [u32]) {
        for words in (0..block.words).step_by(WORDS_AT_ONCE) {
            let words = words..block.words.min(words + WORDS_AT_ONCE);
            let packed = b_packed.chunks_exact_mut(block.words * K::NR);
            for (j, packed) in cols.clone().step_by(K::NR).zip(packed) {
                let mut part = self.b_panel(j, cols, block).part(words.clone());
                part.ahead = part.k * part.k_stride;
                self.kernel.pack(&part, &mut packed[words.start * K::NR..words.end * K::NR]);
            }
        }
    }

    /// Packs rows of `a` as panels of MR, one after another; the last has as many as are left.
    fn pack_rows(&self, rows: Range<usize>, block: &Block, a_packed: &mut [u32]) {
        let mut at = 0;
        for i in rows.clone().step_by(K::MR) {
            let height = K::MR.min(rows.end - i);
            let width = height.next_multiple_of(K::ROW_STEP);
            let a = self.terms[block.term].a;
            let mut panel = self.panel(a, i, (height, width), block);
            panel.ahead = K::MR * a.row_stride;
            self.kernel.pack_a(&panel, &mut a_packed[at..][..panel.words()]);
            at += panel.words();
        }
    }

    /// The panel of `b` from column `j` on.
    fn b_panel(&self, j: usize, cols: &Range<usize>, block: &Block) -> Panel<'_> {
        let b = self.terms[block.term].b.t();
        self.panel(b, j, (K::NR.min(cols.end - j), K::NR), block)
    }

    /// The block of `lanes` rows of `x` from `first` on.
    fn panel<'x>(
        &self,
        x: Mat<'x>,
        first: usize,
        (lanes, width): (usize, usize),
        block: &Block,
    ) -> Panel<'x> {
        Panel {
            data: x.data,
            start: first * x.row_stride + block.start * x.col_stride,
            lanes,
            width,
            lane_stride: x.row_stride,
            k_stride: x.col_stride,
            k: block.len,
            k_words: block.words,
            ahead: 0,
            encoding: self.kernel.encoding(),
        }
    }

    /// All tiles of one panel of `b`. Each is computed for all blocks before the next, so that its part
    /// of `c` stays in the L1 cache. `fetch` asks for a part of what will be packed then.
    fn column_of_tiles(&self, session: &K::Session, run: Run, fetch: impl Fn(usize, usize)) {
        let tiles = run.rows.len().div_ceil(K::MR);
        let height = run.rows.len().next_multiple_of(K::ROW_STEP);
        for (index, i) in run.rows.clone().step_by(K::MR).enumerate() {
            fetch(index, tiles);
            let rows = K::MR.min(run.rows.end - i);
            let (mut a, mut b, mut store) = (run.a_packed, run.b_packed, run.store);
            for block in run.blocks {
                let a_panel = &a[(i - run.rows.start) * block.words..]
                    [..rows.next_multiple_of(K::ROW_STEP) * block.words];
                let b_panel = &b[..block.words * K::NR];
                let alpha = self.terms[block.term].alpha;
                let (corner, size) = ((i, run.cols.start), (rows, run.cols.len()));
                // SAFETY: tasks have disjoint rectangles, and a task has one tile at a time.
                let c = unsafe { self.c.tile(corner, size, (alpha, store)) };
                self.kernel.tile(session, rows, a_panel, b_panel, c);
                (a, b) = (&a[height * block.words..], &b[block.words * K::NR..]);
                store = Store::Add;
            }
        }
    }
}

/// `len` words of the buffer from a 64-byte boundary on: a vector load then touches one cache line.
fn aligned(buffer: &mut Vec<u32>, len: usize) -> &mut [u32] {
    if buffer.len() < len + 16 {
        // Once, and for good: pages that are never written to cost nothing, growing in steps would.
        *buffer = Vec::new();
        *buffer = vec![0; len.max(BUFFER_WORDS) + 16];
    }
    let offset = buffer.as_ptr().align_offset(64).min(16);
    &mut buffer[offset..offset + len]
}
