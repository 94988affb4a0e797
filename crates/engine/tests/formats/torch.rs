//! `pytorch_model.bin` as PyTorch wrote it, against the same values in safetensors.

use crate::support::{TempDir, golden};
use engine::Code;
use engine::formats::torch::TorchFile;
use engine::formats::{ModelFiles, Residency, StoredDtype};
use engine::weight::{MappedMatrix, Weight};
use std::fs;

/// The model of a golden folder, and the same from its `expected.safetensors`.
fn both(name: &str) -> (ModelFiles, ModelFiles, TempDir) {
    let folder = golden(&format!("bin/{name}"));
    let other = TempDir::new();
    other.write("config.json", fs::read(folder.join("config.json")).expect("a config"));
    let expected = fs::read(folder.join("expected.safetensors")).expect("expected values");
    other.write("model.safetensors", expected);
    let model = ModelFiles::open(&folder).expect("the .bin opens");
    (model, ModelFiles::open(&other.0).expect("the safetensors open"), other)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn every_tensor_has_the_values_and_the_dtype_that_torch_wrote() {
    for (name, dtype, n_tensors) in [
        ("bloom-f32", StoredDtype::F32, 18),
        ("mpt-f16", StoredDtype::F16, 8),
        ("llama-bf16", StoredDtype::Bf16, 21),
    ] {
        let (model, expected, _folder) = both(name);
        assert_eq!(model.tensors().len(), n_tensors, "{name}");
        assert_eq!(expected.tensors().len(), n_tensors, "{name}");
        for info in expected.tensors() {
            let found = model.info(&info.name).expect(&info.name);
            assert_eq!(found, info, "{name}");
            assert_eq!(found.dtype, dtype);
            let (shape, values) = model.read_f32(&info.name).expect(&info.name);
            let (expected_shape, expected_values) = expected.read_f32(&info.name).expect("read");
            assert_eq!((shape, bits(&values)), (expected_shape, bits(&expected_values)), "{name}");
            if let [_, _] = info.shape[..] {
                for prefer in [Residency::Mapped, Residency::Memory] {
                    let weight = model.matrix(&info.name, prefer).expect(&info.name);
                    let elements = weight.with_elements(|e| e.to_f32()).expect("on the CPU");
                    assert_eq!(bits(&elements), bits(&expected_values), "{name} {}", info.name);
                }
            }
            model.release(&info.name);
            assert_eq!(bits(&model.read_f32(&info.name).expect("again").1), bits(&values));
        }
    }
}

#[test]
fn matrices_stay_in_the_file_where_they_lie_in_order_and_tied_ones_share_it() {
    let (model, _, _folder) = both("bloom-f32");
    let mapped = |name: &str| match model.matrix(name, Residency::Mapped).expect(name) {
        Weight::Mapped(MappedMatrix { offset, .. }) => Some(offset),
        _ => None,
    };
    let embedding = mapped("transformer.word_embeddings.weight");
    assert!(embedding.is_some_and(|offset| offset % 64 == 0), "{embedding:?}");
    assert_eq!(mapped("lm_head.weight"), embedding);
    // A transposed view is copied.
    assert_eq!(mapped("transformer.h.0.mlp.dense_h_to_4h.weight"), None);
    let (model, _, _folder) = both("llama-bf16");
    for info in model.tensors().iter().filter(|info| info.shape.len() == 2) {
        let weight = model.matrix(&info.name, Residency::Mapped).expect("a matrix");
        assert!(matches!(weight, Weight::Mapped(_)), "{}", info.name);
    }
}

#[test]
fn safetensors_come_first_where_a_folder_has_both() {
    let folder = TempDir::new();
    let bloom = golden("bin/bloom-f32");
    folder.write("config.json", fs::read(bloom.join("config.json")).expect("a config"));
    folder.write("pytorch_model.bin", "damaged");
    assert!(ModelFiles::open(&folder.0).is_err());
    let weights = fs::read(bloom.join("expected.safetensors")).expect("weights");
    folder.write("model.safetensors", weights);
    assert_eq!(ModelFiles::open(&folder.0).expect("the safetensors").tensors().len(), 18);
}

#[test]
fn shards_must_agree_with_their_index() {
    let llama = golden("bin/llama-bf16");
    let folder = TempDir::new();
    for entry in fs::read_dir(&llama).expect("the golden") {
        let entry = entry.expect("an entry");
        if entry.file_name() != "expected.safetensors" {
            fs::copy(entry.path(), folder.0.join(entry.file_name())).expect("a copy");
        }
    }
    let refused = || {
        let error = ModelFiles::open(&folder.0).expect_err("an index that promises too much");
        assert_eq!(error.code(), Code::ModelFiles);
        error.to_string().replace(&folder.0.display().to_string(), "DIR")
    };
    let second = "pytorch_model-00002-of-00004.bin";
    fs::copy(llama.join("pytorch_model-00001-of-00004.bin"), folder.0.join(second)).expect("copy");
    assert_eq!(
        refused(),
        "DIR/pytorch_model.bin.index.json: says that pytorch_model-00002-of-00004.bin holds tensor \
         `model.layers.0.self_attn.k_proj.weight`, but it does not"
    );
    fs::remove_file(folder.0.join(second)).expect("removed");
    assert_eq!(
        refused(),
        "DIR/pytorch_model.bin.index.json: shard pytorch_model-00002-of-00004.bin is missing (it should hold \
         `model.layers.0.self_attn.k_proj.weight`)"
    );
}

#[test]
fn what_is_no_tensor_is_refused_by_its_name_and_never_run() {
    for (file, expected, hint) in [
        (
            "system.bin",
            "byte 77: the pickle calls for `posix.system`, which is no part of a tensor; nothing was run",
            "safetensors",
        ),
        (
            "eval.bin",
            "byte 99: the pickle calls for `builtins.eval`, which is no part of a tensor; nothing was run",
            "state dict",
        ),
        ("number.bin", "`epoch` is a number, not a tensor", "state dict"),
        ("nested.bin", "`model` is a dict, not a tensor", "state dict"),
        (
            "legacy.bin",
            "byte 0: the file is in the format that torch.save wrote before PyTorch 1.6",
            "torch.save(torch.load(",
        ),
        ("compressed.bin", "is compressed; torch.save stores entries as they are", "torch.save"),
    ] {
        let path = golden(&format!("bin/hostile/{file}"));
        let error = TorchFile::open(&path).expect_err(file);
        assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.hint().contains(hint), "{}", error.hint());
        assert_eq!(error.code(), Code::ModelFiles);
    }
    let plain = TorchFile::open(&golden("bin/hostile/plain.bin")).expect("a dict of one tensor");
    assert_eq!(plain.tensors().len(), 1);
}
