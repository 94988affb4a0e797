//! Parameters per second of the optimizers' kernels beside the memory's speed, measured in the same run.
//!
//! `optimizer_bench [--json] [--isa NAME] [--threads N] [--seconds S]`. The limit of each is a loop
//! that reads and writes the same bytes in the same order and does one multiply-add for each number.
//! Each figure is the best of the repetitions that fit S seconds.

use kernels::Isa;
use kernels::adamw::{AdamWStep, BLOCK_SIZE, Moment8, Order, adamw, adamw8};
use rayon::prelude::*;
use std::time::Instant;

/// Parameters: beyond any cache, 28 bytes each.
const N: usize = 16 << 20;
const CHUNK: usize = 16 << 10;

struct Options {
    json: bool,
    isa: Isa,
    threads: usize,
    seconds: f64,
}

fn main() {
    let mut options = Options { json: false, isa: Isa::best(), threads: 0, seconds: 1.0 };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| fail(&format!("{arg} needs a value")));
        match arg.as_str() {
            "--json" => options.json = true,
            "--isa" => {
                let name = value();
                let found = Isa::by_name(&name);
                options.isa = found.unwrap_or_else(|| fail(&format!("this CPU has no {name}")));
            }
            "--threads" => {
                options.threads = value().parse().unwrap_or_else(|_| fail("--threads N"))
            }
            "--seconds" => {
                options.seconds = value().parse().unwrap_or_else(|_| fail("--seconds S"))
            }
            _ => fail("optimizer_bench [--json] [--isa NAME] [--threads N] [--seconds S]"),
        }
    }
    match rayon::ThreadPoolBuilder::new().num_threads(options.threads).build() {
        Ok(pool) => pool.install(|| run(&options)),
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(message: &str) -> ! {
    eprintln!("{message}");
    std::process::exit(2)
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
fn run(options: &Options) {
    let step = AdamWStep {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.01,
        step: 10,
        grad_scale: 0.5,
    };
    let isa = options.isa;
    let mut p: Vec<f32> = (0..N).map(|i| (i * 37 % 251) as f32 / 125.0 - 1.0).collect();
    let g: Vec<f32> = (0..N).map(|i| (i * 41 % 509) as f32 / 2540.0 - 0.1).collect();
    let (mut m, mut v) = (vec![0.0f32; N], vec![0.0f32; N]);
    let mut codes = [vec![0u8; N], vec![0u8; N]];
    let mut absmax = [vec![0.0f32; N / BLOCK_SIZE], vec![0.0f32; N / BLOCK_SIZE]];
    let mut times: [Times; 5] = std::array::from_fn(|_| Times(vec![]));
    let begin = Instant::now();
    while begin.elapsed().as_secs_f64() < options.seconds || times[0].0.len() < 3 {
        let [c1, c2] = &mut codes;
        let [a1, a2] = &mut absmax;
        times[0].0.push(time(|| triad(&mut p, &g, &mut m, &mut v)));
        times[1].0.push(time(|| adamw(isa, Order::Torch, &step, &mut p, &g, [&mut m, &mut v])));
        times[2]
            .0
            .push(time(|| adamw(isa, Order::BitsAndBytes, &step, &mut p, &g, [&mut m, &mut v])));
        times[3].0.push(time(|| triad8(&mut p, &g, c1, c2)));
        times[4].0.push(time(|| {
            let moments = [Moment8 { codes: c1, absmax: a1 }, Moment8 { codes: c2, absmax: a2 }];
            adamw8(isa, &step, &mut p, &g, moments)
        }));
    }
    let [limit, torch, bitsandbytes, limit8, eight] = &times;
    report(options, "adamw", 28, torch, limit);
    report(options, "adamw, bitsandbytes' order", 28, bitsandbytes, limit);
    report(options, "adamw8bit", 16, eight, limit8);
}

fn time(f: impl FnOnce()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_secs_f64()
}

fn report(options: &Options, case: &str, bytes: usize, times: &Times, limit: &Times) {
    let rate = |times: &Times| N as f64 / times.best() / 1e6;
    let (ours, limit) = (rate(times), rate(limit));
    let isa = options.isa.name();
    if options.json {
        println!(
            r#"{{"case":"{case}","isa":"{isa}","mparams_per_s":{ours:.1},"limit_mparams_per_s":{limit:.1},"bytes":{bytes},"spread":{:.3}}}"#,
            times.spread()
        );
    } else {
        println!(
            "{case:28} {ours:7.0} of {limit:7.0} M parameters/s  {:5.1} GB/s  {:3.0} %  {isa}",
            ours * bytes as f64 / 1e3,
            100.0 * ours / limit
        );
    }
}

/// Reads p, g, m and v, and writes p, m and v.
fn triad(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    let chunks = p.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK));
    let moments = m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK));
    chunks.zip(moments).for_each(|((p, g), (m, v))| {
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            *p += 1e-9 * g;
            *m += 1e-9 * g;
            *v += 1e-9 * g;
        }
    });
}

/// Reads p, g and the codes of two moments, and writes p and the codes.
fn triad8(p: &mut [f32], g: &[f32], m: &mut [u8], v: &mut [u8]) {
    let chunks = p.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK));
    let moments = m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK));
    chunks.zip(moments).for_each(|((p, g), (m, v))| {
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            *p += 1e-9 * g;
            *m = m.wrapping_add(1);
            *v = v.wrapping_add(1);
        }
    });
}
