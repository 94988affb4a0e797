//! What SentencePiece tokenizers are made of, from whichever file: merges recovered from a vocabulary, and the
//! pipelines of Llama and Gemma around a BPE with byte fallback. Never reads a file.
//!
//! Source: `generate_merges`, `LlamaTokenizer` and `GemmaTokenizer` of Transformers 5.24.

use super::error::{Result, TokenizerError};
use super::folder;
use super::gguf::{GgufVocab, SCORES};
use std::cmp::Ordering;
use std::path::Path;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::Replace;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior::MergedWithPrevious;
use tokenizers::{DecoderWrapper, Tokenizer};

/// Longest token whose cuts are looked at; real ones have at most a few hundred bytes.
const TOKEN_BYTES_MAX: usize = 2048;
/// Bytes that looking at all cuts may read; Gemma's 256,000 tokens take 60 MB.
const CUT_BYTES_MAX: usize = 1 << 30;
/// Gemma has 0.6 million.
const MERGES_MAX: usize = 1 << 20;

/// What a call of the `tokenizers` crate returns.
pub(super) type Made<T> = tokenizers::Result<T>;

/// The tokenizer of a GGUF file of the kind `llama`.
pub(super) fn build(vocab: &GgufVocab) -> Result<Tokenizer> {
    let gemma = matches!(vocab.architecture, "gemma" | "gemma2" | "gemma3");
    let ids: Vocab = match gemma {
        // These files spell tokens of several spaces with spaces; the merges need the tokenizer's own sign.
        true => vocab.vocab().into_iter().map(|(token, id)| (respelled(token), id)).collect(),
        false => vocab.vocab(),
    };
    let merges = match vocab.merges(&ids)? {
        Some(merges) => merges,
        // Gemma's scores don't follow the order of its merges, its ids do.
        None if gemma => merges(vocab.path, &ids, |a, b| a.id.cmp(&b.id).then(longer_first(a, b)))?,
        None => {
            let scores = scores(vocab)?;
            let score = |cut: &Cut| scores[cut.id as usize];
            merges(vocab.path, &ids, |a, b| score(b).total_cmp(&score(a)).then(longer_first(a, b)))?
        }
    };
    let unk = vocab.token_named("unk_token");
    let model = with_byte_fallback(ids, merges, unk).map_err(|e| vocab.unusable(e))?;
    let made = match (gemma, vocab.add_space_prefix) {
        (true, _) => gemma_pipeline(model),
        (false, Some(false)) => llama_pipeline(model, PrependScheme::Never),
        (false, _) => llama_pipeline(model, PrependScheme::First),
    };
    made.map_err(|e| vocab.unusable(e))
}

/// A BPE over characters; one that has no token falls to the tokens of its bytes.
pub(super) fn with_byte_fallback(
    ids: Vocab,
    merges: Merges,
    unk: Option<&str>,
) -> Result<BPE, String> {
    let mut model = BPE::builder().vocab_and_merges(ids, merges).fuse_unk(true).byte_fallback(true);
    if let Some(unk) = unk {
        model = model.unk_token(unk.to_owned());
    }
    folder::guarded(|| model.build())
}

/// Spaces become `▁`, with one before the first text (`First`) or before each text between special tokens (`Always`).
pub(super) fn llama_pipeline(model: BPE, prepend: PrependScheme) -> Made<Tokenizer> {
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(Metaspace::new('▁', prepend, false)));
    let mut decoders = byte_decoders()?;
    if prepend != PrependScheme::Never {
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    tokenizer.with_decoder(Some(Sequence::new(decoders)));
    Ok(tokenizer)
}

/// Spaces become `▁`, and none is put before a text.
pub(super) fn gemma_pipeline(model: BPE) -> Made<Tokenizer> {
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer(Some(Replace::new(" ", "▁")?))?;
    let words = Split::new(SplitPattern::String(" ".into()), MergedWithPrevious, false)?;
    tokenizer.with_pre_tokenizer(Some(words));
    tokenizer.with_decoder(Some(Sequence::new(byte_decoders()?)));
    Ok(tokenizer)
}

fn byte_decoders() -> Made<Vec<DecoderWrapper>> {
    Ok(vec![Replace::new("▁", " ")?.into(), ByteFallback::default().into(), Fuse::default().into()])
}

fn respelled(token: String) -> String {
    match token.contains(' ') && token.trim().is_empty() {
        true => "▁".repeat(token.chars().count()),
        false => token,
    }
}

fn scores<'a>(vocab: &'a GgufVocab) -> Result<&'a [f32]> {
    if vocab.scores.is_empty() {
        return Err(TokenizerError::GgufKey { path: vocab.path.into(), key: SCORES.into() });
    }
    match vocab.scores.iter().position(|score| score.is_nan()) {
        None => Ok(vocab.scores),
        Some(id) => {
            let what = "has a score that is not a number";
            Err(refused(vocab.path, id, &vocab.tokens[id], what))
        }
    }
}

/// A token as two others: its id, and the two.
pub(super) struct Cut<'a> {
    pub(super) id: u32,
    pub(super) left: &'a str,
    pub(super) right: &'a str,
}

impl Cut<'_> {
    /// The characters of both parts.
    pub(super) fn lengths(&self) -> (usize, usize) {
        (self.left.chars().count(), self.right.chars().count())
    }
}

fn longer_first(a: &Cut, b: &Cut) -> Ordering {
    b.lengths().cmp(&a.lengths())
}

/// The merges that a vocabulary implies: each cut of a token into two tokens, in the given order; among equals by the
/// ids of the whole, the left and the right.
pub(super) fn merges(
    path: &Path,
    ids: &Vocab,
    order: impl Fn(&Cut, &Cut) -> Ordering,
) -> Result<Merges> {
    let mut tokens: Vec<(&String, u32)> = ids.iter().map(|(token, &id)| (token, id)).collect();
    tokens.sort_unstable_by_key(|&(_, id)| id);
    let (mut merges, mut bytes) = (Vec::new(), 0usize);
    for (token, id) in tokens {
        bytes += token.len() * token.len();
        if token.len() > TOKEN_BYTES_MAX || bytes > CUT_BYTES_MAX {
            return Err(refused(path, id as usize, token, "is too long for a token"));
        }
        let mut cuts: Vec<(u32, u32, usize)> = Vec::new();
        for (at, _) in token.char_indices().skip(1) {
            if let (Some(&left), Some(&right)) = (ids.get(&token[..at]), ids.get(&token[at..])) {
                cuts.push((left, right, at));
            }
        }
        if merges.len() + cuts.len() > MERGES_MAX {
            return Err(refused(path, id as usize, token, "is one of too many that others make"));
        }
        cuts.sort_unstable();
        merges.extend(cuts.into_iter().map(|(_, _, at)| {
            let (left, right) = token.split_at(at);
            Cut { id, left, right }
        }));
    }
    // Stable: the order so far decides among equals.
    merges.sort_by(order);
    Ok(merges.into_iter().map(|cut| (cut.left.to_owned(), cut.right.to_owned())).collect())
}

fn refused(path: &Path, id: usize, text: &str, what: &'static str) -> TokenizerError {
    TokenizerError::Token { path: path.into(), id, text: text.chars().take(40).collect(), what }
}
