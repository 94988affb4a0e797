//! Named special tokens, against what Transformers makes of them (`bench/goldens/make_tokens.py`).

use super::error::TokenizerError;
use super::test_folder::{TestFolder, byte_level, folder};
use super::{NewSpecialTokens, SpecialToken, TextTokenizer};
use crate::error::Code;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/goldens/tokens").join(name)
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn tokens(value: &Value) -> NewSpecialTokens {
    serde_json::from_value(value.clone()).unwrap()
}

/// Ids, number of tokens and roles are the golden's.
fn assert_seen(tokenizer: &TextTokenizer, texts: &Value, case: &Value) {
    assert_eq!(json!(tokenizer.vocab_size()), case["length"], "{case}");
    for (text, ids) in texts.as_array().unwrap().iter().zip(case["ids"].as_array().unwrap()) {
        let found = tokenizer.encode(text.as_str().unwrap(), true).unwrap();
        assert_eq!(json!(found), *ids, "{text} {}", case["tokens"]);
    }
    let special = tokenizer.special();
    for (name, token) in [
        ("pad_token", &special.pad),
        ("eos_token", &special.eos),
        ("bos_token", &special.bos),
        ("unk_token", &special.unk),
    ] {
        let found = token.as_ref().map_or(Value::Null, |t| json!([t.text, t.id]));
        assert_eq!(found, *case["roles"].get(name).unwrap_or(&Value::Null), "{name} {case}");
    }
}

#[test]
fn ids_roles_and_files_are_transformers() {
    for name in ["llama", "byte-level"] {
        let source = golden(name);
        let expected = read(&source.join("expected.json"));
        for case in expected["cases"].as_array().unwrap() {
            let mut tokenizer = TextTokenizer::open(&source).unwrap();
            tokenizer.add_special_tokens(&tokens(&case["tokens"])).unwrap();
            assert_seen(&tokenizer, &expected["texts"], case);
            let saved = TestFolder::new();
            tokenizer.save(saved.path()).unwrap();
            assert_seen(&saved.open().unwrap(), &expected["texts"], case);

            // The file changes in the added tokens alone, and they are those that Transformers saves.
            let mut file = read(&source.join("tokenizer.json"));
            file["added_tokens"] = case["added_tokens"].clone();
            assert_eq!(read(&saved.path().join("tokenizer.json")), file, "{case}");
            let config = read(&saved.path().join("tokenizer_config.json"));
            let map = read(&saved.path().join("special_tokens_map.json"));
            for (role, token) in case["roles"].as_object().unwrap() {
                assert_eq!((&config[role], &map[role]), (&token[0], &token[0]), "{role}");
            }
            if let Some(decoder) = config.get("added_tokens_decoder") {
                for added in case["added_tokens"].as_array().unwrap() {
                    let mut added = added.clone();
                    let id = added.as_object_mut().unwrap().remove("id").unwrap().to_string();
                    assert_eq!(decoder[&id], added, "{case}");
                }
            }
        }
    }
}

#[test]
fn a_chat_template_sees_the_new_token() {
    let f = folder(&byte_level(&[], Value::Null));
    f.write("chat_template.jinja", "{{ bos_token }}{{ messages[0]['content'] }}{{ pad_token }}");
    let mut t = f.open().unwrap();
    let messages = json!([{"role": "user", "content": "a"}]).to_string();
    assert_eq!(t.apply_chat_template(&messages, false).unwrap(), "<s>a");
    t.add_special_tokens(&tokens(&json!({"pad_token": "[PAD]", "bos_token": "</s>"}))).unwrap();
    assert_eq!(t.apply_chat_template(&messages, false).unwrap(), "</s>a[PAD]");
}

#[test]
fn a_role_that_is_named_twice_has_the_last_text() {
    let mut t = folder(&byte_level(&[], Value::Null)).open().unwrap();
    t.add_special_tokens(&tokens(&json!({"pad_token": "[PAD]"}))).unwrap();
    t.add_special_tokens(&tokens(&json!({"pad_token": "</s>"}))).unwrap();
    assert_eq!(t.special().pad, Some(SpecialToken { text: "</s>".into(), id: 1 }));
    // The first token stays, as in Transformers.
    assert_eq!((t.vocab_size(), t.encode("[PAD]", true).unwrap()), (259, vec![258]));
}

#[test]
fn an_empty_text_is_refused_and_changes_nothing() {
    let mut t = folder(&byte_level(&[], Value::Null)).open().unwrap();
    let both = NewSpecialTokens {
        pad_token: Some("[PAD]".into()),
        eos_token: Some(String::new()),
        ..NewSpecialTokens::default()
    };
    let error = t.add_special_tokens(&both).err().unwrap();
    assert!(matches!(error, TokenizerError::NewToken { .. }), "{error}");
    assert_eq!((error.code(), t.vocab_size()), (Code::Config, 258));
    assert!(serde_json::from_value::<NewSpecialTokens>(json!({"sep_token": "a"})).is_err());
}
