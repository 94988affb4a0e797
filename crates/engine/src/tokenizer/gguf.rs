//! Rebuilds a tokenizer from a GGUF file's metadata: byte-level BPE (`gpt2`) here, SentencePiece
//! (`llama`) in `sentencepiece`.
//!
//! The rules are llama.cpp's (`src/llama-vocab.cpp`), which the metadata was written for: a file says
//! little more than which tokens there are. Never reads a tensor.

use super::error::{Result, TokenizerError};
use super::pre_tokenizer::{self, Rule};
use super::special::Specials;
use super::surroundings::around;
use super::{Parts, folder, sentencepiece};
use crate::formats::gguf::{Gguf, Value};
use serde_json::Map;
use std::collections::HashSet;
use std::path::Path;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

const TOKENS: &str = "tokenizer.ggml.tokens";
const TOKEN_TYPES: &str = "tokenizer.ggml.token_type";
pub(super) const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";

/// GGUF's kinds of tokens that must stay whole in a text.
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// The metadata of a tokenizer, its lengths and ids checked.
pub(super) struct GgufVocab<'a> {
    pub(super) path: &'a Path,
    pub(super) architecture: &'a str,
    model: &'a str,
    pre: Option<&'a str>,
    pub(super) tokens: Vec<String>,
    /// As long as `tokens`, or empty.
    token_types: Vec<i32>,
    /// As long as `tokens`, or empty.
    pub(super) scores: &'a [f32],
    merges: Option<&'a [String]>,
    /// In the order of `NAMED`.
    named: Vec<(&'static str, usize)>,
    add_bos: Option<bool>,
    add_eos: Option<bool>,
    pub(super) add_space_prefix: Option<bool>,
    chat_template: Option<&'a str>,
    context_length: Option<u64>,
}

/// Transformers' names of the tokens whose ids a file gives.
const NAMED: [(&str, &str); 4] = [
    ("bos_token", "tokenizer.ggml.bos_token_id"),
    ("eos_token", "tokenizer.ggml.eos_token_id"),
    ("unk_token", "tokenizer.ggml.unknown_token_id"),
    ("pad_token", "tokenizer.ggml.padding_token_id"),
];

pub(super) fn read(path: &Path) -> Result<Parts> {
    let gguf = Gguf::open(path)?;
    build(GgufVocab::from_metadata(path, |key| gguf.get(key))?)
}

impl<'a> GgufVocab<'a> {
    pub(super) fn from_metadata(
        path: &'a Path,
        get: impl Fn(&str) -> Option<&'a Value>,
    ) -> Result<GgufVocab<'a>> {
        let missing = |key: &str| TokenizerError::GgufKey { path: path.into(), key: key.into() };
        let text = |key: &str| get(key).and_then(Value::as_str);
        let flag = |key: &str| get(key).and_then(Value::as_bool);
        let model = text("tokenizer.ggml.model").ok_or_else(|| missing("tokenizer.ggml.model"))?;
        let architecture = text("general.architecture").unwrap_or_default();
        let tokens = get(TOKENS).and_then(Value::as_strings).ok_or_else(|| missing(TOKENS))?;
        let token_types = get(TOKEN_TYPES).and_then(Value::as_i32s).unwrap_or_default();
        let scores = get(SCORES).and_then(Value::as_f32s).unwrap_or_default();
        for (key, found) in [(TOKEN_TYPES, token_types.len()), (SCORES, scores.len())] {
            if found != 0 && found != tokens.len() {
                return Err(TokenizerError::GgufLength {
                    path: path.into(),
                    key,
                    found,
                    expected: tokens.len(),
                });
            }
        }
        let mut named = Vec::new();
        for (name, key) in NAMED {
            let Some(id) = get(key).and_then(Value::as_u64) else { continue };
            let index = usize::try_from(id).ok().filter(|&id| id < tokens.len());
            let past =
                || TokenizerError::TokenId { path: path.into(), key, id, tokens: tokens.len() };
            named.push((name, index.ok_or_else(past)?));
        }
        Ok(GgufVocab {
            path,
            architecture,
            model,
            pre: text("tokenizer.ggml.pre"),
            tokens: distinct_tokens(path, tokens)?,
            token_types,
            scores,
            merges: get(MERGES).and_then(Value::as_strings),
            named,
            add_bos: flag("tokenizer.ggml.add_bos_token"),
            add_eos: flag("tokenizer.ggml.add_eos_token"),
            add_space_prefix: flag("tokenizer.ggml.add_space_prefix"),
            chat_template: text("tokenizer.chat_template"),
            context_length: get(&format!("{architecture}.context_length")).and_then(Value::as_u64),
        })
    }

    pub(super) fn vocab(&self) -> Vocab {
        // Ids fit: a file's tokens are far fewer than 2^32.
        self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), id as u32)).collect()
    }

    pub(super) fn token_named(&self, name: &str) -> Option<&str> {
        let (_, id) = self.named.iter().find(|(n, _)| *n == name)?;
        Some(&self.tokens[*id])
    }

    /// The file's merges as pairs; each must join two tokens to a third, which the crate does not check.
    pub(super) fn merges(&self, vocab: &Vocab) -> Result<Option<Merges>> {
        let Some(lines) = self.merges else { return Ok(None) };
        let pair = |(index, line): (usize, &String)| {
            // The first character belongs to the left side even if it is a space.
            let first = line.chars().next().map_or(0, char::len_utf8);
            let parts = line[first..]
                .split_once(' ')
                .map(|(rest, right)| (&line[..first + rest.len()], right));
            let known = |token: &str| vocab.contains_key(token);
            match parts {
                Some((left, right))
                    if known(left) && known(right) && known(&[left, right].concat()) =>
                {
                    Ok((left.to_owned(), right.to_owned()))
                }
                _ => Err(TokenizerError::GgufMerge {
                    path: self.path.into(),
                    index,
                    merge: line.clone(),
                }),
            }
        };
        lines.iter().enumerate().map(pair).collect::<Result<_>>().map(Some)
    }

    pub(super) fn unusable(&self, error: impl ToString) -> TokenizerError {
        TokenizerError::Unusable { path: self.path.into(), what: error.to_string() }
    }
}

