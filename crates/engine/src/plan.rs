//! The memory and the time of a training, computed from shapes alone: nothing is loaded.
//!
//! Activations are counted from what `decoder::block` saves; change the two together.
//! Shapes: N tokens of the largest micro-batch, C hidden_size, H heads, K kv heads, D head_dim,
//! F intermediate_size, V vocabulary, r rank.

use crate::error::Code;
use crate::families::Family;
use crate::formats::ModelFiles;
use crate::formats::peft::Bias;
use crate::model::Method;
use crate::model::adapter::{Matcher, linear_paths};
use crate::model::quantize::Quantizer;
use crate::model::verify::verify;
use crate::options::{EngineOptions, PlanOptions};
use crate::spec::{DecoderSpec, Mlp, Residual, Slot};
use crate::{Result, families, machine};
use serde::Serialize;
use std::collections::HashSet;

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
    fn total(&self) -> u64 {
        self.weights
            + self.adapter
            + self.gradients
            + self.optimizer
            + self.activations
            + self.scratch
    }
}

/// What `plan` answers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    pub bytes: PlanBytes,
    pub peak_bytes: u64,
    pub budget_bytes: u64,
    pub fits: bool,
    pub recomputed_blocks: usize,
    pub n_blocks: usize,
    pub trainable_params: u64,
    pub all_params: u64,
    /// Of the matrix products of forward, backward and recomputation.
    pub flops_per_token: f64,
    /// None where no speed is known.
    pub step_seconds: Option<f64>,
    /// Options that would make it fit.
    pub suggestions: Vec<String>,
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

fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / (1u64 << 30) as f64)
}

/// What a process needs before it holds anything of a model: Node, the addon, the tokenizer, packing
/// buffers. Measured: 109 MiB from `dist`, 35 more where tsx runs the sources.
const PROCESS_BYTES: u64 = 120 << 20;
/// The share that the allocator adds to what it holds: mimalloc rounds a tensor up to one of four
/// sizes an octave, and huge pages back the rest of the block too (without them, 5 % less was
/// measured). Tensors of SmolLM2 and of the tiny model come to 6 to 7 % on the mean.
const ALLOCATOR_SHARE: u64 = 16;
/// The bound on the head's tiles (`ops::head_loss`).
const LOSS_TILE_BYTES: u64 = 16 << 20;

/// Plans for the machine, or for `memory_bytes`. `gflops`: the speed of matrix products, if known.
pub fn plan(options: &EngineOptions, files: &ModelFiles, gflops: Option<f64>) -> Result<Plan> {
    let (family, spec) = families::read(files.config(), |name| files.info(name).is_some())?;
    verify(files, &spec, family)?;
    let method = Method::from(&options.method);
    let counts = Counts::of(&spec, family, &method)?;
    let budget = options
        .memory_bytes
        .or_else(|| machine::memory().map(|m| m.free_bytes))
        .unwrap_or(u64::MAX);
    let quantizer =
        options.quantization.as_ref().map(|q| Quantizer::new(q, &method)).transpose()?;
    let weights = weight_bytes(files, &spec, family, &method, quantizer.as_ref());
    let made = |size: PlanOptions, checkpointing: Option<bool>| {
        let input = Input { spec: &spec, counts: &counts, weights, size };
        input.fit(checkpointing, budget)
    };
    let (bytes, recomputed) = made(options.plan, options.gradient_checkpointing);
    let fits = bytes.total() <= budget;
    let suggestions = if fits { vec![] } else { suggestions(options, budget, &made) };
    let flops_per_token = counts.flops_per_token(&spec, options.plan.seq_length, recomputed);
    let tokens =
        options.plan.seq_length * options.plan.micro_batch * options.plan.gradient_accumulation;
    Ok(Plan {
        bytes,
        peak_bytes: bytes.total(),
        budget_bytes: budget,
        fits,
        recomputed_blocks: recomputed,
        n_blocks: spec.n_layers,
        trainable_params: counts.trainable,
        all_params: counts.base + counts.added,
        flops_per_token,
        step_seconds: gflops.map(|gflops| flops_per_token * tokens as f64 / (gflops * 1e9)),
        suggestions,
    })
}

