//! The same seed, data and options give the same bits: for any number of threads, any choice of
//! recomputed blocks, packed and padded alike; and another seed gives others.

use engine::ctx::{Ctx, Precision, read};
use engine::decoder::{MicroBatch, Recomputation};
use engine::formats::ModelFiles;
use engine::formats::peft::{Bias, Modules};
use engine::model::adapter::LoraOptions;
use engine::model::quantize::{QuantType, QuantizationOptions};
use engine::model::{self, LoadOptions, Method};
use engine::optimizer::{Kind, OptimizerOptions};
use engine::signal::Signal;
use engine::train::Trainer;
use std::path::Path;

/// What is trained, and how the frozen weights are kept.
type Base = (Method, Option<QuantizationOptions>);

/// Runs four steps and returns the bits of every loss and every trained value.
fn run(
    base: &Base,
    (kind, paged): (Kind, bool),
    threads: usize,
    recomputation: Recomputation,
    seed: u64,
) -> Vec<u64> {
    // Both have tensors on either side of the 4,096 values from which on state has 8 bits.
    let name = if matches!(base.0, Method::Full) { "llama-yarn" } else { "llama-bias" };
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/goldens/models").join(name);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
    pool.install(|| {
        let files = ModelFiles::open(&dir).expect("the golden opens");
        let ctx = Ctx::cpu(Precision::Bf16);
        let load = LoadOptions { method: &base.0, quantization: base.1.as_ref(), seed };
        let mut model = model::load(&ctx, &files, load, &Signal::default()).expect("a model");
        let options = optimizer(kind, paged);
        let mut trainer = Trainer::new(&model, &options, seed, recomputation).expect("a trainer");
        let mut bits = vec![];
        for step in 0..4 {
            let micros = [batch(step, 90), batch(step + 7, 41)];
            let report =
                trainer.step(&mut model, &micros, 1e-3, &Signal::default()).expect("a step");
            bits.extend([report.loss.to_bits(), report.grad_norm.to_bits()]);
        }
        for param in &model.params {
            let values = read::<f32, _>(&param.value, <[f32]>::to_vec).expect("values");
            bits.extend(values.iter().map(|v| u64::from(v.to_bits())));
        }
        bits
    })
}

fn optimizer(kind: Kind, paged: bool) -> OptimizerOptions {
    OptimizerOptions {
        kind,
        paged,
        weight_decay: 0.01,
        max_grad_norm: 0.3,
        ..OptimizerOptions::adamw()
    }
}

/// Two sequences of different lengths, the first third of each masked.
fn batch(seed: usize, tokens: usize) -> MicroBatch {
    let ids: Vec<u32> = (0..tokens).map(|i| ((i * 31 + seed * 17) % 96) as u32).collect();
    let first = tokens / 3;
    let masked = |i: usize| i < first / 3 || (i >= first && i < first + first / 3);
    let labels =
        ids.iter().enumerate().map(|(i, id)| if masked(i) { -100 } else { *id as i32 }).collect();
    MicroBatch { ids, labels, seq_starts: vec![0, first, tokens] }
}

fn lora() -> Method {
    Method::Lora(LoraOptions {
        r: 100,
        lora_alpha: 200.0,
        lora_dropout: 0.2,
        target_modules: Some(Modules::Pattern("all-linear".into())),
        bias: Bias::All,
        modules_to_save: vec!["lm_head".into()],
        use_rslora: true,
    })
}

fn in_4_bits(quant_type: QuantType) -> QuantizationOptions {
    QuantizationOptions::FourBits {
        quant_type,
        double_quant: true,
        block_size: 64,
        skip_modules: vec![],
    }
}

/// Every block keeps all.
const NONE: Recomputation = Recomputation { blocks: 0, keeps_attention: false };
const ADAMW: (Kind, bool) = (Kind::Adamw, false);

#[test]
fn bits_are_the_same_for_any_threads_and_any_recomputation() {
    let others = [(Kind::Adamw8bit, false), (Kind::Adamw8bit, true), (Kind::Adamw32bit, true)];
    let quantised = QuantType::ALL.map(|quant_type| (lora(), Some(in_4_bits(quant_type))));
    let int8 = (lora(), Some(QuantizationOptions::Int8 { skip_modules: vec![] }));
    for base in [(Method::Full, None), (lora(), None), int8].into_iter().chain(quantised) {
        for optimizer in [ADAMW].into_iter().chain(others) {
            let want = run(&base, optimizer, 1, NONE, 7);
            let same =
                |threads, recomputation| run(&base, optimizer, threads, recomputation, 7) == want;
            let again = |blocks, keeps_attention| Recomputation { blocks, keeps_attention };
            assert!(same(1, NONE), "the same run twice, {optimizer:?}");
            assert!(same(2, NONE), "two threads, {optimizer:?}");
            assert!(same(3, again(1, false)), "three threads, one block recomputed, {optimizer:?}");
            assert!(same(2, again(99, false)), "every block recomputed, {optimizer:?}");
            assert!(same(2, again(99, true)), "all but attention, {optimizer:?}");
        }
    }
}

#[test]
fn where_the_state_lies_changes_no_bit() {
    for kind in [Kind::Adamw, Kind::Adamw32bit, Kind::Adamw8bit] {
        let base = (Method::Full, None);
        assert!(
            run(&base, (kind, true), 2, NONE, 7) == run(&base, (kind, false), 2, NONE, 7),
            "{kind:?}"
        );
    }
}

#[test]
fn what_a_buffer_held_before_changes_no_bit() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/goldens/models");
    let files = ModelFiles::open(&dir.join("llama-bias")).expect("the golden opens");
    let ctx = Ctx::cpu(Precision::F32);
    let quantization = in_4_bits(QuantType::Nf4);
    let load = LoadOptions { method: &lora(), quantization: Some(&quantization), seed: 7 };
    let mut model = model::load(&ctx, &files, load, &Signal::default()).expect("a model");
    let trainer = Trainer::new(&model, &optimizer(Kind::Adamw, false), 7, NONE).expect("a trainer");
    let mut gradients = |tokens| {
        let (loss, _) = trainer
            .gradients(&mut model, &[batch(1, tokens)], &Signal::default())
            .expect("gradients");
        let grads = model.params.iter().map(|p| read::<f32, _>(&p.grad, <[f32]>::to_vec));
        let grads = grads.collect::<Result<Vec<_>, _>>().expect("values").concat();
        (loss.to_bits(), grads.into_iter().map(f32::to_bits).collect::<Vec<_>>())
    };
    // Enough tokens that buffers are kept at all; other lengths leave buffers that are too long.
    let want = gradients(300);
    gradients(420);
    let kept = ctx.workspace.fill(f32::NAN);
    assert!(kept > 10, "{kept} buffers");
    assert!(gradients(300) == want);
}

#[test]
fn another_seed_gives_other_first_values_and_other_dropout() {
    assert!(run(&(lora(), None), ADAMW, 1, NONE, 7) != run(&(lora(), None), ADAMW, 1, NONE, 8));
}
