//! The nearest dynamic code by arithmetic. Tables only: who walks them is `vbmi`.
//!
//! ```text
//! u = |s| · scale[bin] + offset[bin]      code ~ bits 16..24 of u, fraction = bits 0..16
//! ```
//! Between a power of ten and its tenth the codes of [`dynamic`](crate::dynamic) lie evenly, and so a line
//! takes numbers to their codes, in fixed point in the bits of a float: of one between 128 and 256 bits 16
//! to 23 count its whole units from 0, of one between 64 and 128 its halves from 128. Tables and lines are
//! rounded. So all u are too large by half of [`NEAR`] units of the fraction, and whose fraction is less
//! than the whole may belong to the code below: one number of eight thousand, which is looked up instead.
//! What is decided is decided as by the table's midpoints; a test asks every number.
//!
//! Bins are pairs of octaves, numbered by four bits of the exponent.

use crate::dynamic::{SIGNED, SIGNED_ZERO, UNSIGNED};

/// Fractions below this are not decided.
pub(super) const NEAR: u16 = 8;
/// What decides them otherwise, in units of a code.
const BIAS: f64 = NEAR as f64 / 2.0 / 65_536.0;
const BINS: usize = 16;

const fn bin(s: f32) -> usize {
    (s.to_bits() >> 24) as usize % BINS
}

/// Lines for squares: with a border in their bin between two powers of ten, above which numbers take the
/// line of the bin above, and up to which they have the last code of their line.
#[repr(C, align(64))]
pub(super) struct Bordered {
    /// What added to the bits of a number carries into the next bin if it is above the border.
    pub carry: [u32; BINS],
    pub scale: [f32; BINS],
    pub offset: [f32; BINS],
    pub last: [f32; BINS],
}

/// Numbers below have the code of this one.
pub(super) const SQUARE_LEAST: f32 = 1.0 / (1u32 << 23) as f32;

/// Of `UNSIGNED`: the byte is the code and 1 more.
pub(super) static SQUARES: Bordered = squares();

/// The last codes of the zones between powers of ten; 0 and 1 have one each.
const LASTS: [usize; 9] = [0, 2, 6, 14, 30, 62, 126, 254, 255];

const fn squares() -> Bordered {
    const NONE: [f32; BINS] = [0.0; BINS];
    let mut table = Bordered { carry: [0; BINS], scale: NONE, offset: NONE, last: NONE };
    let (mut pair, mut zone) = (SQUARE_LEAST.to_bits() >> 24, 0);
    // The pair above that of 1 is the one of its code.
    while pair <= (1f32.to_bits() >> 24) + 1 {
        let (place, last) = (pair as usize % BINS, LASTS[zone]);
        let first = if zone == 0 { 0 } else { LASTS[zone - 1] + 1 };
        let (low, high) = (UNSIGNED[first] as f64, UNSIGNED[last] as f64);
        let slope = if first == last { 0.0 } else { (last - first) as f64 / (high - low) };
        let byte = (first + 1) % 256;
        let offset = (byte % 128) as f64 - slope * low + 0.5 + BIAS;
        let upper = byte >= 128;
        table.scale[place] = (if upper { slope / 2.0 } else { slope }) as f32;
        table.offset[place] = (if upper { 64.0 + offset / 2.0 } else { 128.0 + offset }) as f32;
        table.last[place] = if upper { 127.75 } else { 128.5 + ((last + 1) % 256) as f32 };
        if zone + 1 < LASTS.len() {
            let border = (UNSIGNED[last] + UNSIGNED[last + 1]) / 2.0;
            if border < f32::from_bits((pair + 1) << 24) {
                table.carry[place] = ((pair + 1) << 24) - (border.to_bits() + 1);
                zone += 1;
            }
        }
        pair += 1;
    }
    assert!(zone + 1 == LASTS.len());
    table
}

/// Lines for magnitudes of the signed codes. Above a power of ten codes lie five times as far apart: there
/// the line of those below goes on, and several bytes have one code. (For squares there are not bytes
/// enough.) Bins are those of `s · RATIO`, so that the last midpoint, which is on no line, lies at 2, an end.
#[repr(C, align(64))]
pub(super) struct Magnitudes {
    pub scale: [f32; BINS],
    pub offset: [f32; BINS],
    /// The magnitude's code of each byte: 0 for 0, 128 for 1.
    pub codes: [u8; 256],
}

/// What takes the last midpoint to 2; a little more, so that no number above it comes out below 2.
pub(super) const RATIO: f32 = ((2.0 + 1.0 / (1u32 << 21) as f64) / midpoint(127)) as f32;
/// Numbers below, times `RATIO`, have the code of this one.
pub(super) const MAGNITUDE_LEAST: f32 = 1.0 / (1u32 << 21) as f32;

pub(super) static MAGNITUDES: Magnitudes = magnitudes();

/// The middle between the magnitudes `k` and `k + 1`.
const fn midpoint(k: usize) -> f64 {
    let zero = SIGNED_ZERO as usize;
    ((SIGNED[zero + k] + SIGNED[zero + k + 1]) / 2.0) as f64
}

/// The number of midpoints below `s`.
const fn magnitude_code(s: f64) -> usize {
    let mut code = 0;
    while code < 128 && midpoint(code) < s {
        code += 1;
    }
    code
}

