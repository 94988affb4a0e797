//! How an adapter is trained on weights in 4 or 8 bits, whether a file has them or loading makes them.

use engine::decoder::{MicroBatch, Recomputation};
use engine::formats::peft::Bias;
use engine::model::adapter::LoraOptions;
use engine::model::{Method, Model};
use engine::optimizer::OptimizerOptions;
use engine::signal::Signal;
use engine::train::Trainer;

/// An adapter on the family's own targets.
pub fn lora() -> Method {
    Method::Lora(LoraOptions {
        r: 4,
        lora_alpha: 8.0,
        lora_dropout: 0.0,
        target_modules: None,
        bias: Bias::None,
        modules_to_save: vec![],
        use_rslora: false,
    })
}

/// The losses of twelve steps on one row, which an adapter learns by heart.
pub fn losses(mut model: Model) -> Vec<f64> {
    let options = OptimizerOptions { max_grad_norm: 1.0, ..OptimizerOptions::adamw() };
    let mut trainer =
        Trainer::new(&model, &options, 1, Recomputation::default()).expect("a trainer");
    let ids: Vec<u32> = (0..24).map(|i| i * 5 % 31).collect();
    let labels = ids.iter().map(|&id| id as i32).collect();
    let batch = [MicroBatch { ids, labels, seq_starts: vec![0, 24] }];
    let mut step = || trainer.step(&mut model, &batch, 2e-2, &Signal::default()).expect("a step");
    (0..12).map(|_| step().loss).collect()
}
