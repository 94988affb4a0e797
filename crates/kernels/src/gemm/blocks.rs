//! How a product is cut: into rectangles of `c`, one for each task, and k into blocks.
//!
//! Tasks share nothing that is written, so they need no barrier; a panel of `b` is packed again by
//! each task of other rows, which costs as much as about PACK_COST multiply-adds an element. Which
//! task computes an element never changes how: the cut may depend on the number of threads, the bits do not.
//! A sum of products is one product whose k goes on: the second finds the sums of the first in the cache.
//! What a task does, `task.rs` says.

use super::kernel::Kernel;
use super::output::{Output, Target};
use super::{Elements, Term};
use rayon::prelude::*;

/// Products (m·n·k) below which waking another thread costs more than it saves.
const SERIAL_WORK: usize = 1 << 18;

/// Sums that a task holds for its whole rectangle, 8 MiB, where not all blocks of k fit at once. Fewer
/// would cut columns, and `a` would be packed again for each cut.
pub(super) const HELD_MAX: usize = 1032 * 2048;

/// Rows of a cut are a multiple of this. That of a tile would be cheaper for a task, but one of two tasks would
/// have up to a tile more than the other.
const ROWS_STEP: usize = 4;

/// Multiply-adds that take as long as what each of so many waits for, where packed rows of `a` come from the L3
/// cache.
const STREAMING: usize = 32;

/// Rows below which sums of f32 aren't held.
const HELD_ROWS_MIN: usize = 1024;

/// A block of one term's k.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// Its place among those of all terms.
    pub(super) index: usize,
    pub(super) term: usize,
    /// First element of k, and how many.
    pub(super) start: usize,
    pub(super) len: usize,
    /// Words of k that it is packed to.
    pub(super) words: usize,
}

/// The blocks of a term, as equal as they can be, so that the last is not a stub.
fn blocks_of<K: Kernel>(kernel: K, term: usize, k: usize) -> impl Iterator<Item = Block> {
    let per_word = kernel.encoding().per_word();
    let words = k.div_ceil(per_word).max(1);
    let size = words.div_ceil(words.div_ceil(K::K_BLOCK)).next_multiple_of(K::K_STEP) * per_word;
    (0..k).step_by(size).map(move |start| {
        let len = size.min(k - start);
        let words = len.div_ceil(per_word).next_multiple_of(K::K_STEP);
        Block { index: 0, term, start, len, words }
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
    fn new<K: Kernel>(
        (m, n): (usize, usize),
        blocks: &[Block],
        (a_words, held_max): (usize, usize),
        threads: usize,
    ) -> Cut {
        let longest = blocks.iter().map(|block| block.words).max().unwrap_or(1);
        let all: usize = blocks.iter().map(|block| block.words).sum();
        // All of k at a time, so that c is passed once; but b is packed again by each cut of rows.
        let fitting = (a_words / all).max(K::A_ROWS_MIN).min(a_words / longest);
        let max_rows = (fitting / K::MR).max(1) * K::MR;
        let min_row_cuts = m.div_ceil(max_rows);
        let k = blocks.iter().map(|block| block.len).sum();
        let work = m.saturating_mul(n).saturating_mul(k);
        // Where not all of k fits, sums are held for the rectangle.
        let cut = |rows: usize, cols: usize| {
            let rows = rows.next_multiple_of(K::ROW_STEP.max(ROWS_STEP));
            let cols_max = (held_max / rows / K::NR).max(1) * K::NR;
            Cut { rows, cols: if rows * all > a_words { cols.min(cols_max) } else { cols } }
        };
        let whole = cut(m.min(max_rows), n);
        if threads == 1 || work < SERIAL_WORK {
            return whole;
        }
        // One task a thread packs least; several share better where another program holds a core.
        let wanted = [threads, 2 * threads, 4 * threads, 8 * threads];
        let cuts = wanted.iter().flat_map(|&tasks| {
            (min_row_cuts..=min_row_cuts.max(tasks)).map(move |row_cuts| {
                let cols = n.div_ceil(tasks.div_ceil(row_cuts)).next_multiple_of(K::NR);
                cut(m.div_ceil(row_cuts), cols)
            })
        });
        cuts.min_by_key(|cut| {
            let waves = cut.tasks(m, n).div_ceil(threads);
            let products = cut.rows * cut.cols;
            let streams = cut.rows * all.min(a_words / cut.rows) > K::A_WORDS;
            let streaming = if streams { products / STREAMING } else { 0 };
            waves * (products + streaming + K::PACK_COST * (cut.rows + cut.cols))
        })
        .unwrap_or(whole)
    }

    fn tasks(&self, m: usize, n: usize) -> usize {
        m.div_ceil(self.rows) * n.div_ceil(self.cols)
    }
}

/// A sum of products, as its tasks see it.
pub(super) struct Product<'a, K> {
    pub(super) kernel: K,
    pub(super) terms: &'a [Term<'a>],
    pub(super) blocks: Vec<Block>,
    /// Words of packed `a` that a task holds.
    pub(super) a_words: usize,
    pub(super) c: Output<'a>,
}

/// `Σ alpha · a · b` with one kernel, stored as `target` says. The caller checked shapes; none of them is 0.
pub(super) fn product<K: Kernel>(kernel: K, terms: &[Term], target: Target) {
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
    let mut blocks: Vec<Block> =
        turned.iter().enumerate().flat_map(|(i, x)| blocks_of(kernel, i, x.a.cols)).collect();
    blocks.iter_mut().enumerate().for_each(|(index, block)| block.index = index);
    // Of few rows or blocks, the passes over `c` cost less than the memory to pack all of k.
    let may_hold =
        rows >= HELD_ROWS_MIN && blocks.len() >= 4 && words_of(&blocks) <= K::B_WORDS / K::NR;
    let c = Output::new(target, (m, n), transposed, (K::NR, may_hold));
    let unpacks = turned.iter().any(|x| matches!(x.b.data, Elements::FourBits(_)));
    let a_words = if unpacks || c.holds_sums() { K::A_WORDS_LARGE } else { K::A_WORDS };
    let held_max = if c.holds_sums() { HELD_MAX } else { usize::MAX };
    let threads = rayon::current_num_threads();
    let cut = Cut::new::<K>((rows, cols), &blocks, (a_words, held_max), threads);
    let product = Product { kernel, terms: &turned, blocks, a_words, c };
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

pub(super) fn words_of(blocks: &[Block]) -> usize {
    blocks.iter().map(|block| block.words).sum()
}

/// The blocks in runs of at most `words_max` words, or of one.
pub(super) fn runs(blocks: &[Block], words_max: usize) -> impl Iterator<Item = &[Block]> {
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
