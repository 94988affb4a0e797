//! What the vectorised bodies share: the shells of a body, sums in a fixed order, and `exp`, `tanh`
//! and `erf` without branches.
//!
//! Nothing here uses intrinsics or a fused multiply-add: the compiler vectorises the same plain
//! arithmetic for every instruction set, and so the bits are the same on all of them.

/// Partial sums of a reduction: one AVX-512 register, two of AVX2, four of SSE or NEON.
pub const LANES: usize = 16;

/// Defines `fn NAME(isa, args…)`, which runs an `#[inline(always)]` body compiled for `isa`.
///
/// Write the body's loops as `for`: what an adapter calls (`for_each`, `fold`) may be compiled on its
/// own, and then has none of the shell's features.
///
/// ```text
/// shells! { fn add(y: &mut [f32], x: &[f32]) = add_body; }
/// shells! { fn scale<Y: Value>(y: &mut [Y], a: f32) = scale_body; }
/// ```
macro_rules! shells {
    ($($(#[$attr:meta])* $vis:vis fn $name:ident $(<$T:ident: $bound:path>)? (
        $($arg:ident: $ty:ty),* $(,)?
    ) $(-> $ret:ty)? = $body:path;)*) => {$(
        $(#[$attr])*
        $vis fn $name $(<$T: $bound>)? (isa: $crate::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2 $(<$T: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
                $body($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
            fn avx512 $(<$T: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
                $body($($arg),*)
            }
            match isa.for_f32() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the token proves that this CPU has what `avx2` enables.
                $crate::Isa::Avx2(_) => unsafe { avx2($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the token proves that this CPU has what `avx512` enables.
                $crate::Isa::Avx512(_) => unsafe { avx512($($arg),*) },
                // NEON is part of every aarch64 target, so the plain body is its shell.
                _ => $body($($arg),*),
            }
        }
    )*};
}
pub(crate) use shells;

/// Asks for the memory as long as `x` that begins `ahead` elements after it does, without waiting for it.
/// For loops that compute so long between two reads that the CPU does not look ahead far enough by
/// itself. Nothing is read: what lies there need not be ours.
#[inline(always)]
pub(crate) fn prefetch_ahead<T>(x: &[T], ahead: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..size_of_val(x)).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let place = x.as_ptr().wrapping_add(ahead).wrapping_byte_add(line);
        // SAFETY: a prefetch of any address at all has no effect that a program can see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (x, ahead);
}

/// `exp(x)` within 1.5 ulp; infinite above 88.73, denormal and then 0 below −87.33; NaN stays NaN.
///
/// ```text
/// x = n·ln 2 + r,  |r| ≤ ln 2 / 2        exp(x) = 2^n · (1 + r + r²·p(r))
/// ```
/// Source of the coefficients: Cephes, `expf`.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4; // 355/512: its product with n is exact
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const ROUND: f32 = 12_582_912.0; // 1.5·2²³: adding it rounds to whole numbers

    // Comparisons that are false for NaN let it through.
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;

    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let y = p * (r * r) + r + 1.0;

    // 2^n in two factors, so that a result that is infinite or denormal comes out by rounding.
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    y * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// `2^n` for −126 ≤ n ≤ 127; anything else gives some number.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

/// `tanh(x)` within 2 ulp: a polynomial below 0.625, `1 − 2/(exp(2x) + 1)` above (Cephes, `tanhf`).
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let a = x.abs();
    let s = x * x;
    let mut p = -5.704_988_7e-3;
    p = p * s + 2.063_909e-2;
    p = p * s - 5.373_971_6e-2;
    p = p * s + 1.333_144_2e-1;
    p = p * s - 3.333_328e-1;
    let small = p * s * a + a;
    let large = 1.0 - 2.0 / (exp(a + a) + 1.0);
    (if a < 0.625 { small } else { large }).copysign(x)
}

/// `erf(x)` within 2 ulp: an odd polynomial below 0.928, `1 − exp(polynomial)` above.
/// Source of the coefficients: N. Juffa's `erff`.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let a = x.abs();
    let s = x * x;
    let mut p = -5.967_617e-4;
    p = p * s + 4.991_194_2e-3;
    p = p * s - 2.676_813_5e-2;
    p = p * s + 1.128_199_3e-1;
    p = p * s - 3.761_253_4e-1;
    p = p * s + 1.283_791_7e-1;
    let small = p * a + a;

    // From 4 on erf is 1 in f32; the polynomial is only made for what lies below.
    let t = if a > 4.0 { 4.0 } else { a };
    let mut q = -1.728_534_7e-5;
    q = q * t + 3.831_971_3e-4;
    q = q * t - 3.883_964_4e-3;
    q = q * t + 2.425_462_2e-2;
    q = q * t - 1.067_778_8e-1;
    q = q * t - 6.348_467e-1;
    q = q * t - 1.287_175_1e-1;
    let large = 1.0 - exp(q * t - t);
    (if a < 0.927_734_4 { small } else { large }).copysign(x)
}

/// Adds the partial sums pairwise: `((0+8)+(4+12))+…`, the order of a register's halvings.
#[inline(always)]
pub fn add_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// `Σ f(x[i])` in [`LANES`] partial sums.
#[inline(always)]
pub fn sum_map(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += f(x);
    }
    add_lanes(lanes)
}

