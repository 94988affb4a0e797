//! Reads back what was saved and compares it with the model in memory: every tensor bit for bit, then the
//! logits of a probe, which the names, the config and the rounding decide as well.
//!
//! The probe runs through both models block by block. Where the files are in bf16 or f16, a block of the
//! memory's model is rounded to that dtype for its turn: then both sides compute with the same bits, and
//! their logits must be equal, not only near. So there is never a second model in memory, and a block of
//! the files is mapped no longer than its turn. Writes nothing.

use super::write::{stored_dtype, written};
use super::{Block, Linear, LoadOptions, Method, Model, NormModule, adapter_files, load};
use crate::ctx::read;
use crate::decoder::norms::norm_forward;
use crate::decoder::{self, Adapters, MicroBatch, attention_spec, block, embed, pass};
use crate::error::Code;
use crate::formats::{ModelFiles, Residency};
use crate::ops::{embedding, head_loss};
use crate::signal::Signal;
use crate::weight::{Elements, MappedMatrix, Weight};
use crate::{Error, Result};
use candle_core::{DType, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Tokens of the probe.
const PROBE: usize = 8;
/// Bytes of the head whose logits are compared at a time.
const HEAD_TILE_BYTES: usize = 16 << 20;
/// Values that one task compares.
const PIECE: usize = 1 << 16;

/// What was compared. The deviation is that of the logits, and the bound is met.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    pub what: &'static str,
    pub largest_deviation: f64,
    pub bound: f64,
}

/// Both sides compute with the same bits in the same order.
const BOUND: f64 = 0.0;

/// A result that is not on the disk as it is in memory.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error("what was saved can't be read back: {source}")]
    Unreadable { source: Box<Error> },
    #[error("{}: tensor `{tensor}` is not there, though it was saved", path.display())]
    Lacking { path: PathBuf, tensor: String },
    #[error("{}: tensor `{tensor}` has {disk} at value {index}, which was saved as {memory}", path.display())]
    Value { path: PathBuf, tensor: String, index: usize, disk: f32, memory: f32 },
    #[error("{}: tensor `{tensor}` has {disk} values, {memory} were saved", path.display())]
    Size { path: PathBuf, tensor: String, disk: usize, memory: usize },
    #[error("{}: scales the adapter by {disk}, it was trained with {memory}", path.display())]
    Scale { path: PathBuf, disk: f32, memory: f32 },
    #[error("{}: the logits differ by {deviation} from those in memory, the bound is {bound}", path.display())]
    Logits { path: PathBuf, deviation: f64, bound: f64 },
}

impl CheckError {
    pub fn code(&self) -> Code {
        Code::Output
    }

    pub fn hint(&self) -> String {
        "Don't use what was saved: the disk lost or changed it, or something else wrote there; save to another disk.".into()
    }
}

fn unreadable(error: impl Into<Error>) -> Error {
    CheckError::Unreadable { source: Box::new(error.into()) }.into()
}

/// Token ids from all over the vocabulary, the same in every run.
fn probe(model: &Model) -> MicroBatch {
    let n = PROBE.min(model.spec.max_positions);
    let ids: Vec<u32> = (0..n).map(|i| ((7919 * i + 1) % model.spec.vocab_size) as u32).collect();
    MicroBatch { labels: vec![-100; n], seq_starts: vec![0, n], ids }
}

/// The adapter in `dir` against that of the model, which gets the file's values (the same bits).
/// `signal` counts the blocks of the two passes.
pub fn adapter(model: &mut Model, dir: &Path, signal: &Signal) -> Result<Checked> {
    signal.begin(2 * model.blocks.len() as u64);
    let (options, tensors) = adapter_files::read(dir).map_err(unreadable)?;
    let path = dir.join("adapter_model.safetensors");
    for param in &model.params {
        let tensor = || param.name.clone();
        let found = tensors.iter().find(|t| t.name == param.name);
        let found =
            found.ok_or_else(|| CheckError::Lacking { path: path.clone(), tensor: tensor() })?;
        read::<f32, _>(&param.value, |memory| {
            same(&path, &param.name, memory, Elements::F32(&found.data), DType::F32)
        })??;
    }
    let memory = model.adapter.as_ref().map_or(options.scale(), |lora| lora.scale());
    if options.scale() != memory {
        let path = dir.join("adapter_config.json");
        return Err(CheckError::Scale { path, disk: options.scale(), memory }.into());
    }
    let batch = probe(model);
    let before = decoder::logits(model, &batch, signal)?;
    adapter_files::load_into(model, &tensors).map_err(unreadable)?;
    let after = decoder::logits(model, &batch, signal)?;
    verdict("adapter", &path, deviation(&before, &after)?)
}