/// The nearest settings that fit: checkpointing, then smaller micro-batches, then shorter rows.
fn suggestions(
    options: &EngineOptions,
    budget: u64,
    made: &dyn Fn(PlanOptions, Option<bool>) -> (PlanBytes, usize),
) -> Vec<String> {
    let fits = |size, checkpointing| made(size, checkpointing).0.total() <= budget;
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

/// Parameters, and the products' sizes.
struct Counts {
    base: u64,
    /// What the adapter adds to the base.
    added: u64,
    trainable: u64,
    /// Ranks of all adapters together, for their saved inner values.
    adapter_ranks: u64,
    /// Parameters of the linears of all blocks, and of the head.
    block_linears: u64,
    head: u64,
    trains_base: bool,
    adapter_params: u64,
}

impl Counts {
    fn of(spec: &DecoderSpec, family: &Family, method: &Method) -> Result<Counts> {
        let lora = match method {
            Method::Lora(options) => {
                let paths = linear_paths(spec, family.module);
                let targets = options.target_modules.as_ref();
                Some((options, Matcher::new(targets, family.default_targets, &paths)?))
            }
            _ => None,
        };
        let trains_base = matches!(method, Method::Full);
        let mut counts = Counts {
            base: spec.n_params(),
            added: 0,
            trainable: 0,
            adapter_ranks: 0,
            block_linears: 0,
            head: (spec.vocab_size * spec.hidden_size) as u64,
            trains_base,
            adapter_params: 0,
        };
        let mut slots = vec![(Slot::Embedding, 0), (Slot::FinalNorm, 0)];
        slots.extend(spec.embedding_norm.then_some((Slot::EmbeddingNorm, 0)));
        slots.extend(
            (0..spec.n_layers).flat_map(|l| spec.block_slots().into_iter().map(move |s| (s, l))),
        );
        slots.push((Slot::Head, 0));
        for (slot, layer) in slots {
            let (rows, cols) = spec.weight_dims(slot);
            let (weight, bias) =
                ((rows * cols) as u64, u64::from(spec.has_bias(slot)) * rows as u64);
            counts.block_linears += if slot.is_block_linear() { weight } else { 0 };
            let Some((options, matcher)) = &lora else { continue };
            let path = (family.module)(slot, layer);
            let targeted = slot.is_block_linear() && matcher.matches(&path);
            if targeted {
                counts.adapter_params += (options.r * (rows + cols)) as u64;
                counts.adapter_ranks += options.r as u64;
            }
            if options.saves(&path) {
                counts.added += weight + bias;
                counts.trainable += weight + bias;
            } else if options.bias == Bias::All || (options.bias == Bias::LoraOnly && targeted) {
                counts.trainable += bias;
            }
        }
        counts.added += counts.adapter_params;
        counts.trainable += if trains_base { counts.base } else { counts.adapter_params };
        Ok(counts)
    }

    /// 2 FLOPs a weight and token in each product: forward, dx, and dW where trained; recomputed
    /// blocks run forward twice, their adapters too. The head's logits are for supervised rows; all
    /// are counted.
    fn flops_per_token(&self, spec: &DecoderSpec, seq_length: usize, recomputed: usize) -> f64 {
        let share = recomputed as f64 / spec.n_layers.max(1) as f64;
        let products = if self.trains_base { 3.0 } else { 2.0 };
        let attention = (2 * spec.n_layers * spec.n_heads * spec.head_dim * seq_length / 2) as f64;
        let blocks = self.block_linears as f64;
        let head = self.head as f64 * products;
        2.0 * (blocks * (products + share)
            + attention * (3.5 + share)
            + head
            + (3.0 + share) * self.adapter_params as f64)
    }
}

struct Input<'a> {
    spec: &'a DecoderSpec,
    counts: &'a Counts,
    weights: WeightBytes,
    size: PlanOptions,
}

