//! What a step does when it can't be taken: it says why, and changes nothing.

use engine::ctx::{Ctx, Precision, read, write};
use engine::decoder::{MicroBatch, Recomputation};
use engine::formats::ModelFiles;
use engine::model::{self, LoadOptions, Method, Model};
use engine::optimizer::OptimizerOptions;
use engine::signal::Signal;
use engine::train::Trainer;
use engine::{Code, Error};
use std::path::Path;

fn open() -> (Model, Trainer) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/goldens/models/llama-yarn");
    let files = ModelFiles::open(&dir).expect("the golden opens");
    let ctx = Ctx::cpu(Precision::F32);
    let load = LoadOptions { method: &Method::Full, quantization: None, seed: 1 };
    let model = model::load(&ctx, &files, load, &Signal::default()).expect("a model");
    let options = OptimizerOptions::adamw();
    let trainer = Trainer::new(&model, &options, 1, Recomputation::default()).expect("a trainer");
    (model, trainer)
}

fn batch(labels: impl Fn(usize) -> i32) -> MicroBatch {
    let ids: Vec<u32> = (0..20).map(|i| i * 3 % 96).collect();
    MicroBatch { labels: (0..20).map(labels).collect(), ids, seq_starts: vec![0, 8, 20] }
}

fn bits(model: &Model) -> Vec<u32> {
    let values = |p: &model::Param| read::<f32, _>(&p.value, <[f32]>::to_vec).expect("values");
    model.params.iter().flat_map(|p| values(p).into_iter().map(f32::to_bits)).collect()
}

/// Takes a step that must fail with `code`; the weights stay as they were.
fn refused(
    model: &mut Model,
    trainer: &mut Trainer,
    micro: MicroBatch,
    signal: &Signal,
    code: Code,
) -> Error {
    let before = bits(model);
    let error = trainer.step(model, &[micro], 1e-3, signal).expect_err("the step can't be taken");
    assert_eq!(error.code(), code, "{error}");
    assert!(bits(model) == before, "weights changed: {error}");
    assert_eq!(trainer.step, 0);
    assert!(!error.hint().is_empty());
    error
}

#[test]
fn a_step_without_a_supervised_token_is_refused() {
    let (mut model, mut trainer) = open();
    // The first token of a sequence is nobody's target.
    let only_first = batch(|i| if i == 0 || i == 8 { 5 } else { -100 });
    let error = refused(&mut model, &mut trainer, only_first, &Signal::default(), Code::Data);
    assert!(error.to_string().contains("step 1 has no supervised token"), "{error}");
}

#[test]
fn a_token_outside_the_vocabulary_is_named_with_its_row() {
    let (mut model, mut trainer) = open();
    let vocab_size = model.spec.vocab_size;
    let mut bad = batch(|i| i as i32);
    bad.ids[9] = vocab_size as u32;
    let error = refused(&mut model, &mut trainer, bad, &Signal::default(), Code::Data).to_string();
    assert!(error.contains(&format!("token id {vocab_size} in row 1")), "{error}");
    let far = batch(|i| if i == 3 { 1_000_000 } else { 1 });
    let error = refused(&mut model, &mut trainer, far, &Signal::default(), Code::Data).to_string();
    assert!(error.contains("token id 1000000 in row 0"), "{error}");
}

#[test]
fn parts_that_contradict_each_other_are_refused() {
    let (mut model, mut trainer) = open();
    for starts in [vec![], vec![0], vec![1, 20], vec![0, 21], vec![0, 12, 8, 20]] {
        let bad = MicroBatch { seq_starts: starts, ..batch(|_| 1) };
        refused(&mut model, &mut trainer, bad, &Signal::default(), Code::Internal);
    }
}

#[test]
fn a_value_that_is_not_finite_ends_the_run_and_names_the_tensor() {
    let (mut model, mut trainer) = open();
    let name = "model.layers.0.mlp.up_proj.weight";
    let param = model.params.iter().find(|p| p.name == name).expect("the tensor is trained");
    write(&param.value, |value| value[7] = f32::NAN).expect("a value");
    let error = refused(&mut model, &mut trainer, batch(|_| 1), &Signal::default(), Code::Diverged);
    assert!(error.to_string().contains("step 1") && error.to_string().contains(name), "{error}");
}

#[test]
fn a_cancelled_step_leaves_no_trace() {
    let (mut model, mut trainer) = open();
    let signal = Signal::default();
    signal.cancel();
    refused(&mut model, &mut trainer, batch(|_| 1), &signal, Code::Cancelled);
    let report =
        trainer.step(&mut model, &[batch(|_| 1)], 1e-3, &Signal::default()).expect("a step");
    assert_eq!((report.tokens, report.supervised_tokens), (20, 18));
}
