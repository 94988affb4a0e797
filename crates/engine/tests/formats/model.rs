//! Hugging Face folders: what is read, and what is said about a folder that is no model.

use crate::support::{TempDir, le_bytes, reference_safetensors};
use engine::Code;
use engine::formats::{FormatError, ModelFiles, Residency};
use engine::weight::Weight;
use half::{bf16, f16};
use safetensors::Dtype;

const VALUES: [f32; 6] = [1.0, -2.5, 0.125, 3.0, -0.0, 65504.0];

fn halves<T>(value: impl Fn(f32) -> T, bytes: impl Fn(T) -> [u8; 2]) -> Vec<u8> {
    VALUES.iter().flat_map(|&v| bytes(value(v))).collect()
}

/// The values above in every dtype that weights have, and one that they have not.
fn all_dtypes() -> Vec<u8> {
    let doubles = VALUES.iter().flat_map(|&v| f64::from(v).to_le_bytes()).collect();
    reference_safetensors(&[
        ("f64", Dtype::F64, vec![2, 3], doubles),
        ("f32", Dtype::F32, vec![2, 3], le_bytes(&VALUES)),
        ("bf16", Dtype::BF16, vec![2, 3], halves(bf16::from_f32, bf16::to_le_bytes)),
        ("f16", Dtype::F16, vec![2, 3], halves(f16::from_f32, f16::to_le_bytes)),
        ("i64", Dtype::I64, vec![2], vec![0; 16]),
        ("f32-vector", Dtype::F32, vec![6], le_bytes(&VALUES)),
        ("empty", Dtype::F32, vec![0, 3], vec![]),
    ])
}

fn model(config: &str, weights: &[u8]) -> (TempDir, Result<ModelFiles, FormatError>) {
    let folder = TempDir::new();
    folder.write("config.json", config);
    folder.write("model.safetensors", weights);
    let model = ModelFiles::open(&folder.0);
    (folder, model)
}

fn message(folder: &TempDir, error: &FormatError) -> String {
    error.to_string().replace(&format!("{}", folder.0.display()), "DIR")
}

#[test]
fn every_dtype_of_weights_is_read_as_f32() {
    let (folder, model) = model("{\"model_type\": \"llama\"}", &all_dtypes());
    let model = model.expect("the folder opens");
    assert_eq!(model.config()["model_type"], "llama");
    for name in ["f64", "f32", "bf16", "f16"] {
        let mut expected = VALUES;
        if name == "bf16" {
            expected[5] = bf16::from_f32(VALUES[5]).to_f32();
        }
        assert_eq!(model.read_f32(name).expect(name), (vec![2, 3], expected.to_vec()));
        for prefer in [Residency::Mapped, Residency::Memory] {
            let weight = model.matrix(name, prefer).expect(name);
            assert_eq!(weight.dims().expect("a matrix"), (2, 3));
            assert_eq!(weight.with_elements(|e| e.to_f32()).expect("on the CPU"), expected);
            let mapped = prefer == Residency::Mapped && name != "f64";
            assert_eq!(matches!(weight, Weight::Mapped(_)), mapped, "{name} {prefer:?}");
        }
    }
    assert_eq!(model.read_f32("empty").expect("no values"), (vec![0, 3], vec![]));
    let error = model.read_f32("i64").expect_err("no weight");
    assert_eq!(
        message(&folder, &error),
        "DIR/model.safetensors: tensor `i64` is stored as I64, which can't be read as a weight"
    );
    let error = model.read_f32("f33").expect_err("no tensor");
    assert_eq!(message(&folder, &error), "DIR: has no tensor `f33`");
    let error = model.matrix("f32-vector", Residency::Mapped).err().expect("no matrix").to_string();
    assert!(
        error.ends_with("tensor `f32-vector` has the shape [6], needed is a matrix"),
        "{error}"
    );
}

/// A header whose length is no multiple of 8 puts the data askew: such a matrix is copied.
#[test]
fn a_matrix_that_lies_askew_is_copied() {
    let header = "{\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}} ";
    let odd = &header[..header.len() - usize::from(header.len().is_multiple_of(4))];
    assert!(!odd.len().is_multiple_of(4));
    let bytes =
        [&(odd.len() as u64).to_le_bytes()[..], odd.as_bytes(), &le_bytes(&VALUES)].concat();
    let (_folder, model) = model("{}", &bytes);
    let weight =
        model.expect("the folder opens").matrix("w", Residency::Mapped).expect("the matrix");
    assert!(matches!(weight, Weight::Tensor(_)));
    assert_eq!(weight.with_elements(|e| e.to_f32()).expect("on the CPU"), VALUES);
}

#[test]
fn a_config_that_is_not_json_is_refused_with_line_and_column() {
    let (folder, model) = model("{\n  \"a\": 1,\n  \"b\": ?\n}", &all_dtypes());
    let error = model.expect_err("no JSON");
    assert_eq!(message(&folder, &error), "DIR/config.json, line 3, column 8: expected value");
    let (folder, model) = self::model("[1]", &all_dtypes());
    assert_eq!(
        message(&folder, &model.expect_err("no object")),
        "DIR/config.json: is not a JSON object"
    );
}

