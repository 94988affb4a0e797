//! GFLOP/s of the attention in each precision beside that precision's peak, measured in the same run.
//!
//! `attention_bench [--json] [--isa NAME] [--threads N] [--only NAME]`. Only visible scores are
//! counted, half of each sequence's square: two products of D in forward, five in backward.

use half::bf16;
use kernels::Isa;
use kernels::attention::{
    AttentionShape, Gradients, backward, backward_bf16, decode, forward, forward_bf16,
};
use kernels::gemm::Precision;
use kernels::peak::peak_gflops;
use std::time::Instant;

/// Heads and lengths of a micro-batch.
struct Case {
    name: &'static str,
    heads: (usize, usize),
    head_dim: usize,
    len: usize,
    n_sequences: usize,
}

const CASES: &[Case] = &[
    Case { name: "smollm2/1x512", heads: (9, 3), head_dim: 64, len: 512, n_sequences: 1 },
    Case { name: "smollm2/8x256", heads: (9, 3), head_dim: 64, len: 256, n_sequences: 8 },
    Case { name: "short/32x48", heads: (9, 3), head_dim: 64, len: 48, n_sequences: 32 },
    Case { name: "long/1x2048", heads: (9, 3), head_dim: 64, len: 2048, n_sequences: 1 },
    Case { name: "long/1x8192", heads: (9, 3), head_dim: 64, len: 8192, n_sequences: 1 },
    Case { name: "batch/4x512", heads: (9, 3), head_dim: 64, len: 512, n_sequences: 4 },
    Case { name: "wide/4x512", heads: (8, 8), head_dim: 128, len: 512, n_sequences: 4 },
];
const SECONDS: f64 = 0.25;

fn main() {
    let (mut json, mut isa, mut threads, mut only) = (false, Isa::best(), 0, String::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| fail(&format!("{arg} needs a value")));
        match arg.as_str() {
            "--json" => json = true,
            "--isa" => {
                let name = value();
                let found = Isa::by_name(&name);
                isa = found.unwrap_or_else(|| fail(&format!("this CPU has no {name}")));
            }
            "--threads" => threads = value().parse().unwrap_or_else(|_| fail("--threads N")),
            "--only" => only = value(),
            _ => fail("attention_bench [--json] [--isa NAME] [--threads N] [--only NAME]"),
        }
    }
    match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
        Ok(pool) => pool.install(|| run(isa, json, &only)),
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(message: &str) -> ! {
    eprintln!("{message}");
    std::process::exit(2)
}

fn run(isa: Isa, json: bool, only: &str) {
    let peaks = [Precision::F32, Precision::Bf16].map(|p| (p, peak_gflops(isa, p, 0.1)));
    for case in CASES.iter().filter(|case| case.name.contains(only)) {
        for (precision, peak) in peaks {
            let name = if precision == Precision::F32 { "f32" } else { "bf16" };
            for (pass, gflops, s) in measure(isa, precision, case) {
                print(json, &format!("{}/{pass}/{name}", case.name), isa, (gflops, peak), s);
            }
        }
    }
}

fn print(json: bool, name: &str, isa: Isa, (gflops, peak): (f64, f64), s: f64) {
    let (isa, ms) = (isa.name(), 1e3 * s);
    if json {
        println!(
            r#"{{"name":"attention/{name}","isa":"{isa}","gflops":{gflops:.1},"peak_gflops":{peak:.1},"ms":{ms:.3}}}"#
        );
    } else {
        let percent = 100.0 * gflops / peak;
        println!(
            "{name:28} {ms:9.3} ms {gflops:7.1} of {peak:6.1} GFLOP/s  {percent:3.0} %  {isa}"
        );
    }
}

/// Pass, GFLOP/s and seconds: the best of the repetitions that fit the time. Decoding is f32 only.
fn measure(isa: Isa, precision: Precision, case: &Case) -> Vec<(&'static str, f64, f64)> {
    let (heads, kv_heads) = case.heads;
    let shape = AttentionShape {
        n_heads: heads,
        n_kv_heads: kv_heads,
        head_dim: case.head_dim,
        scale: (case.head_dim as f32).sqrt().recip(),
        alibi_slopes: None,
        sliding_window: None,
    };
    let n = case.len * case.n_sequences;
    let starts: Vec<usize> = (0..=n).step_by(case.len).collect();
    let values = |width: usize, step: usize| -> Vec<f32> {
        (0..n * width * case.head_dim).map(|i| (i * step % 251) as f32 / 125.0 - 1.0).collect()
    };
    let (q, k, v, dout) =
        (values(heads, 37), values(kv_heads, 41), values(kv_heads, 43), values(heads, 47));
    let narrow = |x: &[f32]| -> Vec<bf16> { x.iter().map(|&x| bf16::from_f32(x)).collect() };
    let (q16, k16, v16) = (narrow(&q), narrow(&k), narrow(&v));
    let (mut out, mut out16) = (vec![0.0; q.len()], vec![bf16::ZERO; q.len()]);
    let mut lse = vec![0.0; n * heads];
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; k.len()]);
    let scores = (case.n_sequences * heads * case.len * (case.len + 1) / 2) as f64;
    let product = 2.0 * scores * case.head_dim as f64;

    let forward_s = best_s(|| match precision {
        Precision::F32 => forward(isa, &shape, &starts, &q, &k, &v, &mut out, &mut lse),
        Precision::Bf16 => {
            forward_bf16(isa, &shape, &starts, &q16, &k16, &v16, &mut out16, &mut lse);
        }
    });
    let backward_s = best_s(|| {
        let grads = Gradients { dq: &mut dq, dk: &mut dk, dv: &mut dv };
        match precision {
            Precision::F32 => {
                backward(isa, &shape, &starts, &q, &k, &v, &out, &lse, &dout, grads);
            }
            Precision::Bf16 => {
                backward_bf16(isa, &shape, &starts, &q16, &k16, &v16, &out16, &lse, &dout, grads);
            }
        }
    });
    let mut passes = vec![
        ("forward", 2.0 * product / forward_s / 1e9, forward_s),
        ("backward", 5.0 * product / backward_s / 1e9, backward_s),
    ];
    if precision == Precision::F32 {
        let row = heads * case.head_dim;
        let one = &mut vec![0.0; row];
        let decode_s = best_s(|| decode(isa, &shape, &q[q.len() - row..], &k, &v, one));
        passes.push(("decode", 4.0 * (n * row) as f64 / decode_s / 1e9, decode_s));
    }
    passes
}

fn best_s(mut f: impl FnMut()) -> f64 {
    let (begin, mut best) = (Instant::now(), f64::MAX);
    while begin.elapsed().as_secs_f64() < SECONDS {
        let start = Instant::now();
        f();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}
