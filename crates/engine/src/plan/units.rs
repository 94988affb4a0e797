//! What each unit of a decoder (embedding, blocks, final norm, head) brings to a plan: parameters, and
//! the bytes of its weights. From shapes and stored types, and from whether quantised weights are kept.

use crate::Result;
use crate::families::Family;
use crate::formats::ModelFiles;
use crate::formats::peft::Bias;
use crate::model::Method;
use crate::model::adapter::{LoraOptions, Matcher, linear_paths};
use crate::model::quantize::Quantizer;
use crate::model::quantized_cache::QuantizedCache;
use crate::optimizer;
use crate::options::EngineOptions;
use crate::spec::{DecoderSpec, Slot};
use crate::weight::Layout;
use candle_core::DType;
use std::ops::Range;

/// Bytes of the base model, by where they lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WeightBytes {
    /// Pages of the file: every one of them is read, and counts.
    pub mapped: u64,
    pub in_memory: u64,
    /// Quantised weights that an earlier start kept: pages of the cache's file, in memory where it is missing.
    pub kept: u64,
}

impl WeightBytes {
    pub fn total(self) -> u64 {
        self.mapped + self.in_memory + self.kept
    }
}

/// Parameters and weights of some modules together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unit {
    /// Parameters of the base model.
    pub base: u64,
    /// What the adapter adds to the base: its matrices, and whole copies of modules.
    pub added: u64,
    pub trainable: u64,
    /// Bytes of the optimizer's state of what is trained.
    pub state: u64,
    /// Of the adapter's matrices alone.
    pub adapter_params: u64,
    /// Ranks of the adapters together, for their saved inner values.
    pub adapter_ranks: u64,
    /// Weights of a block's linears.
    pub linears: u64,
    pub weights: WeightBytes,
}

impl Unit {
    /// `self` and `other` together.
    pub fn plus(self, other: Unit) -> Unit {
        self.with(other, |a, b| a + b)
    }

    /// `self` without `other`, which is part of it.
    fn minus(self, other: Unit) -> Unit {
        self.with(other, |a, b| a - b)
    }

    fn with(self, other: Unit, f: impl Fn(u64, u64) -> u64) -> Unit {
        Unit {
            base: f(self.base, other.base),
            added: f(self.added, other.added),
            trainable: f(self.trainable, other.trainable),
            state: f(self.state, other.state),
            adapter_params: f(self.adapter_params, other.adapter_params),
            adapter_ranks: f(self.adapter_ranks, other.adapter_ranks),
            linears: f(self.linears, other.linears),
            weights: WeightBytes {
                mapped: f(self.weights.mapped, other.weights.mapped),
                in_memory: f(self.weights.in_memory, other.weights.in_memory),
                kept: f(self.weights.kept, other.weights.kept),
            },
        }
    }
}

/// A decoder, cut where a device may end.
pub(super) struct Units {
    /// With its norm, where it has one.
    pub embedding: Unit,
    pub final_norm: Unit,
    /// Nothing of the base where it is tied to the embedding.
    pub head: Unit,
    /// The most that any block has, of each number apart.
    pub largest_block: Unit,
    /// Entry l: all blocks before l.
    before: Vec<Unit>,
}

/// Where the codes of quantised weights lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codes {
    InMemory,
    /// An earlier start kept them.
    Kept,
}

impl Codes {
    /// Another machine has no cache that is known here.
    pub fn of(
        options: &EngineOptions,
        files: Option<&ModelFiles>,
        quantizer: Option<&Quantizer>,
        spec: &DecoderSpec,
        family: &Family,
    ) -> Codes {
        let here = options.question.as_ref().is_none_or(|question| question.devices.is_none());
        let found = options.quantized_cache.as_ref().filter(|_| here).zip(files).zip(quantizer);
        let kept = |((cache, files), quantizer): ((_, &ModelFiles), _)| {
            QuantizedCache::is_kept(cache, files, quantizer, spec, family)
        };
        if found.is_some_and(kept) { Codes::Kept } else { Codes::InMemory }
    }
}

/// What decides about a module: the model, what is trained, how weights are kept.
pub(super) struct Counting<'a> {
    pub spec: &'a DecoderSpec,
    pub family: &'a Family,
    pub method: &'a Method,
    pub quantizer: Option<&'a Quantizer>,
    /// Where what the quantizer makes lies.
    pub codes: Codes,
    pub optimizer: optimizer::Kind,
    /// The type that a weight is stored in, by its name; `None` where it becomes f32 when it is read.
    pub stored: &'a dyn Fn(&str) -> Option<DType>,
    /// How a weight is laid out that is stored in few bits.
    pub packed: &'a dyn Fn(&str) -> Option<Layout>,
}

