//! Parameters per second of the optimizers' kernels beside the memory's speed, measured in the same run.
//!
//! `optimizer_bench [--json] [--isa NAME]… [--threads N] [--seconds S] [WORD…]`. Each stands beside two limits: a
//! loop that reads and writes the same bytes in the same order and does one multiply-add for each number,
//! and the bandwidth of `a[i] = b[i] + s·c[i]`, with the reading of a's lines counted. Each figure is
//! the best of the repetitions that fit S seconds.

mod common;

use common::Options;
use kernels::Isa;
use kernels::adamw::{AdamWStep, BLOCK_SIZE, Moment8, Order, adamw, adamw8};
use kernels::peak::{adamw_traffic, adamw8_traffic, triad};
use std::time::Instant;

/// Parameters: beyond any cache, 28 bytes each.
const N: usize = 16 << 20;
/// What triad moves for each element: a line is read before it is written, as those of the kernels are.
const TRIAD_BYTES: usize = 16;

fn main() {
    let options = Options::read(1.0);
    let pool = common::pool(options.threads);
    for &isa in &options.isas {
        pool.install(|| run(isa, &options));
    }
}

/// The best and the median time of a case's repetitions, in seconds.
struct Times(Vec<f64>);

impl Times {
    fn best(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn spread(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).map_or(0.0, |median| median / self.best() - 1.0)
    }
}

/// Runs the cases in turn, so that each sees the same moments of a busy machine.
fn run(isa: Isa, options: &Options) {
    let step = AdamWStep {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.01,
        step: 10,
        grad_scale: 0.5,
    };
    let mut p: Vec<f32> = (0..N).map(|i| (i * 37 % 251) as f32 / 125.0 - 1.0).collect();
    let g: Vec<f32> = (0..N).map(|i| (i * 41 % 509) as f32 / 2540.0 - 0.1).collect();
    let (mut m, mut v) = (vec![0.0f32; N], vec![0.0f32; N]);
    let mut codes = [vec![0u8; N], vec![0u8; N]];
    let mut absmax = [vec![0.0f32; N / BLOCK_SIZE], vec![0.0f32; N / BLOCK_SIZE]];
    let mut times: [Times; 6] = std::array::from_fn(|_| Times(vec![]));
    let begin = Instant::now();
    while begin.elapsed().as_secs_f64() < options.seconds || times[0].0.len() < 3 {
        let [c1, c2] = &mut codes;
        let [a1, a2] = &mut absmax;
        times[0].0.push(time(|| adamw_traffic(isa, &mut p, &g, [&mut m, &mut v])));
        times[1].0.push(time(|| adamw(isa, Order::Torch, &step, &mut p, &g, [&mut m, &mut v])));
        times[2]
            .0
            .push(time(|| adamw(isa, Order::BitsAndBytes, &step, &mut p, &g, [&mut m, &mut v])));
        times[3].0.push(time(|| adamw8_traffic(isa, &mut p, &g, [c1, c2])));
        times[4].0.push(time(|| {
            let moments = [Moment8 { codes: c1, absmax: a1 }, Moment8 { codes: c2, absmax: a2 }];
            adamw8(isa, &step, &mut p, &g, moments)
        }));
        times[5].0.push(time(|| triad(isa, &mut p, &m, &v)));
    }
    let [limit, torch, bitsandbytes, limit8, eight, triad] = &times;
    let triad_gb_per_s = (N * TRIAD_BYTES) as f64 / triad.best() / 1e9;
    report(options, (isa, "adamw"), 28, [torch, limit], triad_gb_per_s);
    report(options, (isa, "adamw, bitsandbytes' order"), 28, [bitsandbytes, limit], triad_gb_per_s);
    report(options, (isa, "adamw8bit"), 16, [eight, limit8], triad_gb_per_s);
}

fn time(f: impl FnOnce()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_secs_f64()
}

fn report(
    options: &Options,
    (isa, case): (Isa, &str),
    bytes: usize,
    [times, limit]: [&Times; 2],
    triad_gb_per_s: f64,
) {
    if !options.wants(case) {
        return;
    }
    let rate = |times: &Times| N as f64 / times.best() / 1e6;
    let (ours, limit) = (rate(times), rate(limit));
    let isa = isa.name();
    if options.json {
        println!(
            r#"{{"case":"{case}","isa":"{isa}","mparams_per_s":{ours:.1},"limit_mparams_per_s":{limit:.1},"triad_gb_per_s":{triad_gb_per_s:.2},"bytes":{bytes},"spread":{:.3}}}"#,
            times.spread()
        );
    } else {
        let gb_per_s = ours * bytes as f64 / 1e3;
        println!(
            "{case:28} {ours:7.0} of {limit:7.0} M parameters/s  {:3.0} %  {gb_per_s:5.1} of triad's {triad_gb_per_s:5.1} GB/s  {:3.0} %  {isa}",
            100.0 * ours / limit,
            100.0 * gb_per_s / triad_gb_per_s
        );
    }
}
