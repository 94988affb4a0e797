//! A small byte-level tokenizer in a temporary folder, for this part's tests.

use super::TextTokenizer;
use super::error::Result;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// A temporary folder that goes away with its owner.
pub(super) struct TestFolder(PathBuf);

impl TestFolder {
    pub(super) fn new() -> TestFolder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "lora-train-tokenizer-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        TestFolder(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn write(&self, name: &str, content: impl ToString) -> &TestFolder {
        std::fs::write(self.0.join(name), content.to_string()).unwrap();
        self
    }

    pub(super) fn open(&self) -> Result<TextTokenizer> {
        TextTokenizer::open(&self.0)
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        // A folder that stays behind in the system's temporary folder is no failure of the test.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// The id of `</s>`, of `<s>`, and the first of the byte alphabet's.
pub(super) const EOS: u32 = 1;
pub(super) const BOS: u32 = 0;

/// `tokenizer.json` of a byte-level BPE: `<s>`, `</s>`, the 256 bytes, then `merges`. The text is not
/// cut into words, so that a merge can cross any border.
pub(super) fn byte_level(merges: &[(&str, &str)], post_processor: Value) -> Value {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let bytes = alphabet.iter().map(char::to_string);
    let merged = merges.iter().map(|(a, b)| [*a, *b].concat());
    let tokens = ["<s>".to_owned(), "</s>".to_owned()].into_iter().chain(bytes).chain(merged);
    let vocab: Map<String, Value> =
        tokens.enumerate().map(|(id, token)| (token, id.into())).collect();
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [special(BOS, "<s>"), special(EOS, "</s>")],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "post_processor": post_processor,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges},
    })
}

/// A post-processor that writes `before`, the text, `after`.
pub(super) fn around(before: &[&str], after: &[&str]) -> Value {
    let special = |token: &&str| json!({"SpecialToken": {"id": token, "type_id": 0}});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let single: Vec<Value> =
        before.iter().map(special).chain([text]).chain(after.iter().map(special)).collect();
    json!({"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": {
        "<s>": {"id": "<s>", "ids": [BOS], "tokens": ["<s>"]},
        "</s>": {"id": "</s>", "ids": [EOS], "tokens": ["</s>"]},
    }})
}

/// A folder with that tokenizer and both special tokens named.
pub(super) fn folder(tokenizer: &Value) -> TestFolder {
    let folder = TestFolder::new();
    folder.write("tokenizer.json", tokenizer);
    folder.write(
        "tokenizer_config.json",
        json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}}),
    );
    folder
}
