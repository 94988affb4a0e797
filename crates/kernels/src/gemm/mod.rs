//! The matrix product, `c = or += alpha · a · b`, for every element type that weights are stored in.
//!
//! Callers describe operands as strided views ([`Mat`]), so a transposed or frozen 16-bit weight is
//! never copied: it is converted while it is packed. Nothing here knows what a layer is.
//!
//! Shapes: a `[m, k]` · b `[k, n]` · c `[m, n]`.

#[cfg(target_arch = "x86_64")]
mod amx;
mod blocks;
mod kernel;
#[cfg(target_arch = "aarch64")]
mod neon;
mod output;
mod pack;
mod pack_steps;
#[cfg(test)]
mod packed_tests;
#[cfg(test)]
mod rounded_tests;
mod source;
mod task;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod tiles;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
mod x86_int8;
#[cfg(target_arch = "x86_64")]
mod x86_pack;
#[cfg(target_arch = "x86_64")]
mod x86_put;
#[cfg(target_arch = "x86_64")]
mod x86_strip;

use crate::Isa;
use crate::int8::{self, Int8Rows};
use crate::nf4::{self, FourBitBlocks};
use half::{bf16, f16};
use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use amx::Bf16Amx;
use kernel::{Kernel, Portable};
#[cfg(target_arch = "aarch64")]
use neon::F32Neon;
use output::Target;
use pack::Encoding;
#[cfg(target_arch = "x86_64")]
use x86::{Bf16Avx512, F32Avx2, F32Avx512};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_pack::columns16;

/// The elements of an operand, in the type that they are stored in.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
    F16(&'a [f16]),
    /// Frozen weights in 4 bits: unpacked while they are packed, never as a whole.
    FourBits(FourBitBlocks<'a>),
    /// Frozen weights in 8 bits, in the same way.
    Int8(Int8Rows<'a>),
}

/// A matrix seen through strides: element (i, j) is `data[i · row_stride + j · col_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a> {
    pub data: Elements<'a>,
    pub rows: usize,
    pub cols: usize,
    pub row_stride: usize,
    pub col_stride: usize,
}

/// One product of a sum: `alpha · a · b`.
#[derive(Clone, Copy, Debug)]
pub struct Term<'a> {
    pub alpha: f32,
    pub a: Mat<'a>,
    pub b: Mat<'a>,
}

/// How products compute. Sums are f32 always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// f32 operands; a 16-bit operand counts with its exact value.
    F32,
    /// Operands rounded to bf16 (nearest even) while they are packed.
    Bf16,
}

/// What becomes of the values that `c` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Overwrite,
    Add,
}

impl<'a> Elements<'a> {
    pub fn len(&self) -> usize {
        match self {
            Elements::F32(x) => x.len(),
            Elements::Bf16(x) => x.len(),
            Elements::F16(x) => x.len(),
            Elements::FourBits(x) => x.len(),
            Elements::Int8(x) => x.len(),
        }
    }

