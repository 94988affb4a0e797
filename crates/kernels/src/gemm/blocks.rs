//! The loops around the microkernels: how a product is cut into tasks and blocks.
//!
//! ```text
//! for each task: a rectangle of c            in parallel
//!   for groups of blocks of all terms' k     as many as fit A_WORDS
//!     pack a's rows of the group             read on and on from the L2 or L3 cache
//!     for panels of NR columns
//!       for runs of blocks                   as many as fit B_WORDS
//!         pack b's panels of the run         stay in the L1 or L2 cache
//!         for panels of MR rows              a tile of c stays in the L1 cache
//!           for blocks of k in the run: microkernel
//! ```
//! Tasks share nothing that is written, so they need no barrier; a panel of `b` is packed again by
//! each task of other rows, which costs as much as about PACK_COST multiply-adds an element. Which
//! task computes an element never changes how: the cut may depend on the number of threads, the bits do not.
//! A sum of products is one product whose k goes on: the second finds the sums of the first in the cache.

use super::kernel::{Kernel, Output};
use super::pack::Panel;
use super::{Mat, Store, Term};
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

/// Products (m·n·k) below which waking another thread costs more than it saves.
const SERIAL_WORK: usize = 1 << 18;

thread_local! {
    /// Packed panels of `a` and `b`. They grow to `Kernel::A_WORDS` and a panel, and are used again.
    static BUFFERS: RefCell<[Vec<u32>; 2]> = const { RefCell::new([const { Vec::new() }; 2]) };
}

/// A block of one term's k.
#[derive(Clone, Copy)]
struct Block {
    term: usize,
    /// First element of k, and how many.
    start: usize,
    len: usize,
    /// Words of k that it is packed to.
    words: usize,
}

/// The blocks of a term, as equal as they can be, so that the last is not a stub.
fn blocks_of<K: Kernel>(kernel: K, term: usize, k: usize) -> impl Iterator<Item = Block> {
    let per_word = kernel.encoding().per_word();
    let words = k.div_ceil(per_word).max(1);
    let size = words.div_ceil(words.div_ceil(K::K_BLOCK)).next_multiple_of(K::K_STEP) * per_word;
    (0..k).step_by(size).map(move |start| {
        let len = size.min(k - start);
        let words = len.div_ceil(per_word).next_multiple_of(K::K_STEP);
        Block { term, start, len, words }
    })
}

/// The rectangles of `c` that tasks compute.
#[derive(Clone, Copy)]
struct Cut {
    rows: usize,
    cols: usize,
}

impl Cut {
    /// Chooses the cut that `threads` should be done with first: whole waves of tasks, each task's
    /// products and what it packs counted.
    fn new<K: Kernel>(m: usize, n: usize, blocks: &[Block], threads: usize) -> Cut {
        let longest = blocks.iter().map(|block| block.words).max().unwrap_or(1);
        let all: usize = blocks.iter().map(|block| block.words).sum();
        // All of k at a time, so that c is passed once; but b is packed again by each cut of rows.
        let fitting = (K::A_WORDS / all).max(K::A_ROWS_MIN).min(K::A_WORDS / longest);
        let max_rows = (fitting / K::MR).max(1) * K::MR;
        let min_row_cuts = m.div_ceil(max_rows);
        let k = blocks.iter().map(|block| block.len).sum();
        let work = m.saturating_mul(n).saturating_mul(k);
        let whole = Cut { rows: m.min(max_rows).next_multiple_of(K::MR), cols: n };
        if threads == 1 || work < SERIAL_WORK {
            return whole;
        }
        // Two tasks a thread at least: another program may hold one of the cores.
        let wanted = [2 * threads, 4 * threads, 8 * threads];
        let cuts = wanted.iter().flat_map(|&tasks| {
            (min_row_cuts..=min_row_cuts.max(tasks)).map(move |row_cuts| Cut {
                rows: m.div_ceil(row_cuts).next_multiple_of(K::MR),
                cols: n.div_ceil(tasks.div_ceil(row_cuts)).next_multiple_of(K::NR),
            })
        });
        cuts.min_by_key(|cut| {
            let waves = cut.tasks(m, n).div_ceil(threads);
            waves * (cut.rows * cut.cols + K::PACK_COST * (cut.rows + cut.cols))
        })
        .unwrap_or(whole)
    }

