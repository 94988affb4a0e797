//! The low-rank terms of linears that share an input, and their gradients (Hu et al., 2021; PEFT's
//! `lora.Linear`). The input is read and packed once for all of them.
//!
//! ```text
//! h   = A x̃ᵀ                   x̃ is x after dropout; the A of all adapters, one below another
//! y  += s · hᵀ Bᵀ              by the linear, see LowRank
//! dh  = s · Bᵀ dyᵀ
//! dB += s · dyᵀ hᵀ
//! dA += dh x̃                   of all adapters
//! dx̃  = dhᵀ A                  by the linear where nothing was dropped
//! ```
//! Shapes: x, x̃ `[N, I]` · A `[r, I]` · B `[O, r]` · y, dy `[N, O]` · h, dh `[Σr, N]`, so that each
//! adapter's part is rows of its own. Gradients of A and B are added to. x and dy may be f32 or bf16.

use crate::ctx::{Ctx, operand, read, write};
use crate::error::Result;
use crate::ops::low_rank::LowRank;
use candle_core::Tensor;
use kernels::gemm::{Elements, Mat, Store, gemm};

/// The two matrices and the factor `lora_alpha / r` (`lora_alpha / √r` with rsLoRA).
#[derive(Clone, Copy)]
pub struct Factors<'a> {
    pub a: &'a Tensor,
    pub b: &'a Tensor,
    pub scale: f32,
}

/// The gradient of the output of an adapter's linear, and where those of its own matrices are summed.
#[derive(Clone, Copy)]
pub struct Grads<'a> {
    pub dy: &'a Tensor,
    pub da: &'a Tensor,
    pub db: &'a Tensor,
}

impl<'a> Factors<'a> {
    /// `s · hᵀ Bᵀ` of the adapter's rows of h, which the linear adds to its output.
    pub fn forward_term(&self, h: &'a Tensor) -> LowRank<'a> {
        LowRank { left_t: h, right: self.b, right_is_transposed: true, scale: self.scale }
    }

    /// `dhᵀ A` of the adapter's rows of dh, which the linear adds to the gradient of its input.
    pub fn backward_term(&self, dh: &'a Tensor) -> LowRank<'a> {
        LowRank { left_t: dh, right: self.a, right_is_transposed: false, scale: 1.0 }
    }
}

/// Each adapter's rows of `h` or `dh`, as views.
pub fn rows_of_each(h: &Tensor, adapters: &[Factors]) -> Result<Vec<Tensor>> {
    let a: Vec<&Tensor> = adapters.iter().map(|lora| lora.a).collect();
    split_like(h, &a)
}

/// Returns `h`: what the linears' outputs need, and backward.
pub fn forward(ctx: &Ctx, x: &Tensor, adapters: &[Factors]) -> Result<Tensor> {
    if !ctx.is_cpu() {
        return reference::forward(x, adapters);
    }
    let a = Stacked::of(ctx, adapters.iter().map(|lora| lora.a).collect())?;
    let h = output(ctx, a.all.dim(0)?, x.dim(0)?)?;
    product(ctx, 1.0, View::of(&a.all), View::of(x).t(), Store::Overwrite, &h)?;
    a.recycle(ctx);
    Ok(h)
}

/// Adds to each `da` and `db` and returns `dh`, which [`Factors::backward_term`] or [`backward_input`]
/// turns into the gradient of x̃.
pub fn backward_factors(
    ctx: &Ctx,
    (x, h): (&Tensor, &Tensor),
    adapters: &[Factors],
    grads: &[Grads],
) -> Result<Tensor> {
    if !ctx.is_cpu() {
        return reference::backward_factors((x, h), adapters, grads);
    }
    let dh = output(ctx, h.dim(0)?, h.dim(1)?)?;
    let parts = rows_of_each(h, adapters)?.into_iter().zip(rows_of_each(&dh, adapters)?);
    for ((lora, Grads { dy, db, .. }), (h, dh)) in adapters.iter().zip(grads).zip(parts) {
        product(ctx, lora.scale, View::of(lora.b).t(), View::of(dy).t(), Store::Overwrite, &dh)?;
        product(ctx, lora.scale, View::of(dy).t(), View::of(&h).t(), Store::Add, db)?;
    }
    let da = Stacked::of(ctx, grads.iter().map(|grads| grads.da).collect())?;
    product(ctx, 1.0, View::of(&dh), View::of(x), Store::Add, &da.all)?;
    da.write_back()?;
    da.recycle(ctx);
    Ok(dh)
}

/// Returns `dhᵀ A` of one adapter: the gradient of x̃, which still has to pass the dropout.
pub fn backward_input(ctx: &Ctx, dh: &Tensor, lora: &Factors) -> Result<Tensor> {
    if !ctx.is_cpu() {
        return Ok(dh.t()?.matmul(lora.a)?);
    }
    let dx = output(ctx, dh.dim(1)?, lora.a.dim(1)?)?;
    product(ctx, 1.0, View::of(dh).t(), View::of(lora.a), Store::Overwrite, &dx)?;
    Ok(dx)
}

/// Matrices one below another in one tensor: a copy, unless there is one alone. It costs little beside
/// packing the input again for each, which has far more rows than the ranks are.
struct Stacked<'a> {
    parts: Vec<&'a Tensor>,
    all: Tensor,
}

impl<'a> Stacked<'a> {
    fn of(ctx: &Ctx, parts: Vec<&'a Tensor>) -> Result<Stacked<'a>> {
        if let [one] = parts[..] {
            return Ok(Stacked { all: one.clone(), parts });
        }
        let len = parts.iter().map(|part| part.elem_count()).sum();
        let (mut all, mut at) = (ctx.buffer(len), 0);
        for part in &parts {
            read::<f32, _>(part, |part| {
                all[at..][..part.len()].copy_from_slice(part);
                at += part.len();
            })?;
        }
        let cols = parts.first().map_or(Ok(1), |part| part.dim(1))?;
        Ok(Stacked { all: ctx.tensor(all, &[len / cols, cols])?, parts })
    }

    /// Copies what a product changed to where it belongs.
    fn write_back(&self) -> Result<()> {
        if self.parts.len() > 1 {
            for (part, changed) in self.parts.iter().zip(split_like(&self.all, &self.parts)?) {
                part.slice_set(&changed, 0, 0)?;
            }
        }
        Ok(())
    }

    fn recycle(self, ctx: &Ctx) {
        if self.parts.len() > 1 {
            ctx.recycle([self.all]); // else it is the part itself
        }
    }
}

/// Views of `all`, each with as many rows as its part.
fn split_like(all: &Tensor, parts: &[&Tensor]) -> Result<Vec<Tensor>> {
    let mut from = 0;
    let views = parts.iter().map(|part| {
        let rows = part.dim(0)?;
        from += rows;
        Ok(all.narrow(0, from - rows, rows)?)
    });
    views.collect()
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

    fn mat<'d>(&self, data: Elements<'d>) -> Result<Mat<'d>> {
        let (rows, cols) = self.tensor.dims2()?;
        let mat = Mat::new(rows, cols, data);
        Ok(if self.transposed { mat.t() } else { mat })
    }
}

