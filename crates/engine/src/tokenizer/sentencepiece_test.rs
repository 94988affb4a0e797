//! Folders that have only a `tokenizer.model`, against what Transformers makes of them
//! (`bench/goldens/make_sentencepiece.py`), and how broken ones are refused.

use super::error::TokenizerError;
use super::test_folder::TestFolder;
use super::{IGNORED, NewSpecialTokens, RowOptions, TextTokenizer};
use crate::error::Code;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/goldens/sentencepiece").join(name)
}

fn model(name: &str) -> Vec<u8> {
    std::fs::read(golden(&format!("{name}.model"))).unwrap()
}

/// A folder with that model and these other files.
fn folder(model: &[u8], files: &Value) -> TestFolder {
    let folder = TestFolder::new();
    std::fs::write(folder.path().join("tokenizer.model"), model).unwrap();
    for (name, content) in files.as_object().unwrap() {
        folder.write(name, content);
    }
    folder
}

struct Golden {
    texts: Vec<String>,
    cases: Map<String, Value>,
}

fn expected() -> Golden {
    let bytes = std::fs::read(golden("expected.json")).unwrap();
    let mut json: Value = serde_json::from_slice(&bytes).unwrap();
    Golden {
        texts: serde_json::from_value(json["texts"].take()).unwrap(),
        cases: serde_json::from_value(json["cases"].take()).unwrap(),
    }
}

/// Ids with and without what stands around a text, decoded texts and roles are the golden's.
fn assert_case(tokenizer: &TextTokenizer, texts: &[String], name: &str, case: &Value) {
    assert_eq!(json!(tokenizer.vocab_size()), case["length"], "{name}");
    let ids = |value: &Value| -> Vec<u32> { serde_json::from_value(value.clone()).unwrap() };
    for (at, text) in texts.iter().enumerate() {
        let bare = tokenizer.encode(text, false).unwrap();
        assert_eq!(bare, ids(&case["ids"][at]), "{name} {text:?}");
        let whole = tokenizer.encode(text, true).unwrap();
        let [before, after] = [0, 1].map(|side| ids(&case["around"][side]));
        assert_eq!(whole, [before, bare, after].concat(), "{name} {text:?}");
        let decoded = |skip| json!(tokenizer.decode(&whole, skip).unwrap());
        assert_eq!(decoded(false), case["decoded"][at], "{name} {text:?}");
        assert_eq!(decoded(true), case["skipped"][at], "{name} {text:?}");
        let joined = tokenizer.token_texts(&whole).unwrap().concat();
        assert_eq!(json!(joined), case["decoded"][at], "{name} {text:?}");
    }
    let special = tokenizer.special();
    for (role, token) in [
        ("bos_token", &special.bos),
        ("eos_token", &special.eos),
        ("unk_token", &special.unk),
        ("pad_token", &special.pad),
    ] {
        let found = token.as_ref().map_or(Value::Null, |t| json!([t.text, t.id]));
        assert_eq!(found, *case["roles"].get(role).unwrap_or(&Value::Null), "{name} {role}");
    }
}

#[test]
fn ids_texts_and_roles_are_transformers() {
    let Golden { texts, cases } = expected();
    for (name, case) in &cases {
        let bytes = model(case["model"].as_str().unwrap());
        let tokenizer = folder(&bytes, &case["files"]).open().unwrap();
        assert_case(&tokenizer, &texts, name, case);
        let template = &case["files"]["tokenizer_config.json"]["chat_template"];
        assert_eq!(tokenizer.chat_template(), template.as_str(), "{name}");
    }
    assert_eq!(cases.len(), 14);
}

