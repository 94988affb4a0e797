//! Writing: the bytes of the reference library, whole folders or none, and reading it all back.

use crate::support::TempDir;
use engine::Code;
use engine::formats::hf_folder::{ModelToWrite, SHARD_BYTES_MAX, SavedDtype, write_model_folder};
use engine::formats::write::{OutFolder, TensorBytes, write_atomically, write_safetensors};
use engine::formats::{FormatError, ModelFiles, StoredDtype};
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder can be listed");
    let name = |e: std::io::Result<std::fs::DirEntry>| e.expect("an entry").file_name();
    let mut names: Vec<String> = entries.map(|e| name(e).to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a text file")
}

#[test]
fn a_safetensors_file_has_the_bytes_of_the_reference_library() {
    let data: Vec<u8> = (0..48).collect();
    let tensors = [
        ("b", StoredDtype::F16, Dtype::F16, vec![3usize, 2], 12),
        ("ä \"quoted\"", StoredDtype::F32, Dtype::F32, vec![3], 12),
        ("a", StoredDtype::F32, Dtype::F32, vec![], 4),
        ("codes", StoredDtype::U8, Dtype::U8, vec![5], 5),
        ("steps", StoredDtype::I64, Dtype::I64, vec![2], 16),
        ("c", StoredDtype::Bf16, Dtype::BF16, vec![0, 7], 0),
    ];
    let views = tensors.iter().map(|(name, _, dtype, shape, n)| {
        (*name, TensorView::new(*dtype, shape.clone(), &data[..*n]).expect("a right tensor"))
    });
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let expected = safetensors::serialize(views, Some(metadata)).expect("right tensors");
    let folder = TempDir::new();
    let path = folder.0.join("x.safetensors");
    let ours: Vec<TensorBytes> = tensors
        .iter()
        .map(|(name, dtype, _, shape, n)| TensorBytes {
            name,
            dtype: *dtype,
            shape,
            bytes: &data[..*n],
        })
        .collect();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    write_atomically(&path, |file| write_safetensors(file, &ours, &metadata))
        .expect("it can be written");
    assert!(std::fs::read(&path).expect("the file") == expected);
    write_atomically(&path, |file| write_safetensors(file, &ours[..1], &BTreeMap::new()))
        .expect("it can be written again");
    let view = TensorView::new(Dtype::F16, vec![3, 2], &data[..12]).expect("a right tensor");
    assert_eq!(std::fs::read(&path).ok(), safetensors::serialize([("b", view)], None).ok());
    assert_eq!(names(&folder.0), ["x.safetensors"]);
}

#[test]
fn a_write_that_fails_leaves_the_old_file_and_nothing_else() {
    let folder = TempDir::new();
    let path = folder.write("state.bin", "old");
    let full = || FormatError::Write {
        path: path.clone(),
        source: std::io::ErrorKind::StorageFull.into(),
    };
    let error = write_atomically(&path, |file| {
        file.write_all(&[7; 3 << 20])?;
        Err::<(), _>(full())
    });
    assert_eq!(error.expect_err("the disk is full").code(), Code::Output);
    assert_eq!((text(&path), names(&folder.0)), ("old".into(), vec!["state.bin".into()]));
    write_atomically::<FormatError>(&path, |file| file.write_all(b"new"))
        .expect("it can be written");
    assert_eq!((text(&path), names(&folder.0)), ("new".into(), vec!["state.bin".into()]));
}

#[test]
fn a_folder_below_a_file_can_not_be_made() {
    let folder = TempDir::new();
    let file = folder.write("file", "");
    for target in [file.clone(), file.join("out"), file.join("a/b")] {
        let error = OutFolder::create(&target).err().expect("below a file");
        assert_eq!(error.code(), Code::Output);
        assert!(
            error.to_string().starts_with(&format!("{}: can't be written", target.display())),
            "{error}"
        );
        let error =
            write_atomically::<FormatError>(&file.join("x"), |_| Ok(())).expect_err("below a file");
        assert_eq!(error.code(), Code::Output);
    }
    assert_eq!(names(&folder.0), ["file"]);
}

#[test]
fn a_folder_appears_whole_or_not_at_all() {
    let folder = TempDir::new();
    let target = folder.0.join("a/out");
    {
        let out = OutFolder::create(&target).expect("a new folder");
        out.write("x", b"1").expect("a file");
        assert!(!target.exists());
    }
    assert_eq!(names(&folder.0.join("a")), Vec::<String>::new(), "given up: nothing is left");
    let out = OutFolder::create(&target).expect("a new folder");
    out.write("x", b"1").expect("a file");
    out.finish(|_| true).expect("it appears");
    assert_eq!(names(&folder.0.join("a")), ["out"]);
    assert_eq!(text(&target.join("x")), "1");
    // Into a folder that is there: new files replace theirs, old ones stay unless they are stale.
    for name in ["notes", "old-1", "x"] {
        std::fs::write(target.join(name), "0").expect("a file");
    }
    let out = OutFolder::create(&target).expect("an old folder");
    out.write("x", b"2").expect("a file");
    out.finish(|name| name.starts_with("old") || name == "x").expect("it is filled");
    assert_eq!(
        (names(&target), text(&target.join("x"))),
        (vec!["notes".into(), "x".into()], "2".into())
    );
    assert_eq!(names(&folder.0.join("a")), ["out"]);
}

