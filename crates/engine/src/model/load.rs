//! From files to a [`Model`]: which tensor goes where, what is trained and what stays frozen.

use super::adapter::{LoraOptions, Matcher, init_a, linear_paths};
use super::quantize::{QuantizationOptions, Quantizer};
use super::quantized_cache::{CacheOptions, CacheReport, QuantizedCache};
use super::verify::{unused, verify};
use super::vocabulary::{Vocabulary, resize, resize_f32};
use super::{Block, Linear, Lora, Model, NormModule, Param, Source};
use crate::Result;
use crate::ctx::Ctx;
use crate::families::{self, Family};
use crate::formats::peft::Bias;
use crate::formats::{PackedFile, Residency};
use crate::signal::Signal;
use crate::spec::{DecoderSpec, Slot};
use crate::weight::Weight;
use candle_core::Tensor;
use std::collections::HashSet;

/// What is trained.
#[derive(Clone, Debug)]
pub enum Method {
    /// Nothing: evaluation and generation.
    Frozen,
    /// Every parameter.
    Full,
    /// Adapters on the targets, and what `bias` and `modules_to_save` add.
    Lora(LoraOptions),
}

/// What is made of the files.
#[derive(Clone, Copy)]
pub struct LoadOptions<'a> {
    pub method: &'a Method,
    /// None: frozen weights stay as the files store them.
    pub quantization: Option<&'a QuantizationOptions>,
    /// Of the adapter's first values.
    pub seed: u64,
}

/// What a session gives beside the files.
#[derive(Clone, Copy, Default)]
pub struct Given<'a> {
    /// Rows in embedding and head; None: as many as the files have.
    pub vocab_rows: Option<usize>,
    /// Where quantised weights are kept between starts; None: nowhere.
    pub cache: Option<&'a CacheOptions>,
}

/// A model, and what became of the cache where there was something to keep.
pub struct Loaded {
    pub model: Model,
    pub cache: Option<CacheReport>,
}

/// Reads a model. Trained tensors become f32; frozen ones stay as the files store them, or are
/// quantised one after another. `signal` counts bytes, and can stop between tensors.
pub fn load(ctx: &Ctx, files: &dyn Source, options: LoadOptions, signal: &Signal) -> Result<Model> {
    Ok(load_given(ctx, files, options, Given::default(), signal)?.model)
}

/// The same with what else is given.
pub fn load_given(
    ctx: &Ctx,
    files: &dyn Source,
    options: LoadOptions,
    given: Given,
    signal: &Signal,
) -> Result<Loaded> {
    let LoadOptions { method, quantization, seed } = options;
    let quantizer = Quantizer::of(quantization, files.config(), Some(files), method)?;
    let (family, mut spec) = families::read(files.config(), |name| files.info(name).is_some())?;
    verify(files, &spec, family)?;
    let vocabulary = Vocabulary::stored(spec.vocab_size);
    let find =
        |(options, quantizer)| QuantizedCache::find(options, files, quantizer, &spec, family);
    let cache = given.cache.zip(quantizer.as_ref()).and_then(find);
    spec.vocab_size = given.vocab_rows.unwrap_or(spec.vocab_size);
    let linears = linear_paths(&spec, family.module);
    let matcher = match method {
        Method::Lora(lora) => {
            Some(Matcher::new(lora.target_modules.as_ref(), family.default_targets, &linears)?)
        }
        _ => None,
    };
    signal.expect(cache.as_ref().map_or(0, QuantizedCache::bytes_to_write));
    signal.begin(files.tensors().iter().map(|t| t.bytes as u64).sum());
    let loader = Loader {
        ctx,
        files,
        spec: &spec,
        family,
        method,
        matcher,
        quantizer,
        cached: cache.as_ref().and_then(QuantizedCache::weights),
        seed,
        signal,
        params: vec![],
        used: HashSet::new(),
        base_params: 0,
        n_adapters: 0,
    };
    let model = loader.model(vocabulary)?;
    let cache = cache.map(|cache| cache.keep(&model, signal));
    Ok(Loaded { model, cache })
}

struct Loader<'a> {
    ctx: &'a Ctx,
    files: &'a dyn Source,
    spec: &'a DecoderSpec,
    family: &'static Family,
    method: &'a Method,
    matcher: Option<Matcher>,
    quantizer: Option<Quantizer>,
    cached: Option<&'a PackedFile>,
    seed: u64,
    signal: &'a Signal,
    params: Vec<Param>,
    used: HashSet<String>,
    base_params: usize,
    n_adapters: u32,
}

/// How a tensor is trained, if it is.
#[derive(Clone, Copy, PartialEq)]
enum Training {
    Frozen,
    /// In place: full fine-tuning, or a bias beside an adapter.
    InBase,
    /// A whole copy beside the base: `modules_to_save`.
    Copy,
}

