//! What the kernels' tests share: numbers, and the check that a kernel gives the same bits on every
//! instruction set and for any number of threads.

use crate::Isa;
use half::bf16;

/// Numbers in ±2, the same for the same seed.
pub(crate) fn values(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 4.0
    };
    (0..n).map(|_| next()).collect()
}

/// The values in bf16, as the half crate rounds them.
pub(crate) fn rounded(x: &[f32]) -> Vec<bf16> {
    x.iter().map(|&x| bf16::from_f32(x)).collect()
}

pub(crate) fn widened(x: &[bf16]) -> Vec<f32> {
    x.iter().map(|x| x.to_f32()).collect()
}

/// Returns what `kernel` gives on the portable set with one thread, having checked that all other
/// sets and 1, 2 and 3 threads give the same bits.
pub(crate) fn same_bits(kernel: impl Fn(Isa) -> Vec<f32> + Sync) -> Vec<f32> {
    let run = |isa, threads| {
        let pool =
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
        pool.install(|| kernel(isa))
    };
    let want = run(Isa::Portable, 1);
    for isa in Isa::available() {
        for threads in 1..=3 {
            let got = run(isa, threads);
            assert_eq!(got.len(), want.len());
            let differs = got.iter().zip(&want).position(|(a, b)| a.to_bits() != b.to_bits());
            assert_eq!(differs, None, "first difference on {} with {threads} threads", isa.name());
        }
    }
    want
}
