//! Which weights a model keeps in few bits, by the rules of Transformers and bitsandbytes: the linears
//! of the blocks that stay frozen, without those that are named. Reads no weight.

use super::{Method, ModelError, Source};
use crate::Result;
use crate::families::{self, Family, FourBits, StoredQuantization};
use crate::four_bit::{FourBitLayout, ScaleBits};
use crate::spec::{DecoderSpec, Slot};
use crate::weight::Layout;
use kernels::nf4::BLOCK_SIZE_MAX;
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

pub use crate::four_bit::QuantType;

/// `BitsAndBytesConfig`, as far as it decides what is computed.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum QuantizationOptions {
    /// `load_in_4bit`.
    FourBits {
        #[serde(with = "QuantTypeName")]
        quant_type: QuantType,
        double_quant: bool,
        block_size: usize,
        /// `llm_int8_skip_modules`.
        #[serde(default)]
        skip_modules: Vec<String>,
    },
    /// `load_in_8bit`.
    Int8 {
        #[serde(default)]
        skip_modules: Vec<String>,
    },
}

/// How a type is written on the bridge.
#[derive(Deserialize)]
#[serde(remote = "QuantType", rename_all = "lowercase")]
pub(crate) enum QuantTypeName {
    Nf4,
    Fp4,
}

/// Values that share one maximum in bitsandbytes' 4-bit layers, which its config has no key for.
const BLOCK_SIZE: usize = 64;

impl From<StoredQuantization> for QuantizationOptions {
    fn from(stored: StoredQuantization) -> QuantizationOptions {
        match stored {
            StoredQuantization::FourBits(FourBits { quant_type, double_quant, skip_modules }) => {
                let block_size = BLOCK_SIZE;
                QuantizationOptions::FourBits { quant_type, double_quant, block_size, skip_modules }
            }
            StoredQuantization::Int8 { skip_modules } => QuantizationOptions::Int8 { skip_modules },
        }
    }
}

impl QuantizationOptions {
    /// Errors: a block size that can't be used.
    fn layout(&self) -> Result<Layout, ModelError> {
        match *self {
            Self::FourBits { quant_type, double_quant, block_size, .. } => {
                if !(1..=BLOCK_SIZE_MAX).contains(&block_size) {
                    return Err(ModelError::BlockSize { block_size });
                }
                let scales = if double_quant { ScaleBits::Nested } else { ScaleBits::Plain };
                Ok(Layout::FourBits(FourBitLayout { quant_type, block_size, scales }))
            }
            Self::Int8 { .. } => Ok(Layout::Int8),
        }
    }

    pub fn skip_modules(&self) -> &[String] {
        match self {
            Self::FourBits { skip_modules, .. } | Self::Int8 { skip_modules } => skip_modules,
        }
    }
}

/// The options, checked for what is trained.
pub struct Quantizer {
    pub layout: Layout,
    skipped: Vec<Skip>,
    method: Method,
}

/// An entry of `llm_int8_skip_modules`: an expression or an end.
struct Skip {
    end: String,
    start: Regex,
}

impl Quantizer {
    /// What quantises weights while they are read: the options, unless the files hold weights in few bits
    /// already; those are never quantised again, as in Transformers. Without files the config says what
    /// they would hold.
    ///
    /// Errors: what `new` refuses, a quantisation that can't be read, one that would have to be trained.
    pub fn of(
        options: Option<&QuantizationOptions>,
        config: &Value,
        files: Option<&dyn Source>,
        method: &Method,
    ) -> Result<Option<Quantizer>> {
        let said = families::stored_quantization(config)?.map(QuantizationOptions::from);
        let stored = match files {
            // A model that was merged may have kept its old config.
            Some(files) => files.tensors().iter().find_map(|it| it.dtype.bits_of_codes()),
            None => said.as_ref().map(QuantizationOptions::layout).transpose()?.map(Layout::bits),
        };
        if let (Some(bits), Method::Full) = (stored, method) {
            return Err(ModelError::StoredFull { bits }.into());
        }
        let of_config = said.filter(|_| stored.is_some() && files.is_none());
        let counts = if stored.is_some() { of_config.as_ref() } else { options };
        Ok(counts.map(|options| Quantizer::new(options, method)).transpose()?)
    }

