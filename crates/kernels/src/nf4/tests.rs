//! What holds for any values; the reference results are compared in `bench/golden`.

use super::lines::Way;
use super::ops::CodeOps;
use super::unpack::{Unpacked, unpack_by};
use super::*;
use crate::Isa;
use crate::dynamic::SIGNED_ZERO;
use crate::gemm::Elements;
use crate::testing::{same_bits, values};
use half::{bf16, f16};
use proptest::prelude::*;
use std::fmt::Debug;

const NF4_64: Codec = nf4(64);

const fn nf4(block_size: usize) -> Codec {
    Codec { quant_type: QuantType::Nf4, block_size }
}

/// Codes and maxima, plain and nested.
#[derive(Debug, PartialEq)]
struct Packed {
    codes: Vec<u8>,
    absmax: Vec<f32>,
    nested: Vec<u8>,
    absmax2: Vec<f32>,
    offset: f32,
    codec: Codec,
    len: usize,
}

impl Packed {
    fn new(isa: Isa, x: Elements, codec: Codec) -> Packed {
        let blocks = x.len().div_ceil(codec.block_size);
        let mut packed = Packed {
            codes: vec![0; x.len().div_ceil(2)],
            absmax: vec![0.0; blocks],
            nested: vec![0; blocks],
            absmax2: vec![0.0; blocks.div_ceil(NESTED_BLOCK_SIZE)],
            offset: 0.0,
            codec,
            len: x.len(),
        };
        quantize(isa, x, codec, &mut packed.codes, &mut packed.absmax);
        packed.offset =
            quantize_scales(isa, &packed.absmax, &mut packed.nested, &mut packed.absmax2);
        packed
    }

    fn plain(&self) -> FourBitBlocks<'_> {
        FourBitBlocks::new(&self.codes, Scales::Plain(&self.absmax), self.codec, self.len)
    }

    fn nested(&self) -> FourBitBlocks<'_> {
        let (codes, absmax2) = (&*self.nested, &*self.absmax2);
        let scales = Scales::Nested { codes, absmax2, offset: self.offset };
        FourBitBlocks::new(&self.codes, scales, self.codec, self.len)
    }

    fn code(&self, i: usize) -> u8 {
        let byte = self.codes[i / 2];
        if i.is_multiple_of(2) { byte >> 4 } else { byte & 15 }
    }
}

fn unpacked(isa: Isa, x: FourBitBlocks) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    unpack(isa, x, &mut out);
    out
}

#[test]
fn bits_depend_on_no_instruction_set_and_no_threads() {
    for (len, block_size) in [(0, 64), (1, 64), (100_001, 64), (70_000, 24), (70_001, 7)] {
        let x = values(3, len);
        let all = same_bits(|isa| {
            let mut bits = vec![];
            for quant_type in QuantType::ALL {
                let codec = Codec { quant_type, block_size };
                let packed = Packed::new(isa, Elements::F32(&x), codec);
                bits.extend(unpacked(isa, packed.plain()));
                bits.extend(unpacked(isa, packed.nested()));
                bits.extend(packed.codes.iter().map(|&code| f32::from(code)));
                bits.extend(packed.nested.iter().map(|&code| f32::from(code)));
            }
            bits
        });
        assert!(all.len() >= 4 * len);
    }
}

#[test]
fn sixteen_bit_values_count_as_their_f32_values() {
    let x = values(4, 5001);
    let halves: Vec<f16> = x.iter().map(|x| f16::from_f32(*x)).collect();
    let brains: Vec<bf16> = x.iter().map(|x| bf16::from_f32(*x)).collect();
    for isa in Isa::available() {
        for stored in [Elements::F16(&halves), Elements::Bf16(&brains)] {
            let wide = stored.to_f32();
            let want = Packed::new(isa, Elements::F32(&wide), NF4_64);
            assert_eq!(Packed::new(isa, stored, NF4_64), want, "{}", isa.name());
        }
    }
}

