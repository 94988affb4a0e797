//! Microkernels for AVX2 with FMA, AVX-512 and AVX-512 BF16.
//!
//! Each kernel holds the token of its set, which is the proof that makes the calls of its shells
//! sound. Shells are `#[target_feature]` functions with safe bodies. Packing is in `x86_pack.rs`.
//!
//! `vdpbf16ps` multiplies pairs of bf16 and adds both products to an f32. It takes subnormal
//! operands as 0 and flushes subnormal results to 0.

use super::kernel::{Kernel, with_rows};
use super::output::{Rows, RowsOf, Tile};
use super::pack::{Encoding, Panel};
use super::x86_pack::{load16, pack_avx2, pack_avx512, pack_bf16};
use super::x86_put::{put_avx512, put_bf16};
use crate::isa::{Avx2, Avx512, Avx512Bf16};
use crate::value::Value;
use std::arch::x86_64::*;

/// f32 on AVX2 and FMA: tiles of 6 × 16 in 12 of 16 registers.
#[derive(Clone, Copy)]
pub(crate) struct F32Avx2(Avx2, Encoding);

/// f32 on AVX-512: tiles of 12 × 32 in 24 of 32 registers. Made only from a token that proves
/// `avx512f`, `bw`, `vl` and `dq`.
#[derive(Clone, Copy)]
pub(crate) struct F32Avx512(Encoding);

/// Pairs of bf16 on AVX-512 BF16: tiles of 12 × 32.
#[derive(Clone, Copy)]
pub(crate) struct Bf16Avx512(Avx512Bf16);

impl F32Avx2 {
    pub(crate) fn new(proof: Avx2, encoding: Encoding) -> F32Avx2 {
        F32Avx2(proof, encoding)
    }
}

impl F32Avx512 {
    pub(crate) fn new(_: Avx512, encoding: Encoding) -> F32Avx512 {
        F32Avx512(encoding)
    }
}

impl Bf16Avx512 {
    pub(crate) fn new(proof: Avx512Bf16) -> Bf16Avx512 {
        Bf16Avx512(proof)
    }
}

impl Kernel for F32Avx2 {
    type Session = ();

    const MR: usize = 6;
    const NR: usize = 16;
    const K_BLOCK: usize = 320;
    const SPIN_FLOPS: usize = 2 * 12 * 8;

    fn encoding(self) -> Encoding {
        self.1
    }

    fn start(self) {}

    fn pack(self, panel: &Panel, out: &mut [u32]) {
        // SAFETY: `self.0` proves `avx2` and `fma`.
        unsafe { pack_avx2(panel, out) }
    }

    #[inline]
    fn prefetch(self, panel: &Panel, part: usize, parts: usize) {
        panel.prefetch(part, parts, fetch_source);
    }

    fn tile(self, _: &(), rows: usize, a: &[u32], b: &[u32], c: Tile) {
        // SAFETY: `self.0` proves `avx2` and `fma`.
        unsafe { with_rows!(rows, [1 2 3 4 5 6], tile_avx2(a, b, c)) }
    }

    fn spin(self, rounds: usize) -> f32 {
        // SAFETY: `self.0` proves `avx2` and `fma`.
        unsafe { spin_avx2(rounds) }
    }
}

impl Kernel for F32Avx512 {
    type Session = ();

    const MR: usize = 12;
    const NR: usize = 32;
    const K_BLOCK: usize = 256;
    const SPIN_FLOPS: usize = 2 * 24 * 16;

    fn encoding(self) -> Encoding {
        self.0
    }

    fn start(self) {}

    fn pack(self, panel: &Panel, out: &mut [u32]) {
        // SAFETY: this value was made from a token that proves `avx512f`, `bw`, `vl` and `dq`.
        unsafe { pack_avx512(panel, out) }
    }

    #[inline]
    fn prefetch(self, panel: &Panel, part: usize, parts: usize) {
        panel.prefetch(part, parts, fetch_source);
    }

