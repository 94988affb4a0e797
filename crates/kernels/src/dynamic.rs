//! 8-bit dynamic codes: a decimal exponent and a linear fraction, with and without a sign; their
//! tables, and the nearest code of a value without a search.
//!
//! ```text
//! code(s) = #{midpoints of neighbouring table entries < s}     the nearest, of two the lower
//! ```
//! The search is replaced by a look-up that gives the same code for every number. The bits of |s| cut
//! the values into buckets, exponent and leading bits of the fraction, so narrow that none holds two
//! midpoints. A bucket's entry is the count of midpoints below it, and in the bits under that count what
//! is missing from its midpoint's remaining bits to a carry: adding those of s carries into the count if
//! and only if s lies above the midpoint. What the bucket's own bits add is taken off beforehand.
//!
//! Source: 8-bit approximations for parallelism in deep learning (Dettmers, 2015); the tables are those
//! of bitsandbytes' `create_dynamic_map`.

/// Values from −1 to 1, the ends apart: the largest negative one is above −1.
pub const SIGNED: [f32; 256] = signed();
/// Values from 0 to 1.
pub const UNSIGNED: [f32; 256] = unsigned();

/// The signed code of 0.
pub const SIGNED_ZERO: u8 = 127;

const SIGNED_MIDPOINTS: [f32; 255] = midpoints(&SIGNED);
const UNSIGNED_MIDPOINTS: [f32; 255] = midpoints(&UNSIGNED);

/// Buckets of a table, most of them never asked for: a power of two, so that a mask is a bound. More
/// than there are between the ends of a code, which therefore do not meet where the count starts anew.
const BUCKETS: usize = 4096;
const ONE: u32 = 1f32.to_bits();

/// 64 buckets an octave, from 2⁻²² to 1; those of negative values come before those of positive ones.
const SIGNED_BITS: u32 = 17;
const SIGNED_LEAST: u32 = (127 - 22) << 23;
static SIGNED_BUCKETS: [u32; BUCKETS] = {
    let mut places = [0; 255];
    let mut i = 0;
    while i < 255 {
        places[i] = signed_place(SIGNED_MIDPOINTS[i]);
        i += 1;
    }
    buckets(&places, SIGNED_BITS, SIGNED_LEAST)
};

/// 128 buckets an octave, from 2⁻²³ to 1.
const UNSIGNED_BITS: u32 = 16;
const UNSIGNED_LEAST: u32 = (127 - 23) << 23;
static UNSIGNED_BUCKETS: [u32; BUCKETS] = {
    let mut places = [0; 255];
    let mut i = 0;
    while i < 255 {
        places[i] = unsigned_place(UNSIGNED_MIDPOINTS[i]);
        i += 1;
    }
    buckets(&places, UNSIGNED_BITS, UNSIGNED_LEAST)
};

/// The code of `SIGNED` nearest to `s`. A NaN gets some code.
#[inline(always)]
pub fn signed_code(s: f32) -> u8 {
    let place = signed_place(s) as u32;
    let bucket = (place >> SIGNED_BITS) as usize & (BUCKETS - 1);
    (SIGNED_BUCKETS[bucket].wrapping_add(place) >> SIGNED_BITS) as u8
}

/// The code of `UNSIGNED` nearest to `s`, which is not below 0. A NaN gets some code.
#[inline(always)]
pub fn unsigned_code(s: f32) -> u8 {
    let place = unsigned_place(s) as u32;
    let bucket = (place >> UNSIGNED_BITS) as usize & (BUCKETS - 1);
    (UNSIGNED_BUCKETS[bucket].wrapping_add(place) >> UNSIGNED_BITS) as u8
}

/// A number that ascends with `s`: the bits of |s|, and their complement for a negative `s`. No midpoint
/// is below 2⁻²² or above 1, so |s| is cut to that.
#[inline(always)]
const fn signed_place(s: f32) -> i32 {
    let bits = s.to_bits();
    cut(bits & 0x7fff_ffff, SIGNED_LEAST) as i32 ^ (bits as i32 >> 31)
}