#[test]
fn the_values_of_every_table_come_back() {
    for quant_type in QuantType::ALL {
        let values = quant_type.values();
        let x: Vec<f32> = values.iter().map(|value| value * 0.375).collect();
        let codec = Codec { quant_type, block_size: 16 };
        let packed = Packed::new(Isa::Portable, Elements::F32(&x), codec);
        let codes: Vec<u8> = (0..16).map(|i| packed.code(i)).collect();
        // The second zero of FP4 is a zero: it has the code of the first.
        let first = |i: u8| values.iter().position(|value| *value == values[usize::from(i)]);
        let want: Vec<u8> = (0..16).filter_map(first).map(|code| code as u8).collect();
        assert_eq!(codes, want, "{quant_type:?}");
        assert_eq!(unpacked(Isa::Portable, packed.plain()), x);
    }
    assert!(QuantType::Nf4.values().is_sorted_by(|a, b| a < b));
}

#[test]
fn zeros_have_the_code_of_zero_and_so_has_the_missing_nibble() {
    // 0.5 lies nearest to NF4's 0.44, and is a value of FP4.
    for (quant_type, zeros, few) in
        [(QuantType::Nf4, 0x77, [0xc0, 0xf7]), (QuantType::Fp4, 0, [0x5b, 0x30])]
    {
        let codec = Codec { quant_type, block_size: 64 };
        let packed = Packed::new(Isa::Portable, Elements::F32(&[0.0; 131]), codec);
        assert_eq!(packed.codes, [zeros; 66]);
        assert_eq!(packed.nested, [SIGNED_ZERO; 3]);
        assert_eq!(packed.absmax, [0.0; 3]);
        assert_eq!(packed.absmax2, [0.0]);
        assert_eq!(unpacked(Isa::Portable, packed.nested()), [0.0; 131]);
        let packed = Packed::new(Isa::Portable, Elements::F32(&[1.0, -2.0, 2.0]), codec);
        assert_eq!(packed.codes, few);
    }
}

#[test]
fn a_value_that_is_not_finite_is_not_hidden() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = values(5, 256);
        x[70] = bad;
        for isa in Isa::available() {
            let packed = Packed::new(isa, Elements::F32(&x), NF4_64);
            let values = unpacked(isa, packed.plain());
            assert!(values[64..128].iter().any(|x| !x.is_finite()));
            assert!(values[128..].iter().all(|x| x.is_finite()));
            assert!(unpacked(isa, packed.nested()).iter().any(|x| !x.is_finite()));
        }
    }
}

proptest! {
    #[test]
    fn codes_are_the_nearest_and_ascend_with_the_values(
        mut x in prop::collection::vec(-3.0f32..3.0, 1..400),
        block_size in 1usize..150,
    ) {
        for block in x.chunks_mut(block_size) {
            block.sort_by(f32::total_cmp);
        }
        for quant_type in QuantType::ALL {
            let packed = Packed::new(Isa::best(), Elements::F32(&x), Codec { quant_type, block_size });
            let value = |code: u8| quant_type.values()[usize::from(code)];
            for (i, &x) in x.iter().enumerate() {
                let absmax = f64::from(packed.absmax[i / block_size]);
                let s = if absmax == 0.0 { 0.0 } else { f64::from(x) / absmax };
                let distance = |code: u8| (f64::from(value(code)) - s).abs();
                let code = packed.code(i);
                let nearest = (0..16).map(distance).fold(f64::INFINITY, f64::min);
                prop_assert!(distance(code) <= nearest + 1e-6, "{x} of {absmax} got {code}");
                prop_assert!(i % block_size == 0 || value(packed.code(i - 1)) <= value(code));
            }
        }
    }

    #[test]
    fn nested_maxima_are_the_nearest(x in prop::collection::vec(-3.0f32..3.0, 1..2000)) {
        let packed = Packed::new(Isa::best(), Elements::F32(&x), nf4(2));
        for (i, &absmax) in packed.absmax.iter().enumerate() {
            let absmax2 = f64::from(packed.absmax2[i / NESTED_BLOCK_SIZE]);
            let z = f64::from(absmax - packed.offset);
            let distance = |value: f32| (f64::from(value) * absmax2 - z).abs();
            let got = distance(DYNAMIC_CODE[usize::from(packed.nested[i])]);
            let nearest = DYNAMIC_CODE.into_iter().map(distance).fold(f64::INFINITY, f64::min);
            prop_assert!(got <= nearest + 1e-6 * absmax2);
        }
    }

    #[test]
    fn any_part_is_unpacked_as_in_the_whole(
        len in 1usize..700,
        block_size in 1usize..130,
        ends in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let x = values(6, len);
        let packed = Packed::new(Isa::best(), Elements::F32(&x), nf4(block_size));
        let (a, b) = (ends.0.index(len), ends.1.index(len));
        let range = a.min(b)..a.max(b) + 1;
        for blocks in [packed.plain(), packed.nested()] {
            let whole = unpacked(Isa::best(), blocks);
            let part = unpacked(Isa::best(), blocks.slice(range.clone()));
            prop_assert_eq!(&part, &whole[range.clone()]);
            let inner = blocks.slice(range.clone()).slice(range.len() / 2..range.len());
            prop_assert_eq!(&unpacked(Isa::best(), inner), &part[range.len() / 2..]);
        }
    }
}

