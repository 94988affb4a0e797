//! The memory and the time of a training, computed from shapes alone: nothing is loaded.
//!
//! The shapes come from `config.json`, and from the headers of the weights where they are here; of the weights
//! themselves only the pages are read that tell whether an earlier start kept them quantised.
//! Activations are counted from what `decoder::saved` keeps; change the two together.

mod choice;
mod layout;
mod saved;
mod units;

use crate::decoder::Recomputation;
use crate::error::Code;
use crate::families::{self, ConfigError};
use crate::formats::ModelFiles;
use crate::model::quantize::Quantizer;
use crate::model::verify::verify;
use crate::model::vocabulary;
use crate::model::{Method, Source};
use crate::options::{ComputeDtype, EngineOptions, PlanOptions, PlanQuestion};
use crate::spec::DecoderSpec;
use crate::{Result, machine};
use candle_core::DType;
use choice::Made;
use layout::{Cards, Layout};
use saved::{SavedBytes, saved_bytes};
use serde::Serialize;
use serde_json::Value;
use units::{Codes, Counting, Units};

/// Bytes by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanBytes {
    /// The base model as it lies in memory or in the mapped file.
    pub weights: u64,
    /// Adapter matrices and whole copies of modules.
    pub adapter: u64,
    pub gradients: u64,
    pub optimizer: u64,
    /// What forward keeps for backward, for one micro-batch.
    pub activations: u64,
    /// One block's backward, the loss's tiles, packing buffers, what the allocator rounds up, the
    /// process itself.
    pub scratch: u64,
}

impl PlanBytes {
    fn kinds(self) -> [u64; 6] {
        let PlanBytes { weights, adapter, gradients, optimizer, activations, scratch } = self;
        [weights, adapter, gradients, optimizer, activations, scratch]
    }

    fn total(self) -> u64 {
        self.kinds().into_iter().fold(0, u64::saturating_add)
    }

    fn plus(self, other: PlanBytes) -> PlanBytes {
        let sums = std::array::from_fn(|i| self.kinds()[i].saturating_add(other.kinds()[i]));
        let [weights, adapter, gradients, optimizer, activations, scratch] = sums;
        PlanBytes { weights, adapter, gradients, optimizer, activations, scratch }
    }
}

/// What of the bytes are pages of a mapped file, which the system may take and read again: of the model's files, of
/// quantised weights that an earlier start kept, of a paged state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MappedBytes {
    pub weights: u64,
    pub optimizer: u64,
}

/// One device's share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DevicePlan {
    pub bytes: PlanBytes,
    pub peak_bytes: u64,
    pub budget_bytes: u64,
    /// From 0.
    pub first_block: usize,
    pub n_blocks: usize,
    pub embedding: bool,
    pub head: bool,
}

/// Where the stored types come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CountedFrom {
    Headers,
    Config,
}

/// What `plan` answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Of all devices together.
    pub bytes: PlanBytes,
    pub mapped: MappedBytes,
    pub saved: SavedBytes,
    pub peak_bytes: u64,
    pub budget_bytes: u64,
    /// Each device's share fits it.
    pub fits: bool,
    pub devices: Vec<DevicePlan>,
    /// What the host holds beside cards; `None` where there are no cards that it helps.
    pub host: Option<PlanBytes>,
    pub counted_from: CountedFrom,
    /// The first so many blocks are computed again in backward.
    pub recomputed_blocks: usize,
    /// Those keep what attention made.
    pub keeps_attention: bool,
    pub n_blocks: usize,
    pub vocab_size: usize,
    pub tied_head: bool,
    pub trainable_params: u64,
    pub all_params: u64,
    /// Of the matrix products of forward, backward and recomputation.
    pub flops_per_token: f64,
    /// None where no speed is known.
    pub step_seconds: Option<f64>,
    /// Options that would make it fit.
    pub suggestions: Vec<String>,
}

impl Plan {
    pub fn recomputation(&self) -> Recomputation {
        Recomputation { blocks: self.recomputed_blocks, keeps_attention: self.keeps_attention }
    }
}

