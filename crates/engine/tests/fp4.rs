//! Training on a model that is quantised to FP4 while it is loaded, beside training on the values that its codes
//! stand for: the same losses, to the bit.

mod four_bits;

use engine::ctx::{Ctx, Precision};
use engine::formats::ModelFiles;
use engine::model::quantize::{QuantType, QuantizationOptions};
use engine::model::{self, LoadOptions, Model};
use engine::signal::Signal;
use engine::weight::Weight;
use four_bits::{lora, losses};
use safetensors::{Dtype, tensor::TensorView};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/goldens/models/llama-bias")
}

fn load(folder: &Path, precision: Precision, quantization: Option<&QuantizationOptions>) -> Model {
    let files = ModelFiles::open(folder).expect("opens");
    let method = lora();
    let load = LoadOptions { method: &method, quantization, seed: 1 };
    model::load(&Ctx::cpu(precision), &files, load, &Signal::default()).expect("loads")
}

/// The model's folder with the values of the weights that `model` holds in 4 bits.
fn unpacked(model: &Model) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("lora-train-fp4-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::copy(golden().join("config.json"), folder.join("config.json")).expect("a copy");
    let mut values = HashMap::new();
    for linear in model.block_linears() {
        assert!(matches!(linear.weight, Weight::Nf4(_)), "{}", linear.name);
        let unpacked = linear.weight.with_elements(|e| e.to_f32()).expect("values");
        values.insert(format!("{}.weight", linear.name), unpacked);
    }
    let files = ModelFiles::open(&golden()).expect("opens");
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = files
        .tensors()
        .iter()
        .map(|info| {
            let (shape, stored) = files.read_f32(&info.name).expect("values");
            let values = values.remove(&info.name).unwrap_or(stored);
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (info.name.clone(), shape, bytes)
        })
        .collect();
    assert!(values.is_empty());
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("a tensor"))
    });
    let bytes = safetensors::serialize(views, None).expect("bytes");
    std::fs::write(folder.join("model.safetensors"), bytes).expect("written");
    folder
}

#[test]
fn an_adapter_trains_on_fp4_as_on_its_values() {
    for double_quant in [false, true] {
        let options = QuantizationOptions {
            quant_type: QuantType::Fp4,
            double_quant,
            block_size: 64,
            skip_modules: vec![],
        };
        let folder = unpacked(&load(&golden(), Precision::F32, Some(&options)));
        for precision in [Precision::F32, Precision::Bf16] {
            let found = losses(load(&golden(), precision, Some(&options)));
            assert!(found[11] < found[0] - 0.5, "{found:?}");
            assert_eq!(found, losses(load(&folder, precision, None)), "{precision:?}");
        }
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
