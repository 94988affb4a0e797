//! Plans of the two true sizes, of several devices, and of a config alone against its headers.

use super::layout::Part;
use super::*;
use crate::formats::Described;
use crate::model::quantize::Quantizer;
use crate::testing::TempFolder;
use serde_json::json;
use std::path::{Path, PathBuf};

const GIB: u64 = 1 << 30;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/goldens")
}

fn config_of(name: &str) -> Value {
    let path = goldens().join("configs").join(name).join("config.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The bridge's options with some of them changed.
fn options(changes: Value) -> EngineOptions {
    let mut options = json!({
        "model": "", "computeDtype": "bf16", "seed": 0, "method": { "kind": "full" },
        "optimizer": {
            "kind": "adamw", "paged": false, "stateDir": null,
            "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weightDecay": 0.0, "maxGradNorm": 0.0,
        },
        "plan": { "seqLength": 16, "microBatch": 1, "gradientAccumulation": 1 },
        "question": { "devices": [24 * GIB], "offload": null },
    });
    let changes = changes.as_object().unwrap().clone();
    options.as_object_mut().unwrap().extend(changes);
    serde_json::from_value(options).unwrap()
}

/// QLoRA as the second run sets it.
fn qlora(devices: &[u64]) -> EngineOptions {
    options(json!({
        "method": {
            "kind": "lora", "r": 64, "loraAlpha": 16.0, "loraDropout": 0.05, "bias": "none",
            "targetModules": ["up_proj", "down_proj"],
        },
        "quantization": { "kind": "fourBits", "quantType": "nf4", "doubleQuant": true, "blockSize": 64 },
        "gradientCheckpointing": true,
        "plan": { "seqLength": 1024, "microBatch": 4, "gradientAccumulation": 4 },
        "question": { "devices": devices, "offload": null },
    }))
}

/// Full fine-tuning as the first run sets it.
fn full(devices: &[u64], offload: Value) -> EngineOptions {
    options(json!({
        "gradientCheckpointing": true,
        "plan": { "seqLength": 2048, "microBatch": 2, "gradientAccumulation": 8 },
        "question": { "devices": devices, "offload": offload },
    }))
}

fn planned(options: &EngineOptions, name: &str) -> Plan {
    plan(options, &config_of(name), None, None).unwrap()
}

/// `counts.json`: what Transformers and PEFT count on PyTorch's meta device.
#[test]
fn the_true_sizes_have_the_parameters_that_transformers_and_peft_count() {
    let path = goldens().join("configs/counts.json");
    let counts: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let of = |plan: &Plan| json!([plan.trainable_params, plan.all_params]);
    for (name, base) in [("mpt-30b", 29_957_200_896u64), ("bloom-6b4", 6_247_456_768)] {
        let counted = &counts[name];
        assert_eq!(counted["base"], base);
        let full = planned(&full(&[24 * GIB], Value::Null), name);
        assert_eq!(of(&full), json!([base, base]));
        let adapter = options(json!({ "method": {
            "kind": "lora", "r": counted["adapter"]["r"], "loraAlpha": 16.0, "loraDropout": 0.0,
            "bias": "none", "targetModules": counted["adapter"]["target_modules"],
        } }));
        let expected = json!([counted["trainable"], counted["all"]]);
        assert_eq!(of(&planned(&adapter, name)), expected, "{name}");
    }
    let mpt = planned(&qlora(&[24 * GIB]), "mpt-30b");
    assert_eq!(of(&mpt), json!([220_200_960, 30_177_401_856u64]));
    assert_eq!((mpt.n_blocks, mpt.vocab_size, mpt.recomputed_blocks), (48, 50_432, 47));
}

#[test]
fn the_qlora_of_mpt_30b_by_kind() {
    let one = planned(&qlora(&[24 * GIB]), "mpt-30b");
    let c = 7168u64;
    // bitsandbytes: 4 bits a value, a code for each 64, an f32 for each 256 of those, an offset.
    let nf4 = |values: u64| values / 2 + values / 64 + values / 64 / 256 * 4 + 4;
    let linears = 48 * (nf4(3 * c * c) + nf4(c * c) + 2 * nf4(4 * c * c));
    let (embedding, norms) = (2 * 50_432 * c, 4 * c * (2 * 48 + 1));
    assert_eq!(one.bytes.weights, linears + embedding + norms);
    assert_eq!(one.mapped.weights, embedding);
    assert_eq!(one.bytes.adapter, 4 * 220_200_960);
    assert_eq!(one.bytes.gradients, 4 * 220_200_960);
    assert_eq!(one.bytes.optimizer, 8 * 220_200_960);
    // Inputs of 48 blocks, and one block's inside: of a pass of one row, for the four of a micro-batch
    // are more than it holds.
    assert!(one.bytes.activations > 4 * 1024 * c * 48 && one.bytes.activations < 4 * 1024 * c * 64);
    assert_eq!(one.peak_bytes, one.bytes.total());
    assert!(one.fits, "{}", gib(one.peak_bytes));
    let small = planned(&qlora(&[20 * GIB]), "mpt-30b");
    assert!(!small.fits && small.peak_bytes == one.peak_bytes);

    let two = planned(&qlora(&[24 * GIB, 24 * GIB]), "mpt-30b");
    assert!(two.fits);
    assert_eq!(two.bytes.weights, one.bytes.weights);
    assert_eq!(two.bytes.optimizer, one.bytes.optimizer);
}

#[test]
fn the_full_fine_tuning_of_bloom_with_its_offload() {
    let params = 6_247_456_768u64;
    let alone = planned(&full(&[24 * GIB], Value::Null), "bloom-6b4");
    assert_eq!(alone.bytes.weights + alone.bytes.gradients + alone.bytes.optimizer, 16 * params);
    assert!(!alone.fits && alone.host.is_none());

    let both = planned(&full(&[24 * GIB], json!({"optimizer": true, "params": true})), "bloom-6b4");
    let host = both.host.unwrap();
    assert_eq!(
        (host.weights, host.gradients, host.optimizer),
        (4 * params, 4 * params, 8 * params)
    );
    assert_eq!(host.activations, 0);
    // The embedding (also the head) is the largest unit: it and the next one are on the card, in bf16.
    let embedding = 50_304 * 4096 + 2 * 4096;
    assert_eq!(both.bytes.weights, 2 * 2 * embedding);
    assert_eq!(both.bytes.gradients, 2 * embedding);
    assert_eq!((both.bytes.optimizer, both.bytes.adapter), (0, 0));
    assert!(both.fits, "{}", gib(both.peak_bytes));
    assert_eq!(both.step_seconds, None);

    let states =
        planned(&full(&[24 * GIB], json!({"optimizer": true, "params": false})), "bloom-6b4");
    assert_eq!(states.bytes.weights, 2 * params);
    assert_eq!(states.host.unwrap().weights, 4 * params);
    let weights =
        planned(&full(&[24 * GIB], json!({"optimizer": false, "params": true})), "bloom-6b4");
    // Masters and states stay where the optimizer is.
    assert_eq!(weights.bytes.weights, 4 * params + 2 * 2 * embedding);
    assert_eq!(weights.bytes.optimizer, 8 * params);
    assert_eq!(weights.host.unwrap().weights, 2 * params);
}

#[test]
fn paged_state_lies_in_a_file() {
    let mut paged = qlora(&[32 * GIB]);
    let plain = planned(&paged, "mpt-30b");
    paged.optimizer.paged = true;
    let paged = planned(&paged, "mpt-30b");
    assert_eq!((plain.mapped.optimizer, paged.mapped.optimizer), (0, paged.bytes.optimizer));
    assert_eq!(plain.bytes.optimizer, paged.bytes.optimizer);
    // What the allocator rounds up is of memory alone.
    assert!(paged.bytes.scratch < plain.bytes.scratch);
}

/// SmolLM2's shape, of which attention's output costs more for its bytes than what else a block keeps.
#[test]
fn recomputed_blocks_keep_attention_where_it_is_dear_and_fits() {
    let config = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49_152,
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 100_000.0, "tie_word_embeddings": true,
        "hidden_act": "silu", "torch_dtype": "bfloat16",
    });
    let found = |checkpointing: Option<bool>, seq_length: usize, bytes: u64| {
        let mut options = qlora(&[bytes]);
        options.gradient_checkpointing = checkpointing;
        options.plan.seq_length = seq_length;
        plan(&options, &config, None, None).unwrap()
    };
    let chosen = |plan: &Plan| (plan.recomputed_blocks, plan.keeps_attention);
    let all = found(Some(true), 512, GIB);
    assert_eq!(chosen(&all), (29, true));
    // Its output in bf16, and one f32 for each head, of 1,024 tokens.
    let attended = 29 * 1024 * (2 * 576 + 4 * 9);
    let without = found(Some(true), 512, all.peak_bytes - 1);
    assert_eq!(chosen(&without), (29, false));
    assert_eq!(all.bytes.activations - without.bytes.activations, attended);
    assert_eq!(
        all.flops_per_token + 30.0 * 4.0 * 512.0 * 576.0 / 2.0 * 29.0 / 30.0,
        without.flops_per_token
    );
    assert_eq!(chosen(&found(Some(true), 64, GIB)), (29, false));
    assert_eq!(chosen(&found(Some(false), 512, GIB)), (0, false));

    let none = found(None, 512, GIB);
    assert_eq!(chosen(&none), (0, false));
    assert_eq!(chosen(&found(None, 512, none.peak_bytes - 1)), (1, true));
    assert_eq!(chosen(&found(None, 512, all.peak_bytes)), (29, true));
    // Where all of them with attention are too many, whole blocks are kept before attention.
    let few = found(None, 512, all.peak_bytes - 1);
    assert!(few.fits && !few.keeps_attention && few.recomputed_blocks < 29, "{:?}", chosen(&few));
    assert_eq!(chosen(&found(None, 512, without.peak_bytes)), (29, false));
    assert!(!found(None, 512, without.peak_bytes - 1).fits);
}

