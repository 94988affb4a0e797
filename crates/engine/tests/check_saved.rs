//! What a session saved is read back and compared: equal in every dtype, family and file format that models
//! come in; and whatever is changed on the disk is found, with its file and tensor.

#[expect(dead_code, reason = "what only the readers' tests need")]
#[path = "formats/support.rs"]
mod support;

use engine::Code;
use engine::decoder::MicroBatch;
use engine::formats::{ModelFiles, StoredDtype};
use engine::model::check::Checked;
use engine::session::Session;
use engine::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use support::{TempDir, golden};

/// A session on a golden, three steps later.
fn trained(model: &Path, compute_dtype: &str, method: Value, quantized: bool) -> Session {
    let quantization = quantized.then(
        || json!({ "kind": "fourBits", "quantType": "nf4", "doubleQuant": true, "blockSize": 64 }),
    );
    let options = json!({
        "model": model, "computeDtype": compute_dtype, "seed": 7, "method": method,
        "quantization": quantization,
        "optimizer": {
            "kind": "adamw", "paged": false, "stateDir": null, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8,
            "weightDecay": 0.01, "maxGradNorm": 1.0,
        },
        "plan": { "seqLength": 16, "microBatch": 1, "gradientAccumulation": 1 },
    });
    let options = engine::options::parse(&options.to_string()).expect("the bridge's options");
    let (mut session, _) = Session::open(&options, &Signal::default()).expect("the model opens");
    let ids: Vec<u32> = (0..12).map(|i| (5 * i + 3) % 48).collect();
    let labels = ids.iter().map(|&id| id as i32).collect();
    let batch = MicroBatch { ids, labels, seq_starts: vec![0, 7, 12] };
    for _ in 0..3 {
        session.step(std::slice::from_ref(&batch), 1e-2).expect("a step");
    }
    session
}

fn full() -> Value {
    json!({ "kind": "full" })
}

fn lora() -> Value {
    json!({
        "kind": "lora", "r": 4, "loraAlpha": 8, "loraDropout": 0.1, "targetModules": null, "bias": "all",
        "modulesToSave": [], "useRslora": false,
    })
}

#[test]
fn a_model_is_read_back_with_equal_logits_from_every_dtype_and_format() {
    for (name, dtype) in [
        ("models/llama-bias", StoredDtype::F32),
        ("models/bloom-hub", StoredDtype::F32),
        ("models/falcon-rw", StoredDtype::F32),
        ("bin/bloom-f32", StoredDtype::F32),
        ("bin/llama-bf16", StoredDtype::Bf16),
        ("bin/mpt-f16", StoredDtype::F16),
    ] {
        for compute_dtype in ["f32", "bf16"] {
            let mut session = trained(&golden(name), compute_dtype, full(), false);
            let folder = TempDir::new();
            let out = folder.0.join("out");
            session.save_model(&out).expect(name);
            let checked = session.check_saved(&out).expect(name);
            let expected = Checked { what: "model", largest_deviation: 0.0, bound: 0.0 };
            assert_eq!(checked, expected, "{name}");

            // Not what it was, and in safetensors, whatever it was made of.
            let (saved, source) =
                (ModelFiles::open(&out).expect(name), ModelFiles::open(&golden(name)));
            assert!(out.join("model.safetensors").is_file());
            let source = source.expect(name);
            let trained = |info: &&engine::formats::TensorInfo| {
                source.read_f32(&info.name).expect(name) != saved.read_f32(&info.name).expect(name)
            };
            assert!(saved.tensors().iter().all(|info| info.dtype == dtype), "{name}");
            assert!(saved.tensors().iter().filter(trained).count() > 3, "{name}");
        }
    }
}

#[test]
fn an_adapter_is_read_back_with_equal_bits() {
    for (name, quantized) in [("models/llama-bias", false), ("bin/llama-bf16", true)] {
        let mut session = trained(&golden(name), "bf16", lora(), quantized);
        let folder = TempDir::new();
        session.save_adapter(&folder.0.join("out"), "base").expect(name);
        let checked = session.check_saved(&folder.0.join("out")).expect(name);
        assert_eq!(checked, Checked { what: "adapter", largest_deviation: 0.0, bound: 0.0 });
    }
}

