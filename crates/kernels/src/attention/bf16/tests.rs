//! bf16 products against plain loops in f64 on the same rounded operands, on every instruction set.
//!
//! What may differ is the rounding of p, ds and out to bf16, at most 2⁻⁸ of each: so each value has a
//! bound of its own, 2⁻⁸ of the sum of its absolute terms, and a little more for f32.

use crate::Isa;
use crate::attention::tests::{Case, Data, Results, cases, data, fused, naive};
use crate::gemm::Precision;
use crate::testing::{rounded, widened};

/// Half a unit in the last of a bf16's 8 places.
const HALF_ULP: f64 = 1.0 / 256.0;

/// How far each value may be off, where p is off by [`HALF_ULP`] in forward's and backward's sums, out
/// by another, δ by what these make of it, and ds by one more.
fn bounds(case: &Case, data: &Data, want: &Results<f64>) -> Results<f64> {
    let (shape, d, (heads, kv_heads)) = (case.shape(), case.head_dim, case.heads);
    let zeros = |x: &[f64]| vec![0.0; x.len()];
    let mut b = Results {
        out: zeros(&want.out),
        lse: zeros(&want.lse),
        dq: zeros(&want.dq),
        dk: zeros(&want.dk),
        dv: zeros(&want.dv),
    };
    let dot =
        |x: &[f32], y: &[f32]| -> f64 { x.iter().zip(y).map(|(&x, &y)| x as f64 * y as f64).sum() };
    for s in case.seq_starts().windows(2) {
        for (i, h) in (s[0]..s[1]).flat_map(|i| (0..heads).map(move |h| (i, h))) {
            let at_q = (i * heads + h) * d;
            let at_k = |j: usize| (j * kv_heads + h / (heads / kv_heads)) * d;
            let (q, dout) = (&data.q[at_q..][..d], &data.dout[at_q..][..d]);
            let seen = (s[0]..=i).filter(|j| case.window.is_none_or(|window| i - j < window));
            let rows: Vec<(usize, f64, f64)> = seen
                .map(|j| {
                    let score = shape.scale as f64 * dot(q, &data.k[at_k(j)..][..d])
                        + shape.slope(h) as f64 * (j - s[0]) as f64;
                    let p = (score - want.lse[i * heads + h]).exp();
                    (at_k(j), p, dot(dout, &data.v[at_k(j)..][..d]))
                })
                .collect();
            for &(at, p, _) in &rows {
                for (c, dout) in dout.iter().enumerate() {
                    b.out[at_q + c] += HALF_ULP * p * data.v[at + c].abs() as f64;
                    b.dv[at + c] += HALF_ULP * p * dout.abs() as f64;
                }
            }
            let delta: f64 = rows.iter().map(|(_, p, dp)| p * dp).sum();
            let mut delta_off: f64 = rows.iter().map(|(_, p, dp)| HALF_ULP * p * dp.abs()).sum();
            let out = b.out[at_q..][..d].iter_mut().zip(&want.out[at_q..][..d]);
            for ((off, out), dout) in out.zip(dout) {
                let rounding = HALF_ULP * (out.abs() + *off);
                *off += rounding;
                delta_off += rounding * dout.abs() as f64;
            }
            for &(at, p, dp) in &rows {
                let ds = p * (dp - delta);
                let off =
                    shape.scale as f64 * (HALF_ULP * ds.abs() + (1.0 + HALF_ULP) * p * delta_off);
                for (c, q) in q.iter().enumerate() {
                    b.dq[at_q + c] += off * data.k[at + c].abs() as f64;
                    b.dk[at + c] += off * q.abs() as f64;
                }
            }
        }
    }
    b
}

/// The largest difference in units of its bound and `slack` of the largest value; infinite if a
/// value is not finite.
fn ratio(got: &[f32], want: &[f64], bound: &[f64], slack: f64) -> f64 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(0.1, |max: f64, x| max.max(x.abs()));
    let off = got.iter().zip(want).zip(bound).map(|((&got, want), bound)| {
        let off = (got as f64 - want).abs() / (bound + slack * largest);
        if got.is_finite() { off } else { f64::INFINITY }
    });
    off.fold(0.0, f64::max)
}

#[test]
fn forward_and_backward_differ_from_f64_by_the_rounding_of_p_ds_and_out() {
    let more = [8, 16, 33, 64, 79, 96, 127].map(|head_dim| Case {
        name: "head size",
        heads: (6, 2),
        head_dim,
        scale: (head_dim as f32).sqrt().recip(),
        slopes: None,
        window: None,
        lens: vec![33, 97],
    });
    for case in cases().into_iter().chain(more) {
        let exact = data(&case);
        let narrow = |x: &[f32]| widened(&rounded(x));
        let operands = Data {
            q: narrow(&exact.q),
            k: narrow(&exact.k),
            v: narrow(&exact.v),
            dout: narrow(&exact.dout),
        };
        let want = naive(&case, &operands);
        let bound = bounds(&case, &operands, &want);
        // As in f32, see the tests there.
        let slack = if case.scale > 1e3 { 2e-3 } else { 2e-6 };
        for isa in Isa::available() {
            let got = fused(isa, Precision::Bf16, &case, &exact);
            let off = [
                ratio(&got.out, &want.out, &bound.out, slack),
                ratio(&got.lse, &want.lse, &bound.lse, slack),
                ratio(&got.dq, &want.dq, &bound.dq, slack),
                ratio(&got.dk, &want.dk, &bound.dk, slack),
                ratio(&got.dv, &want.dv, &bound.dv, slack),
            ];
            let shown = off.map(|off| format!("{off:.2}")).join(" ");
            let name = format!("{} {} on {}", case.name, case.head_dim, isa.name());
            println!("{name}: of its bound out lse dq dk dv {shown}");
            assert!(off.iter().all(|&off| off <= 1.0), "{name}");
        }
    }
}