#[test]
fn a_path_that_is_no_model_is_refused_with_what_is_there() {
    let folder = TempDir::new();
    let said = |path: &std::path::Path| {
        let error = ModelFiles::open(path).expect_err("no model");
        assert_eq!(error.code(), engine::Code::ModelFiles);
        message(&folder, &error)
    };
    assert_eq!(said(&folder.0.join("none")), "DIR/none: no such file or folder");
    assert_eq!(said(&folder.0), "DIR: the folder has no config.json; it holds nothing");
    let text = folder.write("notes.txt", "not a model");
    assert_eq!(said(&text), "DIR/notes.txt: is neither a model folder nor a GGUF file");
    folder.write("adapter_config.json", "{}");
    assert_eq!(
        said(&folder.0),
        "DIR: the folder has no config.json; it holds adapter_config.json, notes.txt"
    );
    folder.write("config.json", "{}");
    assert_eq!(
        said(&folder.0),
        "DIR: the folder has no model.safetensors or pytorch_model.bin, and no index of their shards; \
         it holds adapter_config.json, config.json, notes.txt"
    );
}

/// The index, and the shards that are there.
fn sharded(index: &str, shards: &[(&str, &str)]) -> (TempDir, Result<ModelFiles, FormatError>) {
    let folder = TempDir::new();
    folder.write("config.json", "{}");
    folder.write("model.safetensors.index.json", index);
    for (file, tensor) in shards {
        folder.write(
            file,
            reference_safetensors(&[(*tensor, Dtype::F32, vec![2, 3], le_bytes(&VALUES))]),
        );
    }
    let model = ModelFiles::open(&folder.0);
    (folder, model)
}

#[test]
fn shards_are_read_and_must_agree_with_the_index() {
    let index =
        "{\"metadata\": {}, \"weight_map\": {\"a\": \"1.safetensors\", \"b\": \"2.safetensors\"}}";
    let (_folder, model) = sharded(index, &[("1.safetensors", "a"), ("2.safetensors", "b")]);
    let model = model.expect("the shards open");
    for name in ["a", "b"] {
        assert_eq!(model.read_f32(name).expect(name).1, VALUES);
    }
    let (folder, model) = sharded(index, &[("1.safetensors", "a")]);
    assert_eq!(
        message(&folder, &model.expect_err("a shard is missing")),
        "DIR/model.safetensors.index.json: shard 2.safetensors is missing (it should hold `b`)"
    );
    let (folder, model) = sharded(index, &[("1.safetensors", "a"), ("2.safetensors", "c")]);
    assert_eq!(
        message(&folder, &model.expect_err("a tensor is missing")),
        "DIR/model.safetensors.index.json: says that 2.safetensors holds tensor `b`, but it does not"
    );
    let twice = "{\"weight_map\": {\"a\": \"2.safetensors\", \"b\": \"1.safetensors\"}}";
    let both = reference_safetensors(&[
        ("a", Dtype::F32, vec![1], le_bytes(&[1.0])),
        ("b", Dtype::F32, vec![1], le_bytes(&[1.0])),
    ]);
    let folder = TempDir::new();
    folder.write("config.json", "{}");
    folder.write("model.safetensors.index.json", twice);
    folder.write("1.safetensors", &both);
    folder.write("2.safetensors", &both);
    let error = ModelFiles::open(&folder.0).expect_err("both shards hold both");
    assert_eq!(message(&folder, &error), "DIR: tensor `a` is there twice");
    let (folder, model) = sharded("{\"weight_map\": {\"a\": \"../1.safetensors\"}}", &[]);
    assert_eq!(
        message(&folder, &model.expect_err("out of the folder")),
        "DIR/model.safetensors.index.json: names shard `../1.safetensors`, which is no plain file name"
    );
}

/// What a clone without git-lfs leaves, in place of each file of weights and of an index.
#[test]
fn a_pointer_of_git_lfs_is_named() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n";
    let index = "{\"weight_map\": {\"w\": \"shard.part\"}}";
    for (index_name, file) in [
        (None, "model.safetensors"),
        (None, "pytorch_model.bin"),
        (None, "model.safetensors.index.json"),
        (Some("model.safetensors.index.json"), "shard.part"),
        (Some("pytorch_model.bin.index.json"), "shard.part"),
    ] {
        let folder = TempDir::new();
        folder.write("config.json", "{}");
        index_name.map(|name| folder.write(name, index));
        folder.write(file, pointer);
        let error = ModelFiles::open(&folder.0).expect_err("no weights");
        let expected =
            format!("DIR/{file}: is a pointer of git-lfs, not the file that it stands for");
        assert_eq!(message(&folder, &error), expected);
        assert_eq!(error.code(), Code::ModelFiles);
        assert!(error.hint().contains("git lfs pull"), "{}", error.hint());
    }
}

/// To open a pipe that nobody writes to would wait for ever.
#[cfg(unix)]
#[test]
fn a_pipe_in_the_place_of_a_file_is_refused_at_once() {
    for file in ["config.json", "model.safetensors"] {
        let folder = TempDir::new();
        folder.write("config.json", "{}");
        let path = folder.0.join(file);
        let _ = std::fs::remove_file(&path);
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
        assert!(made.success());
        let error = ModelFiles::open(&folder.0).expect_err("a pipe");
        assert_eq!(message(&folder, &error), format!("DIR/{file}: is not a regular file"));
        assert_eq!(error.code(), Code::ModelFiles);
    }
}
