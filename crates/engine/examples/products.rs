//! Times one matrix product at a time, ours or candle's, whichever a line of stdin asks for: so that who starts
//! this program and PyTorch can take them in turn. Compares no values.
//!
//! A line is `NAME ROWS OUTPUTS INPUTS SECONDS`, NAME one of `ours-f32`, `ours-bf16`, `ours-nf4`, `ours-int8`,
//! `candle-f32` (`y = x · wᵀ`) and `ours-bf16-dx`, `ours-nf4-dx`, `ours-int8-dx` (`dx = dy · w`). Its answer is a
//! line of JSON: the best and the median of the repetitions that fit SECONDS, and of one at least. As in training,
//! x, y, dx and dy are f32 and a weight is bf16, NF4 or int8 where the product is bf16; `ours-f32` and candle have f32 weights.
//!
//! Shapes: x, dx `[ROWS, INPUTS]` · y, dy `[ROWS, OUTPUTS]` · w `[OUTPUTS, INPUTS]`.

use candle_core::{Device, Tensor};
use half::bf16;
use kernels::Isa;
use kernels::gemm::{Elements, Mat, Precision, Store, gemm};
use kernels::int8::{self, Int8Rows};
use kernels::nf4::{self, Codec, FourBitBlocks, NESTED_BLOCK_SIZE, QuantType, Scales};
use std::time::Instant;

/// As in the addon: with the C library's allocator, a fresh output's pages would cost candle more than its product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Values that share an absmax, as bitsandbytes has them.
const BLOCK_SIZE: usize = 64;
const CODEC: Codec = Codec { quant_type: QuantType::Nf4, block_size: BLOCK_SIZE };
/// Of a line; the caller asks several times.
const REPETITIONS_MIN: usize = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    rows: usize,
    outputs: usize,
    inputs: usize,
}

fn main() {
    let mut kept: Option<Operands> = None;
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let Some((name, shape, seconds)) = parsed(&line) else { fail() };
        // The next line mostly asks for another product of the same shape.
        if kept.as_ref().is_none_or(|operands| operands.shape != shape) {
            drop(kept.take()); // before others are made
            kept = Some(Operands::new(shape));
        }
        let times = kept.as_ref().and_then(|operands| operands.times(name, seconds));
        let Some(times) = times else { fail() };
        println!(r#"{{"best_s":{},"median_s":{}}}"#, times[0], times[times.len() / 2]);
    }
}

fn fail() -> ! {
    eprintln!("products: a line is NAME ROWS OUTPUTS INPUTS SECONDS");
    std::process::exit(2)
}

fn parsed(line: &str) -> Option<(&str, Shape, f64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, rows, outputs, inputs, seconds] = words[..] else { return None };
    let size = |word: &str| word.parse().ok().filter(|size| (1..=1 << 20).contains(size));
    let shape = Shape { rows: size(rows)?, outputs: size(outputs)?, inputs: size(inputs)? };
    Some((name, shape, seconds.parse().ok()?))
}

/// What all products of a shape read and write, each in every type that one of them needs.
struct Operands {
    shape: Shape,
    x: Vec<f32>,
    dy: Vec<f32>,
    w: Vec<f32>,
    half: Vec<bf16>,
    packed: Packed,
    rows: Rows,
    candle: (Tensor, Tensor),
}

/// A weight in NF4 with double quantisation.
struct Packed {
    codes: Vec<u8>,
    nested: Vec<u8>,
    absmax2: Vec<f32>,
    offset: f32,
}

impl Packed {
    fn of(isa: Isa, w: &[f32]) -> Packed {
        let blocks = w.len().div_ceil(BLOCK_SIZE);
        let (mut codes, mut absmax) = (vec![0; w.len().div_ceil(2)], vec![0.0; blocks]);
        nf4::quantize(isa, Elements::F32(w), CODEC, &mut codes, &mut absmax);
        let mut nested = vec![0; blocks];
        let mut absmax2 = vec![0.0; blocks.div_ceil(NESTED_BLOCK_SIZE)];
        let offset = nf4::quantize_scales(isa, &absmax, &mut nested, &mut absmax2);
        Packed { codes, nested, absmax2, offset }
    }