/// Blocks in which every code stands next to every other, whatever their size, with maxima among which
/// are 0, subnormal numbers, the largest one, infinity and NaN.
fn all_codes(codec: Codec) -> Packed {
    const MAXIMA: [f32; 9] =
        [1.0, 0.02, 3e-39, 0.0, f32::MAX, f32::INFINITY, f32::NAN, 2e-38, 0.777];
    let len = 1801usize;
    let blocks = len.div_ceil(codec.block_size);
    Packed {
        codes: (0..901u32).map(|i| (i * 37 % 256) as u8).collect(),
        absmax: MAXIMA.into_iter().cycle().take(blocks).collect(),
        nested: (0..blocks).map(|i| (i * 41 % 256) as u8).collect(),
        absmax2: MAXIMA.into_iter().cycle().take(blocks.div_ceil(NESTED_BLOCK_SIZE)).collect(),
        offset: 0.013,
        codec,
        len,
    }
}

/// The bits of each value by itself, as the formula at the top of the module has it.
fn by_formula(packed: &Packed, blocks: FourBitBlocks) -> Vec<f32> {
    let absmax = |block| blocks.scales.absmax(block);
    let Codec { quant_type, block_size } = packed.codec;
    let values = quant_type.values();
    let value = |i: usize| values[usize::from(packed.code(i))] * absmax(i / block_size);
    (0..packed.len).map(value).collect()
}

/// The bits, of which those of a NaN are left open by Rust.
fn wide_bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}

fn half_bits(x: impl Iterator<Item = bf16>) -> Vec<u16> {
    x.map(|x| if x.is_nan() { bf16::NAN.to_bits() } else { x.to_bits() }).collect()
}

#[test]
fn every_code_has_its_bits_on_every_set_from_every_start() {
    let types = |block_size| QuantType::ALL.map(|quant_type| Codec { quant_type, block_size });
    for codec in [64, 100, 1, 2, 7, 16, 32, 34, 48, 256].into_iter().flat_map(types) {
        let packed = all_codes(codec);
        for blocks in [packed.plain(), packed.nested()] {
            let wide = by_formula(&packed, blocks);
            let (wide, half) =
                (wide_bits(&wide), half_bits(wide.iter().map(|x| bf16::from_f32(*x))));
            for isa in Isa::available() {
                for (start, end) in [(0, 1801), (1, 1800), (3, 200), (63, 129), (64, 97), (99, 99)]
                {
                    let part = blocks.slice(start..end);
                    let name = format!("{} {codec:?} {start}..{end}", isa.name());
                    let wide_of = |x: &[f32]| wide_bits(x);
                    has_bits_everywhere(isa, part, f32::EPSILON, wide_of, &wide[start..end], &name);
                    let half_of = |x: &[bf16]| half_bits(x.iter().copied());
                    has_bits_everywhere(
                        isa,
                        part,
                        bf16::EPSILON,
                        half_of,
                        &half[start..end],
                        &name,
                    );
                }
            }
        }
    }
}

/// Unpacks to every place in a cache line, past the caches and through them, and looks at what stood around.
fn has_bits_everywhere<T: Unpacked + PartialEq + Debug, B: PartialEq>(
    isa: Isa,
    x: FourBitBlocks,
    around: T,
    bits: impl Fn(&[T]) -> Vec<B>,
    want: &[B],
    name: &str,
) {
    const LINE: usize = 32; // of bf16
    for (at, way) in (0..LINE).flat_map(|at| [(at, Way::Cached), (at, Way::PastCaches)]) {
        let mut out = vec![around; x.len() + 2 * LINE];
        unpack_by(isa, x, &mut out[at..][..x.len()], way);
        let (before, rest) = out.split_at(at);
        let (values, after) = rest.split_at(x.len());
        let differs = bits(values).iter().zip(want).position(|(got, want)| got != want);
        assert_eq!(differs, None, "{name} {way:?} {at}");
        assert!(before.iter().chain(after).all(|x| *x == around), "{name} {way:?} {at}");
    }
}

