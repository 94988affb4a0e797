//! A frozen weight in 8 bits: int8 codes with the largest magnitude of each row, as LLM.int8 keeps weights.
//!
//! Made once: quantised from where the weight lies, or of the parts that a file holds, which stay there.
//! Never trained.

use crate::ctx::Ctx;
use crate::error::Result;
use crate::weight::{Values, Weight};
use kernels::gemm::Elements;
use kernels::int8::{self, Int8Rows};

/// A matrix `[rows, cols]`, of which neither is 0.
pub struct Int8Matrix {
    codes: Values<i8>,
    absmax: Values<f32>,
    rows: usize,
    cols: usize,
}

impl Int8Matrix {
    /// Quantises a weight, on all threads.
    pub fn quantize(ctx: &Ctx, weight: &Weight) -> Result<Int8Matrix> {
        let (rows, cols) = weight.dims()?;
        let (mut codes, mut absmax) = (vec![0; rows * cols], vec![0.0; rows]);
        weight.with_elements(|x| int8::quantize(ctx.isa, x, &mut codes, &mut absmax))?;
        let (codes, absmax) = (Values::Memory(codes), Values::Memory(absmax));
        Ok(Int8Matrix { codes, absmax, rows, cols })
    }

    /// Of codes and maxima that are there already, in the lengths that [`Int8Rows::new`] takes.
    pub(crate) fn of_parts(
        codes: Values<i8>,
        absmax: Values<f32>,
        (rows, cols): (usize, usize),
    ) -> Int8Matrix {
        Int8Matrix { codes, absmax, rows, cols }
    }

    /// The bytes that a matrix takes.
    pub fn bytes_of((rows, cols): (usize, usize)) -> usize {
        rows * cols + 4 * rows
    }

    /// `(rows, cols)`.
    pub fn dims(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    pub fn bytes(&self) -> usize {
        Self::bytes_of(self.dims())
    }

    /// The codes, and the maxima of the rows.
    pub fn parts(&self) -> (&[i8], &[f32]) {
        (&self.codes, &self.absmax)
    }

    pub fn elements(&self) -> Elements<'_> {
        Elements::Int8(Int8Rows::new(&self.codes, &self.absmax, self.cols))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::{Precision, read};
    use crate::ops::linear;
    use crate::testing::tensor;
    use candle_core::{DType, Device};
    use std::sync::Arc;

    #[test]
    fn a_linear_computes_with_the_unpacked_values() -> Result<()> {
        let ctx = Ctx::cpu(Precision::F32);
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let w = Weight::Tensor(tensor(1, &[35, 51]).to_dtype(dtype)?);
            let packed = Weight::Int8(Arc::new(Int8Matrix::quantize(&ctx, &w)?));
            let values = Weight::Tensor(packed.to_tensor(&Device::Cpu)?);
            assert_eq!((packed.dims()?, packed.bytes()), ((35, 51), 35 * 51 + 4 * 35));
            let error = (values.to_tensor(&Device::Cpu)? - w.to_tensor(&Device::Cpu)?)?;
            let worst = error.abs()?.max_all()?.to_scalar::<f32>()?;
            let largest = w.to_tensor(&Device::Cpu)?.abs()?.max_all()?.to_scalar::<f32>()?;
            // Half a step of a code, and half a step of f16 before it.
            let bound = largest * (0.5 / 127.0 + 0.5f32.powi(11));
            assert!(worst > 0.0 && worst <= bound, "{worst}, bound {bound}");
            let (x, dy) = (tensor(2, &[9, 51]), tensor(3, &[9, 35]));
            let y = |w| read::<f32, _>(&linear::forward(&ctx, &x, w, None, None)?, <[f32]>::to_vec);
            let dx =
                |w| read::<f32, _>(&linear::backward_input(&ctx, &dy, w, None)?, <[f32]>::to_vec);
            assert_eq!(y(&packed)?, y(&values)?);
            assert_eq!(dx(&packed)?, dx(&values)?);
        }
        Ok(())
    }
}