fn value(i: usize) -> f32 {
    (i as f32 - 7.0) * 0.3
}

fn values(name: &str) -> Result<Vec<f32>, FormatError> {
    let at = name.len();
    Ok((0..if name.ends_with("norm.weight") { 4 } else { 24 }).map(|i| value(i + at)).collect())
}

fn write(target: &Path, dtype: SavedDtype, max_shard_bytes: u64) {
    let tensors = tensors();
    let config = json!({"model_type": "llama", "torch_dtype": "float16", "architectures": ["LlamaForCausalLM"],
        "rms_norm_eps": 1e-6, "own_key": [1], "quantization_config": {"bits": 4}});
    let generation = json!({"eos_token_id": 2});
    let model = ModelToWrite {
        config: &config,
        generation_config: Some(&generation),
        tensors: &tensors,
        dtype,
        max_shard_bytes,
    };
    write_model_folder(target, &model, values).expect("the model can be written");
}

fn tensors() -> Vec<(String, Vec<usize>)> {
    vec![
        ("model.embed_tokens.weight".into(), vec![6, 4]),
        ("model.norm.weight".into(), vec![4]),
        ("lm_head.weight".into(), vec![6, 4]),
        ("a.weight".into(), vec![4, 6]),
    ]
}

#[test]
fn a_model_is_written_and_read_back_in_every_dtype() {
    let folder = TempDir::new();
    for (dtype, name) in
        [(SavedDtype::F32, "float32"), (SavedDtype::Bf16, "bfloat16"), (SavedDtype::F16, "float16")]
    {
        let target = folder.0.join(name);
        write(&target, dtype, SHARD_BYTES_MAX);
        assert_eq!(names(&target), ["config.json", "generation_config.json", "model.safetensors"]);
        let model = ModelFiles::open(&target).expect("it opens");
        let expected = json!({"model_type": "llama", "torch_dtype": name, "rms_norm_eps": 1e-6,
            "architectures": ["LlamaForCausalLM"], "own_key": [1]});
        assert_eq!(model.config(), &expected);
        assert_eq!(model.generation_config(), Some(&json!({"eos_token_id": 2})));
        assert_eq!(model.tensors().len(), 4);
        for (name, shape) in tensors() {
            let round = |v: f32| match dtype {
                SavedDtype::F32 => v,
                SavedDtype::Bf16 => bf16::from_f32(v).to_f32(),
                SavedDtype::F16 => f16::from_f32(v).to_f32(),
            };
            let expected = values(&name).expect("values").into_iter().map(round).collect();
            assert_eq!(model.read_f32(&name).expect("it is there"), (shape, expected));
        }
    }
}

/// The cut is that of huggingface_hub's split_torch_state_dict_into_shards.
#[test]
fn shards_are_cut_and_indexed_as_transformers_does() {
    let folder = TempDir::new();
    let target = folder.0.join("model");
    // In bf16: 48, 8, 48 and 48 bytes.
    write(&target, SavedDtype::Bf16, 100);
    let index: Value =
        serde_json::from_str(&text(&target.join("model.safetensors.index.json"))).expect("JSON");
    let (first, second) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    let expected = json!({
        "metadata": {"total_parameters": 76, "total_size": 152},
        "weight_map": {"a.weight": second, "lm_head.weight": second, "model.embed_tokens.weight": first,
            "model.norm.weight": first},
    });
    assert_eq!(index, expected);
    let model = ModelFiles::open(&target).expect("it opens");
    let head = model.read_f32("lm_head.weight").expect("it is there").1;
    assert_eq!(head[0], bf16::from_f32(value("lm_head.weight".len())).to_f32());
    // Written again over it in one file: no shard of the former stays.
    write(&target, SavedDtype::F32, SHARD_BYTES_MAX);
    assert_eq!(names(&target), ["config.json", "generation_config.json", "model.safetensors"]);
    // A tensor that is larger than a shard stands alone; so do those around it.
    write(&target, SavedDtype::F32, 20);
    let shards = names(&target).into_iter().filter(|name| name.contains("-of-00004"));
    assert_eq!(shards.count(), 4);
    assert_eq!(ModelFiles::open(&target).expect("it opens").tensors().len(), 4);
}

#[test]
fn a_model_whose_weights_fail_leaves_nothing() {
    let folder = TempDir::new();
    let (tensors, config) = (tensors(), json!({}));
    let model = ModelToWrite {
        config: &config,
        generation_config: None,
        tensors: &tensors,
        dtype: SavedDtype::F32,
        max_shard_bytes: 100,
    };
    let target = folder.0.join("model");
    let fetch = |name: &str| match name {
        "a.weight" => Err(engine::Error::Cancelled),
        _ => Ok(values(name)?),
    };
    let error = write_model_folder(&target, &model, fetch).expect_err("cancelled");
    assert_eq!(error.code(), Code::Cancelled);
    assert_eq!(names(&folder.0), Vec::<String>::new());
}
