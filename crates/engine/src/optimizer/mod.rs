//! The optimizer: which arithmetic, what it remembers of each parameter, and where that lies. Never
//! computes itself (that is `ops`), and never reads or writes a checkpoint: it shows its state by name,
//! and takes it back.

mod error;
mod layout;
mod mapped;
mod store;
#[cfg(test)]
mod tests;

pub use error::OptimizerError;

use crate::Result;
use crate::formats::StoredDtype;
use crate::model::Model;
use crate::ops::adamw::{self, AdamWStep, Moment8};
use crate::signal::Signal;
use layout::{Layout, Part, State};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use store::Store;

/// What stays the same from step to step.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OptimizerOptions {
    pub kind: Kind,
    /// The state lies in a mapped file, which the system may evict from memory.
    pub paged: bool,
    /// The folder of that file; `None`: the system's temporary folder.
    pub state_dir: Option<PathBuf>,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    /// Gradients are scaled down to this norm; 0 leaves them.
    pub max_grad_norm: f64,
    /// Decay norms and biases too: plain `torch.optim.AdamW` over all parameters.
    #[serde(default)]
    pub decay_all: bool,
}

impl OptimizerOptions {
    /// `torch.optim.AdamW` with its betas and eps, without decay and clipping: where tests and benchmarks begin. A run's
    /// options all come from the bridge.
    pub fn adamw() -> OptimizerOptions {
        OptimizerOptions {
            kind: Kind::Adamw,
            paged: false,
            state_dir: None,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            max_grad_norm: 0.0,
            decay_all: false,
        }
    }
}

/// The arithmetic, and the precision of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `torch.optim.AdamW`, f32 state.
    Adamw,
    /// bitsandbytes' AdamW with 32 bits: f32 state, another order of operations.
    Adamw32bit,
    /// bitsandbytes' AdamW with 8 bits: state in block-wise dynamic codes, that of tensors under
    /// [`MIN_8BIT_VALUES`] values as `Adamw32bit`.
    Adamw8bit,
}

/// The least values of a tensor whose state is kept in 8 bits: bitsandbytes' `min_8bit_size`.
pub const MIN_8BIT_VALUES: usize = 4096;

/// AdamW with its state, beside a model's parameters.
pub struct Optimizer {
    pub options: OptimizerOptions,
    layout: Layout,
    store: Store,
}

/// A tensor of the state: a view of the optimizer's own, or of what is to be restored.
#[derive(Clone, Debug, PartialEq)]
pub struct StateTensor<'a> {
    /// The parameter's name, a dot, and what of it: torch's `exp_avg` and `exp_avg_sq`, or
    /// bitsandbytes' `state1`, `state2`, `absmax1` and `absmax2`.
    pub name: String,
    pub dtype: StoredDtype,
    pub shape: Vec<usize>,
    /// Row-major, little-endian.
    pub bytes: &'a [u8],
}

/// Bytes of the state of a parameter of this shape, before anything is allocated.
pub fn state_bytes(kind: Kind, shape: &[usize]) -> u64 {
    let layout = Layout::of(kind, [("", shape)].into_iter());
    layout.parts().map(|part| part.bytes.len() as u64).sum()
}

impl Optimizer {
    /// All state is zero. `signal` counts the bytes of a file for it, and can stop between them.
    ///
    /// # Errors
    /// [`OptimizerError::StateFile`] where the state is paged and its file can't be made.
    pub fn new(model: &Model, options: &OptimizerOptions, signal: &Signal) -> Result<Optimizer> {
        let params = model.params.iter().map(|p| (p.name.as_str(), p.value.dims()));
        let layout = Layout::of(options.kind, params);
        let store = match options.paged && layout.bytes > 0 {
            true => Store::mapped(options.state_dir.as_deref(), layout.bytes, signal)?,
            false => Store::in_memory(layout.bytes),
        };
        Ok(Optimizer { options: options.clone(), layout, store })
    }

