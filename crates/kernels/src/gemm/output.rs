//! Where the sums of a product start and where they go: `c` and a bias, seen by tasks as tiles.
//!
//! ```text
//! end[r][j] = start[r][j] + alpha · sums[r][j]
//! start       nothing, `c` or a bias before the first block of k; then what the block before left
//! end         `c`; if that is bf16, or bad to pass often, a place that the task holds up to the last block
//! ```
//! So an element is rounded to bf16 once. Nothing here multiplies operands.

use super::Store;
use crate::value::Value;
use half::bf16;
use std::marker::PhantomData;

/// Bytes after which addresses fall into the same sets of an L1 cache.
const PAGE: usize = 4096;

/// What a product is stored in, row-major, and what its sums start from.
pub(super) enum Target<'c> {
    F32(&'c mut [f32], Store),
    /// Overwritten; a bias is one value for each column.
    Bf16(&'c mut [bf16], Option<&'c [f32]>),
}

/// The matrix `c` as the tasks of one product share it.
pub(super) struct Output<'c> {
    /// As the product is computed: transposed, these are the columns and rows of `c`.
    rows: usize,
    cols: usize,
    start: Option<Place<f32>>,
    end: End,
    /// Columns of a tile at most: sums are held in rows of so many.
    width: usize,
    holds_sums: bool,
    of: PhantomData<&'c mut f32>,
}

// SAFETY: the pointers are those of slices, `end` of a `&mut`, which may move between threads;
// `Output::tile`, whose caller promises that no two live tiles overlap, is the only way to their elements.
unsafe impl Send for Output<'_> {}
// SAFETY: as above; a shared `Output` gives out disjoint tiles only.
unsafe impl Sync for Output<'_> {}

/// A block of k among all those of a product.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) alpha: f32,
    pub(super) is_first: bool,
    pub(super) is_last: bool,
}

/// The part of a product that a microkernel computes, for one block of k.
pub(crate) struct Tile<'c> {
    rows: usize,
    cols: usize,
    /// What [`whole`] makes of them, if all rows are contiguous where the tile starts and ends; else 0.
    whole: u64,
    alpha: f32,
    start: Option<Place<f32>>,
    end: End,
    of: PhantomData<&'c mut f32>,
}

/// The rows of a tile that has R of N contiguous elements wherever it starts and ends.
pub(super) enum Rows<'c, const R: usize, const N: usize> {
    F32(RowsOf<'c, f32, R, N>),
    Bf16(RowsOf<'c, bf16, R, N>),
}

pub(super) struct RowsOf<'c, T, const R: usize, const N: usize> {
    alpha: f32,
    start: Option<Place<f32>>,
    end: Place<T>,
    of: PhantomData<&'c mut f32>,
}

/// Rows and columns as one number: kernels compare it once.
#[inline(always)]
fn whole(rows: usize, cols: usize) -> u64 {
    (rows as u64) << 32 | cols as u64
}

/// Where the elements of a matrix lie. What sums start from is never written through it.
#[derive(Clone, Copy)]
struct Place<T> {
    first: *mut T,
    row_stride: usize,
    col_stride: usize,
}

#[derive(Clone, Copy)]
enum End {
    F32(Place<f32>),
    Bf16(Place<bf16>),
}

impl<T> Place<T> {
    /// Rows of `cols`; strides swap if the product is computed transposed.
    fn new(elements: &mut [T], cols: usize, transposed: bool) -> Place<T> {
        let (row_stride, col_stride) = if transposed { (1, cols) } else { (cols, 1) };
        Place { first: elements.as_mut_ptr(), row_stride, col_stride }
    }

    /// Where element (i, j) lies.
    ///
    /// # Safety
    /// - It lies inside of the slice that the place was made of.
    #[inline(always)]
    unsafe fn at(&self, i: usize, j: usize) -> *mut T {
        // SAFETY: the element lies inside, as the caller promises.
        unsafe { self.first.add(i * self.row_stride + j * self.col_stride) }
    }

    /// The same place from element (i, j) on.
    ///
    /// # Safety
    /// - As for [`Place::at`].
    #[inline(always)]
    unsafe fn from(self, (i, j): (usize, usize)) -> Place<T> {
        // SAFETY: as the caller promises.
        Place { first: unsafe { self.at(i, j) }, ..self }
    }

