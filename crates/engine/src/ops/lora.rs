//! The low-rank term of a linear, and its gradient (Hu et al., 2021; PEFT's `lora.Linear`).
//!
//! ```text
//! h   = x̃ Aᵀ                     x̃ is x after dropout
//! y  += s · h Bᵀ               by the linear, see LowRank
//! dh  = s · dy B
//! dB += s · dyᵀ h
//! dA += dhᵀ x̃
//! dx̃  = dh A                    by the linear where nothing was dropped
//! ```
//! Shapes: x, x̃ `[N, I]` · A `[r, I]` · B `[O, r]` · h, dh `[N, r]` · y, dy `[N, O]`.
//! Gradients of A and B are added to.

use crate::ctx::{Ctx, read, write};
use crate::error::Result;
use crate::ops::low_rank::LowRank;
use candle_core::Tensor;
use kernels::gemm::{Elements, Mat, Store, gemm};

/// The two matrices and the factor `lora_alpha / r` (`lora_alpha / √r` with rsLoRA).
pub struct Factors<'a> {
    pub a: &'a Tensor,
    pub b: &'a Tensor,
    pub scale: f32,
}

impl Factors<'_> {
    /// `s · h Bᵀ`, which the linear adds to its output.
    pub fn forward_term<'a>(&'a self, h: &'a Tensor) -> LowRank<'a> {
        LowRank { left: h, right: self.b, right_is_transposed: true, scale: self.scale }
    }

    /// `dh A`, which the linear adds to the gradient of its input.
    pub fn backward_term<'a>(&'a self, dh: &'a Tensor) -> LowRank<'a> {
        LowRank { left: dh, right: self.a, right_is_transposed: false, scale: 1.0 }
    }
}

/// Returns `h`: what the linear's output needs, and backward.
pub fn forward(ctx: &Ctx, x: &Tensor, lora: &Factors) -> Result<Tensor> {
    if !ctx.is_cpu() {
        return Ok(x.matmul(&lora.a.t()?)?);
    }
    let h = output(ctx, x.dim(0)?, lora.a.dim(0)?)?;
    product(ctx, 1.0, View::of(x), View::of(lora.a).t(), Store::Overwrite, &h)?;
    Ok(h)
}

/// Adds to `da` and `db` and returns `dh`; [`Factors::backward_term`] or [`backward_input`] turn it into the gradient of x̃.
pub fn backward_factors(
    ctx: &Ctx,
    dy: &Tensor,
    (x, h): (&Tensor, &Tensor),
    lora: &Factors,
    (da, db): (&Tensor, &Tensor),
) -> Result<Tensor> {
    if !ctx.is_cpu() {
        return reference::backward_factors(dy, (x, h), lora, (da, db));
    }
    let dh = output(ctx, dy.dim(0)?, lora.a.dim(0)?)?;
    product(ctx, lora.scale, View::of(dy), View::of(lora.b), Store::Overwrite, &dh)?;
    product(ctx, lora.scale, View::of(dy).t(), View::of(h), Store::Add, db)?;
    product(ctx, 1.0, View::of(&dh).t(), View::of(x), Store::Add, da)?;
    Ok(dh)
}

/// Returns `dh A`: the gradient of x̃, which still has to pass the dropout.
pub fn backward_input(ctx: &Ctx, dh: &Tensor, lora: &Factors) -> Result<Tensor> {
    if !ctx.is_cpu() {
        return Ok(dh.matmul(lora.a)?);
    }
    let dx = output(ctx, dh.dim(0)?, lora.a.dim(1)?)?;
    product(ctx, 1.0, View::of(dh), View::of(lora.a), Store::Overwrite, &dx)?;
    Ok(dx)
}

/// A tensor, or its transpose, as an operand.
struct View<'a> {
    tensor: &'a Tensor,
    transposed: bool,
}

