//! PEFT's LoRA adapters: `adapter_config.json` and `adapter_model.safetensors`, read and written as
//! PEFT 0.21.2 does.
//!
//! Shapes: A `[r, I]` · B `[O, r]` · of an embedding A `[r, V]`, B `[C, r]`. Does not know which modules
//! a model has.

use super::dtype::StoredDtype;
use super::model::read_values;
use super::safetensors::SafetensorsFile;
use super::write::{OutFolder, TensorBytes, write_safetensors};
use super::{FormatError, Result, json};
use crate::signal::Signal;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// What PEFT puts before a module's name.
const PREFIX: &str = "base_model.model.";

/// `adapter_config.json`. The fields stand in the order in which PEFT writes them: by name.
///
/// Those of type `Value` belong to variants of LoRA; they are kept, and refused where they would change
/// what the adapter computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AdapterConfig {
    pub alora_invocation_tokens: Value,
    #[serde(serialize_with = "whole_if_they_are")]
    pub alpha_pattern: BTreeMap<String, f64>,
    pub arrow_config: Value,
    pub auto_mapping: Value,
    pub base_model_name_or_path: Option<String>,
    pub bias: Bias,
    pub corda_config: Value,
    pub ensure_weight_tying: bool,
    pub eva_config: Value,
    pub exclude_modules: Option<Modules>,
    pub fan_in_fan_out: bool,
    pub inference_mode: bool,
    pub init_lora_weights: Value,
    pub kasa_config: Value,
    pub layer_replication: Value,
    pub layers_pattern: Option<Modules>,
    pub layers_to_transform: Option<Layers>,
    pub loftq_config: Value,
    #[serde(serialize_with = "whole_if_it_is")]
    pub lora_alpha: f64,
    pub lora_bias: bool,
    pub lora_dropout: f64,
    pub lora_ga_config: Value,
    pub megatron_config: Value,
    pub megatron_core: Option<String>,
    pub modules_to_save: Option<Vec<String>>,
    pub monteclora_config: Value,
    pub peft_type: String,
    pub peft_version: String,
    pub qalora_group_size: u64,
    pub r: usize,
    pub rank_pattern: BTreeMap<String, usize>,
    pub revision: Option<String>,
    pub target_modules: Option<Modules>,
    pub target_parameters: Value,
    pub task_type: Option<String>,
    pub trainable_token_indices: Value,
    pub use_bdlora: Value,
    pub use_dora: bool,
    pub use_qalora: bool,
    pub use_rslora: bool,
    pub velora_config: Value,
    /// Keys of other versions of PEFT, which have no effect here; for the caller to say.
    #[serde(skip)]
    pub unknown_keys: Vec<String>,
}

/// Which biases are trained and saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bias {
    None,
    All,
    LoraOnly,
}

/// Modules by a regular expression (or `all-linear`), or by the ends of their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Modules {
    Pattern(String),
    Names(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Layers {
    One(usize),
    Many(Vec<usize>),
}

impl Default for AdapterConfig {
    /// `LoraConfig()` of PEFT, as it is saved.
    fn default() -> AdapterConfig {
        AdapterConfig {
            alora_invocation_tokens: Value::Null,
            alpha_pattern: BTreeMap::new(),
            arrow_config: Value::Null,
            auto_mapping: Value::Null,
            base_model_name_or_path: None,
            bias: Bias::None,
            corda_config: Value::Null,
            ensure_weight_tying: false,
            eva_config: Value::Null,
            exclude_modules: None,
            fan_in_fan_out: false,
            inference_mode: true,
            init_lora_weights: Value::Bool(true),
            kasa_config: Value::Null,
            layer_replication: Value::Null,
            layers_pattern: None,
            layers_to_transform: None,
            loftq_config: Value::Object(Map::new()),
            lora_alpha: 8.0,
            lora_bias: false,
            lora_dropout: 0.0,
            lora_ga_config: Value::Null,
            megatron_config: Value::Null,
            megatron_core: Some("megatron.core".into()),
            modules_to_save: None,
            monteclora_config: Value::Null,
            peft_type: "LORA".into(),
            peft_version: "0.21.2".into(),
            qalora_group_size: 16,
            r: 8,
            rank_pattern: BTreeMap::new(),
            revision: None,
            target_modules: None,
            target_parameters: Value::Null,
            task_type: Some("CAUSAL_LM".into()),
            trainable_token_indices: Value::Null,
            use_bdlora: Value::Null,
            use_dora: false,
            use_qalora: false,
            use_rslora: false,
            velora_config: Value::Null,
            unknown_keys: Vec::new(),
        }
    }
}

/// Python writes 16 for an int and 16.5 for a float.
fn whole_if_it_is<S: Serializer>(value: &f64, s: S) -> Result<S::Ok, S::Error> {
    number(*value).serialize(s)
}

fn whole_if_they_are<S: Serializer>(
    values: &BTreeMap<String, f64>,
    s: S,
) -> Result<S::Ok, S::Error> {
    s.collect_map(values.iter().map(|(key, &value)| (key, number(value))))
}

fn number(value: f64) -> Value {
    // Whole numbers of this size are exact in both types.
    match value.fract() == 0.0 && value.abs() < 9e15 {
        true => (value as i64).into(),
        false => value.into(),
    }
}

/// A tensor of an adapter, under PEFT's name.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterTensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// What an adapter's tensor is to its module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    LoraA,
    LoraB,
    EmbeddingA,
    EmbeddingB,
    /// A whole weight: of `modules_to_save`, or of an embedding that grew.
    Weight,
    Bias,
    /// The same of a module that has a LoRA as well.
    BaseWeight,
    BaseBias,
}

