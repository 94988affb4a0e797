//! A model whose linears are in 4 or 8 bits, as a Hugging Face folder: what `save_pretrained` writes of a model that
//! bitsandbytes quantised.
//!
//! Quantised weights are written in bitsandbytes' parts, with the bits that they have in memory; all else keeps
//! the dtype of the files, so that what is read back computes with the same bits. Quantises nothing.

use super::quantize::{QuantType, QuantizationOptions};
use super::write::{configs, stored_dtype, written};
use super::{Linear, Model};
use crate::Result;
use crate::ctx::Precision;
use crate::formats::hf_folder::{
    SavedDtype, is_weight_file, write_configs, write_values, write_weights,
};
use crate::formats::write::{OutFile, OutFolder, TensorHead, bytes_of};
use crate::formats::{ModelFiles, Part, StoredDtype, parts};
use crate::signal::Signal;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;

/// `LLM.int8()`'s bound of outliers where nothing else is said, as BitsAndBytesConfig has it.
const THRESHOLD: f64 = 6.0;
/// Values of an embedding or a head that are converted at a time: a whole one may be gigabytes.
const PIECE: usize = 1 << 20;

/// What is written under one name.
enum Entry<'a> {
    Part(Part<'a>),
    Plain(Plain<'a>),
}

/// A tensor that is in no few bits.
struct Plain<'a> {
    /// As the folder has it.
    stored: String,
    /// As the model has it.
    name: String,
    shape: Vec<usize>,
    dtype: SavedDtype,
    /// The embedding or the head, whose rows may be other than the files'.
    linear: Option<&'a Linear>,
}

/// Writes the folder, with `options` as what quantised the model. `signal` counts bytes and can stop between
/// tensors: then nothing is left.
pub fn write(
    model: &Model,
    files: &ModelFiles,
    options: &QuantizationOptions,
    (dir, max_shard_bytes): (&Path, u64),
    signal: &Signal,
) -> Result<()> {
    let entries = entries(model, files);
    let heads: Vec<TensorHead> = entries.iter().map(Entry::head).collect();
    let bytes = |&(_, dtype, shape): &TensorHead| bytes_of(dtype, shape);
    signal.begin(heads.iter().map(bytes).sum());
    let (config, generation_config) = configs(model, files);
    let section = quantization_config(options, model);
    let folder = OutFolder::create(dir)?;
    let given = (&config, generation_config.as_ref());
    write_configs(&folder, given, stored_dtype(files), Some(section))?;
    let limits = (model.base_params as u64, max_shard_bytes);
    write_weights(&folder, &heads, limits, |file, i| {
        entries[i].fill(file, files)?;
        signal.part(bytes(&heads[i]))
    })?;
    Ok(folder.finish(is_weight_file)?)
}

/// All that is written, in the order of the files.
fn entries<'a>(model: &'a Model, files: &ModelFiles) -> Vec<Entry<'a>> {
    let weight = |linear: &'a Linear| (format!("{}.weight", linear.name), linear);
    let packed: HashMap<String, &Linear> = model.block_linears().map(weight).collect();
    let ends: HashMap<String, &Linear> = [&model.head, &model.embedding].map(weight).into();
    let mut entries = Vec::new();
    for (stored, shape) in written(model, files) {
        let name = model.family.module_name(&stored);
        let quantized = packed.get(&name).and_then(|linear| linear.weight.quantized());
        if let Some(quantized) = quantized {
            entries.extend(parts(&stored, quantized).into_iter().map(Entry::Part));
            continue;
        }
        let dtype = files.info(&name).map_or(StoredDtype::F32, |info| info.dtype);
        let (dtype, linear) = (SavedDtype::keeping(dtype), ends.get(&name).copied());
        entries.push(Entry::Plain(Plain { stored, name, shape, dtype, linear }));
    }
    entries
}

impl Entry<'_> {
    fn head(&self) -> TensorHead<'_> {
        match self {
            Entry::Part(part) => (&part.name, part.dtype, &part.shape),
            Entry::Plain(plain) => (&plain.stored, plain.dtype.stored(), &plain.shape),
        }
    }

    fn fill(&self, file: &mut OutFile, files: &ModelFiles) -> Result<()> {
        let plain = match self {
            Entry::Part(part) => return Ok(file.write_all(&part.bytes)?),
            Entry::Plain(plain) => plain,
        };
        match plain.linear {
            Some(linear) => linear.weight.with_elements(|elements| {
                plain.assert_len(elements.len());
                let mut starts = (0..elements.len()).step_by(PIECE);
                starts.try_for_each(|at| {
                    let piece = elements.slice(at..elements.len().min(at + PIECE));
                    write_values(file, &piece.to_f32(), plain.dtype)
                })
            })??,
            None => {
                let (_, values) = files.read_f32(&plain.name)?;
                plain.assert_len(values.len());
                write_values(file, &values, plain.dtype)?;
            }
        }
        files.release(&plain.name);
        Ok(())
    }
}

impl Plain<'_> {
    fn assert_len(&self, len: usize) {
        assert_eq!(len, self.shape.iter().product::<usize>(), "`{}` has its shape", self.name);
    }
}

/// The section as `BitsAndBytesConfig` writes it. A list of modules that are left out takes the place of
/// Transformers' own, which has the head: so it is named here.
fn quantization_config(options: &QuantizationOptions, model: &Model) -> Value {
    let (in_4bit, quant_type, double_quant) = match options {
        QuantizationOptions::FourBits { quant_type, double_quant, .. } => {
            (true, *quant_type, *double_quant)
        }
        // What BitsAndBytesConfig says of 4 bits where there are none.
        QuantizationOptions::Int8 { .. } => (false, QuantType::Fp4, false),
    };
    let compute_dtype = match model.ctx.precision {
        Precision::Bf16 if in_4bit => "bfloat16",
        _ => "float32",
    };
    let mut skipped = options.skip_modules().to_vec();
    if !skipped.contains(&model.head.name) {
        skipped.push(model.head.name.clone());
    }
    json!({
        "_load_in_4bit": in_4bit,
        "_load_in_8bit": !in_4bit,
        "bnb_4bit_compute_dtype": compute_dtype,
        "bnb_4bit_quant_storage": "uint8",
        "bnb_4bit_quant_type": quant_type.name(),
        "bnb_4bit_use_double_quant": double_quant,
        "llm_int8_enable_fp32_cpu_offload": false,
        "llm_int8_has_fp16_weight": false,
        "llm_int8_skip_modules": skipped,
        "llm_int8_threshold": THRESHOLD,
        "load_in_4bit": in_4bit,
        "load_in_8bit": !in_4bit,
        "quant_method": "bitsandbytes",
    })
}