/// `Σ x[i]`.
#[inline(always)]
pub fn sum(x: &[f32]) -> f32 {
    sum_map(x, |x| x)
}

/// `Σ f(x[i], y[i])` in [`LANES`] partial sums, over the shorter length.
#[inline(always)]
pub fn sum_map2<X: Copy, Y: Copy>(x: &[X], y: &[Y], f: impl Fn(X, Y) -> f32) -> f32 {
    let len = x.len().min(y.len());
    let mut lanes = [0.0; LANES];
    let (x_chunks, x_rest) = x[..len].as_chunks::<LANES>();
    let (y_chunks, y_rest) = y[..len].as_chunks::<LANES>();
    for (x, y) in x_chunks.iter().zip(y_chunks) {
        for i in 0..LANES {
            lanes[i] += f(x[i], y[i]);
        }
    }
    for (lane, (&x, &y)) in lanes.iter_mut().zip(x_rest.iter().zip(y_rest)) {
        *lane += f(x, y);
    }
    add_lanes(lanes)
}

/// `Σ x[i]·y[i]`.
#[inline(always)]
pub fn dot(x: &[f32], y: &[f32]) -> f32 {
    sum_map2(x, y, |x, y| x * y)
}

/// `Σ f(x[i], y[i], z[i])` in [`LANES`] partial sums, over the shortest length.
#[inline(always)]
pub fn sum_map3(x: &[f32], y: &[f32], z: &[f32], f: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let len = x.len().min(y.len()).min(z.len());
    let mut lanes = [0.0; LANES];
    let (x_chunks, x_rest) = x[..len].as_chunks::<LANES>();
    let (y_chunks, y_rest) = y[..len].as_chunks::<LANES>();
    let (z_chunks, z_rest) = z[..len].as_chunks::<LANES>();
    for ((x, y), z) in x_chunks.iter().zip(y_chunks).zip(z_chunks) {
        for i in 0..LANES {
            lanes[i] += f(x[i], y[i], z[i]);
        }
    }
    for (i, lane) in lanes.iter_mut().enumerate().take(x_rest.len()) {
        *lane += f(x_rest[i], y_rest[i], z_rest[i]);
    }
    add_lanes(lanes)
}

