//! One property suite for every instruction set, against a naive product in f64.

use super::*;
use proptest::prelude::*;

/// An operand: its elements in storage, and how the view walks over them.
#[derive(Clone, Debug)]
pub(super) struct Operand {
    f32s: Vec<f32>,
    bf16s: Vec<bf16>,
    f16s: Vec<f16>,
    kind: Kind,
    rows: usize,
    cols: usize,
    strides: (usize, usize),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    F32,
    Bf16,
    F16,
}

/// How a view lies in storage.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    RowMajor,
    ColMajor,
    Scattered,
}

impl Operand {
    pub(super) fn new(
        rows: usize,
        cols: usize,
        kind: Kind,
        order: Order,
        gap: usize,
        seed: u64,
    ) -> Operand {
        let strides = match order {
            Order::RowMajor => (cols + gap, 1),
            Order::ColMajor => (1, rows + gap),
            Order::Scattered => (2 + gap, (2 + gap) * rows + 1),
        };
        let len =
            if rows * cols == 0 { 0 } else { (rows - 1) * strides.0 + (cols - 1) * strides.1 + 1 };
        let f32s = random(len, seed);
        let bf16s = f32s.iter().map(|x| bf16::from_f32(*x)).collect();
        let f16s = f32s.iter().map(|x| f16::from_f32(*x)).collect();
        Operand { f32s, bf16s, f16s, kind, rows, cols, strides }
    }

    pub(super) fn mat(&self) -> Mat<'_> {
        let data = match self.kind {
            Kind::F32 => Elements::F32(&self.f32s),
            Kind::Bf16 => Elements::Bf16(&self.bf16s),
            Kind::F16 => Elements::F16(&self.f16s),
        };
        let (row_stride, col_stride) = self.strides;
        Mat { data, rows: self.rows, cols: self.cols, row_stride, col_stride }
    }

    /// Element (i, j) as the product has to count it.
    fn at(&self, i: usize, j: usize, precision: Precision) -> f64 {
        let index = i * self.strides.0 + j * self.strides.1;
        let value = match self.kind {
            Kind::F32 => self.f32s[index],
            Kind::Bf16 => self.bf16s[index].to_f32(),
            Kind::F16 => self.f16s[index].to_f32(),
        };
        f64::from(if precision == Precision::Bf16 { bf16::from_f32(value).to_f32() } else { value })
    }
}

/// Values in ±1 with all bits of the fraction used.
pub(super) fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

pub(super) fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool")
}

/// The largest error of `gemm` against f64, in units of the bound of a sum of k rounded products.
fn worst_error(
    isa: Isa,
    precision: Precision,
    alpha: f32,
    (a, b): (&Operand, &Operand),
    store: Store,
) -> f64 {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    let before = random(m * n, 77);
    let mut c = before.clone();
    gemm(isa, precision, alpha, a.mat(), b.mat(), store, &mut c);
    let mut worst: f64 = 0.0;
    for i in 0..m {
        for j in 0..n {
            let terms = (0..k).map(|p| a.at(i, p, precision) * b.at(p, j, precision));
            let (sum, size) = terms.fold((0.0, 0.0), |(s, z), t| (s + t, z + t.abs()));
            let old = if store == Store::Add { f64::from(before[i * n + j]) } else { 0.0 };
            let (alpha, got) = (f64::from(alpha), f64::from(c[i * n + j]));
            let bound = (alpha.abs() * size * (k + 2) as f64 + old.abs() * (2 + k / 128) as f64)
                * f64::from(f32::EPSILON);
            let error = (got - (old + alpha * sum)).abs();
            assert!(got.is_finite());
            worst = worst.max(if error == 0.0 { 0.0 } else { error / bound });
        }
    }
    worst
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::F32), Just(Kind::Bf16), Just(Kind::F16)]
}

fn any_order() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::RowMajor), Just(Order::ColMajor), Just(Order::Scattered)]
}

