//! The product of low rank that an adapter adds to a linear's output or to the gradient of its input, as
//! a term of the matrix product that makes it. Which product it is, `lora.rs` says.

use super::linear::same_shape;
use crate::ctx::read;
use crate::error::Result;
use candle_core::Tensor;
use kernels::gemm::{Elements, Mat, Term};

/// A product of few columns and rows that is added to an output: `scale · left · right`.
///
/// Shapes: left_t `[r, N]`, the left factor's transpose · right `[r, cols]`, or its transpose.
#[derive(Clone, Copy)]
pub struct LowRank<'a> {
    pub left_t: &'a Tensor,
    pub right: &'a Tensor,
    pub right_is_transposed: bool,
    pub scale: f32,
}

impl LowRank<'_> {
    /// Calls `f` with the term. Errors: shapes that do not fit an output of `n` rows and `cols` columns.
    pub(super) fn with_term<R>(
        &self,
        n: usize,
        cols: usize,
        f: impl FnOnce(Term) -> R,
    ) -> Result<R> {
        let r = self.left_t.dims2()?.0;
        same_shape("the adapter's left factor", self.left_t, &[r, n])?;
        let shape = if self.right_is_transposed { [cols, r] } else { [r, cols] };
        same_shape("the adapter's right factor", self.right, &shape)?;
        read::<f32, _>(self.left_t, |left_t| {
            read::<f32, _>(self.right, |right| {
                let b = Mat::new(shape[0], shape[1], Elements::F32(right));
                let b = if self.right_is_transposed { b.t() } else { b };
                let a = Mat::new(r, n, Elements::F32(left_t)).t();
                f(Term { alpha: self.scale, a, b })
            })
        })?
    }

    /// The same in candle ops, on any device.
    pub(super) fn reference(&self) -> Result<Tensor> {
        let right = if self.right_is_transposed { self.right.t()? } else { self.right.clone() };
        Ok((self.left_t.t()?.matmul(&right)? * f64::from(self.scale))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::{Ctx, Precision};
    use crate::ops::linear::{backward_input, backward_input_add, forward, reference};
    use crate::testing::{distance, tensor, to_f64};
    use crate::weight::Weight;
    use kernels::Isa;

    #[test]
    fn a_linear_adds_the_term_to_its_output_and_to_its_gradient() -> Result<()> {
        let w = tensor(2, &[40, 70]);
        let weight = Weight::Tensor(w.clone());
        for isa in Isa::available() {
            let ctx = Ctx::new(isa, Precision::F32);
            let (x, h, b) = (tensor(1, &[33, 70]), tensor(3, &[8, 33]), tensor(4, &[40, 8]));
            let term = LowRank { left_t: &h, right: &b, right_is_transposed: true, scale: 0.7 };
            let y = forward(&ctx, &x, &weight, None, Some(term))?;
            let want = (reference::forward(&x, &w, None)? + term.reference()?)?;
            assert!(distance(&y, &to_f64(&want)) < 1e-6);

            let (dy, dh, a) = (tensor(5, &[33, 40]), tensor(6, &[8, 33]), tensor(7, &[8, 70]));
            let term = LowRank { left_t: &dh, right: &a, right_is_transposed: false, scale: 1.0 };
            let dx = backward_input(&ctx, &dy, &weight, Some(term))?;
            let want = (reference::backward_input(&dy, &w)? + term.reference()?)?;
            assert!(distance(&dx, &to_f64(&want)) < 1e-6);
            backward_input_add(&ctx, &dy, &weight, Some(term), &dx)?;
            assert!(distance(&dx, &to_f64(&(want * 2.0)?)) < 1e-6);

            let term = LowRank { left_t: &a, ..term };
            let refused = backward_input(&ctx, &dy, &weight, Some(term)).map(|_| ());
            let message = refused.expect_err("refused").to_string();
            assert!(message.contains("left factor has shape [8, 70]"), "{message}");
        }
        Ok(())
    }
}
