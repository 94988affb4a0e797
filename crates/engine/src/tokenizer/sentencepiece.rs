//! SentencePiece tokenizers of GGUF files (`llama`): BPE over characters with byte fallback, its merges
//! recovered from the scores, as Transformers' converters do (`generate_merges`). Never reads `tokenizer.model`.

use super::error::{Result, TokenizerError};
use super::folder;
use super::gguf::{GgufVocab, SCORES};
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
        None if gemma => merges_by(&ids, vocab, |id| -f64::from(id))?,
        None if vocab.scores.is_empty() => {
            return Err(TokenizerError::GgufKey { path: vocab.path.into(), key: SCORES.into() });
        }
        None => merges_by(&ids, vocab, |id| vocab.scores[id as usize].into())?,
    };
    let mut model = BPE::builder().vocab_and_merges(ids, merges).fuse_unk(true).byte_fallback(true);
    if let Some(unk) = vocab.token_named("unk_token") {
        model = model.unk_token(unk.to_owned());
    }
    let mut tokenizer =
        Tokenizer::new(folder::guarded(|| model.build()).map_err(|e| vocab.unusable(e))?);
    let prefix = !gemma && vocab.add_space_prefix.unwrap_or(true);
    if gemma {
        tokenizer
            .with_normalizer(Some(Replace::new(" ", "▁").map_err(|e| vocab.unusable(e))?))
            .map_err(|e| vocab.unusable(e))?;
        let words = Split::new(SplitPattern::String(" ".into()), MergedWithPrevious, false);
        tokenizer.with_pre_tokenizer(Some(words.map_err(|e| vocab.unusable(e))?));
    } else {
        let scheme = if prefix { PrependScheme::First } else { PrependScheme::Never };
        tokenizer.with_pre_tokenizer(Some(Metaspace::new('▁', scheme, false)));
    }
    let spaces = Replace::new("▁", " ").map_err(|e| vocab.unusable(e))?;
    let mut decoders: Vec<DecoderWrapper> =
        vec![spaces.into(), ByteFallback::default().into(), Fuse::default().into()];
    if prefix {
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    tokenizer.with_decoder(Some(Sequence::new(decoders)));
    Ok(tokenizer)
}

fn respelled(token: String) -> String {
    match token.contains(' ') && token.trim().is_empty() {
        true => "▁".repeat(token.chars().count()),
        false => token,
    }
}

/// The merges that a vocabulary implies: each cut of a token into two tokens, best score first, longer
/// left and right parts first among equals, then by the ids of the whole, the left and the right.
fn merges_by(ids: &Vocab, vocab: &GgufVocab, score: impl Fn(u32) -> f64) -> Result<Merges> {
    let mut tokens: Vec<(&String, u32)> = ids.iter().map(|(token, &id)| (token, id)).collect();
    tokens.sort_unstable_by_key(|&(_, id)| id);
    let refused = |id: u32, text: &str, what| TokenizerError::GgufToken {
        path: vocab.path.into(),
        id: id as usize,
        text: text.chars().take(40).collect(),
        what,
    };
    let mut merges = Vec::new();
    for (token, id) in tokens {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(refused(id, token, "is too long for a token"));
        }
        let score = score(id);
        if score.is_nan() {
            return Err(refused(id, token, "has a score that is not a number"));
        }
        let mut cuts: Vec<(u32, u32, usize)> = Vec::new();
        for (at, _) in token.char_indices().skip(1) {
            if let (Some(&left), Some(&right)) = (ids.get(&token[..at]), ids.get(&token[at..])) {
                cuts.push((left, right, at));
            }
        }
        cuts.sort_unstable();
        merges.extend(cuts.into_iter().map(|(_, _, at)| {
            let (left, right) = token.split_at(at);
            (score, left.chars().count(), right.chars().count(), left, right)
        }));
    }
    // Stable: the order so far decides among equals.
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then((b.1, b.2).cmp(&(a.1, a.2))));
    Ok(merges.into_iter().map(|(.., left, right)| (left.to_owned(), right.to_owned())).collect())
}
