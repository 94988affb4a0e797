//! NF4's speed beside the memory's, measured in the same run: unpacking beside a copy that writes the
//! same bytes and beside writing them alone, quantising beside a loop that reads and writes the same bytes.
//!
//! `nf4_bench [--json] [--isa NAME]… [--threads N] [--seconds S] [WORD…]`. Each case runs on N threads and on
//! one, in turn with its limit. Each figure is the best of the repetitions that fit S seconds.

mod common;

use common::Options;
use half::bf16;
use kernels::Isa;
use kernels::gemm::Elements;
use kernels::nf4::{self, Codec, FourBitBlocks, NESTED_BLOCK_SIZE, QuantType, Scales};
use rayon::ThreadPool;
use rayon::prelude::*;
use std::time::Instant;

/// Values: beyond any cache in every type.
const N: usize = 64 << 20;
const BLOCK_SIZE: usize = 64;
const CODEC: Codec = Codec { quant_type: QuantType::Nf4, block_size: BLOCK_SIZE };
/// Values that a task of a limit's loop reads.
const CHUNK: usize = 16 << 10;

fn main() {
    let options = Options::read(4.0);
    for &isa in &options.isas {
        let mut figures = measure(isa, options.seconds, &pools(options.threads));
        figures.sort_by_key(|figure| figure.threads == 1);
        let wanted = figures.iter().filter(|figure| options.wants(&figure.case));
        wanted.for_each(|figure| figure.print(isa, &options));
    }
}

/// One of `threads` threads (0: all that there are), and one of a single thread where that is another.
fn pools(threads: usize) -> Vec<ThreadPool> {
    let (all, one) = (common::pool(threads), common::pool(1));
    if all.current_num_threads() == 1 { vec![all] } else { vec![all, one] }
}

/// A case, and the case that limits it.
struct Figure {
    case: String,
    unit: &'static str,
    /// Of that unit in one repetition, in 10⁹ or 10⁶.
    amount: f64,
    limit_name: &'static str,
    threads: usize,
    times: Vec<f64>,
    limit_times: Vec<f64>,
}

impl Figure {
    fn print(&self, isa: Isa, options: &Options) {
        let (case, unit, limit_name) = (&self.case, self.unit, self.limit_name);
        let (isa, threads) = (isa.name(), self.threads);
        let (value, limit) =
            (self.amount / best(&self.times), self.amount / best(&self.limit_times));
        let mut sorted = self.times.clone();
        sorted.sort_by(f64::total_cmp);
        let spread = sorted[sorted.len() / 2] / sorted[0] - 1.0;
        if options.json {
            println!(
                r#"{{"case":"{case}","isa":"{isa}","threads":{threads},"value":{value:.2},"unit":"{unit}","limit":{limit:.2},"limit_name":"{limit_name}","spread":{spread:.3}}}"#
            );
        } else {
            println!(
                "{case:30} {threads:2} threads {value:8.2} {unit:10}  {:4.2} × {limit:8.2} {limit_name}  {isa}",
                value / limit
            );
        }
    }
}

fn best(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}

fn time(pool: &ThreadPool, work: impl FnOnce() + Send) -> f64 {
    pool.install(|| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    })
}

/// Values in 4 bits, with both kinds of maxima.
struct Packed {
    codes: Vec<u8>,
    absmax: Vec<f32>,
    nested: Vec<u8>,
    absmax2: Vec<f32>,
    offset: f32,
}

impl Packed {
    fn new() -> Packed {
        let blocks = N.div_ceil(BLOCK_SIZE);
        Packed {
            codes: vec![0; N.div_ceil(2)],
            absmax: vec![0.0; blocks],
            nested: vec![0; blocks],
            absmax2: vec![0.0; blocks.div_ceil(NESTED_BLOCK_SIZE)],
            offset: 0.0,
        }
    }

    fn quantize(&mut self, isa: Isa, x: Elements) {
        nf4::quantize(isa, x, CODEC, &mut self.codes, &mut self.absmax);
    }

    fn nest(&mut self, isa: Isa) {
        self.offset = nf4::quantize_scales(isa, &self.absmax, &mut self.nested, &mut self.absmax2);
    }

    fn plain(&self) -> FourBitBlocks<'_> {
        FourBitBlocks::new(&self.codes, Scales::Plain(&self.absmax), CODEC, N)
    }

    fn nested(&self) -> FourBitBlocks<'_> {
        let (codes, absmax2) = (&*self.nested, &*self.absmax2);
        let scales = Scales::Nested { codes, absmax2, offset: self.offset };
        FourBitBlocks::new(&self.codes, scales, CODEC, N)
    }
}

/// Runs all cases in turn, so that each sees the same moments of a busy machine.
fn measure(isa: Isa, seconds: f64, pools: &[ThreadPool]) -> Vec<Figure> {
    let mut figures = cases(pools);
    let mut memory = Memory::new(isa);
    let begin = Instant::now();
    while begin.elapsed().as_secs_f64() < seconds || figures[0].times.len() < 3 {
        let rows = figures.chunks_mut(figures_per_pool());
        for (pool, row) in pools.iter().zip(rows) {
            memory.round(isa, pool, row);
        }
    }
    figures
}

const BF16: f64 = 2e-9 * N as f64;
const F32: f64 = 4e-9 * N as f64;
const VALUES: f64 = 1e-6 * N as f64;

