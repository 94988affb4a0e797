//! The matrix product, `c = or += alpha · a · b`, for every element type that weights are stored in.
//!
//! Callers describe operands as strided views ([`Mat`]), so a transposed or frozen 16-bit weight is
//! never copied: it is converted while it is packed. Nothing here knows what a layer is.
//!
//! Shapes: a `[m, k]` · b `[k, n]` · c `[m, n]`.

use crate::Isa;
use half::{bf16, f16};

/// The elements of an operand, in the type that they are stored in.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
    F16(&'a [f16]),
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

impl Elements<'_> {
    pub fn len(&self) -> usize {
        match self {
            Elements::F32(x) => x.len(),
            Elements::Bf16(x) => x.len(),
            Elements::F16(x) => x.len(),
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
}

/// `c[m, n]` (row-major, contiguous) = or += `alpha · a[m, k] · b[k, n]`.
pub fn gemm(
    isa: Isa,
    precision: Precision,
    alpha: f32,
    a: Mat,
    b: Mat,
    store: Store,
    c: &mut [f32],
) {
    let _ = isa;
    assert_eq!(a.cols, b.rows, "gemm: a has {} columns, b has {} rows", a.cols, b.rows);
    assert_eq!(c.len(), a.rows * b.cols, "gemm: c is not {} by {}", a.rows, b.cols);
    let at = |x: Mat, i: usize, j: usize| {
        let index = i * x.row_stride + j * x.col_stride;
        let value = match x.data {
            Elements::F32(x) => x[index],
            Elements::Bf16(x) => x[index].to_f32(),
            Elements::F16(x) => x[index].to_f32(),
        };
        if precision == Precision::Bf16 { bf16::from_f32(value).to_f32() } else { value }
    };
    for i in 0..a.rows {
        for j in 0..b.cols {
            let sum: f32 = (0..a.cols).map(|p| at(a, i, p) * at(b, p, j)).sum();
            let out = &mut c[i * b.cols + j];
            *out = alpha * sum + if store == Store::Add { *out } else { 0.0 };
        }
    }
}
