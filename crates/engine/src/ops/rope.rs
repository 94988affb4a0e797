//! Rotary position embedding (Su et al., 2021) with the scaling variants of Transformers'
//! `modeling_rope_utils`, and its gradient.
//!
//! ```text
//! θ[t, i] = t · inv_freq[i]
//! a, b = the first and second half of a head's first rotary_dim values
//! a' = a·cos θ − b·sin θ          b' = b·cos θ + a·sin θ
//! ```
//! The gradient is the rotation by −θ. Yarn's attention factor multiplies cos and sin.
//! Shapes: x `[N, heads·D]` · cos, sin `[max_len, rotary_dim/2]` · positions `[N]`.

use super::rope_frequencies::inverse_frequencies;
use super::{read_all, refuse};
use crate::ctx::{Ctx, write};
use crate::error::Result;
use crate::spec::{Positions, RopeScaling};
use candle_core::{DType, Tensor};
pub use kernels::rope::Direction;
use kernels::rope::{CosSin, RopeShape};

/// Cosine and sine of the positions below `max_len`.
pub struct RopeTables {
    /// `[max_len, rotary_dim/2]`.
    pub cos: Tensor,
    pub sin: Tensor,
    pub rotary_dim: usize,
}

impl RopeTables {
    /// The tables for sequences of up to `max_len` tokens. With the dynamic variant `max_len` is the
    /// longest sequence of the batch: it changes the base once that is longer than the model was
    /// made for. Refuses positions that are not rotary.
    pub fn new(ctx: &Ctx, positions: &Positions, max_len: usize) -> Result<RopeTables> {
        let Positions::Rope { rotary_dim, theta, scaling } = positions else {
            return refuse("rope", format!("no tables for {positions:?}"));
        };
        let inv_freq = inverse_frequencies(*rotary_dim, *theta, scaling, max_len);
        let factor = match scaling {
            RopeScaling::Yarn(yarn) => yarn.attention_factor as f32,
            _ => 1.0,
        };
        // As Transformers does, the angle is rounded to f32 before its cosine is taken.
        let angles = (0..max_len).flat_map(|t| inv_freq.iter().map(move |f| (t as f32 * f) as f64));
        let (cos, sin) = angles.map(|a| (a.cos() as f32 * factor, a.sin() as f32 * factor)).unzip();
        let shape = [max_len, inv_freq.len()];
        Ok(RopeTables {
            cos: ctx.tensor(cos, &shape)?,
            sin: ctx.tensor(sin, &shape)?,
            rotary_dim: *rotary_dim,
        })
    }
}

/// Heads of x, and the size of each.
pub type Heads = (usize, usize);

/// Rotates x in place: forward by θ, backward (for dx) by −θ. Refuses a position behind the tables.
pub fn rotate(
    ctx: &Ctx,
    x: &Tensor,
    heads: Heads,
    tables: &RopeTables,
    positions: &[u32],
    direction: Direction,
) -> Result<()> {
    let shape = shape_of(x, heads, tables, positions)?;
    if !ctx.is_cpu() {
        return reference::rotate(ctx, x, heads, tables, positions, direction);
    }
    write(x, |x| {
        read_all([&tables.cos, &tables.sin], |[cos, sin]| {
            let tables = CosSin { cos, sin };
            kernels::rope::rotate(ctx.isa, shape, x, tables, positions, direction);
        })
    })?
}

/// x rotated forward, in `dtype` on the CPU; x is used up.
pub fn rotated(
    ctx: &Ctx,
    x: Tensor,
    heads: Heads,
    tables: &RopeTables,
    positions: &[u32],
    dtype: DType,
) -> Result<Tensor> {
    if dtype != DType::BF16 || !ctx.is_cpu() {
        rotate(ctx, &x, heads, tables, positions, Direction::Forward)?;
        return Ok(x);
    }
    let shape = shape_of(&x, heads, tables, positions)?;
    let mut y = ctx.buffer(x.elem_count());
    read_all([&x, &tables.cos, &tables.sin], |[x, cos, sin]| {
        let (tables, forward) = (CosSin { cos, sin }, Direction::Forward);
        kernels::rope::rotate_into_bf16(ctx.isa, shape, x, tables, positions, forward, &mut y);
    })?;
    let y = ctx.tensor(y, x.dims())?;
    ctx.recycle([x]);
    Ok(y)
}

/// The shape as kernels know it. Refuses an x of other rows, and a position behind the tables.
fn shape_of(
    x: &Tensor,
    (heads, head_dim): Heads,
    tables: &RopeTables,
    positions: &[u32],
) -> Result<RopeShape> {
    let rotary_dim = tables.rotary_dim;
    let max_len = tables.cos.dim(0)?;
    if x.elem_count() != positions.len() * heads * head_dim || rotary_dim > head_dim {
        return refuse(
            "rope",
            format!(
                "x {:?} for {} positions of {heads} heads of {head_dim}",
                x.dims(),
                positions.len()
            ),
        );
    }
    if let Some(position) = positions.iter().find(|&&position| position as usize >= max_len) {
        return refuse("rope", format!("position {position}, the tables hold {max_len}"));
    }
    Ok(RopeShape { heads, head_dim, rotary_dim })
}

