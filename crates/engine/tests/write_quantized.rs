//! A model that is written in bitsandbytes' form: a training on the folder has the losses of one on the original,
//! bit for bit, whatever the code, the family, the shards and the source.

mod four_bits;

use engine::ctx::{Ctx, Precision};
use engine::formats::{ModelFiles, StoredDtype};
use engine::model::quantize::{QuantType, QuantizationOptions};
use engine::model::{self, LoadOptions, Method, Model, check, write_quantized};
use engine::signal::Signal;
use engine::{Code, Error};
use four_bits::{lora, losses};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A folder to write to. Goes away.
struct Out(PathBuf);

impl Out {
    fn new() -> Out {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("lora-train-write-quantized-{}-{number}", std::process::id());
        Out(std::env::temp_dir().join(name))
    }

    fn files(&self) -> ModelFiles {
        ModelFiles::open(&self.0).expect("what was written opens")
    }

    fn config(&self) -> Value {
        let text = std::fs::read_to_string(self.0.join("config.json")).expect("the config");
        serde_json::from_str(&text).expect("JSON")
    }

    fn shards(&self) -> usize {
        let entries = std::fs::read_dir(&self.0).expect("the folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".safetensors")).count()
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn goldens(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/goldens").join(name)
}

fn four_bits_of(quant_type: QuantType, double_quant: bool) -> QuantizationOptions {
    QuantizationOptions::FourBits { quant_type, double_quant, block_size: 64, skip_modules: vec![] }
}

fn int8(skip: &[&str]) -> QuantizationOptions {
    QuantizationOptions::Int8 { skip_modules: skip.iter().map(|&name| name.to_owned()).collect() }
}

fn load(
    files: &ModelFiles,
    method: &Method,
    quantization: Option<&QuantizationOptions>,
    vocab_rows: Option<usize>,
) -> Model {
    let load = LoadOptions { method, quantization, seed: 1 };
    let given = model::Given { vocab_rows, cache: None };
    let ctx = Ctx::cpu(Precision::F32);
    model::load_given(&ctx, files, load, given, &Signal::default()).expect("loads").model
}

/// Writes the model, checks what lies there, and compares trainings.
fn written(source: &str, options: &QuantizationOptions, shard: u64, rows: Option<usize>) -> Out {
    let (files, out) = (ModelFiles::open(&goldens(source)).expect("opens"), Out::new());
    let mut model = load(&files, &Method::Frozen, Some(options), rows);
    let signal = Signal::default();
    write_quantized::write(&model, &files, options, (&out.0, shard), &signal).expect("written");
    let (done, total) = signal.progress();
    assert_eq!(done, total, "{source}");
    let checked = check::quantized(&mut model, &files, &out.0, &signal).expect("read back");
    assert_eq!(checked.largest_deviation, 0.0);

    let saved = out.files();
    let packed = saved.layouts().count();
    let quantized = model.block_linears().filter(|linear| linear.weight.quantized().is_some());
    assert_eq!(packed, quantized.count(), "{source}");
    let trained = |files, quantization, rows| losses(load(files, &lora(), quantization, rows));
    let bits = |losses: Vec<f64>| losses.into_iter().map(f64::to_bits).collect::<Vec<_>>();
    let ours = bits(trained(&saved, None, None));
    assert_eq!(ours, bits(trained(&files, Some(options), rows)), "{source} {options:?}");
    out
}

const WHOLE: u64 = 5_000_000_000;

#[test]
fn every_code_trains_with_the_bits_of_the_original() {
    for quant_type in QuantType::ALL {
        for double_quant in [true, false] {
            let options = four_bits_of(quant_type, double_quant);
            let out = written("models/llama-bias", &options, WHOLE, None);
            let section = &out.config()["quantization_config"];
            assert_eq!(section["bnb_4bit_quant_type"], quant_type.name());
            assert_eq!(section["bnb_4bit_use_double_quant"], double_quant);
        }
    }
    written("models/llama-bias", &int8(&[]), WHOLE, None);
}

#[test]
fn shards_and_their_index_hold_the_parts() {
    for options in [four_bits_of(QuantType::Nf4, true), int8(&[])] {
        let out = written("models/llama-bias", &options, 2_000, None);
        assert!(out.shards() > 2, "{}", out.shards());
    }
}

/// Falcon and MPT fuse q, k and v; MPT's and BLOOM's files name their tensors otherwise than Transformers.
#[test]
fn families_keep_their_names() {
    for family in ["falcon-rw", "mpt-original", "bloom-hub"] {
        let source = format!("models/{family}");
        written(&source, &four_bits_of(QuantType::Nf4, true), WHOLE, None);
        written(&source, &int8(&[]), WHOLE, None);
    }
}

#[test]
fn a_gguf_file_becomes_a_folder() {
    let out = written("gguf/tiny-llama.gguf", &four_bits_of(QuantType::Nf4, true), WHOLE, None);
    assert_eq!(out.config()["quantization_config"]["quant_method"], "bitsandbytes");
}

#[test]
fn what_is_skipped_stays_as_the_files_have_it_and_the_head_is_named() {
    let out = written("models/llama-bias", &int8(&["o_proj"]), WHOLE, None);
    let (files, config) = (out.files(), out.config());
    let info = |name| files.info(name).expect("a tensor").dtype;
    let source = ModelFiles::open(&goldens("models/llama-bias")).expect("opens");
    for name in ["model.layers.0.self_attn.o_proj.weight", "model.norm.weight"] {
        assert_eq!(info(name), source.info(name).expect("a tensor").dtype);
    }
    assert_eq!(info("model.layers.0.mlp.up_proj.weight"), StoredDtype::Int8);
    let section = json!({
        "_load_in_4bit": false, "_load_in_8bit": true, "bnb_4bit_compute_dtype": "float32",
        "bnb_4bit_quant_storage": "uint8", "bnb_4bit_quant_type": "fp4",
        "bnb_4bit_use_double_quant": false, "llm_int8_enable_fp32_cpu_offload": false,
        "llm_int8_has_fp16_weight": false, "llm_int8_skip_modules": ["o_proj", "lm_head"],
        "llm_int8_threshold": 6.0, "load_in_4bit": false, "load_in_8bit": true,
        "quant_method": "bitsandbytes",
    });
    assert_eq!(config["quantization_config"], section);
}

#[test]
fn a_vocabulary_that_grew_is_written_with_its_rows() {
    let out = written("models/llama-bias", &int8(&[]), WHOLE, Some(101));
    assert_eq!(out.config()["vocab_size"], 101);
}

#[test]
fn a_signal_leaves_nothing_behind() {
    let (files, out) =
        (ModelFiles::open(&goldens("models/llama-bias")).expect("opens"), Out::new());
    let options = int8(&[]);
    let model = load(&files, &Method::Frozen, Some(&options), None);
    let signal = Signal::default();
    signal.cancel();
    let ended = write_quantized::write(&model, &files, &options, (&out.0, WHOLE), &signal);
    assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");
    assert_eq!(ended.unwrap_err().code(), Code::Cancelled);
    let name = out.0.file_name().expect("a name").to_string_lossy().into_owned();
    let beside = std::fs::read_dir(std::env::temp_dir()).expect("the folder");
    let left = beside.filter_map(Result::ok).map(|entry| entry.file_name());
    assert!(!left.into_iter().any(|left| left.to_string_lossy().starts_with(&name)));
}

/// What the disk has is what counts: a byte that changes is found.
#[test]
fn a_folder_that_the_disk_changed_is_refused() {
    let (files, out) =
        (ModelFiles::open(&goldens("models/llama-bias")).expect("opens"), Out::new());
    let options = four_bits_of(QuantType::Nf4, true);
    let mut model = load(&files, &Method::Frozen, Some(&options), None);
    let signal = Signal::default();
    write_quantized::write(&model, &files, &options, (&out.0, WHOLE), &signal).expect("written");
    let path = out.0.join("model.safetensors");
    let mut bytes = std::fs::read(&path).expect("bytes");
    let last = bytes.len() - 1;
    bytes[last] ^= 0x5a;
    std::fs::write(&path, bytes).expect("written");
    let error = check::quantized(&mut model, &files, &out.0, &signal).expect_err("another bit");
    assert_eq!(error.code(), Code::Output, "{error}");
}
