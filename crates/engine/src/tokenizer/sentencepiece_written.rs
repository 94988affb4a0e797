//! A tokenizer that encodes as SentencePiece itself does, by the specs of its model. Never reads a file.
//!
//! ```text
//! text → charsmap → spaces removed at both ends and between words → spaces as ▁ → ▁ in front
//!      → user-defined pieces cut out → BPE or Unigram → bytes of what has no piece
//! ```
//! Source: `SpmConverter.build_tokenizer_from_spm_proto` of Transformers 5.24.

use super::error::{Result, TokenizerError};
use super::folder;
use super::sentencepiece::{self, Cut, Made};
use super::sentencepiece_file::{Algorithm, Kind, Normalizer, Piece, SentencePieceFile};
use std::path::Path;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Precompiled, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior::Isolated;
use tokenizers::{DecoderWrapper, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

/// `prepend` says which texts between special tokens get the model's space, if it has one: all, or the first.
pub(super) fn build_as_written(
    path: &Path,
    file: &SentencePieceFile,
    prepend: PrependScheme,
) -> Result<Tokenizer> {
    let unusable = |what: String| TokenizerError::Unusable { path: path.into(), what };
    let model = match file.algorithm {
        Algorithm::Bpe => bpe(path, file)?.into(),
        Algorithm::Unigram => unigram(file).map_err(unusable)?,
    };
    assembled(file, model, prepend).map_err(|e| unusable(e.to_string()))
}

fn assembled(
    file: &SentencePieceFile,
    model: ModelWrapper,
    prepend: PrependScheme,
) -> Made<Tokenizer> {
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer(Some(normalizer(&file.normalizer, prepend)?))?;
    let mut cuts: Vec<PreTokenizerWrapper> = Vec::new();
    if file.normalizer.add_dummy_prefix {
        cuts.push(Metaspace::new('▁', prepend, false).into());
    }
    if let Some(pattern) = user_defined(&file.pieces) {
        cuts.push(Split::new(SplitPattern::Regex(pattern), Isolated, false)?.into());
    }
    if !cuts.is_empty() {
        tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(cuts)));
    }
    let mut decoders: Vec<DecoderWrapper> = vec![Replace::new("▁", " ")?.into()];
    if file.byte_fallback {
        decoders.push(ByteFallback::default().into());
    }
    if file.byte_fallback || file.normalizer.add_dummy_prefix {
        decoders.push(Fuse::default().into());
    }
    if file.normalizer.add_dummy_prefix {
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    tokenizer.with_decoder(Some(Decoders::new(decoders)));
    Ok(tokenizer)
}

fn normalizer(spec: &Normalizer, prepend: PrependScheme) -> Made<Normalizers> {
    let pattern = |pattern: &str| ReplacePattern::Regex(pattern.to_owned());
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if !spec.charsmap.is_empty() {
        steps.push(Precompiled::from(&spec.charsmap)?.into());
    }
    if spec.remove_extra_whitespaces {
        // Spaces alone: SentencePiece leaves other whitespace where it is.
        steps.push(Replace::new(pattern(r"\A +| +\z"), "")?.into());
        steps.push(Replace::new(pattern(" {2,}"), " ")?.into());
    }
    if spec.escape_whitespaces {
        steps.push(Replace::new(" ", "▁")?.into());
    }
    if spec.add_dummy_prefix && prepend == PrependScheme::Always {
        // Metaspace puts nothing in front of a text that begins with ▁, SentencePiece does.
        steps.push(Replace::new(pattern(r"\A▁"), "▁▁")?.into());
    }
    Ok(Normalizers::new(steps))
}

/// What matches any user-defined piece, the longest first; None where the model has none.
fn user_defined(pieces: &[Piece]) -> Option<String> {
    let mut texts: Vec<&str> = pieces
        .iter()
        .filter(|piece| piece.kind == Kind::UserDefined)
        .map(|piece| piece.text.as_str())
        .collect();
    texts.sort_by_key(|text| std::cmp::Reverse(text.chars().count()));
    let escaped: Vec<String> = texts.into_iter().map(regex::escape).collect();
    (!escaped.is_empty()).then(|| escaped.join("|"))
}

/// Merges make normal pieces of normal pieces alone, the best score first.
fn bpe(path: &Path, file: &SentencePieceFile) -> Result<BPE> {
    let vocab = |wanted: fn(&Piece) -> bool| -> Vocab {
        let pieces = file.pieces.iter().zip(0u32..).filter(|(piece, _)| wanted(piece));
        pieces.map(|(piece, id)| (piece.text.clone(), id)).collect()
    };
    let score = |cut: &Cut| file.pieces[cut.id as usize].score;
    let normal = vocab(|piece| piece.kind == Kind::Normal);
    let merges = sentencepiece::merges(path, &normal, |a, b| {
        let best = score(b).total_cmp(&score(a));
        best.then_with(|| (a.id, a.left, a.right).cmp(&(b.id, b.left, b.right)))
    })?;
    let has_user_defined = file.pieces.iter().any(|piece| piece.kind == Kind::UserDefined);
    let model = BPE::builder()
        .vocab_and_merges(vocab(|_| true), merges)
        .unk_token(file.pieces[file.unk].text.clone())
        .fuse_unk(true)
        .byte_fallback(file.byte_fallback)
        // A user-defined piece, cut out already, is one token.
        .ignore_merges(has_user_defined);
    folder::guarded(|| model.build())
        .map_err(|what| TokenizerError::Unusable { path: path.into(), what })
}

fn unigram(file: &SentencePieceFile) -> Result<ModelWrapper, String> {
    let scored = file.pieces.iter().map(|piece| (piece.text.clone(), f64::from(piece.score)));
    let vocab = scored.collect();
    let model = folder::guarded(|| Unigram::from(vocab, Some(file.unk), file.byte_fallback))?;
    Ok(model.into())
}
