//! What a task of a product does: the loops around the microkernels.
//!
//! ```text
//! for groups of blocks of all terms' k     as many as fit A_WORDS, or A_WORDS_LARGE
//!   pack a's rows of the group             read on and on from the L2 or L3 cache
//!   for panels of NR columns
//!     for runs of blocks                   as many as fit B_WORDS
//!       pack b's panels of the run         stay in the L1 or L2 cache
//!       for panels of MR rows              a tile of c stays in the L1 cache
//!         for blocks of k in the run: microkernel
//! ```
//! Sums that go on from block to block as f32 while `c` is bf16 are held for a tile, for a panel or for all
//! of the rectangle, as far as those loops have come before the last block. Nothing here chooses the
//! rectangle.

use super::Mat;
use super::blocks::{Block, HELD_MAX, Product, runs, words_of};
use super::kernel::Kernel;
use super::output::Step;
use super::pack::Panel;
use std::cell::RefCell;
use std::ops::Range;

/// Tiles of a panel of `b` up to which its successor is fetched while the panel is packed: they are too
/// short to wait for memory meanwhile.
const FEW_TILES: usize = 4;

/// Words of k that are packed for all columns before the next, where packing goes along the rows of `b`.
const WORDS_AT_ONCE: usize = 16;

/// Words of a buffer of packed panels at first: more is rarely needed.
const PACKED_AT_FIRST: usize = 512 * 1024;

thread_local! {
    /// They are made once and used again.
    static BUFFERS: RefCell<Buffers> = const { RefCell::new(Buffers::new()) };
}

/// What a thread holds while it computes: packed panels of `a` and of `b`, and sums.
struct Buffers {
    a: Vec<u32>,
    b: Vec<u32>,
    sums: Vec<f32>,
}

impl Buffers {
    const fn new() -> Buffers {
        Buffers { a: Vec::new(), b: Vec::new(), sums: Vec::new() }
    }
}

/// The sums of a task between two blocks of k: `[panels, rows, NR]`, where a stride is 0 if the sums of
/// one panel or tile are in `c` before the next begins.
struct Held<'a> {
    sums: &'a mut [f32],
    panel_stride: usize,
    row_stride: usize,
}

/// How much of `c` has its sums held at a time: what is computed for one block of k before the next.
#[derive(Clone, Copy, PartialEq)]
enum Span {
    Nothing,
    Tile,
    Panel,
    Rectangle,
}

impl<'a> Held<'a> {
    fn new<K: Kernel>(
        span: Span,
        (height, panels): (usize, usize),
        buffer: &'a mut Vec<f32>,
    ) -> Held<'a> {
        let (panel_stride, row_stride, len) = match span {
            Span::Nothing => (0, 0, 0),
            Span::Tile => (0, 0, K::MR * K::NR),
            Span::Panel => (0, K::NR, height * K::NR),
            Span::Rectangle => (height * K::NR, K::NR, panels * height * K::NR),
        };
        Held { sums: aligned(buffer, len, HELD_MAX), panel_stride, row_stride }
    }

    /// From a row of a panel on.
    fn at(&mut self, panel: usize, row: usize) -> &mut [f32] {
        &mut self.sums[panel * self.panel_stride + row * self.row_stride..]
    }
}

/// The rectangle of `c` that a task computes, and what it holds meanwhile.
struct Place<'a> {
    rows: Range<usize>,
    cols: Range<usize>,
    b_buffer: &'a mut Vec<u32>,
    held: Held<'a>,
}

/// The tiles of one panel of `b`, for some blocks of k.
struct Run<'a> {
    rows: Range<usize>,
    cols: Range<usize>,
    /// Which of the task's panels it is.
    panel: usize,
    blocks: &'a [Block],
    /// `a`'s rows and `b`'s panel, one block after another.
    a_packed: &'a [u32],
    b_packed: &'a [u32],
}

