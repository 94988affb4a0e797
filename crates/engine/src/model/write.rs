//! A whole model as a Hugging Face folder, tensor by tensor.

use super::Model;
use crate::ctx::read;
use crate::formats::hf_folder::{ModelToWrite, SHARD_BYTES_MAX, SavedDtype, write_model_folder};
use crate::formats::{ModelFiles, StoredDtype, TensorInfo};
use crate::signal::Signal;
use crate::{Error, Result};
use serde_json::Value;
use std::path::Path;

/// Writes trained values where there are any, the files' own elsewhere, in the dtype that most of the
/// model was stored in; what was quantised is written as f32. The names are those of the files. The
/// config names the rows that the vocabulary has now, and the tokenizer's ids. `signal` counts bytes.
pub fn write(model: &Model, files: &ModelFiles, dir: &Path, signal: &Signal) -> Result<()> {
    write_as(model, files, dir, stored_dtype(files), signal)
}

/// Bytes of the tensors that [`write_as`] writes.
pub fn bytes(model: &Model, files: &ModelFiles, dtype: SavedDtype) -> u64 {
    written(model, files).iter().map(|(_, shape)| dtype.bytes_of(shape)).sum()
}

/// As [`write`], in a dtype of the caller's choice. `signal` counts bytes.
pub fn write_as(
    model: &Model,
    files: &ModelFiles,
    dir: &Path,
    dtype: SavedDtype,
    signal: &Signal,
) -> Result<()> {
    let tensors = written(model, files);
    let (config, generation_config) = configs(model, files);
    let to_write = ModelToWrite {
        config: &config,
        generation_config: generation_config.as_ref(),
        tensors: &tensors,
        dtype,
        max_shard_bytes: SHARD_BYTES_MAX,
    };
    // A tensor is fetched when the one before it is written.
    let mut writing = 0;
    write_model_folder(dir, &to_write, |stored| {
        let name = model.family.module_name(stored);
        let values = match model.params.iter().find(|p| p.name == name) {
            Some(param) => read::<f32, _>(&param.value, <[f32]>::to_vec)?,
            None => files.read_f32(&name)?.1,
        };
        signal.advance(std::mem::replace(&mut writing, dtype.bytes_of(&[values.len()])));
        Ok::<_, Error>(values)
    })?;
    signal.advance(writing);
    Ok(())
}

/// Name in the files and shape of each tensor that is written: the weights that the model has, once.
pub(super) fn written(model: &Model, files: &ModelFiles) -> Vec<(String, Vec<usize>)> {
    let [embedding, head] =
        [&model.embedding, &model.head].map(|linear| format!("{}.weight", linear.name));
    let kept = files.tensors().iter().filter(|t| {
        let repeated = model.spec.tied_head && t.name == head;
        // What is no weight is a buffer, such as a causal mask, that every reader makes for itself.
        !repeated && t.dtype.is_weight() && !model.unused_tensors.contains(&t.name)
    });
    let shape = |t: &TensorInfo| match t.name == embedding || t.name == head {
        true => vec![model.spec.vocab_size, model.spec.hidden_size],
        false => t.shape.clone(),
    };
    kept.map(|t| (model.family.stored_name(&t.name), shape(t))).collect()
}

/// `config.json` and `generation_config.json` as they are written.
pub(super) fn configs(model: &Model, files: &ModelFiles) -> (Value, Option<Value>) {
    let mut config = files.config().clone();
    let mut generation_config = files.generation_config().cloned();
    if let Some(config) = config.as_object_mut() {
        if model.spec.vocab_size != model.vocabulary.stored_rows {
            config.insert("vocab_size".into(), model.spec.vocab_size.into());
        }
        let generation = generation_config.as_mut().and_then(Value::as_object_mut);
        model.vocabulary.ids.align(config, generation);
    }
    (config, generation_config)
}

pub(crate) fn stored_dtype(files: &ModelFiles) -> SavedDtype {
    let bytes =
        |dtype| files.tensors().iter().filter(|t| t.dtype == dtype).map(|t| t.bytes).sum::<usize>();
    let total: usize = files.tensors().iter().map(|t| t.bytes).sum();
    let most = |dtype| 2 * bytes(dtype) > total;
    if most(StoredDtype::Bf16) {
        SavedDtype::Bf16
    } else if most(StoredDtype::F16) {
        SavedDtype::F16
    } else {
        SavedDtype::F32
    }
}
