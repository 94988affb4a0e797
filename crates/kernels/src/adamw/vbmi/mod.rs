//! 8-bit AdamW in whole blocks, where AVX-512 permutes bytes (VBMI): values of codes from tables of their
//! bytes, codes of values by lines. The same bits as the loops of `eight_bit`.
//!
//! A block is passed twice, since its codes need its maxima: roots and quotients, which take longest, are
//! taken in the second pass, where nothing waits for them. Two blocks are passed together: between the
//! passes of the one stands a pass of the other, so that the second does not wait for the maxima.

mod nearest;
mod values;

use self::nearest::{Tables, look_up_group, near, quarters, square_codes};
use self::values::{signed_values, unsigned_values};
use super::Factors;
use super::eight_bit::{BLOCK_SIZE, Exact, Moment8, inverse, loops_body};
use super::lines;
use crate::isa::Avx512Vbmi;
use crate::simd::prefetch_ahead;
use std::arch::x86_64::*;

/// Values whose codes fill a register.
const GROUP: usize = 64;
/// Values in a register.
const LANES: usize = 16;
/// Blocks that are passed together.
const TOGETHER: usize = 2;
/// How far ahead memory is asked for, a group at a time: all of a block at once is more than the CPU
/// waits for at a time. Each pass asks for what the other reads, the longer one for more: so lines are
/// asked for evenly.
const P_AHEAD: usize = BLOCK_SIZE;
const G_AHEAD: usize = 3 * BLOCK_SIZE;

type Codes = [u8; BLOCK_SIZE];

/// [`loops_body`] with whole blocks done faster.
pub(super) fn chunk(_: Avx512Vbmi, f: Factors, p: &mut [f32], g: &[f32], m: Moment8, v: Moment8) {
    // SAFETY: the token proves that this CPU has what `blocks` enables.
    unsafe { blocks(f, p, g, m, v) }
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
fn blocks(f: Factors, p: &mut [f32], g: &[f32], m: Moment8, v: Moment8) {
    let (p, p_rest) = p.as_chunks_mut::<BLOCK_SIZE>();
    let (g, g_rest) = g.as_chunks::<BLOCK_SIZE>();
    let (m, m_rest) = whole_blocks(m);
    let (v, v_rest) = whole_blocks(v);
    let wide = Wide::new(&f);
    let tables = Tables::new();
    let mut exact = [const { Exact { m: [0.0; BLOCK_SIZE], v: [0.0; BLOCK_SIZE] } }; TOGETHER];
    let blocks = p.iter_mut().zip(g).zip(m.zip(v));
    let mut blocks = blocks.map(|((p, g), (m, v))| Block { p, g, m, v });
    loop {
        let mut together: [_; TOGETHER] = std::array::from_fn(|_| blocks.next());
        for (block, exact) in together.iter_mut().flatten().zip(&mut exact) {
            moments(&wide, block, exact);
        }
        for (block, exact) in together.iter_mut().flatten().zip(&exact) {
            finish(&wide, &tables, block, exact);
        }
        if together.iter().any(Option::is_none) {
            break;
        }
    }
    loops_body(f, p_rest, g_rest, m_rest, v_rest);
}

/// Values that share their maxima, and for each moment the codes with the maximum.
struct Block<'a> {
    p: &'a mut [f32; BLOCK_SIZE],
    g: &'a [f32; BLOCK_SIZE],
    m: (&'a mut Codes, &'a mut f32),
    v: (&'a mut Codes, &'a mut f32),
}

/// The codes of each whole block with its maximum, and what is left.
fn whole_blocks(
    moment: Moment8<'_>,
) -> (impl Iterator<Item = (&mut Codes, &mut f32)>, Moment8<'_>) {
    let (codes, rest) = moment.codes.as_chunks_mut::<BLOCK_SIZE>();
    let (absmax, rest_absmax) = moment.absmax.split_at_mut(codes.len());
    (codes.iter_mut().zip(absmax), Moment8 { codes: rest, absmax: rest_absmax })
}

/// Unpacks the moments of a block, adds the gradients, and takes their maxima.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
fn moments(f: &Wide, block: &mut Block, exact: &mut Exact) {
    let scales = (_mm512_set1_ps(*block.m.1), _mm512_set1_ps(*block.v.1));
    let mut largest = (_mm512_setzero_ps(), _mm512_setzero_si512());
    for at in (0..BLOCK_SIZE).step_by(GROUP) {
        prefetch_ahead(&block.p[at..at + GROUP], P_AHEAD);
        let m = signed_values(group(&block.m.0[at..]));
        let v = unsigned_values(group(&block.v.0[at..]));
        for (j, (m, v)) in m.into_iter().zip(v).enumerate() {
            let i = at + LANES * j;
            let values = (_mm512_mul_ps(m, scales.0), _mm512_mul_ps(v, scales.1));
            let (m, v) = f.moments(values, lanes(&block.g[i..]));
            store(&mut exact.m[i..], m);
            store(&mut exact.v[i..], v);
            // The larger magnitude, without its sign.
            largest.0 = _mm512_range_ps::<0b1011>(largest.0, m);
            // The bits of numbers that are not negative have their order.
            largest.1 = _mm512_max_epu32(largest.1, _mm512_castps_si512(v));
        }
    }
    let max = |largest| f32::from_bits(_mm512_reduce_max_epu32(largest));
    let v_max = max(largest.1);
    // A range leaves out what is not a number. Such an m comes of a factor or a maximum that is not
    // finite, or of such a gradient, and then v is not finite either.
    let m_max = if f.finite_means && block.m.1.is_finite() && v_max.is_finite() {
        max(_mm512_castps_si512(largest.0))
    } else {
        largest_magnitude(&exact.m)
    };
    (*block.m.1, *block.v.1) = (m_max, v_max);
}

