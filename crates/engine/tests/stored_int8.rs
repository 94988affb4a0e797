//! A model that is stored as bitsandbytes saves it in 8 bits, beside one that is quantised while it is loaded: the
//! same bits. How a damaged one is refused, `formats_hostile` tests.

mod four_bits;

use engine::ctx::{Ctx, Precision};
use engine::formats::{ModelFiles, Residency, StoredDtype};
use engine::int8::Int8Matrix;
use engine::model::quantize::{QuantType, QuantizationOptions};
use engine::model::vocabulary::{SaveEmbeddings, with_saved};
use engine::model::{self, LoadOptions, Method, Model};
use engine::options::parse;
use engine::session::plan_only;
use engine::signal::Signal;
use engine::weight::Weight;
use engine::{Code, Error};
use four_bits::{lora, losses};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const HEAD: &str = "lm_head.weight";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/goldens/models/llama-bias")
}

/// The golden with its linears, and its head, in int8. Goes away.
struct Stored(PathBuf);

impl Stored {
    fn new(name: &str) -> Stored {
        let folder = format!("lora-train-stored-int8-{name}-{}", std::process::id());
        let stored = Stored(std::env::temp_dir().join(folder));
        std::fs::create_dir_all(&stored.0).expect("a folder");
        let files = ModelFiles::open(&golden()).expect("opens");
        let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = vec![];
        for info in files.tensors() {
            let name = info.name.clone();
            let Some(module) = name.strip_suffix("_proj.weight").map(|at| format!("{at}_proj"))
            else {
                tensors.extend(plain_or_head(&files, &name));
                continue;
            };
            tensors.extend(in_int8(&files, &module));
        }
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            (name, TensorView::new(*dtype, shape.clone(), bytes).expect("a tensor"))
        });
        let bytes = safetensors::serialize(views, None).expect("bytes");
        std::fs::write(stored.0.join("model.safetensors"), bytes).expect("written");
        let mut config = files.config().clone();
        config["quantization_config"] = json!({
            "quant_method": "bitsandbytes", "load_in_8bit": true, "load_in_4bit": false,
            "llm_int8_skip_modules": ["model.embed_tokens"], "llm_int8_threshold": 6.0,
        });
        std::fs::write(stored.0.join("config.json"), config.to_string()).expect("written");
        stored
    }

    fn open(&self) -> ModelFiles {
        ModelFiles::open(&self.0).expect("opens")
    }

    /// The bridge's options for a plan.
    fn options(&self, method: Value) -> String {
        json!({
            "model": self.0, "computeDtype": "f32", "seed": 0, "method": method,
            "optimizer": {
                "kind": "adamw", "paged": false, "stateDir": null,
                "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weightDecay": 0.0, "maxGradNorm": 0.0,
            },
            "plan": { "seqLength": 16, "microBatch": 1, "gradientAccumulation": 1 },
        })
        .to_string()
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

type Tensors = Vec<(String, Dtype, Vec<usize>, Vec<u8>)>;

fn plain_or_head(files: &ModelFiles, name: &str) -> Tensors {
    if name == HEAD {
        return in_int8(files, "lm_head");
    }
    let (shape, values) = files.read_f32(name).expect("values");
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    vec![(name.to_owned(), Dtype::F32, shape, bytes)]
}

fn in_int8(files: &ModelFiles, module: &str) -> Tensors {
    let name = format!("{module}.weight");
    let weight = files.matrix(&name, Residency::Mapped).expect("a matrix");
    let matrix = Int8Matrix::quantize(&Ctx::cpu(Precision::F32), &weight).expect("quantises");
    let (rows, cols) = matrix.dims();
    let (codes, absmax) = matrix.parts();
    let codes = codes.iter().map(|code| code.cast_unsigned()).collect();
    let absmax = absmax.iter().flat_map(|max| max.to_le_bytes()).collect();
    vec![
        (name, Dtype::I8, vec![rows, cols], codes),
        (format!("{module}.SCB"), Dtype::F32, vec![rows], absmax),
        (format!("{module}.weight_format"), Dtype::U8, vec![], vec![0]),
    ]
}

fn load(
    files: &ModelFiles,
    method: &Method,
    quantization: Option<&QuantizationOptions>,
) -> Result<Model, Error> {
    let load = LoadOptions { method, quantization, seed: 1 };
    model::load(&Ctx::cpu(Precision::F32), files, load, &Signal::default())
}

#[test]
fn it_trains_with_the_bits_of_one_that_is_quantised_while_it_is_loaded() {
    let stored = Stored::new("trains");
    let files = stored.open();
    let mut found = load(&files, &lora(), None).expect("loads");
    assert!(found.unused_tensors.is_empty(), "{:?}", found.unused_tensors);
    assert!(found.block_linears().all(|linear| matches!(linear.weight, Weight::Int8(_))));
    assert!(matches!(found.head.weight, Weight::Int8(_)));

    let whole = ModelFiles::open(&golden()).expect("opens");
    let int8 = QuantizationOptions::Int8 { skip_modules: vec![] };
    let quantised = load(&whole, &lora(), Some(&int8)).expect("loads");
    for (a, b) in found.block_linears().zip(quantised.block_linears()) {
        let values = |weight: &Weight| weight.with_elements(|e| e.to_f32()).expect("values");
        assert!(values(&a.weight) == values(&b.weight), "{}", a.name);
    }
    // No option of Transformers quantises the head.
    found.head.weight = quantised.head.weight.clone();
    assert_eq!(losses(found), losses(quantised));
}

#[test]
fn the_files_decide_and_options_do_not_quantise_again() {
    let stored = Stored::new("decide");
    let four = QuantizationOptions::FourBits {
        quant_type: QuantType::Nf4,
        double_quant: true,
        block_size: 64,
        skip_modules: vec![],
    };
    let model = load(&stored.open(), &Method::Frozen, Some(&four)).expect("loads");
    assert!(model.block_linears().all(|linear| matches!(linear.weight, Weight::Int8(_))));
}

#[test]
fn full_fine_tuning_of_it_is_refused() {
    let stored = Stored::new("full");
    let error = load(&stored.open(), &Method::Full, None).err().expect("refused");
    assert_eq!(error.code(), Code::ModelFiles);
    assert!(error.to_string().contains("stored in 8 bits"), "{error}");
    let asked = stored.options(json!({ "kind": "full" }));
    assert_eq!(plan_only(&parse(&asked).expect("options")).unwrap_err().code(), Code::ModelFiles);
}

#[test]
fn a_plan_counts_the_bytes_that_the_file_has() {
    let stored = Stored::new("plan");
    let options = stored.options(json!({ "kind": "none" }));
    let plan = plan_only(&parse(&options).expect("options")).expect("a plan");
    let model = load(&stored.open(), &Method::Frozen, None).expect("loads");
    let linears = model.block_linears().chain([&model.embedding, &model.head]);
    let held: usize = linears.map(|linear| linear.weight.bytes()).sum();
    assert_eq!(plan.mapped.weights as usize, held);
}

/// A head in 8 bits that goes with an adapter is saved as its values.
#[test]
fn a_head_in_8_bits_is_saved_in_f32() {
    let stored = Stored::new("head");
    let files = stored.open();
    let mut model = load(&files, &lora(), None).expect("loads");
    model.vocabulary.save = SaveEmbeddings::Always;
    let saved = with_saved(&model, |tensors| {
        Ok(tensors.iter().map(|t| (t.name.to_owned(), t.dtype, t.bytes.to_vec())).collect())
    });
    let saved: Vec<_> = saved.expect("saved");
    let (name, dtype, bytes) = &saved[1];
    assert!(name.ends_with(HEAD) && *dtype == StoredDtype::F32, "{name} {dtype}");
    let values = files.read_f32(HEAD).expect("values").1;
    assert!(values.iter().flat_map(|value| value.to_le_bytes()).eq(bytes.iter().copied()));
}
