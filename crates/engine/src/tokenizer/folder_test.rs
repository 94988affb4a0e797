//! What is read from a tokenizer's folder, how broken folders are refused, and saving.

use super::error::TokenizerError;
use super::test_folder::{TestFolder, around, byte_level, folder};
use super::{SpecialToken, TextTokenizer};
use crate::error::Code;
use serde_json::{Value, json};

fn refused(folder: &TestFolder) -> TokenizerError {
    let error = folder.open().err().unwrap();
    assert_eq!(error.code(), Code::ModelFiles, "{error}");
    assert!(!error.to_string().ends_with('.') && error.hint().ends_with('.'), "{error}");
    error
}

#[test]
fn special_tokens_are_resolved() {
    let t = folder(&byte_level(&[], Value::Null)).open().unwrap();
    assert_eq!(t.special().bos, Some(SpecialToken { text: "<s>".into(), id: 0 }));
    assert_eq!(t.special().eos, Some(SpecialToken { text: "</s>".into(), id: 1 }));
    assert_eq!((&t.special().pad, &t.special().unk), (&None, &None));
    assert_eq!((t.vocab_size(), t.chat_template()), (258, None));
}

#[test]
fn a_named_token_is_kept_whole() {
    let f = folder(&byte_level(&[], Value::Null));
    f.write(
        "tokenizer_config.json",
        json!({"eos_token": "</s>", "pad_token": "<pad>", "extra_special_tokens": ["<x>"]}),
    );
    let t = f.open().unwrap();
    // The vocabulary has neither, so they get the next ids, as in Transformers.
    assert_eq!(t.special().pad.as_ref().map(|pad| pad.id), Some(258));
    assert_eq!(t.encode("<x><pad></s>", true).unwrap(), [259, 258, 1]);
    assert_eq!(t.decode(&[258, 259], true).unwrap(), "");
}

#[test]
fn added_tokens_decoder_adds_tokens() {
    let f = folder(&byte_level(&[], Value::Null));
    let token = json!({"content": "<think>", "lstrip": false, "normalized": false, "rstrip": false,
        "single_word": false, "special": false});
    f.write("tokenizer_config.json", json!({"added_tokens_decoder": {"258": token}}));
    let t = f.open().unwrap();
    assert_eq!(t.encode("<think>", true).unwrap(), [258]);
    assert_eq!(t.decode(&[258], true).unwrap(), "<think>");
}

#[test]
fn special_tokens_surround_a_text_only_on_request() {
    let t = folder(&byte_level(&[], around(&["<s>"], &["</s>"]))).open().unwrap();
    assert_eq!(t.encode("", true).unwrap(), [0, 1]);
    assert!(t.encode("", false).unwrap().is_empty());
}

#[test]
fn truncation_and_padding_in_the_file_have_no_effect() {
    let mut json = byte_level(&[], Value::Null);
    json["truncation"] =
        json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = json!({"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<s>"});
    assert_eq!(folder(&json).open().unwrap().encode("abc", true).unwrap().len(), 3);
}

#[test]
fn the_template_file_goes_before_the_config() {
    let f = folder(&byte_level(&[], Value::Null));
    f.write("tokenizer_config.json", json!({"chat_template": "config"}));
    assert_eq!(f.open().unwrap().chat_template(), Some("config"));
    let list =
        json!([{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "list"}]);
    f.write("tokenizer_config.json", json!({"chat_template": list}));
    assert_eq!(f.open().unwrap().chat_template(), Some("list"));
    f.write("chat_template.jinja", "file");
    assert_eq!(f.open().unwrap().chat_template(), Some("file"));
}

#[test]
fn a_folder_without_tokenizer_json_says_what_is_there() {
    let f = TestFolder::new();
    let error = refused(&f).to_string();
    assert!(error.ends_with("nor tokenizer.model; it holds nothing"), "{error}");
    f.write("vocab.txt", "").write("config.json", "{}");
    let error = refused(&f);
    assert!(error.to_string().ends_with("it holds config.json, vocab.txt"), "{error}");
    let nowhere = TextTokenizer::open(&f.path().join("none")).err().unwrap();
    assert!(matches!(nowhere, TokenizerError::NotFound { .. }));
}

