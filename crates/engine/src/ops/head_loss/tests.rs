//! The head's loss against the reference in f64, central differences, and its own tiles.

use super::*;
use candle_core::{DType, Device};

type Rows = Vec<Vec<f32>>;

fn random(shape: (usize, usize), seed: u64, spread: f64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        spread * ((state >> 40) as f64 / (1u64 << 23) as f64 - 1.0)
    };
    let data: Vec<f32> = (0..shape.0 * shape.1).map(|_| next() as f32).collect();
    Tensor::from_vec(data, shape, &Device::Cpu).expect("a tensor")
}

/// Every second row of `n`, with targets that include both ends of the vocabulary.
fn targets(n: usize, vocab: usize) -> Vec<(u32, u32)> {
    let target = |row: usize| match row % 6 {
        0 => vocab - 1,
        2 => 0,
        _ => row * 7919 % vocab,
    };
    (0..n).step_by(2).map(|row| (row as u32, target(row) as u32)).collect()
}

/// The largest difference relative to the largest value.
fn deviation(got: &Tensor, want: &Tensor) -> Result<f64> {
    let got = got.to_dtype(DType::F64)?;
    let largest =
        |x: &Tensor| -> Result<f64> { Ok(x.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()?) };
    Ok(largest(&(&got - want)?)? / largest(want)?.max(1e-30))
}

/// Loss, dx and dW of the fused path and their deviations from the reference in f64.
fn compare(ctx: &Ctx, (n, hidden, vocab): (usize, usize, usize), spread: f64) -> Result<[f64; 3]> {
    let (x, w) = (random((n, hidden), 1, 1.0), random((vocab, hidden), 2, spread));
    let (head, targets) = (Weight::Tensor(w), targets(n, vocab));
    let dhead = random((vocab, hidden), 3, 0.01);
    let wide = dhead.to_dtype(DType::F64)?;
    let args = HeadLoss { x: &x, head: &head, targets: &targets, dloss: 0.125, dhead: None };
    let x_f64 = x.to_dtype(DType::F64)?;
    let want = reference::forward_backward(HeadLoss { x: &x_f64, dhead: Some(&wide), ..args })?;
    let frozen = forward_backward(ctx, args)?;
    let trained = forward_backward(ctx, HeadLoss { dhead: Some(&dhead), ..args })?;
    let evaluated = loss_only(ctx, &x, &head, &targets)?;
    let loss_off = [frozen.loss_sum, trained.loss_sum, evaluated]
        .map(|loss| (loss - want.loss_sum).abs() / want.loss_sum.abs());
    Ok([
        loss_off.into_iter().fold(0.0, f64::max),
        deviation(&frozen.dx, &want.dx)?.max(deviation(&trained.dx, &want.dx)?),
        deviation(&dhead, &wide)?,
    ])
}

#[test]
fn fused_path_agrees_with_the_reference_in_f64() -> Result<()> {
    // The last two have several tiles of vocabulary, and of rows.
    for (n, hidden, vocab) in
        [(1, 8, 5), (48, 64, 128), (90, 24, 1003), (900, 16, 9001), (2500, 8, 3001)]
    {
        for isa in kernels::Isa::available() {
            let ctx = Ctx { isa, ..Ctx::cpu(Precision::F32) };
            let off = compare(&ctx, (n, hidden, vocab), 1.0)?;
            println!(
                "{n} rows of {hidden}, vocabulary {vocab}, {}: loss {:.1e} dx {:.1e} dW {:.1e}",
                isa.name(),
                off[0],
                off[1],
                off[2]
            );
            assert!(off[0] <= 1e-6 && off[1] <= 5e-6 && off[2] <= 5e-6);
        }
    }
    Ok(())
}

#[test]
fn bf16_products_stay_near_the_reference() -> Result<()> {
    let off = compare(&Ctx::cpu(Precision::Bf16), (90, 64, 1003), 0.3)?;
    println!("bf16: loss {:.1e} dx {:.1e} dW {:.1e}", off[0], off[1], off[2]);
    assert!(off[0] <= 1e-3 && off[1] <= 1e-2 && off[2] <= 1e-2);
    Ok(())
}

#[test]
fn large_logits_stay_finite() -> Result<()> {
    let off = compare(&Ctx::cpu(Precision::F32), (64, 16, 500), 1e4)?;
    // Logits near 1e4 carry a rounding of 1e-3.
    assert!(off.iter().all(|&off| off.is_finite() && off <= 5e-3), "{off:?}");
    Ok(())
}

