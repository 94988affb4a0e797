//! The types in which a kernel reads and writes activations. All arithmetic is in f32; a body that is
//! written over [`Value`] gives in bf16 the bits that it gives in f32, rounded once.

use half::bf16;

/// An activation as it lies in memory: f32 or bf16.
pub trait Value: Copy + Send + Sync + sealed::Sealed {
    /// The same number, exactly.
    fn widen(self) -> f32;

    /// The nearest value, ties to even; a NaN stays one.
    fn round(x: f32) -> Self;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::bf16 {}
}

impl Value for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn round(x: f32) -> f32 {
        x
    }
}

impl Value for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits((self.to_bits() as u32) << 16)
    }

    #[inline(always)]
    fn round(x: f32) -> bf16 {
        bf16::from_bits((round_bits(x.to_bits()) >> 16) as u16)
    }
}

/// An f32's bits rounded to those of a bf16 (nearest even), still as an f32's. NaN stays NaN.
/// Without branches, so that loops over it are vectorised.
#[inline(always)]
pub(crate) fn round_bits(bits: u32) -> u32 {
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
    // Not `f32::is_nan`: loops over words are not vectorised as well with it.
    let is_nan = bits & 0x7fff_ffff > 0x7f80_0000;
    if is_nan { bits & 0xffff_0000 | 0x0040_0000 } else { rounded }
}