#[test]
fn broken_files_are_refused_by_place() {
    let whole = byte_level(&[("a", "b")], Value::Null);
    let text = whole.to_string();
    for cut in [0, 1, 20, text.len() / 2, text.len() - 1] {
        let f = folder(&whole);
        f.write("tokenizer.json", &text[..text.floor_char_boundary(cut)]);
        assert!(matches!(refused(&f), TokenizerError::Json { line: 1, .. }));
    }
    let f = folder(&whole);
    f.write("tokenizer_config.json", "[]");
    assert!(refused(&f).to_string().contains("tokenizer_config.json, line 1"));
    f.write("tokenizer_config.json", "{\"chat_template\": 3}");
    assert!(refused(&f).to_string().contains("`chat_template`"));
}

#[test]
fn a_pointer_of_git_lfs_is_named() {
    let f = TestFolder::new();
    f.write("tokenizer.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n");
    let error = refused(&f);
    assert!(
        error
            .to_string()
            .ends_with("tokenizer.json: is a pointer of git-lfs, not the file that it stands for")
    );
    assert!(error.hint().contains("git lfs pull"), "{}", error.hint());
    assert_eq!(error.code(), crate::error::Code::ModelFiles);
}

#[test]
fn contradictory_tokenizers_are_refused() {
    // Some of these make the `tokenizers` crate panic, which prints; the panic goes no further.
    let changed = |pointer: &str, value: Value| {
        let mut json = byte_level(&[("a", "b")], around(&["<s>"], &[]));
        *json.pointer_mut(pointer).unwrap() = value;
        json
    };
    for (pointer, value) in [
        ("/version", json!("2.0")),
        ("/model/type", json!("Sorcery")),
        ("/model/dropout", json!(7)),
        // Merges that lead to no token, one longer than any token.
        ("/model/merges", json!([["a", "z"]])),
        ("/model/merges", json!([["</s>", "</s>"]])),
        ("/model/merges", json!([["q", "Straße"]])),
        ("/model/continuing_subword_prefix", json!("##")),
        ("/model/vocab", json!({"a": -1})),
        ("/model/vocab", json!([])),
        ("/post_processor/special_tokens", json!({})),
        (
            "/pre_tokenizer",
            json!({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false}),
        ),
    ] {
        let f = folder(&changed(pointer, value.clone()));
        assert!(f.open().is_err(), "{pointer} {value}");
        let error = refused(&f);
        assert!(
            matches!(error, TokenizerError::Json { .. } | TokenizerError::Unusable { .. }),
            "{pointer} {value} {error}"
        );
    }
}

#[test]
fn a_saved_tokenizer_is_the_same() {
    let trimming = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    let mut json = byte_level(&[("a", "b")], trimming);
    json["truncation"] =
        json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
    let f = folder(&json);
    let config = json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": "<pad>", "model_max_length": 9,
        "chat_template": "{{ messages[0]['content'] }}"});
    f.write("tokenizer_config.json", config);
    let (first, target) = (f.open().unwrap(), TestFolder::new());
    first.save(target.path()).unwrap();
    let second = target.open().unwrap();
    let texts = ["", "ab. ü<pad></s>", "日本"];
    for text in texts {
        assert_eq!(second.encode(text, true).unwrap(), first.encode(text, true).unwrap());
    }
    assert_eq!(
        (second.special(), second.chat_template()),
        (first.special(), first.chat_template())
    );
    let read = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(target.path().join(name)).unwrap()).unwrap()
    };
    // What tokenizing here goes without is kept for others.
    let saved = read("tokenizer.json");
    assert_eq!(saved["post_processor"]["trim_offsets"], true);
    assert_eq!(saved["truncation"]["max_length"], 2);
    let config = read("tokenizer_config.json");
    assert_eq!(config["model_max_length"], 9);
    assert_eq!(config["chat_template"], "{{ messages[0]['content'] }}");
    assert_eq!(
        read("special_tokens_map.json"),
        json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": "<pad>"})
    );
    assert_eq!(
        std::fs::read_to_string(target.path().join("chat_template.jinja")).unwrap(),
        "{{ messages[0]['content'] }}"
    );
}

#[test]
fn saving_into_a_missing_folder_is_an_error_of_the_output() {
    let f = folder(&byte_level(&[], Value::Null));
    let error = f.open().unwrap().save(&f.path().join("none")).err().unwrap();
    assert_eq!(error.code(), Code::Output);
}
