//! The inverse frequencies of rotary embeddings, with the scaling variants and the f32 roundings of
//! Transformers' `modeling_rope_utils`. Makes no tensors: `rope.rs` turns them into tables.
//!
//! ```text
//! inv_freq[i] = theta^(−2i/rotary_dim), i < rotary_dim/2; then what the variant makes of it
//! ```

use crate::spec::{RopeScaling, YarnScaling};
use std::f64::consts::PI;

/// `inv_freq [rotary_dim/2]`, in f32 with the roundings of Transformers' `modeling_rope_utils`.
pub fn inverse_frequencies(
    rotary_dim: usize,
    theta: f64,
    scaling: &RopeScaling,
    max_len: usize,
) -> Vec<f32> {
    match *scaling {
        RopeScaling::None => unscaled(rotary_dim, theta),
        RopeScaling::Linear { factor } => {
            unscaled(rotary_dim, theta).iter().map(|f| f / factor as f32).collect()
        }
        RopeScaling::Dynamic { factor, max_positions } => {
            let len = max_len.max(max_positions) as f64;
            let growth = factor * len / max_positions as f64 - (factor - 1.0);
            let dim = rotary_dim as f64;
            unscaled(rotary_dim, theta * growth.powf(dim / (dim - 2.0)))
        }
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_positions,
        } => {
            let (low, high) = (low_freq_factor as f32, high_freq_factor as f32);
            let (factor, context) = (factor as f32, original_max_positions as f32);
            let scale = |f: f32| {
                let wavelength = (2.0 * PI) as f32 / f;
                if wavelength > context / low {
                    f / factor
                } else if wavelength < context / high {
                    f
                } else {
                    let smooth = (context / wavelength - low) / (high - low);
                    (1.0 - smooth) * f / factor + smooth * f
                }
            };
            unscaled(rotary_dim, theta).into_iter().map(scale).collect()
        }
        RopeScaling::Yarn(ref yarn) => yarn_frequencies(rotary_dim, theta, yarn),
    }
}

/// `theta^(−2i/rotary_dim)`.
fn unscaled(rotary_dim: usize, theta: f64) -> Vec<f32> {
    wavenumbers(rotary_dim, theta).map(|w| 1.0 / w).collect()
}

/// `theta^(2i/rotary_dim)`, the exponent rounded to f32.
fn wavenumbers(rotary_dim: usize, theta: f64) -> impl Iterator<Item = f32> {
    let exponents = (0..rotary_dim / 2).map(move |i| (2 * i) as f32 / rotary_dim as f32);
    exponents.map(move |e| (theta as f32 as f64).powf(e as f64) as f32)
}