#[inline(always)]
const fn unsigned_place(s: f32) -> i32 {
    cut(s.to_bits(), UNSIGNED_LEAST) as i32
}

/// `bits` between `least` and those of 1.
#[inline(always)]
const fn cut(bits: u32, least: u32) -> u32 {
    let bits = if bits < least { least } else { bits };
    if bits > ONE { ONE } else { bits }
}

/// The entries of all buckets, of the places of the midpoints. The place of the bucket itself is taken
/// off, so that a whole place can be added.
const fn buckets(midpoints: &[i32; 255], bits: u32, least: u32) -> [u32; BUCKETS] {
    let mut table = [0; BUCKETS];
    let (first, end) = ((least >> bits) as i32, (ONE >> bits) as i32 + 1);
    let (mut bucket, mut below) = (-end, 0);
    while bucket < end {
        let mut entry = (below as u32) << bits;
        if below < midpoints.len() && midpoints[below] >> bits == bucket {
            let rest = midpoints[below] as u32 & ((1 << bits) - 1);
            entry += (1 << bits) - 1 - rest;
            below += 1;
        }
        // No place is between the ends: its bucket would be that of another.
        if bucket < -first || bucket >= first {
            table[bucket as usize & (BUCKETS - 1)] = entry.wrapping_sub((bucket as u32) << bits);
        }
        bucket += 1;
    }
    // A bucket with two midpoints, or one out of reach, would leave some over.
    assert!(below == midpoints.len());
    table
}

/// A value's code is the number of midpoints strictly below it: the nearest, of two the lower.
pub(crate) const fn midpoints<const N: usize, const M: usize>(table: &[f32; N]) -> [f32; M] {
    let mut middle = [0.0; M];
    let mut i = 0;
    while i < M {
        middle[i] = (table[i] + table[i + 1]) / 2.0;
        i += 1;
    }
    middle
}

const POWERS: [f32; 7] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];

const fn signed() -> [f32; 256] {
    let mut code = [0.0; 256];
    let (mut exponent, mut magnitude) = (0, 1);
    while exponent < POWERS.len() {
        let steps = 1 << exponent;
        let mut i = 0;
        while i < steps {
            let value = value(exponent, i, steps);
            code[SIGNED_ZERO as usize + magnitude] = value;
            code[SIGNED_ZERO as usize - magnitude] = -value;
            magnitude += 1;
            i += 1;
        }
        exponent += 1;
    }
    code[255] = 1.0;
    code
}

const fn unsigned() -> [f32; 256] {
    let mut code = [0.0; 256];
    let (mut exponent, mut next) = (0, 1);
    while exponent < POWERS.len() {
        let steps = 2 << exponent;
        let mut i = 0;
        while i < steps {
            code[next] = value(exponent, i, steps);
            next += 1;
            i += 1;
        }
        exponent += 1;
    }
    code[255] = 1.0;
    code
}

/// The middle of step `i` of `steps` between a power of ten and its tenth.
const fn value(exponent: usize, i: usize, steps: usize) -> f32 {
    POWERS[exponent] * ((edge(i, steps) + edge(i + 1, steps)) / 2.0)
}

