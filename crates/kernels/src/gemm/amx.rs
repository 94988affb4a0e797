//! The microkernel for AMX: tiles of 32 × 32 as 2 × 2 of the tile registers, bf16 in and f32 out.
//!
//! ```text
//! even[r][j] = Σ_{p even} a[r][p] · b[p][j]    odd likewise    over steps of 32 elements of k
//! sums[r][j] += even[r][j] + odd[r][j]
//! ```
//! `tdpbf16ps` does one step. It takes subnormal operands as 0 and flushes subnormal results to 0.
//! Steps begin at multiples of 32 in a block of k, so the order is one of `k` alone. The compiler
//! offers no stable intrinsics for tiles: what touches them is assembly, and all of it is here.

use super::kernel::Kernel;
use super::output::{Rows, Tile};
use super::pack::{Encoding, Panel};
use super::tiles::TILE;
use super::x86::fetch_source;
use super::x86_pack::{pack_bf16, pack_tiles_bf16};
use crate::isa::Amx;
use std::arch::asm;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// Pairs of bf16 on AMX.
#[derive(Clone, Copy)]
pub(crate) struct Bf16Amx(Amx);

impl Bf16Amx {
    pub(crate) fn new(proof: Amx) -> Bf16Amx {
        Bf16Amx(proof)
    }
}

/// Proof that this thread's tile registers are configured; they are given back when it is dropped.
/// Not `Send`, since the configuration is the thread's.
pub(crate) struct Session(PhantomData<*const ()>);

/// What `ldtilecfg` reads: eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIG: TileConfig = {
    let mut config = TileConfig {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [0; 16],
        rows: [0; 16],
    };
    let mut tile = 0;
    while tile < 8 {
        config.row_bytes[tile] = 4 * TILE as u16;
        config.rows[tile] = TILE as u8;
        tile += 1;
    }
    config
};

impl Session {
    fn new(_: Amx) -> Session {
        // SAFETY: the token proves that the instruction exists and tiles may be used; `CONFIG` is
        // the 64 bytes that it reads, valid for palette 1.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly)) }
        Session(PhantomData)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: a session exists, so the instruction does; the registers hold nothing any more.
        unsafe { asm!("tilerelease", options(nostack, nomem)) }
    }
}

impl Kernel for Bf16Amx {
    type Session = Session;

    const MR: usize = 2 * TILE;
    const NR: usize = 2 * TILE;
    const ROW_STEP: usize = TILE;
    const K_STEP: usize = TILE;
    /// A panel of `b` is 36 KiB of an L1 cache of 48; those of `a` stream from the L2 cache, at half
    /// a line a cycle.
    const K_BLOCK: usize = 288;
    /// All CPUs with AMX have 2 MiB of L2 cache.
    const A_WORDS: usize = 320 * 1024;
    const A_WORDS_LARGE: usize = Self::A_WORDS;
    const A_ROWS_MIN: usize = usize::MAX;
    /// One panel: tiles are so fast that `b` has to stay in the L1 cache.
    const B_WORDS: usize = Self::K_BLOCK * Self::NR;
    const PACK_COST: usize = 256;
    const SPIN_FLOPS: usize = 4 * 2 * TILE * TILE * 2 * TILE;

    fn encoding(self) -> Encoding {
        Encoding::Pairs
    }

    fn start(self) -> Session {
        Session::new(self.0)
    }

    fn pack(self, panel: &Panel, out: &mut [u32]) {
        // SAFETY: `self.0` proves all that `Avx512Bf16` does.
        unsafe { pack_bf16(panel, out) }
    }

    fn pack_a(self, panel: &Panel, out: &mut [u32]) {
        // SAFETY: `self.0` proves all that `Avx512Bf16` does.
        unsafe { pack_tiles_bf16(panel, out) }
    }

    fn prefetch(self, panel: &Panel, part: usize, parts: usize) {
        panel.prefetch(part, parts, fetch_source);
    }

    fn tile(self, session: &Session, rows: usize, a: &[u32], b: &[u32], c: Tile) {
        // SAFETY: `self.0` proves all that `Avx512` does.
        unsafe {
            if rows <= TILE {
                tile_amx::<TILE>(session, a, b, c)
            } else {
                tile_amx::<{ 2 * TILE }>(session, a, b, c)
            }
        }
    }

    fn spin(self, rounds: usize) -> f32 {
        spin_amx(&self.start(), rounds)
    }
}

/// Sums as `tilestored` leaves them.
#[repr(C, align(64))]
struct Sums<const ROWS: usize>([[f32; 2 * TILE]; ROWS]);

/// One or two tiles of 16 rows, by two of 16 columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn tile_amx<const ROWS: usize>(session: &Session, a: &[u32], b: &[u32], c: Tile) {
    let mut rows = c.rows::<ROWS, { 2 * TILE }>();
    if let Ok(Rows::F32(rows)) = &mut rows
        && let Some((first, stride)) = rows.direct()
    {
        // SAFETY: `direct` says that ROWS rows of 32 floats may be written there.
        return unsafe { multiply::<ROWS>(session, a, b, first, stride) };
    }
    let mut sums = MaybeUninit::<Sums<ROWS>>::uninit();
    // SAFETY: `sums` is ROWS rows of 32 floats, and all of them are written.
    let sums = unsafe {
        multiply::<ROWS>(session, a, b, sums.as_mut_ptr().cast(), 2 * TILE);
        sums.assume_init_ref()
    };
    match rows {
        Ok(Rows::F32(rows)) => rows.put(&sums.0),
        Ok(Rows::Bf16(rows)) => rows.put(&sums.0),
        Err(c) => c.put(&sums.0),
    }
}

