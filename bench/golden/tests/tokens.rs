//! A vocabulary that grows, against what torch and PEFT make of the same models
//! (`bench/goldens/tokens_models.py`); one that has room stays as it is.

use engine::Code;
use engine::ctx::{Ctx, Precision};
use engine::decoder;
use engine::formats::ModelFiles;
use engine::formats::peft;
use engine::formats::safetensors::SafetensorsFile;
use engine::model::{self, LoadOptions, Method, adapter_files, vocabulary};
use engine::options::EngineOptions;
use engine::session::{Session, SessionInfo};
use engine::signal::Signal;
use engine::weight::Weight;
use golden::{Batch, tolerance};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const GROWN: [&str; 2] = ["bloom-hub", "llama-bias"];
/// The rows of `mpt-original`.
const MPT_ROWS: usize = 61;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/goldens")
}

fn base(name: &str) -> PathBuf {
    goldens().join("models").join(name)
}

fn grown(name: &str) -> PathBuf {
    goldens().join("tokens/models").join(name)
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("the file")).expect("JSON")
}

/// A folder that goes away.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        Folder(std::env::temp_dir().join(format!("lora-train-{name}-{}", std::process::id())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A session on a golden model with some options changed; the plan counts what it holds.
fn open(model: &Path, changed: Value) -> (Session, SessionInfo) {
    let (session, info) = open_unplanned(model, changed);
    assert_eq!(info.plan.all_params, info.all_params as u64, "the plan counts the rows");
    assert_eq!(info.plan.trainable_params, info.trainable_params as u64);
    (session, info)
}

/// The same where an adapter is only applied: the plan is that of the base model.
fn open_unplanned(model: &Path, changed: Value) -> (Session, SessionInfo) {
    try_open(model, changed).expect("a session")
}

fn try_open(model: &Path, changed: Value) -> engine::Result<(Session, SessionInfo)> {
    let mut options = json!({
        "model": model, "computeDtype": "f32", "seed": 0, "method": { "kind": "full" },
        "optimizer": {
            "kind": "adamw", "paged": false, "stateDir": null, "beta1": 0.9, "beta2": 0.999,
            "eps": 1e-8, "weightDecay": 0.01, "maxGradNorm": 0.0, "decayAll": true,
        },
        "plan": { "seqLength": 32, "microBatch": 4, "gradientAccumulation": 1 },
    });
    for (key, value) in changed.as_object().expect("an object") {
        options[key] = value.clone();
    }
    let options: EngineOptions = serde_json::from_value(options).expect("the bridge's options");
    Session::open(&options, &Signal::default())
}

/// Options that train the golden's adapter from its values.
fn lora(adapter: &Path) -> Value {
    let config = read_json(&adapter.join("adapter_config.json"));
    json!({
        "kind": "lora", "r": config["r"], "loraAlpha": config["lora_alpha"], "loraDropout": 0.0,
        "targetModules": config["target_modules"], "bias": "none",
    })
}

fn losses(session: &mut Session, batch: &Batch) -> Vec<f64> {
    let micros = std::slice::from_ref(&batch.ragged);
    (0..5).map(|_| session.step(micros, 1e-3).expect("a step").loss).collect()
}

fn assert_near(what: &str, found: &[f64], expected: &Value) {
    let expected = expected.as_array().expect("a list");
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let expected = expected.as_f64().expect("a number");
        let relative = ((found - expected) / expected).abs();
        println!("{what}: {found} {relative:.1e}");
        assert!(relative <= tolerance::LOSS_REL, "{what}: {found}, expected {expected}");
    }
}

/// Name → dtype and shape of a file's tensors.
fn tensors(adapter: &Path) -> BTreeMap<String, String> {
    let file = SafetensorsFile::open(&adapter.join("adapter_model.safetensors")).expect("opens");
    let entry = |e: &engine::formats::safetensors::Entry| {
        (e.name.clone(), format!("{:?} {:?}", e.dtype, e.shape))
    };
    file.entries().iter().map(entry).collect()
}

#[test]
fn new_rows_are_torchs_mean() {
    for name in GROWN {
        let expected = read_json(&grown(name).join("expected.json"));
        let rows = expected["vocab_size"].as_u64().expect("a number") as usize;
        let files = ModelFiles::open(&base(name)).expect("opens");
        let load = LoadOptions { method: &Method::Frozen, quantization: None, seed: 0 };
        let ctx = Ctx::cpu(Precision::F32);
        let model = model::load(&ctx, &files, load, &Signal::default()).expect("a model");
        for (part, linear) in [("embedding", &model.embedding), ("head", &model.head)] {
            // Steps between neighbouring values: 2⁻²³ in f32, 2⁻⁷ in bf16, of the value's power of two.
            for (key, dtype, ulp) in [
                ("mean", candle_core::DType::F32, 2f32.powi(-23)),
                ("mean_bf16", candle_core::DType::BF16, 2f32.powi(-7)),
            ] {
                let weight = linear.weight.to_tensor(&ctx.device).expect("a matrix");
                let weight = Weight::Tensor(weight.to_dtype(dtype).expect("the dtype"));
                let resized = vocabulary::resize(weight, rows).expect("grows");
                assert_eq!(resized.dtype(), dtype);
                let values = resized.to_tensor(&ctx.device).and_then(|t| Ok(t.to_vec2::<f32>()?));
                let values = values.expect("a matrix");
                assert_eq!(values.len(), rows);
                assert_eq!(values[rows - 1], values[rows - 2]);
                let mean = expected[key][part].as_array().expect("a list");
                for (found, mean) in values[rows - 1].iter().zip(mean) {
                    let mean = mean.as_f64().expect("a number") as f32;
                    let step = ulp * 2f32.powf(mean.abs().log2().floor());
                    assert!((found - mean).abs() <= step, "{name} {key}: {found}, torch {mean}");
                }
            }
        }
    }
}