#[test]
fn dx_and_dw_agree_with_central_differences() -> Result<()> {
    let (n, hidden, vocab) = (6, 5, 11);
    let x = random((n, hidden), 1, 1.0).to_dtype(DType::F64)?;
    let w = random((vocab, hidden), 2, 1.0);
    let targets = targets(n, vocab);
    let dhead = Tensor::zeros((vocab, hidden), DType::F64, &Device::Cpu)?;
    let head = Weight::Tensor(w.clone());
    let args = HeadLoss { x: &x, head: &head, targets: &targets, dloss: 1.0, dhead: Some(&dhead) };
    let out = reference::forward_backward(args)?;
    let moved = |t: &Tensor, at: usize, by: f64| -> Result<Tensor> {
        let mut values: Vec<f64> = t.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        values[at] += by;
        Ok(Tensor::from_vec(values, t.dims(), &Device::Cpu)?)
    };
    let dx: Vec<f64> = out.dx.flatten_all()?.to_vec1()?;
    for (at, dx) in dx.iter().enumerate() {
        let loss = |by: f64| reference::loss_only(&moved(&x, at, by)?, &head, &targets);
        let slope = (loss(1e-5)? - loss(-1e-5)?) / 2e-5;
        assert!((slope - dx).abs() < 1e-8, "dx at {at}: {slope} against {dx}");
    }
    // A weight is read as f32, which a step of 1e-5 would not survive: W moves in logits made here.
    let dw: Vec<f64> = dhead.flatten_all()?.to_vec1()?;
    for (at, dw) in dw.iter().enumerate() {
        let loss = |by: f64| -> Result<f64> {
            let logits = x.matmul(&moved(&w, at, by)?.t()?)?;
            let rows: Vec<Vec<f64>> = logits.to_vec2()?;
            let row_loss = |&(row, target): &(u32, u32)| {
                let row = &rows[row as usize];
                row.iter().map(|l| l.exp()).sum::<f64>().ln() - row[target as usize]
            };
            Ok(targets.iter().map(row_loss).sum())
        };
        let slope = (loss(1e-5)? - loss(-1e-5)?) / 2e-5;
        assert!((slope - dw).abs() < 1e-8, "dW at {at}: {slope} against {dw}");
    }
    Ok(())
}

#[test]
fn buffers_stay_below_twelve_mebibytes() {
    let shapes = [
        (128, 64),
        (32_000, 4096),
        (49_152, 576),
        (128_256, 4096),
        (250_880, 1024),
        (256_000, 16_384),
    ];
    for (vocab, hidden) in shapes {
        for n_rows in [0, 1, 41, 300, 2048, 100_000] {
            for head_use in [HeadUse::Frozen, HeadUse::Trained] {
                let tiles = Tiles::of(n_rows, (vocab, hidden), head_use);
                assert!(tiles.buffer_floats(hidden) * 4 <= 12 << 20, "{vocab} {hidden} {n_rows}");
                assert!(tiles.rows >= 32.min(n_rows) && tiles.vocab >= 1, "{tiles:?}");
            }
        }
    }
    let bloom = Tiles::of(2048, (250_880, 1024), HeadUse::Frozen);
    assert_eq!(bloom, Tiles { rows: 768, vocab: 2048 });
    let smollm = Tiles::of(2048, (49_152, 576), HeadUse::Frozen);
    assert_eq!(smollm, Tiles { rows: 1024, vocab: 1920 });
}

#[test]
fn bits_do_not_depend_on_threads() -> Result<()> {
    let ctx = Ctx::cpu(Precision::F32);
    let (x, w) = (random((900, 16), 1, 1.0), random((9001, 16), 2, 1.0));
    let (head, targets) = (Weight::Tensor(w), targets(900, 9001));
    let run = |threads: usize| -> Result<(u64, Rows, Rows)> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let dhead = random((9001, 16), 3, 0.01);
            let args =
                HeadLoss { x: &x, head: &head, targets: &targets, dloss: 0.1, dhead: Some(&dhead) };
            let out = forward_backward(&ctx, args)?;
            Ok((out.loss_sum.to_bits(), out.dx.to_vec2()?, dhead.to_vec2()?))
        })
    };
    let one = run(1)?;
    assert!(run(2)? == one && run(3)? == one);
    Ok(())
}

#[test]
fn stored_dtypes_count_with_their_values() -> Result<()> {
    let ctx = Ctx::cpu(Precision::F32);
    let (x, w) = (random((20, 32), 1, 1.0), random((77, 32), 2, 1.0));
    let targets = targets(20, 77);
    for dtype in [DType::BF16, DType::F16] {
        let stored = Weight::Tensor(w.to_dtype(dtype)?);
        let wide = Weight::Tensor(stored.to_tensor(&Device::Cpu)?);
        let run = |head: &Weight| -> Result<(f64, Rows, Rows)> {
            let args = HeadLoss { x: &x, head, targets: &targets, dloss: 0.1, dhead: None };
            let out = forward_backward(&ctx, args)?;
            Ok((out.loss_sum, out.dx.to_vec2()?, logits(&ctx, &x, head)?.to_vec2()?))
        };
        assert!(run(&stored)? == run(&wide)?, "{dtype:?}");
    }
    Ok(())
}

#[test]
fn nothing_supervised_and_what_lies_outside() -> Result<()> {
    let ctx = Ctx::cpu(Precision::F32);
    let (x, head) = (random((4, 8), 1, 1.0), Weight::Tensor(random((16, 8), 2, 1.0)));
    let args = HeadLoss { x: &x, head: &head, targets: &[], dloss: 1.0, dhead: None };
    let out = forward_backward(&ctx, args)?;
    assert_eq!(out.loss_sum, 0.0);
    assert_eq!(out.dx.abs()?.sum_all()?.to_scalar::<f32>()?, 0.0);
    let one = forward_backward(&ctx, HeadLoss { targets: &[(2, 15)], ..args })?;
    for row in [0, 1, 3] {
        assert_eq!(one.dx.get(row)?.abs()?.sum_all()?.to_scalar::<f32>()?, 0.0);
    }
    for targets in [[(4, 0)], [(0, 16)]] {
        let refused = forward_backward(&ctx, HeadLoss { targets: &targets, ..args });
        assert!(refused.is_err_and(|error| error.to_string().contains("head_loss: row")));
    }
    Ok(())
}