#[test]
fn a_question_about_this_machine_has_no_cards() {
    let mut options = full(&[], json!({"optimizer": true, "params": true}));
    options.question.as_mut().unwrap().devices = None;
    let found = planned(&options, "bloom-6b4");
    assert!(found.host.is_none());
    assert_eq!(found.devices.len(), 1);
    assert_eq!(found.bytes.optimizer, 8 * 6_247_456_768);
}

#[test]
fn blocks_go_to_the_devices_in_order() {
    for (name, options) in [
        ("mpt-30b", qlora(&[24 * GIB, 24 * GIB, 12 * GIB])),
        ("bloom-6b4", full(&[60 * GIB, 80 * GIB, 60 * GIB], Value::Null)),
    ] {
        let plan = planned(&options, name);
        let mut next = 0;
        for (i, device) in plan.devices.iter().enumerate() {
            assert_eq!(device.first_block, next);
            next += device.n_blocks;
            assert_eq!(device.embedding, i == 0);
            // Both models tie the head to the embedding.
            assert!(plan.tied_head);
            assert_eq!(device.head, i == 0);
            assert_eq!(device.peak_bytes, device.bytes.total());
        }
        assert_eq!(next, plan.n_blocks);
        assert_eq!(plan.peak_bytes, plan.devices.iter().map(|d| d.peak_bytes).sum::<u64>());
        assert_eq!(plan.fits, plan.devices.iter().all(|d| d.peak_bytes <= d.budget_bytes));
    }
}