#[test]
fn grown_models_train_as_in_torch() {
    for name in GROWN {
        let expected = read_json(&grown(name).join("expected.json"));
        let batch = Batch::open(&grown(name).join("expected.json")).expect("a batch");
        let rows = expected["vocab_size"].as_u64().expect("a number") as usize;
        let (mut full, info) = open(&base(name), json!({ "vocabRows": rows }));
        assert_eq!((info.vocab_size, info.stored_vocab_size), (rows, rows - 2));
        assert_near(name, &losses(&mut full, &batch), &expected["full_adamw_losses"]);

        let adapter = base(name).join("adapter");
        let options = json!({ "method": lora(&adapter), "adapter": adapter, "vocabRows": rows });
        let (mut session, info) = open(&base(name), options);
        assert_eq!(info.vocab_size, rows);
        assert_near(name, &losses(&mut session, &batch), &expected["lora_adamw_losses"]);
    }
}

#[test]
fn a_grown_vocabulary_is_saved_and_read_as_peft_does() {
    for name in GROWN {
        let theirs = grown(name).join("adapter");
        let expected = read_json(&grown(name).join("expected.json"));
        let batch = Batch::open(&grown(name).join("expected.json")).expect("a batch");
        let rows = expected["vocab_size"].as_u64().expect("a number") as usize;
        let micros = std::slice::from_ref(&batch.ragged);
        let loss = |session: &mut Session| {
            let (sum, tokens) = session.evaluate(micros).expect("a loss");
            sum / tokens as f64
        };
        // The adapter's rows are taken: nothing else says how many there are.
        for method in [json!({ "kind": "none" }), lora(&theirs)] {
            let trained = method["kind"] == "lora";
            let options = json!({ "method": method, "adapter": theirs });
            let (mut session, info) = open_unplanned(&base(name), options);
            assert_eq!(info.vocab_size, rows);
            let found = loss(&mut session);
            assert_near(name, &[found], &json!([expected["saved_loss"]]));

            let out = Folder::new(&format!("tokens-{name}-{trained}"));
            session.save_adapter(&out.0, name).expect("saves");
            assert_eq!(tensors(&out.0), tensors(&theirs));
            let bytes = |dir: &Path| std::fs::read(dir.join("adapter_model.safetensors"));
            assert_eq!(bytes(&out.0).expect("ours"), bytes(&theirs).expect("PEFT's"));
        }
    }
}

#[test]
fn an_embedding_of_another_width_is_refused_by_name() {
    let (config, mut tensors) =
        peft::read_adapter(&grown("bloom-hub").join("adapter")).expect("reads");
    let name = "base_model.model.transformer.word_embeddings.weight";
    let embedding = tensors.iter_mut().find(|t| t.name == name).expect("saved");
    let rows = embedding.shape[0];
    embedding.shape = vec![rows, 15];
    embedding.data.truncate(rows * 15);
    let out = Folder::new("tokens-narrow");
    peft::write_adapter(&out.0, &config, &tensors, &[], &Signal::default()).expect("writes");
    let options = json!({ "method": { "kind": "none" }, "adapter": out.0 });
    let Err(error) = try_open(&base("bloom-hub"), options) else { panic!("accepted") };
    assert_eq!(error.code(), Code::ModelFiles);
    let message = error.to_string();
    assert!(message.contains(name) && message.contains("[69, 15]"), "{message}");
}

