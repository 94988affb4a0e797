//! GGML's blocks of 256 values ("K-quants") to f32, to the bit as ggml's `dequantize_row_q*_K` do it.
//!
//! ```text
//! Q2_K, Q4_K, Q5_K:  (d·s) · q − (dmin·m)       s, m: scale and minimum of a group of 16 or 32 values
//! Q3_K, Q6_K:        (d·s) · q                  q and s signed; each operation rounded to f32
//! ```
//! d and dmin are f16. Codes are spread over bytes in strides of 32 values: a byte holds the codes of
//! values that stand 32 apart.

use super::quants::f16_at;

/// `scales[16] · qs[64] · d · dmin`: 2-bit codes; a scale byte is `min << 4 | scale` of 16 values.
pub(super) fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (scales, qs) = (&block[..16], &block[16..80]);
    let (d, dmin) = (f16_at(block, 80), f16_at(block, 82));
    for (i, out) in out.iter_mut().enumerate() {
        let scale = scales[i / 16];
        let q = qs[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
        *out = d * f32::from(scale & 15) * f32::from(q) - dmin * f32::from(scale >> 4);
    }
}

/// `hmask[32] · qs[64] · scales[12] · d`: two bits in `qs`; the third, where it is not set, takes 4 off.
pub(super) fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let (high, qs, packed) = (&block[..32], &block[32..96], &block[96..108]);
    let d = f16_at(block, 108);
    for (i, out) in out.iter_mut().enumerate() {
        let q = qs[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
        let below = if high[i % 32] >> (i / 32) & 1 == 1 { 0 } else { 4 };
        *out = d * q3_scale(packed, i / 16) * (i32::from(q) - below) as f32;
    }
}

/// Scale `j` of 16: four bits in the first 8 bytes (low halves, then high ones), two in the last 4.
fn q3_scale(packed: &[u8], j: usize) -> f32 {
    let low = packed[j % 8] >> (j / 8 * 4) & 15;
    let high = packed[8 + j % 4] >> (j / 4 * 2) & 3;
    (i32::from(high << 4 | low) - 32) as f32
}

/// `d · dmin · scales[12] · qs[128]`: 4-bit codes, groups of 32.
pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    let (packed, qs) = (&block[4..16], &block[16..]);
    for (group, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_min(packed, group);
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        for (l, out) in out.iter_mut().enumerate() {
            let q = qs[group / 2 * 32 + l] >> (group % 2 * 4) & 15;
            *out = scale * f32::from(q) - min;
        }
    }
}

/// `d · dmin · scales[12] · qh[32] · qs[128]`: as `q4_k`, with a fifth bit in `qh`.
pub(super) fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    let (packed, high, qs) = (&block[4..16], &block[16..48], &block[48..]);
    for (group, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_min(packed, group);
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        for (l, out) in out.iter_mut().enumerate() {
            let low = qs[group / 2 * 32 + l] >> (group % 2 * 4) & 15;
            let q = low | (high[l] >> group & 1) << 4;
            *out = scale * f32::from(q) - min;
        }
    }
}

/// Scale and minimum of group `j` of 8, six bits each: those of groups 0–3 lie in bytes 0–3 and 4–7;
/// of groups 4–7 the low four bits lie in bytes 8–11, the high two on top of the former.
fn scale_min(packed: &[u8], j: usize) -> (u8, u8) {
    match j {
        0..4 => (packed[j] & 63, packed[j + 4] & 63),
        _ => {
            (packed[j + 4] & 15 | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4)
        }
    }
}

/// `ql[128] · qh[64] · scales[16] · d`: four bits in `ql`, two in `qh`, minus 32; groups of 16.
pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (ql, qh, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = f16_at(block, 208);
    for (i, out) in out.iter_mut().enumerate() {
        let (half, stride) = (i / 128, i / 32 % 4);
        let low = ql[half * 64 + i % 64] >> (stride / 2 * 4) & 15;
        let high = qh[half * 32 + i % 32] >> (stride * 2) & 3;
        let scale = f32::from(scales[i / 16] as i8);
        *out = d * scale * (i32::from(low | high << 4) - 32) as f32;
    }
}
