//! What a microkernel is to the loops around it, where its sums go, and the one in plain Rust.
//!
//! ```text
//! sums[r][j] = Σ_p a[p][r] · b[p][j]      p ascending, one rounding a step (portable: two; AMX: amx.rs)
//! c[r][j]    = or += alpha · sums[r][j]
//! ```
//! Every kernel adds the products of one element of `c` in an order that `k` alone decides, whatever
//! the tile's height and wherever it lies. So the bits of an element depend on its row of `a`, its column of
//! `b` and `k` only. Nothing here decides how `c` is cut into tiles.

use super::Store;
use super::pack::{Encoding, Panel, PlainOps, pack_panel};
use std::marker::PhantomData;

/// The arithmetic of one instruction set at one precision.
///
/// Panels are of 32-bit words: an f32's bits, or two neighbours in k as bf16 (see [`Encoding`]).
pub(crate) trait Kernel: Copy + Send + Sync {
    /// What a thread has to hold while it computes tiles.
    type Session;

    /// Rows of the tallest tile, and columns of every tile.
    const MR: usize;
    const NR: usize;
    /// Rows of a panel of `a`, and words of k of any panel, are a multiple of these. Zeros fill it up.
    const ROW_STEP: usize = 1;
    const K_STEP: usize = 1;
    /// Words of k summed in registers before they are added to `c`: so many that a panel of `b`
    /// with one of `a` fits the L1 cache. It decides the rounding, so it is a constant; a multiple
    /// of `K_STEP`.
    const K_BLOCK: usize;
    /// Words of packed `a` that a task holds, 720 KiB. A tile reads 12 rows in a run while it computes 32
    /// columns: at 2 bytes a cycle the L3 cache is near enough.
    const A_WORDS: usize = 180 * 1024;
    /// The same where `b` has to be unpacked: it is done again by fewer tasks then.
    const A_WORDS_UNPACKING: usize = 512 * 1024;
    /// Rows of `a` that a task packs rather than all of k: with fewer, packing `b` again would cost
    /// more than the passes over `c`.
    const A_ROWS_MIN: usize = 720;
    /// Words of packed `b` that a task holds, 256 KiB: so that a tile of `c` is passed for all blocks of
    /// k while it lies in the L1 cache.
    const B_WORDS: usize = 64 * 1024;
    /// Multiply-adds in the time that packing one element takes, about.
    const PACK_COST: usize = 16;
    /// Multiplications and additions of one round of [`Kernel::spin`].
    const SPIN_FLOPS: usize;

    fn encoding(self) -> Encoding;

    /// Makes this thread ready for tiles until the session is dropped. One session at a time.
    fn start(self) -> Self::Session;

    /// Packs one panel of `b`; `out` is as long as [`Panel::words`] says.
    fn pack(self, panel: &Panel, out: &mut [u32]);

    /// Packs one panel of `a`: the same, unless the tiles read `a` in another order.
    fn pack_a(self, panel: &Panel, out: &mut [u32]) {
        self.pack(panel, out);
    }

    /// Asks for what [`Kernel::pack`] will read, one part of `parts`, where a set can.
    fn prefetch(self, _panel: &Panel, _part: usize, _parts: usize) {}

    /// One tile of `rows` ≤ `MR`: `a` is `[k words, rows]`, `b` `[k words, NR]`, both as packed.
    fn tile(self, session: &Self::Session, rows: usize, a: &[u32], b: &[u32], c: Tile);

    /// The kernel's arithmetic on registers alone, so often: what the peak is measured with.
    fn spin(self, rounds: usize) -> f32;
}

/// The place of a tile in `c`, and what to do with its sums.
pub(crate) struct Tile<'c> {
    corner: *mut f32,
    row_stride: usize,
    col_stride: usize,
    rows: usize,
    cols: usize,
    alpha: f32,
    store: Store,
    of: PhantomData<&'c mut f32>,
}

/// The matrix `c` as the tasks of one product share it.
#[derive(Clone, Copy)]
pub(super) struct Output<'c> {
    first: *mut f32,
    len: usize,
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
    of: PhantomData<&'c mut f32>,
}

// SAFETY: the pointer is that of a `&mut [f32]`, which may move between threads; `Output::tile`,
// whose caller promises that no two live tiles overlap, is the only way to its elements.
unsafe impl Send for Output<'_> {}
// SAFETY: as above; a shared `Output` gives out disjoint tiles only.
unsafe impl Sync for Output<'_> {}

impl<'c> Output<'c> {
    /// `c` is row-major with rows of `cols`; strides swap if the product is computed transposed.
    pub(super) fn new(c: &'c mut [f32], cols: usize, transposed: bool) -> Output<'c> {
        let (row_stride, col_stride) = if transposed { (1, cols) } else { (cols, 1) };
        Output { first: c.as_mut_ptr(), len: c.len(), row_stride, col_stride, of: PhantomData }
    }

    /// The tile of `rows` × `cols` elements whose first is (i, j).
    ///
    /// # Safety
    /// - No other tile that is alive overlaps this one.
    pub(super) unsafe fn tile(
        &self,
        (i, j): (usize, usize),
        (rows, cols): (usize, usize),
        (alpha, store): (f32, Store),
    ) -> Tile<'c> {
        let Output { row_stride, col_stride, .. } = *self;
        let first = i * row_stride + j * col_stride;
        let last = (i + rows - 1) * row_stride + (j + cols - 1) * col_stride;
        assert!(rows > 0 && cols > 0 && last < self.len, "a tile outside of c");
        // SAFETY: `first <= last < len`, just checked.
        let corner = unsafe { self.first.add(first) };
        Tile { corner, row_stride, col_stride, rows, cols, alpha, store, of: PhantomData }
    }
}