impl Loader<'_> {
    fn model(mut self, vocabulary: Vocabulary) -> Result<Model> {
        let (spec, family) = (self.spec, self.family);
        let embedding = self.linear(Slot::Embedding, 0)?;
        let embedding_norm =
            spec.embedding_norm.then(|| self.norm(Slot::EmbeddingNorm, 0)).transpose()?;
        let blocks = (0..spec.n_layers).map(|layer| self.block(layer)).collect::<Result<_>>()?;
        let final_norm = self.norm(Slot::FinalNorm, 0)?;
        let head = match spec.tied_head {
            true => self.tied_head(&embedding)?,
            false => self.linear(Slot::Head, 0)?,
        };
        let adapter = match self.method {
            Method::Lora(options) => {
                options.check_modules_to_save(spec, family.module)?;
                Some(options.clone())
            }
            _ => None,
        };
        Ok(Model {
            ctx: self.ctx.clone(),
            family,
            embedding,
            embedding_norm,
            blocks,
            final_norm,
            head,
            adapter,
            adapter_enabled: true,
            base_params: self.base_params,
            unused_tensors: unused(self.files, spec, family, &self.used),
            params: self.params,
            vocabulary,
            rope: None,
            spec: spec.clone(),
        })
    }

    fn block(&mut self, layer: usize) -> Result<Block> {
        let slots = self.spec.block_slots();
        let has = |slot| slots.contains(&slot);
        let qkv: &[Slot] = if has(Slot::Qkv) { &[Slot::Qkv] } else { &[Slot::Q, Slot::K, Slot::V] };
        Ok(Block {
            attention_norm: self.norm(Slot::AttentionNorm, layer)?,
            qkv: qkv.iter().map(|&slot| self.linear(slot, layer)).collect::<Result<Vec<_>>>()?,
            q_norm: has(Slot::QNorm).then(|| self.norm(Slot::QNorm, layer)).transpose()?,
            k_norm: has(Slot::KNorm).then(|| self.norm(Slot::KNorm, layer)).transpose()?,
            o: self.linear(Slot::O, layer)?,
            mlp_norm: has(Slot::MlpNorm).then(|| self.norm(Slot::MlpNorm, layer)).transpose()?,
            gate: has(Slot::Gate).then(|| self.linear(Slot::Gate, layer)).transpose()?,
            up: self.linear(Slot::Up, layer)?,
            down: self.linear(Slot::Down, layer)?,
        })
    }

    fn linear(&mut self, slot: Slot, layer: usize) -> Result<Linear> {
        let name = (self.family.module)(slot, layer);
        let targeted =
            slot.is_block_linear() && self.matcher.as_ref().is_some_and(|m| m.matches(&name));
        let (rows, cols) = self.spec.weight_dims(slot);
        let (weight, dweight) = self.matrix(slot, &name, &[rows, cols])?;
        let (bias, dbias) = match self.spec.has_bias(slot) {
            true => {
                self.vector(&name, "bias", rows, self.bias_training(&name, targeted), targeted)?
            }
            false => (None, None),
        };
        let lora = match self.method {
            Method::Lora(options) if targeted => Some(self.lora(&name, options, rows, cols)?),
            _ => None,
        };
        Ok(Linear { name, weight, bias, dweight, dbias, lora })
    }

    /// The embedding's weight again; a copy of its own where `modules_to_save` names the head.
    fn tied_head(&mut self, embedding: &Linear) -> Result<Linear> {
        let name = (self.family.module)(Slot::Head, 0);
        let mut head = Linear {
            weight: embedding.weight.clone(),
            dweight: embedding.dweight.clone(),
            name,
            bias: None,
            dbias: None,
            lora: None,
        };
        // PEFT trains a named embedding or head apart from its twin.
        if self.module_training(&head.name) == Training::Copy {
            let value = embedding.weight.to_tensor(&self.ctx.device)?.copy()?;
            let grad = self.train(format!("{}.weight", head.name), &value, Training::Copy, true)?;
            (head.weight, head.dweight) = (Weight::Tensor(value), Some(grad));
        } else if self.module_training(&embedding.name) == Training::Copy {
            let stored =
                self.files.matrix(&format!("{}.weight", embedding.name), Residency::Mapped)?;
            head.weight = resize(stored, self.spec.vocab_size)?;
            head.dweight = None;
        }
        Ok(head)
    }

    fn norm(&mut self, slot: Slot, layer: usize) -> Result<NormModule> {
        let name = (self.family.module)(slot, layer);
        let (len, _) = self.spec.weight_dims(slot);
        let (weight, dweight) =
            self.vector(&name, "weight", len, self.module_training(&name), false)?;
        let weight = weight.expect("a vector was read");
        let (bias, dbias) = match self.spec.has_bias(slot) {
            true => self.vector(&name, "bias", len, self.bias_training(&name, false), false)?,
            false => (None, None),
        };
        Ok(NormModule { name, weight, bias, dweight, dbias })
    }

    fn matrix(
        &mut self,
        slot: Slot,
        module: &str,
        dims: &[usize],
    ) -> Result<(Weight, Option<Tensor>)> {
        let name = format!("{module}.weight");
        self.take(&name)?;
        let training = self.module_training(module);
        if training == Training::Frozen {
            let weight = self.frozen(slot, module, &name)?;
            return Ok((self.resized(weight, &name, dims)?, None));
        }
        let (_, data) = self.files.read_f32(&name)?;
        self.files.release(&name);
        self.count_resized(&name, dims);
        let value = self.ctx.tensor(resize_f32(data, dims[1], dims[0])?, dims)?;
        let grad = self.train(name, &value, training, true)?;
        Ok((Weight::Tensor(value), Some(grad)))
    }

    /// A frozen weight with the rows that it needs: a copy where the file has others.
    fn resized(&mut self, weight: Weight, name: &str, dims: &[usize]) -> Result<Weight> {
        if weight.dims()?.0 == dims[0] {
            return Ok(weight);
        }
        self.count_resized(name, dims);
        let resized = resize(weight, dims[0])?;
        self.files.release(name);
        Ok(resized)
    }

    /// [`take`](Loader::take) counted the file's rows.
    fn count_resized(&mut self, name: &str, dims: &[usize]) {
        let info = self.files.info(name).expect("verified");
        self.base_params -= info.shape.iter().product::<usize>();
        self.base_params += dims.iter().product::<usize>();
    }

    fn frozen(&self, slot: Slot, module: &str, tensor: &str) -> Result<Weight> {
        let taken = self.quantizer.as_ref().filter(|quantizer| quantizer.takes(slot, module));
        if let Some((_, cached)) = taken.zip(self.cached)
            && let Some(weight) = cached.weight(tensor)?
        {
            return Ok(weight);
        }
        let stored = self.files.matrix(tensor, Residency::Mapped)?;
        if let Some(quantizer) = taken {
            let weight = quantizer.layout.quantize(self.ctx, &stored)?;
            self.files.release(tensor);
            return Ok(weight);
        }
        if matches!(stored, Weight::Tensor(_)) {
            self.files.release(tensor); // converted: the file's pages were read for the last time
        }
        Ok(stored)
    }

    /// A vector is small: always f32 in memory. `wrapped`: PEFT moved it below `base_layer`.
    fn vector(
        &mut self,
        module: &str,
        part: &str,
        len: usize,
        training: Training,
        wrapped: bool,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let name = format!("{module}.{part}");
        self.take(&name)?;
        let (_, data) = self.files.read_f32(&name)?;
        let value = self.ctx.tensor(data, &[len])?;
        if training == Training::Frozen {
            return Ok((Some(value), None));
        }
        let key = if wrapped { format!("{module}.base_layer.{part}") } else { name };
        let grad = self.train(key, &value, training, false)?;
        Ok((Some(value), Some(grad)))
    }

    fn lora(
        &mut self,
        module: &str,
        options: &LoraOptions,
        rows: usize,
        cols: usize,
    ) -> Result<Lora> {
        let index = self.n_adapters;
        self.n_adapters += 1;
        let a = self.ctx.tensor(init_a(options.r, cols, self.seed, index), &[options.r, cols])?;
        let b = self.ctx.zeros(&[rows, options.r])?;
        let da = self.train(format!("{module}.lora_A.weight"), &a, Training::Copy, true)?;
        let db = self.train(format!("{module}.lora_B.weight"), &b, Training::Copy, true)?;
        Ok(Lora {
            a,
            b,
            da,
            db,
            scale: options.scale(),
            dropout: options.lora_dropout as f32,
            index,
        })
    }

    /// Registers a trained tensor and returns its gradient.
    fn train(
        &mut self,
        name: String,
        value: &Tensor,
        training: Training,
        decay: bool,
    ) -> Result<Tensor> {
        let name = match self.method {
            Method::Lora(_) => format!("base_model.model.{name}"),
            _ => name,
        };
        let grad = self.ctx.zeros(value.dims())?;
        let in_base = training == Training::InBase;
        self.params.push(Param { name, value: value.clone(), grad: grad.clone(), decay, in_base });
        Ok(grad)
    }

    fn module_training(&self, module: &str) -> Training {
        match self.method {
            Method::Frozen => Training::Frozen,
            Method::Full => Training::InBase,
            Method::Lora(options) if options.saves(module) => Training::Copy,
            Method::Lora(_) => Training::Frozen,
        }
    }

    fn bias_training(&self, module: &str, targeted: bool) -> Training {
        match (self.module_training(module), self.method) {
            (Training::Frozen, Method::Lora(options)) => match options.bias {
                Bias::All => Training::InBase,
                Bias::LoraOnly if targeted => Training::InBase,
                _ => Training::Frozen,
            },
            (training, _) => training,
        }
    }

    /// Counts a tensor that [`verify`] found, before it is read.
    fn take(&mut self, name: &str) -> Result<()> {
        if self.signal.cancelled() {
            return Err(crate::Error::Cancelled);
        }
        let info = self.files.info(name).expect("verified");
        self.signal.advance(info.bytes as u64);
        self.base_params += info.shape.iter().product::<usize>();
        self.used.insert(name.to_owned());
        Ok(())
    }
}