    /// Calls `fetch` for the cache lines of `rows` rows of `cols` contiguous elements.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn fetch(&self, rows: usize, cols: usize, fetch: impl Fn(*const u8)) {
        for r in 0..rows {
            let row = self.first.wrapping_add(r * self.row_stride).cast::<u8>();
            let bytes = cols * size_of::<T>();
            for byte in (0..bytes).step_by(64) {
                fetch(row.wrapping_add(byte));
            }
            fetch(row.wrapping_add(bytes - 1));
        }
    }
}

impl Place<f32> {
    /// Whether rows lie whole pages apart: those of a tile then share so few sets of a cache that they
    /// drive each other out of it.
    #[inline(always)]
    fn rows_collide(&self) -> bool {
        self.col_stride == 1 && (self.row_stride * size_of::<f32>()).is_multiple_of(PAGE)
    }

    /// One value for each column of every row.
    fn bias(bias: &[f32], transposed: bool) -> Place<f32> {
        let (row_stride, col_stride) = if transposed { (1, 0) } else { (0, 1) };
        Place { first: bias.as_ptr().cast_mut(), row_stride, col_stride }
    }
}

impl<'c> Output<'c> {
    /// `c` is `[m, n]`, and `target` has what belongs to that; `width` is that of the tiles. Where sums of f32
    /// may be held, they are if rows of `c` are in each other's way.
    pub(super) fn new(
        target: Target<'c>,
        (m, n): (usize, usize),
        transposed: bool,
        (width, may_hold): (usize, bool),
    ) -> Output<'c> {
        let (start, end) = match target {
            Target::F32(c, store) => {
                assert_eq!(c.len(), m * n);
                let c = Place::new(c, n, transposed);
                ((store == Store::Add).then_some(c), End::F32(c))
            }
            Target::Bf16(c, bias) => {
                assert!(c.len() == m * n && bias.is_none_or(|bias| bias.len() == n));
                let start = bias.map(|bias| Place::bias(bias, transposed));
                (start, End::Bf16(Place::new(c, n, transposed)))
            }
        };
        let (rows, cols) = if transposed { (n, m) } else { (m, n) };
        let holds_sums = match end {
            End::F32(c) => may_hold && c.rows_collide(),
            End::Bf16(_) => true,
        };
        Output { rows, cols, start, end, width, holds_sums, of: PhantomData }
    }

    /// Whether sums are in another place than `c` between two blocks of k.
    #[inline(always)]
    pub(super) fn holds_sums(&self) -> bool {
        self.holds_sums
    }

    /// The tile of `rows` × `cols` elements whose first is (i, j). Between two blocks of k its sums are
    /// `held`, if they need to be.
    ///
    /// # Safety
    /// - No other tile that is alive overlaps this one.
    #[inline(always)]
    pub(super) unsafe fn tile<'t>(
        &'t self,
        (i, j): (usize, usize),
        (rows, cols): (usize, usize),
        step: Step,
        held: &'t mut [f32],
    ) -> Tile<'t> {
        assert!(rows > 0 && i + rows <= self.rows && cols > 0 && j + cols <= self.cols);
        // SAFETY: `c` has all rows and columns, and what sums start from has a place for each, as `new`
        // checked; (i, j) is one of them, as just checked.
        let (origin, c) = unsafe {
            let c = match self.end {
                End::F32(c) => End::F32(c.from((i, j))),
                End::Bf16(c) => End::Bf16(c.from((i, j))),
            };
            (self.start.map(|start| start.from((i, j))), c)
        };
        let between = match c {
            End::F32(c) if !self.holds_sums() => c,
            _ => {
                let needed = !(step.is_first && step.is_last);
                assert!(!needed || rows * self.width <= held.len() && cols <= self.width);
                Place::new(held, self.width, false)
            }
        };
        let start = if step.is_first { origin } else { Some(between) };
        let end = if step.is_last { c } else { End::F32(between) };
        let end_stride = match end {
            End::F32(end) => end.col_stride,
            End::Bf16(end) => end.col_stride,
        };
        let contiguous = end_stride == 1 && start.is_none_or(|start| start.col_stride == 1);
        let whole = if contiguous { whole(rows, cols) } else { 0 };
        Tile { rows, cols, whole, alpha: step.alpha, start, end, of: PhantomData }
    }
}

impl<'c> Tile<'c> {
    /// Whether the tile has `rows` rows of N contiguous elements wherever it starts and ends.
    #[inline(always)]
    fn is_whole<const N: usize>(&self, rows: usize) -> bool {
        self.whole == whole(rows, N)
    }

