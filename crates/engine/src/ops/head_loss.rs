//! The language-model head and its cross-entropy on supervised rows only; never a matrix of all
//! logits.
//!
//! ```text
//! l     = x · Wᵀ                               for the supervised rows of x
//! loss  = Σ_rows (log Σ_v exp(l[v]) − l[t])
//! dx    = dloss · (softmax(l) − onehot(t)) · W   0 in rows without a target
//! dW   += dloss · (softmax(l) − onehot(t))ᵀ · x
//! ```
//! The vocabulary is cut into tiles, and dx is made in the one pass that makes the logits: the sum
//! `Σ_v exp(l[v] − max) · W[v]` is rescaled where the running maximum rises, as attention does with
//! its values. So a frozen head costs two products and is read once for all rows of a tile. A trained
//! head costs a third for dW, and a fourth, logits again, unless a tile holds the whole vocabulary.
//! The target's term of dx is added apart (see [`kernels::loss`]).
//!
//! Shapes: x, dx `[N, C]` · W, dW `[V, C]` · logits of a tile `[R, n]`.

use super::{read_all, refuse};
use crate::ctx::{Ctx, Precision, write};
use crate::error::Result;
use crate::weight::{Elements, Weight};
use candle_core::Tensor;
use half::bf16;
use kernels::gemm::{Mat, Store, gemm};
use kernels::loss::{self, LossRow};

/// Floats of all buffers of a call: 12 MiB, which leaves 4 of 16 to the matrix product's packing.
pub const BUFFER_FLOATS_MAX: usize = 3 << 20;
/// Rows of a tile at most. More would read the head less often, but it is no longer what costs.
const ROWS_MAX: usize = 1024;
/// A trained head takes whole rows of logits if at least this many fit: three products for four.
const WHOLE_ROWS_MIN: usize = 256;
/// Tiles of the vocabulary are whole multiples of this, which suits every microkernel.
const VOCAB_STEP: usize = 64;

/// What `forward_backward` is given.
#[derive(Clone, Copy)]
pub struct HeadLoss<'a> {
    /// `[N, C]`: the output of the final norm.
    pub x: &'a Tensor,
    /// `[V, C]`.
    pub head: &'a Weight,
    /// `(row of x, target)` of each supervised position.
    pub targets: &'a [(u32, u32)],
    /// The gradient of each row's loss: 1 / supervised tokens of the whole step.
    pub dloss: f32,
    /// Added to in place; `None` where the head is frozen.
    pub dhead: Option<&'a Tensor>,
}

pub struct HeadLossOut {
    /// The sum over the supervised rows, not their mean.
    pub loss_sum: f64,
    /// `[N, C]`.
    pub dx: Tensor,
}

/// Returns the summed loss and dx; adds to `dhead` when there is one.
pub fn forward_backward(ctx: &Ctx, args: HeadLoss) -> Result<HeadLossOut> {
    let HeadLoss { x, head, targets, dloss, dhead } = args;
    check(x, head, targets)?;
    if !ctx.is_cpu() {
        return reference::forward_backward(args);
    }
    let (vocab, hidden) = head.dims()?;
    let mut dx = ctx.buffer(x.elem_count());
    dx.fill(0.0); // rows without a target stay so
    let mut run = |dhead: Option<&mut [f32]>| {
        read_all([x], |[x]| {
            head.with_elements(|elements| {
                let head = Mat::new(vocab, hidden, elements);
                Run { ctx, x, head, targets }.loss(Some(Grads { dloss, dx: &mut dx, dhead }))
            })
        })
    };
    let loss_sum = match dhead {
        Some(dhead) => write(dhead, |dhead| run(Some(dhead)))???,
        None => run(None)??,
    };
    Ok(HeadLossOut { loss_sum, dx: ctx.tensor(dx, x.dims())? })
}

/// Returns the summed loss of the supervised rows.
pub fn loss_only(ctx: &Ctx, x: &Tensor, head: &Weight, targets: &[(u32, u32)]) -> Result<f64> {
    check(x, head, targets)?;
    if !ctx.is_cpu() {
        return reference::loss_only(x, head, targets);
    }
    let (vocab, hidden) = head.dims()?;
    read_all([x], |[x]| {
        head.with_elements(|elements| {
            Run { ctx, x, head: Mat::new(vocab, hidden, elements), targets }.loss(None)
        })
    })?
}