#[test]
fn a_head_of_its_own_is_on_the_last_device() {
    let mut config = config_of("mpt-30b");
    config["tie_word_embeddings"] = false.into();
    let plan = plan(&qlora(&[24 * GIB, 24 * GIB]), &config, None, None).unwrap();
    assert_eq!(plan.devices.iter().map(|d| d.head).collect::<Vec<_>>(), [false, true]);
}

/// Against every way to cut the blocks in two or three.
#[test]
fn no_other_cut_leaves_the_fullest_device_freer() {
    let config = config_of("mpt-30b");
    let fullest = |plan: &Plan| {
        let share = |d: &DevicePlan| d.peak_bytes as f64 / d.budget_bytes as f64;
        plan.devices.iter().map(share).fold(0.0, f64::max)
    };
    let (family, spec) = families::read(&config, |_| false).unwrap();
    for budgets in
        [vec![24 * GIB, 24 * GIB], vec![16 * GIB, 24 * GIB], vec![10 * GIB, 20 * GIB, 5 * GIB]]
    {
        let options = qlora(&budgets);
        let method = Method::from(&options.method);
        let quantizer = Quantizer::new(options.quantization.as_ref().unwrap(), &method).unwrap();
        let stored = |_: &str| Some(DType::BF16);
        let counting = Counting {
            codes: Codes::InMemory,
            spec: &spec,
            family,
            method: &method,
            quantizer: Some(&quantizer),
            optimizer: options.optimizer.kind,
            stored: &stored,
            packed: &|_| None,
        };
        let units = Units::of(&counting).unwrap();
        let layout = Layout {
            spec: &spec,
            units: &units,
            cards: None,
            paged: false,
            compute_dtype: ComputeDtype::Bf16,
        };
        let again = Recomputation { blocks: 47, keeps_attention: false };
        let share = |i: usize, blocks: std::ops::Range<usize>| {
            let first = i == 0;
            let last = i + 1 == budgets.len();
            let part = Part { blocks, embedding: first, final_norm: last, head: first };
            layout.bytes(&part, options.plan, again).0.total() as f64 / budgets[i] as f64
        };
        let mut best = f64::INFINITY;
        for a in 0..=48 {
            for b in if budgets.len() == 3 { a..49 } else { 48..49 } {
                let shares = [share(0, 0..a), share(1, a..b)];
                let third = if budgets.len() == 3 { share(2, b..48) } else { 0.0 };
                best = best.min(shares.into_iter().fold(third, f64::max));
            }
        }
        let found = fullest(&plan(&options, &config, None, None).unwrap());
        assert!((found - best).abs() < 1e-9, "{found} {best} {budgets:?}");
    }
}

