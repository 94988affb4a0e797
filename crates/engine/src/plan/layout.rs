//! What a training holds, by kind and by place: on one device, on several that share the blocks, and
//! on the host beside cards. Pure arithmetic on shapes; change it together with `decoder::saved`.
//!
//! Shapes: N tokens of the largest pass, C hidden_size, H heads, K kv heads, D head_dim,
//! F intermediate_size, V vocabulary, r rank.

use super::units::{Unit, Units};
use super::{MappedBytes, PlanBytes};
use crate::decoder::Recomputation;
use crate::decoder::passes::pass_tokens;
use crate::options::{ComputeDtype, Offload, PlanOptions};
use crate::spec::{DecoderSpec, Mlp, Residual};
use std::ops::Range;

/// What a process needs before it holds anything of a model: Node, the addon, the tokenizer and the rows,
/// packing buffers. Measured of the installed program: 60 to 70 MiB, and 20 more with a tokenizer of 49,152
/// tokens and 4,000 rows.
/// Counted for each device, whose runtime needs no less.
const PROCESS_BYTES: u64 = 75 << 20;
/// The share that the allocator adds to what it holds: between tensors lie gaps of less than 64 KiB.
const ALLOCATOR_SHARE: u64 = 64;
/// A FLOP of attention takes as long as so many of a linear: 215 GFLOP/s forward where products have 380.
const ATTENTION_COST: f64 = 1.8;
/// The bound on the head's tiles (`ops::head_loss`).
const LOSS_TILE_BYTES: u64 = 16 << 20;

/// The training that is planned.
pub(super) struct Layout<'a> {
    pub spec: &'a DecoderSpec,
    pub units: &'a Units,
    /// How weights and activations lie on cards that a host helps; `None`: this engine's own way, all
    /// in one memory.
    pub cards: Option<Cards>,
    /// The optimizer's state lies in a mapped file.
    pub paged: bool,
    pub compute_dtype: ComputeDtype,
}

/// Full fine-tuning on cards with a host beside them: weights and activations in the type that is
/// computed in, masters, gradients and states in f32 on the host.
#[derive(Clone, Copy)]
pub(super) struct Cards {
    pub offload: Offload,
    /// Bytes of a value that is computed with.
    pub value_bytes: u64,
    /// Whether the base model itself is trained.
    pub trains_base: bool,
}

/// The blocks on one device, and what stands before and after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub blocks: Range<usize>,
    pub embedding: bool,
    pub final_norm: bool,
    pub head: bool,
}

