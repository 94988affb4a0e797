//! What this machine can do at most, measured: multiply-adds on registers, and copies of memory.
//!
//! Benches print their figures beside these, from the same run. Nothing here is a benchmark of ours.

use crate::Isa;
use crate::gemm::{Precision, spin};
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