/// By the order of the bits, in which what is not a number is above all numbers.
#[cold]
#[inline(never)]
fn largest_magnitude(m: &[f32; BLOCK_SIZE]) -> f32 {
    f32::from_bits(m.iter().fold(0, |largest, m| largest.max(m.abs().to_bits())))
}

/// Moves p by the moments of a block, and writes their nearest codes. Where the lines do not decide one of
/// a group, and where a maximum or its inverse is no number to count with, the group is looked up.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")]
fn finish(f: &Wide, tables: &Tables, block: &mut Block, exact: &Exact) {
    let (m_max, v_max) = (*block.m.1, *block.v.1);
    let factors = (inverse(m_max), inverse(v_max));
    let m_factor = factors.0 * lines::RATIO;
    // A denormal factor would be rounded otherwise than the look-up's.
    let countable = |max: f32, factor: f32| max == 0.0 || (max.is_finite() && factor.is_normal());
    let countable = countable(m_max, m_factor) && countable(v_max, factors.1);
    for at in (0..BLOCK_SIZE).step_by(GROUP) {
        prefetch_ahead(&block.g[at..at + GROUP], G_AHEAD);
        prefetch_ahead(&block.m.0[at..at + GROUP], G_AHEAD);
        prefetch_ahead(&block.v.0[at..at + GROUP], G_AHEAD);
        let mut on_lines = ([_mm512_setzero_si512(); 4], [_mm512_setzero_si512(); 4]);
        for (j, (on_m, on_v)) in on_lines.0.iter_mut().zip(&mut on_lines.1).enumerate() {
            let i = at + LANES * j;
            let (m, v) = (lanes(&exact.m[i..]), lanes(&exact.v[i..]));
            let moved = f.moved(lanes(&block.p[i..]), m, v);
            store(&mut block.p[i..], moved);
            *on_m = tables.m.line(m, m_factor);
            *on_v = tables.v.line(v, factors.1);
        }
        let (m, v) = (group_of(&exact.m, at), group_of(&exact.v, at));
        let (m_codes, v_codes) = (&mut block.m.0[at..], &mut block.v.0[at..]);
        store_group(m_codes, tables.m.codes(on_lines.0, quarters(m)));
        store_group(v_codes, square_codes(on_lines.1));
        if near(on_lines.0, on_lines.1) || !countable {
            look_up_group((m, v), factors, (m_codes, v_codes));
        }
    }
}

#[inline(always)]
fn group_of(x: &[f32; BLOCK_SIZE], at: usize) -> &[f32; GROUP] {
    &x.as_chunks().0[at / GROUP]
}

/// [`Factors`], each in all lanes of a register.
#[derive(Clone, Copy)]
struct Wide {
    grad_scale: __m512,
    decay: __m512,
    beta1: __m512,
    one_minus_beta1: __m512,
    beta2: __m512,
    one_minus_beta2: __m512,
    step_size: __m512,
    root_correction: __m512,
    root_inverse: __m512,
    eps: __m512,
    /// Whether β1 and 1 − β1 are finite.
    finite_means: bool,
}

impl Wide {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(f: &Factors) -> Wide {
        Wide {
            grad_scale: _mm512_set1_ps(f.grad_scale),
            decay: _mm512_set1_ps(f.decay),
            beta1: _mm512_set1_ps(f.beta1),
            one_minus_beta1: _mm512_set1_ps(f.one_minus_beta1),
            beta2: _mm512_set1_ps(f.beta2),
            one_minus_beta2: _mm512_set1_ps(f.one_minus_beta2),
            step_size: _mm512_set1_ps(f.step_size),
            root_correction: _mm512_set1_ps(f.root_correction),
            root_inverse: _mm512_set1_ps(1.0 / f.root_correction),
            eps: _mm512_set1_ps(f.eps),
            finite_means: f.beta1.is_finite() && f.one_minus_beta1.is_finite(),
        }
    }

    /// The new m and v, by the operations of [`update`](super::eight_bit::update).
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn moments(&self, (m, v): (__m512, __m512), g: __m512) -> (__m512, __m512) {
        let g = _mm512_mul_ps(g, self.grad_scale);
        let m = _mm512_fmadd_ps(self.one_minus_beta1, g, _mm512_mul_ps(self.beta1, m));
        let scaled = _mm512_mul_ps(self.one_minus_beta2, g);
        (m, _mm512_fmadd_ps(scaled, g, _mm512_mul_ps(self.beta2, v)))
    }

    /// The new p.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn moved(&self, p: __m512, m: __m512, v: __m512) -> __m512 {
        let root = _mm512_sqrt_ps(v);
        let quotient = _mm512_mul_ps(root, self.root_inverse);
        let rest = _mm512_fnmadd_ps(quotient, self.root_correction, root);
        let root = _mm512_fmadd_ps(rest, self.root_inverse, quotient);
        let change = _mm512_mul_ps(self.step_size, m);
        let change = _mm512_div_ps(change, _mm512_add_ps(root, self.eps));
        _mm512_sub_ps(_mm512_mul_ps(p, self.decay), change)
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn lanes(x: &[f32]) -> __m512 {
    let x = &x[..LANES];
    // SAFETY: `x` is a register long.
    unsafe { _mm512_loadu_ps(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(to: &mut [f32], x: __m512) {
    let to = &mut to[..LANES];
    // SAFETY: `to` is a register long.
    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), x) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn group(codes: &[u8]) -> __m512i {
    let codes = &codes[..GROUP];
    // SAFETY: `codes` is a register long.
    unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_group(to: &mut [u8], codes: __m512i) {
    let to = &mut to[..GROUP];
    // SAFETY: `to` is a register long.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), codes) }
}
