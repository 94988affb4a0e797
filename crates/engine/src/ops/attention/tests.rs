//! The fused attention against the reference in f64, and the reference against central differences.

use super::*;
use crate::ctx::Precision;
use candle_core::{DType, Device};

fn random(shape: (usize, usize), seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    };
    let data: Vec<f64> = (0..shape.0 * shape.1).map(|_| next()).collect();
    Tensor::from_vec(data, shape, &Device::Cpu).expect("a tensor")
}

fn spec(heads: (usize, usize), head_dim: usize) -> AttentionSpec {
    AttentionSpec {
        n_heads: heads.0,
        n_kv_heads: heads.1,
        head_dim,
        scale: (head_dim as f32).sqrt().recip(),
        alibi_slopes: None,
        sliding_window: None,
    }
}

fn variants() -> Vec<(AttentionSpec, Vec<usize>)> {
    let starts = vec![0, 1, 38, 38, 70, 170];
    let slopes = Some(vec![0.25, 0.0625]);
    vec![
        (spec((2, 2), 8), starts.clone()),
        (spec((4, 2), 16), starts.clone()),
        (spec((9, 3), 64), starts.clone()),
        (spec((8, 2), 80), vec![0, 66]),
        (spec((2, 1), 128), starts.clone()),
        (AttentionSpec { alibi_slopes: slopes.clone(), ..spec((2, 2), 16) }, starts.clone()),
        (AttentionSpec { sliding_window: Some(17), ..spec((4, 1), 8) }, starts.clone()),
        (
            AttentionSpec {
                sliding_window: Some(1),
                alibi_slopes: slopes,
                scale: 1.0,
                ..spec((2, 1), 24)
            },
            starts,
        ),
    ]
}

/// q, k, v and dout in f64.
fn inputs(spec: &AttentionSpec, n: usize) -> [Tensor; 4] {
    let (wide, narrow) = (spec.n_heads * spec.head_dim, spec.n_kv_heads * spec.head_dim);
    [random((n, wide), 1), random((n, narrow), 2), random((n, narrow), 3), random((n, wide), 4)]
}

fn f32(x: &Tensor) -> Tensor {
    x.to_dtype(DType::F32).expect("a cast")
}

/// The largest difference.
fn deviation(got: &Tensor, want: &Tensor) -> Result<f64> {
    let off = (got.to_dtype(DType::F64)? - want)?.abs()?.flatten_all()?;
    Ok(off.max(0)?.to_scalar::<f64>()?)
}

#[test]
fn fused_path_agrees_with_the_reference_in_f64() -> Result<()> {
    let ctx = Ctx::cpu(Precision::F32);
    for (spec, starts) in variants() {
        let [q, k, v, dout] = inputs(&spec, starts[starts.len() - 1]);
        let (want, want_saved) = reference::forward(&spec, &q, &k, &v, &starts)?;
        let want_grads = reference::backward(&spec, &dout, &q, &k, &v, &starts)?;
        let [q, k, v, dout] = [q, k, v, dout].map(|x| f32(&x));
        let (out, saved) = forward(&ctx, &spec, &q, &k, &v, &starts)?;
        let grads = backward(&ctx, &spec, &dout, &q, &k, &v, &out, &saved, &starts)?;
        let off = [
            deviation(&out, &want)?,
            deviation(&saved.lse, &want_saved.lse)?,
            deviation(&grads.0, &want_grads.0)?,
            deviation(&grads.1, &want_grads.1)?,
            deviation(&grads.2, &want_grads.2)?,
        ];
        println!("{spec:?}: out lse dq dk dv {}", off.map(|off| format!("{off:.1e}")).join(" "));
        assert!(off.iter().all(|&off| off <= 5e-6), "{spec:?}");
    }
    Ok(())
}

