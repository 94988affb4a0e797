//! A checkpoint gives back the bits that it was given, and what does not belong to the training is
//! refused by its name.

use engine::Code;
use engine::checkpoint::{load, save};
use engine::ctx::{Ctx, Precision, read};
use engine::decoder::{MicroBatch, Recomputation};
use engine::formats::safetensors::SafetensorsFile;
use engine::formats::write::{TensorBytes, write_atomically, write_safetensors};
use engine::formats::{ModelFiles, StoredDtype};
use engine::model::adapter::LoraOptions;
use engine::model::{self, LoadOptions, Method, Model};
use engine::optimizer::OptimizerOptions;
use engine::signal::Signal;
use engine::train::Trainer;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/goldens/models").join(name)
}

fn lora(r: usize) -> Method {
    lora_beside(r, r#"["lm_head"]"#)
}

/// An adapter on every linear, with the modules of a JSON list trained whole beside it.
fn lora_beside(r: usize, modules: &str) -> Method {
    lora_options(r, r#""all-linear""#, modules)
}

/// An adapter on the linears of a JSON list, the head trained whole.
fn lora_on(r: usize, targets: &str) -> Method {
    lora_options(r, targets, r#"["lm_head"]"#)
}

fn lora_options(r: usize, targets: &str, modules: &str) -> Method {
    let json = format!(
        r#"{{"r":{r},"loraAlpha":8,"loraDropout":0.1,"targetModules":{targets},"bias":"none",
            "modulesToSave":{modules},"useRslora":false}}"#
    );
    Method::Lora(serde_json::from_str::<LoraOptions>(&json).expect("options"))
}

struct Run {
    model: Model,
    trainer: Trainer,
    files: ModelFiles,
}

impl Run {
    fn open(name: &str, method: &Method, seed: u64) -> Run {
        let files = ModelFiles::open(&golden(name)).expect("the golden opens");
        let ctx = Ctx::cpu(Precision::F32);
        let options = LoadOptions { method, quantization: None, seed };
        let model = model::load(&ctx, &files, options, &Signal::default()).expect("a model");
        let options = OptimizerOptions {
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            ..OptimizerOptions::adamw()
        };
        // Dropout follows from this seed and the step, so both runs have the same.
        let trainer =
            Trainer::new(&model, &options, 7, Recomputation::default()).expect("a trainer");
        Run { model, trainer, files }
    }

    fn step(&mut self) {
        let ids: Vec<u32> = (0..20).map(|i| i * 3 % 96).collect();
        let labels = ids.iter().map(|id| *id as i32).collect();
        let micro = MicroBatch { labels, ids, seq_starts: vec![0, 8, 20] };
        let report = self.trainer.step(&mut self.model, &[micro], 1e-2, &Signal::default());
        report.expect("a step");
    }

    fn save(&self, dir: &Path) {
        save(&self.model, &self.files, &self.trainer, dir, "the/base", &Signal::default())
            .expect("a checkpoint");
    }

    /// Weights and the optimizer's state.
    fn bits(&self) -> (Vec<Vec<u32>>, Vec<Vec<u8>>, u64) {
        let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect();
        let weights = self.model.params.iter().map(|p| read(&p.value, bits).expect("values"));
        let state = self.trainer.optimizer.state_tensors();
        let state = state.iter().map(|tensor| tensor.bytes.to_vec()).collect();
        (weights.collect(), state, self.trainer.step)
    }
}

/// A folder of its own, gone when it goes out of scope.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path =
            std::env::temp_dir().join(format!("lora-train-ckpt-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_training_goes_on_to_the_same_bits() {
    let runs = [("llama-bias", Method::Full), ("bloom-hub", Method::Full), ("llama-yarn", lora(4))];
    for (name, method) in runs {
        let folder = Folder::new(name);
        let mut straight = Run::open(name, &method, 1);
        straight.step();
        straight.step();
        straight.save(&folder.0);
        // Another seed draws another adapter.
        let mut resumed = Run::open(name, &method, 2);
        load(&resumed.model, &mut resumed.trainer, &folder.0, &Signal::default())
            .expect("a checkpoint");
        assert!(resumed.bits() == straight.bits(), "{name}");
        assert_eq!(resumed.trainer.step, 2);
        straight.step();
        resumed.step();
        assert!(resumed.bits() == straight.bits(), "{name}: the third step");
    }
}

#[test]
fn a_checkpoint_of_another_training_is_refused_by_name() {
    let folder = Folder::new("other");
    let mut run = Run::open("llama-yarn", &lora(4), 1);
    run.step();
    run.save(&folder.0);
    for (name, method, says) in [
        ("llama-yarn", lora(2), "lora_A.weight` is F32 [4, "),
        ("llama-bias", lora(4), "lm_head.weight` is F32 [97, "),
        ("bloom-hub", lora(4), "lm_head.weight` is F32 [97, "),
        ("llama-yarn", lora_on(4, "[\"q_proj\"]"), "is none that is trained here"),
        (
            "llama-yarn",
            lora_beside(4, "[]"),
            "`base_model.model.lm_head.weight.exp_avg`, which nothing",
        ),
        (
            "llama-yarn",
            lora_beside(4, r#"["lm_head", "norm"]"#),
            "no tensor `base_model.model.model.",
        ),
        ("llama-yarn", Method::Full, "config.json"),
    ] {
        let mut other = Run::open(name, &method, 1);
        let error =
            load(&other.model, &mut other.trainer, &folder.0, &Signal::default()).expect_err(says);
        assert_eq!(error.code(), Code::ModelFiles, "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(!error.hint().is_empty());
    }
}

#[test]
fn damaged_files_and_other_optimizers_are_refused() {
    let folder = Folder::new("damaged");
    let mut run = Run::open("llama-yarn", &lora(4), 1);
    run.step();
    run.save(&folder.0);
    let path = folder.0.join("optimizer.safetensors");
    let whole = std::fs::read(&path).expect("the state");
    let file = SafetensorsFile::open(&path).expect("the state");
    let tensors: Vec<TensorBytes> = file
        .entries()
        .iter()
        .map(|e| TensorBytes {
            name: &e.name,
            dtype: e.dtype,
            shape: &e.shape,
            bytes: file.bytes(e),
        })
        .collect();
    let with = |optimizer: &str, step: &str, tensors: &[TensorBytes]| {
        let pairs = [("optimizer", optimizer), ("step", step)];
        let metadata = BTreeMap::from(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())));
        write_atomically(&path, |file| write_safetensors(file, tensors, &metadata))
            .expect("a file");
    };
    let cases: [(&str, Code, &dyn Fn()); 5] = [
        ("is the state of sgd", Code::Config, &|| with("sgd", "1", &tensors)),
        ("no `step`", Code::ModelFiles, &|| with("adamw", "-1", &tensors)),
        ("has no `", Code::ModelFiles, &|| with("adamw", "1", &tensors[1..])),
        ("ends at byte", Code::ModelFiles, &|| {
            std::fs::write(&path, &whole[..whole.len() - 4]).expect("a file");
        }),
        ("no such file", Code::ModelFiles, &|| std::fs::remove_file(&path).expect("a file")),
    ];
    for (says, code, damage) in cases {
        damage();
        let mut other = Run::open("llama-yarn", &lora(4), 1);
        let error =
            load(&other.model, &mut other.trainer, &folder.0, &Signal::default()).expect_err(says);
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(other.trainer.step, 0);
    }
}

#[test]
fn the_weights_of_a_full_training_are_saved_in_f32() {
    let folder = Folder::new("f32");
    let mut run = Run::open("mpt-original", &Method::Full, 1);
    run.step();
    run.save(&folder.0);
    let files = ModelFiles::open(&folder.0).expect("a model folder");
    assert!(files.tensors().iter().all(|tensor| tensor.dtype == StoredDtype::F32));
    let dtype = ["dtype", "torch_dtype"].iter().find_map(|key| files.config().get(key));
    assert_eq!(dtype.and_then(|dtype| dtype.as_str()), Some("float32"));
}

#[test]
fn a_fingerprint_follows_from_config_and_weights() {
    let folder = Folder::new("print");
    let of = |dir: &Path| ModelFiles::open(dir).expect("a model").fingerprint();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(golden("llama-bias").join(file), folder.0.join(file)).expect("a copy");
    }
    let first = of(&folder.0);
    assert_eq!(first, of(&golden("llama-bias")), "the place does not count");
    assert_ne!(first, of(&golden("llama-yarn")));
    let path = folder.0.join("model.safetensors");
    let mut bytes = std::fs::read(&path).expect("weights");
    let last = bytes.len() - 8;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).expect("weights");
    assert_ne!(first, of(&folder.0), "one bit of a small tensor");
}