/// The folder `dir` against the model, which was made of `files`. `signal` counts the bytes that are read:
/// of every tensor once, then of those that the probe runs through.
pub fn model(
    model: &mut Model,
    files: &ModelFiles,
    dir: &Path,
    signal: &Signal,
) -> Result<Checked> {
    let saved = ModelFiles::open(dir).map_err(unreadable)?;
    let dtype = stored_dtype(files).candle();
    let linears = model.block_linears().chain([&model.head]);
    let probed: u64 = linears.map(|linear| weight_bytes(linear, dtype)).sum::<Result<u64>>()?;
    signal.begin(bytes_of(&saved) + probed);
    let mut disk = compared(model, files, &saved, (dtype, signal))?;
    let batch = probe(model);
    model.rope_tables(batch.longest())?;
    disk.rope_tables(batch.longest())?;
    verdict("model", dir, logits_apart(model, &disk, &saved, &batch, (dtype, signal))?)
}

/// The folder `dir` of a model in few bits, quantised from `files`: nothing in it is rounded. `signal` counts the
/// bytes that are read, and the blocks of the two passes, which add nothing to them that shows.
pub fn quantized(
    model: &mut Model,
    files: &ModelFiles,
    dir: &Path,
    signal: &Signal,
) -> Result<Checked> {
    let saved = ModelFiles::open(dir).map_err(unreadable)?;
    signal.begin(bytes_of(&saved) + 2 * model.blocks.len() as u64);
    let mut disk = compared(model, files, &saved, (DType::F32, signal))?;
    let batch = probe(model);
    let [ours, theirs] = [model, &mut disk].map(|side| decoder::logits(side, &batch, signal));
    verdict("model", dir, deviation(&ours?, &theirs?)?)
}

fn bytes_of(saved: &ModelFiles) -> u64 {
    saved.tensors().iter().map(|t| t.bytes as u64).sum()
}

/// Compares every tensor that was written, rounded to `dtype`; returns the model on disk. Counts its bytes.
fn compared(
    model: &Model,
    files: &ModelFiles,
    saved: &ModelFiles,
    (dtype, signal): (DType, &Signal),
) -> Result<Model> {
    for (stored, _) in written(model, files) {
        let name = model.family.module_name(&stored);
        compare(model, files, saved, &name, dtype)?;
        signal.part(saved.info(&name).map_or(0, |info| info.bytes as u64))?;
    }
    let frozen = LoadOptions { method: &Method::Frozen, quantization: None, seed: 0 };
    load(&model.ctx, saved, frozen, &Signal::default()).map_err(unreadable)
}

fn verdict(what: &'static str, path: &Path, deviation: f64) -> Result<Checked> {
    match deviation <= BOUND {
        true => Ok(Checked { what, largest_deviation: deviation, bound: BOUND }),
        false => Err(CheckError::Logits { path: path.into(), deviation, bound: BOUND }.into()),
    }
}

/// What the files, all of one dtype, hold of a linear's weight.
fn weight_bytes(linear: &super::Linear, dtype: DType) -> Result<u64> {
    let (rows, cols) = linear.weight.dims()?;
    Ok((rows * cols * dtype.size_in_bytes()) as u64)
}

/// Compares one tensor of the files with the trained value, or with that of the source.
fn compare(
    model: &Model,
    source: &ModelFiles,
    saved: &ModelFiles,
    name: &str,
    dtype: DType,
) -> Result<()> {
    let lacking = || CheckError::Lacking { path: saved.path().into(), tensor: name.to_owned() };
    let (info, path) = saved.info(name).zip(saved.file_of(name)).ok_or_else(lacking)?;
    let against = |memory: &[f32]| -> Result<()> {
        if let [_, _] = info.shape[..] {
            let weight = saved.matrix(name, Residency::Mapped).map_err(unreadable)?;
            return weight.with_elements(|disk| same(path, name, memory, disk, dtype))?;
        }
        let (_, disk) = saved.read_f32(name).map_err(unreadable)?;
        same(path, name, memory, Elements::F32(&disk), dtype)
    };
    match model.params.iter().find(|p| p.name == name) {
        Some(param) => read::<f32, _>(&param.value, against)??,
        None => match in_memory(model, name) {
            Some(linear) => against(&linear.weight.with_elements(|memory| memory.to_f32())?)?,
            None => {
                against(&source.read_f32(name)?.1)?;
                source.release(name);
            }
        },
    }
    saved.release(name);
    Ok(())
}