    /// Errors: all parameters are trained, a block size or an expression that can't be used.
    pub fn new(options: &QuantizationOptions, method: &Method) -> Result<Quantizer, ModelError> {
        let layout = options.layout()?;
        if matches!(method, Method::Full) {
            return Err(ModelError::QuantizedFull { bits: layout.bits() });
        }
        let skipped = options.skip_modules().iter().map(|name| Skip::new(name));
        Ok(Quantizer {
            layout,
            skipped: skipped.collect::<Result<_, _>>()?,
            method: method.clone(),
        })
    }

    /// Whether the weight of a module is kept in few bits.
    pub fn takes(&self, slot: Slot, module: &str) -> bool {
        let trained = matches!(&self.method, Method::Lora(lora) if lora.saves(module));
        slot.is_block_linear() && !trained && !self.skipped.iter().any(|skip| skip.matches(module))
    }

    /// The names of all tensors that are kept in few bits.
    pub fn tensors(&self, spec: &DecoderSpec, family: &Family) -> Vec<String> {
        let slots = spec.block_slots();
        let modules = (0..spec.n_layers)
            .flat_map(|layer| slots.iter().map(move |&slot| (slot, (family.module)(slot, layer))));
        let taken = modules.filter(|(slot, module)| self.takes(*slot, module));
        taken.map(|(_, module)| format!("{module}.weight")).collect()
    }
}

impl Skip {
    fn new(name: &str) -> Result<Skip, ModelError> {
        // A syntax error quotes the expression over several lines; the last says what is wrong.
        let bad = |e: regex::Error| ModelError::BadSkip {
            pattern: name.to_owned(),
            reason: e.to_string().lines().last().unwrap_or_default().replace("error: ", ""),
        };
        let start = Regex::new(&format!("^(?:{name})$")).map_err(bad)?;
        Ok(Skip { end: name.to_owned(), start })
    }