impl<K: Kernel> Product<'_, K> {
    /// Computes the rectangle `rows` × `cols` of `c`.
    pub(super) fn task(&self, rows: Range<usize>, cols: Range<usize>) {
        let height = rows.len().next_multiple_of(K::ROW_STEP);
        let groups = || runs(&self.blocks, self.a_words / height);
        // With few rows packing is most of the work, and the way through memory decides.
        let along_rows = rows.len() <= FEW_TILES * K::MR && self.has_rows_of_b();
        let span = match groups().count() {
            _ if !self.c.holds_sums() || self.blocks.len() == 1 => Span::Nothing,
            1 if !along_rows => match runs(&self.blocks, K::B_WORDS / K::NR).count() {
                1 => Span::Tile,
                _ => Span::Panel,
            },
            _ => Span::Rectangle,
        };
        let session = self.kernel.start();
        BUFFERS.with_borrow_mut(|Buffers { a, b, sums }| {
            let size = (height, cols.len().div_ceil(K::NR));
            let held = Held::new::<K>(span, size, sums);
            let mut place = Place { rows: rows.clone(), cols, b_buffer: b, held };
            for group in groups() {
                let a_packed = aligned(a, height * words_of(group), PACKED_AT_FIRST);
                let mut at = 0;
                for block in group {
                    self.pack_rows(rows.clone(), block, &mut a_packed[at..]);
                    at += height * block.words;
                }
                match along_rows {
                    true => self.columns_along_rows(&session, &mut place, group, a_packed),
                    false => self.columns(&session, &mut place, group, a_packed),
                }
            }
        });
    }

    /// All panels of `b`, one after another, for the blocks of a group, as many as fit B_WORDS at a time.
    fn columns(&self, session: &K::Session, place: &mut Place, group: &[Block], a_packed: &[u32]) {
        let Place { rows, cols, b_buffer, held } = place;
        let height = rows.len().next_multiple_of(K::ROW_STEP);
        let few_tiles = rows.len() <= FEW_TILES * K::MR;
        let parts = || runs(group, K::B_WORDS / K::NR);
        let mut order =
            cols.clone().step_by(K::NR).flat_map(|j| parts().map(move |part| (j, part)));
        let mut next = order.next();
        let mut at = 0;
        while let Some((j, part)) = next {
            let b_packed = aligned(b_buffer, words_of(part) * K::NR, PACKED_AT_FIRST);
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
                panel: (j - cols.start) / K::NR,
                blocks: part,
                a_packed: &a_packed[at..][..height * words_of(part)],
                b_packed,
            };
            self.column_of_tiles(session, run, held, |index, count| {
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

    /// Whether the columns of `b` lie side by side, in all terms.
    fn has_rows_of_b(&self) -> bool {
        self.terms.iter().all(|term| term.b.row_stride != 1)
    }

    /// The same, but one block of k at a time, whose panels are packed together: rows of `b` are read as
    /// they lie in memory.
    fn columns_along_rows(
        &self,
        session: &K::Session,
        place: &mut Place,
        group: &[Block],
        a_packed: &[u32],
    ) {
        let Place { rows, cols, b_buffer, held } = place;
        let height = rows.len().next_multiple_of(K::ROW_STEP);
        let mut at = 0;
        for block in group {
            let a_packed = &a_packed[at..][..height * block.words];
            at += a_packed.len();
            let panel_words = block.words * K::NR;
            let width = (K::A_WORDS / panel_words).max(1) * K::NR;
            for start in cols.clone().step_by(width) {
                let some = start..cols.end.min(start + width);
                let panels = some.len().div_ceil(K::NR);
                let b_packed = aligned(b_buffer, panels * panel_words, PACKED_AT_FIRST);
                self.pack_along_rows(&some, block, b_packed);
                let packed = b_packed.chunks_exact(panel_words);
                for (j, b_packed) in some.clone().step_by(K::NR).zip(packed) {
                    let panel = (j - cols.start) / K::NR;
                    let (rows, cols) = (rows.clone(), j..some.end.min(j + K::NR));
                    let blocks = std::slice::from_ref(block);
                    let run = Run { rows, cols, panel, blocks, a_packed, b_packed };
                    self.column_of_tiles(session, run, held, |_, _| {});
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

    /// All tiles of one panel of `b`. Each is computed for all blocks before the next, so that its sums
    /// stay in the L1 cache. `fetch` asks for a part of what will be packed then.
    fn column_of_tiles(
        &self,
        session: &K::Session,
        run: Run,
        held: &mut Held,
        fetch: impl Fn(usize, usize),
    ) {
        let tiles = run.rows.len().div_ceil(K::MR);
        let height = run.rows.len().next_multiple_of(K::ROW_STEP);
        for (index, i) in run.rows.clone().step_by(K::MR).enumerate() {
            fetch(index, tiles);
            let row = i - run.rows.start;
            let rows = K::MR.min(run.rows.end - i);
            let (mut a, mut b) = (run.a_packed, run.b_packed);
            for block in run.blocks {
                let a_panel =
                    &a[row * block.words..][..rows.next_multiple_of(K::ROW_STEP) * block.words];
                let b_panel = &b[..block.words * K::NR];
                let step = Step {
                    alpha: self.terms[block.term].alpha,
                    is_first: block.index == 0,
                    is_last: block.index + 1 == self.blocks.len(),
                };
                let (corner, size) = ((i, run.cols.start), (rows, run.cols.len()));
                // SAFETY: tasks have disjoint rectangles, and a task has one tile at a time.
                let c = unsafe { self.c.tile(corner, size, step, held.at(run.panel, row)) };
                self.kernel.tile(session, rows, a_panel, b_panel, c);
                (a, b) = (&a[height * block.words..], &b[block.words * K::NR..]);
            }
        }
    }
}

/// `len` elements of the buffer from a 64-byte boundary on: a vector load then touches one cache line.
fn aligned<T: Copy + Default>(buffer: &mut Vec<T>, len: usize, at_first: usize) -> &mut [T] {
    let line = 64 / size_of::<T>();
    if buffer.len() < len + line {
        // Once, and for good: pages that are never written to cost nothing, growing in steps would.
        *buffer = Vec::new();
        *buffer = vec![T::default(); len.max(at_first) + line];
    }
    let offset = buffer.as_ptr().align_offset(64).min(line);
    &mut buffer[offset..offset + len]
}
