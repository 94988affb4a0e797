//! The low-rank term of a linear, and its gradient (Hu et al., 2021; PEFT's `lora.Linear`).
//!
//! ```text
//! h   = x̃ Aᵀ                     x̃ is x after dropout
//! y  += s · h Bᵀ
//! dh  = s · dy B
//! dB += s · dyᵀ h
//! dA += dhᵀ x̃
//! dx̃  = dh A
//! ```
//! Shapes: x, x̃ `[N, I]` · A `[r, I]` · B `[O, r]` · h, dh `[N, r]` · y, dy `[N, O]`.
//! Gradients of A and B are added to, that of x̃ is returned or added into dx.

use crate::ctx::{Ctx, read, write};
use crate::error::Result;
use candle_core::Tensor;
use kernels::gemm::{Elements, Mat, Store, gemm};

/// The two matrices and the factor `lora_alpha / r` (`lora_alpha / √r` with rsLoRA).
pub struct Factors<'a> {
    pub a: &'a Tensor,
    pub b: &'a Tensor,
    pub scale: f32,
}

/// Adds the term to `y` in place and returns `h`, which backward needs.
pub fn forward_add(ctx: &Ctx, x: &Tensor, lora: &Factors, y: &Tensor) -> Result<Tensor> {
    if !ctx.is_cpu() {
        return reference::forward_add(x, lora, y);
    }
    let (n, (r, _)) = (x.dim(0)?, lora.a.dims2()?);
    let h = ctx.zeros(&[n, r])?;
    product(ctx, 1.0, View::of(x), View::of(lora.a).t(), Store::Overwrite, &h)?;
    product(ctx, lora.scale, View::of(&h), View::of(lora.b).t(), Store::Add, y)?;
    Ok(h)
}

/// Adds to `da` and `db` and returns `dh`; [`backward_input`] turns it into the gradient of x̃.
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
    let dh = ctx.zeros(&[dy.dim(0)?, lora.a.dim(0)?])?;
    product(ctx, lora.scale, View::of(dy), View::of(lora.b), Store::Overwrite, &dh)?;
    product(ctx, lora.scale, View::of(dy).t(), View::of(h), Store::Add, db)?;
    product(ctx, 1.0, View::of(&dh).t(), View::of(x), Store::Add, da)?;
    Ok(dh)
}

/// Adds `dh A` to `dx`: the path where nothing was dropped.
pub fn backward_input_add(ctx: &Ctx, dh: &Tensor, lora: &Factors, dx: &Tensor) -> Result<()> {
    if !ctx.is_cpu() {
        return reference::add_in_place(dx, &dh.matmul(lora.a)?);
    }
    product(ctx, 1.0, View::of(dh), View::of(lora.a), Store::Add, dx)
}

/// Returns `dh A`: the gradient of x̃, which still has to pass the dropout.
pub fn backward_input(ctx: &Ctx, dh: &Tensor, lora: &Factors) -> Result<Tensor> {
    let dx = ctx.zeros(&[dh.dim(0)?, lora.a.dim(1)?])?;
    backward_input_add(ctx, dh, lora, &dx)?;
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

    pub(super) fn forward_add(x: &Tensor, lora: &Factors, y: &Tensor) -> Result<Tensor> {
        let h = x.matmul(&lora.a.t()?)?;
        add_in_place(y, &(h.matmul(&lora.b.t()?)? * lora.scale as f64)?)?;
        Ok(h)
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
            let outputs = || (matrix(n, o, 5), matrix(r, i, 6), matrix(o, r, 7));
            let ((y0, da0, db0), (y1, da1, db1)) = (outputs(), outputs());
            let h0 = forward_add(&ctx, &x, &lora, &y0).unwrap();
            let h1 = reference::forward_add(&x, &lora, &y1).unwrap();
            let dh0 = backward_factors(&ctx, &dy, (&x, &h0), &lora, (&da0, &db0)).unwrap();
            let dh1 = reference::backward_factors(&dy, (&x, &h1), &lora, (&da1, &db1)).unwrap();
            assert_close("h", &h0, &h1);
            assert_close("y", &y0, &y1);
            assert_close("dh", &dh0, &dh1);
            assert_close("da", &da0, &da1);
            assert_close("db", &db0, &db1);
            let dx = backward_input(&ctx, &dh0, &lora).unwrap();
            assert_close("dx", &dx, &dh1.matmul(&a).unwrap());
        }
    }
}