/// The plan does not fit.
#[derive(Debug, thiserror::Error)]
#[error("the training needs {} and has {}", gib(.0.peak_bytes), gib(.0.budget_bytes))]
pub struct PlanError(pub Box<Plan>);

impl PlanError {
    pub fn code(&self) -> Code {
        Code::Memory
    }

    pub fn hint(&self) -> String {
        match self.0.suggestions.as_slice() {
            [] => "No setting of batch, length or checkpointing makes it fit; take a smaller model or more memory.".into(),
            list => format!("It would fit with {}.", list.join(", or with ")),
        }
    }
}

pub(crate) fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / (1u64 << 30) as f64)
}

/// Models beyond these are mistakes of a config, whose sizes could overflow.
const LAYERS_MAX: usize = 4096;
const PARAMS_MAX: u64 = 1 << 44;

/// Plans for this machine or for the devices that are asked about, from a model's config and from the
/// headers of its files, where they are here. `gflops`: this machine's speed of matrix products, if
/// known.
pub fn plan(
    options: &EngineOptions,
    config: &Value,
    files: Option<&ModelFiles>,
    gflops: Option<f64>,
) -> Result<Plan> {
    let has_tensor = |name: &str| files.is_some_and(|files| files.info(name).is_some());
    let (family, mut spec) = families::read(config, has_tensor)?;
    let method = Method::from(&options.method);
    let source = files.map(|files| files as &dyn Source);
    let quantizer = Quantizer::of(options.quantization.as_ref(), config, source, &method)?;
    if let Some(files) = files {
        verify(files, &spec, family)?;
    }
    let stored =
        files.map_or_else(|| Stored::of_config(config, &spec), |f| Ok(Stored::Headers(f)))?;
    let codes = Codes::of(options, files, quantizer.as_ref(), &spec, family);
    let stored_rows = spec.vocab_size;
    spec.vocab_size = vocabulary::rows(options, family, &spec)?;
    let counting = Counting {
        spec: &spec,
        family,
        method: &method,
        quantizer: quantizer.as_ref(),
        codes,
        optimizer: options.optimizer.kind,
        stored: &|name| stored.plain(name),
        packed: &|name| files.and_then(|files| files.layout(name)),
    };
    let units = Units::of(&counting)?;
    let trains_base = matches!(method, Method::Full);
    let layout = Layout {
        spec: &spec,
        units: &units,
        cards: cards(options, trains_base),
        paged: options.optimizer.paged,
        compute_dtype: options.compute_dtype,
    };
    let budgets = budgets(options);
    let made = |size, checkpointing| Made::of(&layout, &budgets, size, checkpointing);
    let found = made(options.plan, options.gradient_checkpointing);
    let fits = found.fits(&budgets);
    let suggestions =
        if fits { vec![] } else { suggestions(options, &|s, c| made(s, c).fits(&budgets)) };
    let flops =
        flops_per_token(&spec, &units, trains_base, options.plan.seq_length, found.recomputation);
    let PlanOptions { seq_length, micro_batch, gradient_accumulation } = options.plan;
    let tokens = seq_length as f64 * micro_batch as f64 * gradient_accumulation as f64;
    let all = units.all();
    let resized = spec.vocab_size != stored_rows;
    Ok(Plan {
        saved: saved_bytes(&counting, &stored, all, options.save_embedding_layers, resized),
        bytes: found.sum(),
        mapped: found.mapped(),
        peak_bytes: found.sum().total(),
        budget_bytes: budgets.iter().copied().fold(0, u64::saturating_add),
        fits,
        devices: found.devices(&budgets),
        host: layout.host_bytes(),
        counted_from: if files.is_some() { CountedFrom::Headers } else { CountedFrom::Config },
        recomputed_blocks: found.recomputation.blocks,
        keeps_attention: found.recomputation.keeps_attention,
        n_blocks: spec.n_layers,
        vocab_size: spec.vocab_size,
        tied_head: spec.tied_head,
        trainable_params: all.trainable,
        all_params: all.base + all.added,
        flops_per_token: flops,
        step_seconds: gflops
            .filter(|_| found.parts.len() == 1 && layout.cards.is_none())
            .map(|gflops| flops * tokens / (gflops * 1e9)),
        suggestions,
    })
}