impl Units {
    /// Errors: a target of the adapter that matches no module.
    pub fn of(counting: &Counting) -> Result<Units> {
        let Counting { spec, family, method, .. } = *counting;
        let lora = match method {
            Method::Lora(options) => {
                let paths = linear_paths(spec, family.module);
                let targets = options.target_modules.as_ref();
                Some((options, Matcher::new(targets, family.default_targets, &paths)?))
            }
            _ => None,
        };
        let lora = lora.as_ref().map(|(options, matcher)| (*options, matcher));
        let unit = |slot, layer| counting.unit(slot, layer, lora);
        let slots = spec.block_slots();
        let mut before = vec![Unit::default()];
        let mut largest_block = Unit::default();
        for layer in 0..spec.n_layers {
            let modules = slots.iter().map(|&slot| unit(slot, layer));
            let block = modules.fold(Unit::default(), Unit::plus);
            largest_block = largest_block.with(block, u64::max);
            before.push(before[layer].plus(block));
        }
        let norm = if spec.embedding_norm { unit(Slot::EmbeddingNorm, 0) } else { Unit::default() };
        Ok(Units {
            embedding: unit(Slot::Embedding, 0).plus(norm),
            final_norm: unit(Slot::FinalNorm, 0),
            head: unit(Slot::Head, 0),
            largest_block,
            before,
        })
    }

    pub fn blocks(&self, range: Range<usize>) -> Unit {
        self.before[range.end].minus(self.before[range.start])
    }

    pub fn n_blocks(&self) -> usize {
        self.before.len() - 1
    }

    /// Weights that backward multiplies with once more where all blocks are computed again: those of all
    /// linears but down, whose output nobody reads.
    pub fn recomputed_linears(&self, spec: &DecoderSpec) -> u64 {
        let (rows, cols) = spec.weight_dims(Slot::Down);
        self.all().linears - (spec.n_layers * rows * cols) as u64
    }

    /// The whole decoder.
    pub fn all(&self) -> Unit {
        let blocks = self.blocks(0..self.n_blocks());
        self.embedding.plus(blocks).plus(self.final_norm).plus(self.head)
    }
}

impl Counting<'_> {
    fn unit(&self, slot: Slot, layer: usize, lora: Option<(&LoraOptions, &Matcher)>) -> Unit {
        let path = (self.family.module)(slot, layer);
        let (rows, cols) = self.spec.weight_dims(slot);
        let weight = (rows * cols) as u64;
        let bias = u64::from(self.spec.has_bias(slot)) * rows as u64;
        let tied = slot == Slot::Head && self.spec.tied_head;
        let mut unit = Unit::default();
        if !tied {
            unit.base = weight + bias;
            unit.weights = self.weight_bytes(slot, &path, (rows, cols), bias);
        }
        unit.linears = if slot.is_block_linear() { weight } else { 0 };
        let (matrix, vector) = ([rows, cols], [rows]);
        let bias_shape = self.spec.has_bias(slot).then_some(&vector[..]);
        let Some((options, matcher)) = lora else {
            if matches!(self.method, Method::Full) && !tied {
                self.train(&mut unit, &matrix);
                bias_shape.into_iter().for_each(|shape| self.train(&mut unit, shape));
            }
            return unit;
        };
        let targeted = slot.is_block_linear() && matcher.matches(&path);
        if targeted {
            unit.adapter_params = (options.r * (rows + cols)) as u64;
            unit.adapter_ranks = options.r as u64;
            self.train(&mut unit, &[options.r, cols]);
            self.train(&mut unit, &[rows, options.r]);
        }
        unit.added = unit.adapter_params;
        if options.saves(&path) {
            unit.added += weight + bias;
            self.train(&mut unit, &matrix);
            bias_shape.into_iter().for_each(|shape| self.train(&mut unit, shape));
        } else if options.bias == Bias::All || (options.bias == Bias::LoraOnly && targeted) {
            bias_shape.into_iter().for_each(|shape| self.train(&mut unit, shape));
        }
        unit
    }

    /// Counts a trained tensor.
    fn train(&self, unit: &mut Unit, shape: &[usize]) {
        unit.trainable += shape.iter().product::<usize>() as u64;
        unit.state += optimizer::state_bytes(self.optimizer, shape);
    }

    /// Trained weights are f32 in memory; frozen matrices are quantised in memory, or are mapped as they are
    /// stored, in few bits too; what is quantised in a GGUF becomes f32 in memory. Norms and biases are f32.
    fn weight_bytes(&self, slot: Slot, path: &str, dims: (usize, usize), bias: u64) -> WeightBytes {
        let weight = (dims.0 * dims.1) as u64;
        let beside = WeightBytes { in_memory: 4 * bias, ..WeightBytes::default() };
        let in_memory = |bytes| WeightBytes { in_memory: bytes + 4 * bias, ..beside };
        let mapped = |bytes| WeightBytes { mapped: bytes, ..beside };
        if let Some(quantizer) = self.quantizer.filter(|q| q.takes(slot, path)) {
            let bytes = quantizer.layout.bytes(dims) as u64;
            return match self.codes {
                Codes::InMemory => in_memory(bytes),
                Codes::Kept => WeightBytes { kept: bytes, ..beside },
            };
        }
        let name = format!("{path}.weight");
        if let Some(layout) = (self.packed)(&name) {
            return mapped(layout.bytes(dims) as u64);
        }
        let frozen_matrix = !matches!(self.method, Method::Full) && !slot.is_norm();
        match (self.stored)(&name).filter(|_| frozen_matrix) {
            Some(dtype) => mapped(weight * dtype.size_in_bytes() as u64),
            None => in_memory(4 * weight),
        }
    }
}
