//! GFLOP/s of the matrix product beside the peak of the same kernel, measured in the same run.
//!
//! `gemm_bench [--json] [--isa NAME]… [--threads N] [--seconds S] [WORD…]` runs the cases whose name
//! contains a WORD. Each figure is the best of the repetitions that fit S seconds, and of three at
//! least; `spread` is how much longer the median took, which tells a quiet machine from a busy one.
//! A case that would take a set longer than LONGEST_S at its peak is left out, and named.

mod common;

use common::Options;
use half::bf16;
use kernels::Isa;
use kernels::gemm::{Elements, Mat, Precision, Store, gemm};
use kernels::peak::{copy_gb_per_s, peak_gflops};
use std::time::Instant;

/// A product `[m, k] · [k, n]` as training or generation makes it.
struct Case {
    name: &'static str,
    m: usize,
    n: usize,
    k: usize,
    view: View,
}

/// How the operands lie in memory; `w` is a weight `[out, in]`.
#[derive(Clone, Copy)]
enum View {
    /// y = x · wᵀ
    Forward,
    /// The same with w stored as bf16.
    ForwardBf16,
    /// dx = dy · w
    BackwardInput,
    /// dw = dyᵀ · x
    BackwardWeight,
}

const CASES: &[Case] = &[
    Case { name: "square/2048", m: 2048, n: 2048, k: 2048, view: View::Forward },
    Case { name: "forward/512x576x576", m: 512, n: 576, k: 576, view: View::Forward },
    Case { name: "forward/512x192x576", m: 512, n: 192, k: 576, view: View::Forward },
    Case { name: "forward/512x1536x576", m: 512, n: 1536, k: 576, view: View::Forward },
    Case { name: "forward/512x576x1536", m: 512, n: 576, k: 1536, view: View::Forward },
    Case { name: "forward/2048x576x576", m: 2048, n: 576, k: 576, view: View::Forward },
    Case { name: "forward/2048x192x576", m: 2048, n: 192, k: 576, view: View::Forward },
    Case { name: "forward/2048x1536x576", m: 2048, n: 1536, k: 576, view: View::Forward },
    Case { name: "forward/2048x576x1536", m: 2048, n: 576, k: 1536, view: View::Forward },
    Case { name: "forward_bf16/2048x1536x576", m: 2048, n: 1536, k: 576, view: View::ForwardBf16 },
    Case { name: "head/512x49152x576", m: 512, n: 49152, k: 576, view: View::Forward },
    Case { name: "head/2048x49152x576", m: 2048, n: 49152, k: 576, view: View::Forward },
    Case { name: "dx/2048x576x1536", m: 2048, n: 576, k: 1536, view: View::BackwardInput },
    Case { name: "dx_head/512x576x49152", m: 512, n: 576, k: 49152, view: View::BackwardInput },
    Case { name: "dw/1536x576x2048", m: 1536, n: 576, k: 2048, view: View::BackwardWeight },
    Case { name: "lora_a/2048x8x576", m: 2048, n: 8, k: 576, view: View::Forward },
    Case { name: "lora_b/2048x576x8", m: 2048, n: 576, k: 8, view: View::Forward },
    Case { name: "lora_da/8x576x2048", m: 8, n: 576, k: 2048, view: View::BackwardWeight },
    Case { name: "lora_db/576x8x2048", m: 576, n: 8, k: 2048, view: View::BackwardWeight },
    Case { name: "generate/1x8192x2048", m: 1, n: 8192, k: 2048, view: View::Forward },
    Case { name: "generate_bf16/1x8192x2048", m: 1, n: 8192, k: 2048, view: View::ForwardBf16 },
    Case { name: "generate/4x8192x2048", m: 4, n: 8192, k: 2048, view: View::Forward },
];

/// A product that takes longer than this at the measured peak is left out.
const LONGEST_S: f64 = 2.0;
/// Repetitions at least: fewer have no spread.
const REPETITIONS_MIN: usize = 3;

fn main() {
    let options = Options::read(0.3);
    common::pool(options.threads).install(|| run(&options));
}