/// The largest element, −∞ of none; a NaN is passed over.
#[inline(always)]
pub fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = if x > *lane { x } else { *lane };
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, |max, x| if x > max { x } else { max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[inline(always)]
    fn map_body(x: &[f32], y: &mut [f32], f: impl Fn(f32) -> f32) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = f(x);
        }
    }
    #[inline(always)]
    fn exps_body(x: &[f32], y: &mut [f32]) {
        map_body(x, y, exp)
    }
    #[inline(always)]
    fn tanhs_body(x: &[f32], y: &mut [f32]) {
        map_body(x, y, tanh)
    }
    #[inline(always)]
    fn erfs_body(x: &[f32], y: &mut [f32]) {
        map_body(x, y, erf)
    }
    #[inline(always)]
    fn sums_body(x: &[f32], y: &mut [f32]) {
        y[0] = sum(x);
        y[1] = dot(x, x);
        y[2] = sum_map3(x, x, x, |a, b, c| a * b * c);
        y[3] = max(x);
    }
    shells! {
        fn exps(x: &[f32], y: &mut [f32]) = exps_body;
        fn tanhs(x: &[f32], y: &mut [f32]) = tanhs_body;
        fn erfs(x: &[f32], y: &mut [f32]) = erfs_body;
        fn sums(x: &[f32], y: &mut [f32]) = sums_body;
    }

    /// erf as a series without cancellation: 2/√π · exp(−x²) · Σ 2ⁿ x²ⁿ⁺¹ / (1·3·…·(2n+1)).
    fn erf_f64(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= 2.0 * x * x / (2 * n + 1) as f64;
            sum += term;
        }
        2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
    }

    /// The distance to the true value in units of the last place of the nearest f32.
    fn ulps(got: f32, want: f64) -> f64 {
        let nearest = want as f32;
        let unit = (f32::from_bits(nearest.abs().to_bits() + 1) - nearest.abs()) as f64;
        (got as f64 - want).abs() / unit
    }

    fn check(
        name: &str,
        (from, to): (f32, f32),
        bound: f64,
        f: fn(Isa, &[f32], &mut [f32]),
        want: fn(f64) -> f64,
    ) {
        let n = 400_001;
        let x: Vec<f32> =
            (0..n).map(|i| from + (to - from) * (i as f32 / (n - 1) as f32)).collect();
        let mut portable = vec![0.0; n];
        f(Isa::Portable, &x, &mut portable);
        let worst = x.iter().zip(&portable).map(|(&x, &y)| (ulps(y, want(x as f64)), x));
        let worst = worst.fold((0.0, 0.0), |a, b| if b.0 > a.0 { b } else { a });
        println!("{name}: {:.2} ulp at {}", worst.0, worst.1);
        assert!(worst.0 <= bound, "{name}: {} ulp at {}", worst.0, worst.1);
        for isa in Isa::available() {
            let mut y = vec![0.0; n];
            f(isa, &x, &mut y);
            assert!(
                y.iter().zip(&portable).all(|(a, b)| a.to_bits() == b.to_bits()),
                "{name} on {}",
                isa.name()
            );
        }
    }

    #[test]
    fn exp_tanh_and_erf_are_within_their_ulps_and_the_same_bits_on_every_set() {
        check("exp", (-87.0, 88.7), 1.5, exps, f64::exp);
        check("exp near 0", (-1.0, 1.0), 1.5, exps, f64::exp);
        check("tanh", (-10.0, 10.0), 2.0, tanhs, f64::tanh);
        check("tanh near 0", (-0.7, 0.7), 2.0, tanhs, f64::tanh);
        check("erf", (-5.0, 5.0), 2.0, erfs, erf_f64);
        check("erf near 0", (-1.1, 1.1), 2.0, erfs, erf_f64);
    }

    #[test]
    fn ends_of_the_range() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1e30), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(88.8), f32::INFINITY);
        assert!(exp(-100.0) > 0.0 && exp(-100.0) < 1e-43);
        assert!([exp(f32::NAN), tanh(f32::NAN), erf(f32::NAN)].iter().all(|y| y.is_nan()));
        assert_eq!([tanh(100.0), tanh(f32::NEG_INFINITY)], [1.0, -1.0]);
        assert_eq!([erf(100.0), erf(f32::NEG_INFINITY)], [1.0, -1.0]);
        assert_eq!([tanh(-0.0).to_bits(), erf(-0.0).to_bits()], [(-0.0f32).to_bits(); 2]);
    }

    #[test]
    fn sums_are_the_same_bits_on_every_set() {
        for len in (0..70).chain([1000, 1003]) {
            let x: Vec<f32> = (0..len).map(|i| ((i * 37 + 11) % 101) as f32 / 17.0 - 2.5).collect();
            let mut want = [0.0; 4];
            sums(Isa::Portable, &x, &mut want);
            let exact: f64 = x.iter().map(|&x| x as f64).sum();
            assert!((want[0] as f64 - exact).abs() <= 1e-6 * len as f64, "sum of {len}");
            let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(want[3], max);
            for isa in Isa::available() {
                let mut got = [0.0; 4];
                sums(isa, &x, &mut got);
                assert_eq!(
                    got.map(f32::to_bits),
                    want.map(f32::to_bits),
                    "{len} on {}",
                    isa.name()
                );
            }
        }
    }
}