/// Places in the text survive a space in front, a charsmap that changes lengths, and removed spaces.
#[test]
fn answers_are_supervised_and_prompts_are_not() {
    let Golden { cases, .. } = expected();
    let options = RowOptions { model_max_length: 64, append_eos: true, mask_source: true };
    let rows = [("die ﬁ  der\n", "das ① und"), ("  ü:", " der e\u{301}")]
        .map(|(source, target)| (source.to_owned(), target.to_owned()));
    for name in ["llama-legacy", "llama", "mistral", "symbols-mistral", "gemma", "unigram"] {
        let case = &cases[name];
        let bytes = model(case["model"].as_str().unwrap());
        let tokenizer = folder(&bytes, &case["files"]).open().unwrap();
        let encoded = tokenizer.encode_rows(&rows, &options).unwrap();
        // A point in front, for the decoder takes a space off what comes first.
        let point = tokenizer.encode(".", false).unwrap();
        for (row, answer) in answers(name).into_iter().enumerate() {
            let range = encoded.offsets[row] as usize..encoded.offsets[row + 1] as usize;
            let pairs = encoded.ids[range.clone()].iter().zip(&encoded.labels[range]);
            let supervised = pairs.filter(|(_, label)| **label != IGNORED).map(|(&id, _)| id);
            let ids: Vec<u32> = point.iter().copied().chain(supervised).collect();
            assert_eq!(tokenizer.decode(&ids, true).unwrap(), answer, "{name}");
        }
    }
}

fn answers(name: &str) -> [&'static str; 2] {
    match name {
        // Its charsmap makes a space of the prompt's last character: that token lies on the border.
        "unigram" => [". das 1 und", ". der é"],
        _ => [".das ① und", ". der e\u{301}"],
    }
}

/// What is written is `tokenizer.json`, with the same ids; the model's file goes with it.
#[test]
fn a_saved_folder_loads_again() {
    let Golden { texts, cases } = expected();
    for (name, case) in &cases {
        let bytes = model(case["model"].as_str().unwrap());
        let mut tokenizer = folder(&bytes, &case["files"]).open().unwrap();
        let saved = TestFolder::new();
        tokenizer.save(saved.path()).unwrap();
        assert_case(&saved.open().unwrap(), &texts, name, case);
        assert_eq!(std::fs::read(saved.path().join("tokenizer.model")).unwrap(), bytes);

        let n_tokens = tokenizer.vocab_size() as u32;
        let new = NewSpecialTokens { pad_token: Some("[PAD]".into()), ..Default::default() };
        tokenizer.add_special_tokens(&new).unwrap();
        tokenizer.save(saved.path()).unwrap();
        for tokenizer in [tokenizer, saved.open().unwrap()] {
            assert_eq!(tokenizer.encode("[PAD]", false).unwrap(), [n_tokens], "{name}");
        }
    }
}

#[test]
fn a_tokenizer_json_goes_first() {
    let f = folder(&model("llama"), &json!({"tokenizer_config.json": {}}));
    assert_eq!(f.open().unwrap().vocab_size(), 360);
    f.write("tokenizer.json", super::test_folder::byte_level(&[], Value::Null));
    assert_eq!(f.open().unwrap().vocab_size(), 258);
    f.write("tokenizer.json", "{");
    assert!(matches!(f.open(), Err(TokenizerError::Json { .. })));
}

fn refused(model: &[u8], files: Value) -> TokenizerError {
    let error = folder(model, &files).open().err().expect("refused");
    assert_eq!(error.code(), Code::ModelFiles, "{error}");
    assert!(!error.to_string().ends_with('.') && error.hint().ends_with('.'), "{error}");
    error
}

