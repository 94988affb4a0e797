//! What holds for every family: names, targets, and how a model's files choose among them.

use super::*;
use crate::formats::peft::Modules;
use crate::model::adapter::{Matcher, linear_paths};
use serde_json::json;

fn bloom_config() -> Value {
    json!({ "model_type": "bloom", "hidden_size": 12, "n_head": 3, "n_layer": 2, "vocab_size": 20 })
}

fn mpt_config(model_type: &str) -> Value {
    json!({
        "model_type": model_type, "d_model": 12, "n_heads": 3, "n_layers": 2, "vocab_size": 20,
        "alibi": true, "no_bias": true
    })
}

fn completed(config: &Value, names: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    complete_names(config, names.iter_mut().collect());
    names
}

#[test]
fn a_checkpoint_of_the_bare_decoder_gets_the_whole_models_names() {
    let bare = ["h.0.self_attention.dense.weight", "word_embeddings.weight", "lm_head.weight"];
    let whole = [
        "transformer.h.0.self_attention.dense.weight",
        "transformer.word_embeddings.weight",
        "lm_head.weight",
    ];
    assert_eq!(completed(&bloom_config(), &bare), whole);
    assert_eq!(completed(&bloom_config(), &whole), whole);
    // A name that is unknown beside whole ones stays as it is, to be reported.
    let with_unknown = ["transformer.ln_f.weight", "extra"];
    assert_eq!(completed(&bloom_config(), &with_unknown), with_unknown);
    assert_eq!(completed(&bloom_config(), &["extra"]), ["extra"]);
    assert_eq!(completed(&json!({ "model_type": "resnet" }), &bare), bare);
}

#[test]
fn a_module_that_files_call_otherwise_is_read_and_written_under_both_names() {
    let config = json!({ "model_type": "gpt_neox" });
    let stored = ["embed_out.weight", "gpt_neox.embed_in.weight"];
    let names = ["lm_head.weight", "gpt_neox.embed_in.weight"];
    assert_eq!(completed(&config, &stored), names);
    let (family, _) = find(&config).unwrap();
    assert_eq!(names.map(|name| family.stored_name(name)), stored);
}

#[test]
fn the_files_names_choose_between_two_namings_of_one_type() {
    let config = mpt_config("mosaic_gpt");
    let name = |have: &'static str| {
        let (family, spec) = read(&config, |name| name == have).unwrap();
        linear_paths(&spec, family.module).pop().unwrap()
    };
    assert_eq!(name("transformer.blocks.0.ln_1.weight"), "transformer.blocks.1.mlp.mlp_down");
    assert_eq!(name("transformer.blocks.0.norm_1.weight"), "transformer.blocks.1.ffn.down_proj");
    assert_eq!(name(""), "transformer.blocks.1.ffn.down_proj");
}

#[test]
fn learned_positions_are_refused_where_the_file_holds_them() {
    let mut config = mpt_config("mpt");
    config["learned_pos_emb"] = true.into();
    assert!(read(&config, |_| false).is_ok());
    let Err(error) = read(&config, |name| name == "transformer.wpe.weight") else {
        panic!("accepted");
    };
    assert!(error.to_string().contains("transformer.wpe.weight"), "{error}");
    assert!(error.to_string().contains("learned positions"), "{error}");
    assert_eq!(error.code(), Code::ModelFiles);
}

#[test]
fn a_target_of_another_family_is_refused_with_this_ones_modules() {
    let cases = [
        (bloom_config(), "query_key_value, dense, dense_h_to_4h, dense_4h_to_h"),
        (mpt_config("mpt"), "Wqkv, out_proj, up_proj, down_proj"),
    ];
    for (config, modules) in cases {
        let (family, spec) = read(&config, |_| false).unwrap();
        let paths = linear_paths(&spec, family.module);
        let targets = Modules::Names(vec!["q_proj".into()]);
        let Err(error) = Matcher::new(Some(&targets), family.default_targets, &paths) else {
            panic!("accepted");
        };
        assert!(error.to_string().contains("q_proj"), "{error}");
        assert!(error.hint().contains(modules), "{}", error.hint());
    }
}

#[test]
fn default_targets_are_pefts() {
    // `TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING` of PEFT 0.21.2.
    let peft: [(&str, &[&str]); 9] = [
        ("llama", &["q_proj", "v_proj"]),
        ("mistral", &["q_proj", "v_proj"]),
        ("qwen2", &["q_proj", "v_proj"]),
        ("qwen3", &["q_proj", "v_proj"]),
        ("gemma", &["q_proj", "v_proj"]),
        ("bloom", &["query_key_value"]),
        ("mpt", &["Wqkv"]),
        ("falcon", &["query_key_value"]),
        ("gpt_neox", &["query_key_value"]),
    ];
    for (model_type, targets) in peft {
        for family in FAMILIES.iter().filter(|f| f.model_types.contains(&model_type)) {
            assert_eq!(family.default_targets, targets, "{model_type}");
        }
    }
}

#[test]
fn an_unknown_architecture_is_told_each_known_one_once() {
    let Err(error) = read(&json!({ "model_type": "resnet" }), |_| false) else {
        panic!("accepted");
    };
    let hint = error.hint();
    assert_eq!(hint.matches("mosaic_gpt").count(), 1, "{hint}");
    assert_eq!(hint.matches("falcon").count(), 1, "{hint}");
    assert!(error.to_string().contains("resnet"), "{error}");
}

#[test]
fn every_module_of_a_spec_has_a_name() {
    let configs = [bloom_config(), mpt_config("mpt"), mpt_config("mosaic_gpt")];
    for config in configs {
        let (family, spec) = read(&config, |_| false).unwrap();
        let slots: Vec<Slot> = spec.block_slots().into_iter().chain(spec.outer_slots()).collect();
        let names: Vec<String> = slots.iter().map(|&slot| (family.module)(slot, 0)).collect();
        let unique: std::collections::HashSet<&String> = names.iter().collect();
        assert_eq!(unique.len(), names.len(), "{names:?}");
    }
}
