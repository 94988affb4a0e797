//! Writes a model as a Hugging Face folder: config, generation config, safetensors in shards.
//!
//! Tensor by tensor: one tensor is held beside the model, never a second model. The tokenizer's files
//! are written by its own part into the same `OutFolder`. Knows no code of quantised weights.

use super::dtype::StoredDtype;
use super::write::{OutFile, OutFolder, TensorHead, bytes_of, header};
use super::{FormatError, Result};
use half::{bf16, f16};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Bytes of a shard: as `save_pretrained` splits by default.
pub const SHARD_BYTES_MAX: u64 = 5_000_000_000;

/// The dtype that a model is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SavedDtype {
    F32,
    Bf16,
    F16,
}

impl SavedDtype {
    /// The dtype that loses nothing of a tensor: its own, or f32 where it is another than these.
    pub fn keeping(stored: StoredDtype) -> SavedDtype {
        match stored {
            StoredDtype::Bf16 => SavedDtype::Bf16,
            StoredDtype::F16 => SavedDtype::F16,
            _ => SavedDtype::F32,
        }
    }

    pub fn stored(self) -> StoredDtype {
        match self {
            SavedDtype::F32 => StoredDtype::F32,
            SavedDtype::Bf16 => StoredDtype::Bf16,
            SavedDtype::F16 => StoredDtype::F16,
        }
    }

    /// Bytes of a tensor of this shape, which is one that is in memory.
    pub fn bytes_of(self, shape: &[usize]) -> u64 {
        bytes_of(self.stored(), shape)
    }

    pub fn candle(self) -> candle_core::DType {
        self.stored().plain().expect("all three are plain")
    }

    /// PyTorch's name, as `config.json` has it.
    fn torch_name(self) -> &'static str {
        match self {
            SavedDtype::F32 => "float32",
            SavedDtype::Bf16 => "bfloat16",
            SavedDtype::F16 => "float16",
        }
    }
}

/// What is to be written. A head that is tied to the embedding is left out of `tensors`.
pub struct ModelToWrite<'a> {
    pub config: &'a Value,
    pub generation_config: Option<&'a Value>,
    /// Names and shapes, in the order that fills the shards.
    pub tensors: &'a [(String, Vec<usize>)],
    pub dtype: SavedDtype,
    pub max_shard_bytes: u64,
}

/// Writes a folder of a model and nothing else. See `write_model`.
pub fn write_model_folder<E: From<FormatError>>(
    target: &Path,
    model: &ModelToWrite,
    fetch: impl FnMut(&str) -> Result<Vec<f32>, E>,
) -> Result<(), E> {
    let folder = OutFolder::create(target)?;
    write_model(&folder, model, fetch)?;
    Ok(folder.finish(is_weight_file)?)
}

/// Writes `config.json`, `generation_config.json` and the weights; `fetch` gives the values of a tensor
/// by name. Values are rounded to the nearest of the dtype, ties to even.
pub fn write_model<E: From<FormatError>>(
    folder: &OutFolder,
    model: &ModelToWrite,
    mut fetch: impl FnMut(&str) -> Result<Vec<f32>, E>,
) -> Result<(), E> {
    let configs = (model.config, model.generation_config);
    write_configs(folder, configs, model.dtype, None)?;
    let dtype = model.dtype.stored();
    let tensors: Vec<TensorHead> = model
        .tensors
        .iter()
        .map(|(name, shape)| (name.as_str(), dtype, shape.as_slice()))
        .collect();
    // A type of one byte counts the values.
    let params = tensors.iter().map(|(_, _, shape)| bytes_of(StoredDtype::U8, shape)).sum();
    write_weights(folder, &tensors, (params, model.max_shard_bytes), |file, i| {
        let (name, _, shape) = tensors[i];
        let values = fetch(name)?;
        assert_eq!(
            values.len(),
            shape.iter().product::<usize>(),
            "`{name}` has the values of its shape"
        );
        Ok(write_values(file, &values, model.dtype)?)
    })
}

/// Writes `config.json`, with the dtype and the quantisation of the weights, and `generation_config.json`.
pub fn write_configs(
    folder: &OutFolder,
    (config, generation_config): (&Value, Option<&Value>),
    dtype: SavedDtype,
    quantization: Option<Value>,
) -> Result<()> {
    folder.write("config.json", &pretty(&written_config(config, dtype, quantization)))?;
    match generation_config {
        Some(config) => folder.write("generation_config.json", &pretty(config)),
        None => Ok(()),
    }
}