const CASES: [(&str, &str, f64, &str); 12] = [
    ("unpack to bf16, plain", "GB/s", BF16, "memcpy"),
    ("unpack to bf16, plain, stores", "GB/s", BF16, "writing alone"),
    ("unpack to bf16, nested", "GB/s", BF16, "memcpy"),
    ("unpack to bf16, nested, stores", "GB/s", BF16, "writing alone"),
    ("unpack to f32, plain", "GB/s", F32, "memcpy"),
    ("unpack to f32, plain, stores", "GB/s", F32, "writing alone"),
    ("unpack to f32, nested", "GB/s", F32, "memcpy"),
    ("unpack to f32, nested, stores", "GB/s", F32, "writing alone"),
    ("quantise f32, plain", "M values/s", VALUES, "the same bytes"),
    ("quantise f32, nested", "M values/s", VALUES, "the same bytes"),
    ("quantise bf16, plain", "M values/s", VALUES, "the same bytes"),
    ("quantise bf16, nested", "M values/s", VALUES, "the same bytes"),
];

fn figures_per_pool() -> usize {
    CASES.len()
}

fn cases(pools: &[ThreadPool]) -> Vec<Figure> {
    let of = |pool: &ThreadPool| {
        let threads = pool.current_num_threads();
        CASES.map(|(case, unit, amount, limit_name)| Figure {
            case: case.to_string(),
            unit,
            amount,
            limit_name,
            threads,
            times: vec![],
            limit_times: vec![],
        })
    };
    pools.iter().flat_map(of).collect()
}

/// What the cases read and write.
struct Memory {
    wide: Vec<f32>,
    half: Vec<bf16>,
    wide_out: Vec<f32>,
    half_out: Vec<bf16>,
    packed: Packed,
    scratch: Packed,
}

impl Memory {
    fn new(isa: Isa) -> Memory {
        let value = |i: usize| ((i * 7919 % 65_521) as f32 / 32_760.5 - 1.0).powi(3);
        let wide: Vec<f32> = (0..N).into_par_iter().map(value).collect();
        let half = wide.par_iter().map(|&x| bf16::from_f32(x)).collect();
        let mut packed = Packed::new();
        packed.quantize(isa, Elements::F32(&wide));
        packed.nest(isa);
        let (wide_out, half_out) = (vec![1.0; N], vec![bf16::ONE; N]);
        Memory { wide, half, wide_out, half_out, packed, scratch: Packed::new() }
    }

    fn round(&mut self, isa: Isa, pool: &ThreadPool, figures: &mut [Figure]) {
        let Memory { wide, half, wide_out, half_out, packed, scratch } = self;
        let mut row = figures.iter_mut();
        for blocks in [packed.plain(), packed.nested()] {
            let (Some(figure), Some(stores)) = (row.next(), row.next()) else { return };
            figure.limit_times.push(time(pool, || copy(half, half_out)));
            // As many bytes.
            stores.limit_times.push(time(pool, || nf4::write_alone(isa, &mut wide_out[..N / 2])));
            let taken = time(pool, || nf4::unpack_bf16(isa, blocks, half_out));
            figure.times.push(taken);
            stores.times.push(taken);
        }
        for blocks in [packed.plain(), packed.nested()] {
            let (Some(figure), Some(stores)) = (row.next(), row.next()) else { return };
            figure.limit_times.push(time(pool, || copy(wide, wide_out)));
            stores.limit_times.push(time(pool, || nf4::write_alone(isa, wide_out)));
            let taken = time(pool, || nf4::unpack(isa, blocks, wide_out));
            figure.times.push(taken);
            stores.times.push(taken);
        }
        for nested in [false, true] {
            let Some(figure) = row.next() else { return };
            let x = Elements::F32(wide);
            figure.limit_times.push(time(pool, || fold(wide, &mut scratch.codes, f32::to_bits)));
            figure.times.push(time(pool, || quantize(isa, x, nested, scratch)));
        }
        for nested in [false, true] {
            let Some(figure) = row.next() else { return };
            let x = Elements::Bf16(half);
            let bits = |x: bf16| u32::from(x.to_bits());
            figure.limit_times.push(time(pool, || fold(half, &mut scratch.codes, bits)));
            figure.times.push(time(pool, || quantize(isa, x, nested, scratch)));
        }
    }
}

fn quantize(isa: Isa, x: Elements, nested: bool, packed: &mut Packed) {
    packed.quantize(isa, x);
    if nested {
        packed.nest(isa);
    }
}

/// One `memcpy` for each thread, so large that the C library passes the caches.
fn copy<T: Copy + Send + Sync>(from: &[T], to: &mut [T]) {
    let share = from.len().div_ceil(rayon::current_num_threads());
    let shares = to.par_chunks_mut(share).zip(from.par_chunks(share)).with_max_len(1);
    shares.for_each(|(to, from)| to.copy_from_slice(from));
}

/// Reads every value and writes a byte for each two.
fn fold<T: Copy + Sync>(from: &[T], to: &mut [u8], bits: impl Fn(T) -> u32 + Copy + Sync) {
    let chunks = to.par_chunks_mut(CHUNK / 2).zip(from.par_chunks(CHUNK));
    chunks.for_each(|(to, from)| {
        for (to, [high, low]) in to.iter_mut().zip(from.as_chunks::<2>().0) {
            *to = (bits(*high) ^ bits(*low)) as u8;
        }
    });
}
