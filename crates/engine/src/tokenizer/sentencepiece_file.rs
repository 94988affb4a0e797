//! Reads SentencePiece's `tokenizer.model`: pieces with scores and kinds, and the specs that count for encoding.
//! Never builds a tokenizer from them.
//!
//! The file is one protobuf message (`sentencepiece_model.proto` of google/sentencepiece); fields that don't
//! count here are passed over. Sizes are checked before use, and what is refused is named by its byte.

use super::error::{Result, TokenizerError};
use super::wire::{Field, Message};
use std::collections::HashSet;
use std::path::Path;

/// The largest in use has 262,144 pieces.
const PIECES_MAX: usize = 1 << 20;
/// Real pieces have at most a few hundred bytes; longer ones would make merges and tries deep.
const PIECE_BYTES_MAX: usize = 2048;

/// How text is cut into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Unigram,
    Bpe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) score: f32,
    pub(super) kind: Kind,
}

/// `normalizer_spec`, with the defaults of the format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Normalizer {
    pub(super) charsmap: Vec<u8>,
    pub(super) add_dummy_prefix: bool,
    pub(super) remove_extra_whitespaces: bool,
    pub(super) escape_whitespaces: bool,
}

/// A whole model. Pieces are distinct and not empty, their scores finite; `unk`, `bos`, `eos` and `pad` are ids of
/// pieces.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SentencePieceFile {
    pub(super) pieces: Vec<Piece>,
    pub(super) algorithm: Algorithm,
    pub(super) byte_fallback: bool,
    pub(super) normalizer: Normalizer,
    pub(super) unk: usize,
    pub(super) bos: Option<usize>,
    pub(super) eos: Option<usize>,
    pub(super) pad: Option<usize>,
}

/// `trainer_spec`, with the defaults of the format. Ids below 0 are how it says "none".
struct Trainer {
    model_type: i32,
    byte_fallback: bool,
    whitespace_as_suffix: bool,
    bos_id: i32,
    eos_id: i32,
    pad_id: i32,
}

impl SentencePieceFile {
    /// Errors: what is no such file, by its byte; a kind of model that decoders don't have.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<SentencePieceFile> {
        if is_tiktoken(bytes) {
            return Err(unsupported(
                path,
                "holds the ranks of tiktoken, not a SentencePiece model",
            ));
        }
        let (mut pieces, mut trainer) = (Vec::new(), None);
        let mut normalizer = None;
        let mut message = Message::whole(path, bytes);
        while let Some(field) = message.next()? {
            match field.number {
                1 if pieces.len() == PIECES_MAX => {
                    return Err(field.refused("is one piece more than a model may have"));
                }
                1 => pieces.push(piece(field)?),
                2 => trainer = Some(read_trainer(field)?),
                3 => normalizer = Some(read_normalizer(field)?),
                _ => {}
            }
        }
        let ends =
            |what| TokenizerError::SentencePiece { path: path.into(), at: bytes.len(), what };
        // Every trainer writes both, behind the pieces; a file without them was cut.
        let trainer = trainer.ok_or_else(|| ends("the file ends before its trainer_spec"))?;
        let normalizer =
            normalizer.ok_or_else(|| ends("the file ends before its normalizer_spec"))?;
        let unk = pieces.iter().position(|piece| piece.kind == Kind::Unknown);
        check_distinct(path, &pieces)?;
        let named = |id: i32, key: &'static str| match usize::try_from(id) {
            Err(_) => Ok(None),
            Ok(id) if id < pieces.len() => Ok(Some(id)),
            Ok(id) => Err(TokenizerError::TokenId {
                path: path.into(),
                key,
                id: id as u64,
                tokens: pieces.len(),
            }),
        };
        Ok(SentencePieceFile {
            algorithm: algorithm(path, &trainer)?,
            byte_fallback: trainer.byte_fallback,
            unk: unk.ok_or_else(|| ends("no piece of the file is the unknown one"))?,
            bos: named(trainer.bos_id, "trainer_spec.bos_id")?,
            eos: named(trainer.eos_id, "trainer_spec.eos_id")?,
            pad: named(trainer.pad_id, "trainer_spec.pad_id")?,
            normalizer,
            pieces,
        })
    }
}

