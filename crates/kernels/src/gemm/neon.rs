//! The microkernel for NEON: tiles of 8 × 8 in 16 of 32 registers.
//!
//! Its token proves `neon`. Packing is the common code, which the compiler vectorises: `neon` is
//! part of the baseline of aarch64.

use super::Store;
use super::kernel::{Kernel, Tile, with_rows};
use super::pack::{Encoding, Panel, PlainOps, pack_panel};
use crate::isa::Neon;
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
fn tile_neon<const R: usize>(a: &[u32], b: &[u32], mut c: Tile) {
    let mut sums = [[vdupq_n_f32(0.0); 2]; R];
    for (a, b) in a.as_chunks::<R>().0.iter().zip(b.as_chunks::<8>().0) {
        let (b0, b1) = (load4(b, 0), load4(b, 1));
        for r in 0..R {
            let a = f32::from_bits(a[r]);
            sums[r][0] = vfmaq_n_f32(sums[r][0], b0, a);
            sums[r][1] = vfmaq_n_f32(sums[r][1], b1, a);
        }
    }
    if !c.is_whole::<8>(R) {
        // SAFETY: two registers of 4 floats are 8 floats of plain data.
        let rows =
            sums.map(|sums| unsafe { std::mem::transmute::<[float32x4_t; 2], [f32; 8]>(sums) });
        return c.put(&rows);
    }
    let (alpha, store) = (c.alpha(), c.store());
    for (r, sums) in sums.into_iter().enumerate() {
        let row = c.row::<8>(r).as_chunks_mut::<4>().0;
        for (out, sum) in row.iter_mut().zip(sums) {
            let product = vmulq_n_f32(sum, alpha);
            // SAFETY: `out` is 4 floats.
            unsafe {
                let value = match store {
                    Store::Overwrite => product,
                    Store::Add => vaddq_f32(vld1q_f32(out.as_ptr()), product),
                };
                vst1q_f32(out.as_mut_ptr(), value);
            }
        }
    }
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
