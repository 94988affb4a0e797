//! The loops around the microkernels: how a product is cut into tasks and blocks.
//!
//! ```text
//! for each task: a rectangle of c            in parallel
//!   for groups of blocks of k                as many as fit A_WORDS
//!     pack a's rows of the group             stays in the L2 cache
//!     for panels of NR columns
//!       for blocks of k in the group
//!         pack b's panel                     stays in the L1 cache
//!         for panels of MR rows: microkernel
//! ```
//! Tasks share nothing that is written, so they need no barrier; a panel of `b` is packed again by
//! each task of other rows, which costs as much as about PACK_COST multiply-adds an element. Which
//! task computes an element never changes how: the cut may depend on the number of threads, the bits do not.

use super::kernel::{Kernel, Output};
use super::pack::Panel;
use super::{Mat, Store};
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

/// Products (m·n·k) below which waking another thread costs more than it saves.
const SERIAL_WORK: usize = 1 << 18;

thread_local! {
    /// Packed panels of `a` and `b`. They grow to `Kernel::A_WORDS` and a panel, and are used again.
    static BUFFERS: RefCell<[Vec<u32>; 2]> = const { RefCell::new([const { Vec::new() }; 2]) };
}

/// Blocks of k, in words: as equal as they can be, so that the last is not a stub.
#[derive(Clone, Copy)]
struct KBlocks {
    k: usize,
    per_word: usize,
    step: usize,
    size: usize,
    count: usize,
}

impl KBlocks {
    fn new<K: Kernel>(kernel: K, k: usize) -> KBlocks {
        let per_word = kernel.encoding().per_word();
        let words = k.div_ceil(per_word);
        let size = words.div_ceil(words.div_ceil(K::K_BLOCK)).next_multiple_of(K::K_STEP);
        KBlocks { k, per_word, step: K::K_STEP, size, count: words.div_ceil(size) }
    }

    /// First element and number of elements of a block.
    fn elements(&self, block: usize) -> (usize, usize) {
        let start = block * self.size * self.per_word;
        (start, (self.k - start).min(self.size * self.per_word))
    }

    /// Words of k that a block is packed to.
    fn words(&self, block: usize) -> usize {
        self.elements(block).1.div_ceil(self.per_word).next_multiple_of(self.step)
    }
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
    fn new<K: Kernel>(m: usize, n: usize, k_blocks: &KBlocks, threads: usize) -> Cut {
        let max_rows = (K::A_WORDS / k_blocks.size / K::MR).max(1) * K::MR;
        let min_row_cuts = m.div_ceil(max_rows);
        let work = m.saturating_mul(n).saturating_mul(k_blocks.k);
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

/// One product, as its tasks see it.
struct Product<'a, K> {
    kernel: K,
    a: Mat<'a>,
    b: Mat<'a>,
    store: Store,
    c: Output<'a>,
    k_blocks: KBlocks,
}

/// `c` = or += `alpha · a · b` with one kernel. The caller checked shapes; none of them is 0.
pub(super) fn product<'a, K: Kernel>(
    kernel: K,
    alpha: f32,
    (a, b): (Mat<'a>, Mat<'a>),
    store: Store,
    c: &'a mut [f32],
) {
    let n = b.cols;
    // A thin result fills the tiles' width with its long side. Multiplication commutes, and the
    // order of the sum stays, so the bits do too.
    let padded = |rows: usize, cols: usize| rows * cols.next_multiple_of(K::NR);
    let transposed = padded(b.cols, a.rows) * 5 < padded(a.rows, b.cols) * 4;
    let (a, b) = if transposed { (b.t(), a.t()) } else { (a, b) };
    let c = Output::new(c, n, transposed, alpha);
    let k_blocks = KBlocks::new(kernel, a.cols);
    let cut = Cut::new::<K>(a.rows, b.cols, &k_blocks, rayon::current_num_threads());
    let product = Product { kernel, a, b, store, c, k_blocks };
    let row_cuts = a.rows.div_ceil(cut.rows);
    let task = |index: usize| {
        let (i, j) = (index % row_cuts * cut.rows, index / row_cuts * cut.cols);
        product.task(i..a.rows.min(i + cut.rows), j..b.cols.min(j + cut.cols));
    };
    match cut.tasks(a.rows, b.cols) {
        1 => task(0),
        tasks => (0..tasks).into_par_iter().with_max_len(1).for_each(task),
    }
}