/// Writes the weights, in the order that fills the shards, and the index where there are several; `fill`
/// writes the bytes of the tensor at a place of `tensors`. `params` is what the index says of the model.
pub fn write_weights<E: From<FormatError>>(
    folder: &OutFolder,
    tensors: &[TensorHead],
    (params, max_shard_bytes): (u64, u64),
    mut fill: impl FnMut(&mut OutFile, usize) -> Result<(), E>,
) -> Result<(), E> {
    let shards = shards(tensors, max_shard_bytes);
    let mut weight_map = BTreeMap::new();
    for (i, shard) in shards.iter().enumerate() {
        let name = match shards.len() {
            1 => "model.safetensors".to_owned(),
            n => format!("model-{:05}-of-{n:05}.safetensors", i + 1),
        };
        write_shard(folder, &name, tensors, shard, &mut fill)?;
        weight_map.extend(shard.iter().map(|&tensor| (tensors[tensor].0, name.clone())));
    }
    if shards.len() > 1 {
        let bytes: u64 = tensors.iter().map(|(_, dtype, shape)| bytes_of(*dtype, shape)).sum();
        let index = json!({
            "metadata": {"total_parameters": params, "total_size": bytes},
            "weight_map": weight_map,
        });
        folder.write("model.safetensors.index.json", &pretty(&index))?;
    }
    Ok(())
}

/// Whether a file holds weights of a model, so that it must not outlive the model that it is of.
pub fn is_weight_file(name: &str) -> bool {
    let shard =
        name.starts_with("model-") && name.ends_with(".safetensors") && name.contains("-of-");
    shard || matches!(name, "model.safetensors" | "model.safetensors.index.json")
}

/// The config with the dtype that is written, under the keys that it had, and with the quantisation that is:
/// where weights are written plain, it says nothing of one.
fn written_config(config: &Value, dtype: SavedDtype, quantization: Option<Value>) -> Value {
    let mut config = config.clone();
    if let Some(map) = config.as_object_mut() {
        let name = dtype.torch_name();
        match map.get_mut("torch_dtype") {
            // The older spelling; a config may have both.
            Some(old) => {
                *old = name.into();
                map.entry("dtype").and_modify(|new| *new = name.into());
            }
            None => {
                map.insert("dtype".into(), name.into());
            }
        }
        map.remove("quantization_config");
        map.extend(quantization.map(|section| ("quantization_config".into(), section)));
    }
    config
}

/// Indented by two with a newline at the end, as Transformers writes JSON.
fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// The tensors of each shard, as `split_torch_state_dict_into_shards` cuts them: filled in order; one
/// that is larger than a shard stands alone.
fn shards(tensors: &[TensorHead], max_shard_bytes: u64) -> Vec<Vec<usize>> {
    let (mut shards, mut current, mut current_bytes) = (Vec::new(), Vec::new(), 0);
    for (i, (_, dtype, shape)) in tensors.iter().enumerate() {
        let bytes = bytes_of(*dtype, shape);
        if bytes > max_shard_bytes {
            shards.push(vec![i]);
            continue;
        }
        if current_bytes + bytes > max_shard_bytes {
            shards.push(std::mem::take(&mut current));
            current_bytes = 0;
        }
        current.push(i);
        current_bytes += bytes;
    }
    if !current.is_empty() {
        shards.push(current);
    }
    shards
}

fn write_shard<E: From<FormatError>>(
    folder: &OutFolder,
    name: &str,
    tensors: &[TensorHead],
    shard: &[usize],
    fill: &mut impl FnMut(&mut OutFile, usize) -> Result<(), E>,
) -> Result<(), E> {
    let described: Vec<TensorHead> = shard.iter().map(|&i| tensors[i]).collect();
    let (order, header) = header(&described, &BTreeMap::from([("format".into(), "pt".into())]));
    folder.write_with(name, |file| {
        file.write_all(&header)?;
        order.into_iter().try_for_each(|i| fill(file, shard[i]))
    })
}

/// Converts and writes piece by piece.
pub fn write_values(file: &mut OutFile, values: &[f32], dtype: SavedDtype) -> Result<()> {
    const PIECE: usize = 1 << 15;
    let mut bytes = Vec::with_capacity(4 * PIECE);
    for piece in values.chunks(PIECE) {
        bytes.clear();
        match dtype {
            SavedDtype::F32 => bytes.extend(piece.iter().flat_map(|v| v.to_le_bytes())),
            SavedDtype::Bf16 => {
                bytes.extend(piece.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()))
            }
            SavedDtype::F16 => {
                bytes.extend(piece.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()))
            }
        }
        file.write_all(&bytes)?;
    }
    Ok(())
}