    /// The elements of a range.
    ///
    /// # Panics
    /// If the range reaches outside.
    pub fn slice(self, range: Range<usize>) -> Elements<'a> {
        match self {
            Elements::F32(x) => Elements::F32(&x[range]),
            Elements::Bf16(x) => Elements::Bf16(&x[range]),
            Elements::F16(x) => Elements::F16(&x[range]),
            Elements::FourBits(x) => Elements::FourBits(x.slice(range)),
            Elements::Int8(x) => Elements::Int8(x.slice(range)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn to_f32(self) -> Vec<f32> {
        match self {
            Elements::F32(x) => x.to_vec(),
            Elements::Bf16(x) => x.iter().map(|v| v.to_f32()).collect(),
            Elements::F16(x) => x.iter().map(|v| v.to_f32()).collect(),
            Elements::FourBits(x) => {
                let mut values = vec![0.0; x.len()];
                nf4::unpack(Isa::Portable, x, &mut values);
                values
            }
            Elements::Int8(x) => {
                let mut values = vec![0.0; x.len()];
                int8::unpack(Isa::Portable, x, &mut values);
                values
            }
        }
    }
}

impl<'a> Mat<'a> {
    /// The row-major, contiguous matrix `[rows, cols]`.
    pub fn new(rows: usize, cols: usize, data: Elements<'a>) -> Mat<'a> {
        Mat { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// The transposed view.
    pub fn t(self) -> Mat<'a> {
        Mat {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    fn assert_inside(&self) {
        if self.rows == 0 || self.cols == 0 {
            return;
        }
        let row = (self.rows - 1).checked_mul(self.row_stride);
        let col = (self.cols - 1).checked_mul(self.col_stride);
        let last = row.zip(col).and_then(|(row, col)| row.checked_add(col));
        assert!(
            last.is_some_and(|last| last < self.data.len()),
            "gemm: a view of {} by {} reaches outside of its {} elements",
            self.rows,
            self.cols,
            self.data.len()
        );
    }
}

/// Calls the body with the kernel for an instruction set and a precision.
macro_rules! with_kernel {
    ($isa:expr, $precision:expr, |$kernel:ident| $body:expr) => {{
        let encoding = match $precision {
            Precision::F32 => Encoding::Exact,
            Precision::Bf16 => Encoding::Rounded,
        };
        match ($isa, $precision) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Amx(proof), Precision::Bf16) => {
                let $kernel = Bf16Amx::new(proof);
                $body
            }
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512Bf16(proof), Precision::Bf16) => {
                let $kernel = Bf16Avx512::new(proof);
                $body
            }
            (isa, _) => match isa.for_f32() {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2(proof) => {
                    let $kernel = F32Avx2::new(proof, encoding);
                    $body
                }
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512(proof) => {
                    let $kernel = F32Avx512::new(proof, encoding);
                    $body
                }
                #[cfg(target_arch = "aarch64")]
                Isa::Neon(proof) => {
                    let $kernel = F32Neon::new(proof, encoding);
                    $body
                }
                _ => {
                    let $kernel = Portable(encoding);
                    $body
                }
            },
        }
    }};
}

/// `c[m, n]` (row-major, contiguous) = or += `alpha · a[m, k] · b[k, n]`; see [`gemm_sum`].
///
/// # Panics
/// If the shapes do not fit each other, or a view reaches outside of its data.
pub fn gemm(
    isa: Isa,
    precision: Precision,
    alpha: f32,
    a: Mat,
    b: Mat,
    store: Store,
    c: &mut [f32],
) {
    gemm_sum(isa, precision, &[Term { alpha, a, b }], store, c);
}

/// `c[m, n]` (row-major, contiguous) = or += a sum of products, the terms in their order.
///
/// ```text
/// c[i, j] = or += Σ_terms Σ_blocks alpha · Σ_p a[i, p] · b[p, j]
/// ```
/// Blocks of k and p ascend, and depend on a term's `k` alone: an element's bits are the same for any
/// number of threads, whatever other rows and columns are computed with it, and whether terms come in
/// one call or in several. Other instruction sets may give other bits. Runs on the current rayon pool.
///
/// # Panics
/// If there is no term, the shapes do not fit each other, or a view reaches outside of its data.
pub fn gemm_sum(isa: Isa, precision: Precision, terms: &[Term], store: Store, c: &mut [f32]) {
    match has_products(terms, c.len()) {
        true => with_kernel!(isa, precision, |kernel| {
            blocks::product(kernel, terms, Target::F32(c, store))
        }),
        false if store == Store::Overwrite => c.fill(0.0),
        false => {}
    }
}

/// `c[m, n]` (row-major, contiguous) = a sum of products and a bias for each column, as bf16.
///
/// ```text
/// c[i, j] = bf16(bias[j] + Σ_terms Σ_blocks alpha · Σ_p a[i, p] · b[p, j])
/// ```
/// The sum is f32, bit for bit that of [`gemm_sum`] on rows that hold the bias, or that are overwritten
/// where there is none; it is rounded to nearest even, once. NaN stays NaN.
///
/// # Panics
/// As [`gemm_sum`], or if there is a bias of another length than `n`.
pub fn gemm_sum_bf16(
    isa: Isa,
    precision: Precision,
    terms: &[Term],
    bias: Option<&[f32]>,
    c: &mut [bf16],
) {
    let has_products = has_products(terms, c.len());
    let n = terms[0].b.cols;
    assert!(bias.is_none_or(|bias| bias.len() == n), "gemm: a bias not of {n} columns");
    match (has_products, bias) {
        (true, _) => with_kernel!(isa, precision, |kernel| {
            blocks::product(kernel, terms, Target::Bf16(c, bias))
        }),
        (false, Some(bias)) => {
            let values = bias.iter().map(|&x| bf16::from_f32(x));
            c.iter_mut().zip(values.cycle()).for_each(|(c, x)| *c = x);
        }
        (false, None) => c.fill(bf16::ZERO),
    }
}

/// Checks that terms fit each other and `c_len` elements, and says whether there is anything to multiply.
fn has_products(terms: &[Term], c_len: usize) -> bool {
    let (m, n) = terms.first().map_or((0, 0), |term| (term.a.rows, term.b.cols));
    assert!(!terms.is_empty(), "gemm: a sum of no products");
    for Term { a, b, .. } in terms {
        assert_eq!(a.cols, b.rows, "gemm: a has {} columns, b has {} rows", a.cols, b.rows);
        assert_eq!((a.rows, b.cols), (m, n), "gemm: terms of different shapes");
        a.assert_inside();
        b.assert_inside();
    }
    assert_eq!(m.checked_mul(n), Some(c_len), "gemm: c is not {m} by {n}");
    c_len > 0 && terms.iter().any(|term| term.a.cols > 0)
}

/// Does the kernel's arithmetic on registers alone for so many rounds. Returns its operations.
pub(crate) fn spin(isa: Isa, precision: Precision, rounds: usize) -> usize {
    fn run<K: Kernel>(kernel: K, rounds: usize) -> usize {
        std::hint::black_box(kernel.spin(rounds));
        rounds * K::SPIN_FLOPS
    }
    with_kernel!(isa, precision, |kernel| run(kernel, rounds))
}
