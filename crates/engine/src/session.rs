//! A model, its optimizer and what the bridge may ask of them. Belongs to one thread.

use crate::checkpoint;
use crate::ctx::{Ctx, Precision};
use crate::decoder::MicroBatch;
use crate::decoder::passes::{pass_tokens, passes};
use crate::error::{Code, Result};
use crate::families;
use crate::formats::hf_folder::SHARD_BYTES_MAX;
use crate::formats::{Described, ModelFiles};
use crate::four_bit::ScaleBits;
use crate::generate::{GenerateOptions, generate};
use crate::machine::{self, DoctorReport};
use crate::model::adapter::last_names;
use crate::model::check::{self, Checked};
use crate::model::quantize::QuantizationOptions;
use crate::model::quantized_cache::CacheReport;
use crate::model::{
    self, Given, LoadOptions, Loaded, Method, Model, adapter_files, vocabulary, write,
    write_quantized,
};
use crate::options::{ComputeDtype, EngineOptions, MethodOptions};
use crate::plan::{Plan, PlanError, plan};
use crate::signal::Signal;
use crate::speed;
use crate::train::{self, StepReport, Trainer};
use crate::weight::Layout;
use kernels::Isa;
use serde::Serialize;
use serde_json::Value;
use std::path::Path;

/// An open model with everything a training needs.
pub struct Session {
    files: ModelFiles,
    model: Model,
    /// What quantised the model; None where nothing did, the files' own quantisation included.
    quantization: Option<QuantizationOptions>,
    trainer: Trainer,
    signal: Signal,
}

/// What a loaded session tells about itself.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionInfo {
    pub trainable_params: usize,
    pub all_params: usize,
    pub model_type: String,
    pub vocab_size: usize,
    /// Rows that the files have: other than `vocab_size` where the vocabulary was resized.
    pub stored_vocab_size: usize,
    pub max_positions: usize,
    /// The last names of the blocks' linears: what an adapter can be on.
    pub linear_modules: Vec<String>,
    /// The tokens that end a generation, from `generation_config.json`, else `config.json`.
    pub eos_ids: Vec<u32>,
    /// How weights are quantised that the files hold in few bits; None where they hold none.
    pub stored_quantized: Option<StoredQuantized>,
    /// Where quantised weights came from, or are kept; None where there are none to keep.
    pub quantized_cache: Option<CacheReport>,
    /// Tensors of the files that no module asked for.
    pub unused_tensors: Vec<String>,
    pub threads: usize,
    pub isa: &'static str,
    /// What a checkpoint knows the base model by. See [`ModelFiles::fingerprint`].
    pub fingerprint: String,
    pub plan: Plan,
}

/// Weights that the files hold in few bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredQuantized {
    pub tensors: usize,
    /// Of one of them: `nf4`, `fp4` or `int8`.
    pub code: &'static str,
    /// Of all of them.
    pub double_quant: bool,
}

/// A session that can't be opened on this machine, or asked for what it can't do.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("LORA_TRAIN_ISA is `{name}`, which this CPU does not have")]
    UnknownIsa { name: String, known: String },
    #[error("there is no adapter to save: the session trains the whole model")]
    NoAdapter,
    #[error("there is nothing to write in 4 or 8 bits: no weight was quantised")]
    NotQuantized,
    #[error("the model's files hold {tensors} weights in {bits} bits already, which stay so")]
    StoredQuantized { tensors: usize, bits: u8 },
    #[error("the prompt has no token")]
    EmptyPrompt,
    #[error("the handle was not loaded, or is closed")]
    NotLoaded,
}

impl SessionError {
    pub fn code(&self) -> Code {
        match self {
            Self::UnknownIsa { .. } => Code::Device,
            Self::NoAdapter | Self::NotLoaded => Code::Internal,
            Self::EmptyPrompt | Self::NotQuantized => Code::Config,
            Self::StoredQuantized { .. } => Code::ModelFiles,
        }
    }

    pub fn hint(&self) -> String {
        match self {
            Self::UnknownIsa { known, .. } => format!("It has {known}."),
            Self::NoAdapter => "Save the model instead.".into(),
            Self::NotQuantized => {
                "Give load_in_4bit or load_in_8bit, and leave a linear layer to quantise.".into()
            }
            Self::StoredQuantized { .. } => {
                "Use the model as it is, or quantise the one that it was made of.".into()
            }
            Self::EmptyPrompt => "Give some text.".into(),
            Self::NotLoaded => "Call load first.".into(),
        }
    }
}