fn run(options: &Options) {
    let threads = rayon::current_num_threads();
    let copy = copy_gb_per_s(options.seconds);
    if !options.json {
        println!("{threads} threads, copy {copy:.1} GB/s");
    }
    for &isa in &options.isas {
        for precision in [Precision::F32, Precision::Bf16] {
            for case in CASES {
                if options.wants(case.name) {
                    measure_and_print(isa, precision, case, options, copy);
                }
            }
        }
    }
}

fn measure_and_print(isa: Isa, precision: Precision, case: &Case, options: &Options, copy: f64) {
    let threads = rayon::current_num_threads();
    // Beside each case: on a shared machine the peak of a minute ago says little.
    let peak = peak_gflops(isa, precision, options.seconds / 4.0);
    let (name, set, gflop) = (case.name, isa.name(), 2e-9 * (case.m * case.n * case.k) as f64);
    let at_peak_s = gflop / peak;
    if at_peak_s > LONGEST_S {
        if options.json {
            println!(
                "{{\"bench\":\"gemm\",\"case\":\"{name}\",\"isa\":\"{set}\",\"precision\":\"{precision:?}\",\
                 \"skipped\":\"{at_peak_s:.0} s at the peak of {peak:.1} GFLOP/s\"}}"
            );
        } else {
            println!("{name:28} {set:10} {precision:?}  left out: {at_peak_s:.0} s at the peak");
        }
        return;
    }
    let times = repetitions_s(isa, precision, case, options.seconds);
    let (best, median) = (times[0], times[times.len() / 2]);
    let (gflops, spread, repetitions) = (gflop / best, median / best - 1.0, times.len());
    let bytes = case.m * case.k * 4 + case.n * case.k * case.weight_bytes() + case.m * case.n * 4;
    let gb_per_s = 1e-9 * bytes as f64 / best;
    if options.json {
        println!(
            "{{\"bench\":\"gemm\",\"case\":\"{name}\",\"isa\":\"{set}\",\"precision\":\"{precision:?}\",\
             \"threads\":{threads},\"gflops\":{gflops:.2},\"peak_gflops\":{peak:.2},\
             \"gb_per_s\":{gb_per_s:.2},\"copy_gb_per_s\":{copy:.2},\
             \"repetitions\":{repetitions},\"spread\":{spread:.4}}}"
        );
    } else {
        let ratio = gflops / peak;
        println!(
            "{name:28} {set:10} {precision:?}  {gflops:7.1} of {peak:7.1} GFLOP/s ({ratio:.2})  \
             {gb_per_s:6.1} GB/s  spread {:.0} %",
            100.0 * spread
        );
    }
}

impl Case {
    fn weight_bytes(&self) -> usize {
        if matches!(self.view, View::ForwardBf16) { 2 } else { 4 }
    }
}

/// The times of repeated products, shortest first.
fn repetitions_s(isa: Isa, precision: Precision, case: &Case, seconds: f64) -> Vec<f64> {
    let &Case { m, n, k, view, .. } = case;
    let values =
        |len: usize| (0..len).map(|i| (i * 7919 % 1024) as f32 / 512.0 - 1.0).collect::<Vec<f32>>();
    let (a, b) = (values(m * k), values(n * k));
    let narrow: Vec<bf16> = match view {
        View::ForwardBf16 => b.iter().map(|x| bf16::from_f32(*x)).collect(),
        _ => Vec::new(),
    };
    let (a, b) = match view {
        View::Forward => (Mat::new(m, k, Elements::F32(&a)), Mat::new(n, k, Elements::F32(&b)).t()),
        View::ForwardBf16 => {
            (Mat::new(m, k, Elements::F32(&a)), Mat::new(n, k, Elements::Bf16(&narrow)).t())
        }
        View::BackwardInput => {
            (Mat::new(m, k, Elements::F32(&a)), Mat::new(k, n, Elements::F32(&b)))
        }
        View::BackwardWeight => {
            (Mat::new(k, m, Elements::F32(&a)).t(), Mat::new(k, n, Elements::F32(&b)))
        }
    };
    let mut c = vec![0.0f32; m * n];
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < REPETITIONS_MIN || start.elapsed().as_secs_f64() < seconds {
        let before = Instant::now();
        gemm(isa, precision, 1.0, a, b, Store::Overwrite, &mut c);
        times.push(before.elapsed().as_secs_f64());
    }
    std::hint::black_box(&c);
    times.sort_by(f64::total_cmp);
    times
}
