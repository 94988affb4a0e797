//! Tokenizers from GGUF metadata: what is built, and how contradictory metadata is refused.

use super::error::TokenizerError;
use super::gguf::{GgufVocab, build};
use super::test_folder::TestFolder;
use super::{NewSpecialTokens, Parts, TextTokenizer};
use crate::error::Code;
use crate::formats::gguf::{Array, Value};
use std::collections::BTreeMap;
use std::path::Path;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

type Metadata = BTreeMap<String, Value>;

fn strings(values: impl IntoIterator<Item = impl ToString>) -> Value {
    Value::Array(Array::String(values.into_iter().map(|value| value.to_string()).collect()))
}

fn open(metadata: &Metadata) -> Result<TextTokenizer, TokenizerError> {
    let path = Path::new("model.gguf");
    let parts: Parts = build(GgufVocab::from_metadata(path, |key| metadata.get(key))?)?;
    TextTokenizer::from_parts(path, parts)
}

/// `<s>`, `</s>`, `<think>`, two spaces (user-defined), the byte alphabet, `ab`, `12`.
fn byte_level() -> Metadata {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let special = ["<s>", "</s>", "<think>", "  "].map(str::to_owned).into_iter();
    let tokens: Vec<String> = special
        .chain(alphabet.iter().map(char::to_string))
        .chain(["ab".into(), "12".into()])
        .collect();
    let mut kinds = vec![1; tokens.len()];
    kinds[..4].copy_from_slice(&[3, 3, 4, 4]);
    Metadata::from([
        ("general.architecture".into(), Value::String("llama".into())),
        ("llama.context_length".into(), Value::U32(64)),
        ("tokenizer.ggml.model".into(), Value::String("gpt2".into())),
        ("tokenizer.ggml.pre".into(), Value::String("smollm".into())),
        ("tokenizer.ggml.tokens".into(), strings(tokens)),
        ("tokenizer.ggml.token_type".into(), Value::Array(Array::I32(kinds))),
        ("tokenizer.ggml.merges".into(), strings(["a b", "1 2"])),
        ("tokenizer.ggml.bos_token_id".into(), Value::U32(0)),
        ("tokenizer.ggml.eos_token_id".into(), Value::U32(1)),
        ("tokenizer.chat_template".into(), Value::String("{{ bos_token }}".into())),
    ])
}

/// SentencePiece: `<unk>`, `<s>`, `</s>`, the bytes, letters, and words whose scores fall with their id.
fn sentencepiece() -> Metadata {
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let words = ["▁", "a", "b", "c", "ab", "bc", "abc", "▁a", "▁abc", "▁b"].map(str::to_owned);
    let tokens: Vec<String> =
        ["<unk>", "<s>", "</s>"].map(str::to_owned).into_iter().chain(bytes).chain(words).collect();
    let scores = (0..tokens.len()).map(|id| -(id as f32)).collect();
    let mut kinds = vec![1; tokens.len()];
    kinds[..3].copy_from_slice(&[2, 3, 3]);
    kinds[3..259].fill(6);
    Metadata::from([
        ("general.architecture".into(), Value::String("llama".into())),
        ("tokenizer.ggml.model".into(), Value::String("llama".into())),
        ("tokenizer.ggml.tokens".into(), strings(tokens)),
        ("tokenizer.ggml.scores".into(), Value::Array(Array::F32(scores))),
        ("tokenizer.ggml.token_type".into(), Value::Array(Array::I32(kinds))),
        ("tokenizer.ggml.bos_token_id".into(), Value::U32(1)),
        ("tokenizer.ggml.eos_token_id".into(), Value::U32(2)),
        ("tokenizer.ggml.unknown_token_id".into(), Value::U32(0)),
    ])
}

fn texts(tokenizer: &TextTokenizer, text: &str) -> Vec<String> {
    tokenizer.token_texts(&tokenizer.encode(text, true).unwrap()).unwrap()
}

#[test]
fn byte_level_tokens_stay_whole_and_digits_apart() {
    let t = open(&byte_level()).unwrap();
    assert_eq!(texts(&t, "ab12<think>  </s>"), ["ab", "1", "2", "<think>", "  ", "</s>"]);
    // Control tokens are special, user-defined ones are not.
    assert_eq!(t.decode(&t.encode("a<think></s>", true).unwrap(), true).unwrap(), "a<think>");
    assert_eq!((t.vocab_size(), t.chat_template()), (262, Some("{{ bos_token }}")));
    assert_eq!(t.apply_chat_template("[]", false).unwrap(), "<s>");
}