impl Session {
    /// Plans, then loads. Refused before anything is read where the plan does not fit.
    pub fn open(options: &EngineOptions, signal: &Signal) -> Result<(Session, SessionInfo)> {
        let ctx = context(options.compute_dtype)?;
        let files = ModelFiles::open(&options.model)?;
        let plan = plan(options, files.config(), Some(&files), Some(speed::gemm_gflops(&ctx)))?;
        if !plan.fits {
            return Err(PlanError(Box::new(plan)).into());
        }
        let (method, adapter) = method_of(options)?;
        // Room for a paged state is written when the weights are there.
        signal.expect(plan.mapped.optimizer);
        let given = Given {
            vocab_rows: Some(vocab_rows(options, &files)?),
            cache: options.quantized_cache.as_ref(),
        };
        let Loaded { mut model, cache } = model::load_given(
            &ctx,
            &files,
            LoadOptions {
                method: &method,
                quantization: options.quantization.as_ref(),
                seed: options.seed,
            },
            given,
            signal,
        )?;
        model.vocabulary.save = options.save_embedding_layers;
        model.vocabulary.ids = options.token_ids;
        if let Some(tensors) = adapter {
            adapter_files::load_into(&mut model, &tensors)?;
        }
        let seeded = (options.seed, plan.recomputation());
        let mut trainer = Trainer::watched(&model, &options.optimizer, seeded, signal)?;
        trainer.pass_tokens = pass_tokens(options.plan.seq_length, options.plan.micro_batch);
        let linears: Vec<String> =
            model.block_linears().map(|linear| linear.name.clone()).collect();
        let info = SessionInfo {
            trainable_params: model.trainable_params(),
            all_params: model.all_params(),
            model_type: model.spec.model_type.clone(),
            vocab_size: model.spec.vocab_size,
            stored_vocab_size: model.vocabulary.stored_rows,
            max_positions: model.spec.max_positions,
            linear_modules: last_names(&linears),
            eos_ids: eos_ids(&files),
            stored_quantized: stored_quantized(&files),
            quantized_cache: cache,
            unused_tensors: model.unused_tensors.clone(),
            threads: rayon::current_num_threads(),
            isa: ctx.isa.name(),
            fingerprint: files.fingerprint(),
            plan,
        };
        let stored = info.stored_quantized.is_some();
        let quantization = options.quantization.clone().filter(|_| !stored);
        Ok((Session { files, model, quantization, trainer, signal: signal.clone() }, info))
    }

    /// `(done, total)` of the call that runs, or ran last.
    pub fn progress(&self) -> (u64, u64) {
        self.signal.progress()
    }

    /// Ends what only reads or computes, now and later.
    pub fn cancel(&self) {
        self.signal.cancel();
    }

    pub fn step(&mut self, micros: &[MicroBatch], learning_rate: f64) -> Result<StepReport> {
        self.trainer.step(&mut self.model, micros, learning_rate, &self.signal)
    }

    /// `(summed loss, supervised tokens)`, without a step.
    pub fn evaluate(&mut self, micros: &[MicroBatch]) -> Result<(f64, usize)> {
        let mut sum = (0.0, 0);
        for pass in passes(micros, self.trainer.pass_tokens) {
            let (loss, tokens) = train::evaluate(&mut self.model, &pass, &self.signal)?;
            sum = (sum.0 + loss, sum.1 + tokens);
        }
        Ok(sum)
    }

    /// Returns the new ids only.
    pub fn generate(&mut self, prompt: &[u32], options: &GenerateOptions) -> Result<Vec<u32>> {
        if prompt.is_empty() {
            return Err(SessionError::EmptyPrompt.into());
        }
        generate(&mut self.model, prompt, options, &self.signal)
    }

    /// Writes the adapter as PEFT does.
    pub fn save_adapter(&self, dir: &Path, base_model_name: &str) -> Result<()> {
        self.signal.begin(adapter_files::bytes(&self.model)?);
        adapter_files::write(&self.model, dir, base_model_name, &self.signal)
    }

    /// Reads back what `save_adapter` or `save_model` wrote and compares it, and its logits, with memory.
    pub fn check_saved(&mut self, dir: &Path) -> Result<Checked> {
        match (&self.model.adapter, &self.quantization) {
            (Some(_), _) => check::adapter(&mut self.model, dir, &self.signal),
            (None, Some(_)) => check::quantized(&mut self.model, &self.files, dir, &self.signal),
            (None, None) => check::model(&mut self.model, &self.files, dir, &self.signal),
        }
    }

    /// Writes weights and optimizer's state into an unfinished checkpoint. Also after the signal.
    pub fn save_state(&self, dir: &Path, base_model_name: &str) -> Result<()> {
        let Session { model, files, trainer, signal, .. } = self;
        signal.begin(checkpoint::bytes(model, files, trainer)?);
        checkpoint::save(model, files, trainer, dir, base_model_name, signal)
    }

