//! An adapter between a model and PEFT's folder: read, put into place, written.

use super::adapter::{LoraOptions, last_names};
use super::{Model, ModelError, vocabulary};
use crate::Result;
use crate::ctx::{read as elements, write as write_elements};
use crate::formats::peft::{self, AdapterConfig, AdapterTensor, Modules};
use crate::formats::write::TensorBytes;
use crate::session::SessionError;
use crate::signal::Signal;
use std::path::Path;

pub use crate::formats::peft::AdapterTensor as NamedTensor;

/// The options and the tensors of a PEFT folder.
pub fn read(dir: &Path) -> Result<(LoraOptions, Vec<AdapterTensor>)> {
    let (config, tensors) = peft::read_adapter(dir)?;
    let options = LoraOptions {
        r: config.r,
        lora_alpha: config.lora_alpha,
        lora_dropout: config.lora_dropout,
        target_modules: config.target_modules,
        bias: config.bias,
        modules_to_save: config.modules_to_save.unwrap_or_default(),
        use_rslora: config.use_rslora,
    };
    Ok((options, tensors))
}

/// Copies the tensors over the model's first values, and an embedding or a head that is saved with them
/// over the base's. Beside these, both sides must name the same tensors.
pub fn load_into(model: &mut Model, tensors: &[AdapterTensor]) -> Result<()> {
    let replaced = vocabulary::replace(model, tensors)?;
    for tensor in tensors.iter().filter(|tensor| !replaced.contains(&tensor.name)) {
        let name = || tensor.name.clone();
        let param = model.params.iter().find(|param| param.name == tensor.name);
        let param = param.ok_or_else(|| ModelError::AdapterTensor { name: name() })?;
        if param.value.dims() != tensor.shape {
            let (found, expected) = (tensor.shape.clone(), param.value.dims().to_vec());
            return Err(ModelError::AdapterShape { name: name(), found, expected }.into());
        }
        write_elements(&param.value, |value| value.copy_from_slice(&tensor.data))?;
    }
    let lacking = model.params.iter().find(|param| !tensors.iter().any(|t| t.name == param.name));
    match lacking {
        None => Ok(()),
        Some(param) => Err(ModelError::AdapterLacks { name: param.name.clone() }.into()),
    }
}

/// Bytes of the tensors that [`write`] writes.
pub fn bytes(model: &Model) -> Result<u64> {
    let beside = |stored: &[TensorBytes]| Ok(stored.iter().map(|t| t.bytes.len() as u64).sum());
    let stored: u64 = vocabulary::with_saved(model, beside)?;
    Ok(size_of::<f32>() as u64 * model.trainable_params() as u64 + stored)
}

/// Writes the adapter as PEFT does. `base_model_name` is what the user called the base model; `signal`
/// counts bytes.
pub fn write(model: &Model, dir: &Path, base_model_name: &str, signal: &Signal) -> Result<()> {
    let options = model.adapter.as_ref().ok_or(SessionError::NoAdapter)?;
    let tensor = |param: &super::Param| -> Result<AdapterTensor> {
        let data = elements::<f32, _>(&param.value, <[f32]>::to_vec)?;
        Ok(AdapterTensor { name: param.name.clone(), shape: param.value.dims().to_vec(), data })
    };
    let tensors = model.params.iter().map(tensor).collect::<Result<Vec<_>>>()?;
    let config = AdapterConfig {
        base_model_name_or_path: Some(base_model_name.to_owned()),
        bias: options.bias,
        lora_alpha: options.lora_alpha,
        lora_dropout: options.lora_dropout,
        modules_to_save: Some(options.modules_to_save.clone()).filter(|list| !list.is_empty()),
        r: options.r,
        target_modules: Some(targets(model, options)),
        use_rslora: options.use_rslora,
        ..AdapterConfig::default()
    };
    vocabulary::with_saved(model, |stored| {
        Ok(peft::write_adapter(dir, &config, &tensors, stored, signal)?)
    })
}

/// The targets as names: PEFT, too, writes what `all-linear` and the defaults came to.
fn targets(model: &Model, options: &LoraOptions) -> Modules {
    let adapted = model.block_linears().filter(|linear| linear.lora.is_some());
    let paths: Vec<String> = adapted.map(|linear| linear.name.clone()).collect();
    match &options.target_modules {
        Some(Modules::Names(names))
            if !names.iter().any(|n| n.eq_ignore_ascii_case("all-linear")) =>
        {
            Modules::Names(names.clone())
        }
        Some(Modules::Pattern(text)) if !text.eq_ignore_ascii_case("all-linear") => {
            Modules::Pattern(text.clone())
        }
        _ => Modules::Names(last_names(&paths)),
    }
}
