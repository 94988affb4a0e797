//! AdamW with moments in 8-bit dynamic codes, in blocks of 256 values that share a maximum: those of
//! bitsandbytes' block-wise 8-bit AdamW.
//!
//! ```text
//! m ← SIGNED[code] · absmax        v ← UNSIGNED[code] · absmax
//! …                                   the step of `adamw`, torch's order for p
//! absmax ← max|m|                  per block, the same for v
//! code   ← nearest of SIGNED to m · (1 / absmax)
//! ```
//! p is changed by the moments before they are rounded. Codes of a block of zeros are those of 0.
//! Shapes: p, g, codes `[n]` · absmax `[n / 256]`, rounded up.

use super::{AdamWStep, Factors};
use crate::Isa;
use crate::blocks::ELEMENTS;
use crate::dynamic::{SIGNED, UNSIGNED, signed_code, unsigned_code};
use crate::simd::{prefetch_ahead, shells};
use rayon::prelude::*;

/// Values that share one maximum.
pub const BLOCK_SIZE: usize = 256;
/// How far ahead memory is asked for: a block takes about as long as the way from memory.
const AHEAD: usize = 2 * BLOCK_SIZE;

/// A moment of each parameter, in codes. All zeros is a moment of zeros.
#[derive(Debug)]
pub struct Moment8<'a> {
    pub codes: &'a mut [u8],
    pub absmax: &'a mut [f32],
}

impl<'a> Moment8<'a> {
    /// Parts of [`ELEMENTS`] values.
    fn chunks(self) -> impl IndexedParallelIterator<Item = Moment8<'a>> {
        let absmax = self.absmax.par_chunks_mut(ELEMENTS / BLOCK_SIZE);
        let parts = self.codes.par_chunks_mut(ELEMENTS).zip(absmax);
        parts.map(|(codes, absmax)| Moment8 { codes, absmax })
    }

    /// The codes of each block, and its maximum.
    fn blocks(self) -> impl Iterator<Item = (&'a mut [u8], &'a mut f32)> {
        self.codes.chunks_mut(BLOCK_SIZE).zip(self.absmax)
    }
}

/// Updates p, and the codes of m and v, by the gradient g.
///
/// # Panics
/// If the lengths do not fit each other.
pub fn adamw8(isa: Isa, step: &AdamWStep, p: &mut [f32], g: &[f32], [m, v]: [Moment8; 2]) {
    let n = p.len();
    assert_eq!(g.len(), n, "adamw8: gradients for {n} values");
    for moment in [&m, &v] {
        assert_eq!(moment.codes.len(), n, "adamw8: codes for {n} values");
        assert_eq!(moment.absmax.len(), n.div_ceil(BLOCK_SIZE), "adamw8: blocks of {n} values");
    }
    let factors = Factors::new(step);
    p.par_chunks_mut(ELEMENTS)
        .zip(g.par_chunks(ELEMENTS))
        .zip(m.chunks().zip(v.chunks()))
        .for_each(|((p, g), (m, v))| chunk(isa, factors, p, g, m, v));
}

/// Updates some whole blocks, and perhaps a last one that is not full.
fn chunk(isa: Isa, f: Factors, p: &mut [f32], g: &[f32], m: Moment8, v: Moment8) {
    #[cfg(target_arch = "x86_64")]
    if let Some(token) = isa.vbmi() {
        return super::vbmi::chunk(token, f, p, g, m, v);
    }
    loops(isa, f, p, g, m, v);
}

shells! {
    fn loops(factors: Factors, p: &mut [f32], g: &[f32], m: Moment8, v: Moment8) = loops_body;
}

