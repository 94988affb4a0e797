//! A decoder's modules with their weights, gradients and adapters. Holds state, computes nothing:
//! the passes over it are in `decoder/`.

pub mod adapter;
pub mod adapter_files;
pub mod check;
mod error;
mod load;
mod old_entries;
pub mod quantize;
pub mod quantized_cache;
mod source;
pub mod verify;
pub mod vocabulary;
pub mod write;
pub mod write_quantized;

pub use error::ModelError;
pub use load::{Given, LoadOptions, Loaded, Method, load, load_given};
pub use source::Source;

use crate::Result;
use crate::ctx::Ctx;
use crate::families::Family;
use crate::ops::rope::RopeTables;
use crate::spec::{DecoderSpec, Positions};
use crate::weight::Weight;
use candle_core::Tensor;

/// A decoder that was read from files, ready for passes.
pub struct Model {
    pub ctx: Ctx,
    pub spec: DecoderSpec,
    pub family: &'static Family,
    pub embedding: Linear,
    pub embedding_norm: Option<NormModule>,
    pub blocks: Vec<Block>,
    pub final_norm: NormModule,
    /// Shares its weight and its gradient with the embedding where the head is tied.
    pub head: Linear,
    /// Everything that is trained, in the order of the modules.
    pub params: Vec<Param>,
    /// The LoRA options the adapter was made with; none in full fine-tuning.
    pub adapter: Option<adapter::LoraOptions>,
    pub adapter_enabled: bool,
    /// Parameters of the base model, a tied head counted once.
    pub base_params: usize,
    /// Tensors of the files that no module asked for.
    pub unused_tensors: Vec<String>,
    pub vocabulary: vocabulary::Vocabulary,
    /// Rotary tables for the longest sequence so far.
    rope: Option<(usize, RopeTables)>,
}

/// One transformer block. `qkv` is one fused linear or the three of q, k and v.
pub struct Block {
    pub attention_norm: NormModule,
    pub qkv: Vec<Linear>,
    pub q_norm: Option<NormModule>,
    pub k_norm: Option<NormModule>,
    pub o: Linear,
    pub mlp_norm: Option<NormModule>,
    /// Only where the MLP is gated.
    pub gate: Option<Linear>,
    pub up: Linear,
    pub down: Linear,
}

/// `y = x Wᵀ + b (+ the low-rank term)`. A gradient is there where the tensor is trained.
pub struct Linear {
    /// The checkpoint's module path, such as `model.layers.0.self_attn.q_proj`.
    pub name: String,
    pub weight: Weight,
    pub bias: Option<Tensor>,
    pub dweight: Option<Tensor>,
    pub dbias: Option<Tensor>,
    pub lora: Option<Lora>,
}

/// The adapter of one linear. Shapes: a, da `[r, I]` · b, db `[O, r]`.
pub struct Lora {
    pub a: Tensor,
    pub b: Tensor,
    pub da: Tensor,
    pub db: Tensor,
    /// `lora_alpha / r`, or `lora_alpha / √r` with rsLoRA.
    pub scale: f32,
    pub dropout: f32,
    /// Counts the adapters of a model: the key of its dropout mask.
    pub index: u32,
}

pub struct NormModule {
    pub name: String,
    pub weight: Tensor,
    pub bias: Option<Tensor>,
    pub dweight: Option<Tensor>,
    pub dbias: Option<Tensor>,
}

/// A trained tensor. `value` and `grad` share their storage with the module that uses them.
pub struct Param {
    /// The checkpoint's tensor name, or PEFT's key for an adapter's.
    pub name: String,
    pub value: Tensor,
    pub grad: Tensor,
    /// Whether weight decay applies: not to norms and biases, as in Transformers' Trainer.
    pub decay: bool,
    /// A tensor of the base model itself, not an addition to it or a copy beside it.
    pub in_base: bool,
}

impl Model {
    /// Makes rotary tables that reach `len` positions, where positions are rotary and the tables at
    /// hand don't.
    pub fn rope_tables(&mut self, len: usize) -> Result<()> {
        if !matches!(self.spec.positions, Positions::Rope { .. }) {
            return Ok(());
        }
        // The dynamic variant has other frequencies for each length beyond the trained one.
        let trained = self.spec.max_positions;
        let fits = |have: usize| have == len || (have > len && have <= trained);
        if !self.rope.as_ref().is_some_and(|(have, _)| fits(*have)) {
            self.rope = Some((len, RopeTables::new(&self.ctx, &self.spec.positions, len)?));
        }
        Ok(())
    }

    pub fn current_rope(&self) -> Option<&RopeTables> {
        self.rope.as_ref().map(|(_, tables)| tables)
    }

    pub fn trainable_params(&self) -> usize {
        self.params.iter().map(|p| p.value.elem_count()).sum()
    }

    /// All parameters as PEFT counts them: the base's, and what the adapter adds or copies.
    pub fn all_params(&self) -> usize {
        let added = self.params.iter().filter(|p| !p.in_base);
        self.base_params + added.map(|p| p.value.elem_count()).sum::<usize>()
    }

    /// Every linear of the blocks, in order.
    pub fn block_linears(&self) -> impl Iterator<Item = &Linear> {
        self.blocks.iter().flat_map(Block::linears)
    }
}

impl Block {
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        let mlp = self.gate.iter().chain([&self.up, &self.down]);
        self.qkv.iter().chain([&self.o]).chain(mlp)
    }
}
