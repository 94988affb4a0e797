//! What holds for any values; the reference results are compared in `bench/golden`.

use super::*;
use crate::dynamic::{SIGNED, UNSIGNED};
use crate::testing::{same_bits, values};

fn step(step: u64) -> AdamWStep {
    AdamWStep {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.01,
        step,
        grad_scale: 0.5,
    }
}

#[test]
fn f32_moments_have_the_same_bits_on_every_set_and_for_any_number_of_threads() {
    for (n, order) in [0, 1, 31, 3 * ELEMENTS + 7]
        .into_iter()
        .flat_map(|n| [(n, Order::Torch), (n, Order::BitsAndBytes)])
    {
        let (p, g) = (values(1, n), values(2, n));
        same_bits(|isa| {
            let (mut p, mut m, mut v) = (p.clone(), vec![0.0; n], vec![0.0; n]);
            for t in 1..=3 {
                adamw(isa, order, &step(t), &mut p, &g, [&mut m, &mut v]);
            }
            [p, m, v].concat()
        });
    }
}

/// The two moments of a parameter.
#[derive(Clone)]
struct State {
    codes: [Vec<u8>; 2],
    absmax: [Vec<f32>; 2],
}

impl State {
    fn zeroed(n: usize) -> State {
        let blocks = n.div_ceil(BLOCK_SIZE);
        State { codes: [vec![0; n], vec![0; n]], absmax: [vec![0.0; blocks], vec![0.0; blocks]] }
    }

    fn moments(&mut self) -> [Moment8<'_>; 2] {
        let [c1, c2] = &mut self.codes;
        let [a1, a2] = &mut self.absmax;
        [Moment8 { codes: c1, absmax: a1 }, Moment8 { codes: c2, absmax: a2 }]
    }

    fn values(&self, moment: usize, table: &[f32; 256]) -> Vec<f32> {
        let value = |(i, &code): (usize, &u8)| {
            table[usize::from(code)] * self.absmax[moment][i / BLOCK_SIZE]
        };
        self.codes[moment].iter().enumerate().map(value).collect()
    }
}

#[test]
fn codes_have_the_same_bits_on_every_set_and_for_any_number_of_threads() {
    for n in [0, 1, 255, 256, 3 * ELEMENTS + 777] {
        let p = values(1, n);
        same_bits(|isa| {
            let (mut p, mut state) = (p.clone(), State::zeroed(n));
            for t in 1..=4 {
                let g = values(10 + t, n);
                adamw8(isa, &step(t), &mut p, &g, state.moments());
            }
            let codes = state.codes.concat().into_iter().map(f32::from);
            p.into_iter().chain(codes).chain(state.absmax.concat()).collect()
        });
    }
}

/// Blocks whose maxima, or the inverses of those, are no numbers to count with, and blocks in between.
#[test]
fn gradients_of_every_size_have_the_same_bits_on_every_set() {
    let scales = [1e-38, 1e-25, 1e-21, 1e-19, 1e-10, 1.0, 1e10, 1e18, 1e20, 1e25, 1e37];
    let n = scales.len() * BLOCK_SIZE;
    let (p, mut g) = (values(1, n), values(2, n));
    for (g, scale) in g.chunks_mut(BLOCK_SIZE).zip(scales) {
        g.iter_mut().for_each(|g| *g *= scale);
    }
    same_bits(|isa| {
        let (mut p, mut state) = (p.clone(), State::zeroed(n));
        for t in 1..=4 {
            adamw8(isa, &step(t), &mut p, &g, state.moments());
        }
        let codes = state.codes.concat().into_iter().map(f32::from);
        p.into_iter().chain(codes).chain(state.absmax.concat()).collect()
    });
}

/// A step of state that is given, on every set.
fn same_step(step: AdamWStep, g: &[f32], codes: [Vec<u8>; 2], absmax: [Vec<f32>; 2]) {
    let p = values(1, g.len());
    // What is not a number has whichever bits, and whichever code.
    let number = |x: f32| if x.is_nan() { f32::NAN } else { x };
    same_bits(|isa| {
        let (mut p, mut state) =
            (p.clone(), State { codes: codes.clone(), absmax: absmax.clone() });
        adamw8(isa, &step, &mut p, g, state.moments());
        for (codes, absmax) in state.codes.iter_mut().zip(&state.absmax) {
            let blocks = codes.chunks_mut(BLOCK_SIZE).zip(absmax);
            blocks.filter(|(_, max)| !max.is_finite()).for_each(|(codes, _)| codes.fill(0));
        }
        let codes = state.codes.concat().into_iter().map(f32::from);
        p.into_iter().chain(codes).chain(state.absmax.concat()).map(number).collect()
    });
}

