//! What a microkernel is to the loops around it, and the one in plain Rust.
//!
//! ```text
//! sums[r][j] = Σ_p a[p][r] · b[p][j]      p ascending, one rounding a step (portable: two; AMX: amx.rs)
//! ```
//! What becomes of the sums, `output.rs` says.
//! Every kernel adds the products of one element of `c` in an order that `k` alone decides, whatever
//! the tile's height and wherever it lies. So the bits of an element depend on its row of `a`, its column of
//! `b` and `k` only. Nothing here decides how `c` is cut into tiles.

use super::output::{Rows, Tile};
use super::pack::{Encoding, Panel, PlainOps, pack_panel};

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
    /// The same where `b` has to be unpacked, which is done again by fewer tasks then, or where sums are
    /// held, which are passed less often: three blocks of k for as many rows as are packed at once.
    const A_WORDS_LARGE: usize = 528 * 1024;
    /// Rows of `a` that a task packs rather than all of k: with fewer, packing `b` again would cost
    /// more than the passes over `c`.
    const A_ROWS_MIN: usize = 1032;
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
    match c.rows() {
        Ok(Rows::F32(rows)) => rows.put(&sums),
        Ok(Rows::Bf16(rows)) => rows.put(&sums),
        Err(c) => c.put(&sums),
    }
}
