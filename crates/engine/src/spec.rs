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
