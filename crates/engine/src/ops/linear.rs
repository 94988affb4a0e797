//! temporary
use crate::{Ctx, Result, ctx::{read, write}, weight::Weight};
use candle_core::Tensor;
use kernels::gemm::{Elements, Mat, Store, gemm};
pub fn forward(ctx: &Ctx, x: &Tensor, w: &Weight, b: Option<&Tensor>) -> Result<Tensor> {
    let (n, i) = x.dims2()?; let (o, _) = w.dims()?;
    let mut y = vec![0f32; n * o];
    read::<f32, _>(x, |x| w.with_elements(|e| gemm(ctx.isa, ctx.precision, 1.0, Mat::new(n, i, Elements::F32(x)), Mat::new(o, i, e).t(), Store::Overwrite, &mut y)))??;
    let y = ctx.tensor(y, &[n, o])?;
    match b { Some(b) => Ok(y.broadcast_add(b)?), None => Ok(y) }
}
pub fn backward_input(ctx: &Ctx, dy: &Tensor, w: &Weight) -> Result<Tensor> {
    let dx = ctx.zeros(&[dy.dim(0)?, w.dims()?.1])?; backward_input_add(ctx, dy, w, &dx)?; Ok(dx)
}
pub fn backward_input_add(ctx: &Ctx, dy: &Tensor, w: &Weight, dx: &Tensor) -> Result<()> {
    let (n, o) = dy.dims2()?; let (_, i) = w.dims()?;
    read::<f32, _>(dy, |dy| w.with_elements(|e| write(dx, |dx| gemm(ctx.isa, ctx.precision, 1.0, Mat::new(n, o, Elements::F32(dy)), Mat::new(o, i, e), Store::Add, dx))))??
}
pub fn backward_weight(ctx: &Ctx, dy: &Tensor, x: &Tensor, dw: &Tensor) -> Result<()> {
    let (n, o) = dy.dims2()?; let (_, i) = x.dims2()?;
    read::<f32, _>(dy, |dy| read::<f32, _>(x, |x| write(dw, |dw| gemm(ctx.isa, ctx.precision, 1.0, Mat::new(n, o, Elements::F32(dy)).t(), Mat::new(n, i, Elements::F32(x)), Store::Add, dw))))??
}
pub fn backward_bias(_ctx: &Ctx, dy: &Tensor, db: &Tensor) -> Result<()> {
    let s = read::<f32, _>(&dy.sum(0)?, <[f32]>::to_vec)?; write(db, |d| d.iter_mut().zip(&s).for_each(|(d, s)| *d += s))
}
