//! Forward, backward and decode against plain loops in f64, on every instruction set.

use super::*;
use crate::Isa;
use crate::gemm::Precision;
use crate::testing::{rounded, widened};
use half::bf16;

/// Numbers in [−1, 1), the same for a seed.
fn random(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 * 2.0 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

pub(super) struct Case {
    pub name: &'static str,
    pub heads: (usize, usize),
    pub head_dim: usize,
    pub scale: f32,
    pub slopes: Option<Vec<f32>>,
    pub window: Option<usize>,
    pub lens: Vec<usize>,
}

impl Case {
    pub(super) fn shape(&self) -> AttentionShape<'_> {
        AttentionShape {
            n_heads: self.heads.0,
            n_kv_heads: self.heads.1,
            head_dim: self.head_dim,
            scale: self.scale,
            alibi_slopes: self.slopes.as_deref(),
            sliding_window: self.window,
        }
    }

    pub(super) fn seq_starts(&self) -> Vec<usize> {
        let ends = self.lens.iter().scan(0, |at, len| {
            *at += len;
            Some(*at)
        });
        std::iter::once(0).chain(ends).collect()
    }
}

/// Every variant: groups of 1, 2, 3 and 4, odd head sizes, ALiBi, windows, lengths around a tile's
/// borders, and both ways of backward (few large tasks, many small ones).
pub(super) fn cases() -> Vec<Case> {
    let case = |name, heads: (usize, usize), head_dim, lens: &[usize]| Case {
        name,
        heads,
        head_dim,
        scale: (head_dim as f32).sqrt().recip(),
        slopes: None,
        window: None,
        lens: lens.to_vec(),
    };
    let slopes = |n: i32| Some((1..=n).map(|i| 2f32.powf(-8.0 * i as f32 / n as f32)).collect());
    vec![
        case("one token", (1, 1), 8, &[1]),
        case("ragged", (4, 4), 16, &[1, 31, 32, 33, 0, 64, 65, 1]),
        case("grouped by 2", (4, 2), 64, &[70, 5, 40]),
        case("grouped by 3", (9, 3), 64, &[100, 3, 97]),
        case("grouped by 4, one sequence", (4, 1), 80, &[130]),
        case("one long sequence", (2, 2), 128, &[200]),
        case("odd head size", (2, 1), 37, &[67, 20]),
        case("head size 1", (2, 1), 1, &[40]),
        Case { slopes: slopes(4), scale: 1.0, ..case("alibi", (4, 2), 16, &[90, 33]) },
        Case { window: Some(1), ..case("window of 1", (2, 2), 8, &[70, 9]) },
        Case { window: Some(20), ..case("window of 20", (4, 4), 16, &[150, 19, 21]) },
        Case { window: Some(70), ..case("window of 70, one sequence", (2, 1), 32, &[190]) },
        Case { window: Some(40), slopes: slopes(2), ..case("window, alibi", (2, 1), 24, &[99]) },
        Case { scale: 1.0e4, ..case("large scores", (2, 1), 16, &[80, 80]) },
    ]
}

pub(super) struct Data {
    pub q: Vec<f32>,
    pub k: Vec<f32>,
    pub v: Vec<f32>,
    pub dout: Vec<f32>,
}

pub(super) fn data(case: &Case) -> Data {
    let n: usize = case.lens.iter().sum();
    let (wide, narrow) = (n * case.heads.0 * case.head_dim, n * case.heads.1 * case.head_dim);
    Data { q: random(wide, 1), k: random(narrow, 2), v: random(narrow, 3), dout: random(wide, 4) }
}

#[derive(PartialEq)]
pub(super) struct Results<T> {
    pub out: Vec<T>,
    pub lse: Vec<T>,
    pub dq: Vec<T>,
    pub dk: Vec<T>,
    pub dv: Vec<T>,
}

/// In bf16 q, k and v are rounded first.
pub(super) fn fused(isa: Isa, precision: Precision, case: &Case, data: &Data) -> Results<f32> {
    let (shape, starts) = (case.shape(), case.seq_starts());
    let Data { q, k, v, dout } = data;
    let n = starts[starts.len() - 1];
    // Outputs are overwritten whatever they held.
    let [mut out, mut dq] = [(); 2].map(|_| vec![f32::NAN; q.len()]);
    let [mut dk, mut dv] = [(); 2].map(|_| vec![f32::NAN; k.len()]);
    let mut lse = vec![f32::NAN; n * shape.n_heads];
    let grads = Gradients { dq: &mut dq, dk: &mut dk, dv: &mut dv };
    match precision {
        Precision::F32 => {
            forward(isa, &shape, &starts, q, k, v, &mut out, &mut lse);
            backward(isa, &shape, &starts, q, k, v, &out, &lse, dout, grads);
        }
        Precision::Bf16 => {
            let [q, k, v] = [q, k, v].map(|x| rounded(x));
            let mut narrow = vec![bf16::NAN; q.len()];
            forward_bf16(isa, &shape, &starts, &q, &k, &v, &mut narrow, &mut lse);
            backward_bf16(isa, &shape, &starts, &q, &k, &v, &narrow, &lse, dout, grads);
            out = widened(&narrow);
        }
    }
    Results { out, lse, dq, dk, dv }
}