impl Layout<'_> {
    /// The whole decoder on one device.
    pub fn whole(&self) -> Part {
        Part { blocks: 0..self.spec.n_layers, embedding: true, final_norm: true, head: true }
    }

    /// Parts of several devices: the embedding on the first, the final norm and the head on the last. A
    /// tied head is the embedding, so the last block's output goes back to the first device.
    fn part(&self, device: usize, n_devices: usize, blocks: Range<usize>) -> Part {
        let (first, last) = (device == 0, device + 1 == n_devices);
        let head = if self.spec.tied_head { first } else { last };
        Part { blocks, embedding: first, final_norm: last, head }
    }

    /// Blocks go to the devices in order, so that the fullest device is as free as can be: what
    /// `device_map: auto` does, counted with all that a training holds.
    pub fn split(
        &self,
        size: PlanOptions,
        recomputation: Recomputation,
        budgets: &[u64],
    ) -> Vec<Part> {
        let n = self.spec.n_layers;
        // The blocks that each device takes where it may be filled to `share`; the last takes the rest.
        let filled = |share: f64| -> Vec<Part> {
            let mut begin = 0;
            let parts = budgets.iter().enumerate().map(|(device, &budget)| {
                let part = |end| self.part(device, budgets.len(), begin..end);
                let has_room = |end: usize| {
                    let bytes = self.bytes(&part(end), size, recomputation).0.total();
                    bytes as f64 <= share * budget as f64
                };
                let last = device + 1 == budgets.len();
                let end = if last { n } else { last_that(begin, n, has_room) };
                let made = part(end);
                begin = end;
                made
            });
            parts.collect()
        };
        let fullest = |parts: &[Part]| {
            let share = |(part, &budget): (&Part, &u64)| {
                self.bytes(part, size, recomputation).0.total() as f64 / budget.max(1) as f64
            };
            parts.iter().zip(budgets).map(share).fold(0.0, f64::max)
        };
        let (mut low, mut high) = (0.0, fullest(&filled(f64::INFINITY)).max(fullest(&filled(0.0))));
        for _ in 0..60 {
            let middle = (low + high) / 2.0;
            if fullest(&filled(middle)) <= middle { high = middle } else { low = middle }
        }
        filled(high)
    }

    /// What one device holds; and what of it lies in mapped files.
    pub fn bytes(
        &self,
        part: &Part,
        size: PlanOptions,
        recomputation: Recomputation,
    ) -> (PlanBytes, MappedBytes) {
        let unit = self.unit(part);
        let n = match self.cards {
            None => pass_tokens(size.seq_length, size.micro_batch),
            Some(_) => size.seq_length.saturating_mul(size.micro_batch),
        };
        let n = n as u64;
        let held = part.blocks.len() as u64;
        let Recomputation { blocks, keeps_attention } = recomputation;
        let again = (blocks.clamp(part.blocks.start, part.blocks.end) - part.blocks.start) as u64;
        let kept = held - again;
        let attended = if keeps_attention { again * self.attended_bytes() } else { 0 };
        let at_once = if again > 0 { kept.max(1) } else { kept };
        let c = self.spec.hidden_size as u64;
        let (stream, _) = self.value_bytes();
        let inside = self.block_bytes() * at_once + attended;
        let activations = n.saturating_mul(stream * c * (held + 2) + inside);
        let backward = n.saturating_mul(self.backward_bytes());
        let mut bytes = PlanBytes { activations, ..self.of_parameters(part, unit) };
        let tiles = if part.head { self.loss_bytes(n) } else { 0 };
        let mapped = match self.cards {
            None => MappedBytes {
                weights: unit.weights.mapped + unit.weights.kept,
                optimizer: if self.paged { bytes.optimizer } else { 0 },
            },
            Some(_) => MappedBytes::default(),
        };
        // What an earlier start kept counts as what the first one has allocated: both have one plan.
        let held = bytes.total().saturating_add(backward).saturating_add(unit.weights.kept);
        let allocated = held - mapped.weights - mapped.optimizer;
        let share = (allocated / ALLOCATOR_SHARE).saturating_add(tiles + PROCESS_BYTES);
        bytes.scratch = backward.saturating_add(share);
        (bytes, mapped)
    }

    /// What the host holds beside cards; `None` where nothing is asked of it.
    pub fn host_bytes(&self) -> Option<PlanBytes> {
        let Cards { offload, trains_base, .. } = self.cards?;
        let all = self.units.all();
        let mut bytes = PlanBytes { scratch: PROCESS_BYTES, ..PlanBytes::default() };
        if offload.optimizer {
            // Masters: the base where it is trained, else the adapter.
            let masters = 4 * all.trainable;
            if trains_base {
                bytes.weights = masters
            } else {
                bytes.adapter = masters
            }
            (bytes.gradients, bytes.optimizer) = (4 * all.trainable, all.state);
        }
        if offload.params && !(trains_base && offload.optimizer) {
            // Masters are the weights already; frozen ones, or a copy of their own, lie here too.
            bytes.weights = bytes.weights.saturating_add(self.card_weights(all));
        }
        Some(bytes)
    }

    /// Weights, adapter, gradients and optimizer state of one device.
    fn of_parameters(&self, part: &Part, unit: Unit) -> PlanBytes {
        let (weights, adapter) = (unit.weights.total(), 4 * unit.added);
        let (gradients, optimizer) = (4 * unit.trainable, unit.state);
        let Some(cards) = self.cards else {
            return PlanBytes { weights, adapter, gradients, optimizer, ..PlanBytes::default() };
        };
        let largest = |bytes: &dyn Fn(Unit) -> u64| {
            let units = [self.units.largest_block].into_iter().chain(self.outer(part));
            units.map(bytes).max().unwrap_or(0)
        };
        let card_gradient = if cards.trains_base { cards.value_bytes } else { 4 };
        // Masters lie where the optimizer is; in f32 the weights are their own.
        let has_masters = cards.trains_base && cards.value_bytes < 4 && !cards.offload.optimizer;
        let masters = if has_masters { 4 * unit.trainable } else { 0 };
        PlanBytes {
            // With parameters on the host, what is computed and what is fetched next.
            weights: masters
                + match cards.offload.params {
                    true => 2 * largest(&|unit| self.card_weights(unit)),
                    false => self.card_weights(unit),
                },
            adapter,
            // Folded into the host's as soon as a unit's backward has ended.
            gradients: match cards.offload.optimizer {
                true => card_gradient * largest(&|unit| unit.trainable),
                false => gradients,
            },
            optimizer: if cards.offload.optimizer { 0 } else { optimizer },
            ..PlanBytes::default()
        }
    }

    /// The base model as a card has it: in the type that is computed in where it is trained.
    fn card_weights(&self, unit: Unit) -> u64 {
        match self.cards {
            Some(Cards { trains_base: true, value_bytes, .. }) => value_bytes * unit.base,
            _ => unit.weights.total(),
        }
    }

    fn unit(&self, part: &Part) -> Unit {
        self.outer(part).fold(self.units.blocks(part.blocks.clone()), Unit::plus)
    }

    /// The units of a part that are no blocks.
    fn outer(&self, part: &Part) -> impl Iterator<Item = Unit> {
        let Units { embedding, final_norm, head, .. } = *self.units;
        let outer = [(part.embedding, embedding), (part.final_norm, final_norm), (part.head, head)];
        outer.into_iter().filter(|(here, _)| *here).map(|(_, unit)| unit)
    }

    /// Bytes of a token that a block keeps beside its input: h; q, k, v, attn, gate and up, which bf16 mode
    /// rounds; the adapters' inner values and the rows' statistics. n1 and n2 are computed again.
    fn block_bytes(&self) -> u64 {
        let spec = self.spec;
        let (c, f, q, kv) = self.widths();
        let gated = u64::from(matches!(spec.mlp, Mlp::Gated(_)));
        let sequential = u64::from(spec.residual == Residual::Sequential);
        let ranks = self.units.all().adapter_ranks / spec.n_layers.max(1) as u64;
        let rounded = q + 2 * kv + f * (1 + gated);
        let (stream, value) = self.value_bytes();
        self.attended_bytes() + value * rounded + stream * (c * sequential + ranks + 2)
    }

    /// Bytes of a token for attention's output and the statistics of its rows.
    fn attended_bytes(&self) -> u64 {
        let (stream, value) = self.value_bytes();
        value * self.widths().2 + stream * self.spec.n_heads as u64
    }

    /// Whether what attention made spares backward more, byte for byte, than all else that a block keeps. On
    /// cards it is never kept.
    pub fn attention_is_dear(&self, size: PlanOptions) -> bool {
        let spec = self.spec;
        let keys = (size.seq_length as f64 / 2.0)
            .min(spec.sliding_window.map_or(f64::INFINITY, |w| w as f64));
        let width = self.widths().2 as f64;
        let attention = 2.0 * 2.0 * width * keys * ATTENTION_COST;
        let rest = 2.0 * self.units.recomputed_linears(spec) as f64 / spec.n_layers.max(1) as f64;
        let attended_bytes = self.attended_bytes();
        let rest_bytes = (self.block_bytes() - attended_bytes) as f64;
        self.cards.is_none() && attention / attended_bytes as f64 >= rest / rest_bytes
    }

    /// Backward of one block holds at most m and dm (dgate and dup take the places of gate and up), or the
    /// gradients of q, k, v and of attention's output; beside them dy, the gradient below, n1 or n2, and the
    /// inner gradients of a group's adapters.
    fn backward_bytes(&self) -> u64 {
        let (c, f, q, kv) = self.widths();
        let (stream, value) = self.value_bytes();
        (f * (value + stream)).max(stream * (2 * q + 2 * kv)) + (3 * stream + value) * c
    }

    /// The head's tiles: all logits of a small vocabulary with x and dx, never more than their bound.
    fn loss_bytes(&self, n: u64) -> u64 {
        let spec = self.spec;
        let row = 4 * (spec.vocab_size + 2 * spec.hidden_size) as u64;
        n.saturating_mul(row).min(LOSS_TILE_BYTES)
    }

    /// Bytes of a value of the residual stream and of the gradients, and of one between a norm and it
    /// (`Ctx::activation_dtype`).
    fn value_bytes(&self) -> (u64, u64) {
        match (self.cards, self.compute_dtype) {
            (Some(cards), _) => (cards.value_bytes, cards.value_bytes),
            (None, ComputeDtype::Bf16) => (4, 2),
            (None, ComputeDtype::F32) => (4, 4),
        }
    }

    /// C, F, H·D, K·D.
    fn widths(&self) -> (u64, u64, u64, u64) {
        let DecoderSpec { hidden_size, intermediate_size, head_dim, .. } = *self.spec;
        let heads = |n: usize| (n * head_dim) as u64;
        let (q, kv) = (heads(self.spec.n_heads), heads(self.spec.n_kv_heads));
        (hidden_size as u64, intermediate_size as u64, q, kv)
    }
}

/// The largest of `from..=to` for which `holds`, which holds up to some number; `from` where none does.
fn last_that(from: usize, to: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (from, to);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if holds(middle) { low = middle } else { high = middle - 1 }
    }
    low
}