/// The same, composed of candle's operations.
pub mod reference {
    use super::{Ctx, Direction, Result, RopeTables, Tensor};
    use crate::ops::elementwise::reference::assign;
    use candle_core::D;

    pub fn rotate(
        ctx: &Ctx,
        x: &Tensor,
        (heads, head_dim): (usize, usize),
        tables: &RopeTables,
        positions: &[u32],
        direction: Direction,
    ) -> Result<()> {
        let half = tables.rotary_dim / 2;
        let positions = ctx.tensor(positions.to_vec(), &[positions.len()])?;
        let cos = tables.cos.index_select(&positions, 0)?.unsqueeze(1)?;
        let sin = tables.sin.index_select(&positions, 0)?.unsqueeze(1)?;
        let sin = if direction == Direction::Forward { sin } else { sin.neg()? };
        let heads = x.reshape(((), heads, head_dim))?;
        let (a, b) = (heads.narrow(D::Minus1, 0, half)?, heads.narrow(D::Minus1, half, half)?);
        let rest = heads.narrow(D::Minus1, 2 * half, head_dim - 2 * half)?;
        let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
        assign(x, &Tensor::cat(&[first, second, rest], D::Minus1)?.reshape(x.shape())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Precision;
    use crate::spec::YarnScaling;
    use crate::testing::{central_differences, distance, tensor, to_f64};

    #[test]
    fn fused_reference_and_central_differences_agree() -> Result<()> {
        let ctx = Ctx::cpu(Precision::F32);
        let positions = [0, 1, 2, 0, 1, 2, 3, 9];
        let rope = |rotary_dim, scaling| Positions::Rope { rotary_dim, theta: 1e4, scaling };
        let yarn = RopeScaling::Yarn(YarnScaling {
            factor: 4.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            original_max_positions: 64,
            attention_factor: 1.25,
            truncate: true,
        });
        for rope in [rope(8, RopeScaling::None), rope(6, yarn)] {
            let tables = RopeTables::new(&ctx, &rope, 10)?;
            let tables64 = RopeTables {
                cos: to_f64(&tables.cos),
                sin: to_f64(&tables.sin),
                rotary_dim: tables.rotary_dim,
            };
            let turned64 = |x: &Tensor, direction| -> Result<Tensor> {
                let x = to_f64(x).copy()?;
                reference::rotate(&ctx, &x, (3, 8), &tables64, &positions, direction)?;
                Ok(x)
            };
            let (x, dy) = (tensor(1, &[8, 24]), tensor(2, &[8, 24]));
            let (y, dx) = (x.copy()?, dy.copy()?);
            rotate(&ctx, &y, (3, 8), &tables, &positions, Direction::Forward)?;
            rotate(&ctx, &dx, (3, 8), &tables, &positions, Direction::Backward)?;
            let (y64, dx64) =
                (turned64(&x, Direction::Forward)?, turned64(&dy, Direction::Backward)?);
            assert!(distance(&y, &y64) < 2e-7 && distance(&dx, &dx64) < 2e-7);
            let dy64 = to_f64(&dy);
            let loss = |x: &Tensor| Ok(turned64(x, Direction::Forward)?.mul(&dy64)?);
            let slope = central_differences(&to_f64(&x), loss);
            assert!(distance(&dx64, &slope) < 1e-8, "dx: {}", distance(&dx64, &slope));
        }
        Ok(())
    }

    #[test]
    fn a_position_behind_the_tables_and_a_wrong_shape_are_refused() -> Result<()> {
        let ctx = Ctx::cpu(Precision::F32);
        let rope = Positions::Rope { rotary_dim: 8, theta: 1e4, scaling: RopeScaling::None };
        let tables = RopeTables::new(&ctx, &rope, 10)?;
        let rotated = |x: &Tensor, positions: &[u32]| {
            let refused = rotate(&ctx, x, (2, 8), &tables, positions, Direction::Forward);
            refused.err().map(|error| error.to_string())
        };
        let x = tensor(1, &[2, 16]);
        assert_eq!(rotated(&x, &[0, 10]).as_deref(), Some("rope: position 10, the tables hold 10"));
        let shape = rotated(&x, &[0, 1, 2]);
        assert_eq!(shape.as_deref(), Some("rope: x [2, 16] for 3 positions of 2 heads of 8"));
        assert!(RopeTables::new(&ctx, &Positions::Alibi { slopes: vec![0.5] }, 10).is_err());
        Ok(())
    }
}