#[test]
fn values_in_bf16_are_taken_as_they_are_and_give_such() -> Result<()> {
    let ctx = Ctx::cpu(Precision::Bf16);
    for (spec, starts) in variants() {
        let [q, k, v, dout] = inputs(&spec, starts[starts.len() - 1]).map(|x| f32(&x));
        let run = |dtype: DType| -> Result<[Tensor; 4]> {
            let [q, k, v] = [&q, &k, &v].map(|x| x.to_dtype(DType::BF16)?.to_dtype(dtype));
            let (q, k, v) = (q?, k?, v?);
            let (out, saved) = forward(&ctx, &spec, &q, &k, &v, &starts)?;
            let (dq, dk, dv) = backward(&ctx, &spec, &dout, &q, &k, &v, &out, &saved, &starts)?;
            assert_eq!((out.dtype(), dq.dtype()), (dtype, DType::F32));
            Ok([out, dq, dk, dv])
        };
        for (got, want) in run(DType::BF16)?.iter().zip(run(DType::F32)?) {
            let norm = |x: &Tensor| -> Result<f64> {
                Ok(x.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt())
            };
            let off = norm(&(got.to_dtype(DType::F32)? - &want)?)? / norm(&want)?.max(1e-3);
            // A few roundings of 2⁻⁹ on average; the kernel's own tests have each value's bound.
            assert!(off <= 0.01, "{spec:?}: {off}");
        }
    }
    Ok(())
}

#[test]
fn reference_gradients_agree_with_central_differences() -> Result<()> {
    for (spec, _) in variants().into_iter().filter(|(spec, _)| spec.head_dim <= 24) {
        let starts = [0, 1, 6];
        let [q, k, v, dout] = inputs(&spec, 6);
        let loss = |q: &Tensor, k: &Tensor, v: &Tensor| -> Result<f64> {
            let (out, _) = reference::forward(&spec, q, k, v, &starts)?;
            Ok(out.mul(&dout)?.sum_all()?.to_scalar::<f64>()?)
        };
        let (dq, dk, dv) = reference::backward(&spec, &dout, &q, &k, &v, &starts)?;
        let step = 1e-5;
        for (which, (x, dx)) in [(&q, &dq), (&k, &dk), (&v, &dv)].into_iter().enumerate() {
            let (rows, cols) = x.dims2()?;
            let values: Vec<f64> = x.flatten_all()?.to_vec1()?;
            let dx: Vec<f64> = dx.flatten_all()?.to_vec1()?;
            for at in (0..values.len()).step_by(5) {
                let moved = |by: f64| -> Result<f64> {
                    let mut values = values.clone();
                    values[at] += by;
                    let x = Tensor::from_vec(values, (rows, cols), &Device::Cpu)?;
                    let mut inputs = [&q, &k, &v];
                    inputs[which] = &x;
                    loss(inputs[0], inputs[1], inputs[2])
                };
                let slope = (moved(step)? - moved(-step)?) / (2.0 * step);
                assert!((slope - dx[at]).abs() < 1e-8, "input {which} at {at}: {slope} {}", dx[at]);
            }
        }
    }
    Ok(())
}

#[test]
fn decode_gives_the_last_rows_of_forward() -> Result<()> {
    let ctx = Ctx::cpu(Precision::F32);
    for (spec, _) in variants() {
        let [q, k, v, _] = inputs(&spec, 45);
        let (want, _) = reference::forward(&spec, &q, &k, &v, &[0, 45])?;
        for n_new in [1, 2, 20, 45] {
            let last = |x: &Tensor| x.narrow(0, 45 - n_new, n_new);
            let same = reference::decode(&spec, &last(&q)?, &k, &v)?;
            assert!(deviation(&same, &last(&want)?)? < 1e-12);
            let out = decode(&ctx, &spec, &f32(&last(&q)?.contiguous()?), &f32(&k), &f32(&v))?;
            assert!(deviation(&out, &last(&want)?)? < 5e-6, "{n_new} new, {spec:?}");
        }
    }
    Ok(())
}

#[test]
fn tensors_of_other_shapes_are_refused() {
    let ctx = Ctx::cpu(Precision::F32);
    let spec = spec((4, 2), 8);
    let x = f32(&random((5, 32), 1));
    let message = match forward(&ctx, &spec, &x, &x, &x, &[0, 5]) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    assert!(message.contains("[5, 32] is not [5, 2·8]"), "{message}");
}