#[test]
fn other_kinds_are_refused_with_a_hint() {
    let class = |name: &str| json!({"tokenizer_config.json": {"tokenizer_class": name}});
    let error = refused(&model("llama"), class("T5TokenizerFast"));
    assert!(error.to_string().contains("tokenizer_class `T5Tokenizer`; known are"), "{error}");
    assert!(error.hint().contains("tokenizer.json"), "{}", error.hint());
    let error = refused(&model("llama"), json!({"config.json": {"tokenizer_class": "XTokenizer"}}));
    assert!(error.to_string().contains("`XTokenizer`"), "{error}");
    let error = refused(b"IQ== 0\nIg== 1\n", json!({}));
    assert!(error.to_string().contains("holds the ranks of tiktoken"), "{error}");
    let error =
        refused(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", json!({}));
    assert!(error.to_string().contains("git-lfs"), "{error}");
    // The kind of model stands in field 3 of trainer_spec, as the byte 2 (BPE) behind the byte 0x18.
    let mut words = model("words");
    let at = words.windows(4).position(|w| w == [0x18, 2, 0x20, 90]).expect("model_type") + 1;
    for (kind, what) in [(3, "whole words"), (4, "single characters"), (9, "not known")] {
        words[at] = kind;
        assert!(refused(&words, json!({})).to_string().contains(what), "{kind}");
    }
}

#[test]
fn added_tokens_have_the_ids_that_the_files_say() {
    let added = |ids: Value| json!({"added_tokens.json": ids});
    let f = folder(&model("llama"), &added(json!({"<a>": 361, "<b>": 360, "<s>": 1, "<c>": 7})));
    let tokenizer = f.open().unwrap();
    // `<c>` takes the place of the piece 7.
    assert_eq!(tokenizer.encode("<b><a><c>", false).unwrap(), [360, 361, 7]);
    for ids in [json!({"<a>": 362}), json!({"<s>": 5}), json!({"<a>": 360, "<b>": 360})] {
        let error = refused(&model("llama"), added(ids));
        assert!(matches!(error, TokenizerError::AddedId { .. }), "{error}");
    }
    let error = refused(&model("llama"), added(json!({"<a>": "360"})));
    assert!(error.to_string().ends_with("`<a>` is a text; expected is a token's id"), "{error}");
}

/// Begin, end and a class that is none in particular: nothing is added that no file asks for.
#[test]
fn what_stands_around_a_text_is_said() {
    let ids = |config: Value| {
        let f = folder(&model("llama"), &json!({"tokenizer_config.json": config}));
        f.open().unwrap().encode("", true).unwrap()
    };
    assert_eq!(ids(json!({})), [1]);
    assert_eq!(ids(json!({"tokenizer_class": "PreTrainedTokenizerFast"})), [] as [u32; 0]);
    assert_eq!(ids(json!({"add_bos_token": false, "add_eos_token": true})), [2]);
    assert_eq!(ids(json!({"bos_token": null})), [] as [u32; 0]);
}

#[test]
fn broken_files_are_refused_by_byte() {
    let whole = model("words");
    for cut in 0..whole.len() {
        let error = refused(&whole[..cut], json!({}));
        let at = match &error {
            TokenizerError::SentencePiece { at, .. } => *at,
            other => panic!("{cut}: {other}"),
        };
        assert!(
            at <= cut && error.to_string().contains("tokenizer.model, byte "),
            "{cut}: {error}"
        );
    }
    let error = refused(b"<html>", json!({}));
    assert!(error.to_string().ends_with("byte 0: is no field of a SentencePiece model"), "{error}");
    assert!(error.hint().contains("Download"), "{}", error.hint());
}

/// A changed byte gives an error or another tokenizer, which encodes whatever comes; never a panic.
#[test]
fn a_changed_byte_never_panics() {
    let Golden { texts, .. } = expected();
    // The steps reach every kind of field, and the charsmap's trie, in a few seconds.
    for (name, step) in [("words", 3), ("unigram", 11)] {
        let whole = model(name);
        for at in (0..whole.len()).step_by(step) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            let Ok(tokenizer) = folder(&bytes, &json!({})).open() else { continue };
            for text in &texts {
                let ids = tokenizer.encode(text, true);
                ids.and_then(|ids| tokenizer.decode(&ids, true)).ok();
            }
        }
    }
}