/// Every own golden model: its config says of the weights what its headers say.
#[test]
fn the_config_alone_gives_the_plan_of_the_headers() {
    let methods = [
        json!({ "kind": "full" }),
        json!({
            "kind": "lora", "r": 4, "loraAlpha": 8.0, "loraDropout": 0.0, "bias": "all",
            "targetModules": "all-linear",
        }),
    ];
    let mut compared = 0;
    for entry in std::fs::read_dir(goldens().join("models")).unwrap() {
        let path = entry.unwrap().path();
        let files = ModelFiles::open(&path).unwrap();
        for method in &methods {
            let options = options(json!({ "method": method }));
            let with_headers = plan(&options, files.config(), Some(&files), None).unwrap();
            let alone = plan(&options, files.config(), None, None).unwrap();
            assert_eq!(alone.bytes, with_headers.bytes, "{} {method}", path.display());
            assert_eq!(alone.mapped, with_headers.mapped, "{} {method}", path.display());
            assert_eq!(alone.all_params, with_headers.all_params);
            assert_eq!(alone.counted_from, CountedFrom::Config);
            assert_eq!(with_headers.counted_from, CountedFrom::Headers);
            compared += 1;
        }
    }
    assert!(compared >= 10, "{compared}");
}

#[test]
fn the_stored_type_is_the_configs_under_its_old_and_its_new_name() {
    let lora = json!({
        "kind": "lora", "r": 1, "loraAlpha": 1.0, "loraDropout": 0.0, "bias": "none",
        "targetModules": ["Wqkv"],
    });
    let options = options(json!({ "method": lora }));
    let mapped = |change: &dyn Fn(&mut Value)| {
        let mut config = config_of("mpt-30b");
        change(&mut config);
        plan(&options, &config, None, None).map(|plan| plan.mapped.weights)
    };
    let f32s = 4 * (50_432 * 7168 + 48 * 12 * 7168 * 7168u64);
    let named = |key: &'static str, name: &'static str| move |c: &mut Value| c[key] = name.into();
    assert_eq!(mapped(&|_| ()).unwrap(), f32s / 2);
    assert_eq!(mapped(&named("torch_dtype", "float32")).unwrap(), f32s);
    assert_eq!(mapped(&named("dtype", "float32")).unwrap(), f32s);
    assert_eq!(mapped(&named("torch_dtype", "torch.float16")).unwrap(), f32s / 2);
    assert_eq!(mapped(&named("torch_dtype", "float64")).unwrap(), 0, "becomes f32 in memory");
    assert_eq!(mapped(&|c| c["torch_dtype"] = Value::Null).unwrap(), f32s);
    let refused = mapped(&named("torch_dtype", "int8")).unwrap_err();
    assert_eq!(refused.code(), Code::ModelFiles);
    assert!(refused.to_string().contains("`torch_dtype` is \"int8\""), "{refused}");
    let quantized = mapped(&|c| c["quantization_config"] = json!({"quant_method": "awq"}));
    assert!(quantized.unwrap_err().to_string().contains("quantization_config"));
}

