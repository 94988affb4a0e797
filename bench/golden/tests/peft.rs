//! An adapter that we trained and wrote, loaded by PEFT itself: equal keys, equal logits. Runs where
//! `PEER_PYTHON` names a Python with torch, transformers and peft.

use engine::ctx::{Ctx, Precision, read};
use engine::decoder::{self, Recomputation};
use engine::formats::ModelFiles;
use engine::formats::peft::{Bias, Modules};
use engine::model::adapter::LoraOptions;
use engine::model::{self, LoadOptions, Method, adapter_files};
use engine::optimizer::OptimizerOptions;
use engine::signal::Signal;
use engine::train::Trainer;
use golden::Batch;
use std::path::Path;
use std::process::Command;

#[test]
fn peft_loads_what_we_write_and_answers_the_same() {
    let Some(python) = std::env::var_os("PEER_PYTHON") else {
        println!("skipped: PEER_PYTHON names no Python");
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let base = root.join("test/goldens/models/llama-bias");
    let out = std::env::temp_dir().join(format!("lora-train-peft-{}", std::process::id()));
    let batch = Batch::open(&base.join("batch.json")).expect("the golden's batch");
    let ours = train_and_save(&base, &out, &batch);

    let logits = out.join("logits.safetensors");
    let status = Command::new(python)
        .arg(root.join("bench/goldens/check_adapter.py"))
        .args([&base, &out])
        .arg("--out")
        .arg(&logits)
        .status()
        .expect("PEER_PYTHON starts");
    assert!(status.success());
    let data = std::fs::read(&logits).expect("PEFT's logits");
    let file = safetensors::SafeTensors::deserialize(&data).expect("a safetensors file");
    let theirs = file.tensor("logits").expect("`logits`").data().as_chunks::<4>().0;
    assert_eq!(theirs.len(), ours.len());
    let vocab = ours.len() / batch.mask.iter().flatten().count();
    let kept = batch.mask.iter().flatten().enumerate().filter(|(_, keep)| **keep == 1);
    let rows = kept.flat_map(|(row, _)| row * vocab..(row + 1) * vocab);
    let differences = rows.map(|i| f64::from((ours[i] - f32::from_le_bytes(theirs[i])).abs()));
    let largest = differences.fold(0.0, f64::max);
    println!("largest difference from PEFT: {largest:.1e}");
    assert!(largest <= golden::tolerance::LOGITS_ABS, "{largest}");
    std::fs::remove_dir_all(&out).expect("the temporary folder");
}

/// Three steps with all that an adapter can hold: matrices, biases, a whole module, rsLoRA's factor.
fn train_and_save(base: &Path, out: &Path, batch: &Batch) -> Vec<f32> {
    let lora = Method::Lora(LoraOptions {
        r: 3,
        lora_alpha: 5.0,
        lora_dropout: 0.1,
        target_modules: Some(Modules::Names(vec!["q_proj".into(), "down_proj".into()])),
        bias: Bias::All,
        modules_to_save: vec!["lm_head".into()],
        use_rslora: true,
    });
    let options =
        OptimizerOptions { weight_decay: 0.01, max_grad_norm: 1.0, ..OptimizerOptions::adamw() };
    let files = ModelFiles::open(base).expect("the golden opens");
    let load = LoadOptions { method: &lora, quantization: None, seed: 1 };
    let mut model = model::load(&Ctx::cpu(Precision::F32), &files, load, &Signal::default())
        .expect("the model loads");
    let mut trainer =
        Trainer::new(&model, &options, 1, Recomputation::default()).expect("a trainer");
    for _ in 0..3 {
        let micros = std::slice::from_ref(&batch.ragged);
        trainer.step(&mut model, micros, 1e-2, &Signal::default()).expect("a step");
    }
    adapter_files::write(&model, out, "llama-bias", &Signal::default())
        .expect("the adapter is written");
    let logits = decoder::logits(&mut model, &batch.padded, &Signal::default()).expect("logits");
    read::<f32, _>(&logits, <[f32]>::to_vec).expect("values")
}
