//! The linear layer and its gradients. It never converts a frozen weight as a whole: packing does.
//!
//! ```text
//! y   = x · wᵀ + b  [+ scale · h · Bᵀ]
//! dx  = dy · w  [+ dh · A]       or dx += …
//! dw += dyᵀ · x
//! db += Σ_rows dy
//! ```
//! In brackets: an adapter's [`LowRank`] term, summed while its part of the output lies in the cache.
//! Shapes: x, dx `[N, I]` · y, dy `[N, O]` · w, dw `[O, I]` · b, db `[O]`. x and dy may be f32 or bf16.

use super::low_rank::LowRank;
use super::refuse;
use crate::ctx::{Ctx, operand, read, with_element, write};
use crate::error::Result;
use crate::weight::Weight;
use candle_core::{DType, Tensor};
use kernels::elementwise::column_sum_add;
use kernels::gemm::{Mat, Store, Term, gemm, gemm_sum, gemm_sum_bf16};

/// The same in candle ops, on any device and in any float type, at that type's precision.
///
/// Gradients of parameters are returned here and not added: the caller's `+=` is one more op.
pub mod reference {
    use super::*;

    /// `x · wᵀ + b`.
    pub fn forward(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
        let y = x.matmul(&w.t()?)?;
        Ok(match b {
            Some(b) => y.broadcast_add(b)?,
            None => y,
        })
    }

    /// `dx = dy · w`.
    pub fn backward_input(dy: &Tensor, w: &Tensor) -> Result<Tensor> {
        Ok(dy.matmul(w)?)
    }

    /// `dw = dyᵀ · x`.
    pub fn backward_weight(dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        Ok(dy.t()?.matmul(x)?)
    }

    /// `db = Σ_rows dy`.
    pub fn backward_bias(dy: &Tensor) -> Result<Tensor> {
        Ok(dy.sum(0)?)
    }
}

/// Returns `y = x · wᵀ + b`, and the adapter's term, in f32. Errors: shapes that do not fit each other.
pub fn forward(
    ctx: &Ctx,
    x: &Tensor,
    w: &Weight,
    b: Option<&Tensor>,
    low_rank: Option<LowRank>,
) -> Result<Tensor> {
    if !ctx.is_cpu() {
        let y = reference::forward(x, &w.to_tensor(&ctx.device)?, b)?;
        return plus(y, low_rank);
    }
    let (n_out, n_in) = w.dims()?;
    let n = rows_of("x", x, n_in)?;
    let (mut y, store) = match b {
        None => (ctx.buffer(n * n_out), Store::Overwrite),
        // The product is added to rows that hold the bias already.
        Some(b) => {
            same_shape("b", b, &[n_out])?;
            (read::<f32, _>(b, |b| b.repeat(n))?, Store::Add)
        }
    };
    with_terms(n, (x, w, true), low_rank, |terms| {
        gemm_sum(ctx.isa, ctx.precision, terms, store, &mut y);
    })?;
    ctx.tensor(y, &[n, n_out])
}

/// The same, rounded to bf16 as it is stored. On the CPU only.
pub fn forward_rounded(
    ctx: &Ctx,
    x: &Tensor,
    w: &Weight,
    b: Option<&Tensor>,
    low_rank: Option<LowRank>,
) -> Result<Tensor> {
    let (n_out, n_in) = w.dims()?;
    let n = rows_of("x", x, n_in)?;
    let mut y = ctx.buffer(n * n_out);
    let mut product = |bias: Option<&[f32]>| {
        with_terms(n, (x, w, true), low_rank, |terms| {
            gemm_sum_bf16(ctx.isa, ctx.precision, terms, bias, &mut y);
        })
    };
    match b {
        None => product(None)?,
        Some(b) => {
            same_shape("b", b, &[n_out])?;
            read::<f32, _>(b, |b| product(Some(b)))??;
        }
    }
    ctx.tensor(y, &[n, n_out])
}

