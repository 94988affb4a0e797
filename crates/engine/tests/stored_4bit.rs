//! Models that bitsandbytes saved in 4 bits: values, logits, training and plans on them, against what
//! PyTorch computes from the same files (`bench/goldens/make_bitsandbytes.py`).

mod four_bits;

use engine::ctx::{Ctx, Precision, read};
use engine::decoder::{self, MicroBatch};
use engine::formats::safetensors::SafetensorsFile;
use engine::formats::{ModelFiles, Residency, StoredDtype};
use engine::four_bit::{FourBitLayout, ScaleBits};
use engine::model::quantize::{QuantType, QuantizationOptions};
use engine::model::vocabulary::{SaveEmbeddings, with_saved};
use engine::model::{self, LoadOptions, Method, Model};
use engine::options::parse;
use engine::session::plan_only;
use engine::signal::Signal;
use engine::weight::{Layout, Weight};
use engine::{Code, Error};
use four_bits::{lora, losses};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/goldens/bitsandbytes").join(name)
}

fn open(name: &str) -> ModelFiles {
    ModelFiles::open(&folder(name)).expect("the golden opens")
}

fn expected(name: &str, tensor: &str) -> Vec<u8> {
    let file = SafetensorsFile::open(&folder(name).join("expected.safetensors")).expect("opens");
    let entry = file.entries().iter().find(|e| e.name == tensor).expect(tensor);
    file.bytes(entry).to_vec()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn four_bits(files: &ModelFiles, name: &str) -> FourBitLayout {
    match files.layout(name) {
        Some(Layout::FourBits(layout)) => layout,
        other => panic!("{other:?}"),
    }
}

fn load(files: &ModelFiles, method: &Method) -> Result<Model, Error> {
    let load = LoadOptions { method, quantization: None, seed: 1 };
    model::load(&Ctx::cpu(Precision::F32), files, load, &Signal::default())
}

const HEAD: &str = "lm_head.weight";
const DOWN: &str = "model.layers.0.mlp.down_proj.weight";

#[test]
fn values_are_those_of_the_stored_codes_to_the_bit() {
    let files = open("nested");
    let info = files.info(DOWN).expect("a tensor");
    assert_eq!((info.shape.as_slice(), info.dtype), (&[11, 13][..], StoredDtype::Nf4));
    let layout = four_bits(&files, DOWN);
    assert_eq!((layout.block_size, layout.scales), (64, ScaleBits::Nested));
    let want = bits(&floats(&expected("nested", &format!("values/{DOWN}"))));
    let (shape, values) = files.read_f32(DOWN).expect("values");
    assert_eq!((shape.as_slice(), bits(&values)), (&[11, 13][..], want.clone()));
    let weight = files.matrix(DOWN, Residency::Mapped).expect("a matrix");
    assert!(matches!(weight, Weight::FourBits(_)));
    assert_eq!(bits(&weight.with_elements(|e| e.to_f32()).expect("on the CPU")), want);
    // The parts are no tensors of the model.
    assert_eq!(files.tensors().len(), 11);
    assert_eq!(four_bits(&open("plain"), HEAD).scales, ScaleBits::Plain);
}

/// Saved by bitsandbytes itself, which also unpacked them.
#[test]
fn fp4_has_the_values_of_bitsandbytes_to_the_bit() {
    let files = open("fp4");
    let info = files.info("w.weight").expect("a tensor");
    assert_eq!((info.shape.as_slice(), info.dtype), (&[5, 15][..], StoredDtype::Fp4));
    let values = |name| bits(&files.read_f32(name).expect("values").1);
    assert_eq!(values("w.weight"), values("values"));
    let layout = four_bits(&files, "w.weight");
    assert_eq!((layout.quant_type, layout.scales), (QuantType::Fp4, ScaleBits::Plain));
}

#[test]
fn logits_are_pytorchs() {
    for name in ["nested", "plain"] {
        let ids = expected(name, "input_ids");
        let ids: Vec<u32> = ids.as_chunks::<8>().0.iter().map(|id| id[0].into()).collect();
        let want = floats(&expected(name, "logits"));
        let n = ids.len();
        let batch = MicroBatch { labels: vec![-100; n], ids, seq_starts: vec![0, n] };
        for method in [Method::Frozen, lora()] {
            let mut model = load(&open(name), &method).expect("loads");
            assert!(model.unused_tensors.is_empty(), "{:?}", model.unused_tensors);
            let logits = decoder::logits(&mut model, &batch, &Signal::default()).expect("logits");
            let got = read::<f32, _>(&logits, <[f32]>::to_vec).expect("values");
            assert_eq!(got.len(), want.len());
            let worst = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= 1e-5, "{name}: {worst}");
        }
    }
}

