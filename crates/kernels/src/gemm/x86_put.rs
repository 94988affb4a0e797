//! Where the sums of the AVX-512 microkernels go, from registers alone: no array of them lies in memory, whose
//! clearing and reading would cost a tile of 144 words of k some 3 % of its time.

use super::output::{Rows, RowsOf, Tile};
use crate::value::Value;
use half::bf16;
use std::arch::x86_64::*;

/// Two vectors of 16 sums for each of R rows.
pub(super) type Sums<const R: usize> = [[__m512; 2]; R];

/// Stores the sums of a tile. Inlined, so that they need not leave their registers before.
///
/// # Safety
/// - The CPU has `avx512f`.
#[inline(always)]
pub(super) unsafe fn put_avx512<const R: usize>(sums: Sums<R>, c: Tile) {
    match c.rows() {
        // SAFETY: as the caller promises.
        Ok(Rows::F32(rows)) => unsafe { put_rows(&sums, rows) },
        // SAFETY: as the caller promises.
        Ok(Rows::Bf16(rows)) => unsafe { put_rows(&sums, rows) },
        Err(c) => put_edge(sums, c),
    }
}

/// The same, where an instruction rounds to bf16.
///
/// # Safety
/// - The CPU has `avx512f`, `avx512dq` and `avx512bf16`.
#[inline(always)]
pub(super) unsafe fn put_bf16<const R: usize>(sums: Sums<R>, c: Tile) {
    match c.rows() {
        // SAFETY: as the caller promises.
        Ok(Rows::F32(rows)) => unsafe { put_rows(&sums, rows) },
        // SAFETY: as the caller promises.
        Ok(Rows::Bf16(rows)) => unsafe { put_rounded(&sums, rows) },
        Err(c) => put_edge(sums, c),
    }
}

/// As `RowsOf::put` does it.
///
/// # Safety
/// - The CPU has `avx512f`.
#[inline(always)]
unsafe fn put_rows<T: Value, const R: usize>(sums: &Sums<R>, mut rows: RowsOf<T, R, 32>) {
    for (r, sums) in sums.iter().enumerate() {
        // SAFETY: as the caller promises.
        rows.set(r, &floats(unsafe { end_of(&rows, r, sums) }));
    }
}

/// The same by the instruction that rounds. It takes subnormals as 0, so a tile that has some is stored once more.
///
/// # Safety
/// - The CPU has `avx512f`, `avx512dq` and `avx512bf16`.
#[inline(always)]
unsafe fn put_rounded<const R: usize>(sums: &Sums<R>, mut rows: RowsOf<bf16, R, 32>) {
    /// The class of subnormals.
    const SUBNORMAL: i32 = 1 << 5;
    let mut subnormals = 0;
    for (r, sums) in sums.iter().enumerate() {
        // SAFETY: as the caller promises; a register of 32 bf16 is 32 bf16 of plain data.
        let row = unsafe {
            let [low, high] = end_of(&rows, r, sums);
            subnormals |= _mm512_fpclass_ps_mask::<SUBNORMAL>(low);
            subnormals |= _mm512_fpclass_ps_mask::<SUBNORMAL>(high);
            std::mem::transmute::<__m512bh, [bf16; 32]>(_mm512_cvtne2ps_pbh(high, low))
        };
        rows.set_rounded(r, &row);
    }
    if subnormals != 0 {
        put_with_subnormals(*sums, rows);
    }
}

/// Row `r` as it will be stored.
///
/// # Safety
/// - The CPU has `avx512f`.
#[inline(always)]
unsafe fn end_of<T: Value, const R: usize>(
    rows: &RowsOf<T, R, 32>,
    r: usize,
    sums: &[__m512; 2],
) -> [__m512; 2] {
    // SAFETY: as the caller promises; a start is 32 floats.
    unsafe {
        let alpha = _mm512_set1_ps(rows.alpha());
        let [low, high] = sums.map(|sum| _mm512_mul_ps(alpha, sum));
        let Some(start) = rows.start(r) else { return [low, high] };
        let [start_low, start_high] =
            [&start[..16], &start[16..]].map(|half| _mm512_loadu_ps(half.as_ptr()));
        [_mm512_add_ps(start_low, low), _mm512_add_ps(start_high, high)]
    }
}

#[inline(always)]
fn floats(row: [__m512; 2]) -> [f32; 32] {
    // SAFETY: two registers of 16 floats are 32 floats of plain data.
    unsafe { std::mem::transmute::<[__m512; 2], [f32; 32]>(row) }
}

// These two are rare, and never inlined; they are given sums of their own, so that the others stay in registers.

#[cold]
#[inline(never)]
fn put_with_subnormals<const R: usize>(sums: Sums<R>, rows: RowsOf<bf16, R, 32>) {
    rows.put(&sums.map(floats));
}

/// A tile at an edge of `c`, or of a `c` seen transposed.
#[inline(never)]
fn put_edge<const R: usize>(sums: Sums<R>, c: Tile) {
    c.put(&sums.map(floats))
}