    fn elements(&self, len: usize) -> Elements<'_> {
        let Packed { codes, nested, absmax2, offset } = self;
        let scales = Scales::Nested { codes: nested, absmax2, offset: *offset };
        Elements::FourBits(FourBitBlocks::new(codes, scales, CODEC, len))
    }
}

/// A weight in int8.
struct Rows {
    codes: Vec<i8>,
    absmax: Vec<f32>,
}

impl Rows {
    fn of(isa: Isa, w: &[f32], rows: usize) -> Rows {
        let (mut codes, mut absmax) = (vec![0; w.len()], vec![0.0; rows]);
        int8::quantize(isa, Elements::F32(w), &mut codes, &mut absmax);
        Rows { codes, absmax }
    }

    fn elements(&self) -> Elements<'_> {
        let cols = self.codes.len() / self.absmax.len();
        Elements::Int8(Int8Rows::new(&self.codes, &self.absmax, cols))
    }
}

impl Operands {
    fn new(shape: Shape) -> Operands {
        let Shape { rows, outputs, inputs } = shape;
        let values = |len: usize| -> Vec<f32> {
            (0..len).map(|i| (i * 7919 % 1024) as f32 / 512.0 - 1.0).collect()
        };
        let (x, dy, w) = (values(rows * inputs), values(rows * outputs), values(outputs * inputs));
        let half = w.iter().map(|&w| bf16::from_f32(w)).collect();
        let packed = Packed::of(Isa::best(), &w);
        let int8 = Rows::of(Isa::best(), &w, outputs);
        let tensor = |values: &[f32], dims: [usize; 2]| {
            Tensor::from_slice(values, &dims, &Device::Cpu)
                .expect("as many values as the shape has")
        };
        let candle = (tensor(&x, [rows, inputs]), tensor(&w, [outputs, inputs]));
        Operands { shape, x, dy, w, half, packed, rows: int8, candle }
    }

    /// The times of repeated products, shortest first; `None` where none has that name.
    fn times(&self, name: &str, seconds: f64) -> Option<Vec<f64>> {
        let Shape { rows, outputs, inputs } = self.shape;
        let weight = |data| Mat::new(outputs, inputs, data);
        let x = Mat::new(rows, inputs, Elements::F32(&self.x));
        let dy = Mat::new(rows, outputs, Elements::F32(&self.dy));
        let nf4 = || weight(self.packed.elements(outputs * inputs));
        let (precision, a, b) = match name {
            "candle-f32" => return Some(repeated(seconds, || self.candle_product())),
            "ours-f32" => (Precision::F32, x, weight(Elements::F32(&self.w)).t()),
            "ours-bf16" => (Precision::Bf16, x, weight(Elements::Bf16(&self.half)).t()),
            "ours-nf4" => (Precision::Bf16, x, nf4().t()),
            "ours-bf16-dx" => (Precision::Bf16, dy, weight(Elements::Bf16(&self.half))),
            "ours-nf4-dx" => (Precision::Bf16, dy, nf4()),
            "ours-int8" => (Precision::Bf16, x, weight(self.rows.elements()).t()),
            "ours-int8-dx" => (Precision::Bf16, dy, weight(self.rows.elements())),
            _ => return None,
        };
        let mut c = vec![0.0f32; a.rows * b.cols];
        Some(repeated(seconds, || {
            gemm(Isa::best(), precision, 1.0, a, b, Store::Overwrite, &mut c)
        }))
    }

    fn candle_product(&self) -> Tensor {
        let (x, w) = &self.candle;
        x.matmul(&w.t().expect("a matrix")).expect("shapes that fit")
    }
}

/// The times of repeated work, shortest first. What it returns is dropped outside of them.
fn repeated<T>(seconds: f64, mut work: impl FnMut() -> T) -> Vec<f64> {
    let (start, mut times) = (Instant::now(), vec![]);
    while times.len() < REPETITIONS_MIN || start.elapsed().as_secs_f64() < seconds {
        let before = Instant::now();
        let made = std::hint::black_box(work());
        times.push(before.elapsed().as_secs_f64());
        drop(made);
    }
    times.sort_by(f64::total_cmp);
    times
}