impl Tile<'_> {
    /// Whether the tile has `rows` rows of N contiguous elements: then [`Tile::row`] gives them.
    #[inline(always)]
    pub(super) fn is_whole<const N: usize>(&self, rows: usize) -> bool {
        self.rows == rows && self.cols == N && self.col_stride == 1
    }

    /// A row of a whole tile.
    #[inline(always)]
    pub(super) fn row<const N: usize>(&mut self, r: usize) -> &mut [f32; N] {
        assert!(r < self.rows && self.cols == N && self.col_stride == 1);
        // SAFETY: `Output::tile` checked that the tile's last element lies inside of `c`, the N
        // elements of row `r` lie no farther, and no other live tile holds any of them.
        unsafe { &mut *self.corner.add(r * self.row_stride).cast() }
    }

    #[inline(always)]
    pub(super) fn alpha(&self) -> f32 {
        self.alpha
    }

    #[inline(always)]
    pub(super) fn store(&self) -> Store {
        self.store
    }

    /// Where sums may be stored as they are: the first of `rows` rows of N, and their stride. The bits
    /// are those that [`Tile::put`] stores: multiplying by 1 changes none.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn direct<const N: usize>(&mut self, rows: usize) -> Option<(*mut f32, usize)> {
        let plain = self.alpha == 1.0 && self.store == Store::Overwrite;
        (plain && self.is_whole::<N>(rows)).then_some((self.corner, self.row_stride))
    }

    /// Stores the tile's part of `sums`, or adds it to what is there.
    #[inline(always)]
    pub(super) fn put<const N: usize>(self, sums: &[[f32; N]]) {
        assert!(self.rows <= sums.len() && self.cols <= N);
        if self.col_stride != 1 {
            return self.put_columns(sums);
        }
        for (r, sums) in sums[..self.rows].iter().enumerate() {
            // SAFETY: `Output::tile` checked that the tile's last element lies inside of `c`, this
            // row's `cols` elements lie before it, and no other live tile holds any of them.
            let row = unsafe {
                std::slice::from_raw_parts_mut(self.corner.add(r * self.row_stride), self.cols)
            };
            match <&mut [f32; N]>::try_from(&mut *row) {
                Ok(row) => self.put_run(row, sums),
                Err(_) => self.put_run(row, &sums[..self.cols]),
            }
        }
    }

    /// The same for a `c` seen transposed, whose columns are contiguous.
    #[inline(always)]
    fn put_columns<const N: usize>(self, sums: &[[f32; N]]) {
        for j in 0..self.cols {
            // SAFETY: as in `put`, with `rows` contiguous elements (`row_stride` is 1).
            let column = unsafe {
                std::slice::from_raw_parts_mut(self.corner.add(j * self.col_stride), self.rows)
            };
            for (out, sums) in column.iter_mut().zip(sums) {
                let product = self.alpha * sums[j];
                *out = if self.store == Store::Add { *out + product } else { product };
            }
        }
    }

    #[inline(always)]
    fn put_run(&self, out: &mut [f32], sums: &[f32]) {
        match self.store {
            Store::Overwrite => {
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = self.alpha * sum;
                }
            }
            Store::Add => {
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out += self.alpha * sum;
                }
            }
        }
    }
}

/// Calls `$tile::<R> $args` with the constant R that equals `$rows`.
macro_rules! with_rows {
    ($rows:expr, [$($r:literal)*], $tile:ident $args:tt) => {
        match $rows {
            $($r => $tile::<$r> $args,)*
            rows => unreachable!("a tile of {rows} rows"),
        }
    };
}
pub(super) use with_rows;

/// Plain Rust that the compiler vectorises for the target's baseline.
#[derive(Clone, Copy)]
pub(crate) struct Portable(pub(crate) Encoding);

impl Kernel for Portable {
    type Session = ();

    const MR: usize = 4;
    const NR: usize = 8;
    const K_BLOCK: usize = 256;
    const SPIN_FLOPS: usize = 2 * 4 * 8;

    fn encoding(self) -> Encoding {
        self.0
    }

    fn start(self) {}

    fn pack(self, panel: &Panel, out: &mut [u32]) {
        pack_panel(PlainOps, panel, out);
    }

    fn tile(self, _: &(), rows: usize, a: &[u32], b: &[u32], c: Tile) {
        with_rows!(rows, [1 2 3 4], portable_tile(a, b, c))
    }

    fn spin(self, rounds: usize) -> f32 {
        let mut sums = [[0.0f32; 8]; 4];
        let (x, y) = std::hint::black_box((1.0f32, [1e-3f32; 8]));
        for _ in 0..rounds {
            for row in &mut sums {
                for (sum, y) in row.iter_mut().zip(&y) {
                    *sum += x * y;
                }
            }
        }
        sums.as_flattened().iter().sum()
    }
}

fn portable_tile<const R: usize>(a: &[u32], b: &[u32], c: Tile) {
    let mut sums = [[0.0f32; 8]; R];
    for (a, b) in a.as_chunks::<R>().0.iter().zip(b.as_chunks::<8>().0) {
        for r in 0..R {
            for j in 0..8 {
                sums[r][j] += f32::from_bits(a[r]) * f32::from_bits(b[j]);
            }
        }
    }
    c.put(&sums);
}