fn algorithm(path: &Path, trainer: &Trainer) -> Result<Algorithm> {
    if trainer.whitespace_as_suffix {
        return Err(unsupported(path, "has spaces at the end of its pieces"));
    }
    match trainer.model_type {
        1 => Ok(Algorithm::Unigram),
        2 => Ok(Algorithm::Bpe),
        3 => Err(unsupported(path, "is a model of whole words")),
        4 => Err(unsupported(path, "is a model of single characters")),
        _ => Err(unsupported(path, "is a model of a kind that is not known")),
    }
}

fn unsupported(path: &Path, what: &str) -> TokenizerError {
    TokenizerError::SentencePieceKind { path: path.into(), what: what.to_owned() }
}

/// Llama 3 calls such a file `tokenizer.model` too: lines of a token in base64, a space and its rank.
fn is_tiktoken(bytes: &[u8]) -> bool {
    const LINE_BYTES_MAX: usize = 512;
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    let space = line.iter().position(|&byte| byte == b' ');
    line.len() <= LINE_BYTES_MAX
        && space.is_some_and(|at| {
            let (token, rank) = (&line[..at], &line[at + 1..]);
            !token.is_empty() && token.iter().all(base64) && rank == b"0"
        })
}

fn piece(field: Field) -> Result<Piece> {
    let (mut text, mut score, mut kind) = (None, 0.0, Kind::Normal);
    let mut message = field.message()?;
    while let Some(field) = message.next()? {
        match field.number {
            1 => {
                let found = field.text()?;
                if found.is_empty() || found.len() > PIECE_BYTES_MAX {
                    return Err(field.refused("is a piece of no text, or of more than 2048 bytes"));
                }
                text = Some(found.to_owned());
            }
            2 => {
                score = field.float()?;
                if !score.is_finite() {
                    return Err(field.refused("is a score that is not a number"));
                }
            }
            3 => {
                kind = match field.int()? {
                    1 => Kind::Normal,
                    2 => Kind::Unknown,
                    3 => Kind::Control,
                    4 => Kind::UserDefined,
                    5 => Kind::Unused,
                    6 => Kind::Byte,
                    _ => return Err(field.refused("is a kind of piece that is not known")),
                }
            }
            _ => {}
        }
    }
    let text = text.ok_or_else(|| field.refused("is a piece without text"))?;
    Ok(Piece { text, score, kind })
}

fn read_trainer(field: Field) -> Result<Trainer> {
    let mut trainer = Trainer {
        model_type: 1,
        byte_fallback: false,
        whitespace_as_suffix: false,
        bos_id: 1,
        eos_id: 2,
        pad_id: -1,
    };
    let mut message = field.message()?;
    while let Some(field) = message.next()? {
        match field.number {
            3 => trainer.model_type = field.int()?,
            24 => trainer.whitespace_as_suffix = field.flag()?,
            35 => trainer.byte_fallback = field.flag()?,
            41 => trainer.bos_id = field.int()?,
            42 => trainer.eos_id = field.int()?,
            43 => trainer.pad_id = field.int()?,
            _ => {}
        }
    }
    Ok(trainer)
}

fn read_normalizer(field: Field) -> Result<Normalizer> {
    let mut normalizer = Normalizer {
        charsmap: Vec::new(),
        add_dummy_prefix: true,
        remove_extra_whitespaces: true,
        escape_whitespaces: true,
    };
    let mut message = field.message()?;
    while let Some(field) = message.next()? {
        match field.number {
            2 => {
                normalizer.charsmap = field.bytes()?.to_vec();
                super::charsmap::check(&normalizer.charsmap).map_err(|what| field.refused(what))?;
            }
            3 => normalizer.add_dummy_prefix = field.flag()?,
            4 => normalizer.remove_extra_whitespaces = field.flag()?,
            5 => normalizer.escape_whitespaces = field.flag()?,
            _ => {}
        }
    }
    Ok(normalizer)
}

/// A text that occurs twice would leave an id without a token.
fn check_distinct(path: &Path, pieces: &[Piece]) -> Result<()> {
    let mut seen = HashSet::with_capacity(pieces.len());
    match pieces.iter().position(|piece| !seen.insert(piece.text.as_str())) {
        None => Ok(()),
        Some(id) => Err(TokenizerError::Token {
            path: path.into(),
            id,
            text: pieces[id].text.chars().take(40).collect(),
            what: "is there twice",
        }),
    }
}