/// Returns all logits `[N, V]` of x `[N, C]`: for a few rows, as generation has them.
pub fn logits(ctx: &Ctx, x: &Tensor, head: &Weight) -> Result<Tensor> {
    check(x, head, &[])?;
    if !ctx.is_cpu() {
        return reference::logits(x, head);
    }
    let (vocab, hidden) = head.dims()?;
    let n = x.dim(0)?;
    let mut logits = vec![0.0; n * vocab];
    read_all([x], |[x]| {
        head.with_elements(|elements| {
            let x = Mat::new(n, hidden, Elements::F32(x));
            let head = Mat::new(vocab, hidden, elements).t();
            gemm(ctx.isa, ctx.precision, 1.0, x, head, Store::Overwrite, &mut logits);
        })
    })??;
    ctx.tensor(logits, &[n, vocab])
}

/// Refuses shapes that don't fit, and rows and targets outside them.
fn check(x: &Tensor, head: &Weight, targets: &[(u32, u32)]) -> Result<()> {
    let ((n, hidden), (vocab, head_hidden)) = (x.dims2()?, head.dims()?);
    if hidden != head_hidden || hidden == 0 {
        return refuse(
            "head_loss",
            format!("x is [{n}, {hidden}], the head [{vocab}, {head_hidden}]"),
        );
    }
    let wrong =
        targets.iter().find(|(row, target)| *row as usize >= n || *target as usize >= vocab);
    if let Some((row, target)) = wrong {
        return refuse("head_loss", format!("row {row} of {n} with target {target} of {vocab}"));
    }
    Ok(())
}

/// How the work is cut: a function of the shapes alone, so that the bits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tiles {
    rows: usize,
    vocab: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeadUse {
    Frozen,
    Trained,
}

impl Tiles {
    fn of(n_rows: usize, (vocab, hidden): (usize, usize), head_use: HeadUse) -> Tiles {
        let n_rows = n_rows.max(1);
        // A row of a tile holds x, the sum for dx, and its logits.
        let whole_rows = BUFFER_FLOATS_MAX / (vocab + 2 * hidden);
        let enough = if head_use == HeadUse::Trained { WHOLE_ROWS_MIN } else { n_rows };
        if whole_rows >= enough.min(n_rows) {
            return Tiles { rows: whole_rows.min(n_rows), vocab };
        }
        // x and the sums take at most half of the buffers; what is left is logits.
        let rows = (BUFFER_FLOATS_MAX / (4 * hidden)).clamp(1, ROWS_MAX).min(n_rows);
        let columns = BUFFER_FLOATS_MAX.saturating_sub(2 * rows * hidden) / rows;
        Tiles { rows, vocab: (columns / VOCAB_STEP * VOCAB_STEP).clamp(1, vocab) }
    }

    fn buffer_floats(&self, hidden: usize) -> usize {
        self.rows * (self.vocab + 2 * hidden)
    }
}

/// The fused path's inputs.
struct Run<'a> {
    ctx: &'a Ctx,
    x: &'a [f32],
    head: Mat<'a>,
    targets: &'a [(u32, u32)],
}

struct Grads<'a> {
    dloss: f32,
    dx: &'a mut [f32],
    dhead: Option<&'a mut [f32]>,
}

/// Buffers of a tile; the tail of the last tile uses a part of them.
struct Buffers {
    /// x of the tile's rows `[R, C]`.
    x: Vec<f32>,
    /// `Σ_v exp(l[v] − max) · W[v]` over `v ≠ t`, `[R, C]`.
    sums: Vec<f32>,
    /// `[R, n]`.
    logits: Vec<f32>,
}

