//! `lora-train-synthetic [BLOCKS]`: two QLoRA steps of a model of Llama-7B's shape, with all of its 32 blocks or
//! fewer, on weights that are made instead of read. Prints one JSON object: what is held by kind, the most
//! memory that the process ever had, and the plan's view. Judges nothing.

mod generated;

use engine::ctx::Ctx;
use engine::decoder::MicroBatch;
use engine::model::{self, LoadOptions, Method, Model};
use engine::options::EngineOptions;
use engine::plan::plan;
use engine::signal::Signal;
use engine::train::Trainer;
use generated::Generated;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Instant;

/// The addon's allocator: what it keeps back belongs to the peak.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BLOCKS: usize = 32;
const TOKENS: usize = 512;
/// The first touches the optimizer's states only at its end; the second finds everything held.
const STEPS: usize = 2;
const SEED: u64 = 42;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let blocks = match words.as_slice() {
        [] => Some(BLOCKS),
        [word] => word.parse().ok().filter(|blocks| (1..=BLOCKS).contains(blocks)),
        _ => None,
    };
    let Some(blocks) = blocks else {
        eprintln!("usage: lora-train-synthetic [BLOCKS], 1 to {BLOCKS}");
        return ExitCode::from(2);
    };
    match measure(blocks) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}\nhint: {}", error.hint());
            ExitCode::FAILURE
        }
    }
}

/// Llama-7B's, with so many blocks.
fn config(blocks: usize) -> Value {
    json!({
        "model_type": "llama", "torch_dtype": "bfloat16", "tie_word_embeddings": false,
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": blocks,
        "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    })
}

/// What the command line makes of LoRA r 16 on all linears, `load_in_4bit` and 512 tokens.
fn options() -> Value {
    json!({
        "model": "", "computeDtype": "bf16", "seed": SEED, "gradientCheckpointing": true,
        "method": {
            "kind": "lora", "r": 16, "loraAlpha": 32.0, "loraDropout": 0.0, "useRslora": false,
            "targetModules": "all-linear", "bias": "none", "modulesToSave": [],
        },
        "quantization": {
            "kind": "fourBits", "quantType": "nf4", "doubleQuant": true, "blockSize": 64,
            "skipModules": [],
        },
        "optimizer": {
            "kind": "adamw", "paged": false, "stateDir": null, "beta1": 0.9, "beta2": 0.999,
            "eps": 1e-8, "weightDecay": 0.0, "maxGradNorm": 1.0,
        },
        "plan": { "seqLength": TOKENS, "microBatch": 1, "gradientAccumulation": 1 },
    })
}

fn measure(blocks: usize) -> engine::Result<Value> {
    let options: EngineOptions = engine::options::parse(&options().to_string())?;
    let source = Generated::new(config(blocks), SEED)?;
    let plan = plan(&options, &config(blocks), None, None)?;
    let ctx = Ctx::cpu(options.compute_dtype.into());
    let method = Method::from(&options.method);
    let signal = Signal::default();

    let start = Instant::now();
    let load =
        LoadOptions { method: &method, quantization: options.quantization.as_ref(), seed: SEED };
    let mut model = model::load(&ctx, &source, load, &signal)?;
    let mut trainer = Trainer::new(&model, &options.optimizer, SEED, plan.recomputation())?;
    let load_s = start.elapsed().as_secs_f64();
    let load_peak_bytes = peak_rss_bytes();

    let start = Instant::now();
    let micros = [batch(&model)];
    let loss = trainer.step(&mut model, &micros, 2e-4, &signal)?.loss;
    for _ in 1..STEPS {
        trainer.step(&mut model, &micros, 2e-4, &signal)?;
    }
    let step_s = start.elapsed().as_secs_f64() / STEPS as f64;
    // Value, gradient and two moments, all f32.
    let trained_bytes = 4 * size_of::<f32>() * model.trainable_params();
    Ok(json!({
        "blocks": blocks, "params": model.base_params, "trainable_params": model.trainable_params(),
        "isa": ctx.isa.name(), "loss": loss, "load_s": load_s, "step_s": step_s,
        "weight_bytes": weight_bytes(&model), "trained_bytes": trained_bytes,
        "load_peak_rss_bytes": load_peak_bytes, "peak_rss_bytes": peak_rss_bytes(),
        "planned_peak_bytes": plan.peak_bytes, "plan": plan.bytes,
    }))
}

/// One sequence over the whole vocabulary, all of it supervised.
fn batch(model: &Model) -> MicroBatch {
    let ids: Vec<u32> = (0..TOKENS).map(|i| (i * 7919 % model.spec.vocab_size) as u32).collect();
    let labels = ids.iter().map(|&id| id as i32).collect();
    MicroBatch { ids, labels, seq_starts: vec![0, TOKENS] }
}

/// The frozen weights as they are kept.
fn weight_bytes(model: &Model) -> usize {
    let linears = model.block_linears().chain([&model.embedding, &model.head]);
    let norms = 2 * model.blocks.len() + 1;
    linears.map(|linear| linear.weight.bytes()).sum::<usize>()
        + norms * model.spec.hidden_size * size_of::<f32>()
}

/// VmHWM: the most memory that this process ever held; 0 where the system does not say.
fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) * 1024
}
