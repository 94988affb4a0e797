//! The engine's options as they cross the bridge: one JSON object. Defaults, ranges and texts belong
//! to the schema in `ts/config`; here every field is given.

use crate::error::{Code, Error, Result};
use crate::model::Method;
use crate::model::adapter::LoraOptions;
use crate::model::quantize::QuantizationOptions;
use crate::model::quantized_cache::CacheOptions;
use crate::model::vocabulary::SaveEmbeddings;
use crate::optimizer::OptimizerOptions;
use crate::token_ids::TokenIds;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a session is opened with, and what a plan is made for.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineOptions {
    /// A Hugging Face folder or a GGUF file.
    pub model: PathBuf,
    pub compute_dtype: ComputeDtype,
    /// None: all that the machine has.
    pub threads: Option<usize>,
    pub seed: u64,
    pub method: MethodOptions,
    /// None: frozen weights keep the type that they are stored in.
    #[serde(default)]
    pub quantization: Option<QuantizationOptions>,
    /// Where weights that were quantised are kept for the next start; None: nowhere.
    #[serde(default)]
    pub quantized_cache: Option<CacheOptions>,
    /// A PEFT folder to go on from, or to generate with.
    pub adapter: Option<PathBuf>,
    pub optimizer: OptimizerOptions,
    /// None: as many blocks are recomputed as the memory asks for.
    pub gradient_checkpointing: Option<bool>,
    /// None: what the machine has free.
    pub memory_bytes: Option<u64>,
    pub plan: PlanOptions,
    /// What `plan` is asked about another machine, and of a model whose weights need not be here. None
    /// in training.
    #[serde(default)]
    pub question: Option<PlanQuestion>,
    /// Rows that embedding and head need at least; None: as many as the files have.
    #[serde(default)]
    pub vocab_rows: Option<usize>,
    #[serde(default)]
    pub save_embedding_layers: SaveEmbeddings,
    /// What a written model's config says of the tokenizer's special tokens.
    #[serde(default)]
    pub token_ids: TokenIds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComputeDtype {
    F32,
    Bf16,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum MethodOptions {
    None,
    Full,
    Lora(LoraOptions),
}

/// The largest micro-batch that a step will bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanOptions {
    pub seq_length: usize,
    pub micro_batch: usize,
    pub gradient_accumulation: usize,
}

/// A machine that is not this one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanQuestion {
    /// Bytes of each device's memory, in order. None: this machine.
    pub devices: Option<Vec<u64>>,
    /// What a host holds for the devices. None: nothing.
    pub offload: Option<Offload>,
}

/// DeepSpeed's `offload_optimizer` and `offload_param`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Offload {
    pub optimizer: bool,
    pub params: bool,
}

/// Options that are not what the bridge promises: a bug between TypeScript and Rust.
#[derive(Debug, thiserror::Error)]
#[error("the bridge's JSON can't be read or written: {source}")]
pub struct OptionsError {
    source: serde_json::Error,
}

impl OptionsError {
    pub fn code(&self) -> Code {
        Code::Internal
    }

    pub fn hint(&self) -> String {
        "This is a bug of lora-train; please report it with the command that you ran.".into()
    }
}

/// Reads options of any of the bridge's kinds.
pub fn parse<T: for<'de> Deserialize<'de>>(json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|source| Error::Options(OptionsError { source }))
}

/// Writes an answer for the bridge.
pub fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|source| Error::Options(OptionsError { source }))
}

impl From<&MethodOptions> for Method {
    fn from(options: &MethodOptions) -> Method {
        match options {
            MethodOptions::None => Method::Frozen,
            MethodOptions::Full => Method::Full,
            MethodOptions::Lora(lora) => Method::Lora(lora.clone()),
        }
    }
}

impl From<ComputeDtype> for crate::ctx::Precision {
    fn from(dtype: ComputeDtype) -> crate::ctx::Precision {
        match dtype {
            ComputeDtype::F32 => crate::ctx::Precision::F32,
            ComputeDtype::Bf16 => crate::ctx::Precision::Bf16,
        }
    }
}
