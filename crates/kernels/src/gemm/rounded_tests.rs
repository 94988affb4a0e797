//! A product stored as bf16 is that of f32, rounded once: to the bit, on every instruction set.

use super::tests::{Kind, Operand, Order, pool, random};
use super::*;

/// The bits of a product stored as bf16, and those of the f32 product that `half` rounds.
fn both(isa: Isa, precision: Precision, terms: &[Term], bias: Option<&[f32]>) -> [Vec<u16>; 2] {
    let (m, n) = (terms[0].a.rows, terms[0].b.cols);
    let mut got = vec![bf16::NAN; m * n];
    gemm_sum_bf16(isa, precision, terms, bias, &mut got);
    let (mut sums, store) = match bias {
        Some(bias) => (bias.repeat(m), Store::Add),
        None => (vec![f32::NAN; m * n], Store::Overwrite),
    };
    gemm_sum(isa, precision, terms, store, &mut sums);
    let want = sums.into_iter().map(|x| bf16::from_f32(x).to_bits());
    [got.into_iter().map(bf16::to_bits).collect(), want.collect()]
}

fn check(terms: &[Term], bias: &[f32], threads: &[usize]) {
    for isa in Isa::available() {
        for precision in [Precision::F32, Precision::Bf16] {
            for bias in [None, Some(bias)] {
                let results: Vec<[Vec<u16>; 2]> = threads
                    .iter()
                    .map(|&threads| pool(threads).install(|| both(isa, precision, terms, bias)))
                    .collect();
                let Mat { rows: m, cols: k, .. } = terms[0].a;
                let what = format!("{} {precision:?}, {m} rows, k {k}", isa.name());
                for [got, want] in &results {
                    assert!(got == want, "{what}: other bits than those of f32, rounded");
                    assert!(*got == results[0][0], "{what}: bits depend on threads");
                }
            }
        }
    }
}

/// Tile edges, thin shapes (computed transposed), several blocks of k, one and several terms.
#[test]
fn the_bits_are_those_of_f32_rounded_once() {
    for (m, n, lens) in [
        (1, 1, [3, 0]),
        (7, 33, [600, 8]),
        (70, 65, [1300, 1]),
        (13, 96, [0, 5]),
        (300, 8, [700, 2]),
        (40, 3, [530, 530]),
        (3, 130, [2100, 16]),
        (65, 64, [64, 0]),
    ] {
        for orders in [(Order::RowMajor, Order::ColMajor), (Order::ColMajor, Order::RowMajor)] {
            let operands = [(lens[0], 1.0), (lens[1], -0.7)].map(|(k, alpha)| {
                let seed = k as u64 + 1;
                let a = Operand::new(m, k, Kind::F32, orders.0, 0, seed);
                (alpha, a, Operand::new(k, n, Kind::Bf16, orders.1, 1, seed + 1))
            });
            let terms = operands.each_ref().map(|(alpha, a, b)| Term {
                alpha: *alpha,
                a: a.mat(),
                b: b.mat(),
            });
            check(&terms[..1], &random(n, 9), &[1]);
            check(&terms, &random(n, 9), &[1, 2]);
        }
    }
}

/// So much k that neither the packed rows of a task nor a panel of columns fit at once.
#[test]
fn the_sums_of_a_long_k_are_rounded_once() {
    for (m, n, k) in [(1500, 40, 2700), (40, 33, 20_000), (130, 400, 5000)] {
        let a = Operand::new(m, k, Kind::Bf16, Order::RowMajor, 0, 1);
        let b = Operand::new(k, n, Kind::Bf16, Order::RowMajor, 0, 2);
        let low_rank = Operand::new(k, n, Kind::F32, Order::ColMajor, 0, 3);
        let terms = [(1.0, &b), (0.25, &low_rank)];
        let terms = terms.map(|(alpha, b)| Term { alpha, a: a.mat(), b: b.mat() });
        check(&terms, &random(n, 4), &[1, 3]);
    }
}

#[test]
fn values_of_every_kind_are_rounded_as_half_does_it() {
    let bits = (0..1u32 << 18).map(|i| i.wrapping_mul(16_411) ^ i << 13);
    let mut values: Vec<f32> = bits.map(f32::from_bits).collect();
    values.extend([f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-40, -0.0]);
    let one = Mat::new(1, 1, Elements::F32(&[1.0]));
    let nothing = vec![0.0f32; values.len()];
    for isa in Isa::available() {
        for precision in [Precision::F32, Precision::Bf16] {
            // As a bias, whatever the precision is: the product adds 0.
            let terms = [Term {
                alpha: 1.0,
                a: one,
                b: Mat::new(1, values.len(), Elements::F32(&nothing)),
            }];
            let [got, want] = both(isa, precision, &terms, Some(&values));
            for ((value, got), want) in values.iter().zip(got).zip(want) {
                assert_eq!(got, want, "{}: {value:e}", isa.name());
                assert_eq!(bf16::from_bits(got).is_nan(), value.is_nan());
            }
        }
    }
}

#[test]
fn an_empty_sum_is_the_bias() {
    let none = Mat::new(2, 0, Elements::F32(&[]));
    let terms = [Term { alpha: 1.0, a: none, b: none.t() }];
    for isa in Isa::available() {
        let mut c = [bf16::NAN; 4];
        gemm_sum_bf16(isa, Precision::F32, &terms, None, &mut c);
        assert_eq!(c, [bf16::ZERO; 4]);
        gemm_sum_bf16(isa, Precision::F32, &terms, Some(&[1.0, 2.0]), &mut c);
        assert_eq!(c.map(f32::from), [1.0, 2.0, 1.0, 2.0]);
    }
}