#[test]
fn sizes_that_no_model_has_are_refused() {
    let mut config = config_of("mpt-30b");
    config["n_layers"] = (1 << 24).into();
    let error = plan(&qlora(&[GIB]), &config, None, None).unwrap_err();
    assert!(error.to_string().contains("number of layers` 16777216"), "{error}");
    config["n_layers"] = 4096.into();
    config["d_model"] = (1 << 22).into();
    let error = plan(&qlora(&[GIB]), &config, None, None).unwrap_err();
    assert!(error.to_string().contains("number of parameters"), "{error}");
    // The longest and widest batch that the options allow.
    let mut options = full(&[GIB, GIB], Value::Null);
    options.plan =
        PlanOptions { seq_length: 1 << 20, micro_batch: 1 << 16, gradient_accumulation: 1 };
    assert!(!planned(&options, "mpt-30b").fits);
}

#[test]
fn a_folder_with_its_config_alone_is_enough_to_ask_and_too_little_to_train() {
    let folder = TempFolder::new();
    std::fs::write(folder.path().join("config.json"), config_of("mpt-30b").to_string()).unwrap();
    let mut options = qlora(&[24 * GIB]);
    options.model = folder.path().into();
    let start = std::time::Instant::now();
    assert_eq!(crate::session::plan_only(&options).unwrap().vocab_size, 50_432);
    assert!(start.elapsed().as_secs_f64() < 1.0, "{:?}", start.elapsed());
    options.question = None;
    let error = crate::session::plan_only(&options).unwrap_err();
    assert!(error.to_string().contains("has no model.safetensors or pytorch_model.bin"), "{error}");

    // An index whose shards are not here yet; a file that is here and damaged is still an error.
    let index = json!({ "weight_map": { "transformer.wte.weight": "model-1.safetensors" } });
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    file("model.safetensors.index.json", &index.to_string());
    assert!(matches!(Described::open(folder.path()), Ok(Described::Config(_))));
    file("model-1.safetensors", "version https://git-lfs.github.com/spec/v1\n");
    assert!(matches!(Described::open(folder.path()), Ok(Described::Config(_))));
    file("model-1.safetensors", "cut");
    assert!(Described::open(folder.path()).is_err());
}