/// The linear of a weight that is not in the files as it is written: in few bits, or with other rows.
fn in_memory<'a>(model: &'a Model, name: &str) -> Option<&'a Linear> {
    let resized = model.spec.vocab_size != model.vocabulary.stored_rows;
    let ends = [&model.embedding, &model.head].into_iter().filter(|_| resized);
    let packed = model.block_linears().filter(|linear| linear.weight.quantized().is_some());
    let module = name.strip_suffix(".weight")?;
    ends.chain(packed).find(|linear| linear.name == module)
}

/// Whether each value of the file is that of the memory, rounded to `dtype`.
fn same(path: &Path, tensor: &str, memory: &[f32], disk: Elements, dtype: DType) -> Result<()> {
    let name = || (path.to_owned(), tensor.to_owned());
    if disk.len() != memory.len() {
        let (path, tensor) = name();
        return Err(
            CheckError::Size { path, tensor, disk: disk.len(), memory: memory.len() }.into()
        );
    }
    let round = |value: f32| match dtype {
        DType::BF16 => bf16::from_f32(value).to_f32(),
        DType::F16 => f16::from_f32(value).to_f32(),
        _ => value,
    };
    let different = memory.par_chunks(PIECE).enumerate().find_map_first(|(piece, memory)| {
        let disk = disk.slice(piece * PIECE..piece * PIECE + memory.len()).to_f32();
        let at = memory.iter().zip(&disk).position(|(m, d)| round(*m).to_bits() != d.to_bits())?;
        Some((piece * PIECE + at, disk[at], round(memory[at])))
    });
    match different {
        None => Ok(()),
        Some((index, disk, memory)) => {
            let (path, tensor) = name();
            Err(CheckError::Value { path, tensor, index, disk, memory }.into())
        }
    }
}

/// The largest difference of the probe's logits between the rounded memory and the files.
fn logits_apart(
    memory: &Model,
    disk: &Model,
    saved: &ModelFiles,
    batch: &MicroBatch,
    (dtype, signal): (DType, &Signal),
) -> Result<f64> {
    let positions = batch.positions();
    let attention = [memory, disk].map(|model| attention_spec(&model.spec));
    let passes = [(memory, &attention[0]), (disk, &attention[1])]
        .map(|(model, spec)| pass(model, Adapters::Off, spec, &positions, &batch.seq_starts));
    let (ctx, spec) = (&memory.ctx, &memory.spec);

    // Rows that are rounded after they were gathered are rows of the rounded table.
    let rows = embedding::forward(ctx, &memory.embedding.weight, &batch.ids)?;
    let table = Weight::Tensor(rounded_vector(&rows, dtype)?);
    let norm = memory.embedding_norm.as_ref().map(|n| rounded_norm(n, dtype)).transpose()?;
    let order: Vec<u32> = (0..batch.ids.len() as u32).collect();
    let mut ours = embed(ctx, spec, &table, norm.as_ref(), &order)?.1;
    let table = &disk.embedding.weight;
    let mut theirs = embed(ctx, &disk.spec, table, disk.embedding_norm.as_ref(), &batch.ids)?.1;
    for (ours_block, theirs_block) in memory.blocks.iter().zip(&disk.blocks) {
        ours = block::forward(&passes[0], &rounded_block(ours_block, dtype)?, &ours, None)?.0;
        theirs = block::forward(&passes[1], theirs_block, &theirs, None)?.0;
        for theirs in theirs_block.linears() {
            saved.release(&format!("{}.weight", theirs.name));
            signal.part(weight_bytes(theirs, dtype)?)?;
        }
    }
    let norm = rounded_norm(&memory.final_norm, dtype)?;
    ours = norm_forward(ctx, spec.norm, &norm, &ours, DType::F32)?.0;
    theirs = norm_forward(ctx, disk.spec.norm, &disk.final_norm, &theirs, DType::F32)?.0;

    let (vocab_size, hidden_size) = memory.head.weight.dims()?;
    let tile = (HEAD_TILE_BYTES / (4 * hidden_size)).max(1);
    let mut largest: f64 = 0.0;
    for row in (0..vocab_size).step_by(tile) {
        let n = tile.min(vocab_size - row);
        let head = rounded_weight(&weight_rows(&memory.head.weight, row, n)?, dtype)?;
        let ours = head_loss::logits(ctx, &ours, &head)?;
        let theirs = head_loss::logits(ctx, &theirs, &weight_rows(&disk.head.weight, row, n)?)?;
        largest = largest.max(deviation(&ours, &theirs)?);
        signal.part((n * hidden_size * dtype.size_in_bytes()) as u64)?;
        for module in [&disk.embedding.name, &disk.head.name] {
            saved.release(&format!("{module}.weight"));
        }
    }
    Ok(largest)
}