#[test]
fn every_wait_is_counted_to_its_end() {
    for (name, method, quantized) in
        [("models/llama-bias", full(), false), ("bin/llama-bf16", lora(), true)]
    {
        let mut session = trained(&golden(name), "f32", method.clone(), quantized);
        let folder = TempDir::new();
        let (out, state) = (folder.0.join("out"), folder.0.join("state"));
        fs::create_dir(&state).expect(name);
        let tensors_in = |path: &Path| -> u64 {
            let files = fs::read_dir(path).expect(name).map(|entry| entry.expect(name).path());
            let tensors = files.filter(|file| file.extension().is_some_and(|e| e == "safetensors"));
            let bytes = |file: std::path::PathBuf| {
                let file = engine::formats::safetensors::SafetensorsFile::open(&file).expect(name);
                file.entries().iter().map(|entry| file.bytes(entry).len() as u64).sum::<u64>()
            };
            tensors.map(bytes).sum()
        };
        match method == full() {
            true => session.save_model(&out).expect(name),
            false => session.save_adapter(&out, "base").expect(name),
        }
        assert_eq!(session.progress(), (tensors_in(&out), tensors_in(&out)), "{name}: saved");
        session.check_saved(&out).expect(name);
        let (done, total) = session.progress();
        assert!(done == total && total > 0, "{name}: checked {done} of {total}");
        session.save_state(&state, "base").expect(name);
        assert_eq!(session.progress(), (tensors_in(&state), tensors_in(&state)), "{name}: state");
        session.load_state(&state).expect(name);
        assert_eq!(
            session.progress(),
            (tensors_in(&state), tensors_in(&state)),
            "{name}: restored"
        );
        // What may not be lost is written after the signal, too; what only reads ends.
        session.cancel();
        session.save_state(&state, "base").expect(name);
        for ended in [session.load_state(&state), session.check_saved(&out).map(|_| ())] {
            assert_eq!(ended.expect_err(name).code(), Code::Cancelled, "{name}");
        }
    }
}

/// What the check says of `out` after `change`, with DIR in place of the folder.
fn said(session: &mut Session, out: &Path, change: impl FnOnce()) -> String {
    change();
    let error = session.check_saved(out).expect_err("the folder was changed");
    assert_eq!(error.code(), Code::Output);
    assert!(!error.hint().is_empty());
    error.to_string().replace(&out.display().to_string(), "DIR")
}

/// Changes the last byte of the file.
fn spoil(path: &Path) {
    let mut bytes = fs::read(path).expect("the file");
    *bytes.last_mut().expect("bytes") ^= 1;
    fs::write(path, bytes).expect("written");
}

#[test]
fn a_model_that_changed_on_the_disk_is_found() {
    let folder = TempDir::new();
    let out = folder.0.join("out");
    let mut session = trained(&golden("bin/llama-bf16"), "f32", full(), false);
    let (weights, config) = (out.join("model.safetensors"), out.join("config.json"));
    let save = |session: &Session| session.save_model(&out).expect("saved");

    save(&session);
    let text = said(&mut session, &out, || spoil(&weights));
    // The last tensor by name.
    assert!(
        text.starts_with("DIR/model.safetensors: tensor `model.norm.weight` has ")
            && text.contains(" at value 15, which was saved as "),
        "{text}"
    );
    save(&session);
    let text = said(&mut session, &out, || {
        let text = fs::read_to_string(&config).expect("the config");
        assert!(
            text.contains("\"rms_norm_eps\": 1e-6") || text.contains("\"rms_norm_eps\": 1e-06"),
            "{text}"
        );
        let text = text.replace("\"rms_norm_eps\": 1e-", "\"rms_norm_eps\": 1e-1");
        fs::write(&config, text).expect("written");
    });
    assert!(
        text.starts_with("DIR: the logits differ by ") && text.ends_with("the bound is 0"),
        "{text}"
    );
    save(&session);
    let text = said(&mut session, &out, || {
        let bytes = fs::read(&weights).expect("the weights");
        fs::write(&weights, &bytes[..bytes.len() - 1]).expect("written");
    });
    assert!(
        text.starts_with("what was saved can't be read back: DIR/model.safetensors: "),
        "{text}"
    );
    save(&session);
    let text = said(&mut session, &out, || {
        let bytes = fs::read(&weights).expect("the weights");
        let text = String::from_utf8_lossy(&bytes[..3000])
            .replace("model.norm.weight", "model.norm.Weight");
        fs::write(&weights, [&text.as_bytes()[..3000], &bytes[3000..]].concat()).expect("written");
    });
    assert_eq!(text, "DIR: tensor `model.norm.weight` is not there, though it was saved");
}

#[test]
fn an_adapter_that_changed_on_the_disk_is_found() {
    let folder = TempDir::new();
    let out = folder.0.join("out");
    let mut session = trained(&golden("models/llama-bias"), "f32", lora(), false);
    let save = |session: &Session| session.save_adapter(&out, "base").expect("saved");
    save(&session);
    let text = said(&mut session, &out, || spoil(&out.join("adapter_model.safetensors")));
    assert!(text.starts_with("DIR/adapter_model.safetensors: tensor `base_model.model."), "{text}");
    save(&session);
    let text = said(&mut session, &out, || {
        let config = out.join("adapter_config.json");
        let text = fs::read_to_string(&config).expect("the config");
        fs::write(&config, text.replace("\"lora_alpha\": 8", "\"lora_alpha\": 9"))
            .expect("written");
    });
    assert_eq!(text, "DIR/adapter_config.json: scales the adapter by 2.25, it was trained with 2");
    save(&session);
    let text = said(&mut session, &out, || {
        fs::remove_file(out.join("adapter_model.safetensors")).expect("removed")
    });
    assert!(text.starts_with("what was saved can't be read back: DIR/adapter_model"), "{text}");
}