    fn tile(self, _: &(), rows: usize, a: &[u32], b: &[u32], c: Tile) {
        // SAFETY: this value was made from a token that proves `avx512f`, `bw`, `vl` and `dq`.
        unsafe { with_rows!(rows, [1 2 3 4 5 6 7 8 9 10 11 12], tile_avx512(a, b, c)) }
    }

    fn spin(self, rounds: usize) -> f32 {
        // SAFETY: this value was made from a token that proves `avx512f`, `bw`, `vl` and `dq`.
        unsafe { spin_avx512(rounds) }
    }
}

impl Kernel for Bf16Avx512 {
    type Session = ();

    const MR: usize = 12;
    const NR: usize = 32;
    const K_BLOCK: usize = 256;
    const SPIN_FLOPS: usize = 2 * 24 * 32;

    fn encoding(self) -> Encoding {
        Encoding::Pairs
    }

    fn start(self) {}

    fn pack(self, panel: &Panel, out: &mut [u32]) {
        // SAFETY: `self.0` proves `avx512bf16` and all that `Avx512` does.
        unsafe { pack_bf16(panel, out) }
    }

    #[inline]
    fn prefetch(self, panel: &Panel, part: usize, parts: usize) {
        panel.prefetch(part, parts, fetch_source);
    }

    fn tile(self, _: &(), rows: usize, a: &[u32], b: &[u32], c: Tile) {
        // SAFETY: `self.0` proves `avx512bf16` and all that `Avx512` does.
        unsafe { with_rows!(rows, [1 2 3 4 5 6 7 8 9 10 11 12], tile_bf16(a, b, c)) }
    }

    fn spin(self, rounds: usize) -> f32 {
        // SAFETY: `self.0` proves `avx512bf16` and all that `Avx512` does.
        unsafe { spin_bf16(rounds) }
    }
}

#[target_feature(enable = "avx2,fma")]
fn tile_avx2<const R: usize>(a: &[u32], b: &[u32], c: Tile) {
    c.fetch::<R, 16>(fetch);
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    for (a, b) in a.as_chunks::<R>().0.iter().zip(b.as_chunks::<16>().0) {
        let (b0, b1) = (load8(b, 0), load8(b, 1));
        for r in 0..R {
            let a = _mm256_set1_ps(f32::from_bits(a[r]));
            sums[r][0] = _mm256_fmadd_ps(a, b0, sums[r][0]);
            sums[r][1] = _mm256_fmadd_ps(a, b1, sums[r][1]);
        }
    }
    match c.rows() {
        Ok(Rows::F32(rows)) => put_rows_avx2(&sums, rows),
        Ok(Rows::Bf16(rows)) => put_rows_avx2(&sums, rows),
        Err(c) => {
            // SAFETY: two registers of 8 floats are 16 floats of plain data.
            let row = |x| unsafe { std::mem::transmute::<[__m256; 2], [f32; 16]>(x) };
            c.put(&sums.map(row))
        }
    }
}

