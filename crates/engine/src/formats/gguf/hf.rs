//! A GGUF file as Hugging Face would have it: names of tensors, order of rows, `config.json`.
//!
//! An architecture is one row of `ARCHITECTURES`. Reads no values but those of `rope_freqs`.

use super::rope;
use super::{Gguf, GgufTensor, Value};
use crate::formats::model::{Place, RowOrder, TensorInfo};
use crate::formats::{FormatError, Result};
use serde_json::{Map, json};

/// What differs between the architectures of GGUF.
struct Architecture {
    /// The value of `general.architecture`, and the prefix of its keys.
    name: &'static str,
    model_type: &'static str,
    class: &'static str,
    /// llama.cpp's converter interleaves the halves of each head's rows of q and k.
    interleaved_qk: bool,
}

const ARCHITECTURES: [Architecture; 1] = [Architecture {
    name: "llama",
    model_type: "llama",
    class: "LlamaForCausalLM",
    interleaved_qk: true,
}];

/// Modules outside the blocks.
const MODULES: [(&str, &str); 3] =
    [("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];

/// Modules of a block: `blk.N.…` and `model.layers.N.…`.
const BLOCK_MODULES: [(&str, &str); 9] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// What a `ModelFiles` is made of.
pub(in crate::formats) struct HfView {
    pub config: serde_json::Value,
    pub generation_config: serde_json::Value,
    pub tensors: Vec<(TensorInfo, Place)>,
}

/// Translates names and metadata, or says which of them has no counterpart.
pub(in crate::formats) fn view(gguf: &Gguf) -> Result<HfView> {
    let name = gguf.get("general.architecture").and_then(Value::as_str);
    let name = name.ok_or_else(|| missing(gguf, "general.architecture", "a text"))?;
    let Some(architecture) = ARCHITECTURES.iter().find(|a| a.name == name) else {
        return Err(FormatError::UnknownArchitecture {
            path: gguf.file.path.clone(),
            name: name.into(),
            known: ARCHITECTURES.iter().map(|a| a.name).collect(),
        });
    };
    let metadata = Metadata { gguf, prefix: architecture.name };
    let n_heads = metadata.count("attention.head_count")?;
    let n_kv_heads = metadata.optional_count("attention.head_count_kv")?.unwrap_or(n_heads);
    let n_layers = metadata.count("block_count")?;
    let mut tensors = Vec::with_capacity(gguf.tensors().len());
    for tensor in gguf.tensors() {
        if is_computed(&tensor.name) {
            continue;
        }
        let Some(hf_name) = hf_name(&tensor.name, n_layers) else {
            return Err(FormatError::UnknownTensor {
                path: gguf.file.path.clone(),
                tensor: tensor.name.clone(),
                architecture: architecture.name,
            });
        };
        let heads = match () {
            _ if hf_name.contains(".self_attn.q_proj.") => Some(n_heads),
            _ if hf_name.contains(".self_attn.k_proj.") => Some(n_kv_heads),
            _ => None,
        };
        let rows = match heads.filter(|_| architecture.interleaved_qk) {
            Some(heads) => interleaved(gguf, tensor, heads)?,
            None => RowOrder::AsIs,
        };
        let (shape, dtype, bytes) = (tensor.shape.clone(), tensor.dtype, tensor.bytes);
        let info = TensorInfo { name: hf_name, shape, dtype, bytes };
        tensors.push((info, Place { file: 0, begin: tensor.begin, rows }));
    }
    let ids = token_ids(gguf);
    let mut config = config(&metadata, architecture, (n_layers, n_heads, n_kv_heads))?;
    config.extend(ids.clone());
    Ok(HfView {
        config: config.into(),
        generation_config: generation_config(gguf, ids).into(),
        tensors,
    })
}

/// Tensors that hold what Hugging Face computes; `rope_freqs` comes back as a scaling in the config.
fn is_computed(name: &str) -> bool {
    name == rope::FREQS || name.ends_with(".attn_rot_embd")
}

fn hf_name(name: &str, n_layers: u64) -> Option<String> {
    let (module, kind) = name.rsplit_once('.')?;
    if !matches!(kind, "weight" | "bias") {
        return None;
    }
    let Some(in_block) = module.strip_prefix("blk.") else {
        let (_, hf) = MODULES.iter().find(|(gguf, _)| *gguf == module)?;
        return Some(format!("{hf}.{kind}"));
    };
    let (layer, module) = in_block.split_once('.')?;
    let number: u64 = layer.parse().ok().filter(|n| *n < n_layers)?;
    let (_, hf) = BLOCK_MODULES.iter().find(|(gguf, _)| *gguf == module)?;
    Some(format!("model.layers.{number}.{hf}.{kind}"))
}

/// The order of q's or k's rows, if they can be in that order.
fn interleaved(gguf: &Gguf, tensor: &GgufTensor, heads: u64) -> Result<RowOrder> {
    let rows = tensor.shape.first().copied().unwrap_or(0);
    let heads = usize::try_from(heads).unwrap_or(0);
    let halves =
        heads.checked_mul(2).filter(|&halves| halves > 0 && rows > 0 && rows % halves == 0);
    // A row must be whole bytes, and some: a bias in blocks has none.
    if halves.is_none()
        || tensor.bytes == 0
        || !tensor.bytes.is_multiple_of(rows)
        || (tensor.shape.len() == 1 && tensor.dtype.block().0 > 1)
    {
        return Err(FormatError::TensorShape {
            path: gguf.file.path.clone(),
            tensor: tensor.name.clone(),
            shape: tensor.shape.clone(),
            needed: format!("rows for {heads} heads of even size"),
        });
    }
    Ok(RowOrder::Interleaved { heads })
}

fn config(
    metadata: &Metadata,
    architecture: &Architecture,
    (n_layers, n_heads, n_kv_heads): (u64, u64, u64),
) -> Result<Map<String, serde_json::Value>> {
    let gguf = metadata.gguf;
    let hidden_size = metadata.count("embedding_length")?;
    let rotary_dim = metadata.optional_count("rope.dimension_count")?;
    let head_dim = match metadata.optional_count("attention.key_length")?.or(rotary_dim) {
        Some(head_dim) => head_dim,
        None => hidden_size.checked_div(n_heads).unwrap_or(0),
    };
    if rotary_dim.is_some_and(|dim| dim != head_dim) {
        return Err(metadata.missing("rope.dimension_count", "the head's size"));
    }
    let rope = rope::parameters(metadata, head_dim)?;
    let has = |end: &str| {
        gguf.tensors().iter().any(|t| t.name.starts_with("blk.") && t.name.ends_with(end))
    };
    let attention_bias =
        ["attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_output.bias"].into_iter().any(has);
    let mlp_bias = ["ffn_gate.bias", "ffn_up.bias", "ffn_down.bias"].into_iter().any(has);
    let embedding = gguf.tensors().iter().find(|t| t.name == "token_embd.weight");
    let embedding = embedding.ok_or_else(|| FormatError::MissingTensor {
        path: gguf.file.path.clone(),
        tensor: "token_embd.weight".into(),
    })?;
    let value = json!({
        "architectures": [architecture.class],
        "model_type": architecture.model_type,
        "attention_bias": attention_bias,
        "mlp_bias": mlp_bias,
        "dtype": "float32",
        "head_dim": head_dim,
        "hidden_act": "silu",
        "hidden_size": hidden_size,
        "intermediate_size": metadata.count("feed_forward_length")?,
        "max_position_embeddings": metadata.count("context_length")?,
        "num_attention_heads": n_heads,
        "num_hidden_layers": n_layers,
        "num_key_value_heads": n_kv_heads,
        "rms_norm_eps": metadata.float("attention.layer_norm_rms_epsilon")?,
        "rope_parameters": rope,
        "tie_word_embeddings": !gguf.tensors().iter().any(|t| t.name == "output.weight"),
        // The rows that there are; the metadata's count may leave out padding.
        "vocab_size": embedding.shape.first(),
    });
    match value {
        serde_json::Value::Object(map) => Ok(map),
        _ => Ok(Map::new()),
    }
}

/// The ids of the special tokens that the file names, under the config's keys.
fn token_ids(gguf: &Gguf) -> Map<String, serde_json::Value> {
    let mut ids = Map::new();
    for (hf, key) in [("bos_token_id", "bos"), ("eos_token_id", "eos"), ("pad_token_id", "padding")]
    {
        if let Some(id) = token_id(gguf, key) {
            ids.insert(hf.into(), id.into());
        }
    }
    ids
}

fn token_id(gguf: &Gguf, key: &str) -> Option<u64> {
    gguf.get(&format!("tokenizer.ggml.{key}_token_id")).and_then(Value::as_u64)
}

/// An end of turn, where it is another token than the end of text, ends an answer too.
fn generation_config(
    gguf: &Gguf,
    mut ids: Map<String, serde_json::Value>,
) -> Map<String, serde_json::Value> {
    if let (Some(eos), Some(eot)) = (token_id(gguf, "eos"), token_id(gguf, "eot"))
        && eos != eot
    {
        ids.insert("eos_token_id".into(), json!([eos, eot]));
    }
    ids
}

fn missing(gguf: &Gguf, key: &str, needed: &'static str) -> FormatError {
    FormatError::MetadataKey { path: gguf.file.path.clone(), key: key.into(), needed }
}

/// The metadata under an architecture's prefix.
pub(super) struct Metadata<'a> {
    pub gguf: &'a Gguf,
    prefix: &'static str,
}

impl Metadata<'_> {
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.gguf.get(&format!("{}.{key}", self.prefix))
    }

    pub fn missing(&self, key: &str, needed: &'static str) -> FormatError {
        missing(self.gguf, &format!("{}.{key}", self.prefix), needed)
    }

    fn count(&self, key: &str) -> Result<u64> {
        self.optional_count(key)?.ok_or_else(|| self.missing(key, "a whole number"))
    }

    /// A whole number, or a list with one number for each block, all equal.
    pub fn optional_count(&self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let of_list = || {
            let list = value.as_i32s()?;
            let (first, rest) = list.split_first()?;
            u64::try_from(*first).ok().filter(|_| rest.iter().all(|v| v == first))
        };
        let count = value.as_u64().or_else(of_list);
        count.map(Some).ok_or_else(|| self.missing(key, "a whole number, the same for all blocks"))
    }

    pub fn optional_float(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let finite = value.as_f64().filter(|v| v.is_finite());
        finite.map(Some).ok_or_else(|| self.missing(key, "a finite number"))
    }

    fn float(&self, key: &str) -> Result<f64> {
        self.optional_float(key)?.ok_or_else(|| self.missing(key, "a finite number"))
    }
}