/// Who knows the types that weights are stored in.
enum Stored<'a> {
    Headers(&'a ModelFiles),
    /// `config.json` says one of them all.
    Config(DType),
}

impl Stored<'_> {
    fn of_config(config: &Value, spec: &DecoderSpec) -> Result<Self, ConfigError> {
        let refused =
            |key: &str, found: String| ConfigError::Unsupported { key: key.into(), found };
        if spec.n_layers > LAYERS_MAX {
            return Err(refused("number of layers", spec.n_layers.to_string()));
        }
        if spec.n_params() > PARAMS_MAX {
            return Err(refused("number of parameters", spec.n_params().to_string()));
        }
        Ok(Stored::Config(families::stored_dtype(config)?))
    }

    /// The type of a weight that can stay as it is stored; `None` where reading makes f32 of it.
    fn plain(&self, name: &str) -> Option<DType> {
        match self {
            Stored::Headers(files) => files.info(name).and_then(|info| info.dtype.plain()),
            Stored::Config(dtype) => Some(*dtype).filter(|dtype| *dtype != DType::F64),
        }
    }
}

/// The memory of each device: those that are asked about, or this machine.
fn budgets(options: &EngineOptions) -> Vec<u64> {
    let asked = options.question.as_ref().and_then(|question| question.devices.clone());
    let own = || options.memory_bytes.or_else(|| machine::memory().map(|m| m.free_bytes));
    asked.filter(|devices| !devices.is_empty()).unwrap_or_else(|| vec![own().unwrap_or(u64::MAX)])
}

/// Sizes that are given together with an offload are those of cards, beside a host.
fn cards(options: &EngineOptions, trains_base: bool) -> Option<Cards> {
    let PlanQuestion { devices: Some(_), offload: Some(offload) } = options.question.as_ref()?
    else {
        return None;
    };
    let value_bytes = match options.compute_dtype {
        ComputeDtype::Bf16 => 2,
        ComputeDtype::F32 => 4,
    };
    Some(Cards { offload: *offload, value_bytes, trains_base })
}

/// The nearest settings that fit: checkpointing, then smaller micro-batches, then shorter rows.
fn suggestions(
    options: &EngineOptions,
    fits: &dyn Fn(PlanOptions, Option<bool>) -> bool,
) -> Vec<String> {
    let size = options.plan;
    let mut found = vec![];
    if options.gradient_checkpointing == Some(false) && fits(size, Some(true)) {
        found.push("gradient_checkpointing true".to_owned());
    }
    let halved =
        |n: usize| std::iter::successors(Some(n / 2), |n| Some(n / 2)).take_while(|n| *n > 0);
    let batch = halved(size.micro_batch)
        .find(|&micro_batch| fits(PlanOptions { micro_batch, ..size }, None));
    found.extend(batch.map(|n| format!("per_device_train_batch_size {n}")));
    let length =
        halved(size.seq_length).find(|&seq_length| fits(PlanOptions { seq_length, ..size }, None));
    found.extend(length.map(|n| format!("model_max_length {n}")));
    found
}

/// 2 FLOPs a weight and token in each product: forward, dx, and dW where trained; recomputed blocks run
/// forward twice but for their last linear and attention that was kept, their adapters too. The head's
/// logits are for supervised rows; all are counted.
fn flops_per_token(
    spec: &DecoderSpec,
    units: &Units,
    trains_base: bool,
    seq_length: usize,
    recomputation: Recomputation,
) -> f64 {
    let all = units.all();
    let share = recomputation.blocks as f64 / spec.n_layers.max(1) as f64;
    let attended_again = if recomputation.keeps_attention { 0.0 } else { share };
    let products = if trains_base { 3.0 } else { 2.0 };
    let width = (spec.n_heads * spec.head_dim) as f64;
    let attention = width * spec.n_layers as f64 * seq_length as f64;
    let head = spec.vocab_size as f64 * spec.hidden_size as f64 * products;
    2.0 * (all.linears as f64 * products
        + units.recomputed_linears(spec) as f64 * share
        + attention * (3.5 + attended_again)
        + head
        + (3.0 + share) * all.adapter_params as f64)
}

#[cfg(test)]
mod tests;