impl Run<'_> {
    /// The summed loss; with `grads`, dx is added to rows of zeros, and dW to `dhead`.
    fn loss(&self, mut grads: Option<Grads>) -> f64 {
        let (vocab, hidden) = (self.head.rows, self.head.cols);
        let trained = grads.as_ref().is_some_and(|grads| grads.dhead.is_some());
        let head_use = if trained { HeadUse::Trained } else { HeadUse::Frozen };
        let tiles = Tiles::of(self.targets.len(), (vocab, hidden), head_use);
        assert!(
            tiles.buffer_floats(hidden)
                <= BUFFER_FLOATS_MAX.max(vocab.min(VOCAB_STEP) + 2 * hidden)
        );
        let mut buffers = Buffers {
            x: self.ctx.buffer(tiles.rows * hidden),
            sums: self.ctx.buffer(if grads.is_some() { tiles.rows * hidden } else { 0 }),
            logits: self.ctx.buffer(tiles.rows * tiles.vocab),
        };
        let mut loss_sum = 0.0;
        for targets in self.targets.chunks(tiles.rows) {
            for (to, &(row, _)) in buffers.x.chunks_exact_mut(hidden).zip(targets) {
                to.copy_from_slice(&self.x[row as usize * hidden..][..hidden]);
            }
            let mut rows: Vec<LossRow> =
                targets.iter().map(|&(_, target)| LossRow::new(target as usize)).collect();
            self.forward_tiles(tiles, &mut rows, &mut buffers);
            loss_sum += rows.iter().map(LossRow::loss).sum::<f64>();
            if let Some(grads) = &mut grads {
                self.add_dx(targets, &rows, &buffers.sums, grads);
                if let Some(dhead) = &mut grads.dhead {
                    self.add_dhead(tiles, &rows, &mut buffers, grads.dloss, dhead);
                }
            }
        }
        let Buffers { x, sums, logits } = buffers;
        [x, sums, logits].into_iter().for_each(|buffer| self.ctx.workspace.put(buffer));
        loss_sum
    }

    /// Makes `rows` complete, and `buffers.sums` where it is wanted.
    fn forward_tiles(&self, tiles: Tiles, rows: &mut [LossRow], buffers: &mut Buffers) {
        let (ctx, hidden, n_rows) = (self.ctx, self.head.cols, rows.len());
        let mut correction = vec![1.0; n_rows];
        let mut sums = buffers.sums.get_mut(..n_rows * hidden);
        if let Some(sums) = sums.as_deref_mut() {
            sums.fill(0.0);
        }
        for first in (0..self.head.rows).step_by(tiles.vocab) {
            let head = self.head_rows(first, tiles.vocab);
            let tile = &mut buffers.logits[..n_rows * head.rows];
            self.logits_tile(&buffers.x, head, tile);
            loss::exponentials(ctx.isa, tile, first, rows, &mut correction);
            if let Some(sums) = &mut sums {
                loss::scale_rows(ctx.isa, sums, &correction);
                let p = Mat::new(n_rows, head.rows, Elements::F32(tile));
                gemm(ctx.isa, ctx.precision, 1.0, p, head, Store::Add, sums);
            }
        }
    }

    /// `logits[R, n] = x · Wᵀ` for the entries of `head [n, C]`.
    fn logits_tile(&self, x: &[f32], head: Mat, logits: &mut [f32]) {
        let n_rows = logits.len() / head.rows;
        let x = Mat::new(n_rows, head.cols, Elements::F32(&x[..n_rows * head.cols]));
        gemm(self.ctx.isa, self.ctx.precision, 1.0, x, head.t(), Store::Overwrite, logits);
    }

    /// `dx += dloss · (sums / Σ exp + (softmax(l)[t] − 1) · W[t])`.
    fn add_dx(&self, targets: &[(u32, u32)], rows: &[LossRow], sums: &[f32], grads: &mut Grads) {
        let hidden = self.head.cols;
        for ((&(row, target), state), sums) in targets.iter().zip(rows).zip(sums.chunks(hidden)) {
            let others = grads.dloss * state.factor();
            let own = grads.dloss * state.target_gradient();
            let head_row = self.head_rows(target as usize, 1).data.to_f32();
            let dx = &mut grads.dx[row as usize * hidden..][..hidden];
            for ((dx, &sum), w) in dx.iter_mut().zip(sums).zip(head_row) {
                *dx += others * sum + own * self.operand(w);
            }
        }
    }

    /// `dW += dlogitsᵀ · x`, with the logits again unless the one tile still holds them.
    fn add_dhead(
        &self,
        tiles: Tiles,
        rows: &[LossRow],
        buffers: &mut Buffers,
        dloss: f32,
        dhead: &mut [f32],
    ) {
        let (ctx, (vocab, hidden), n_rows) =
            (self.ctx, (self.head.rows, self.head.cols), rows.len());
        for first in (0..vocab).step_by(tiles.vocab) {
            let head = self.head_rows(first, tiles.vocab);
            let tile = &mut buffers.logits[..n_rows * head.rows];
            if tiles.vocab == vocab {
                loss::gradient_of_exponentials(ctx.isa, tile, first, rows, dloss);
            } else {
                self.logits_tile(&buffers.x, head, tile);
                loss::gradient(ctx.isa, tile, first, rows, dloss);
            }
            let dlogits = Mat::new(n_rows, head.rows, Elements::F32(tile));
            let x = Mat::new(n_rows, hidden, Elements::F32(&buffers.x[..n_rows * hidden]));
            let dhead = &mut dhead[first * hidden..][..head.rows * hidden];
            gemm(ctx.isa, ctx.precision, 1.0, dlogits.t(), x, Store::Add, dhead);
        }
    }

    /// At most `n` rows of the head from `first` on.
    fn head_rows(&self, first: usize, n: usize) -> Mat<'_> {
        let (n, hidden) = (n.min(self.head.rows - first), self.head.cols);
        let range = first * hidden..(first + n) * hidden;
        Mat::new(n, hidden, self.head.data.slice(range))
    }

    /// A weight as the matrix product counts it.
    fn operand(&self, w: f32) -> f32 {
        match self.ctx.precision {
            Precision::F32 => w,
            Precision::Bf16 => bf16::from_f32(w).to_f32(),
        }
    }
}