/// The longer ones first, as they end like the shorter.
const ENDINGS: [(&str, Part); 8] = [
    (".lora_A.weight", Part::LoraA),
    (".lora_B.weight", Part::LoraB),
    (".lora_embedding_A", Part::EmbeddingA),
    (".lora_embedding_B", Part::EmbeddingB),
    (".base_layer.weight", Part::BaseWeight),
    (".base_layer.bias", Part::BaseBias),
    (".weight", Part::Weight),
    (".bias", Part::Bias),
];

/// Module (under the checkpoint's name) and part of an adapter's tensor; `None` for what LoRA has not.
pub fn parse_name(name: &str) -> Option<(&str, Part)> {
    let rest = name.strip_prefix(PREFIX)?;
    let (module, part) =
        ENDINGS.iter().find_map(|(end, part)| Some((rest.strip_suffix(end)?, *part)))?;
    (!module.contains(".lora_")).then_some((module, part))
}

/// The name under which PEFT saves a part of a module.
pub fn tensor_name(module: &str, part: Part) -> String {
    let (end, _) = ENDINGS.iter().find(|(_, p)| *p == part).expect("every part has an ending");
    format!("{PREFIX}{module}{end}")
}

/// Reads an adapter's folder; tensors in the order of the file, all as f32.
pub fn read_adapter(folder: &Path) -> Result<(AdapterConfig, Vec<AdapterTensor>)> {
    let config = read_config(&folder.join(CONFIG))?;
    let path = folder.join(WEIGHTS);
    if !path.exists() && folder.join("adapter_model.bin").exists() {
        return Err(FormatError::PickleOnly {
            path: folder.into(),
            file: "adapter_model.bin".into(),
        });
    }
    let file = SafetensorsFile::open(&path)?;
    check_tensors(&path, &file, &config)?;
    let read = |entry: &super::safetensors::Entry| {
        let data = read_values(&path, &entry.name, entry.dtype, file.bytes(entry))?;
        Ok(AdapterTensor { name: entry.name.clone(), shape: entry.shape.clone(), data })
    };
    Ok((config, file.entries().iter().map(read).collect::<Result<_>>()?))
}

/// Reads `adapter_config.json` and refuses what would compute something else than it says.
pub fn read_config(path: &Path) -> Result<AdapterConfig> {
    let mut config: AdapterConfig = json::read(path, json::CONFIG_BYTES_MAX)?;
    let known = serde_json::to_value(&config).unwrap_or_default();
    let all: Map<String, Value> = json::read(path, json::CONFIG_BYTES_MAX)?;
    config.unknown_keys =
        all.into_iter().map(|(key, _)| key).filter(|key| known.get(key).is_none()).collect();
    match unsupported(&config) {
        None => Ok(config),
        Some((key, value)) => Err(FormatError::AdapterFeature { path: path.into(), key, value }),
    }
}

/// The first setting that changes what the adapter computes in a way that is not built.
fn unsupported(config: &AdapterConfig) -> Option<(&'static str, String)> {
    if config.peft_type != "LORA" {
        return Some(("peft_type", config.peft_type.clone()));
    }
    if config.r == 0 {
        return Some(("r", "0".into()));
    }
    let flags = [
        ("use_dora", config.use_dora),
        ("use_qalora", config.use_qalora),
        ("lora_bias", config.lora_bias),
        ("fan_in_fan_out", config.fan_in_fan_out),
    ];
    if let Some((key, _)) = flags.into_iter().find(|(_, on)| *on) {
        return Some((key, "true".into()));
    }
    let variants = [
        ("alora_invocation_tokens", &config.alora_invocation_tokens),
        ("arrow_config", &config.arrow_config),
        ("kasa_config", &config.kasa_config),
        ("layer_replication", &config.layer_replication),
        ("monteclora_config", &config.monteclora_config),
        ("target_parameters", &config.target_parameters),
        ("trainable_token_indices", &config.trainable_token_indices),
        ("use_bdlora", &config.use_bdlora),
    ];
    let is_on = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(items) => !items.is_empty(),
        _ => true,
    };
    if let Some((key, value)) = variants.into_iter().find(|(_, value)| is_on(value)) {
        return Some((key, value.to_string()));
    }
    // These take something off the base weights when the adapter is made, and again when it is loaded.
    let init = config.init_lora_weights.as_str().unwrap_or("").to_lowercase();
    let changes_base =
        ["pissa", "olora", "corda", "loftq", "lora_ga"].iter().any(|name| init.starts_with(name));
    changes_base.then(|| ("init_lora_weights", config.init_lora_weights.to_string()))
}

