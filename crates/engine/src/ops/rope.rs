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

use super::{read_all, refuse};
use crate::ctx::{Ctx, write};
use crate::error::Result;
use crate::spec::{Positions, RopeScaling, YarnScaling};
use candle_core::Tensor;
pub use kernels::rope::Direction;
use std::f64::consts::PI;

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

/// Rotates x in place: forward by θ, backward (for dx) by −θ. Refuses a position behind the tables.
pub fn rotate(
    ctx: &Ctx,
    x: &Tensor,
    heads: usize,
    head_dim: usize,
    tables: &RopeTables,
    positions: &[u32],
    direction: Direction,
) -> Result<()> {
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
    if !ctx.is_cpu() {
        return reference::rotate(ctx, x, (heads, head_dim), tables, positions, direction);
    }
    let shape = kernels::rope::RopeShape { heads, head_dim, rotary_dim };
    write(x, |x| {
        read_all([&tables.cos, &tables.sin], |[cos, sin]| {
            let tables = kernels::rope::CosSin { cos, sin };
            kernels::rope::rotate(ctx.isa, shape, x, tables, positions, direction);
        })
    })?
}

/// `inv_freq [rotary_dim/2]`, in f32 with the roundings of Transformers' `modeling_rope_utils`.
pub fn inverse_frequencies(
    rotary_dim: usize,
    theta: f64,
    scaling: &RopeScaling,
    max_len: usize,
) -> Vec<f32> {
    match *scaling {
        RopeScaling::None => unscaled(rotary_dim, theta),
        RopeScaling::Linear { factor } => {
            unscaled(rotary_dim, theta).iter().map(|f| f / factor as f32).collect()
        }
        RopeScaling::Dynamic { factor, max_positions } => {
            let len = max_len.max(max_positions) as f64;
            let growth = factor * len / max_positions as f64 - (factor - 1.0);
            let dim = rotary_dim as f64;
            unscaled(rotary_dim, theta * growth.powf(dim / (dim - 2.0)))
        }
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_positions,
        } => {
            let (low, high) = (low_freq_factor as f32, high_freq_factor as f32);
            let (factor, context) = (factor as f32, original_max_positions as f32);
            let scale = |f: f32| {
                let wavelength = (2.0 * PI) as f32 / f;
                if wavelength > context / low {
                    f / factor
                } else if wavelength < context / high {
                    f
                } else {
                    let smooth = (context / wavelength - low) / (high - low);
                    (1.0 - smooth) * f / factor + smooth * f
                }
            };
            unscaled(rotary_dim, theta).into_iter().map(scale).collect()
        }
        RopeScaling::Yarn(ref yarn) => yarn_frequencies(rotary_dim, theta, yarn),
    }
}

/// `theta^(−2i/rotary_dim)`.
fn unscaled(rotary_dim: usize, theta: f64) -> Vec<f32> {
    wavenumbers(rotary_dim, theta).map(|w| 1.0 / w).collect()
}

/// `theta^(2i/rotary_dim)`, the exponent rounded to f32.
fn wavenumbers(rotary_dim: usize, theta: f64) -> impl Iterator<Item = f32> {
    let exponents = (0..rotary_dim / 2).map(move |i| (2 * i) as f32 / rotary_dim as f32);
    exponents.map(move |e| (theta as f32 as f64).powf(e as f64) as f32)
}

/// Yarn (Peng et al., 2023): fast dimensions keep their frequency, slow ones are divided by the
/// factor, and a ramp leads from the ones to the others.
fn yarn_frequencies(rotary_dim: usize, theta: f64, yarn: &YarnScaling) -> Vec<f32> {
    let dim = rotary_dim as f64;
    let dimension_of = |rotations: f64| {
        let context = yarn.original_max_positions as f64;
        dim * (context / (rotations * 2.0 * PI)).ln() / (2.0 * theta.ln())
    };
    let (mut low, mut high) = (dimension_of(yarn.beta_fast), dimension_of(yarn.beta_slow));
    if yarn.truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    let (low, mut high) = (low.max(0.0), high.min(dim - 1.0));
    if low == high {
        high += 0.001; // The ramp of no width would divide by zero.
    }
    let ramp = |i: usize| ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
    let blend = |(i, w): (usize, f32)| {
        let kept = 1.0 - ramp(i);
        1.0 / (yarn.factor as f32 * w) * (1.0 - kept) + 1.0 / w * kept
    };
    wavenumbers(rotary_dim, theta).enumerate().map(blend).collect()
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