impl Input<'_> {
    /// The fewest recomputed blocks that fit; all, or none, where the options say so.
    fn fit(&self, checkpointing: Option<bool>, budget: u64) -> (PlanBytes, usize) {
        let n = self.spec.n_layers;
        let recomputed = match checkpointing {
            Some(true) => n,
            Some(false) => 0,
            None => (0..n).find(|&r| self.bytes(r).total() <= budget).unwrap_or(n),
        };
        (self.bytes(recomputed), recomputed)
    }

    fn bytes(&self, recomputed: usize) -> PlanBytes {
        let (spec, counts) = (self.spec, self.counts);
        let n = (self.size.seq_length * self.size.micro_batch) as u64;
        let (c, f) = (spec.hidden_size as u64, spec.intermediate_size as u64);
        let (q, kv) =
            ((spec.n_heads * spec.head_dim) as u64, (spec.n_kv_heads * spec.head_dim) as u64);
        let gated = u64::from(matches!(spec.mlp, Mlp::Gated(_)));
        let sequential = u64::from(spec.residual == Residual::Sequential);
        // n1, q, k, v, attn, h, n2, gate, up, and the rows' statistics; x itself is kept always.
        let ranks = counts.adapter_ranks / spec.n_layers.max(1) as u64;
        let block = c * (2 + sequential)
            + 2 * q
            + 2 * kv
            + f * (1 + gated)
            + ranks
            + spec.n_heads as u64
            + 2;
        let kept = spec.n_layers.saturating_sub(recomputed) as u64;
        let at_once = if recomputed > 0 { kept.max(1) } else { kept };
        let activations = 4 * n * (c * (spec.n_layers as u64 + 2) + block * at_once);
        // Backward of one block holds at most dm, dgate and dup (m is gone by then; without a gate m
        // and dm, or dm and dup), or the gradients of q, k, v and of attention's output; beside
        // them dy, the gradient below, and the inner gradient of an adapter.
        let backward = 4 * n * (((2 + gated) * f).max(2 * q + 2 * kv) + 3 * c);
        let (adapter, gradients, optimizer) =
            (4 * counts.added, 4 * counts.trainable, 8 * counts.trainable);
        let allocated =
            self.weights.in_memory + adapter + gradients + optimizer + activations + backward;
        PlanBytes {
            weights: self.weights.mapped + self.weights.in_memory,
            adapter,
            gradients,
            optimizer,
            activations,
            scratch: backward + LOSS_TILE_BYTES + allocated / ALLOCATOR_SHARE + PROCESS_BYTES,
        }
    }
}

/// Bytes of the base model, by where they lie.
#[derive(Clone, Copy, Default)]
struct WeightBytes {
    /// Pages of the file: every one of them is read, and counts.
    mapped: u64,
    in_memory: u64,
}

/// Trained weights are f32 in memory; frozen matrices become NF4 in memory, or are mapped as they are
/// stored; what is quantised in a GGUF becomes f32 in memory.
fn weight_bytes(
    files: &ModelFiles,
    spec: &DecoderSpec,
    family: &Family,
    method: &Method,
    quantizer: Option<&Quantizer>,
) -> WeightBytes {
    let nf4: HashSet<String> =
        quantizer.map(|q| q.tensors(spec, family).into_iter().collect()).unwrap_or_default();
    let trained = matches!(method, Method::Full);
    let head = |name: &str| spec.tied_head && name.ends_with("lm_head.weight");
    let mut bytes = WeightBytes::default();
    for tensor in files.tensors().iter().filter(|t| !head(&t.name)) {
        let elements = tensor.shape.iter().product::<usize>();
        match (tensor.dtype.plain(), quantizer) {
            (_, Some(quantizer)) if nf4.contains(&tensor.name) => {
                bytes.in_memory += quantizer.layout.bytes(elements) as u64;
            }
            (Some(dtype), _) if !trained && tensor.shape.len() == 2 => {
                bytes.mapped += (elements * dtype.size_in_bytes()) as u64;
            }
            _ => bytes.in_memory += 4 * elements as u64,
        }
    }
    bytes
}