/// Returns `dx = dy · w`, and the adapter's term. Errors: shapes that do not fit each other.
pub fn backward_input(
    ctx: &Ctx,
    dy: &Tensor,
    w: &Weight,
    low_rank: Option<LowRank>,
) -> Result<Tensor> {
    if !ctx.is_cpu() {
        return plus(reference::backward_input(dy, &w.to_tensor(&ctx.device)?)?, low_rank);
    }
    let (n_out, n_in) = w.dims()?;
    let n = rows_of("dy", dy, n_out)?;
    let mut dx: Vec<f32> = ctx.buffer(n * n_in);
    with_terms(n, (dy, w, false), low_rank, |terms| {
        gemm_sum(ctx.isa, ctx.precision, terms, Store::Overwrite, &mut dx);
    })?;
    ctx.tensor(dx, &[n, n_in])
}

/// `dx += dy · w`, and the adapter's term, in place. Errors: shapes that do not fit each other.
pub fn backward_input_add(
    ctx: &Ctx,
    dy: &Tensor,
    w: &Weight,
    low_rank: Option<LowRank>,
    dx: &Tensor,
) -> Result<()> {
    if !ctx.is_cpu() {
        let sum = plus(reference::backward_input(dy, &w.to_tensor(&ctx.device)?)?, low_rank)?;
        return add_in_place(dx, &sum);
    }
    let (n_out, n_in) = w.dims()?;
    let n = rows_of("dy", dy, n_out)?;
    same_shape("dx", dx, &[n, n_in])?;
    write(dx, |dx| {
        with_terms(n, (dy, w, false), low_rank, |terms| {
            gemm_sum(ctx.isa, ctx.precision, terms, Store::Add, dx);
        })
    })?
}

/// `dw += dyᵀ · x`, in place. Errors: shapes that do not fit each other.
pub fn backward_weight(ctx: &Ctx, dy: &Tensor, x: &Tensor, dw: &Tensor) -> Result<()> {
    if !ctx.is_cpu() {
        return add_in_place(dw, &reference::backward_weight(dy, x)?);
    }
    let (n_out, n_in) = dw.dims2()?;
    let n = rows_of("dy", dy, n_out)?;
    same_shape("x", x, &[n, n_in])?;
    operand(dy, |dy| {
        operand(x, |x| {
            let (dy, x) = (Mat::new(n, n_out, dy), Mat::new(n, n_in, x));
            write(dw, |dw| gemm(ctx.isa, ctx.precision, 1.0, dy.t(), x, Store::Add, dw))
        })
    })??
}

/// `db += Σ_rows dy`, in place. Errors: shapes that do not fit each other.
pub fn backward_bias(ctx: &Ctx, dy: &Tensor, db: &Tensor) -> Result<()> {
    if !ctx.is_cpu() {
        return add_in_place(db, &reference::backward_bias(dy)?);
    }
    let n_out = db.dims1()?;
    rows_of("dy", dy, n_out)?;
    with_element!(dy.dtype(), |T| read::<T, _>(dy, |dy| write(db, |db| column_sum_add(
        ctx.isa, dy, db
    ))))?
}

/// Calls `sum` with `x · w`, or `x · wᵀ`, of `n` rows, and the adapter's term.
fn with_terms(
    n: usize,
    (x, w, transposed): (&Tensor, &Weight, bool),
    low_rank: Option<LowRank>,
    sum: impl FnOnce(&[Term]),
) -> Result<()> {
    let (n_out, n_in) = w.dims()?;
    operand(x, |x| {
        w.with_elements(|w| {
            let w = Mat::new(n_out, n_in, w);
            let w = if transposed { w.t() } else { w };
            let first = Term { alpha: 1.0, a: Mat::new(n, w.rows, x), b: w };
            match low_rank {
                None => {
                    sum(&[first]);
                    Ok(())
                }
                Some(low_rank) => low_rank.with_term(n, w.cols, |second| sum(&[first, second])),
            }
        })
    })??
}

/// `y` and the adapter's term, where only candle ops reach.
fn plus(y: Tensor, low_rank: Option<LowRank>) -> Result<Tensor> {
    Ok(match low_rank {
        None => y,
        Some(low_rank) => (y + low_rank.reference()?)?,
    })
}

/// Number of rows of a matrix that has to have `cols` columns.
fn rows_of(name: &'static str, x: &Tensor, cols: usize) -> Result<usize> {
    let (rows, _) = x.dims2()?;
    same_shape(name, x, &[rows, cols])?;
    Ok(rows)
}