#[test]
fn an_adapter_trains_on_them() {
    for name in ["nested", "plain"] {
        let losses = losses(load(&open(name), &lora()).expect("loads"));
        assert!(losses[11] < losses[0] - 0.5, "{name}: {losses:?}");
    }
}

#[test]
fn the_files_decide_and_options_do_not_quantise_again() {
    let files = open("nested");
    let quantization = QuantizationOptions::FourBits {
        quant_type: QuantType::Nf4,
        double_quant: false,
        block_size: 128,
        skip_modules: vec![],
    };
    let method = Method::Frozen;
    let load = LoadOptions { method: &method, quantization: Some(&quantization), seed: 1 };
    let model = model::load(&Ctx::cpu(Precision::F32), &files, load, &Signal::default()).expect("");
    for linear in model.block_linears() {
        let nf4 = matches!(linear.weight, Weight::FourBits(_));
        assert_eq!(nf4, linear.name.ends_with("down_proj"), "{}", linear.name);
    }
}

#[test]
fn full_fine_tuning_of_them_is_refused() {
    let error = load(&open("nested"), &Method::Full).err().expect("4 bits can't be trained");
    assert_eq!(error.code(), Code::ModelFiles);
    assert!(error.to_string().contains("stored in 4 bits"), "{error}");
    assert!(error.hint().contains("LoRA"), "{}", error.hint());
    let asked = options("nested", json!({ "kind": "full" }));
    assert_eq!(plan_only(&parse(&asked).expect("options")).unwrap_err().code(), Code::ModelFiles);
}

/// A head in 4 bits that goes with an adapter is saved as its values.
#[test]
fn a_head_in_4_bits_is_saved_in_f32() {
    let files = open("plain");
    let mut model = load(&files, &lora()).expect("loads");
    model.vocabulary.save = SaveEmbeddings::Always;
    let saved = with_saved(&model, |tensors| {
        Ok(tensors.iter().map(|t| (t.name.to_owned(), t.dtype, t.bytes.to_vec())).collect())
    });
    let saved: Vec<_> = saved.expect("saved");
    assert_eq!(saved.len(), 2);
    let (name, dtype, bytes) = &saved[1];
    assert!(name.ends_with("lm_head.weight"), "{name}");
    assert_eq!(*dtype, StoredDtype::F32);
    assert_eq!(bits(&floats(bytes)), bits(&files.read_f32(HEAD).expect("values").1));
}

/// The bridge's options for a plan of a golden.
fn options(name: &str, method: Value) -> String {
    json!({
        "model": folder(name), "computeDtype": "f32", "seed": 0, "method": method,
        "optimizer": {
            "kind": "adamw", "paged": false, "stateDir": null,
            "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weightDecay": 0.0, "maxGradNorm": 0.0,
        },
        "plan": { "seqLength": 16, "microBatch": 1, "gradientAccumulation": 1 },
    })
    .to_string()
}

#[test]
fn a_plan_counts_the_bytes_that_the_file_has() {
    for name in ["nested", "plain"] {
        let plan = plan_only(&parse(&options(name, json!({"kind": "none"}))).expect("options"));
        let mapped = plan.expect("a plan").mapped.weights as usize;
        let model = load(&open(name), &Method::Frozen).expect("loads");
        let head = (!model.spec.tied_head).then_some(&model.head);
        let linears = model.block_linears().chain([&model.embedding]).chain(head);
        assert_eq!(mapped, linears.map(|linear| linear.weight.bytes()).sum::<usize>(), "{name}");
    }
}
