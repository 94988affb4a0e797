//! Products of weights in 4 and 8 bits are those of their unpacked values: to the bit, on every instruction set.

use super::tests::random;
use super::*;
use crate::nf4::{Codec, QuantType, Scales};

#[test]
fn four_bit_weights_give_the_bits_of_their_unpacked_values() {
    // Rows that end inside of blocks and of bytes; thin and wide products; several blocks of k.
    for (n_out, n_in, block_size) in [(70, 130, 64), (33, 51, 64), (129, 1100, 128), (9, 7, 6)] {
        let w = random(n_out * n_in, 3);
        let mut codes = vec![0; w.len().div_ceil(2)];
        let mut absmax = vec![0.0; w.len().div_ceil(block_size)];
        let quant_type = if n_out % 2 == 0 { QuantType::Nf4 } else { QuantType::Fp4 };
        let codec = Codec { quant_type, block_size };
        nf4::quantize(Isa::Portable, Elements::F32(&w), codec, &mut codes, &mut absmax);
        let mut nested = vec![0; absmax.len()];
        let mut absmax2 = vec![0.0; absmax.len().div_ceil(nf4::NESTED_BLOCK_SIZE)];
        let offset = nf4::quantize_scales(Isa::Portable, &absmax, &mut nested, &mut absmax2);
        let (codes2, absmax2) = (&*nested, &*absmax2);
        for scales in [Scales::Plain(&absmax), Scales::Nested { codes: codes2, absmax2, offset }] {
            let blocks = Elements::FourBits(FourBitBlocks::new(&codes, scales, codec, w.len()));
            products_are_those_of_the_values(blocks, (n_out, n_in));
        }
    }
}

/// Of packed weights, in both directions, to the bit.
fn products_are_those_of_the_values(packed: Elements, (n_out, n_in): (usize, usize)) {
    let values = packed.to_f32();
    for isa in Isa::available() {
        for precision in [Precision::F32, Precision::Bf16] {
            for n in [1, 3, 40, 300] {
                let x = random(n * n_in.max(n_out), 4);
                let run = |w: Elements, dx: bool| {
                    let w = Mat::new(n_out, n_in, w);
                    let (w, k) = if dx { (w, n_out) } else { (w.t(), n_in) };
                    let mut c = vec![0.5f32; n * w.cols];
                    let x = Mat::new(n, k, Elements::F32(&x[..n * k]));
                    gemm(isa, precision, 1.0, x, w, Store::Add, &mut c);
                    c.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
                };
                for dx in [false, true] {
                    assert!(
                        run(packed, dx) == run(Elements::F32(&values), dx),
                        "{} {precision:?} {n}x{n_out}x{n_in}, dx {dx}",
                        isa.name()
                    );
                }
            }
        }
    }
}

#[test]
fn int8_weights_give_the_bits_of_their_unpacked_values() {
    for (n_out, n_in) in [(70, 130), (33, 51), (129, 1100), (9, 7), (40, 1)] {
        let w = random(n_out * n_in, 3);
        let (mut codes, mut absmax) = (vec![0; w.len()], vec![0.0; n_out]);
        int8::quantize(Isa::Portable, Elements::F32(&w), &mut codes, &mut absmax);
        // Maxima whose products are subnormal, which some sets take as 0, or not finite.
        absmax.iter_mut().zip([3e-39, 2e-38, 0.0, f32::MAX]).for_each(|(max, odd)| *max = odd);
        let rows = Int8Rows::new(&codes, &absmax, n_in);
        products_are_those_of_the_values(Elements::Int8(rows), (n_out, n_in));
    }
}

/// Also where the products of a block are subnormal, which some sets take as 0, or not finite.
#[test]
fn four_bit_weights_are_rounded_as_their_unpacked_values() {
    let maxima = [1.0, 3e-39, 2e-38, 0.0, f32::MAX, 1.2e-38, 0.3];
    let types = |block_size| QuantType::ALL.map(|quant_type| Codec { quant_type, block_size });
    for codec in [64, 100, 2, 1].into_iter().flat_map(types) {
        let (n_out, n_in) = (64usize, 224);
        let codes: Vec<u8> = (0..n_out * n_in / 2).map(|i| (i * 37 % 251) as u8).collect();
        let blocks = (n_out * n_in).div_ceil(codec.block_size);
        let absmax: Vec<f32> = maxima.into_iter().cycle().take(blocks).collect();
        let blocks = FourBitBlocks::new(&codes, Scales::Plain(&absmax), codec, n_out * n_in);
        let values = Elements::FourBits(blocks).to_f32();
        for isa in Isa::available() {
            for precision in [Precision::F32, Precision::Bf16] {
                for dx in [false, true] {
                    let product = |w: Elements| {
                        let w = Mat::new(n_out, n_in, w);
                        let w = if dx { w } else { w.t() };
                        let k = w.rows;
                        // The identity: each sum is one value.
                        let one: Vec<f32> =
                            (0..k * k).map(|i| f32::from(i % (k + 1) == 0)).collect();
                        let mut c = vec![0.0f32; k * w.cols];
                        let one = Mat::new(k, k, Elements::F32(&one));
                        gemm(isa, precision, 1.0, one, w, Store::Overwrite, &mut c);
                        c.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
                    };
                    assert!(
                        product(Elements::FourBits(blocks)) == product(Elements::F32(&values)),
                        "{} {precision:?} {codec:?}, dx {dx}",
                        isa.name()
                    );
                }
            }
        }
    }
}