    /// The rows of a tile that has R whole ones, else the tile.
    #[inline(always)]
    pub(super) fn rows<const R: usize, const N: usize>(self) -> Result<Rows<'c, R, N>, Tile<'c>> {
        let Tile { alpha, start, of, .. } = self;
        match self.end {
            _ if !self.is_whole::<N>(R) => Err(self),
            End::F32(end) => Ok(Rows::F32(RowsOf { alpha, start, end, of })),
            End::Bf16(end) => Ok(Rows::Bf16(RowsOf { alpha, start, end, of })),
        }
    }

    /// Calls `fetch` for the cache lines of a tile of R whole rows, where it starts and where it ends.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn fetch<const R: usize, const N: usize>(&self, fetch: impl Fn(*const u8)) {
        if !self.is_whole::<N>(R) {
            return;
        }
        let end = match self.end {
            End::F32(end) => {
                end.fetch(R, N, &fetch);
                end.first
            }
            End::Bf16(end) => {
                end.fetch(R, N, &fetch);
                end.first.cast()
            }
        };
        if let Some(start) = self.start.filter(|start| start.first != end) {
            start.fetch(R, N, &fetch);
        }
    }

    /// Stores the tile's part of `sums`, whatever the strides are.
    #[inline(always)]
    pub(super) fn put<const N: usize>(self, sums: &[[f32; N]]) {
        match self.end {
            End::F32(end) => self.put_lines(end, sums),
            End::Bf16(end) => self.put_lines(end, sums),
        }
    }

    /// Goes along the contiguous side of `c`.
    #[inline(always)]
    fn put_lines<T: Value, const N: usize>(&self, end: Place<T>, sums: &[[f32; N]]) {
        let sums = &sums[..self.rows];
        assert!(self.cols <= N);
        // SAFETY: `Output::tile` checked that the tile's rows and columns lie inside of where it starts
        // and ends; this tile alone may touch the latter.
        let put = |r: usize, j: usize, sum: f32| unsafe {
            let product = self.alpha * sum;
            let value = match self.start {
                Some(start) => *start.at(r, j) + product,
                None => product,
            };
            *end.at(r, j) = T::round(value);
        };
        if end.col_stride == 1 {
            for (r, sums) in sums.iter().enumerate() {
                for (j, sum) in sums[..self.cols].iter().enumerate() {
                    put(r, j, *sum);
                }
            }
        } else {
            for j in 0..self.cols {
                for (r, sums) in sums.iter().enumerate() {
                    put(r, j, sums[j]);
                }
            }
        }
    }
}

impl<T: Value, const R: usize, const N: usize> RowsOf<'_, T, R, N> {
    #[inline(always)]
    pub(super) fn alpha(&self) -> f32 {
        self.alpha
    }

    /// What row `r` starts from, if from anything.
    #[inline(always)]
    pub(super) fn start(&self, r: usize) -> Option<&[f32; N]> {
        assert!(r < R);
        // SAFETY: the row's N elements are contiguous and inside, and borrowed; they are written
        // through `&mut self` alone.
        self.start.map(|start| unsafe { &*start.at(r, 0).cast() })
    }

    /// Stores row `r`.
    #[inline(always)]
    pub(super) fn set(&mut self, r: usize, values: &[f32; N]) {
        assert!(r < R);
        // SAFETY: as above, and these rows alone may touch them.
        let out: &mut [T; N] = unsafe { &mut *self.end.at(r, 0).cast() };
        for (out, value) in out.iter_mut().zip(values) {
            *out = T::round(*value);
        }
    }

    /// Stores row `r` as it is.
    #[inline(always)]
    pub(super) fn set_rounded(&mut self, r: usize, values: &[T; N]) {
        assert!(r < R);
        // SAFETY: as above.
        unsafe { *self.end.at(r, 0).cast() = *values };
    }

    /// Stores all rows.
    #[inline(always)]
    pub(super) fn put(mut self, sums: &[[f32; N]; R]) {
        for (r, sums) in sums.iter().enumerate() {
            let mut values = *sums;
            for value in &mut values {
                *value *= self.alpha;
            }
            if let Some(start) = self.start(r) {
                for (value, start) in values.iter_mut().zip(start) {
                    *value += start;
                }
            }
            self.set(r, &values);
        }
    }
}

impl<const R: usize, const N: usize> RowsOf<'_, f32, R, N> {
    /// Where sums may be stored as they are: the first of the rows, and their stride. The bits are those
    /// that [`RowsOf::put`] stores: multiplying by 1 changes none.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn direct(&mut self) -> Option<(*mut f32, usize)> {
        let plain = self.alpha == 1.0 && self.start.is_none();
        plain.then_some((self.end.first, self.end.row_stride))
    }
}
