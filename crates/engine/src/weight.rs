//! A weight matrix as an op sees it: a tensor, a slice of a mapped file in its stored dtype, or
//! blocks in 4 bits, or rows in 8.
//!
//! Only the packing of the matrix product and the embedding's gather know which.

use crate::ctx::{Ctx, read};
use crate::error::Result;
use crate::four_bit::{FourBitLayout, FourBitMatrix};
use crate::int8::Int8Matrix;
use bytemuck::AnyBitPattern;
use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use std::ops::{Deref, Range};
use std::sync::Arc;

pub use kernels::gemm::Elements;

/// A matrix `[rows, cols]`, row-major and contiguous.
#[derive(Clone)]
pub enum Weight {
    /// f32 where it is trained; f32, bf16 or f16 where it is frozen.
    Tensor(Tensor),
    /// Frozen, read where it lies in the file.
    Mapped(MappedMatrix),
    /// Frozen, in 4 bits.
    FourBits(Arc<FourBitMatrix>),
    /// Frozen, in 8 bits.
    Int8(Arc<Int8Matrix>),
}

/// How a frozen weight is kept in few bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    FourBits(FourBitLayout),
    Int8,
}

/// A weight in few bits, by its kind.
#[derive(Clone, Copy)]
pub enum Quantized<'a> {
    FourBits(&'a FourBitMatrix),
    Int8(&'a Int8Matrix),
}

impl Quantized<'_> {
    pub fn bytes(&self) -> usize {
        match self {
            Quantized::FourBits(m) => m.bytes(),
            Quantized::Int8(m) => m.bytes(),
        }
    }
}

impl Layout {
    /// The bytes that a matrix of `(rows, cols)` takes.
    pub fn bytes(self, (rows, cols): (usize, usize)) -> usize {
        match self {
            Layout::FourBits(layout) => layout.bytes(rows * cols),
            Layout::Int8 => Int8Matrix::bytes_of((rows, cols)),
        }
    }

    /// The bits of a code.
    pub fn bits(self) -> u8 {
        match self {
            Layout::FourBits(_) => 4,
            Layout::Int8 => 8,
        }
    }

    /// The weight in this layout.
    pub fn quantize(self, ctx: &Ctx, weight: &Weight) -> Result<Weight> {
        Ok(match self {
            Layout::FourBits(layout) => {
                Weight::FourBits(Arc::new(FourBitMatrix::quantize(ctx, weight, layout)?))
            }
            Layout::Int8 => Weight::Int8(Arc::new(Int8Matrix::quantize(ctx, weight)?)),
        })
    }
}

/// A matrix inside a mapped file. Made only by the readers in `formats/`, which checked bounds and
/// alignment.
#[derive(Clone)]
pub struct MappedMatrix {
    pub map: Arc<memmap2::Mmap>,
    pub offset: usize,
    pub dtype: DType,
    pub rows: usize,
    pub cols: usize,
}

/// Values in memory, or where they lie in a mapped file.
pub enum Values<T> {
    Memory(Vec<T>),
    Mapped(MappedValues),
}

/// Bytes of a map, aligned for the values that they hold.
pub struct MappedValues {
    map: Arc<memmap2::Mmap>,
    bytes: Range<usize>,
}

impl<T: AnyBitPattern> Values<T> {
    /// `None` where the bytes are not these values in this machine's order, aligned and whole.
    pub fn mapped(map: Arc<memmap2::Mmap>, bytes: Range<usize>) -> Option<Values<T>> {
        let ordered = cfg!(target_endian = "little") || size_of::<T>() == 1;
        let fits = bytemuck::try_cast_slice::<u8, T>(map.get(bytes.clone())?).is_ok();
        (ordered && fits).then_some(Values::Mapped(MappedValues { map, bytes }))
    }
}

impl<T: AnyBitPattern> Deref for Values<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Values::Memory(values) => values,
            Values::Mapped(MappedValues { map, bytes }) => cast(&map[bytes.clone()]),
        }
    }
}

impl Weight {
    /// `(rows, cols)`.
    pub fn dims(&self) -> Result<(usize, usize)> {
        match self {
            Weight::Tensor(t) => Ok(t.dims2()?),
            Weight::Mapped(m) => Ok((m.rows, m.cols)),
            Weight::FourBits(m) => Ok(m.dims()),
            Weight::Int8(m) => Ok(m.dims()),
        }
    }

    /// What the elements are stored as; codes are bytes.
    pub fn dtype(&self) -> DType {
        match self {
            Weight::Tensor(t) => t.dtype(),
            Weight::Mapped(m) => m.dtype,
            Weight::FourBits(_) | Weight::Int8(_) => DType::U8,
        }
    }

    /// The weight where it is in few bits.
    pub fn quantized(&self) -> Option<Quantized<'_>> {
        match self {
            Weight::Tensor(_) | Weight::Mapped(_) => None,
            Weight::FourBits(m) => Some(Quantized::FourBits(m)),
            Weight::Int8(m) => Some(Quantized::Int8(m)),
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            Weight::Tensor(t) => t.elem_count() * t.dtype().size_in_bytes(),
            Weight::Mapped(m) => m.rows * m.cols * m.dtype.size_in_bytes(),
            Weight::FourBits(m) => m.bytes(),
            Weight::Int8(m) => m.bytes(),
        }
    }

    /// Calls `f` with the elements where they lie in CPU memory.
    pub fn with_elements<R>(&self, f: impl FnOnce(Elements) -> R) -> Result<R> {
        match self {
            Weight::Tensor(t) => match t.dtype() {
                DType::BF16 => read::<bf16, R>(t, |x| f(Elements::Bf16(x))),
                DType::F16 => read::<f16, R>(t, |x| f(Elements::F16(x))),
                _ => read::<f32, R>(t, |x| f(Elements::F32(x))),
            },
            Weight::Mapped(m) => Ok(f(m.elements())),
            Weight::FourBits(m) => Ok(f(m.elements())),
            Weight::Int8(m) => Ok(f(m.elements())),
        }
    }

    /// The whole matrix as an f32 tensor of `device`: for the reference paths and for devices that
    /// have no kernel of ours.
    pub fn to_tensor(&self, device: &Device) -> Result<Tensor> {
        match self {
            Weight::Tensor(t) => Ok(t.to_device(device)?.to_dtype(DType::F32)?),
            Weight::Mapped(m) => {
                Ok(Tensor::from_vec(m.elements().to_f32(), (m.rows, m.cols), device)?)
            }
            Weight::FourBits(m) => Ok(Tensor::from_vec(m.elements().to_f32(), m.dims(), device)?),
            Weight::Int8(m) => Ok(Tensor::from_vec(m.elements().to_f32(), m.dims(), device)?),
        }
    }
}

impl MappedMatrix {
    pub fn elements(&self) -> Elements<'_> {
        let len = self.rows * self.cols;
        let bytes = &self.map[self.offset..self.offset + len * self.dtype.size_in_bytes()];
        match self.dtype {
            DType::BF16 => Elements::Bf16(cast(bytes)),
            DType::F16 => Elements::F16(cast(bytes)),
            _ => Elements::F32(cast(bytes)),
        }
    }
}

/// The readers accept only offsets that are aligned for the dtype, so the cast can't fail.
fn cast<T: AnyBitPattern>(bytes: &[u8]) -> &[T] {
    bytemuck::cast_slice(bytes)
}