#[test]
fn every_code_has_the_same_value_on_every_set() {
    let all = |rotation: u8| (0..=255).map(|code: u8| code.wrapping_add(rotation)).collect();
    for rotation in [0, 1, 77, 128] {
        for g in [vec![0.0; BLOCK_SIZE], values(2, BLOCK_SIZE)] {
            same_step(step(7), &g, [all(rotation), all(0)], [vec![0.37], vec![0.91]]);
        }
    }
}

/// Gradients, maxima and factors that are not finite, each alone in a block.
#[test]
fn what_is_not_finite_has_the_same_bits_on_every_set() {
    const NONE: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    let codes = || [vec![130; BLOCK_SIZE], vec![130; BLOCK_SIZE]];
    for none in NONE {
        for place in [0, 100, 255] {
            let mut g = values(2, BLOCK_SIZE);
            g[place] = none;
            same_step(step(3), &g, codes(), [vec![0.5], vec![0.5]]);
        }
        let g = values(2, BLOCK_SIZE);
        for absmax in [[vec![none], vec![0.5]], [vec![0.5], vec![none]]] {
            same_step(step(3), &g, codes(), absmax);
        }
        let beta1 = AdamWStep { beta1: f64::from(none), ..step(3) };
        same_step(beta1, &g, codes(), [vec![0.5], vec![0.5]]);
    }
}

/// One step from state that is not zero: p as with f32 moments of the same values, codes the nearest.
#[test]
fn p_moves_by_the_moments_before_they_are_rounded() {
    let n = 5 * BLOCK_SIZE + 19;
    let (mut p, mut state) = (values(1, n), State::zeroed(n));
    for t in 1..=3 {
        adamw8(Isa::best(), &step(t), &mut p, &values(10 + t, n), state.moments());
    }
    let (mut want, g) = (p.clone(), values(20, n));
    let (mut m, mut v) = (state.values(0, &SIGNED), state.values(1, &UNSIGNED));
    let f = Factors::new(&step(4));
    for (((p, g), m), v) in want.iter_mut().zip(&g).zip(&mut m).zip(&mut v) {
        *m = f.mean(*m, g * f.grad_scale);
        *v = f.square(*v, g * f.grad_scale);
        *p = f.torch(*p, *m, *v);
    }
    adamw8(Isa::best(), &step(4), &mut p, &g, state.moments());
    assert_eq!(p, want);
    for (moment, exact, table) in [(0, &m, &SIGNED), (1, &v, &UNSIGNED)] {
        let rounded = state.values(moment, table);
        for (i, (&rounded, &exact)) in rounded.iter().zip(exact).enumerate() {
            let absmax = f64::from(state.absmax[moment][i / BLOCK_SIZE]);
            let distance = |value: f64| (value - f64::from(exact)).abs();
            let nearest = table.iter().map(|&code| distance(f64::from(code) * absmax));
            let nearest = nearest.fold(f64::INFINITY, f64::min);
            assert!(distance(f64::from(rounded)) <= nearest + 1e-6 * absmax, "{i} of {moment}");
        }
    }
}

#[test]
fn a_block_without_a_gradient_stays_at_zero() {
    let n = 2 * BLOCK_SIZE;
    let (mut p, mut state) = (values(1, n), State::zeroed(n));
    let mut g = values(2, n);
    g[..BLOCK_SIZE].fill(0.0);
    adamw8(Isa::best(), &AdamWStep { weight_decay: 0.0, ..step(1) }, &mut p, &g, state.moments());
    assert_eq!(p[..BLOCK_SIZE], values(1, n)[..BLOCK_SIZE]);
    assert_eq!((state.absmax[0][0], state.absmax[1][0]), (0.0, 0.0));
    assert!(state.codes[0][..BLOCK_SIZE].iter().all(|code| *code == 127));
    assert!(state.codes[1][..BLOCK_SIZE].iter().all(|code| *code == 0));
    assert!(p[BLOCK_SIZE..] != values(1, n)[BLOCK_SIZE..]);
}

/// Roots of every size by the corrections of many steps.
#[test]
fn a_quotient_without_a_division_is_the_quotient() {
    for t in (1..400).chain([1_000, 10_000, 1_000_000]) {
        let y = Factors::new(&step(t)).root_correction;
        let inverse = 1.0 / y;
        let roots = (1u32..1 << 31).step_by(104_729).map(|bits| f32::from_bits(bits).sqrt());
        for x in [0.0].into_iter().chain(roots.filter(|x| x.is_finite())) {
            assert_eq!(
                eight_bit::divide(x, y, inverse).to_bits(),
                (x / y).to_bits(),
                "{x:e} / {y:e}"
            );
        }
    }
}
