//! The microkernel for NEON: tiles of 8 × 8 in 16 of 32 registers.
//!
//! Its token proves `neon`. Packing is the common code, which the compiler vectorises: `neon` is
//! part of the baseline of aarch64.

use super::kernel::{Kernel, with_rows};
use super::output::{Rows, RowsOf, Tile};
use super::pack::{Encoding, Panel, PlainOps, pack_panel};
use crate::isa::Neon;
use crate::value::Value;
use std::arch::aarch64::*;

/// f32 on NEON.
#[derive(Clone, Copy)]
pub(crate) struct F32Neon(Neon, Encoding);

impl F32Neon {
    pub(crate) fn new(proof: Neon, encoding: Encoding) -> F32Neon {
        F32Neon(proof, encoding)
    }
}

impl Kernel for F32Neon {
    type Session = ();

    const MR: usize = 8;
    const NR: usize = 8;
    const K_BLOCK: usize = 512;
    const SPIN_FLOPS: usize = 2 * 16 * 4;

    fn encoding(self) -> Encoding {
        self.1
    }

    fn start(self) {}

    fn pack(self, panel: &Panel, out: &mut [u32]) {
        pack_panel(PlainOps, panel, out);
    }

    fn tile(self, _: &(), rows: usize, a: &[u32], b: &[u32], c: Tile) {
        // SAFETY: `self.0` proves `neon`.
        unsafe { with_rows!(rows, [1 2 3 4 5 6 7 8], tile_neon(a, b, c)) }
    }

    fn spin(self, rounds: usize) -> f32 {
        // SAFETY: `self.0` proves `neon`.
        unsafe { spin_neon(rounds) }
    }
}

#[target_feature(enable = "neon")]
fn tile_neon<const R: usize>(a: &[u32], b: &[u32], c: Tile) {
    let mut sums = [[vdupq_n_f32(0.0); 2]; R];
    for (a, b) in a.as_chunks::<R>().0.iter().zip(b.as_chunks::<8>().0) {
        let (b0, b1) = (load4(b, 0), load4(b, 1));
        for r in 0..R {
            let a = f32::from_bits(a[r]);
            sums[r][0] = vfmaq_n_f32(sums[r][0], b0, a);
            sums[r][1] = vfmaq_n_f32(sums[r][1], b1, a);
        }
    }
    match c.rows() {
        Ok(Rows::F32(rows)) => put_rows(&sums, rows),
        Ok(Rows::Bf16(rows)) => put_rows(&sums, rows),
        Err(c) => {
            // SAFETY: two registers of 4 floats are 8 floats of plain data.
            let row = |x| unsafe { std::mem::transmute::<[float32x4_t; 2], [f32; 8]>(x) };
            c.put(&sums.map(row))
        }
    }
}

/// As `RowsOf::put` does it.
#[inline]
#[target_feature(enable = "neon")]
fn put_rows<T: Value, const R: usize>(sums: &[[float32x4_t; 2]; R], mut rows: RowsOf<T, R, 8>) {
    for (r, sums) in sums.iter().enumerate() {
        let mut row = *sums;
        for (half, value) in row.iter_mut().enumerate() {
            let product = vmulq_n_f32(*value, rows.alpha());
            *value = match rows.start(r) {
                Some(start) => vaddq_f32(floats4(start, half), product),
                None => product,
            };
        }
        // SAFETY: two registers of 4 floats are 8 floats of plain data.
        rows.set(r, &unsafe { std::mem::transmute::<[float32x4_t; 2], [f32; 8]>(row) });
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn floats4(row: &[f32; 8], half: usize) -> float32x4_t {
    let row = &row.as_chunks::<4>().0[half];
    // SAFETY: `row` is 4 floats.
    unsafe { vld1q_f32(row.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn load4(words: &[u32; 8], half: usize) -> float32x4_t {
    let words = &words.as_chunks::<4>().0[half];
    // SAFETY: `words` is 4 words.
    vreinterpretq_f32_u32(unsafe { vld1q_u32(words.as_ptr()) })
}

#[target_feature(enable = "neon")]
fn spin_neon(rounds: usize) -> f32 {
    let (x, y) = std::hint::black_box((vdupq_n_f32(0.5), vdupq_n_f32(1e-3)));
    let mut sums = [x; 16];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = vfmaq_f32(y, *sum, x);
        }
    }
    sums.map(|sum| vgetq_lane_f32::<0>(sum)).iter().sum()
}
