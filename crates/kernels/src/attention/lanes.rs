//! One vector register of f32 in each instruction set, as the small product needs it.
//!
//! The compiler leaves plain arrays of this many sums in memory (measured: 1 GFLOP/s where registers
//! give 60), so the registers are named. Everything else of the attention is plain loops.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// A register of [`Lanes::LEN`] floats.
///
/// # Safety of its functions
/// - The CPU has the features of the implementing type, and the caller's shell enables them.
/// - Pointers are valid for the lanes that are read or written: all, or in `…_first` the first `n`.
pub(super) trait Lanes: Copy {
    const LEN: usize;
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// The first `n` lanes, below `LEN`; the others are 0.
    unsafe fn load_first(from: *const f32, n: usize) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn store_first(self, to: *mut f32, n: usize);
    /// `self · b + c`.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    unsafe fn add(self, b: Self) -> Self;
}

/// The baseline of the target: two registers of SSE or NEON.
pub(super) type PlainLanes = [f32; 8];

impl Lanes for PlainLanes {
    const LEN: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        [x; 8]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for all lanes; an array of f32 is aligned as f32.
        unsafe { *from.cast() }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Self {
        let mut lanes = [0.0; 8];
        // SAFETY: the caller vouches for `n` lanes.
        lanes[..n].copy_from_slice(unsafe { std::slice::from_raw_parts(from, n) });
        lanes
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as in `load`.
        unsafe { *to.cast() = self }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize) {
        // SAFETY: the caller vouches for `n` lanes.
        unsafe { std::slice::from_raw_parts_mut(to, n) }.copy_from_slice(&self[..n]);
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // Without an instruction for it `f32::mul_add` is a call; every aarch64 has one.
        let fused = cfg!(any(target_arch = "aarch64", target_feature = "fma"));
        let lane =
            |i: usize| if fused { self[i].mul_add(b[i], c[i]) } else { self[i] * b[i] + c[i] };
        std::array::from_fn(lane)
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        std::array::from_fn(|i| self[i] + b[i])
    }
}

/// Needs `avx2` and `fma`.
#[cfg(target_arch = "x86_64")]
impl Lanes for __m256 {
    const LEN: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller vouches for the features.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for the features and all lanes.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Self {
        // SAFETY: the caller vouches for the features and `n` lanes; masked lanes aren't touched.
        unsafe { _mm256_maskload_ps(from, first_lanes(n)) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for the features and all lanes.
        unsafe { _mm256_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize) {
        // SAFETY: the caller vouches for the features and `n` lanes; masked lanes aren't touched.
        unsafe { _mm256_maskstore_ps(to, first_lanes(n), self) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: the caller vouches for the features.
        unsafe { _mm256_fmadd_ps(self, b, c) }
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: the caller vouches for the features.
        unsafe { _mm256_add_ps(self, b) }
    }
}

/// All bits of the first `n` lanes.
///
/// # Safety
/// - `avx2` is present, and the caller's shell enables it.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn first_lanes(n: usize) -> __m256i {
    // SAFETY: the caller vouches for the feature.
    unsafe {
        let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(n.min(8) as i32), lane)
    }
}

/// Needs `avx512f`.
#[cfg(target_arch = "x86_64")]
impl Lanes for __m512 {
    const LEN: usize = 16;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller vouches for the feature.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for the feature and all lanes.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Self {
        // SAFETY: the caller vouches for the feature and `n` lanes; masked lanes aren't touched.
        unsafe { _mm512_maskz_loadu_ps(first_bits(n), from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for the feature and all lanes.
        unsafe { _mm512_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize) {
        // SAFETY: the caller vouches for the feature and `n` lanes; masked lanes aren't touched.
        unsafe { _mm512_mask_storeu_ps(to, first_bits(n), self) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: the caller vouches for the feature.
        unsafe { _mm512_fmadd_ps(self, b, c) }
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        // SAFETY: the caller vouches for the feature.
        unsafe { _mm512_add_ps(self, b) }
    }
}

/// One bit for each of the first `n` of 16 lanes.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn first_bits(n: usize) -> u16 {
    ((1u32 << n.min(16)) - 1) as u16
}
