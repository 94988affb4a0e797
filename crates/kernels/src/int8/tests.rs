//! Codes, maxima and values against bitsandbytes', and the same bits on every instruction set.

use super::quantize::to_half;
use super::*;
use crate::gemm::Elements;
use crate::testing::{same_bits, values};
use half::{bf16, f16};

fn quantized(isa: Isa, x: Elements, rows: usize) -> (Vec<i8>, Vec<f32>) {
    let (mut codes, mut absmax) = (vec![0; x.len()], vec![0.0; rows]);
    quantize(isa, x, &mut codes, &mut absmax);
    (codes, absmax)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// What bitsandbytes 0.50 makes of the rows on a CPU: `int8_vectorwise_quant` of their f16, and
/// `int8_vectorwise_dequant` of that.
#[test]
fn rows_have_the_bits_of_bitsandbytes() {
    let x = [
        [0.1, -0.25, 0.333_333_3, 0.0123, -0.4],
        [1e-7, -3e-8, 6e-8, 2.9e-8, 0.0], // subnormal in f16
        [0.0, -0.0, 0.0, 0.0, 0.0],
        [65519.0, -1.0, 300.5, -32759.5, 257.9], // the last that f16 has
        [127.0, 0.5, 1.5, 2.5, -2.5],            // ties
    ];
    let codes = [
        [32, -79, 106, 4, -127],
        [127, -64, 64, 0, 0],
        [0, 0, 0, 0, 0],
        [127, 0, 1, -64, 1],
        [127, 0, 2, 2, -2],
    ];
    let absmax = [0x3ecc_c000, 0x3400_0000, 0, 0x477f_e000, 0x42fe_0000];
    let unpacked = [
        [0x3dce_5cb9, 0xbe7e_ba75, 0x3eaa_e4ca, 0x3c4e_5cb9, 0xbecc_c000],
        [0x3400_0000, 0xb381_0204, 0x3381_0204, 0, 0],
        [0; 5],
        [0x477f_e000, 0, 0x4400_f1e4, 0xc700_f1e4, 0x4400_f1e4],
        [0x42fe_0000, 0, 0x4000_0000, 0x4000_0000, 0xc000_0000u32],
    ];
    for isa in Isa::available() {
        let found = quantized(isa, Elements::F32(x.as_flattened()), x.len());
        assert_eq!((found.0.as_slice(), bits(&found.1)), (codes.as_flattened(), absmax.to_vec()));
        let mut out = vec![1.0; x.as_flattened().len()];
        unpack(isa, Int8Rows::new(&found.0, &found.1, 5), &mut out);
        assert_eq!(bits(&out), unpacked.as_flattened(), "{}", isa.name());
    }
}

/// Values whose code is another where `127 / absmax` is rounded once: with the row's maximum, and the code.
#[test]
fn a_reciprocal_is_rounded_before_it_is_multiplied() {
    for (absmax, x, code) in [
        (0.170_532_23, 0xbda9_18c5, -61),
        (0.160_278_32, 0xbda4_217f, -64),
        (0.163_574_22, 0xbda7_8997, -64),
        (0.197_265_63, 0x3dc9_f1b4, 63),
        (0.146_972_66, 0xbd96_7b6b, -63),
        (0.170_532_23, 0x3dfb_ab03, 91),
    ] {
        let x = [absmax, f32::from_bits(x)];
        for isa in Isa::available() {
            assert_eq!(quantized(isa, Elements::F32(&x), 1).0, [127, code], "{}", isa.name());
        }
    }
}

#[test]
fn a_row_that_f16_does_not_hold_becomes_nan() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 65520.0, -1e30] {
        let x = [1.0, bad, -2.0, 3.0, -4.0, 0.0];
        let (codes, absmax) = quantized(Isa::Portable, Elements::F32(&x), 2);
        let mut out = [0.0; 6];
        unpack(Isa::Portable, Int8Rows::new(&codes, &absmax, 3), &mut out);
        assert!(out[..3].iter().all(|x| x.is_nan()), "{bad}: {out:?}");
        assert_eq!((codes[3..].to_vec(), out[4]), (vec![95, -127, 0], -4.0));
    }
}

#[test]
fn rounding_to_f16_is_that_of_half() {
    let all = (0..1u32 << 20).map(|i| i.wrapping_mul(4099) ^ i << 13);
    let half = (0..=u16::MAX).map(|half| f16::from_bits(half).to_f32().to_bits());
    let near = half.flat_map(|x| [x, x + 0x0fff, x + 0x1000, x + 0x1001]);
    for x in all.chain(near) {
        let (got, want) = (to_half(x), f16::from_f32(f32::from_bits(x)).to_f32());
        let nan = want.is_nan() && f32::from_bits(got).is_nan();
        assert!(nan || got == want.to_bits(), "{x:#x}: {got:#x}");
    }
}

#[test]
fn every_set_quantises_to_the_same_bits_from_every_type() {
    for (rows, cols) in [(1, 1), (7, 1), (3, 65), (40, 1000), (2, 40_000), (1000, 17)] {
        let x = values(rows as u64, rows * cols);
        let halves: Vec<f16> = x.iter().map(|&x| f16::from_f32(x)).collect();
        let brains: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
        for x in [Elements::F32(&x), Elements::F16(&halves), Elements::Bf16(&brains)] {
            same_bits(|isa| {
                let (codes, absmax) = quantized(isa, x, rows);
                let mut out = vec![0.0; codes.len()];
                unpack(isa, Int8Rows::new(&codes, &absmax, cols), &mut out);
                let worst = x.to_f32().into_iter().zip(&out).map(|(a, b)| (a - b).abs());
                assert!(worst.fold(0.0, f32::max) <= 2.0 / 127.0 * 0.501 + 1e-3);
                codes.iter().map(|&code| code.into()).chain(absmax).chain(out).collect()
            });
        }
    }
    assert_eq!(quantized(Isa::best(), Elements::F32(&[]), 0), (vec![], vec![]));
}

#[test]
fn any_range_has_the_values_of_the_whole() {
    let (rows, cols) = (5, 7);
    let codes: Vec<i8> = (0..rows * cols).map(|i| (i * 37 % 255) as u8 as i8).collect();
    let absmax = [0.3, 1.0, 0.0, 3e-39, 7.5];
    let all = Int8Rows::new(&codes, &absmax, cols);
    let whole = Elements::Int8(all).to_f32();
    for start in 0..=all.len() {
        for end in start..=all.len() {
            let part = all.slice(start..end);
            assert_eq!(bits(&Elements::Int8(part).to_f32()), bits(&whole[start..end]));
            let len = part.len() / 2;
            let mut inner = vec![0.0; len];
            part.slice(part.len() - len..part.len()).read(0, &mut inner, |x| x);
            assert_eq!(bits(&inner), bits(&whole[end - len..end]));
        }
    }
}

#[test]
fn places_are_those_of_a_division() {
    let large = [1 << 31, (1 << 32) - 1, 1 << 32, (1 << 32) + 7, 1 << 45];
    for divisor in (1..70).chain([4095, 4096, 12_288, 53_248]).chain(large) {
        let places = (0..200).chain([divisor - 1, divisor, 7 * divisor - 1, 7 * divisor]);
        for at in places.chain(large.map(|x| x - 1)).chain(large) {
            let found = Divisor::new(divisor).divide(at);
            assert_eq!(found, (at / divisor, at % divisor), "{at} / {divisor}");
        }
    }
}
