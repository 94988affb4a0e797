//! The real tokenizer of SmolLM2 against ids and texts that Transformers wrote.
//!
//! Needs the shared goldens (`LORA_TRAIN_SHARED`, or `shared` beside the checkout) and the GGUF file that
//! `LORA_TRAIN_SMOLLM2` names. Skipped by name where they are not, failing where they are missing under `CI=true`.

use super::{RowOptions, TextTokenizer};
use serde_json::Value;
use std::path::PathBuf;

struct Goldens {
    tokenizer: TextTokenizer,
    expected: Value,
    shared: PathBuf,
}

/// None, said once per test, where a file is missing.
fn goldens(test: &str) -> Option<Goldens> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");
    let shared =
        PathBuf::from(std::env::var_os("LORA_TRAIN_SHARED").unwrap_or_else(|| beside.into()));
    let expected = shared.join("goldens/smollm2/expected.json");
    let gguf = std::env::var_os("LORA_TRAIN_SMOLLM2").map(PathBuf::from);
    let Some(gguf) = gguf.filter(|gguf| gguf.exists() && expected.exists()) else {
        let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!ci, "{test}: set LORA_TRAIN_SHARED and LORA_TRAIN_SMOLLM2");
        println!("skipped: {test} (set LORA_TRAIN_SHARED and LORA_TRAIN_SMOLLM2)");
        return None;
    };
    Some(Goldens {
        tokenizer: TextTokenizer::open(&gguf).unwrap(),
        expected: serde_json::from_slice(&std::fs::read(expected).unwrap()).unwrap(),
        shared,
    })
}

fn ids_of(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn smollm2_ids_are_transformers() {
    let Some(Goldens { tokenizer, expected, .. }) = goldens("smollm2_ids_are_transformers") else {
        return;
    };
    let cases = expected["tokens"].as_array().unwrap();
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let ids = tokenizer.encode(text, true).unwrap();
        assert_eq!(ids, ids_of(&case["ids"]), "{text:?}");
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
        assert_eq!(tokenizer.token_texts(&ids).unwrap().concat(), text);
    }
    assert_eq!(cases.len(), 14);
    assert_eq!(tokenizer.vocab_size(), 49_152);
}

#[test]
fn smollm2_chats_are_transformers() {
    let Some(Goldens { tokenizer, expected, .. }) = goldens("smollm2_chats_are_transformers")
    else {
        return;
    };
    assert_eq!(tokenizer.chat_template(), expected["chat_template"].as_str());
    let chats = expected["chats"].as_array().unwrap();
    assert_eq!(chats.len(), 2);
    for chat in chats {
        let text = tokenizer.apply_chat_template(&chat["messages"].to_string(), false).unwrap();
        assert_eq!(text, chat["text"].as_str().unwrap());
        assert_eq!(tokenizer.encode(&text, false).unwrap(), ids_of(&chat["ids"]));
        let open = tokenizer.apply_chat_template(&chat["messages"].to_string(), true).unwrap();
        assert_eq!(open, text + "<|im_start|>assistant\n");
    }
}

/// A row's source and target as the goldens' batch was made: Alpaca's headings, the answer as it is.
fn alpaca(row: &Value) -> (String, String) {
    let text = |key: &str| row[key].as_str().unwrap();
    let input = match text("input") {
        "" => String::new(),
        input => format!("### Input:\n{input}\n\n"),
    };
    let source = format!("### Instruction:\n{}\n\n{input}### Response:\n", text("instruction"));
    (source, text("output").to_owned())
}

fn rows(goldens: &Goldens, file: &str) -> Vec<(String, String)> {
    let rows = std::fs::read(goldens.shared.join("data").join(file)).unwrap();
    let rows: Vec<Value> = serde_json::from_slice(&rows).unwrap();
    rows.iter().map(alpaca).collect()
}

const OPTIONS: RowOptions =
    RowOptions { model_max_length: 256, append_eos: true, mask_source: true };

#[test]
fn smollm2_rows_are_the_goldens_batch() {
    let Some(goldens) = goldens("smollm2_rows_are_the_goldens_batch") else { return };
    let rows = rows(&goldens, "german-alpaca-eval-200.json");
    let encoded = goldens.tokenizer.encode_rows(&rows[..4], &OPTIONS).unwrap();
    for row in 0..4 {
        let range = encoded.offsets[row] as usize..encoded.offsets[row + 1] as usize;
        assert_eq!(
            encoded.ids[range.clone()],
            ids_of(&goldens.expected["batch"]["input_ids"][row])
        );
        let labels: Vec<i32> =
            serde_json::from_value(goldens.expected["batch"]["labels"][row].clone()).unwrap();
        assert_eq!(encoded.labels[range], labels);
    }
    assert!(encoded.cut.is_empty() && encoded.unsupervised.is_empty());
}

#[test]
fn four_thousand_rows_take_no_time() {
    let Some(goldens) = goldens("four_thousand_rows_take_no_time") else { return };
    let rows = rows(&goldens, "german-alpaca-4k.json");
    let start = std::time::Instant::now();
    let encoded = goldens.tokenizer.encode_rows(&rows, &OPTIONS).unwrap();
    let (ms, tokens) = (start.elapsed().as_millis(), encoded.ids.len());
    println!("{} rows, {tokens} tokens, {ms} ms, {} cut", rows.len(), encoded.cut.len());
    // Far above what it takes on a busy machine; a quadratic path takes longer.
    assert!(ms < 10_000, "{ms} ms");
}

#[test]
fn a_saved_smollm2_gives_the_same_ids() {
    let Some(Goldens { tokenizer, expected, .. }) = goldens("a_saved_smollm2_gives_the_same_ids")
    else {
        return;
    };
    let folder = super::test_folder::TestFolder::new();
    tokenizer.save(folder.path()).unwrap();
    let saved = folder.open().unwrap();
    for case in expected["tokens"].as_array().unwrap() {
        assert_eq!(
            saved.encode(case["text"].as_str().unwrap(), true).unwrap(),
            ids_of(&case["ids"])
        );
    }
    assert_eq!(
        (saved.special(), saved.chat_template()),
        (tokenizer.special(), tokenizer.chat_template())
    );
    assert_eq!(saved.vocab_size(), 49_152);
}
