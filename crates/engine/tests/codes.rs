//! Training on a model that is quantised to FP4 or int8 while it is loaded, beside training on the values that its
//! codes stand for: the same losses, to the bit.

mod four_bits;

use engine::ctx::{Ctx, Precision};
use engine::formats::ModelFiles;
use engine::model::quantize::{QuantType, QuantizationOptions};
use engine::model::{self, LoadOptions, Model};
use engine::signal::Signal;
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

/// The model's folder with the values of the weights that `model` holds in few bits.
fn unpacked(name: &str, model: &Model) -> PathBuf {
    let folder =
        std::env::temp_dir().join(format!("lora-train-codes-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::copy(golden().join("config.json"), folder.join("config.json")).expect("a copy");
    let mut values = HashMap::new();
    for linear in model.block_linears() {
        assert!(linear.weight.quantized().is_some(), "{}", linear.name);
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

/// The losses of 12 steps in f32, having checked that they, and those in bf16, are those on the values.
fn trains_as_on_its_values(name: &str, options: &QuantizationOptions) -> Vec<f64> {
    let folder = unpacked(name, &load(&golden(), Precision::F32, Some(options)));
    let [in_f32, _] = [Precision::F32, Precision::Bf16].map(|precision| {
        let found = losses(load(&golden(), precision, Some(options)));
        assert!(found[11] < found[0] - 0.5, "{found:?}");
        assert_eq!(found, losses(load(&folder, precision, None)), "{precision:?}");
        found
    });
    std::fs::remove_dir_all(&folder).expect("removed");
    in_f32
}

#[test]
fn an_adapter_trains_on_fp4_as_on_its_values() {
    for double_quant in [false, true] {
        let options = QuantizationOptions::FourBits {
            quant_type: QuantType::Fp4,
            double_quant,
            block_size: 64,
            skip_modules: vec![],
        };
        trains_as_on_its_values("fp4", &options);
    }
}

#[test]
fn an_adapter_trains_on_int8_as_on_its_values_and_nearly_as_on_the_weights() {
    let options = QuantizationOptions::Int8 { skip_modules: vec![] };
    let found = trains_as_on_its_values("int8", &options);
    let whole = losses(load(&golden(), Precision::F32, None));
    let worst = found.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst > 0.0 && worst < 0.02, "{worst}: {found:?}, {whole:?}");
}