/// The tokens; an empty one gets a name of its own, as in llama.cpp. A text that occurs twice would
/// leave an id without a token.
fn distinct_tokens(path: &Path, tokens: &[String]) -> Result<Vec<String>> {
    let mut seen = HashSet::with_capacity(tokens.len());
    let named: Vec<String> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| if token.is_empty() { format!("[EMPTY_{id}]") } else { token.clone() })
        .collect();
    match named.iter().position(|token| !seen.insert(token.as_str())) {
        Some(id) => {
            let text = named[id].clone();
            Err(TokenizerError::Token { path: path.into(), id, text, what: "is there twice" })
        }
        None => Ok(named),
    }
}

pub(super) fn build(vocab: GgufVocab) -> Result<Parts> {
    let (mut tokenizer, add_bos) = match vocab.model {
        "gpt2" => byte_level(&vocab)?,
        "llama" => (sentencepiece::build(&vocab)?, true),
        model => {
            return Err(TokenizerError::GgufModel { path: vocab.path.into(), model: model.into() });
        }
    };
    let add_bos = vocab.add_bos.unwrap_or(add_bos);
    let add_eos = vocab.add_eos.unwrap_or(false);
    let named = |add: bool, name: &str| {
        let (_, id) = vocab.named.iter().find(|(n, _)| add && *n == name)?;
        Some((vocab.tokens[*id].as_str(), *id as u32))
    };
    let around = around(named(add_bos, "bos_token"), named(add_eos, "eos_token"));
    tokenizer.with_post_processor(around.map_err(|e| vocab.unusable(e))?);
    let kept =
        vocab.tokens.iter().zip(&vocab.token_types).filter_map(|(token, &kind)| match kind {
            CONTROL => Some(AddedToken::from(token, true)),
            USER_DEFINED => Some(AddedToken::from(token, false).normalized(false)),
            _ => None,
        });
    tokenizer.add_tokens(kept).map_err(|e| vocab.unusable(e))?;
    let named = vocab
        .named
        .iter()
        .map(|&(name, id)| (name.to_owned(), AddedToken::from(&vocab.tokens[id], true)));
    let specials = Specials { named: named.collect(), ..Specials::default() };
    specials.add_to(&mut tokenizer).map_err(|e| vocab.unusable(e))?;
    let mut config = Map::new();
    config.insert("add_bos_token".into(), add_bos.into());
    config.insert("add_eos_token".into(), add_eos.into());
    config.insert("clean_up_tokenization_spaces".into(), false.into());
    config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
    if let Some(length) = vocab.context_length {
        config.insert("model_max_length".into(), length.into());
    }
    Ok(Parts {
        tokenizer,
        specials,
        templates: vocab
            .chat_template
            .map(|source| ("default".to_owned(), source.to_owned()))
            .into_iter()
            .collect(),
        config,
        sentencepiece: None,
    })
}

/// Byte-level BPE, and whether such tokenizers add `<bos>` where the file does not say.
fn byte_level(vocab: &GgufVocab) -> Result<(Tokenizer, bool)> {
    // Files without a rule are from before there was the key; Transformers splits them as GPT-2 does.
    let pre = vocab.pre.unwrap_or("gpt-2");
    let Some(Rule { pre_tokenizer, normalizer, ignore_merges, add_bos }) = pre_tokenizer::rule(pre)
    else {
        return Err(TokenizerError::GgufPre { path: vocab.path.into(), pre: pre.into() });
    };
    let ids = vocab.vocab();
    let merges = vocab
        .merges(&ids)?
        .ok_or_else(|| TokenizerError::GgufKey { path: vocab.path.into(), key: MERGES.into() })?;
    let model = BPE::builder().vocab_and_merges(ids, merges).ignore_merges(ignore_merges);
    let model = folder::guarded(|| model.build()).map_err(|e| vocab.unusable(e))?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer(normalizer).map_err(|e| vocab.unusable(e))?;
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer.map_err(|e| vocab.unusable(e))?));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    Ok((tokenizer, add_bos))
}