    /// As `should_convert_module` of Transformers 5: the path's end, or an expression that matches
    /// from its start up to a border between modules.
    fn matches(&self, path: &str) -> bool {
        let borders = path.match_indices('.').flat_map(|(dot, _)| [dot, dot + 1]);
        path.ends_with(&self.end)
            || borders.chain([path.len()]).any(|border| self.start.is_match(&path[..border]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::{Ctx, Precision};
    use crate::formats::ModelFiles;
    use crate::model::{self, Linear, LoadOptions};
    use crate::options::EngineOptions;
    use crate::signal::Signal;
    use crate::weight::Weight;
    use serde_json::json;
    use std::path::Path;

    fn options(skip: &[&str]) -> QuantizationOptions {
        let skip_modules = skip.iter().map(|&name| name.to_owned()).collect();
        QuantizationOptions::FourBits {
            quant_type: QuantType::Nf4,
            double_quant: true,
            block_size: 64,
            skip_modules,
        }
    }

    fn int8(skip: &[&str]) -> QuantizationOptions {
        let skip_modules = skip.iter().map(|&name| name.to_owned()).collect();
        QuantizationOptions::Int8 { skip_modules }
    }

    #[test]
    fn names_are_skipped_as_transformers_skips_them() {
        let path = "model.layers.11.mlp.gate_proj";
        // What `should_convert_module` of Transformers 5.24 answers, negated.
        for (name, skipped) in [
            ("gate_proj", true),
            ("proj", true),
            ("mlp.gate", false),
            ("model.layers.11", true),
            ("model.layers.1", false),
            ("model.layers.1.", true), // an expression: its last point is the second 1
            ("model.layers.11.", true),
            ("model.layers.*", true),
            (".*mlp", true),
            ("mlp", false),
            ("model.layers.11.mlp.gate", false),
            ("model|lm_head", true),
            ("lm_head", false),
            (path, true),
        ] {
            let quantizer = Quantizer::new(&options(&[name]), &Method::Frozen).unwrap();
            assert_eq!(quantizer.takes(Slot::Gate, path), !skipped, "{name}");
        }
    }

    #[test]
    fn only_linears_of_blocks_are_taken() {
        let quantizer = Quantizer::new(&options(&[]), &Method::Frozen).unwrap();
        let taken = [Slot::Embedding, Slot::Head, Slot::AttentionNorm, Slot::FinalNorm, Slot::Down]
            .map(|slot| quantizer.takes(slot, "m"));
        assert_eq!(taken, [false, false, false, false, true]);
    }

    #[test]
    fn a_model_is_kept_in_the_bytes_that_the_plan_counts() -> crate::Result<()> {
        let four = json!({
            "kind": "fourBits", "quantType": "nf4", "doubleQuant": true, "blockSize": 64,
            "skipModules": ["o_proj"],
        });
        let eight = json!({ "kind": "int8", "skipModules": ["o_proj"] });
        kept_in_the_planned_bytes(options(&["o_proj"]), four)?;
        kept_in_the_planned_bytes(int8(&["o_proj"]), eight)
    }

    fn kept_in_the_planned_bytes(
        quantization: QuantizationOptions,
        on_the_bridge: Value,
    ) -> crate::Result<()> {
        let ctx = Ctx::cpu(Precision::F32);
        let own =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/goldens/models/llama-bias");
        let files = ModelFiles::open(&own)?;
        let load =
            LoadOptions { method: &Method::Frozen, quantization: Some(&quantization), seed: 0 };
        let model = model::load(&ctx, &files, load, &Signal::default())?;
        for linear in model.block_linears() {
            let packed = linear.weight.quantized().is_some();
            assert_eq!(packed, !linear.name.ends_with("o_proj"), "{}", linear.name);
        }
        assert!(matches!(model.head.weight, Weight::Mapped(_)));

        let linears = model.block_linears().chain([&model.embedding, &model.head]);
        let biases = |linear: &Linear| linear.bias.as_ref().map_or(0, |b| 4 * b.elem_count());
        let held: usize = linears.map(|linear| linear.weight.bytes() + biases(linear)).sum();
        let norms = 4 * model.spec.hidden_size * (2 * model.spec.n_layers + 1);
        let options: EngineOptions = serde_json::from_value(json!({
            "model": own, "computeDtype": "f32", "seed": 0, "method": { "kind": "none" },
            "quantization": on_the_bridge,
            "optimizer": {
                "kind": "adamw", "paged": false, "stateDir": null,
                "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weightDecay": 0.0, "maxGradNorm": 0.0,
            },
            "plan": { "seqLength": 16, "microBatch": 1, "gradientAccumulation": 1 },
        }))
        .expect("the bridge's options");
        let plan = crate::plan::plan(&options, files.config(), Some(&files), None)?;
        assert_eq!(plan.bytes.weights, (held + norms) as u64);
        Ok(())
    }

    #[test]
    fn what_can_not_be_is_refused_with_what_to_do() {
        let refused = |options: &QuantizationOptions, method: &Method| {
            Quantizer::new(options, method).err().map(|e| format!("{e}\n{}", e.hint()))
        };
        let full = refused(&options(&[]), &Method::Full).expect("refused");
        assert!(full.contains("LoRA") && full.contains("load_in_4bit"), "{full}");
        let full = refused(&int8(&[]), &Method::Full).expect("refused");
        assert!(full.contains("8-bit") && full.contains("load_in_8bit"), "{full}");
        let bad = refused(&options(&["mlp.("]), &Method::Frozen).expect("refused");
        assert!(
            bad.starts_with(
                "llm_int8_skip_modules: `mlp.(` is not a regular expression: unclosed group\n"
            ),
            "{bad}"
        );
        for block_size in [0, BLOCK_SIZE_MAX + 1] {
            let options = QuantizationOptions::FourBits {
                quant_type: QuantType::Nf4,
                double_quant: true,
                block_size,
                skip_modules: vec![],
            };
            assert!(refused(&options, &Method::Frozen).is_some());
        }
    }
}
