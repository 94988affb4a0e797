//! GGML's blocks of 32 values to f32, to the bit as ggml's own `dequantize_row_*` functions do it.
//!
//! ```text
//! Q4_0, Q5_0:  (q − 8) · d, (q − 16) · d        Q8_0:  q · d
//! Q4_1, Q5_1:  q · d + m                        each operation rounded to f32
//! ```
//! d and m are f16. The 4-bit codes of values 0–15 are the low halves of 16 bytes, those of 16–31 the
//! high halves; a fifth bit is bit i of a u32. The blocks of 256 are in `k_quants`.

use crate::formats::dtype::StoredDtype;
use half::f16;
use rayon::prelude::*;

use super::k_quants;

/// Blocks that one task decodes, so that a task is worth its start.
const TASK_VALUES: usize = 1 << 14;

/// Decodes `bytes` into `out`, which holds just as many values. False for a type that has no blocks.
pub(in crate::formats) fn dequantize(dtype: StoredDtype, bytes: &[u8], out: &mut [f32]) -> bool {
    match dtype {
        StoredDtype::Q4_0 => blocks(bytes, out, q4_0),
        StoredDtype::Q4_1 => blocks(bytes, out, q4_1),
        StoredDtype::Q5_0 => blocks(bytes, out, q5_0),
        StoredDtype::Q5_1 => blocks(bytes, out, q5_1),
        StoredDtype::Q8_0 => blocks(bytes, out, q8_0),
        StoredDtype::Q2K => blocks(bytes, out, k_quants::q2_k),
        StoredDtype::Q3K => blocks(bytes, out, k_quants::q3_k),
        StoredDtype::Q4K => blocks(bytes, out, k_quants::q4_k),
        StoredDtype::Q5K => blocks(bytes, out, k_quants::q5_k),
        StoredDtype::Q6K => blocks(bytes, out, k_quants::q6_k),
        _ => return false,
    }
    true
}

fn blocks<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; VALUES]) + Sync,
) {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let (values, _) = out.as_chunks_mut::<VALUES>();
    let task = TASK_VALUES / VALUES;
    values.par_chunks_mut(task).zip(blocks.par_chunks(task)).for_each(|(values, blocks)| {
        for (values, block) in values.iter_mut().zip(blocks) {
            decode(block, values);
        }
    });
}

/// The f16 at `at`.
pub(super) fn f16_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    for (i, &q) in block[2..].iter().enumerate() {
        out[i] = (i32::from(q & 15) - 8) as f32 * d;
        out[i + 16] = (i32::from(q >> 4) - 8) as f32 * d;
    }
}

fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    for (i, &q) in block[4..].iter().enumerate() {
        out[i] = f32::from(q & 15) * d + m;
        out[i + 16] = f32::from(q >> 4) * d + m;
    }
}

/// The fifth bits of values `i` and `i + 16`, at bit 4.
fn fifth_bits(block: &[u8], at: usize, i: usize) -> (u8, u8) {
    let high = u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    let bit = |i: usize| ((high >> i) as u8 & 1) << 4;
    (bit(i), bit(i + 16))
}

fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    for (i, &q) in block[6..].iter().enumerate() {
        let (first, second) = fifth_bits(block, 2, i);
        out[i] = (i32::from(q & 15 | first) - 16) as f32 * d;
        out[i + 16] = (i32::from(q >> 4 | second) - 16) as f32 * d;
    }
}

fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    for (i, &q) in block[8..].iter().enumerate() {
        let (first, second) = fifth_bits(block, 4, i);
        out[i] = f32::from(q & 15 | first) * d + m;
        out[i + 16] = f32::from(q >> 4 | second) * d + m;
    }
}

fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    for (out, &q) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(q as i8) * d;
    }
}