    fn tasks(&self, m: usize, n: usize) -> usize {
        m.div_ceil(self.rows) * n.div_ceil(self.cols)
    }
}

/// A sum of products, as its tasks see it.
struct Product<'a, K> {
    kernel: K,
    terms: &'a [Term<'a>],
    blocks: Vec<Block>,
    store: Store,
    c: Output<'a>,
}

/// `c` = or += `Σ alpha · a · b` with one kernel. The caller checked shapes; none of them is 0.
pub(super) fn product<K: Kernel>(kernel: K, terms: &[Term], store: Store, c: &mut [f32]) {
    let (m, n) = (terms[0].a.rows, terms[0].b.cols);
    // A thin result fills the tiles' width with its long side. Multiplication commutes, and the
    // order of the sum stays, so the bits do too.
    let padded = |rows: usize, cols: usize| rows * cols.next_multiple_of(K::NR);
    let transposed = padded(n, m) * 5 < padded(m, n) * 4;
    let turned: Vec<Term> = match transposed {
        true => terms.iter().map(|x| Term { a: x.b.t(), b: x.a.t(), ..*x }).collect(),
        false => terms.to_vec(),
    };
    let (rows, cols) = if transposed { (n, m) } else { (m, n) };
    let blocks: Vec<Block> =
        turned.iter().enumerate().flat_map(|(i, x)| blocks_of(kernel, i, x.a.cols)).collect();
    let cut = Cut::new::<K>(rows, cols, &blocks, rayon::current_num_threads());
    let c = Output::new(c, n, transposed);
    let product = Product { kernel, terms: &turned, blocks, store, c };
    let row_cuts = rows.div_ceil(cut.rows);
    let task = |index: usize| {
        let (i, j) = (index % row_cuts * cut.rows, index / row_cuts * cut.cols);
        product.task(i..rows.min(i + cut.rows), j..cols.min(j + cut.cols));
    };
    match cut.tasks(rows, cols) {
        1 => task(0),
        tasks => (0..tasks).into_par_iter().with_max_len(1).for_each(task),
    }
}

impl<K: Kernel> Product<'_, K> {
    /// Computes the rectangle `rows` × `cols` of `c`.
    fn task(&self, rows: Range<usize>, cols: Range<usize>) {
        let height = rows.len().next_multiple_of(K::ROW_STEP);
        let session = self.kernel.start();
        BUFFERS.with_borrow_mut(|[a_buffer, b_buffer]| {
            let mut first = true;
            for group in runs(&self.blocks, K::A_WORDS / height) {
                let a_packed = aligned(a_buffer, height * words_of(group));
                let mut at = 0;
                for block in group {
                    self.pack_rows(rows.clone(), block, &mut a_packed[at..]);
                    at += height * block.words;
                }
                self.columns(&session, (&rows, &cols), group, (a_packed, b_buffer), first);
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
        let few_tiles = rows.len() <= 4 * K::MR;
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

fn words_of(blocks: &[Block]) -> usize {
    blocks.iter().map(|block| block.words).sum()
}

/// The blocks in runs of at most `words_max` words, or of one.
fn runs(blocks: &[Block], words_max: usize) -> impl Iterator<Item = &[Block]> {
    let mut rest = blocks;
    std::iter::from_fn(move || {
        let mut words = 0;
        let fits = |block: &&Block| {
            words += block.words;
            words <= words_max
        };
        let count = rest.iter().take_while(fits).count().max(1).min(rest.len());
        let (run, after) = rest.split_at(count);
        rest = after;
        (!run.is_empty()).then_some(run)
    })
}

/// `len` words of the buffer from a 64-byte boundary on: a vector load then touches one cache line.
fn aligned(buffer: &mut Vec<u32>, len: usize) -> &mut [u32] {
    if buffer.len() < len + 16 {
        buffer.resize(len + 16, 0);
    }
    let offset = buffer.as_ptr().align_offset(64).min(16);
    &mut buffer[offset..offset + len]
}
