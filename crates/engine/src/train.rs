//! One optimizer step: forward and backward of all sequences, in passes, the norm of all gradients, the update. Nothing of a step is kept when it fails or is cancelled: weights change only at its end.

use crate::Result;
use crate::ctx::write;
use crate::decoder::passes::{PASS_TOKENS, passes};
use crate::decoder::{self, MicroBatch, Recomputation, StepKey, Training};
use crate::error::Code;
use crate::model::Model;
use crate::ops::elementwise;
use crate::optimizer::{Optimizer, OptimizerOptions};
use crate::signal::Signal;

/// Why a step can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error("step {step} has no supervised token")]
    NoSupervisedToken { step: u64 },
    #[error("step {step}: the {what} is not finite, first in `{name}`")]
    Diverged { step: u64, what: &'static str, name: String },
    #[error(
        "token id {id} in row {row} of step {step} is not below the vocabulary of {vocab_size}"
    )]
    TokenOutOfRange { step: u64, row: usize, id: u32, vocab_size: usize },
    #[error("the batch of step {step} is inconsistent: {reason}")]
    BadBatch { step: u64, reason: String },
}

impl TrainError {
    pub fn code(&self) -> Code {
        match self {
            Self::NoSupervisedToken { .. } | Self::TokenOutOfRange { .. } => Code::Data,
            Self::Diverged { .. } => Code::Diverged,
            Self::BadBatch { .. } => Code::Internal,
        }
    }

    pub fn hint(&self) -> String {
        match self {
            Self::NoSupervisedToken { .. } => "Raise model_max_length, or drop the rows whose answers it cuts off.",
            Self::Diverged { .. } => "Lower learning_rate, lengthen the warm-up or set max_grad_norm; the last saved state is untouched.",
            Self::TokenOutOfRange { .. } => "Use the tokenizer that belongs to the model.",
            Self::BadBatch { .. } => "This is a bug of lora-train; please report it with the command that you ran.",
        }
        .to_owned()
    }
}

/// An optimizer beside a model's parameters, and where in the training it is.
pub struct Trainer {
    pub optimizer: Optimizer,
    pub seed: u64,
    pub recomputation: Recomputation,
    /// Tokens of a pass at most.
    pub pass_tokens: usize,
    /// Steps taken so far.
    pub step: u64,
}

/// What a step reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Mean over all supervised tokens of the step.
    pub loss: f64,
    /// L2 norm over all gradients, before clipping.
    pub grad_norm: f64,
    pub tokens: usize,
    pub supervised_tokens: usize,
}

impl Trainer {
    pub fn new(
        model: &Model,
        options: &OptimizerOptions,
        seed: u64,
        recomputation: Recomputation,
    ) -> Result<Trainer> {
        Trainer::watched(model, options, (seed, recomputation), &Signal::default())
    }

    /// The same; `signal` counts the bytes of a file for the optimizer's state, and can stop between them.
    pub fn watched(
        model: &Model,
        options: &OptimizerOptions,
        (seed, recomputation): (u64, Recomputation),
        signal: &Signal,
    ) -> Result<Trainer> {
        let optimizer = Optimizer::new(model, options, signal)?;
        Ok(Trainer { optimizer, seed, recomputation, pass_tokens: PASS_TOKENS, step: 0 })
    }

    /// Takes one step at `learning_rate`.
    pub fn step(
        &mut self,
        model: &mut Model,
        micros: &[MicroBatch],
        learning_rate: f64,
        signal: &Signal,
    ) -> Result<StepReport> {
        let (loss, supervised_tokens) = self.gradients(model, micros, signal)?;
        let grad_norm = self.grad_norm(model)?;
        self.optimizer.update(model, learning_rate, grad_norm, self.step + 1)?;
        self.step += 1;
        let tokens = micros.iter().map(MicroBatch::n_tokens).sum();
        Ok(StepReport { loss, grad_norm, tokens, supervised_tokens })
    }

