//! A whole model as a Hugging Face folder, tensor by tensor.

use super::Model;
use crate::ctx::read;
use crate::formats::hf_folder::{ModelToWrite, SavedDtype, write_model_folder};
use crate::formats::{ModelFiles, StoredDtype};
use crate::{Error, Result};
use std::path::Path;

/// As `save_pretrained` splits by default.
const SHARD_BYTES_MAX: u64 = 5_000_000_000;

/// Writes trained values where there are any, the files' own elsewhere, in the dtype that most of the
/// model was stored in; what was quantised is written as f32. The names are those of the files.
pub fn write(model: &Model, files: &ModelFiles, dir: &Path) -> Result<()> {
    write_as(model, files, dir, stored_dtype(files))
}

/// As [`write`], in a dtype of the caller's choice.
pub fn write_as(model: &Model, files: &ModelFiles, dir: &Path, dtype: SavedDtype) -> Result<()> {
    let head = format!("{}.weight", model.head.name);
    let kept = files.tensors().iter().filter(|t| {
        let repeated = model.spec.tied_head && t.name == head;
        !(repeated || model.unused_tensors.contains(&t.name))
    });
    let tensors: Vec<(String, Vec<usize>)> =
        kept.map(|t| (model.family.stored_name(&t.name), t.shape.clone())).collect();
    let to_write = ModelToWrite {
        config: files.config(),
        generation_config: files.generation_config(),
        tensors: &tensors,
        dtype,
        max_shard_bytes: SHARD_BYTES_MAX,
    };
    write_model_folder(dir, &to_write, |stored| {
        let name = model.family.module_name(stored);
        match model.params.iter().find(|p| p.name == name) {
            Some(param) => read::<f32, _>(&param.value, <[f32]>::to_vec),
            None => Ok::<_, Error>(files.read_f32(&name)?.1),
        }
    })
}

fn stored_dtype(files: &ModelFiles) -> SavedDtype {
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