#[test]
fn bos_and_eos_are_added_where_the_file_says_so() {
    let mut metadata = byte_level();
    metadata.insert("tokenizer.ggml.add_bos_token".into(), Value::Bool(true));
    metadata.insert("tokenizer.ggml.add_eos_token".into(), Value::Bool(true));
    assert_eq!(texts(&open(&metadata).unwrap(), "ab"), ["<s>", "ab", "</s>"]);
    // The rule says so where the file does not.
    let mut metadata = byte_level();
    metadata.insert("tokenizer.ggml.pre".into(), Value::String("llama-bpe".into()));
    assert_eq!(texts(&open(&metadata).unwrap(), "12"), ["<s>", "12"]);
    metadata.insert("tokenizer.ggml.add_bos_token".into(), Value::Bool(false));
    assert_eq!(texts(&open(&metadata).unwrap(), "12"), ["12"]);
}

/// Expected values: Transformers 5.24's `LlamaTokenizer` with `generate_merges` over the same tokens and scores.
#[test]
fn sentencepiece_merges_come_from_the_scores() {
    let t = open(&sentencepiece()).unwrap();
    assert_eq!(t.encode("abc ab bca ü", true).unwrap(), SENTENCEPIECE_IDS);
    assert_eq!(t.decode(&SENTENCEPIECE_IDS, true).unwrap(), "abc ab bca ü");
    assert_eq!(t.token_texts(&SENTENCEPIECE_IDS).unwrap().concat(), "<s> abc ab bca ü");
}

/// Expected values: Transformers 5.24's `gemma_tokenizer`.
#[test]
fn gemmas_merges_come_from_the_ids() {
    let mut metadata = sentencepiece();
    metadata.insert("general.architecture".into(), Value::String("gemma2".into()));
    let Some(Value::Array(Array::String(tokens))) = metadata.get_mut("tokenizer.ggml.tokens")
    else {
        panic!()
    };
    // A token of two spaces, as these files spell it.
    tokens[264] = "  ".into();
    let t = open(&metadata).unwrap();
    let ids = t.encode("abc  ab ca", false).unwrap();
    assert_eq!(ids, [265, 264, 263, 259, 262, 260]);
    assert_eq!(t.decode(&ids, false).unwrap(), "abc  ab ca");
}

const SENTENCEPIECE_IDS: [u32; 10] = [1, 267, 259, 263, 259, 264, 260, 259, 198, 191];

#[test]
fn contradictory_metadata_is_refused() {
    type Change = (&'static str, Option<Value>);
    let text = |value: &str| Some(Value::String(value.into()));
    let changes: [Change; 12] = [
        ("tokenizer.ggml.model", None),
        ("tokenizer.ggml.model", text("rwkv")),
        ("tokenizer.ggml.pre", text("kimi-k2")),
        ("tokenizer.ggml.tokens", None),
        ("tokenizer.ggml.tokens", text("a")),
        ("tokenizer.ggml.tokens", Some(strings(["a", "a"]))),
        ("tokenizer.ggml.token_type", Some(Value::Array(Array::I32(vec![1])))),
        ("tokenizer.ggml.merges", None),
        ("tokenizer.ggml.merges", Some(strings(["a b", "a c"]))),
        ("tokenizer.ggml.merges", Some(strings([""]))),
        ("tokenizer.ggml.eos_token_id", Some(Value::U64(u64::MAX))),
        ("tokenizer.ggml.bos_token_id", Some(Value::U32(262))),
    ];
    for (key, value) in changes {
        let mut metadata = byte_level();
        let name = format!("{key} {value:?}");
        match value {
            Some(value) => metadata.insert(key.into(), value),
            None => metadata.remove(key),
        };
        let error = open(&metadata).err().expect(&name);
        assert_eq!(error.code(), Code::ModelFiles, "{name}");
        assert!(error.to_string().starts_with("model.gguf: "), "{error}");
    }
    let mut metadata = sentencepiece();
    metadata.remove("tokenizer.ggml.scores");
    assert!(matches!(open(&metadata), Err(TokenizerError::GgufKey { .. })));
    let nan = Value::Array(Array::F32(vec![f32::NAN; 269]));
    metadata.insert("tokenizer.ggml.scores".into(), nan);
    assert!(matches!(open(&metadata), Err(TokenizerError::Token { .. })));
}

#[test]
fn a_new_token_is_saved_as_tokenizer_json() {
    let new = NewSpecialTokens { pad_token: Some("[PAD]".into()), ..NewSpecialTokens::default() };
    for (metadata, ids) in [
        // The byte alphabet begins at 4 with `!`; `a` is its 65th.
        (byte_level(), vec![68, 262]),
        (sentencepiece(), vec![1, 266, 269]),
    ] {
        let mut tokenizer = open(&metadata).unwrap();
        let n_tokens = tokenizer.vocab_size();
        tokenizer.add_special_tokens(&new).unwrap();
        let saved = TestFolder::new();
        tokenizer.save(saved.path()).unwrap();
        for tokenizer in [tokenizer, saved.open().unwrap()] {
            assert_eq!(tokenizer.encode("a[PAD]", true).unwrap(), ids);
            assert_eq!(tokenizer.special().pad.as_ref().map(|t| t.id as usize), Some(n_tokens));
            assert_eq!(tokenizer.vocab_size(), n_tokens + 1);
        }
    }
}