/// The same, composed of candle's operations with all logits at once: the oracle of the tests, and
/// the path of a device that has no kernel of ours. Works in the dtype of x.
pub mod reference {
    use super::{HeadLoss, HeadLossOut, Result, Tensor, Weight};
    use candle_core::{D, DType};

    pub fn logits(x: &Tensor, head: &Weight) -> Result<Tensor> {
        let head = head.to_tensor(x.device())?.to_dtype(x.dtype())?;
        Ok(x.matmul(&head.t()?)?)
    }

    pub fn loss_only(x: &Tensor, head: &Weight, targets: &[(u32, u32)]) -> Result<f64> {
        if targets.is_empty() {
            return Ok(0.0);
        }
        let (rows, targets) = columns(x, targets)?;
        Ok(loss_and_softmax(&x.index_select(&rows, 0)?, head, &targets)?.0)
    }

    pub fn forward_backward(args: HeadLoss) -> Result<HeadLossOut> {
        let HeadLoss { x, head, targets, dloss, dhead } = args;
        let dx = x.zeros_like()?;
        if targets.is_empty() {
            return Ok(HeadLossOut { loss_sum: 0.0, dx });
        }
        let (rows, targets) = columns(x, targets)?;
        let x_rows = x.index_select(&rows, 0)?;
        let (loss_sum, softmax) = loss_and_softmax(&x_rows, head, &targets)?;
        let ones = x_rows.ones_like()?.narrow(1, 0, 1)?.contiguous()?;
        let onehot = softmax.zeros_like()?.scatter_add(&targets, &ones, 1)?;
        let dlogits = ((softmax - onehot)? * dloss as f64)?;
        if let Some(dhead) = dhead {
            let sum = (dhead + dlogits.t()?.matmul(&x_rows)?.to_dtype(dhead.dtype())?)?;
            dhead.slice_set(&sum, 0, 0)?;
        }
        let head = head.to_tensor(x.device())?.to_dtype(x.dtype())?;
        Ok(HeadLossOut { loss_sum, dx: dx.index_add(&rows, &dlogits.matmul(&head)?, 0)? })
    }

    /// Rows `[R]` and targets `[R, 1]` as tensors.
    fn columns(x: &Tensor, targets: &[(u32, u32)]) -> Result<(Tensor, Tensor)> {
        let n = targets.len();
        let (rows, targets): (Vec<u32>, Vec<u32>) = targets.iter().copied().unzip();
        let tensor = |ids: Vec<u32>, shape: &[usize]| Tensor::from_vec(ids, shape, x.device());
        Ok((tensor(rows, &[n])?, tensor(targets, &[n, 1])?))
    }

    /// The summed loss, and softmax(l) `[R, V]`.
    fn loss_and_softmax(x: &Tensor, head: &Weight, targets: &Tensor) -> Result<(f64, Tensor)> {
        let logits = logits(x, head)?;
        let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?;
        let exp = shifted.exp()?;
        let sum = exp.sum_keepdim(D::Minus1)?;
        let loss = (sum.log()? - shifted.gather(targets, 1)?)?.to_dtype(DType::F64)?;
        Ok((loss.sum_all()?.to_scalar::<f64>()?, exp.broadcast_div(&sum)?))
    }
}

#[cfg(test)]
mod tests;
