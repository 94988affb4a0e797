//! The element types that model files store, with their sizes. Knows no file format's numbering.

use crate::four_bit::QuantType;
use std::fmt;

/// How the values of a stored tensor are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoredDtype {
    F64,
    F32,
    F16,
    Bf16,
    // GGML's block formats. The name gives the bits of a code; `_0` has a scale, `_1` also a minimum,
    // `K` has blocks of 256 with quantised scales.
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    /// Codes of bitsandbytes, whose maxima lie elsewhere.
    Nf4,
    Fp4,
    Int8,
    // Stored in safetensors, never read as weights.
    Bool,
    U8,
    I8,
    F8E4M3,
    F8E5M2,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
}

use StoredDtype::*;

impl StoredDtype {
    /// Of bitsandbytes' weights in 4 bits.
    pub(super) fn of_codes(quant_type: QuantType) -> StoredDtype {
        match quant_type {
            QuantType::Nf4 => Nf4,
            QuantType::Fp4 => Fp4,
        }
    }

    /// The bits of a code of bitsandbytes' weights; `None` for all else.
    pub fn bits_of_codes(self) -> Option<u8> {
        match self {
            Nf4 | Fp4 => Some(4),
            Int8 => Some(8),
            _ => None,
        }
    }

    /// `(values, bytes)` of a block; one value for plain types.
    pub fn block(self) -> (usize, usize) {
        match self {
            F64 | U64 | I64 => (1, 8),
            F32 | U32 | I32 => (1, 4),
            F16 | Bf16 | U16 | I16 => (1, 2),
            Int8 | Bool | U8 | I8 | F8E4M3 | F8E5M2 => (1, 1),
            Nf4 | Fp4 => (2, 1),
            Q4_0 => (32, 18),
            Q4_1 => (32, 20),
            Q5_0 => (32, 22),
            Q5_1 => (32, 24),
            Q8_0 => (32, 34),
            Q2K => (256, 84),
            Q3K => (256, 110),
            Q4K => (256, 144),
            Q5K => (256, 176),
            Q6K => (256, 210),
        }
    }

    /// Bytes of `elements` values. `None` if they are no whole number of blocks or the product overflows.
    pub fn bytes_of(self, elements: u64) -> Option<u64> {
        let (values, bytes) = self.block();
        if !elements.is_multiple_of(values as u64) {
            return None;
        }
        (elements / values as u64).checked_mul(bytes as u64)
    }

    /// Whether a weight can be read from it.
    pub fn is_weight(self) -> bool {
        !matches!(self, Bool | U8 | I8 | F8E4M3 | F8E5M2 | U16 | I16 | U32 | I32 | U64 | I64)
    }

    /// The candle dtype whose elements lie in the file just so.
    pub fn plain(self) -> Option<candle_core::DType> {
        match self {
            F32 => Some(candle_core::DType::F32),
            F16 => Some(candle_core::DType::F16),
            Bf16 => Some(candle_core::DType::BF16),
            _ => None,
        }
    }

    /// Those that safetensors stores, in the order in which its writers lay tensors out: so each is
    /// aligned, whatever the shapes.
    const SAFETENSORS: [StoredDtype; 15] =
        [U64, I64, F64, F32, U32, I32, Bf16, F16, U16, I16, F8E4M3, F8E5M2, I8, U8, Bool];

    /// The type under safetensors' name.
    pub fn from_safetensors(name: &str) -> Option<StoredDtype> {
        Self::SAFETENSORS.into_iter().find(|dtype| dtype.name() == name)
    }

    /// The place of a type in safetensors' layout; `None` if the format can't hold it.
    pub(super) fn safetensors_rank(self) -> Option<usize> {
        Self::SAFETENSORS.iter().position(|dtype| *dtype == self)
    }

    /// The name that the file formats use.
    pub fn name(self) -> &'static str {
        match self {
            F64 => "F64",
            F32 => "F32",
            F16 => "F16",
            Bf16 => "BF16",
            Q4_0 => "Q4_0",
            Q4_1 => "Q4_1",
            Q5_0 => "Q5_0",
            Q5_1 => "Q5_1",
            Q8_0 => "Q8_0",
            Q2K => "Q2_K",
            Q3K => "Q3_K",
            Q4K => "Q4_K",
            Q5K => "Q5_K",
            Q6K => "Q6_K",
            Nf4 => "NF4",
            Fp4 => "FP4",
            Int8 => "INT8",
            Bool => "BOOL",
            U8 => "U8",
            I8 => "I8",
            F8E4M3 => "F8_E4M3",
            F8E5M2 => "F8_E5M2",
            U16 => "U16",
            I16 => "I16",
            U32 => "U32",
            I32 => "I32",
            U64 => "U64",
            I64 => "I64",
        }
    }
}

impl fmt::Display for StoredDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