#[inline(always)]
pub(super) fn loops_body(f: Factors, p: &mut [f32], g: &[f32], m: Moment8, v: Moment8) {
    let mut exact = Exact { m: [0.0; BLOCK_SIZE], v: [0.0; BLOCK_SIZE] };
    let mut codes = Codes { m: [0; BLOCK_SIZE], v: [0; BLOCK_SIZE] };
    let values = p.chunks_mut(BLOCK_SIZE).zip(g.chunks(BLOCK_SIZE));
    for ((p, g), (m, v)) in values.zip(m.blocks().zip(v.blocks())) {
        let n = p.len();
        prefetch_ahead(p, AHEAD);
        prefetch_ahead(g, AHEAD);
        prefetch_ahead(m.0, AHEAD);
        prefetch_ahead(v.0, AHEAD);
        codes.m[..n].copy_from_slice(m.0);
        codes.v[..n].copy_from_slice(v.0);
        update(f, p, g, &codes, (m.1, v.1), &mut exact);
        encode(n, &exact, (*m.1, *v.1), &mut codes);
        m.0.copy_from_slice(&codes.m[..n]);
        v.0.copy_from_slice(&codes.v[..n]);
    }
}

/// The moments of a block before they are rounded.
#[repr(C, align(64))]
pub(super) struct Exact {
    pub m: [f32; BLOCK_SIZE],
    pub v: [f32; BLOCK_SIZE],
}

/// The codes of a block, in memory of our own: only of that the compiler knows that writing to it leaves
/// the tables as they are, and so vectorises the look-ups.
struct Codes {
    m: [u8; BLOCK_SIZE],
    v: [u8; BLOCK_SIZE],
}

/// Unpacks the moments of a block, takes the step, and finds their maxima, in one loop: divisions,
/// look-ups and memory each have units of their own.
#[inline(always)]
fn update(
    f: Factors,
    p: &mut [f32],
    g: &[f32],
    codes: &Codes,
    (m_max, v_max): (&mut f32, &mut f32),
    exact: &mut Exact,
) {
    let n = p.len().min(BLOCK_SIZE);
    let (p, g) = (&mut p[..n], &g[..n]);
    let (m_scale, v_scale) = (*m_max, *v_max);
    let (mut m_largest, mut v_largest) = (0, 0);
    let inverse = 1.0 / f.root_correction;
    for i in 0..n {
        let g = g[i] * f.grad_scale;
        let m = f.mean(SIGNED[usize::from(codes.m[i])] * m_scale, g);
        let v = f.square(UNSIGNED[usize::from(codes.v[i])] * v_scale, g);
        (exact.m[i], exact.v[i]) = (m, v);
        // As whole numbers the bits of magnitudes have the order of the magnitudes.
        m_largest = m_largest.max(m.to_bits() & 0x7fff_ffff);
        v_largest = v_largest.max(v.to_bits());
        let root = divide(v.sqrt(), f.root_correction, inverse);
        p[i] = p[i] * f.decay - f.step_size * m / (root + f.eps);
    }
    (*m_max, *v_max) = (f32::from_bits(m_largest), f32::from_bits(v_largest));
}

/// `x / y` to the bit, without a division: the quotient by the rounded inverse of y is within an ulp, and
/// the remainder, which is exact, corrects it (Markstein, 1990). The divider is what the loop waits for.
/// Not for an infinite x, nor for one so small that the remainder is denormal: no root is.
#[inline(always)]
pub(super) fn divide(x: f32, y: f32, inverse: f32) -> f32 {
    let quotient = x * inverse;
    (-quotient).mul_add(y, x).mul_add(inverse, quotient)
}

/// The nearest codes of the first `n` values of a block.
#[inline(always)]
fn encode(n: usize, exact: &Exact, (m_max, v_max): (f32, f32), codes: &mut Codes) {
    let n = n.min(BLOCK_SIZE);
    look_up(&exact.m[..n], inverse(m_max), &mut codes.m[..n], signed_code);
    look_up(&exact.v[..n], inverse(v_max), &mut codes.v[..n], unsigned_code);
}

/// What takes a block's values to ±1. A block of zeros gets the codes of 0.
#[inline(always)]
pub(super) fn inverse(max: f32) -> f32 {
    if max == 0.0 { 0.0 } else { 1.0 / max }
}

#[inline(always)]
pub(super) fn look_up(exact: &[f32], factor: f32, codes: &mut [u8], code: impl Fn(f32) -> u8) {
    for (to, exact) in codes.iter_mut().zip(exact) {
        *to = code(exact * factor);
    }
}
