//! What this machine can do at most, measured: multiply-adds on registers, copies of memory, and
//! the traffic of some kernels without their arithmetic.
//!
//! Benches print their figures beside these, from the same run. Nothing here is a benchmark of ours.

use crate::Isa;
use crate::blocks::ELEMENTS;
use crate::gemm::{Precision, spin};
use crate::simd::shells;
use rayon::prelude::*;
use std::time::{Duration, Instant};

/// Rounds between two looks at the clock: about 0.1 ms, shorter than a slice of the scheduler.
const ROUNDS: usize = 20_000;
/// Bytes that each thread copies at once: more than a share of the last cache level, mostly.
const COPY_BYTES: usize = 32 << 20;

/// GFLOP/s of the arithmetic of gemm's kernel on registers alone, all threads of the pool together.
pub fn peak_gflops(isa: Isa, precision: Precision, seconds: f64) -> f64 {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let rates = rayon::broadcast(|_| best_rate(end, || spin(isa, precision, ROUNDS)));
    rates.iter().sum::<f64>() * 1e-9
}

/// GB/s of copying from memory to memory, read and written bytes counted, all threads together.
pub fn copy_gb_per_s(seconds: f64) -> f64 {
    let threads = rayon::current_num_threads();
    let mut buffers: Vec<_> = (0..threads)
        .into_par_iter()
        .map(|_| (vec![1u8; COPY_BYTES], vec![2u8; COPY_BYTES]))
        .collect();
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let rates = buffers.par_iter_mut().with_max_len(1).map(|(from, to)| {
        best_rate(end, || {
            to.copy_from_slice(std::hint::black_box(from));
            2 * COPY_BYTES
        })
    });
    rates.sum::<f64>() * 1e-9
}

/// `a[i] = b[i] + s·c[i]` (McCalpin, 1995): what memory gives a plain loop, on all threads.
pub fn triad(isa: Isa, a: &mut [f32], b: &[f32], c: &[f32]) {
    let from = b.par_chunks(ELEMENTS).zip(c.par_chunks(ELEMENTS));
    a.par_chunks_mut(ELEMENTS).zip(from).for_each(|(a, (b, c))| triad_block(isa, a, b, c));
}

/// The memory traffic of `adamw`, with one multiply-add for each number it writes.
pub fn adamw_traffic(isa: Isa, p: &mut [f32], g: &[f32], [m, v]: [&mut [f32]; 2]) {
    let moments = m.par_chunks_mut(ELEMENTS).zip(v.par_chunks_mut(ELEMENTS));
    p.par_chunks_mut(ELEMENTS)
        .zip(g.par_chunks(ELEMENTS))
        .zip(moments)
        .for_each(|((p, g), (m, v))| adamw_traffic_block(isa, p, g, m, v));
}

/// The memory traffic of `adamw8` but for the maxima of blocks: one 64th of a byte each way.
pub fn adamw8_traffic(isa: Isa, p: &mut [f32], g: &[f32], [m, v]: [&mut [u8]; 2]) {
    let codes = m.par_chunks_mut(ELEMENTS).zip(v.par_chunks_mut(ELEMENTS));
    p.par_chunks_mut(ELEMENTS)
        .zip(g.par_chunks(ELEMENTS))
        .zip(codes)
        .for_each(|((p, g), (m, v))| adamw8_traffic_block(isa, p, g, m, v));
}

shells! {
    fn triad_block(a: &mut [f32], b: &[f32], c: &[f32]) = triad_body;
    fn adamw_traffic_block(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) = adamw_traffic_body;
    fn adamw8_traffic_block(p: &mut [f32], g: &[f32], m: &mut [u8], v: &mut [u8]) = adamw8_traffic_body;
}

#[inline(always)]
fn triad_body(a: &mut [f32], b: &[f32], c: &[f32]) {
    for ((a, &b), &c) in a.iter_mut().zip(b).zip(c) {
        *a = b + 0.5 * c;
    }
}

#[inline(always)]
fn adamw_traffic_body(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        *p += 1e-9 * g;
        *m += 1e-9 * g;
        *v += 1e-9 * g;
    }
}

#[inline(always)]
fn adamw8_traffic_body(p: &mut [f32], g: &[f32], m: &mut [u8], v: &mut [u8]) {
    for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        *p += 1e-9 * g;
        *m = m.wrapping_add(1);
        *v = v.wrapping_add(1);
    }
}

/// The best rate of `work`, which returns what it did, until `end`. The best and not the mean: on a
/// shared machine most others are interrupted, and a limit is what would be possible.
fn best_rate(end: Instant, mut work: impl FnMut() -> usize) -> f64 {
    let (mut start, mut best) = (Instant::now(), 0.0f64);
    loop {
        let done = work();
        let now = Instant::now();
        best = best.max(done as f64 / (now - start).as_secs_f64());
        if now >= end {
            return best;
        }
        start = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_writes_every_number() {
        let n = ELEMENTS + 5;
        for isa in Isa::available() {
            let (mut p, g) = (vec![0.0; n], vec![2.0; n]);
            triad(isa, &mut p, &g, &g);
            assert!(p.iter().all(|&p| p == 3.0));
            let (mut m, mut v, mut codes) =
                (vec![0.0; n], vec![0.0; n], [vec![0; n], vec![255; n]]);
            p.fill(0.0);
            adamw_traffic(isa, &mut p, &g, [&mut m, &mut v]);
            assert!([&p, &m, &v].into_iter().flatten().all(|&x| x == 1e-9 * 2.0));
            let [c1, c2] = &mut codes;
            adamw8_traffic(isa, &mut p, &g, [c1, c2]);
            assert!(p.iter().all(|&p| p > 2e-9));
            assert!(codes[0].iter().all(|&m| m == 1) && codes[1].iter().all(|&v| v == 0));
        }
    }

    #[test]
    fn peaks_are_measured_for_every_set() {
        for isa in Isa::available() {
            for precision in [Precision::F32, Precision::Bf16] {
                let gflops = peak_gflops(isa, precision, 0.02);
                println!("{} {precision:?}: {gflops:.1} GFLOP/s", isa.name());
                assert!(gflops.is_finite() && gflops > 0.1);
            }
        }
        assert!(copy_gb_per_s(0.02) > 0.01);
    }
}