/// Outputs beyond the caches are written past them, from any address on.
#[test]
fn large_outputs_are_the_same_as_their_parts() {
    let len = (9usize << 20) + 77;
    let packed = Packed {
        codes: (0..len.div_ceil(2)).map(|i| (i * 37 % 251) as u8).collect(),
        absmax: values(9, len.div_ceil(64)),
        nested: vec![],
        absmax2: vec![],
        offset: 0.0,
        codec: NF4_64,
        len,
    };
    let blocks = packed.plain();
    for isa in Isa::available() {
        for begin in [0, 1, 7] {
            let x = blocks.slice(begin..len);
            let mut whole = vec![0.0; len];
            unpack(isa, x, &mut whole[begin..]);
            let mut half = vec![bf16::ZERO; len];
            unpack_bf16(isa, x, &mut half[begin..]);
            assert_eq!(whole[..begin], [0.0; 7][..begin]);
            for at in (begin..len).step_by(700_001) {
                let part = unpacked(isa, blocks.slice(at..len.min(at + 5000)));
                assert_eq!(whole[at..][..part.len()], part, "{} {at}", isa.name());
                let rounded: Vec<bf16> = part.iter().map(|x| bf16::from_f32(*x)).collect();
                assert_eq!(half[at..][..part.len()], rounded, "{} {at}", isa.name());
            }
        }
    }
}

/// Wherever it begins in a line, and where its last vector is not whole.
#[test]
fn writing_alone_writes_every_value() {
    let mut out = vec![0.0f32; 70_000];
    for isa in Isa::available() {
        for (from, to) in [(0, 70_000), (1, 69_999), (3, 66_000), (5, 5), (7, 8)] {
            out.fill(0.0);
            write_alone(isa, &mut out[from..to]);
            assert!(out.iter().enumerate().all(|(i, x)| (*x == 1.0) == (from..to).contains(&i)));
        }
    }
}

/// Every midpoint and its neighbours, and what is no finite number, in every place of a vector.
#[test]
fn codes_are_the_number_of_midpoints_below_on_every_set() {
    for quant_type in QuantType::ALL {
        let value = |code: &u8| quant_type.values()[usize::from(*code)];
        let mut order: Vec<u8> = (0..16).collect();
        order.sort_by(|a, b| value(a).partial_cmp(&value(b)).expect("numbers")); // is stable
        let midpoints: Vec<f32> =
            order.windows(2).map(|pair| (value(&pair[0]) + value(&pair[1])) / 2.0).collect();
        let borders = midpoints.iter().flat_map(|m| [m.next_down(), *m, m.next_up()]);
        let others = [0.0, -0.0, 1.0, -1.0, 3e-39, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        let s: Vec<f32> = borders.chain(others).collect();
        for factor in [1.0, 0.25, f32::INFINITY, 0.0, f32::NAN] {
            let code = |x: &u32| {
                let s = f32::from_bits(*x) * factor;
                order[midpoints.iter().filter(|m| **m < s).count()]
            };
            for len in [2, 30, 32, 34, 62, 64, 66, 128, 318] {
                for turn in 0..s.len() {
                    let x = s.iter().cycle().skip(turn).take(len).map(|x| x.to_bits());
                    let x: Vec<u32> = x.collect();
                    let pair = |pair: &[u32]| code(&pair[0]) << 4 | code(&pair[1]);
                    let want: Vec<u8> = x.chunks(2).map(pair).collect();
                    for isa in Isa::available() {
                        let mut codes = vec![0; len / 2];
                        let table = quant_type.table();
                        ops::run(isa, Encode { table, x: &x, factor, codes: &mut codes });
                        assert_eq!(codes, want, "{} {len} {turn} {factor}", isa.name());
                    }
                }
            }
        }
    }
}

struct Encode<'a> {
    table: &'a Table,
    x: &'a [u32],
    factor: f32,
    codes: &'a mut [u8],
}

impl ops::Task for Encode<'_> {
    #[inline(always)]
    fn run(self, ops: impl CodeOps) {
        ops.encode(self.table, self.x, self.factor, self.codes);
    }
}