/// Rows of a weight where they lie; of one in few bits, which no written head is, all of them.
fn weight_rows(weight: &Weight, row: usize, n: usize) -> Result<Weight> {
    Ok(match weight {
        Weight::Tensor(t) => Weight::Tensor(t.narrow(0, row, n)?),
        Weight::Mapped(m) => {
            let offset = m.offset + row * m.cols * m.dtype.size_in_bytes();
            Weight::Mapped(MappedMatrix { offset, rows: n, ..m.clone() })
        }
        Weight::FourBits(_) | Weight::Int8(_) => weight.clone(),
    })
}

fn rounded_weight(weight: &Weight, dtype: DType) -> Result<Weight> {
    match weight.dtype() == dtype {
        true => Ok(weight.clone()),
        false => Ok(Weight::Tensor(weight.to_tensor(&candle_core::Device::Cpu)?.to_dtype(dtype)?)),
    }
}

/// A vector is computed with in f32, whatever the files store.
fn rounded_vector(vector: &Tensor, dtype: DType) -> Result<Tensor> {
    Ok(vector.to_dtype(dtype)?.to_dtype(DType::F32)?)
}

fn rounded_norm(norm: &NormModule, dtype: DType) -> Result<NormModule> {
    let bias = norm.bias.as_ref().map(|bias| rounded_vector(bias, dtype)).transpose()?;
    let weight = rounded_vector(&norm.weight, dtype)?;
    Ok(NormModule { name: norm.name.clone(), weight, bias, dweight: None, dbias: None })
}

/// The block as a reader of the files has it. In f32 nothing is copied.
fn rounded_block(block: &Block, dtype: DType) -> Result<Block> {
    let linear = |linear: &super::Linear| -> Result<super::Linear> {
        Ok(super::Linear {
            name: linear.name.clone(),
            weight: rounded_weight(&linear.weight, dtype)?,
            bias: linear.bias.as_ref().map(|bias| rounded_vector(bias, dtype)).transpose()?,
            dweight: None,
            dbias: None,
            lora: None,
        })
    };
    let norm =
        |norm: &Option<NormModule>| norm.as_ref().map(|norm| rounded_norm(norm, dtype)).transpose();
    Ok(Block {
        attention_norm: rounded_norm(&block.attention_norm, dtype)?,
        qkv: block.qkv.iter().map(linear).collect::<Result<_>>()?,
        q_norm: norm(&block.q_norm)?,
        k_norm: norm(&block.k_norm)?,
        o: linear(&block.o)?,
        mlp_norm: norm(&block.mlp_norm)?,
        gate: block.gate.as_ref().map(linear).transpose()?,
        up: linear(&block.up)?,
        down: linear(&block.down)?,
    })
}

/// The largest absolute difference; values that are no numbers differ without bound.
fn deviation(ours: &Tensor, theirs: &Tensor) -> Result<f64> {
    let difference = |(&a, &b): (&f32, &f32)| match (f64::from(a) - f64::from(b)).abs() {
        _ if a.to_bits() == b.to_bits() => 0.0,
        apart if apart.is_nan() => f64::INFINITY,
        apart => apart,
    };
    read::<f32, _>(ours, |ours| {
        read::<f32, _>(theirs, |theirs| ours.iter().zip(theirs).map(difference).fold(0.0, f64::max))
    })?
}