/// Sizes around those of tiles and blocks, and small ones.
fn any_size() -> impl Strategy<Value = usize> {
    prop_oneof![0usize..4, 0usize..40, 60usize..70, Just(129)]
}

fn any_k() -> impl Strategy<Value = usize> {
    prop_oneof![0usize..4, 0usize..70, 250usize..262, 510usize..523, Just(1100)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]
    #[test]
    fn every_set_agrees_with_the_naive_product(
        (m, n, k) in (any_size(), any_size(), any_k()),
        kinds in (any_kind(), any_kind()),
        orders in (any_order(), any_order()),
        gap in 0usize..3,
        alpha in prop_oneof![Just(1.0f32), Just(-0.37f32)],
        store in prop_oneof![Just(Store::Overwrite), Just(Store::Add)],
        seed in 1u64..1 << 40,
    ) {
        let a = Operand::new(m, k, kinds.0, orders.0, gap, seed);
        let b = Operand::new(k, n, kinds.1, orders.1, gap, seed + 1);
        for isa in Isa::available() {
            for precision in [Precision::F32, Precision::Bf16] {
                let worst = worst_error(isa, precision, alpha, (&a, &b), store);
                prop_assert!(worst <= 1.0, "{} {precision:?}: {worst} of the bound", isa.name());
            }
        }
    }
}

#[test]
fn large_products_agree_with_the_naive_one_for_every_view() {
    for isa in Isa::available() {
        let mut worst: f64 = 0.0;
        for precision in [Precision::F32, Precision::Bf16] {
            for order in [(Order::RowMajor, Order::RowMajor), (Order::ColMajor, Order::ColMajor)] {
                for (m, n, k) in [(150, 170, 530), (700, 24, 300), (5, 900, 700), (24, 1000, 64)] {
                    let a = Operand::new(m, k, Kind::F32, order.0, 0, 5);
                    let b = Operand::new(k, n, Kind::Bf16, order.1, 1, 6);
                    worst = worst.max(worst_error(isa, precision, 0.5, (&a, &b), Store::Add));
                }
            }
        }
        println!("gemm {}: at most {worst:.3} of the error bound", isa.name());
        assert!(worst <= 1.0);
    }
}

#[test]
fn bits_do_not_depend_on_threads_nor_on_other_rows_and_columns() {
    for isa in Isa::available() {
        for precision in [Precision::F32, Precision::Bf16] {
            for (m, n, k) in
                [(300, 70, 600), (40, 500, 523), (1000, 8, 300), (3, 2000, 129), (64, 64, 2000)]
            {
                let a = Operand::new(m, k, Kind::F32, Order::RowMajor, 0, 1);
                let b = Operand::new(k, n, Kind::F16, Order::ColMajor, 0, 2);
                // Both: a kernel may store plain sums another way than those it scales and adds.
                let run = |a: Mat, b: Mat| {
                    let mut c = vec![1.0f32; a.rows * b.cols];
                    gemm(isa, precision, 1.0, a, b, Store::Overwrite, &mut c);
                    let plain = c.clone();
                    gemm(isa, precision, 0.7, a, b, Store::Add, &mut c);
                    let both = plain.into_iter().zip(c);
                    both.map(|(x, y)| [x, y].map(f32::to_bits)).collect::<Vec<_>>()
                };
                let whole = pool(1).install(|| run(a.mat(), b.mat()));
                for threads in [2, 3, 7] {
                    let same = pool(threads).install(|| run(a.mat(), b.mat()));
                    assert!(whole == same, "{} {m}x{n}x{k}: {threads} threads", isa.name());
                }
                let rows = 1.min(m - 1)..7.min(m);
                let mut few = Operand { rows: rows.len(), ..a.clone() };
                few.f32s.drain(..rows.start * k);
                assert_eq!(run(few.mat(), b.mat()), whole[rows.start * n..rows.end * n]);
                let cols = 3..8;
                let mut few = Operand { cols: cols.len(), ..b.clone() };
                few.f16s.drain(..cols.start * k);
                let part = run(a.mat(), few.mat());
                for i in 0..m {
                    assert_eq!(part[i * 5..][..5], whole[i * n..][cols.clone()]);
                }
            }
        }
    }
}