/// Every tensor is one that LoRA has, every A has its B, and their shapes agree with the rank.
fn check_tensors(path: &Path, file: &SafetensorsFile, config: &AdapterConfig) -> Result<()> {
    let mut pairs: BTreeMap<&str, [Option<&[usize]>; 2]> = BTreeMap::new();
    for entry in file.entries() {
        let Some((module, part)) = parse_name(&entry.name) else {
            return Err(FormatError::AdapterTensor {
                path: path.into(),
                tensor: entry.name.clone(),
            });
        };
        let half = match part {
            Part::LoraA | Part::EmbeddingA => 0,
            Part::LoraB | Part::EmbeddingB => 1,
            Part::Weight | Part::Bias | Part::BaseWeight | Part::BaseBias => continue,
        };
        let rank = match (entry.shape.as_slice(), half) {
            (&[r, _], 0) | (&[_, r], 1) => Some(r),
            _ => None,
        };
        // Which pattern meets a module is for the model to say; a rank that none names is wrong anyway.
        let named = |r: usize| r == config.r || config.rank_pattern.values().any(|&v| v == r);
        if !rank.is_some_and(named) {
            let needed = if half == 0 { "[r, inputs]" } else { "[outputs, r]" };
            return Err(FormatError::TensorShape {
                path: path.into(),
                tensor: entry.name.clone(),
                shape: entry.shape.clone(),
                needed: format!("{needed} with r = {}", config.r),
            });
        }
        pairs.entry(module).or_default()[half] = Some(&entry.shape);
    }
    for (module, pair) in pairs {
        let lacks =
            |half| FormatError::AdapterHalf { path: path.into(), module: module.into(), half };
        match pair {
            [Some(a), Some(b)] if a[0] != b[1] => {
                return Err(FormatError::TensorShape {
                    path: path.into(),
                    tensor: tensor_name(module, Part::LoraB),
                    shape: b.to_vec(),
                    needed: format!("[outputs, {}], as lora_A has it", a[0]),
                });
            }
            [Some(_), Some(_)] => {}
            [None, _] => return Err(lacks("lora_A")),
            [_, None] => return Err(lacks("lora_B")),
        }
    }
    Ok(())
}

/// The first dimension of a tensor in an adapter's file, from its header; `None` where it is not there.
pub fn tensor_rows(folder: &Path, name: &str) -> Result<Option<usize>> {
    let path = folder.join(WEIGHTS);
    if !path.exists() {
        return Ok(None); // what is wrong is said when it is read
    }
    let file = SafetensorsFile::open(&path)?;
    let entry = file.entries().iter().find(|entry| entry.name == name);
    Ok(entry.and_then(|entry| entry.shape.first().copied()))
}

/// Writes an adapter's folder: its two files in f32, to the byte as PEFT does it. `stored` are tensors
/// of the base that go with it, in the dtype that they have. `signal` counts the tensors' bytes.
pub fn write_adapter(
    folder: &Path,
    config: &AdapterConfig,
    tensors: &[AdapterTensor],
    stored: &[TensorBytes],
    signal: &Signal,
) -> Result<()> {
    let out = OutFolder::create(folder)?;
    let text = serde_json::to_string_pretty(config)
        .map_err(|e| FormatError::write(Path::new(CONFIG), e.into()))?;
    out.write(CONFIG, text.as_bytes())?;
    let tensors: Vec<TensorBytes> = tensors
        .iter()
        .map(|t| TensorBytes {
            name: &t.name,
            dtype: StoredDtype::F32,
            shape: &t.shape,
            bytes: bytemuck::cast_slice(&t.data),
        })
        .chain(stored.iter().copied())
        .collect();
    let metadata = BTreeMap::from([("format".into(), "pt".into())]);
    out.write_with(WEIGHTS, |file| {
        file.watch(signal);
        write_safetensors(file, &tensors, &metadata)
    })?;
    out.finish(|_| false)
}