/// Refuses a tensor of another shape.
pub(super) fn same_shape(name: &'static str, x: &Tensor, shape: &[usize]) -> Result<()> {
    if x.dims() == shape {
        return Ok(());
    }
    refuse("linear", format!("{name} has shape {:?} instead of {shape:?}", x.dims()))
}

/// `y += x` where only candle ops reach: all clones of `y` see it.
fn add_in_place(y: &Tensor, x: &Tensor) -> Result<()> {
    let sum = (y + x.to_dtype(DType::F32)?)?;
    Ok(y.slice_set(&sum, 0, 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use kernels::Isa;
    use kernels::gemm::Precision;

    fn random(seed: u64, shape: &[usize]) -> Tensor {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        let data: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
        Tensor::from_vec(data, shape, &Device::Cpu).expect("a tensor")
    }

    fn values(x: &Tensor) -> Vec<f64> {
        let x = x.to_dtype(DType::F64).and_then(|x| x.flatten_all()).expect("a tensor");
        x.to_vec1().expect("values")
    }

    /// Largest difference, relative to the largest value.
    fn deviation(got: &Tensor, want: &Tensor) -> f64 {
        assert_eq!(got.dims(), want.dims());
        let (got, want) = (values(got), values(want));
        let size = want.iter().fold(1e-30f64, |m, x| m.max(x.abs()));
        got.iter().zip(&want).fold(0.0f64, |m, (x, y)| m.max((x - y).abs())) / size
    }

    fn wide(x: &Tensor) -> Tensor {
        x.to_dtype(DType::F64).expect("f64")
    }

    fn contexts() -> impl Iterator<Item = Ctx> {
        let sets = Isa::available().into_iter();
        sets.map(|isa| Ctx::new(isa, Precision::F32))
    }

    #[test]
    fn the_fused_path_agrees_with_the_reference_in_f64() -> Result<()> {
        for ctx in contexts() {
            let mut worst: f64 = 0.0;
            for (n, i, o) in [(1, 1, 1), (7, 19, 33), (65, 130, 48), (3, 700, 257)] {
                for dtype in [DType::F32, DType::BF16, DType::F16] {
                    let (x, dy) = (random(1, &[n, i]), random(2, &[n, o]));
                    let (w, b) = (random(3, &[o, i]).to_dtype(dtype)?, random(4, &[o]));
                    let weight = Weight::Tensor(w.clone());
                    let (x64, dy64, w64) = (wide(&x), wide(&dy), wide(&w));

                    let y = forward(&ctx, &x, &weight, None, None)?;
                    worst = worst.max(deviation(&y, &reference::forward(&x64, &w64, None)?));
                    let y = forward(&ctx, &x, &weight, Some(&b), None)?;
                    worst =
                        worst.max(deviation(&y, &reference::forward(&x64, &w64, Some(&wide(&b)))?));

                    let dx = backward_input(&ctx, &dy, &weight, None)?;
                    let want = reference::backward_input(&dy64, &w64)?;
                    worst = worst.max(deviation(&dx, &want));
                    backward_input_add(&ctx, &dy, &weight, None, &dx)?;
                    worst = worst.max(deviation(&dx, &(want * 2.0)?));

                    let (dw, db) = (random(5, &[o, i]), random(6, &[o]));
                    let want_dw = (wide(&dw) + reference::backward_weight(&dy64, &x64)?)?;
                    let want_db = (wide(&db) + reference::backward_bias(&dy64)?)?;
                    backward_weight(&ctx, &dy, &x, &dw)?;
                    backward_bias(&ctx, &dy, &db)?;
                    worst = worst.max(deviation(&dw, &want_dw)).max(deviation(&db, &want_db));
                }
            }
            println!("linear {}: at most {worst:.1e} off", ctx.isa.name());
            assert!(worst < 1e-6);
        }
        Ok(())
    }

    /// The loss of a check by differences: `Σ y · dy`, whose gradient in `y` is `dy`.
    fn loss(x: &Tensor, w: &Tensor, b: &Tensor, dy: &Tensor) -> Result<f64> {
        Ok((reference::forward(x, w, Some(b))? * dy)?.sum_all()?.to_scalar()?)
    }

    /// `(loss(x + h) − loss(x − h)) / 2h` for every element of `x`.
    fn differences(x: &Tensor, loss: impl Fn(&Tensor) -> Result<f64>) -> Result<Tensor> {
        let (h, data) = (1e-3, values(x));
        let at = |index: usize, change: f64| -> Result<f64> {
            let mut data = data.clone();
            data[index] += change;
            loss(&Tensor::from_vec(data, x.dims(), &Device::Cpu)?)
        };
        let slopes: Result<Vec<f64>> =
            (0..data.len()).map(|i| Ok((at(i, h)? - at(i, -h)?) / (2.0 * h))).collect();
        Ok(Tensor::from_vec(slopes?, x.dims(), &Device::Cpu)?)
    }

    #[test]
    fn gradients_are_the_slopes_of_the_loss() -> Result<()> {
        let (n, i, o) = (3, 5, 4);
        let (x, w, b) = (random(1, &[n, i]), random(2, &[o, i]), random(3, &[o]));
        let dy = random(4, &[n, o]);
        let (x64, w64, b64, dy64) = (wide(&x), wide(&w), wide(&b), wide(&dy));
        let slope_x = differences(&x64, |x| loss(x, &w64, &b64, &dy64))?;
        let slope_w = differences(&w64, |w| loss(&x64, w, &b64, &dy64))?;
        let slope_b = differences(&b64, |b| loss(&x64, &w64, b, &dy64))?;

        assert!(deviation(&reference::backward_input(&dy64, &w64)?, &slope_x) < 1e-10);
        assert!(deviation(&reference::backward_weight(&dy64, &x64)?, &slope_w) < 1e-10);
        assert!(deviation(&reference::backward_bias(&dy64)?, &slope_b) < 1e-10);
        for ctx in contexts() {
            let dx = backward_input(&ctx, &dy, &Weight::Tensor(w.clone()), None)?;
            let (dw, db) = (ctx.zeros(&[o, i])?, ctx.zeros(&[o])?);
            backward_weight(&ctx, &dy, &x, &dw)?;
            backward_bias(&ctx, &dy, &db)?;
            for (got, want) in [(dx, &slope_x), (dw, &slope_w), (db, &slope_b)] {
                assert!(deviation(&got, want) < 1e-6);
            }
        }
        Ok(())
    }

    #[test]
    fn bf16_products_count_operands_rounded_to_bf16() -> Result<()> {
        let (x, w) = (random(1, &[33, 300]), random(2, &[40, 300]));
        let round = |x: &Tensor| x.to_dtype(DType::BF16).and_then(|x| x.to_dtype(DType::F64));
        let want = reference::forward(&round(&x)?, &round(&w)?, None)?;
        for ctx in contexts() {
            let ctx = Ctx { precision: Precision::Bf16, ..ctx };
            let y = forward(&ctx, &x, &Weight::Tensor(w.clone()), None, None)?;
            assert!(deviation(&y, &want) < 1e-6, "{}", ctx.isa.name());
        }
        Ok(())
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused_by_name() {
        let ctx = Ctx::cpu(Precision::F32);
        let w = Weight::Tensor(random(1, &[4, 5]));
        let message = |result: Result<()>| result.expect_err("refused").to_string();
        let wrong = random(2, &[3, 6]);
        assert!(
            message(forward(&ctx, &wrong, &w, None, None).map(|_| ()))
                .contains("x has shape [3, 6]")
        );
        assert!(
            message(backward_input(&ctx, &wrong, &w, None).map(|_| ()))
                .contains("dy has shape [3, 6]")
        );
        let (dy, dx) = (random(3, &[3, 4]), random(4, &[3, 4]));
        assert!(
            message(backward_input_add(&ctx, &dy, &w, None, &dx)).contains("dx has shape [3, 4]")
        );
        assert!(
            message(backward_weight(&ctx, &dy, &wrong, &random(5, &[4, 5])))
                .contains("x has shape")
        );
        assert!(message(backward_bias(&ctx, &dy, &random(6, &[5]))).contains("dy has shape"));
    }
}
