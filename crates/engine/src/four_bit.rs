//! A frozen weight in 4 bits: NF4 or FP4 codes with the maxima of their blocks, plain or in 8 bits.
//!
//! Made once: quantised from where the weight lies, or of the parts that a file holds, which stay there.
//! Never trained.

use crate::ctx::Ctx;
use crate::error::Result;
use crate::weight::{Values, Weight};
use kernels::gemm::Elements;
use kernels::nf4::{self, Codec, FourBitBlocks, NESTED_BLOCK_SIZE, Scales};

pub use kernels::nf4::QuantType;

/// How values become 4-bit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FourBitLayout {
    pub quant_type: QuantType,
    /// Values that share one maximum: at least 1, at most [`nf4::BLOCK_SIZE_MAX`].
    pub block_size: usize,
    pub scales: ScaleBits,
}

/// How the blocks' maxima are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleBits {
    /// In f32.
    Plain,
    /// In 8 bits, less their mean: double quantisation.
    Nested,
}

impl FourBitLayout {
    fn codec(self) -> Codec {
        Codec { quant_type: self.quant_type, block_size: self.block_size }
    }

    /// The bytes that so many values take.
    pub fn bytes(self, values: usize) -> usize {
        let blocks = values.div_ceil(self.block_size);
        let scales = match self.scales {
            ScaleBits::Plain => 4 * blocks,
            ScaleBits::Nested => blocks + 4 * blocks.div_ceil(NESTED_BLOCK_SIZE) + 4,
        };
        values.div_ceil(2) + scales
    }
}

/// A matrix `[rows, cols]`.
pub struct FourBitMatrix {
    codes: Values<u8>,
    scales: OwnedScales,
    layout: FourBitLayout,
    rows: usize,
    cols: usize,
}

/// The maxima of the blocks, as [`kernels::nf4::Scales`] has them.
pub(crate) enum OwnedScales {
    Plain(Values<f32>),
    Nested { codes: Values<u8>, absmax2: Values<f32>, offset: f32 },
}

impl FourBitMatrix {
    /// Quantises a weight, on all threads, a part at a time.
    pub fn quantize(ctx: &Ctx, weight: &Weight, layout: FourBitLayout) -> Result<FourBitMatrix> {
        let (rows, cols) = weight.dims()?;
        let values = rows * cols;
        let blocks = values.div_ceil(layout.block_size);
        let mut codes = vec![0; values.div_ceil(2)];
        let mut absmax = vec![0.0; blocks];
        weight.with_elements(|x| {
            nf4::quantize(ctx.isa, x, layout.codec(), &mut codes, &mut absmax);
        })?;
        let scales = match layout.scales {
            ScaleBits::Plain => OwnedScales::Plain(Values::Memory(absmax)),
            ScaleBits::Nested => {
                let mut codes = vec![0; blocks];
                let mut absmax2 = vec![0.0; blocks.div_ceil(NESTED_BLOCK_SIZE)];
                let offset = nf4::quantize_scales(ctx.isa, &absmax, &mut codes, &mut absmax2);
                let (codes, absmax2) = (Values::Memory(codes), Values::Memory(absmax2));
                OwnedScales::Nested { codes, absmax2, offset }
            }
        };
        Ok(FourBitMatrix { codes: Values::Memory(codes), scales, layout, rows, cols })
    }

    /// Of codes and maxima that are there already, in the lengths that [`FourBitBlocks::new`] takes.
    pub(crate) fn of_parts(
        codes: Values<u8>,
        scales: OwnedScales,
        layout: FourBitLayout,
        (rows, cols): (usize, usize),
    ) -> FourBitMatrix {
        FourBitMatrix { codes, scales, layout, rows, cols }
    }

    /// `(rows, cols)`.
    pub fn dims(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    pub fn layout(&self) -> FourBitLayout {
        self.layout
    }

    pub fn bytes(&self) -> usize {
        self.layout.bytes(self.rows * self.cols)
    }

    /// The codes, and the maxima of their blocks.
    pub fn parts(&self) -> (&[u8], Scales<'_>) {
        let scales = match &self.scales {
            OwnedScales::Plain(absmax) => Scales::Plain(absmax),
            OwnedScales::Nested { codes, absmax2, offset } => {
                Scales::Nested { codes, absmax2, offset: *offset }
            }
        };
        (&self.codes, scales)
    }

    pub fn elements(&self) -> Elements<'_> {
        let (codes, scales) = self.parts();
        let values = self.rows * self.cols;
        Elements::FourBits(FourBitBlocks::new(codes, scales, self.layout.codec(), values))
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
        let both = |quant_type| [ScaleBits::Plain, ScaleBits::Nested].map(|it| (quant_type, it));
        for (quant_type, scales) in QuantType::ALL.into_iter().flat_map(both) {
            for dtype in [DType::F32, DType::BF16] {
                let w = Weight::Tensor(tensor(1, &[35, 51]).to_dtype(dtype)?);
                let layout = FourBitLayout { quant_type, block_size: 64, scales };
                let packed = Weight::FourBits(Arc::new(FourBitMatrix::quantize(&ctx, &w, layout)?));
                let values = Weight::Tensor(packed.to_tensor(&Device::Cpu)?);
                assert_eq!(packed.dims()?, (35, 51));
                let error = (values.to_tensor(&Device::Cpu)? - w.to_tensor(&Device::Cpu)?)?;
                let worst = error.abs()?.max_all()?.to_scalar::<f32>()?;
                assert!((1e-3..0.5).contains(&worst), "{worst}");
                let (x, dy) = (tensor(2, &[9, 51]), tensor(3, &[9, 35]));
                let y =
                    |w| read::<f32, _>(&linear::forward(&ctx, &x, w, None, None)?, <[f32]>::to_vec);
                let dx = |w| {
                    read::<f32, _>(&linear::backward_input(&ctx, &dy, w, None)?, <[f32]>::to_vec)
                };
                assert_eq!(y(&packed)?, y(&values)?);
                assert_eq!(dx(&packed)?, dx(&values)?);
            }
        }
        Ok(())
    }

    #[test]
    fn bytes_are_those_that_are_held() -> Result<()> {
        let ctx = Ctx::cpu(Precision::F32);
        let w = Weight::Tensor(tensor(1, &[151, 151]));
        for block_size in [64, 100] {
            for scales in [ScaleBits::Plain, ScaleBits::Nested] {
                let layout = FourBitLayout { quant_type: QuantType::Nf4, block_size, scales };
                let matrix = FourBitMatrix::quantize(&ctx, &w, layout)?;
                let held = match &matrix.scales {
                    OwnedScales::Plain(absmax) => size_of_val(&**absmax),
                    OwnedScales::Nested { codes, absmax2, offset } => {
                        codes.len() + size_of_val(&**absmax2) + size_of_val(offset)
                    }
                };
                assert_eq!(matrix.bytes(), matrix.codes.len() + held);
            }
        }
        Ok(())
    }
}