/// Edge `i` of `n` even steps from 0.1 to 1, as `torch.linspace` rounds it: the step in f32, then a
/// fused multiply-add (exact in f64, rounded once), the upper half counted from 1.
const fn edge(i: usize, n: usize) -> f32 {
    let step = ((1.0f32 - 0.1f32) / n as f32) as f64;
    if i < n.div_ceil(2) {
        (0.1f32 as f64 + step * i as f64) as f32
    } else {
        (1.0 - step * (n - i) as f64) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::simd::shells;
    use rayon::prelude::*;

    /// `code` of the floats with these bits, ascending by value, against the number of midpoints strictly
    /// below.
    fn check(midpoints: &[f32; 255], code: fn(f32) -> u8, bits: impl Iterator<Item = u32>) {
        let mut bits = bits.peekable();
        let first = bits.peek().map_or(0.0, |bits| f32::from_bits(*bits));
        let mut below = midpoints.partition_point(|midpoint| *midpoint < first);
        for s in bits.map(f32::from_bits) {
            while below < midpoints.len() && midpoints[below] < s {
                below += 1;
            }
            assert_eq!(usize::from(code(s)), below, "{s:e}");
        }
    }

    /// Every number of 2⁻²⁴ to 2, of either sign. What lies outside is cut to these; a part of it is
    /// looked at, infinity and the smallest denormal among it.
    #[test]
    fn the_look_up_is_the_definition_for_every_number() {
        const MINUS: u32 = 1 << 31;
        let octaves: Vec<u32> = (127 - 24..128).collect();
        octaves.into_par_iter().for_each(|exponent| {
            let all = exponent << 23..(exponent + 1) << 23;
            check(&SIGNED_MIDPOINTS, signed_code, all.clone());
            check(&SIGNED_MIDPOINTS, signed_code, all.clone().rev().map(|bits| bits | MINUS));
            check(&UNSIGNED_MIDPOINTS, unsigned_code, all);
        });
        let some = (0..f32::INFINITY.to_bits() + 1).step_by(128);
        check(&SIGNED_MIDPOINTS, signed_code, some.clone());
        check(&SIGNED_MIDPOINTS, signed_code, some.clone().rev().map(|bits| bits | MINUS));
        check(&UNSIGNED_MIDPOINTS, unsigned_code, some);
    }

    shells! { fn codes(s: &[f32], signed: &mut [u8], unsigned: &mut [u8]) = codes_body; }

    #[inline(always)]
    fn codes_body(s: &[f32], signed: &mut [u8], unsigned: &mut [u8]) {
        for ((&s, signed), unsigned) in s.iter().zip(signed).zip(unsigned) {
            (*signed, *unsigned) = (signed_code(s), unsigned_code(s.abs()));
        }
    }

    /// Three numbers to either side of each midpoint, and of 0, of the least and largest denormal, of 1
    /// and of infinity, which are looked up many at once.
    #[test]
    fn the_look_up_is_the_definition_on_every_set() {
        let ends = [0.0, f32::from_bits(1), f32::from_bits(0x7f_ffff), 1.0, f32::INFINITY];
        let mut s: Vec<f32> = ends.into_iter().flat_map(|s| [s, -s]).collect();
        s.extend(SIGNED_MIDPOINTS.iter().chain(&UNSIGNED_MIDPOINTS).flat_map(|&middle| {
            let next = move |by: i32| f32::from_bits(middle.to_bits().wrapping_add_signed(by));
            (-3..=3).map(next)
        }));
        let below =
            |midpoints: &[f32; 255], s: f32| midpoints.partition_point(|&middle| middle < s);
        for isa in Isa::available() {
            let (mut signed, mut unsigned) = (vec![0; s.len()], vec![0; s.len()]);
            codes(isa, &s, &mut signed, &mut unsigned);
            for ((&s, signed), unsigned) in s.iter().zip(signed).zip(unsigned) {
                let want = [below(&SIGNED_MIDPOINTS, s), below(&UNSIGNED_MIDPOINTS, s.abs())];
                assert_eq!([signed, unsigned].map(usize::from), want, "{s:e} on {}", isa.name());
            }
        }
    }

    #[test]
    fn tables_ascend_and_have_an_exact_zero() {
        assert!(SIGNED.is_sorted_by(|a, b| a < b) && UNSIGNED.is_sorted_by(|a, b| a < b));
        assert_eq!((SIGNED[usize::from(SIGNED_ZERO)], UNSIGNED[0]), (0.0, 0.0));
        for (code, (&signed, &unsigned)) in SIGNED.iter().zip(&UNSIGNED).enumerate() {
            assert_eq!((usize::from(signed_code(signed))), code);
            assert_eq!((usize::from(unsigned_code(unsigned))), code);
        }
    }
}
