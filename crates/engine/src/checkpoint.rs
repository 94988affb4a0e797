//! A training's state as files, and back to the same bits: the trained weights as Hugging Face or PEFT
//! keeps them, in f32, and `optimizer.safetensors`.
//!
//! Writes into a folder that the caller has made and will rename; knows nothing of the other files in
//! it, of which checkpoint is the newest, or of what a run's options were. Holds one tensor of the model
//! beside the model.

use crate::Result;
use crate::ctx::write as write_elements;
use crate::error::Code;
use crate::formats::hf_folder::SavedDtype;
use crate::formats::peft::{Part, tensor_name};
use crate::formats::safetensors::SafetensorsFile;
use crate::formats::write::{TensorBytes, write_atomically, write_safetensors};
use crate::formats::{ModelFiles, StoredDtype};
use crate::model::{Model, adapter_files, write};
use crate::optimizer::{Kind, StateTensor};
use crate::signal::Signal;
use crate::train::Trainer;
use candle_core::Tensor;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The optimizer's state: its tensors, and in the metadata the steps done and the kind of optimizer.
const OPTIMIZER: &str = "optimizer.safetensors";
const ADAPTER: &str = "adapter_model.safetensors";

/// Why a training can't go on from a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{}: there is no tensor `{name}`", path.display())]
    Missing { path: PathBuf, name: String },
    #[error("{}: tensor `{name}` is none that is trained here", path.display())]
    Unknown { path: PathBuf, name: String },
    #[error("{}: tensor `{name}` is {found_dtype} {found:?}, the training has F32 {expected:?}", path.display())]
    Differs {
        path: PathBuf,
        name: String,
        found_dtype: StoredDtype,
        found: Vec<usize>,
        expected: Vec<usize>,
    },
    #[error("{}: the metadata has no `{key}` that can be read", path.display())]
    Metadata { path: PathBuf, key: &'static str },
    #[error("{}: is the state of {found}, the training runs {expected}", path.display())]
    OtherOptimizer { path: PathBuf, found: String, expected: &'static str },
}

impl CheckpointError {
    pub fn code(&self) -> Code {
        match self {
            Self::OtherOptimizer { .. } => Code::Config,
            _ => Code::ModelFiles,
        }
    }

    pub fn hint(&self) -> String {
        match self {
            Self::OtherOptimizer { .. } => "Set optim as it was when the checkpoint was written.",
            Self::Metadata { .. } => "The checkpoint is damaged; go on from another one.",
            _ => "Go on with the model and the options that the checkpoint was written with.",
        }
        .into()
    }
}

/// Bytes of the tensors that [`save`] writes.
pub fn bytes(model: &Model, files: &ModelFiles, trainer: &Trainer) -> Result<u64> {
    let weights = match model.adapter {
        Some(_) => adapter_files::bytes(model)?,
        None => write::bytes(model, files, SavedDtype::F32),
    };
    let state = trainer.optimizer.state_tensors();
    Ok(weights + state.iter().map(|tensor| tensor.bytes.len() as u64).sum::<u64>())
}

/// Writes the trained weights and the optimizer's state into `dir`, each file synced. `signal` counts
/// bytes; it does not end the writing, which may be what is to be done before the end.
///
/// `base_model_name` is what the user called the base model; an adapter's config names it.
pub fn save(
    model: &Model,
    files: &ModelFiles,
    trainer: &Trainer,
    dir: &Path,
    base_model_name: &str,
    signal: &Signal,
) -> Result<()> {
    match model.adapter {
        Some(_) => adapter_files::write(model, dir, base_model_name, signal)?,
        None => write::write_as(model, files, dir, SavedDtype::F32, signal)?,
    }
    let state = trainer.optimizer.state_tensors();
    let tensors: Vec<TensorBytes> = state
        .iter()
        .map(|t| TensorBytes { name: &t.name, dtype: t.dtype, shape: &t.shape, bytes: t.bytes })
        .collect();
    let metadata = BTreeMap::from([
        ("format".to_owned(), "pt".to_owned()),
        ("optimizer".to_owned(), kind_name(trainer.optimizer.options.kind).to_owned()),
        ("step".to_owned(), trainer.step.to_string()),
    ]);
    Ok(write_atomically(&dir.join(OPTIMIZER), |file| {
        file.watch(signal);
        write_safetensors(file, &tensors, &metadata)
    })?)
}

/// Puts the weights, the optimizer's state and the step of `dir` in the place of the training's.
///
/// # Errors
/// [`CheckpointError`] for another optimizer, and for a tensor that is missing, not trained here or of
/// another shape or dtype; `FormatError` for damaged files. After an error the training must not go on:
/// some of its weights may be the checkpoint's already. `signal` counts bytes, and can stop between tensors.
pub fn load(model: &Model, trainer: &mut Trainer, dir: &Path, signal: &Signal) -> Result<()> {
    let path = dir.join(OPTIMIZER);
    let file = SafetensorsFile::open(&path)?;
    let step = checked_metadata(&file, &path, trainer.optimizer.options.kind)?;
    let state: Vec<StateTensor> = file
        .entries()
        .iter()
        .map(|entry| StateTensor {
            name: entry.name.clone(),
            dtype: entry.dtype,
            shape: entry.shape.clone(),
            bytes: file.bytes(entry),
        })
        .collect();
    let weights = model.params.iter().map(|param| tensor_bytes(&param.value)).sum::<u64>();
    signal.begin(weights + state.iter().map(|tensor| tensor.bytes.len() as u64).sum::<u64>());
    match model.adapter {
        Some(_) => load_adapter(model, &dir.join(ADAPTER), signal)?,
        None => load_model(model, dir, signal)?,
    }
    trainer.optimizer.restore(&state, signal)?;
    trainer.step = step;
    Ok(())
}

/// The steps done, where the state is that of `kind`.
fn checked_metadata(file: &SafetensorsFile, path: &Path, kind: Kind) -> Result<u64> {
    let value = |key: &'static str| {
        let lacks = || CheckpointError::Metadata { path: path.into(), key };
        file.metadata().get(key).ok_or_else(lacks)
    };
    let (found, expected) = (value("optimizer")?, kind_name(kind));
    if found != expected {
        let (path, found) = (path.into(), found.clone());
        return Err(CheckpointError::OtherOptimizer { path, found, expected }.into());
    }
    let step = value("step")?.parse();
    Ok(step.map_err(|_| CheckpointError::Metadata { path: path.into(), key: "step" })?)
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Adamw => "adamw",
        Kind::Adamw32bit => "adamw32bit",
        Kind::Adamw8bit => "adamw8bit",
    }
}