const fn magnitudes() -> Magnitudes {
    let mut table = Magnitudes { scale: [0.0; BINS], offset: [0.0; BINS], codes: [0; 256] };
    // The code of 1: numbers just above its bin's end are the ones not decided, so the line is steep.
    table.codes[0] = 128;
    table.scale[bin(2.0)] = 32.0;
    table.offset[bin(2.0)] = (128.0 - 2.0 * 32.0 + BIAS) as f32;
    let mut used = [1, 0];
    let mut low = 0.5;
    while low >= MAGNITUDE_LEAST {
        let ends = (low as f64 / RATIO as f64, 4.0 * low as f64 / RATIO as f64);
        let line = Line::over(ends);
        let upper = used[0] + line.bytes > 128;
        let first = used[upper as usize];
        let offset = first as f64 + line.below as f64 - line.origin / line.step + BIAS;
        let scale = 1.0 / (line.step * RATIO as f64);
        table.scale[bin(low)] = (if upper { scale / 2.0 } else { scale }) as f32;
        table.offset[bin(low)] = (if upper { 64.0 + offset / 2.0 } else { 128.0 + offset }) as f32;
        let mut byte = 0;
        while byte < line.bytes {
            let code = line.code(byte, ends);
            table.codes[128 * upper as usize + first + byte] = code as u8;
            byte += 1;
        }
        used[upper as usize] += line.bytes;
        low /= 4.0;
    }
    assert!(used[0] <= 128 && used[1] <= 128);
    table
}

/// Even steps through a bin, `below` of them under the first midpoint in it.
struct Line {
    origin: f64,
    step: f64,
    below: usize,
    bytes: usize,
}

impl Line {
    const fn over((low, high): (f64, f64)) -> Line {
        let first = magnitude_code(low);
        let origin = midpoint(first);
        assert!(origin < high);
        let step = if first + 1 == 128 || midpoint(first + 1) >= high {
            high - low
        } else {
            let zone = first.ilog2();
            let mut step = 0.9 / (1u32 << zone) as f64;
            let mut power = zone;
            while power < 6 {
                step /= 10.0;
                power += 1;
            }
            step
        };
        let below = ((origin - low) / step) as usize + 1;
        Line { origin, step, below, bytes: below + ((high - origin) / step) as usize + 1 }
    }

    /// The code of a byte: of the middle of its numbers that lie in the bin.
    const fn code(&self, byte: usize, (low, high): (f64, f64)) -> usize {
        let start = self.origin + (byte as f64 - self.below as f64) * self.step;
        let end = start + self.step;
        let start = if start < low { low } else { start };
        let end = if end > high { high } else { end };
        magnitude_code((start + end) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::dynamic::{signed_code, unsigned_code};
    use crate::simd::shells;
    use rayon::prelude::*;

    fn decided(u: u32) -> Option<u8> {
        (u & 0xffff >= u32::from(NEAR)).then_some((u >> 16) as u8)
    }

    /// `vbmi` rounds `m · (factor · RATIO)` where the look-up's number times `RATIO` is asked for here: four
    /// roundings of 2⁻²⁴ apart, which make so many units of the fraction at most. All that can come out.
    const ROUNDED: u32 = 2;

    #[inline(always)]
    fn means(s: f32) -> [Option<u8>; 3] {
        let (line, s) = (&MAGNITUDES, (s * RATIO).max(MAGNITUDE_LEAST));
        let (scale, offset) = (line.scale[bin(s)], line.offset[bin(s)]);
        let u = s.mul_add(scale, offset);
        let unit = (u.to_bits() & 0x7f80_0000) - (23 << 23);
        assert!(scale * s * (4.0 / (1u32 << 24) as f32) <= ROUNDED as f32 * f32::from_bits(unit));
        let u = u.to_bits();
        [u, u - ROUNDED, u + ROUNDED]
            .map(|u| decided(u).map(|byte| SIGNED_ZERO + line.codes[usize::from(byte)]))
    }

    #[inline(always)]
    fn square(s: f32) -> Option<u8> {
        let (line, s) = (&SQUARES, s.max(SQUARE_LEAST));
        let bin = bin(f32::from_bits(s.to_bits() + line.carry[bin(s)]));
        let u = s.mul_add(line.scale[bin], line.offset[bin]).min(line.last[bin]);
        decided(u.to_bits()).map(|byte| byte.wrapping_sub(1))
    }

    shells! { fn undecided(first: u32, end: u32) -> [u32; 2] = undecided_body; }

    /// How many of the numbers with these bits are not decided.
    #[inline(always)]
    fn undecided_body(first: u32, end: u32) -> [u32; 2] {
        let mut undecided = [0; 2];
        for s in (first..end).map(f32::from_bits) {
            let (means, square) = (means(s), square(s));
            for code in means.into_iter().flatten() {
                assert_eq!(code, signed_code(s), "{s:e} as a mean");
            }
            if let Some(code) = square {
                assert_eq!(code, unsigned_code(s), "{s:e} as a square");
            }
            undecided[0] += u32::from(means[0].is_none());
            undecided[1] += u32::from(square.is_none());
        }
        undecided
    }

    /// Every number of 2⁻²⁴ to a little above 1, the largest that there is. Smaller ones are cut.
    #[test]
    fn what_a_line_decides_is_the_nearest_code() {
        let octaves: Vec<u32> = (127 - 24..128).collect();
        octaves.into_par_iter().for_each(|exponent| {
            let end = ((exponent + 1) << 23).min(1f32.to_bits() + 4);
            let undecided = undecided(Isa::best(), exponent << 23, end);
            println!("2^{}: {undecided:?}", exponent as i32 - 127);
            assert!(undecided.iter().all(|&count| count < 1 << 13), "{undecided:?}");
        });
        assert_eq!((means(0.0), square(0.0)), ([Some(SIGNED_ZERO); 3], Some(0)));
    }
}