    /// Goes on from a checkpoint: the next step is the one after its last.
    pub fn load_state(&mut self, dir: &Path) -> Result<()> {
        checkpoint::load(&self.model, &mut self.trainer, dir, &self.signal)
    }

    /// Writes the whole model as a Hugging Face folder.
    pub fn save_model(&self, dir: &Path) -> Result<()> {
        let dtype = write::stored_dtype(&self.files);
        self.signal.begin(write::bytes(&self.model, &self.files, dtype));
        write::write(&self.model, &self.files, dir, &self.signal)
    }

    /// Writes the model with what was quantised as bitsandbytes saves it. Can be cancelled.
    pub fn save_quantized(&self, dir: &Path) -> Result<()> {
        if let Some(layout) = self.files.layouts().next() {
            let (tensors, bits) = (self.files.layouts().count(), layout.bits());
            return Err(SessionError::StoredQuantized { tensors, bits }.into());
        }
        let is_packed = |linear: &model::Linear| linear.weight.quantized().is_some();
        let options = self.quantization.as_ref();
        let options = options.filter(|_| self.model.block_linears().any(is_packed));
        let options = options.ok_or(SessionError::NotQuantized)?;
        let place = (dir, SHARD_BYTES_MAX);
        write_quantized::write(&self.model, &self.files, options, place, &self.signal)
    }
}

fn vocab_rows(options: &EngineOptions, files: &ModelFiles) -> Result<usize> {
    let (family, spec) = families::read(files.config(), |name| files.info(name).is_some())?;
    vocabulary::rows(options, family, &spec)
}

fn stored_quantized(files: &ModelFiles) -> Option<StoredQuantized> {
    let code = match files.layouts().next()? {
        Layout::FourBits(layout) => layout.quant_type.name(),
        Layout::Int8 => "int8",
    };
    let nested =
        |layout| matches!(layout, Layout::FourBits(layout) if layout.scales == ScaleBits::Nested);
    let (tensors, double_quant) = (files.layouts().count(), files.layouts().all(nested));
    Some(StoredQuantized { tensors, code, double_quant })
}

/// `eos_token_id` is a number or a list of numbers.
fn eos_ids(files: &ModelFiles) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let key = |config: &Value| config.get("eos_token_id").filter(|value| !value.is_null()).cloned();
    match files.generation_config().and_then(key).or_else(|| key(files.config())) {
        Some(Value::Array(list)) => list.iter().filter_map(id).collect(),
        Some(value) => id(&value).into_iter().collect(),
        None => vec![],
    }
}

/// The plan alone: only the config and the headers are read. A question about a machine is content with
/// the config; a training needs the weights.
pub fn plan_only(options: &EngineOptions) -> Result<Plan> {
    let ctx = context(options.compute_dtype)?;
    let model = match options.question {
        Some(_) => Described::open(&options.model)?,
        None => Described::Files(Box::new(ModelFiles::open(&options.model)?)),
    };
    plan(options, model.config(), model.files(), Some(speed::gemm_gflops(&ctx)))
}

/// The machine, measured; its speed is kept for the plans to come.
pub fn doctor() -> Result<DoctorReport> {
    let report = machine::doctor(isa()?);
    speed::keep(&report);
    Ok(report)
}

/// The fastest instruction set, or the one that `LORA_TRAIN_ISA` names.
pub fn isa() -> Result<Isa> {
    let Some(name) = std::env::var_os("LORA_TRAIN_ISA").filter(|name| !name.is_empty()) else {
        return Ok(Isa::best());
    };
    let name = name.to_string_lossy().into_owned();
    Isa::by_name(&name).ok_or_else(|| {
        let known = Isa::available().into_iter().map(Isa::name).collect::<Vec<_>>().join(", ");
        SessionError::UnknownIsa { name, known }.into()
    })
}

fn context(dtype: ComputeDtype) -> Result<Ctx> {
    Ok(Ctx::new(isa()?, Precision::from(dtype)))
}

/// What is trained, and the adapter's tensors where one is given. An adapter decides its own shape;
/// without training it is only applied.
fn method_of(options: &EngineOptions) -> Result<(Method, Option<Vec<adapter_files::NamedTensor>>)> {
    match (&options.adapter, &options.method) {
        (None, method) => Ok((Method::from(method), None)),
        (Some(dir), MethodOptions::None | MethodOptions::Lora(_)) => {
            let (lora, tensors) = adapter_files::read(dir)?;
            let lora = match &options.method {
                MethodOptions::Lora(given) => {
                    crate::model::adapter::LoraOptions { lora_dropout: given.lora_dropout, ..lora }
                }
                _ => lora,
            };
            Ok((Method::Lora(lora), Some(tensors)))
        }
        (Some(_), MethodOptions::Full) => Ok((Method::Full, None)),
    }
}