/// The header's formulas, a query at a time, in f64.
pub(super) fn naive(case: &Case, data: &Data) -> Results<f64> {
    let (shape, starts, d) = (case.shape(), case.seq_starts(), case.head_dim);
    let (heads, kv_heads) = case.heads;
    let zeros = |x: &[f32]| vec![0.0; x.len()];
    let mut r = Results {
        out: zeros(&data.q),
        lse: vec![0.0; data.q.len() / d],
        dq: zeros(&data.q),
        dk: zeros(&data.k),
        dv: zeros(&data.v),
    };
    let scale = shape.scale as f64;
    let dot =
        |x: &[f32], y: &[f32]| -> f64 { x.iter().zip(y).map(|(&x, &y)| x as f64 * y as f64).sum() };
    for s in starts.windows(2) {
        for (i, h) in (s[0]..s[1]).flat_map(|i| (0..heads).map(move |h| (i, h))) {
            let at_q = (i * heads + h) * d;
            let at_k = |j: usize| (j * kv_heads + h / (heads / kv_heads)) * d;
            let (q, dout) = (&data.q[at_q..][..d], &data.dout[at_q..][..d]);
            let seen = (s[0]..=i).filter(|j| case.window.is_none_or(|window| i - j < window));
            let seen: Vec<usize> = seen.collect();
            let score = |&j: &usize| {
                scale * dot(q, &data.k[at_k(j)..][..d]) + shape.slope(h) as f64 * (j - s[0]) as f64
            };
            let scores: Vec<f64> = seen.iter().map(score).collect();
            let max = scores.iter().fold(f64::MIN, |max, &x| max.max(x));
            let lse = max + scores.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
            r.lse[i * heads + h] = lse;
            let p: Vec<f64> = scores.iter().map(|x| (x - lse).exp()).collect();
            let dp: Vec<f64> = seen.iter().map(|&j| dot(dout, &data.v[at_k(j)..][..d])).collect();
            let delta: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
            for (&j, (p, dp)) in seen.iter().zip(p.iter().zip(&dp)) {
                let ds = scale * p * (dp - delta);
                for c in 0..d {
                    r.out[at_q + c] += p * data.v[at_k(j) + c] as f64;
                    r.dv[at_k(j) + c] += p * dout[c] as f64;
                    r.dq[at_q + c] += ds * data.k[at_k(j) + c] as f64;
                    r.dk[at_k(j) + c] += ds * q[c] as f64;
                }
            }
        }
    }
    r
}

/// The largest difference relative to the largest value (at least 0.1: a lone key's dq is 0);
/// infinite if a value is not finite.
fn deviation(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(0.1, |max: f64, x| max.max(x.abs()));
    let off = got
        .iter()
        .zip(want)
        .map(|(&g, w)| if g.is_finite() { (g as f64 - w).abs() / largest } else { f64::INFINITY });
    off.fold(0.0, f64::max)
}

#[test]
fn forward_and_backward_agree_with_f64_on_every_set() {
    for case in cases() {
        let data = data(&case);
        let want = naive(&case, &data);
        // Scores of ±1e4 carry an absolute rounding of 1e-3, which is a relative one of p.
        let bound = if case.scale > 1e3 { 2e-3 } else { 2e-6 };
        for isa in Isa::available() {
            let got = fused(isa, Precision::F32, &case, &data);
            let off = [
                deviation(&got.out, &want.out),
                deviation(&got.lse, &want.lse),
                deviation(&got.dq, &want.dq),
                deviation(&got.dk, &want.dk),
                deviation(&got.dv, &want.dv),
            ];
            let shown = off.map(|off| format!("{off:.1e}")).join(" ");
            println!("{} on {}: out lse dq dk dv {shown}", case.name, isa.name());
            assert!(off.iter().all(|&off| off <= bound), "{} on {}", case.name, isa.name());
        }
    }
}

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

#[test]
fn bits_do_not_depend_on_threads() {
    for (case, precision) in cases().iter().flat_map(|case| PRECISIONS.map(|p| (case, p))) {
        let data = data(case);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("a pool").install(|| fused(Isa::best(), precision, case, &data))
        };
        let one = run(1);
        assert!([1, 2, 3].into_iter().all(|threads| run(threads) == one), "{}", case.name);
    }
}

#[test]
fn a_sequence_has_the_bits_that_it_has_alone() {
    let cases = cases();
    let case = cases.iter().find(|case| case.name == "grouped by 2").expect("the case");
    let data = data(case);
    for (isa, precision) in
        Isa::available().into_iter().flat_map(|isa| PRECISIONS.map(|p| (isa, p)))
    {
        let together = fused(isa, precision, case, &data);
        let rows = case.lens[0];
        let (wide, narrow) =
            (rows * case.heads.0 * case.head_dim, rows * case.heads.1 * case.head_dim);
        let first = |x: &[f32], n: usize| x[..n].to_vec();
        let alone = Data {
            q: first(&data.q, wide),
            k: first(&data.k, narrow),
            v: first(&data.v, narrow),
            dout: first(&data.dout, wide),
        };
        let case = Case { slopes: None, lens: vec![rows], ..*case };
        assert_eq!(fused(isa, precision, &case, &alone).out, together.out[..wide]);
    }
}

#[test]
fn decode_agrees_with_forward_on_every_set() {
    for case in cases().into_iter().filter(|case| case.scale <= 1.0) {
        let len = case.lens.iter().sum();
        let case = Case { lens: vec![len], ..case };
        let data = data(&case);
        let want = naive(&case, &data).out;
        for (isa, n_new) in
            Isa::available().into_iter().flat_map(|isa| [1, 3, 40].map(|n| (isa, n)))
        {
            let tail = data.q.len() - n_new.min(len) * case.heads.0 * case.head_dim;
            let mut out = vec![f32::NAN; data.q.len() - tail];
            decode(isa, &case.shape(), &data.q[tail..], &data.k, &data.v, &mut out);
            let off = deviation(&out, &want[tail..]);
            assert!(off <= 2e-6, "{} new {n_new} on {}: {off:e}", case.name, isa.name());
        }
    }
}
