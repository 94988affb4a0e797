//! `DecoderSpec`: what a decoder-only transformer is made of, as data.
//!
//! A family (one file in `families/`) turns `config.json` into this; the one decoder in `decoder/`
//! runs it. Nothing here reads files or holds tensors.

/// A decoder: embedding, `n_layers` equal blocks, final norm, head.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderSpec {
    /// HF's `model_type`.
    pub model_type: String,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub n_layers: usize,
    pub n_heads: usize,
    /// Key and value heads; `n_heads` is a multiple of it.
    pub n_kv_heads: usize,
    pub head_dim: usize,
    pub norm: Norm,
    /// A norm of the same kind right after the embedding (BLOOM).
    pub embedding_norm: bool,
    /// The embedding's output is multiplied by this (Gemma), 1 elsewhere.
    pub embedding_scale: f32,
    pub positions: Positions,
    pub residual: Residual,
    pub qkv: QkvLayout,
    pub attention_scale: f32,
    /// q, k and v are clamped to ±this (MPT).
    pub clip_qkv: Option<f32>,
    /// A key is seen by the `n` queries from its own position on (Mistral).
    pub sliding_window: Option<usize>,
    /// An RMS norm over each head of q and k (Qwen3).
    pub qk_norm: bool,
    pub mlp: Mlp,
    pub biases: Biases,
    pub tied_head: bool,
    /// Longest sequence that the model was made for; a warning, not a bound, where positions are computed.
    pub max_positions: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm {
    /// `w · x / rms(x)`; with `one_plus` the factor is `1 + w` (Gemma).
    Rms { eps: f32, one_plus: bool },
    /// `w · (x − mean) / std (+ b)`.
    Layer { eps: f32, bias: bool },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Positions {
    /// Rotary embedding of the first `rotary_dim` values of each head, halves rotated (NeoX style).
    Rope { rotary_dim: usize, theta: f64, scaling: RopeScaling },
    /// `slope · key position` is added to the scores, one slope per head.
    Alibi { slopes: Vec<f32> },
}

/// The rotary scaling variants of Transformers' `modeling_rope_utils`.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    None,
    Linear {
        factor: f64,
    },
    Dynamic {
        factor: f64,
        max_positions: usize,
    },
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_max_positions: usize,
    },
    Yarn(YarnScaling),
}

#[derive(Clone, Debug, PartialEq)]
pub struct YarnScaling {
    pub factor: f64,
    pub beta_fast: f64,
    pub beta_slow: f64,
    pub original_max_positions: usize,
    /// Factor on cos and sin; already resolved from `attention_factor`, `mscale` and `mscale_all_dim`.
    pub attention_factor: f64,
    /// Whether the correction range is rounded to whole dimensions.
    pub truncate: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// `x += attn(norm1(x)); x += mlp(norm2(x))`.
    Sequential,
    /// `x += attn(norm1(x)) + mlp(norm1(x))`.
    ParallelOneNorm,
    /// `x += attn(norm1(x)) + mlp(norm2(x))`.
    ParallelTwoNorms,
}

/// How the rows of the projections to q, k and v lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkvLayout {
    /// Three linears.
    Separate,
    /// One linear; rows `[q heads; k heads; v heads]` (MPT, Falcon with multi-query).
    Fused,
    /// One linear; rows `[head][q, k, v][head_dim]` (BLOOM, GPT-NeoX, falcon-rw).
    FusedPerHead,
    /// One linear; rows `[kv head][its q heads…, k, v][head_dim]` (Falcon 40B).
    FusedPerGroup,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mlp {
    /// `down(act(gate(x)) · up(x))`.
    Gated(Activation),
    /// `down(act(up(x)))`.
    Plain(Activation),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    Silu,
    /// By erf.
    Gelu,
    GeluTanh,
}

/// Which linears have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Biases {
    pub qkv: bool,
    pub o: bool,
    pub mlp: bool,
    pub head: bool,
}