#[test]
fn halves_of_every_value_are_read_exactly() {
    let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).filter(|x| !x.is_nan()).collect();
    for isa in Isa::available() {
        let mut c = vec![0.0f32; halves.len()];
        let b = Mat::new(1, halves.len(), Elements::F16(&halves));
        gemm(
            isa,
            Precision::F32,
            1.0,
            Mat::new(1, 1, Elements::F32(&[1.0])),
            b,
            Store::Overwrite,
            &mut c,
        );
        for (got, want) in c.iter().zip(&halves) {
            assert_eq!(*got, want.to_f32(), "{}", isa.name());
        }
    }
}

#[test]
fn rounding_to_bf16_is_that_of_half_and_keeps_nan() {
    let bits = (0..1 << 20).map(|i: u32| i.wrapping_mul(4099) ^ i << 13);
    let values: Vec<f32> = bits.map(f32::from_bits).filter(|x| !x.is_subnormal()).collect();
    for isa in Isa::available() {
        let mut c = vec![0.0f32; values.len()];
        let b = Mat::new(1, values.len(), Elements::F32(&values));
        gemm(
            isa,
            Precision::Bf16,
            1.0,
            Mat::new(1, 1, Elements::F32(&[1.0])),
            b,
            Store::Overwrite,
            &mut c,
        );
        for (got, value) in c.iter().zip(&values) {
            let want = bf16::from_f32(*value).to_f32();
            assert!(
                *got == want || got.is_nan() && want.is_nan(),
                "{}: {value:e}: {got:e}",
                isa.name()
            );
        }
    }
}

#[test]
fn an_empty_sum_is_zero_and_adds_nothing() {
    let none = Mat::new(2, 0, Elements::F32(&[]));
    let mut c = [1.0f32, 2.0, 3.0, 4.0];
    gemm(Isa::best(), Precision::F32, 1.0, none, none.t(), Store::Add, &mut c);
    assert_eq!(c, [1.0, 2.0, 3.0, 4.0]);
    gemm(Isa::best(), Precision::F32, 1.0, none, none.t(), Store::Overwrite, &mut c);
    assert_eq!(c, [0.0; 4]);
}

#[test]
fn a_sum_of_products_has_the_bits_of_one_after_another() {
    // Terms of several blocks of k, of less than one, and of none; more rows than a task packs at once;
    // rows of `c` whole pages apart, whose sums are held.
    for (m, n, lens) in [
        (70, 65, [700, 8]),
        (1300, 33, [600, 1]),
        (5, 3, [2, 1300]),
        (9, 9, [0, 3]),
        (1030, 1024, [1300, 1]),
        (30, 1024, [600, 9]),
    ] {
        let operand =
            |rows, cols, seed| Operand::new(rows, cols, Kind::F32, Order::RowMajor, 0, seed);
        let operands = [(lens[0], 1.0), (lens[1], 0.7), (lens[0], -1.3)]
            .map(|(k, alpha)| (alpha, operand(m, k, k as u64 + 1), operand(k, n, k as u64 + 2)));
        let terms =
            operands.each_ref().map(|(alpha, a, b)| Term { alpha: *alpha, a: a.mat(), b: b.mat() });
        for isa in Isa::available() {
            for precision in [Precision::F32, Precision::Bf16] {
                for store in [Store::Overwrite, Store::Add] {
                    let mut together = random(m * n, 3);
                    let mut apart = together.clone();
                    gemm_sum(isa, precision, &terms, store, &mut together);
                    let mut store = store;
                    for Term { alpha, a, b } in terms {
                        gemm(isa, precision, alpha, a, b, store, &mut apart);
                        store = Store::Add;
                    }
                    let bits = |c: &[f32]| c.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&together), bits(&apart), "{} {m} {n}", isa.name());
                }
            }
        }
    }
}