/// As `RowsOf::put` does it.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn put_rows_avx2<T: Value, const R: usize>(sums: &[[__m256; 2]; R], mut rows: RowsOf<T, R, 16>) {
    let alpha = _mm256_set1_ps(rows.alpha());
    for (r, sums) in sums.iter().enumerate() {
        let mut row = *sums;
        for (half, value) in row.iter_mut().enumerate() {
            let product = _mm256_mul_ps(alpha, *value);
            *value = match rows.start(r) {
                Some(start) => _mm256_add_ps(floats8(start, half), product),
                None => product,
            };
        }
        // SAFETY: two registers of 8 floats are 16 floats of plain data.
        rows.set(r, &unsafe { std::mem::transmute::<[__m256; 2], [f32; 16]>(row) });
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn tile_avx512<const R: usize>(a: &[u32], b: &[u32], c: Tile) {
    c.fetch::<R, 32>(fetch);
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    let step = |sums: &mut [[__m512; 2]; R], a: &[u32; R], b: &[u32; 32]| {
        let b0 = _mm512_castsi512_ps(load16(b, 0));
        let b1 = _mm512_castsi512_ps(load16(b, 1));
        for r in 0..R {
            let a = _mm512_set1_ps(f32::from_bits(a[r]));
            sums[r][0] = _mm512_fmadd_ps(a, b0, sums[r][0]);
            sums[r][1] = _mm512_fmadd_ps(a, b1, sums[r][1]);
        }
    };
    let (a4, a1) = a.as_chunks::<R>().0.as_chunks::<4>();
    let (b4, b1) = b.as_chunks::<32>().0.as_chunks::<4>();
    for (a, b) in a4.iter().zip(b4) {
        step(&mut sums, &a[0], &b[0]);
        step(&mut sums, &a[1], &b[1]);
        step(&mut sums, &a[2], &b[2]);
        step(&mut sums, &a[3], &b[3]);
    }
    for (a, b) in a1.iter().zip(b1) {
        step(&mut sums, a, b);
    }
    // SAFETY: this shell has `avx512f`.
    unsafe { put_avx512(sums, c) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
fn tile_bf16<const R: usize>(a: &[u32], b: &[u32], c: Tile) {
    c.fetch::<R, 32>(fetch);
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    for (a, b) in a.as_chunks::<R>().0.iter().zip(b.as_chunks::<32>().0) {
        let (b0, b1) = (as_bf16(load16(b, 0)), as_bf16(load16(b, 1)));
        for r in 0..R {
            let a = as_bf16(_mm512_set1_epi32(a[r].cast_signed()));
            sums[r][0] = _mm512_dpbf16_ps(sums[r][0], a, b0);
            sums[r][1] = _mm512_dpbf16_ps(sums[r][1], a, b1);
        }
    }
    // SAFETY: this shell has `avx512f`, `avx512dq` and `avx512bf16`.
    unsafe { put_bf16(sums, c) }
}

#[inline(always)]
fn fetch(address: *const u8) {
    // SAFETY: a prefetch changes nothing that the program could see, at any address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
}

/// To the L2 cache: the L1 cache is full of what the kernel needs now.
#[inline(always)]
pub(super) fn fetch_source(address: *const u8) {
    // SAFETY: a prefetch changes nothing that the program could see, at any address.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load8(words: &[u32; 16], half: usize) -> __m256 {
    let words = &words.as_chunks::<8>().0[half];
    // SAFETY: `words` is 8 words, which are 8 floats' bits.
    unsafe { _mm256_loadu_ps(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn floats8(row: &[f32; 16], half: usize) -> __m256 {
    let row = &row.as_chunks::<8>().0[half];
    // SAFETY: `row` is 8 floats.
    unsafe { _mm256_loadu_ps(row.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512bf16,avx512f")]
fn as_bf16(words: __m512i) -> __m512bh {
    // SAFETY: both types are 512 bits of plain data.
    unsafe { std::mem::transmute(words) }
}

#[target_feature(enable = "avx2,fma")]
fn spin_avx2(rounds: usize) -> f32 {
    let (x, y) = std::hint::black_box((_mm256_set1_ps(0.5), _mm256_set1_ps(1e-3)));
    let mut sums = [x; 12];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, x, y);
        }
    }
    sums.map(|sum| _mm256_cvtss_f32(sum)).iter().sum()
}

#[target_feature(enable = "avx512f")]
fn spin_avx512(rounds: usize) -> f32 {
    let (x, y) = std::hint::black_box((_mm512_set1_ps(0.5), _mm512_set1_ps(1e-3)));
    let mut sums = [x; 24];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, x, y);
        }
    }
    sums.map(|sum| _mm512_cvtss_f32(sum)).iter().sum()
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn spin_bf16(rounds: usize) -> f32 {
    let one = _mm512_set1_epi32(0x3f80_3f80);
    let (x, y) = std::hint::black_box((as_bf16(one), as_bf16(one)));
    let mut sums = [_mm512_setzero_ps(); 24];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, x, y);
        }
    }
    sums.map(|sum| _mm512_cvtss_f32(sum)).iter().sum()
}