impl DecoderSpec {
    /// The slots of one block, in the order of a checkpoint.
    pub fn block_slots(&self) -> Vec<Slot> {
        let mut slots = vec![Slot::AttentionNorm];
        match self.qkv {
            QkvLayout::Separate => slots.extend([Slot::Q, Slot::K, Slot::V]),
            _ => slots.push(Slot::Qkv),
        }
        if self.qk_norm {
            slots.extend([Slot::QNorm, Slot::KNorm]);
        }
        slots.push(Slot::O);
        if self.residual != Residual::ParallelOneNorm {
            slots.push(Slot::MlpNorm);
        }
        if matches!(self.mlp, Mlp::Gated(_)) {
            slots.push(Slot::Gate);
        }
        slots.extend([Slot::Up, Slot::Down]);
        slots
    }

    /// The modules outside the blocks that have weights of their own, in the order of a checkpoint.
    pub fn outer_slots(&self) -> Vec<Slot> {
        let mut slots = vec![Slot::Embedding];
        slots.extend(self.embedding_norm.then_some(Slot::EmbeddingNorm));
        slots.push(Slot::FinalNorm);
        slots.extend((!self.tied_head).then_some(Slot::Head));
        slots
    }

    /// Values of weight and bias in a slot.
    pub fn slot_params(&self, slot: Slot) -> u64 {
        let (rows, cols) = self.weight_dims(slot);
        let bias = if self.has_bias(slot) { rows as u64 } else { 0 };
        (rows as u64).saturating_mul(cols as u64).saturating_add(bias)
    }

    /// All parameters, a tied head counted once.
    pub fn n_params(&self) -> u64 {
        let sum = |slots: Vec<Slot>| {
            slots.into_iter().map(|slot| self.slot_params(slot)).fold(0, u64::saturating_add)
        };
        sum(self.block_slots())
            .saturating_mul(self.n_layers as u64)
            .saturating_add(sum(self.outer_slots()))
    }

    /// `(out, in)` of the weight in a slot; norms are `(len, 1)`.
    pub fn weight_dims(&self, slot: Slot) -> (usize, usize) {
        let (c, f, d) = (self.hidden_size, self.intermediate_size, self.head_dim);
        let (q, kv) = (self.n_heads * d, self.n_kv_heads * d);
        match slot {
            Slot::Embedding | Slot::Head => (self.vocab_size, c),
            Slot::Q => (q, c),
            Slot::K | Slot::V => (kv, c),
            Slot::Qkv => (q + 2 * kv, c),
            Slot::O => (c, q),
            Slot::Gate | Slot::Up => (f, c),
            Slot::Down => (c, f),
            Slot::QNorm | Slot::KNorm => (d, 1),
            Slot::EmbeddingNorm | Slot::AttentionNorm | Slot::MlpNorm | Slot::FinalNorm => (c, 1),
        }
    }

    pub fn has_bias(&self, slot: Slot) -> bool {
        match slot {
            Slot::Q | Slot::K | Slot::V | Slot::Qkv => self.biases.qkv,
            Slot::O => self.biases.o,
            Slot::Gate | Slot::Up | Slot::Down => self.biases.mlp,
            Slot::Head => self.biases.head,
            Slot::QNorm | Slot::KNorm | Slot::Embedding => false,
            Slot::EmbeddingNorm | Slot::AttentionNorm | Slot::MlpNorm | Slot::FinalNorm => {
                matches!(self.norm, Norm::Layer { bias: true, .. })
            }
        }
    }
}

impl Slot {
    pub fn is_norm(self) -> bool {
        use Slot::*;
        matches!(self, EmbeddingNorm | AttentionNorm | QNorm | KNorm | MlpNorm | FinalNorm)
    }

    /// A linear inside a block: what `all-linear` means.
    pub fn is_block_linear(self) -> bool {
        use Slot::*;
        matches!(self, Q | K | V | Qkv | O | Gate | Up | Down)
    }
}

/// Where a module stands in the decoder. A family maps each to the checkpoint's module name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    Embedding,
    EmbeddingNorm,
    AttentionNorm,
    Q,
    K,
    V,
    /// The one linear of a fused layout.
    Qkv,
    QNorm,
    KNorm,
    O,
    MlpNorm,
    Gate,
    Up,
    Down,
    FinalNorm,
    Head,
}