    /// Changes every parameter by its gradient. `step` counts from 1.
    ///
    /// Gradients are scaled by `min(1, max_grad_norm / (grad_norm + 1e-6))`, as torch clips.
    pub fn update(&mut self, model: &Model, lr: f64, grad_norm: f64, step: u64) -> Result<()> {
        let options = &self.options;
        let max = options.max_grad_norm;
        let grad_scale = if max > 0.0 { (max / (grad_norm + 1e-6)).min(1.0) } else { 1.0 };
        for (param, state) in model.params.iter().zip(&self.layout.states) {
            let decays = param.decay || options.decay_all;
            let step = AdamWStep {
                lr,
                beta1: options.beta1,
                beta2: options.beta2,
                eps: options.eps,
                weight_decay: if decays { options.weight_decay } else { 0.0 },
                step,
                grad_scale: grad_scale as f32,
            };
            let (ctx, p, g) = (&model.ctx, &param.value, &param.grad);
            match state {
                State::F32(order, parts) => {
                    let moments = self.store.slices(parts).map(bytemuck::cast_slice_mut);
                    adamw::update(ctx, *order, &step, p, g, moments)?;
                }
                State::Bits8(parts) => {
                    let [codes1, codes2, absmax1, absmax2] = self.store.slices(parts);
                    let moment = |codes, absmax| Moment8 {
                        codes,
                        absmax: bytemuck::cast_slice_mut::<u8, f32>(absmax),
                    };
                    let moments = [moment(codes1, absmax1), moment(codes2, absmax2)];
                    adamw::update8(ctx, &step, p, g, moments)?;
                }
            }
        }
        Ok(())
    }

    /// The whole state, in the order of the parameters.
    pub fn state_tensors(&self) -> Vec<StateTensor<'_>> {
        let view = |part: &Part| StateTensor {
            name: part.name.clone(),
            dtype: part.dtype,
            shape: part.shape.clone(),
            bytes: &self.store.bytes()[part.bytes.clone()],
        };
        self.layout.parts().map(view).collect()
    }

    /// Takes over a whole state, in any order. Everything is checked before anything is changed. `signal`
    /// counts bytes, and can stop between tensors.
    ///
    /// # Errors
    /// [`OptimizerError`] with the name of a tensor that is missing, not known, given twice, or of
    /// another dtype, shape or number of bytes than this optimizer's own.
    pub fn restore(&mut self, tensors: &[StateTensor], signal: &Signal) -> Result<()> {
        let mut given = BTreeMap::new();
        for tensor in tensors {
            if given.insert(tensor.name.as_str(), tensor).is_some() {
                return Err(OptimizerError::Twice { name: tensor.name.clone() }.into());
            }
        }
        for part in self.layout.parts() {
            let found = given.get(part.name.as_str());
            check(part, found.copied())?;
        }
        let known: BTreeSet<&str> = self.layout.parts().map(|part| part.name.as_str()).collect();
        if let Some(name) = given.keys().find(|name| !known.contains(*name)) {
            return Err(OptimizerError::Unknown { name: (*name).to_owned() }.into());
        }
        for part in self.layout.parts() {
            self.store.bytes_mut()[part.bytes.clone()]
                .copy_from_slice(given[part.name.as_str()].bytes);
            signal.part(part.bytes.len() as u64)?;
        }
        Ok(())
    }
}

/// Refuses a tensor that is not what `part` holds.
fn check(part: &Part, found: Option<&StateTensor>) -> Result<(), OptimizerError> {
    let name = || part.name.clone();
    let found = found.ok_or_else(|| OptimizerError::Missing { name: name() })?;
    if (found.dtype, &found.shape) != (part.dtype, &part.shape) {
        return Err(OptimizerError::Differs {
            name: name(),
            found_dtype: found.dtype,
            found_shape: found.shape.clone(),
            dtype: part.dtype,
            shape: part.shape.clone(),
        });
    }
    if found.bytes.len() != part.bytes.len() {
        return Err(OptimizerError::Length {
            name: name(),
            found: found.bytes.len(),
            bytes: part.bytes.len(),
        });
    }
    Ok(())
}
