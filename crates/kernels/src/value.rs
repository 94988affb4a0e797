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

    /// Without branches, so that loops over it are vectorised.
    #[inline(always)]
    fn round(x: f32) -> bf16 {
        let bits = x.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        let quiet_nan = (bits >> 16) | 0x40;
        bf16::from_bits(if x.is_nan() { quiet_nan } else { rounded } as u16)
    }
}
