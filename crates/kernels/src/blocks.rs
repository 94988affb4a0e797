//! How work over rows and elements is cut into blocks: by the shapes alone, never by the threads, so
//! that the sums made over the blocks in order are the same bits for any number of threads.

use rayon::prelude::*;

/// Elements of an element-wise block: 64 KiB of f32, well inside a second-level cache.
pub(crate) const ELEMENTS: usize = 16 * 1024;

/// Rows of a block: 16 or more, so that there are at most 64 blocks, whose partial sums stay small.
pub(crate) fn rows_per_block(rows: usize) -> usize {
    rows.div_ceil(64).max(16)
}

/// `sums[j] += Σ_blocks partial[block, j]`, the blocks added in their order.
/// Shapes: sums `[n]` · partial `[blocks, n]`, overwritten.
pub(crate) fn add_partials(partial: &mut [f32], sums: &mut [f32]) {
    if partial.is_empty() {
        return;
    }
    let (total, rest) = partial.split_at_mut(sums.len());
    for block in rest.chunks_exact(total.len()) {
        total.iter_mut().zip(block).for_each(|(total, &x)| *total += x);
    }
    sums.iter_mut().zip(total).for_each(|(sum, &mut x)| *sum += x);
}

/// The slice of each block where a gradient is wanted, `None` for each where it is not.
pub(crate) fn block_slices(
    partial: &mut Option<Vec<f32>>,
    n: usize,
    blocks: usize,
) -> impl IndexedParallelIterator<Item = Option<&mut [f32]>> {
    let slices: Vec<Option<&mut [f32]>> = match partial {
        Some(partial) => partial.chunks_exact_mut(n).map(Some).collect(),
        None => (0..blocks).map(|_| None).collect(),
    };
    slices.into_par_iter()
}

/// Zeroed partial sums `[blocks, n]`, if they are wanted.
pub(crate) fn partials(wanted: bool, n: usize, blocks: usize) -> Option<Vec<f32>> {
    wanted.then(|| vec![0.0; n * blocks])
}