/// The file holds what is trained, and beside it at most the embedding and the head that go with an
/// adapter: they are not trained, and follow from the base model again.
fn load_adapter(model: &Model, path: &Path, signal: &Signal) -> Result<()> {
    let file = SafetensorsFile::open(path)?;
    let beside = [&model.embedding, &model.head].map(|l| tensor_name(&l.name, Part::Weight));
    let mut lacking: BTreeSet<&str> = model.params.iter().map(|p| p.name.as_str()).collect();
    for entry in file.entries() {
        let Some(param) = model.params.iter().find(|param| param.name == entry.name) else {
            if beside.contains(&entry.name) {
                continue;
            }
            let (path, name) = (path.into(), entry.name.clone());
            return Err(CheckpointError::Unknown { path, name }.into());
        };
        check(path, &param.name, (entry.dtype, &entry.shape), &param.value)?;
        let words = file.bytes(entry).as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
        fill(&param.value, words)?;
        signal.part(tensor_bytes(&param.value))?;
        lacking.remove(param.name.as_str());
    }
    match lacking.first() {
        None => Ok(()),
        Some(name) => {
            Err(CheckpointError::Missing { path: path.into(), name: (*name).into() }.into())
        }
    }
}

/// Tensor by tensor, each file's pages given back once they are read.
fn load_model(model: &Model, dir: &Path, signal: &Signal) -> Result<()> {
    let files = ModelFiles::open(dir)?;
    for param in &model.params {
        let name = &param.name;
        let lacks = || CheckpointError::Missing { path: dir.into(), name: name.clone() };
        let info = files.info(name).ok_or_else(lacks)?;
        check(dir, name, (info.dtype, &info.shape), &param.value)?;
        fill(&param.value, files.read_f32(name)?.1.into_iter())?;
        files.release(name);
        signal.part(tensor_bytes(&param.value))?;
    }
    Ok(())
}

/// All that is trained is f32.
fn tensor_bytes(value: &Tensor) -> u64 {
    (size_of::<f32>() * value.elem_count()) as u64
}

/// Bits are only the same bits in f32.
fn check(
    path: &Path,
    name: &str,
    (found_dtype, found): (StoredDtype, &[usize]),
    value: &Tensor,
) -> Result<(), CheckpointError> {
    if found_dtype == StoredDtype::F32 && found == value.dims() {
        return Ok(());
    }
    Err(CheckpointError::Differs {
        path: path.into(),
        name: name.into(),
        found_dtype,
        found: found.to_vec(),
        expected: value.dims().to_vec(),
    })
}

fn fill(value: &Tensor, from: impl Iterator<Item = f32>) -> Result<()> {
    write_elements(value, |to| to.iter_mut().zip(from).for_each(|(to, from)| *to = from))
}
