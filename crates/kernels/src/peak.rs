//! What this machine can do at most, measured: multiply-adds on registers, and copies of memory.
//!
//! Benches print their figures beside these, from the same run. Nothing here is a benchmark of ours.

use crate::Isa;
use crate::gemm::{Precision, spin};
use rayon::prelude::*;
use std::time::{Duration, Instant};

/// Rounds between two looks at the clock.
const ROUNDS: usize = 20_000;
/// Bytes that each thread copies at once: more than a share of the last cache level, mostly.
const COPY_BYTES: usize = 64 << 20;

/// GFLOP/s of the arithmetic of gemm's kernel on registers alone, all threads of the pool together.
pub fn peak_gflops(isa: Isa, precision: Precision, seconds: f64) -> f64 {
    work_for(seconds, || spin(isa, precision, ROUNDS)) * 1e-9
}

/// GB/s of copying from memory to memory, read and written bytes counted, all threads together.
pub fn copy_gb_per_s(seconds: f64) -> f64 {
    let threads = rayon::current_num_threads();
    let mut buffers: Vec<_> = (0..threads)
        .into_par_iter()
        .map(|_| (vec![1u8; COPY_BYTES], vec![2u8; COPY_BYTES]))
        .collect();
    let start = Instant::now();
    let rates = buffers.par_iter_mut().with_max_len(1).map(|(from, to)| {
        rate_until(start + Duration::from_secs_f64(seconds), || {
            to.copy_from_slice(std::hint::black_box(from));
            2 * COPY_BYTES
        })
    });
    rates.sum::<f64>() * 1e-9
}

/// Sum over the pool's threads of what `work` counts a second.
fn work_for(seconds: f64, work: impl Fn() -> usize + Sync) -> f64 {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    rayon::broadcast(|_| rate_until(end, &work)).iter().sum()
}

fn rate_until(end: Instant, mut work: impl FnMut() -> usize) -> f64 {
    let start = Instant::now();
    let mut done = 0;
    loop {
        done += work();
        let now = Instant::now();
        if now >= end {
            return done as f64 / (now - start).as_secs_f64();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
