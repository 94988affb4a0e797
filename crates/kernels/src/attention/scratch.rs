//! Memory of the attention's tasks: a buffer per thread that is kept between calls, and rows of a
//! shared output that tasks write without overlap.

use half::bf16;
use std::cell::Cell;
use std::marker::PhantomData;

/// Vector loads of one cache line must not touch two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);
const LINE: usize = 16;

thread_local! {
    static LINES: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// A part of `len` floats of a [`with_scratch`] buffer, as that buffer's size counts it.
pub(super) fn padded(len: usize) -> usize {
    len.next_multiple_of(LINE)
}

/// Calls `f` with `len` floats of any content that belong to this thread.
pub(super) fn with_scratch<R>(len: usize, f: impl FnOnce(Scratch) -> R) -> R {
    let n_lines = len.div_ceil(LINE);
    // Taken out while in use, so that a call inside `f` would get a buffer of its own.
    let mut lines = LINES.take();
    if lines.len() < n_lines {
        lines.resize(n_lines, Line([0.0; LINE]));
    }
    let floats: *mut f32 = lines.as_mut_ptr().cast();
    // SAFETY: `Line` is `repr(C)` of 16 floats without padding, so the lines are `n_lines * 16`
    // floats in a row; `lines` outlives the slice and isn't touched while it lives.
    let rest = unsafe { std::slice::from_raw_parts_mut(floats, n_lines * LINE) };
    let result = f(Scratch { rest });
    LINES.set(lines);
    result
}

/// What is left of a buffer.
pub(super) struct Scratch<'a> {
    rest: &'a mut [f32],
}

impl<'a> Scratch<'a> {
    /// The next `len` floats, aligned to a cache line; of any content.
    pub(super) fn take(&mut self, len: usize) -> &'a mut [f32] {
        let (part, rest) = std::mem::take(&mut self.rest).split_at_mut(padded(len));
        self.rest = rest;
        &mut part[..len]
    }

    /// As `take`, for words of 32 bits.
    pub(super) fn take_words(&mut self, len: usize) -> &'a mut [u32] {
        let part = self.take(len);
        // SAFETY: f32 and u32 have one size and one alignment, and any bits are a value of either.
        unsafe { std::slice::from_raw_parts_mut(part.as_mut_ptr().cast(), len) }
    }

    /// As `take`, for `len` values of 16 bits: `len / 2` floats.
    pub(super) fn take_bf16(&mut self, len: usize) -> &'a mut [bf16] {
        let part = self.take(len.div_ceil(2));
        // SAFETY: `part` has two bf16 for each float, its alignment is that of a float at least, and any
        // bits are a value of either.
        unsafe { std::slice::from_raw_parts_mut(part.as_mut_ptr().cast(), len) }
    }
}

/// Words as the f32s whose bits they are.
pub(super) fn as_floats_mut(words: &mut [u32]) -> &mut [f32] {
    // SAFETY: f32 and u32 have one size and one alignment, and any bits are a value of either.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len()) }
}

/// Words as the f32s whose bits they are.
pub(super) fn as_floats(words: &[u32]) -> &[f32] {
    // SAFETY: f32 and u32 have one size and one alignment, and any bits are a value of either.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len()) }
}

/// A matrix `[rows, heads·width]` whose cells `(row, head)` are written by different threads.
pub(super) struct HeadCells<'a, T = f32> {
    data: *mut T,
    rows: usize,
    heads: usize,
    width: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: the only access is `cell`, whose caller promises that no cell is held twice at a time; its
// values may go to another thread.
unsafe impl<T: Send> Sync for HeadCells<'_, T> {}

impl<'a, T> HeadCells<'a, T> {
    /// Panics unless `data` has whole rows.
    pub(super) fn new(data: &'a mut [T], heads: usize, width: usize) -> HeadCells<'a, T> {
        assert_eq!(data.len() % (heads * width), 0, "attention: whole rows of heads");
        let rows = data.len() / (heads * width);
        HeadCells { data: data.as_mut_ptr(), rows, heads, width, borrow: PhantomData }
    }

    /// The `width` values of one row and head.
    ///
    /// # Safety
    /// - No other cell of the same row and head is held while this one lives.
    #[expect(clippy::mut_from_ref, reason = "cells are disjoint by the caller's promise")]
    pub(super) unsafe fn cell(&self, row: usize, head: usize) -> &mut [T] {
        assert!(row < self.rows && head < self.heads, "attention: cell outside the matrix");
        let start = (row * self.heads + head) * self.width;
        // SAFETY: `start + width` is at most `rows · heads · width`, the length of the borrowed
        // slice; the caller promises that nobody else holds this part of it.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), self.width) }
    }
}