/// Yarn (Peng et al., 2023): fast dimensions keep their frequency, slow ones are divided by the
/// factor, and a ramp leads from the ones to the others.
fn yarn_frequencies(rotary_dim: usize, theta: f64, yarn: &YarnScaling) -> Vec<f32> {
    let dim = rotary_dim as f64;
    let dimension_of = |rotations: f64| {
        let context = yarn.original_max_positions as f64;
        dim * (context / (rotations * 2.0 * PI)).ln() / (2.0 * theta.ln())
    };
    let (mut low, mut high) = (dimension_of(yarn.beta_fast), dimension_of(yarn.beta_slow));
    if yarn.truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    let (low, mut high) = (low.max(0.0), high.min(dim - 1.0));
    if low == high {
        high += 0.001; // The ramp of no width would divide by zero.
    }
    let ramp = |i: usize| ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
    let blend = |(i, w): (usize, f32)| {
        let kept = 1.0 - ramp(i);
        1.0 / (yarn.factor as f32 * w) * (1.0 - kept) + 1.0 / w * kept
    };
    wavenumbers(rotary_dim, theta).enumerate().map(blend).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::{Ctx, Precision};
    use crate::error::Result;
    use crate::ops::rope::RopeTables;
    use crate::spec::Positions;
    use crate::testing::f64s;
    use candle_core::Tensor;

    fn yarn(
        truncate: bool,
        (beta_fast, beta_slow): (f64, f64),
        attention_factor: f64,
    ) -> RopeScaling {
        let original_max_positions = 64;
        let factor = 4.0;
        RopeScaling::Yarn(YarnScaling {
            factor,
            beta_fast,
            beta_slow,
            original_max_positions,
            attention_factor,
            truncate,
        })
    }

    fn llama3(factor: f64, original_max_positions: usize) -> RopeScaling {
        let (low_freq_factor, high_freq_factor) = (1.0, 4.0);
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions }
    }

    fn check(got: &[f32], want: &[f64], bound: f64, what: &str) {
        assert_eq!(got.len(), want.len(), "{what}");
        for (got, want) in got.iter().zip(want) {
            assert!((*got as f64 / want - 1.0).abs() < bound, "{what}: {got} for {want}");
        }
    }

    /// Every variant with the values that Transformers 5.24 computes: `inv_freq`, and one position of
    /// `LlamaRotaryEmbedding`'s cos and sin.
    #[test]
    fn frequencies_are_those_of_transformers() -> Result<()> {
        let ctx = Ctx::cpu(Precision::F32);
        let dynamic = RopeScaling::Dynamic { factor: 2.0, max_positions: 64 };
        let cases = [
            ("default", 1e4, RopeScaling::None, 64, &DEFAULT),
            ("linear", 1e4, RopeScaling::Linear { factor: 2.5 }, 64, &LINEAR),
            ("dynamic, short", 1e4, dynamic.clone(), 64, &DEFAULT),
            ("dynamic, long", 1e4, dynamic, 100, &DYNAMIC_100),
            ("llama3", 5e5, llama3(8.0, 32), 64, &LLAMA3),
            ("yarn", 1e4, yarn(true, (32.0, 1.0), 1.138_629_436_111_989), 256, &YARN),
            ("yarn, ramp not rounded", 1e4, yarn(false, (16.0, 2.0), 1.25), 256, &YARN_EXACT),
        ];
        for (name, theta, scaling, max_len, want) in cases {
            check(&inverse_frequencies(16, theta, &scaling, max_len), &want.inv_freq, 3e-7, name);
            let tables = RopeTables::new(
                &ctx,
                &Positions::Rope { rotary_dim: 16, theta, scaling },
                max_len,
            )?;
            let last = |table: &Tensor| f64s(table)[(max_len - 1) * 8..].to_vec();
            let (cos, sin) = (last(&tables.cos), last(&tables.sin));
            for (got, want) in [cos[1], sin[1], cos[6], sin[6]].iter().zip(want.last) {
                // An ulp of an angle of up to 60 is 4e-6.
                assert!((got - want).abs() < 5e-6, "{name}: {got} for {want}");
            }
        }
        let real = inverse_frequencies(64, 5e5, &llama3(32.0, 8192), 64);
        for (i, want) in LLAMA3_REAL {
            check(&real[i..=i], &[want], 3e-7, "llama3 of Llama 3.2");
        }
        Ok(())
    }

    /// `inv_freq`, and of the last position `cos[1], sin[1], cos[6], sin[6]`.
    struct Printed {
        inv_freq: [f64; 8],
        last: [f64; 4],
    }

    const DEFAULT: Printed = Printed {
        inv_freq: [
            1.0,
            0.316_227_764,
            0.100_000_001,
            0.031_622_778_6,
            0.009_999_999_78,
            0.003_162_277_86,
            0.001_000_000_05,
            0.000_316_227_786,
        ],
        last: [0.477_671_444, 0.878_538_549, 0.998_016_179, 0.062_958_337_4],
    };

    const LINEAR: Printed = Printed {
        inv_freq: [
            0.400_000_006,
            0.126_491_1,
            0.039_999_999_1,
            0.012_649_111_4,
            0.003_999_999_72,
            0.001_264_911_14,
            0.000_400_000_019,
            0.000_126_491_112,
        ],
        last: [-0.114_704_639, 0.993_399_62, 0.999_682_486, 0.025_197_334_6],
    };

    const DYNAMIC_100: Printed = Printed {
        inv_freq: [
            1.0,
            0.283_945_143,
            0.080_624_841_2,
            0.022_893_030_2,
            0.006_500_365_21,
            0.001_845_747,
            0.000_524_090_894,
            0.000_148_813_066,
        ],
        last: [-0.986_620_486, 0.163_033_858, 0.998_654_246, 0.051_861_722],
    };

    const LLAMA3: Printed = Printed {
        inv_freq: [
            1.0,
            0.024_240_344_8,
            0.004_700_753_84,
            0.000_911_583_134,
            0.000_176_776_681,
            3.428_102_35e-5,
            6.647_869_67e-6,
            1.289_173_16e-6,
        ],
        last: [0.043_640_773_7, 0.999_047_279, 0.999_999_94, 0.000_418_815_791],
    };

    /// Some of the 32 frequencies of Llama 3.2, around the ramp.
    const LLAMA3_REAL: [(usize, f64); 9] = [
        (0, 1.0),
        (1, 0.663_601_279),
        (13, 0.004_839_421_25),
        (14, 0.003_211_446_11),
        (15, 0.001_290_548_01),
        (16, 0.000_429_556_705),
        (17, 9.708_286_23e-5),
        (18, 1.946_163_87e-5),
        (31, 9.418_306_49e-8),
    ];

    const YARN: Printed = Printed {
        inv_freq: [
            1.0,
            0.237_170_815,
            0.049_999_997,
            0.007_905_694_66,
            0.002_499_999_94,
            0.000_790_569_466,
            0.000_250_000_012,
            7.905_694_66e-5,
        ],
        last: [-0.802_795_172, -0.807_463_288, 1.136_316_54, 0.072_538_480_2],
    };

    const YARN_EXACT: Printed = Printed {
        inv_freq: [
            1.0,
            0.148_490_25,
            0.025_000_000_4,
            0.007_905_694_66,
            0.002_499_999_94,
            0.000_790_569_466,
            0.000_250_000_012,
            7.905_694_66e-5,
        ],
        last: [1.232_837_32, 0.206_426_62, 1.247_460_84, 0.079_633_548_9],
    };
}
