//! Text to token ids and back: `tokenizer.json`, tokenizers rebuilt from SentencePiece's `tokenizer.model` and from
//! GGUF, chat templates, training rows.
//!
//! The tokenizing itself is the `tokenizers` crate's; here are what surrounds it in a model's folder
//! and the labels of training rows. Nothing here knows a model, trains, or fetches files.

mod charsmap;
mod error;
mod folder;
mod gguf;
mod new_tokens;
mod pre_tokenizer;
mod rows;
mod save;
mod sentencepiece;
mod sentencepiece_file;
mod sentencepiece_folder;
mod sentencepiece_written;
mod special;
mod surroundings;
mod template;
mod texts;
mod time;
mod tojson;
mod wire;

#[cfg(test)]
mod folder_test;
#[cfg(test)]
mod gguf_test;
#[cfg(test)]
mod goldens_test;
#[cfg(test)]
mod new_tokens_test;
#[cfg(test)]
mod rows_test;
#[cfg(test)]
mod sentencepiece_test;
#[cfg(test)]
mod template_test;
#[cfg(test)]
mod test_folder;

pub use error::TokenizerError;
pub use new_tokens::NewSpecialTokens;
pub use rows::{EncodedRows, IGNORED, RowOptions};
pub use special::{SpecialToken, SpecialTokens};

use error::Result;
use serde_json::{Map, Value};
use special::Specials;
use std::path::Path;
use template::ChatTemplate;
use tokenizers::{PaddingParams, PostProcessorWrapper, Tokenizer, TruncationParams};

/// A model's tokenizer with its special tokens and its chat template.
pub struct TextTokenizer {
    /// Without truncation and padding (Transformers switches both off in a plain call too), and with
    /// a post-processor that leaves offsets as they are.
    tokenizer: Tokenizer,
    stored: Stored,
    special: SpecialTokens,
    template: ChatTemplate,
    config: Map<String, Value>,
    /// The `tokenizer.model` that it was built from, for `save`: llama.cpp's converters want it.
    sentencepiece: Option<Vec<u8>>,
}

/// The parts of `tokenizer.json` that tokenizing here goes without, kept for `save`.
struct Stored {
    post_processor: Option<PostProcessorWrapper>,
    truncation: Option<TruncationParams>,
    padding: Option<PaddingParams>,
}

/// What the readers of a folder and of a GGUF file hand over.
struct Parts {
    /// With its special tokens.
    tokenizer: Tokenizer,
    specials: Specials,
    /// By name; the one that counts is `default`.
    templates: Vec<(String, String)>,
    config: Map<String, Value>,
    /// The bytes of `tokenizer.model`, where it was built from that.
    sentencepiece: Option<Vec<u8>>,
}

impl TextTokenizer {
    /// Opens a folder with `tokenizer.json`, or else with SentencePiece's `tokenizer.model`, or a `.gguf` file (or a
    /// folder with exactly one and neither of these), whose tokenizer is rebuilt from its metadata.
    ///
    /// Beside `tokenizer.json` count `tokenizer_config.json`, `special_tokens_map.json` and
    /// `chat_template.jinja`, by the rules of Transformers 5: whether `<bos>` and `<eos>` are added is
    /// `tokenizer.json`'s post-processor's say alone, `special_tokens_map.json` counts where the config has
    /// no `added_tokens_decoder`, and a `chat_template.jinja` goes before the config's template.
    pub fn open(path: &Path) -> Result<TextTokenizer> {
        let metadata = std::fs::metadata(path).map_err(|e| TokenizerError::read(path, e))?;
        if metadata.is_file() {
            return TextTokenizer::from_parts(path, gguf::read(path)?);
        }
        match folder::read(path) {
            Err(error @ TokenizerError::NoTokenizer { .. }) => match folder::single_gguf(path)? {
                Some(file) => TextTokenizer::from_parts(&file, gguf::read(&file)?),
                None => Err(error),
            },
            parts => TextTokenizer::from_parts(path, parts?),
        }
    }

    fn from_parts(path: &Path, parts: Parts) -> Result<TextTokenizer> {
        let Parts { mut tokenizer, specials, templates, config, sentencepiece } = parts;
        let unusable = |what: String| TokenizerError::Unusable { path: path.into(), what };
        let stored = Stored {
            post_processor: tokenizer.get_post_processor().cloned(),
            truncation: tokenizer.get_truncation().cloned(),
            padding: tokenizer.get_padding().cloned(),
        };
        let untrimmed = rows::without_trimming(stored.post_processor.as_ref()).map_err(unusable)?;
        tokenizer.with_post_processor(untrimmed);
        tokenizer.with_truncation(None).map_err(|e| unusable(e.to_string()))?.with_padding(None);
        // A first text shows what the file's reader does not check, a template that names a missing token, say.
        folder::guarded(|| tokenizer.encode("a", true)).map_err(unusable)?;
        let special = specials.resolve(&tokenizer);
        let template = ChatTemplate::new(templates, specials.variables());
        let config = specials.written_to(config);
        Ok(TextTokenizer { tokenizer, stored, special, template, config, sentencepiece })
    }

    /// The ids of a text. `add_special_tokens` adds those that the tokenizer puts around every text
    /// (`<s>`, say); special tokens that are spelled out in the text are recognised either way.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        let encoding = self.tokenizer.encode_fast(text, add_special_tokens);
        let encoding = encoding.map_err(|e| TokenizerError::Text { what: e.to_string() })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of ids. Ids past the vocabulary are left out, as Transformers does.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.tokenizer
            .decode(ids, skip_special)
            .map_err(|e| TokenizerError::Ids { what: e.to_string() })
    }

    pub fn special(&self) -> &SpecialTokens {
        &self.special
    }

    /// The number of tokens, added ones included; a model's embedding may have more rows.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// The chat template that counts, as it is spelled in the file.
    pub fn chat_template(&self) -> Option<&str> {
        self.template.source()
    }

    /// A conversation as the text that the model was trained on. `messages` is JSON, a list of
    /// `{"role": …, "content": …}`; it is text so that the order of an object's keys survives.
    ///
    /// As in Transformers, keys that are null are dropped, and `tools` and `documents` are none.
    /// A template runs a limited number of steps: a hostile one ends with an error.
    pub fn apply_chat_template(
        &self,
        messages: &str,
        add_generation_prompt: bool,
    ) -> Result<String> {
        self.template.render(messages, add_generation_prompt)
    }
}