#[test]
fn embeddings_are_saved_or_not_as_the_option_says() {
    let plain = |tensors: &BTreeMap<String, String>| tensors.keys().all(|k| k.contains(".lora_"));
    let saved = |rows: Option<usize>, save: &str| {
        let adapter = base("mpt-original").join("adapter");
        let options = json!({
            "method": lora(&adapter), "adapter": adapter, "vocabRows": rows, "saveEmbeddingLayers": save,
        });
        let (session, info) = open(&base("mpt-original"), options);
        let out = Folder::new(&format!("tokens-mpt-{save}-{rows:?}"));
        session.save_adapter(&out.0, "mpt").expect("saves");
        (info.vocab_size, tensors(&out.0))
    };
    // A vocabulary that has room neither grows nor shrinks, and the adapter stays plain.
    for rows in [None, Some(MPT_ROWS - 5), Some(MPT_ROWS)] {
        let (size, tensors) = saved(rows, "auto");
        assert!(size == MPT_ROWS && plain(&tensors), "{tensors:?}");
    }
    let (size, tensors) = saved(Some(MPT_ROWS + 1), "never");
    assert!(size == MPT_ROWS + 1 && plain(&tensors), "{tensors:?}");
    for (rows, save) in [(None, "always"), (Some(MPT_ROWS + 1), "auto")] {
        let (size, tensors) = saved(rows, save);
        for key in ["lm_head", "transformer.wte"] {
            let shape = &tensors[&format!("base_model.model.{key}.weight")];
            assert_eq!(*shape, format!("F32 [{size}, 30]"));
        }
    }
}

#[test]
fn a_grown_model_is_written_with_its_size_and_its_tokens() {
    for name in GROWN {
        let batch = Batch::open(&grown(name).join("expected.json")).expect("a batch");
        let rows = read_json(&grown(name).join("expected.json"))["vocab_size"].as_u64();
        let rows = rows.expect("a number") as usize;
        let ids = json!({ "pad": rows - 2, "eos": 2, "bos": 1 });
        let (mut session, _) =
            open(&base(name), json!({ "vocabRows": rows, "tokenIds": ids.clone() }));
        let micros = std::slice::from_ref(&batch.ragged);
        session.step(micros, 1e-2).expect("a step");
        let out = Folder::new(&format!("tokens-written-{name}"));
        session.save_model(&out.0).expect("saves");
        let config = read_json(&out.0.join("config.json"));
        assert_eq!((&config["vocab_size"], &config["pad_token_id"]), (&json!(rows), &ids["pad"]));
        let generation = read_json(&out.0.join("generation_config.json"));
        assert_eq!(generation["pad_token_id"], ids["pad"]);
        let (mut again, info) = open(&out.0, json!({}));
        assert_eq!((info.vocab_size, info.stored_vocab_size), (rows, rows));
        assert_eq!(
            session.evaluate(micros).expect("a loss"),
            again.evaluate(micros).expect("a loss")
        );
    }
}

#[test]
fn peft_answers_the_same_with_a_grown_vocabulary() {
    let Some(python) = std::env::var_os("PEER_PYTHON") else {
        println!("skipped: PEER_PYTHON names no Python");
        return;
    };
    for name in GROWN {
        let expected = grown(name).join("expected.json");
        let batch = Batch::open(&expected).expect("a batch");
        let rows = read_json(&expected)["vocab_size"].as_u64().expect("a number") as usize;
        let adapter = base(name).join("adapter");
        let options = json!({ "method": lora(&adapter), "adapter": adapter, "vocabRows": rows });
        let (mut session, _) = open(&base(name), options);
        losses(&mut session, &batch);
        let out = Folder::new(&format!("tokens-peft-{name}"));
        session.save_adapter(&out.0, name).expect("saves");

        let logits = out.0.join("logits.safetensors");
        let script = goldens().join("../../bench/interop/tokens.py");
        let paths = [script, base(name), out.0.clone(), "--batch".into(), expected, "--out".into()];
        let status = Command::new(&python).args(paths).arg(&logits).status().expect("starts");
        assert!(status.success());
        let data = std::fs::read(&logits).expect("PEFT's logits");
        let file = safetensors::SafeTensors::deserialize(&data).expect("a safetensors file");
        let theirs = file.tensor("logits").expect("`logits`").data().as_chunks::<4>().0;

        let (lora, tensors) = adapter_files::read(&out.0).expect("our adapter");
        let files = ModelFiles::open(&base(name)).expect("opens");
        let method = Method::Lora(lora);
        let load = LoadOptions { method: &method, quantization: None, seed: 0 };
        let ctx = Ctx::cpu(Precision::F32);
        let given = model::Given { vocab_rows: Some(rows), cache: None };
        let loaded = model::load_given(&ctx, &files, load, given, &Signal::default());
        let mut model = loaded.expect("loads").model;
        adapter_files::load_into(&mut model, &tensors).expect("fits");
        let ours = decoder::logits(&mut model, &batch.padded, &Signal::default()).expect("logits");
        let ours = ours.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("values");
        assert_eq!(ours.len(), theirs.len());
        let kept = batch.mask.iter().flatten().enumerate().filter(|(_, keep)| **keep == 1);
        let values = kept.flat_map(|(row, _)| row * rows..(row + 1) * rows);
        let differences =
            values.map(|i| f64::from((ours[i] - f32::from_le_bytes(theirs[i])).abs()));
        let largest = differences.fold(0.0, f64::max);
        println!("{name}: largest difference from PEFT: {largest:.1e}");
        assert!(largest <= tolerance::LOGITS_ABS, "{largest}");
    }
}