impl<'a> View<'a> {
    fn of(tensor: &'a Tensor) -> View<'a> {
        View { tensor, transposed: false }
    }

    fn t(self) -> View<'a> {
        View { transposed: !self.transposed, ..self }
    }

    fn mat<'d>(&self, data: &'d [f32]) -> Result<Mat<'d>> {
        let (rows, cols) = self.tensor.dims2()?;
        let mat = Mat::new(rows, cols, Elements::F32(data));
        Ok(if self.transposed { mat.t() } else { mat })
    }
}

/// A matrix that a product writes whole.
fn output(ctx: &Ctx, rows: usize, cols: usize) -> Result<Tensor> {
    ctx.tensor(ctx.buffer(rows * cols), &[rows, cols])
}

/// `c (+)= alpha · a · b` on the CPU.
fn product(ctx: &Ctx, alpha: f32, a: View, b: View, store: Store, c: &Tensor) -> Result<()> {
    read::<f32, _>(a.tensor, |a_data| {
        read::<f32, _>(b.tensor, |b_data| {
            let (a, b) = (a.mat(a_data)?, b.mat(b_data)?);
            write(c, |c| gemm(ctx.isa, ctx.precision, alpha, a, b, store, c))
        })
    })??
}

mod reference {
    //! The formulas of the header in candle ops, on any device.
    use super::*;

    pub(super) fn add_in_place(y: &Tensor, x: &Tensor) -> Result<()> {
        Ok(y.slice_set(&(y + x)?, 0, 0)?)
    }

    pub(super) fn backward_factors(
        dy: &Tensor,
        (x, h): (&Tensor, &Tensor),
        lora: &Factors,
        (da, db): (&Tensor, &Tensor),
    ) -> Result<Tensor> {
        let dy = (dy * lora.scale as f64)?;
        let dh = dy.matmul(lora.b)?;
        add_in_place(db, &dy.t()?.matmul(h)?)?;
        add_in_place(da, &dh.t()?.matmul(x)?)?;
        Ok(dh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Precision;
    use candle_core::Device;

    fn matrix(rows: usize, cols: usize, seed: usize) -> Tensor {
        let value = |i: usize| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0;
        Tensor::from_vec((0..rows * cols).map(value).collect(), (rows, cols), &Device::Cpu).unwrap()
    }

    /// Relative to the largest value: sums of 40 products of up to 30 differ by their order alone.
    fn assert_close(name: &str, got: &Tensor, want: &Tensor) {
        let largest = |x: &Tensor| x.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        let diff = largest(&(got - want).unwrap()) / largest(want);
        assert!(diff < 2e-6, "{name}: {diff}");
    }

    #[test]
    fn fused_agrees_with_the_reference() {
        let ctx = Ctx::cpu(Precision::F32);
        for (n, i, o, r) in [(1, 8, 5, 2), (17, 33, 20, 4), (40, 64, 96, 16)] {
            let (x, a, b, dy) =
                (matrix(n, i, 1), matrix(r, i, 2), matrix(o, r, 3), matrix(n, o, 4));
            let lora = Factors { a: &a, b: &b, scale: 1.5 };
            let outputs = || (matrix(r, i, 6), matrix(o, r, 7));
            let ((da0, db0), (da1, db1)) = (outputs(), outputs());
            let h0 = forward(&ctx, &x, &lora).unwrap();
            let h1 = x.matmul(&a.t().unwrap()).unwrap();
            let dh0 = backward_factors(&ctx, &dy, (&x, &h0), &lora, (&da0, &db0)).unwrap();
            let dh1 = reference::backward_factors(&dy, (&x, &h1), &lora, (&da1, &db1)).unwrap();
            assert_close("h", &h0, &h1);
            assert_close("dh", &dh0, &dh1);
            assert_close("da", &da0, &da1);
            assert_close("db", &db0, &db1);
            let dx = backward_input(&ctx, &dh0, &lora).unwrap();
            assert_close("dx", &dx, &dh1.matmul(&a).unwrap());
        }
    }
}