/// Writes the sums of ROWS rows, 16 or 32, by 32 columns to `out`, whose rows lie `stride` floats apart.
/// `a` is `[ROWS / 16, k words / 16, 16 rows, 16]`, `b` `[k words, 32]`.
///
/// # Safety
/// - Those rows may be written.
#[inline(always)]
unsafe fn multiply<const ROWS: usize>(
    session: &Session,
    a: &[u32],
    b: &[u32],
    out: *mut f32,
    stride: usize,
) {
    let steps = b.len() / (TILE * 2 * TILE);
    assert!(steps > 0 && (ROWS == TILE || ROWS == 2 * TILE));
    assert!(a.len() == ROWS * steps * TILE && b.len() == steps * TILE * 2 * TILE);
    let product = Product { steps, a: a.as_ptr(), b: b.as_ptr(), out, stride: 4 * stride };
    // SAFETY: `a` and `b` are as long as `steps` steps read, as just checked; the caller allows the stores.
    unsafe { if ROWS == TILE { product.one_tile(session) } else { product.two_tiles(session) } }
}

/// What the assembly of [`multiply`] works on.
struct Product {
    /// Steps of 32 elements of k, at least one.
    steps: usize,
    a: *const u32,
    b: *const u32,
    out: *mut f32,
    /// Bytes from one row of `out` to the next.
    stride: usize,
}

impl Product {
    /// 16 rows.
    ///
    /// # Safety
    /// - Each step reads 1 KiB of `a` and 2 KiB of `b`.
    /// - 16 rows of 128 bytes are written at `out`.
    #[inline(always)]
    unsafe fn one_tile(self, _: &Session) {
        // SAFETY: the session proves that the tiles are configured as 16 rows of 64 bytes; for what is
        // read and written see above.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "2:",
                "tileloadd tmm4, [{a} + {line}]",
                "tileloadd tmm6, [{b} + {row}]",
                "tileloadd tmm7, [{b} + {row} + 64]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "add {a}, 1024",
                "add {b}, 2048",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{top} + {stride}], tmm0",
                "tilestored [{top} + {stride} + 64], tmm1",
                a = inout(reg) self.a => _,
                b = inout(reg) self.b => _,
                steps = inout(reg) self.steps => _,
                line = in(reg) 64usize,
                row = in(reg) 128usize,
                top = in(reg) self.out,
                stride = in(reg) self.stride,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }

    /// 32 rows.
    ///
    /// # Safety
    /// - Each step reads 1 KiB of `a`, 1 KiB of what follows all steps of that, and 2 KiB of `b`.
    /// - 32 rows of 128 bytes are written at `out`.
    #[inline(always)]
    unsafe fn two_tiles(self, _: &Session) {
        let low = self.a.wrapping_add(self.steps * TILE * TILE);
        let bottom = self.out.wrapping_byte_add(TILE * self.stride);
        // SAFETY: as above, with the second half of `a` from `low` on, and `bottom` the 17th row.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{a} + {line}]",
                "tileloadd tmm6, [{b} + {row}]",
                "tileloadd tmm7, [{b} + {row} + 64]",
                "tileloadd tmm5, [{low} + {line}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, 1024",
                "add {low}, 1024",
                "add {b}, 2048",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{top} + {stride}], tmm0",
                "tilestored [{top} + {stride} + 64], tmm1",
                "tilestored [{bottom} + {stride}], tmm2",
                "tilestored [{bottom} + {stride} + 64], tmm3",
                a = inout(reg) self.a => _,
                low = inout(reg) low => _,
                b = inout(reg) self.b => _,
                steps = inout(reg) self.steps => _,
                line = in(reg) 64usize,
                row = in(reg) 128usize,
                top = in(reg) self.out,
                bottom = in(reg) bottom,
                stride = in(reg) self.stride,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

/// Four independent sums, as in [`multiply`], without its loads.
fn spin_amx(_: &Session, rounds: usize) -> f32 {
    let mut tile = [0x3f80_3f80u32; TILE * TILE];
    // SAFETY: the session proves that the tiles are configured as 16 rows of 64 bytes, which is the
    // size of `tile`.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "tileloadd tmm4, [{tile} + {line}]",
            "tileloadd tmm5, [{tile} + {line}]",
            "tileloadd tmm6, [{tile} + {line}]",
            "tileloadd tmm7, [{tile} + {line}]",
            "2:",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "dec {rounds}",
            "jnz 2b",
            "tilestored [{tile} + {line}], tmm0",
            tile = in(reg) tile.as_mut_ptr(),
            line = in(reg) 64usize,
            rounds = inout(reg) rounds.max(1) => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
    f32::from_bits(tile[0])
}