/// A matrix that a product writes whole.
fn output(ctx: &Ctx, rows: usize, cols: usize) -> Result<Tensor> {
    ctx.tensor(ctx.buffer::<f32>(rows * cols), &[rows, cols])
}

/// `c (+)= alpha · a · b` on the CPU.
fn product(ctx: &Ctx, alpha: f32, a: View, b: View, store: Store, c: &Tensor) -> Result<()> {
    operand(a.tensor, |a_data| {
        operand(b.tensor, |b_data| {
            let (a, b) = (a.mat(a_data)?, b.mat(b_data)?);
            write(c, |c| gemm(ctx.isa, ctx.precision, alpha, a, b, store, c))
        })
    })??
}

mod reference {
    //! The formulas of the header in candle ops, on any device.
    use super::*;

    pub(super) fn forward(x: &Tensor, adapters: &[Factors]) -> Result<Tensor> {
        let a: Vec<&Tensor> = adapters.iter().map(|lora| lora.a).collect();
        Ok(Tensor::cat(&a, 0)?.matmul(&x.t()?)?)
    }

    pub(super) fn backward_factors(
        (x, h): (&Tensor, &Tensor),
        adapters: &[Factors],
        grads: &[Grads],
    ) -> Result<Tensor> {
        let mut parts = vec![];
        for ((lora, Grads { dy, da, db }), h) in
            adapters.iter().zip(grads).zip(rows_of_each(h, adapters)?)
        {
            let dy_t = (dy.t()? * lora.scale as f64)?;
            let dh = lora.b.t()?.matmul(&dy_t)?;
            add_in_place(db, &dy_t.matmul(&h.t()?)?)?;
            add_in_place(da, &dh.matmul(x)?)?;
            parts.push(dh);
        }
        Ok(Tensor::cat(&parts, 0)?)
    }

    fn add_in_place(y: &Tensor, x: &Tensor) -> Result<()> {
        Ok(y.slice_set(&(y + x)?, 0, 0)?)
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
        let groups = [
            (1, 8, vec![(5, 2)]),
            (17, 33, vec![(20, 4), (7, 3)]),
            (40, 64, vec![(96, 16), (32, 1), (32, 8)]),
        ];
        for (n, i, group) in groups {
            let of_each = |f: &dyn Fn(usize, usize) -> Tensor| -> Vec<Tensor> {
                group.iter().map(|&(o, r)| f(o, r)).collect()
            };
            let x = matrix(n, i, 1);
            let (a, b) = (of_each(&|_, r| matrix(r, i, 2)), of_each(&|o, r| matrix(o, r, 3)));
            let dy = of_each(&|o, _| matrix(n, o, 4));
            let sums = || [of_each(&|_, r| matrix(r, i, 6)), of_each(&|o, r| matrix(o, r, 7))];
            let (sums0, sums1) = (sums(), sums());
            let loras: Vec<Factors> =
                a.iter().zip(&b).map(|(a, b)| Factors { a, b, scale: 1.5 }).collect();
            let h0 = forward(&ctx, &x, &loras).unwrap();
            let h1 = reference::forward(&x, &loras).unwrap();
            let dh0 = backward_factors(&ctx, (&x, &h0), &loras, &grads(&dy, &sums0)).unwrap();
            let dh1 = reference::backward_factors((&x, &h1), &loras, &grads(&dy, &sums1)).unwrap();
            assert_close("h", &h0, &h1);
            assert_close("dh", &dh0, &dh1);
            for (sums0, sums1) in sums0.iter().flatten().zip(sums1.iter().flatten()) {
                assert_close("da or db", sums0, sums1);
            }
            let rows = rows_of_each(&dh0, &loras).unwrap();
            for (lora, dh) in loras.iter().zip(rows) {
                let dx = backward_input(&ctx, &dh, lora).unwrap();
                assert_close("dx", &dx, &dh.t().unwrap().matmul(lora.a).unwrap());
            }
        }
    }

    fn grads<'a>(dy: &'a [Tensor], [da, db]: &'a [Vec<Tensor>; 2]) -> Vec<Grads<'a>> {
        dy.iter().zip(da).zip(db).map(|((dy, da), db)| Grads { dy, da, db }).collect()
    }
}