    /// Fills every gradient with that of the mean loss; returns `(mean loss, supervised tokens)`.
    pub fn gradients(
        &self,
        model: &mut Model,
        micros: &[MicroBatch],
        signal: &Signal,
    ) -> Result<(f64, usize)> {
        let step = self.step + 1;
        micros.iter().try_for_each(|micro| check(micro, model.spec.vocab_size, step))?;
        let supervised: usize = micros.iter().map(|m| m.targets().len()).sum();
        if supervised == 0 {
            return Err(TrainError::NoSupervisedToken { step }.into());
        }
        for param in &model.params {
            write(&param.grad, |grad| grad.fill(0.0))?;
        }
        let passes = passes(micros, self.pass_tokens);
        signal.begin(2 * (passes.len() * model.blocks.len()) as u64);
        let mut loss_sum = 0.0;
        for (pass, batch) in passes.iter().enumerate() {
            if batch.targets().is_empty() {
                continue; // nothing to learn from: its gradients would be zeros
            }
            let run = Training {
                dloss: (1.0 / supervised as f64) as f32,
                key: StepKey { seed: self.seed, step, pass: pass as u32 },
                recomputation: self.recomputation,
                signal,
            };
            model.ctx.workspace.begin_pass(batch.n_tokens(), self.pass_tokens);
            loss_sum += decoder::loss_and_grads(model, batch, &run)?;
        }
        let loss = loss_sum / supervised as f64;
        if !loss.is_finite() {
            return Err(TrainError::Diverged { step, what: "loss", name: first_bad(model)? }.into());
        }
        Ok((loss, supervised))
    }

    /// The L2 norm over all gradients.
    pub fn grad_norm(&self, model: &Model) -> Result<f64> {
        let mut sum = 0.0;
        for param in &model.params {
            sum += elementwise::sum_sq(&model.ctx, &param.grad)?;
        }
        let step = self.step + 1;
        if !sum.is_finite() {
            return Err(
                TrainError::Diverged { step, what: "gradient", name: first_bad(model)? }.into()
            );
        }
        Ok(sum.sqrt())
    }
}

/// `(summed loss, supervised tokens)` of a batch without a step.
pub fn evaluate(model: &mut Model, batch: &MicroBatch, signal: &Signal) -> Result<(f64, usize)> {
    check(batch, model.spec.vocab_size, 0)?;
    signal.begin(model.blocks.len() as u64);
    decoder::loss(model, batch, signal)
}

/// The first parameter that is not finite, else the first whose gradient is not: one bad value spoils
/// every gradient before it.
fn first_bad(model: &Model) -> Result<String> {
    let tensors = model.params.iter().map(|p| (&p.name, &p.value));
    for (name, tensor) in tensors.chain(model.params.iter().map(|p| (&p.name, &p.grad))) {
        if elementwise::first_non_finite(&model.ctx, tensor)?.is_some() {
            return Ok(name.clone());
        }
    }
    Ok("the loss".into())
}

/// A batch comes over the bridge: its parts must agree before they index anything.
fn check(batch: &MicroBatch, vocab_size: usize, step: u64) -> Result<(), TrainError> {
    let bad = |reason: String| Err(TrainError::BadBatch { step, reason });
    let starts = &batch.seq_starts;
    if batch.labels.len() != batch.ids.len() {
        return bad(format!("{} ids, {} labels", batch.ids.len(), batch.labels.len()));
    }
    if starts.first() != Some(&0) || starts.last() != Some(&batch.ids.len()) || !starts.is_sorted()
    {
        return bad("seq_starts don't run from 0 to the number of ids".into());
    }
    let out_of_range = |id: &u32| *id as usize >= vocab_size;
    let label = |label: &i32| u32::try_from(*label).ok();
    let found =
        batch.ids.iter().position(out_of_range).map(|at| (at, batch.ids[at])).or_else(|| {
            let labels = batch.labels.iter().map(label);
            labels.enumerate().find_map(|(at, id)| Some((at, id.filter(out_of_range)?)))
        });
    match found {
        None => Ok(()),
        Some((at, id)) => {
            let row = starts.partition_point(|&start| start <= at).saturating_sub(1);
            Err(TrainError::TokenOutOfRange { step, row, id, vocab_size })
        }
    }
}
