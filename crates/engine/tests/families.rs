//! Every family's files, from a folder to a model and back: the names that are read are those that
//! are written, nothing is left over, and what can't be run is refused before a weight is read.

use engine::ctx::{Ctx, Precision, read};
use engine::decoder::{self, MicroBatch};
use engine::families;
use engine::formats::ModelFiles;
use engine::formats::hf_folder::{ModelToWrite, SavedDtype, write_model_folder};
use engine::model::{self, LoadOptions, Method, Model};
use engine::signal::Signal;
use engine::{Code, Error};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A folder that goes away.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        Folder(std::env::temp_dir().join(format!("lora-train-{name}-{}", std::process::id())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A small config of every family, with a tensor name that its files have.
fn configs() -> Vec<(Value, &'static str)> {
    let llama_like = |model_type: &str| {
        json!({
            "model_type": model_type, "hidden_size": 12, "num_attention_heads": 3, "head_dim": 4,
            "intermediate_size": 20, "num_hidden_layers": 2, "vocab_size": 24
        })
    };
    let mpt = |model_type: &str, no_bias: bool| {
        json!({
            "model_type": model_type, "d_model": 12, "n_heads": 3, "n_layers": 2, "vocab_size": 24,
            "alibi": true, "no_bias": no_bias
        })
    };
    let falcon = |grouped: bool| {
        json!({
            "model_type": "falcon", "hidden_size": 12, "num_attention_heads": 3, "num_kv_heads": 1,
            "num_hidden_layers": 2, "vocab_size": 24, "new_decoder_architecture": grouped
        })
    };
    let bloom = json!({
        "model_type": "bloom", "n_embed": 12, "n_head": 3, "n_layer": 2, "vocab_size": 24
    });
    let mut gpt_neox = llama_like("gpt_neox");
    gpt_neox["rotary_pct"] = 0.5.into();
    vec![
        (llama_like("llama"), "lm_head.weight"),
        (llama_like("mistral"), "lm_head.weight"),
        (llama_like("qwen2"), "model.layers.1.self_attn.k_proj.bias"),
        (llama_like("qwen3"), "model.layers.1.self_attn.k_norm.weight"),
        (llama_like("gemma"), "model.norm.weight"),
        (bloom, "transformer.word_embeddings_layernorm.bias"),
        (mpt("mpt", true), "transformer.norm_f.weight"),
        (mpt("mpt", false), "transformer.blocks.1.ffn.up_proj.bias"),
        (mpt("mosaic_gpt", true), "transformer.blocks.0.norm_1.weight"),
        (mpt("mosaic_gpt", true), "transformer.blocks.0.ln_1.weight"),
        (falcon(false), "transformer.h.1.input_layernorm.weight"),
        (falcon(true), "transformer.h.0.ln_attn.weight"),
        (gpt_neox, "embed_out.weight"),
    ]
}

/// Small values, other ones for each place; norms near 1.
fn values(name: &str, len: usize) -> Vec<f32> {
    let start = name.bytes().fold(7u32, |sum, byte| sum.wrapping_mul(31) + u32::from(byte));
    let norm = if name.contains("norm") && name.ends_with("weight") { 1.0 } else { 0.0 };
    let noise = |i: u32| (start.wrapping_add(i).wrapping_mul(2_654_435_769) >> 16) as f32;
    (0..len as u32).map(|i| norm + noise(i) / 65_536.0 - 0.5).collect()
}

/// Writes a model under the names of the family that has the tensor `has`.
fn write(config: &Value, has: &str, dir: &Path) {
    let (family, spec) = families::read(config, |name| name == has).expect("a family");
    let mut slots: Vec<_> = spec.outer_slots().into_iter().map(|slot| (slot, 0)).collect();
    slots.extend(
        (0..spec.n_layers).flat_map(|l| spec.block_slots().into_iter().map(move |s| (s, l))),
    );
    let mut tensors = vec![];
    for (slot, layer) in slots {
        let ((rows, cols), module) = (spec.weight_dims(slot), (family.module)(slot, layer));
        let shape = if slot.is_norm() { vec![rows] } else { vec![rows, cols] };
        tensors.push((family.stored_name(&format!("{module}.weight")), shape));
        if spec.has_bias(slot) {
            tensors.push((format!("{module}.bias"), vec![rows]));
        }
    }
    let model = ModelToWrite {
        config,
        generation_config: None,
        tensors: &tensors,
        dtype: SavedDtype::F32,
        max_shard_bytes: 1 << 20,
    };
    let shape = |name: &str| &tensors.iter().find(|(have, _)| have == name).expect("ours").1;
    write_model_folder(dir, &model, |name| {
        Ok::<_, Error>(values(name, shape(name).iter().product()))
    })
    .expect("a folder");
}

fn load(files: &ModelFiles, method: &Method) -> engine::Result<Model> {
    let load = LoadOptions { method, quantization: None, seed: 0 };
    model::load(&Ctx::cpu(Precision::F32), files, load, &Signal::default())
}

fn logits(model: &mut Model) -> Vec<f32> {
    let ids = vec![3, 1, 4, 1, 5, 9, 2, 6];
    let batch = MicroBatch { labels: vec![-100; 8], ids, seq_starts: vec![0, 5, 8] };
    let logits = decoder::logits(model, &batch, &Signal::default()).expect("logits");
    read::<f32, _>(&logits, <[f32]>::to_vec).expect("values")
}

#[test]
fn every_family_writes_the_names_that_it_reads() {
    for (i, (config, name)) in configs().into_iter().enumerate() {
        let (first, second) =
            (Folder::new(&format!("family-{i}")), Folder::new(&format!("family-{i}-saved")));
        write(&config, name, &first.0);
        let on_disk = |dir: &Folder| {
            let data = std::fs::read(dir.0.join("model.safetensors")).expect("one file");
            let file = safetensors::SafeTensors::deserialize(&data).expect("safetensors");
            let mut names: Vec<String> = file.names().into_iter().map(str::to_owned).collect();
            names.sort();
            names
        };
        assert!(on_disk(&first).iter().any(|have| have == name), "{name}: {:?}", on_disk(&first));

        let files = ModelFiles::open(&first.0).expect("opens");
        let mut model = load(&files, &Method::Full).expect("loads");
        assert_eq!(model.base_params as u64, model.spec.n_params(), "{config}");
        assert!(model.unused_tensors.is_empty(), "{config}: {:?}", model.unused_tensors);
        model::write::write(&model, &files, &second.0, &Signal::default()).expect("writes");
        assert_eq!(on_disk(&first), on_disk(&second), "{config}");

        let saved = ModelFiles::open(&second.0).expect("opens");
        let before = logits(&mut model);
        assert!(before.iter().all(|x| x.is_finite()), "{config}");
        let after = logits(&mut load(&saved, &Method::Frozen).expect("loads"));
        assert!(before == after, "{config}");
    }
}

#[test]
fn learned_positions_in_the_file_are_refused() {
    let folder = Folder::new("family-positions");
    let config = json!({
        "model_type": "mpt", "d_model": 12, "n_heads": 3, "n_layers": 2, "vocab_size": 24,
        "learned_pos_emb": true, "attn_config": { "alibi": true }
    });
    // Only the positions: nothing else is asked for before the refusal.
    for name in ["transformer.wpe.weight", "wpe.weight"] {
        let tensors = [(name.to_owned(), vec![8, 12]), ("wte.weight".to_owned(), vec![24, 12])];
        let model = ModelToWrite {
            config: &config,
            generation_config: None,
            tensors: &tensors[..],
            dtype: SavedDtype::F32,
            max_shard_bytes: 1 << 20,
        };
        let zeros =
            |name: &str| Ok::<_, Error>(vec![0.0; if name == "wte.weight" { 288 } else { 96 }]);
        write_model_folder(&folder.0, &model, zeros).expect("a folder");
        let files = ModelFiles::open(&folder.0).expect("opens");
        let Err(error) = load(&files, &Method::Frozen) else { panic!("accepted") };
        assert_eq!(error.code(), Code::ModelFiles);
        assert!(error.to_string().contains("learned positions"), "{error}");
    }
}
