//! Writes a tokenizer so that Transformers 4 and 5 load it with the same ids. Never overwrites in place:
//! each file is written beside and renamed.

use super::TextTokenizer;
use super::error::{Result, TokenizerError};
use super::folder::MODEL_FILE;
use super::special::NAMES;
use crate::formats::write::write_atomically;
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::Path;
use tokenizers::{
    AddedVocabulary, DecoderWrapper, ModelWrapper, NormalizerWrapper, PaddingParams,
    PostProcessorWrapper, PreTokenizerWrapper, TruncationParams,
};

/// `tokenizer.json`, borrowed from the tokenizer and what was kept apart from it.
#[derive(Serialize)]
struct TokenizerFile<'a> {
    version: &'static str,
    truncation: Option<&'a TruncationParams>,
    padding: Option<&'a PaddingParams>,
    added_tokens: &'a AddedVocabulary,
    normalizer: Option<&'a NormalizerWrapper>,
    pre_tokenizer: Option<&'a PreTokenizerWrapper>,
    post_processor: Option<&'a PostProcessorWrapper>,
    decoder: Option<&'a DecoderWrapper>,
    model: &'a ModelWrapper,
}

impl TextTokenizer {
    /// Writes `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json` and, where there is a
    /// template, `chat_template.jinja` into an existing folder; a `tokenizer.model` that it was read from as it was.
    ///
    /// The template stands in the config too: Transformers before 4.52 read it from there only. Errors: a
    /// file can't be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let tokenizer = &self.tokenizer;
        let file = TokenizerFile {
            version: "1.0",
            truncation: self.stored.truncation.as_ref(),
            padding: self.stored.padding.as_ref(),
            added_tokens: tokenizer.get_added_vocabulary(),
            normalizer: tokenizer.get_normalizer(),
            pre_tokenizer: tokenizer.get_pre_tokenizer(),
            post_processor: self.stored.post_processor.as_ref(),
            decoder: tokenizer.get_decoder(),
            model: tokenizer.get_model(),
        };
        write_json(dir, "tokenizer.json", &file)?;
        let (config, map) = (self.saved_config(), self.saved_map());
        write_json(dir, "tokenizer_config.json", &config)?;
        write_json(dir, "special_tokens_map.json", &map)?;
        if let Some(bytes) = &self.sentencepiece {
            write_bytes(dir, MODEL_FILE, bytes)?;
        }
        match self.template.source() {
            Some(source) => write_bytes(dir, "chat_template.jinja", source.as_bytes()),
            None => Ok(()),
        }
    }

    fn saved_config(&self) -> Map<String, Value> {
        let mut config = self.config.clone();
        // A class that takes tokenizer.json as it is.
        config.entry("tokenizer_class").or_insert_with(|| "PreTrainedTokenizerFast".into());
        let templates = self.template.all();
        match templates {
            [] => {}
            [(name, source)] if name == "default" => {
                config.insert("chat_template".into(), source.as_str().into());
            }
            templates => {
                let entry = |(name, source): &(String, String)| serde_json::json!({"name": name, "template": source});
                config.insert("chat_template".into(), templates.iter().map(entry).collect());
            }
        }
        config
    }

    /// The named tokens, as the config spells them.
    fn saved_map(&self) -> Map<String, Value> {
        let named = |name: &&str| self.config.get(*name).is_some_and(|value| !value.is_null());
        NAMES
            .iter()
            .filter(|name| named(name))
            .map(|name| ((*name).to_owned(), self.config[*name].clone()))
            .collect()
    }
}

fn write_json(dir: &Path, name: &'static str, value: &impl Serialize) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|e| TokenizerError::Write { path: dir.join(name), source: e })?;
    bytes.push(b'\n');
    write_bytes(dir, name, &bytes)
}

fn write_bytes(dir: &Path, name: &'static str, bytes: &[u8]) -> Result<()> {
    write_atomically(&dir.join(name), |file| Ok(file.write_all(bytes)?))
}