impl<K: Kernel> Product<'_, K> {
    /// Computes the rectangle `rows` × `cols` of `c`.
    fn task(&self, rows: Range<usize>, cols: Range<usize>) {
        let KBlocks { size, count, .. } = self.k_blocks;
        let height = rows.len().next_multiple_of(K::ROW_STEP);
        let group = (K::A_WORDS / (height * size)).clamp(1, count);
        let session = self.kernel.start();
        BUFFERS.with_borrow_mut(|[a_buffer, b_buffer]| {
            let a_packed = aligned(a_buffer, height * size * group);
            let b_packed = aligned(b_buffer, size * K::NR);
            for first in (0..count).step_by(group) {
                let blocks = first..count.min(first + group);
                for (block, a_packed) in blocks.clone().zip(a_packed.chunks_mut(height * size)) {
                    self.pack_rows(rows.clone(), block, a_packed);
                }
                let order = cols
                    .clone()
                    .step_by(K::NR)
                    .flat_map(|j| blocks.clone().map(move |block| (j, block)));
                let mut panels =
                    order.map(|(j, block)| (j, block, self.b_panel(j, &cols, block))).peekable();
                while let Some((j, block, panel)) = panels.next() {
                    let b_packed = &mut b_packed[..panel.words()];
                    self.kernel.pack(&panel, b_packed);
                    let a_packed = &a_packed[(block - first) * height * size..][..height * size];
                    let next = panels.peek().map(|(_, _, panel)| panel);
                    self.column_of_tiles(
                        &session,
                        rows.clone(),
                        (j, panel.lanes),
                        block,
                        (a_packed, b_packed),
                        next,
                    );
                }
            }
        });
    }

    /// Packs rows of `a` as panels of MR, one after another; the last has as many as are left.
    fn pack_rows(&self, rows: Range<usize>, block: usize, a_packed: &mut [u32]) {
        let mut at = 0;
        for i in rows.clone().step_by(K::MR) {
            let height = K::MR.min(rows.end - i);
            let width = height.next_multiple_of(K::ROW_STEP);
            let panel = self.panel(self.a, i, (height, width), block);
            self.kernel.pack_a(&panel, &mut a_packed[at..][..panel.words()]);
            at += panel.words();
        }
    }

    /// The panel of `b` from column `j` on.
    fn b_panel(&self, j: usize, cols: &Range<usize>, block: usize) -> Panel<'_> {
        self.panel(self.b.t(), j, (K::NR.min(cols.end - j), K::NR), block)
    }

    /// The block of `lanes` rows of `x` from `first` on.
    fn panel<'x>(
        &self,
        x: Mat<'x>,
        first: usize,
        (lanes, width): (usize, usize),
        block: usize,
    ) -> Panel<'x> {
        let (p, k) = self.k_blocks.elements(block);
        Panel {
            data: x.data,
            start: first * x.row_stride + p * x.col_stride,
            lanes,
            width,
            lane_stride: x.row_stride,
            k_stride: x.col_stride,
            k,
            k_words: self.k_blocks.words(block),
            encoding: self.kernel.encoding(),
        }
    }

    /// All tiles of one panel of `b`, for one block of k. Meanwhile the next panel is fetched.
    fn column_of_tiles(
        &self,
        session: &K::Session,
        rows: Range<usize>,
        (j, width): (usize, usize),
        block: usize,
        (a_packed, b_packed): (&[u32], &[u32]),
        next: Option<&Panel>,
    ) {
        let words = b_packed.len() / K::NR;
        let store = if block == 0 { self.store } else { Store::Add };
        let tiles = rows.len().div_ceil(K::MR);
        for (index, i) in rows.clone().step_by(K::MR).enumerate() {
            if let Some(next) = next {
                self.kernel.prefetch(next, index, tiles);
            }
            let height = K::MR.min(rows.end - i);
            let a_panel = &a_packed[(i - rows.start) * words..]
                [..height.next_multiple_of(K::ROW_STEP) * words];
            // SAFETY: tasks have disjoint rectangles, and a task has one tile at a time.
            let c = unsafe { self.c.tile((i, j), (height, width), store) };
            self.kernel.tile(session, height, a_panel, b_packed, c);
        }
    }
}

/// `len` words of the buffer from a 64-byte boundary on: a vector load then touches one cache line.
fn aligned(buffer: &mut Vec<u32>, len: usize) -> &mut [u32] {
    if buffer.len() < len + 16 {
        buffer.resize(len + 16, 0);
    }
    let offset = buffer.as_ptr().align_offset(64).min(16);
    &mut buffer[offset..offset + len]
}
