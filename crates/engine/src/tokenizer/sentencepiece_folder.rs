//! A folder whose tokenizer is SentencePiece's `tokenizer.model`: which class of Transformers it is for, and the same
//! pipeline built here. Never reads weights, and never runs code that a folder names.
//!
//! Source: `convert_slow_tokenizer.py` (`SpmConverter`), `LlamaTokenizer`, `CodeLlamaTokenizer` and `GemmaTokenizer`
//! of Transformers 5.24. Where a folder does not say `legacy` or `add_bos_token` they are true, as before
//! Transformers 5, which wrote such folders. A Llama's model whose normaliser is not that of Llama, and Unigram, are
//! built by the model's own specs: their classes would leave these out.

use super::error::{Result, TokenizerError};
use super::folder::{self, Beside};
use super::sentencepiece::{self, Cut, Made, with_byte_fallback};
use super::sentencepiece_file::{Algorithm, Kind, SentencePieceFile};
use super::sentencepiece_written::build_as_written;
use super::special::{Specials, content_of};
use super::surroundings::around;
use super::{Parts, special};
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use tokenizers::models::bpe::Vocab;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::{AddedToken, Tokenizer};

/// How a model's text becomes pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Llama(PrependScheme),
    Gemma,
    /// By the model's specs, as `SentencePieceProcessor` does; `Always` is the legacy way.
    AsWritten(PrependScheme),
}

/// The classes that are served, as `tokenizer_config.json` names them, or else `config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Llama,
    CodeLlama,
    Gemma,
    /// Said to be none in particular.
    Generic,
    Unsaid,
}

/// Builds the tokenizer of `tokenizer.model`, whose content is `bytes`.
pub(super) fn read(folder: &Path, path: &Path, bytes: Vec<u8>, beside: Beside) -> Result<Parts> {
    let mut file = SentencePieceFile::parse(path, &bytes)?;
    let model = folder::read_object(&folder.join("config.json"))?.unwrap_or_default();
    let model_type = model.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let class =
        [&beside.config, &model].into_iter().find_map(|c| c.get("tokenizer_class")?.as_str());
    let class = Class::of(path, class, model_type)?;
    let way = way(&file, class, model_type, &beside.config);
    let mut specials = beside.specials()?;
    let declared = declared(folder, &beside, &mut specials)?;
    rename(&mut file, &declared);
    specials.name_missing(&beside, &file, class);
    specials.pieces = whole_pieces(&file, way);
    if class == Class::CodeLlama {
        specials.pieces.extend(infilling(&file, &beside.config));
    }
    if matches!(way, Way::AsWritten(_)) && file.normalizer.add_dummy_prefix {
        // Matched in the text as it stands, so that what follows such a token gets its own space.
        specials.added = specials.added.into_iter().map(|token| token.normalized(false)).collect();
    }
    let mut tokenizer = build(path, &file, way)?;
    let unusable = |what: String| TokenizerError::Unusable { path: path.into(), what };
    specials.add_to(&mut tokenizer).map_err(unusable)?;
    check_ids(path, &tokenizer, &declared)?;
    let config = config_of(&beside.config, class, way, &specials);
    let added = |flag: &str, name: &str| {
        let (_, token) = specials.named.iter().find(|(n, _)| n == name)?;
        let added = config.get(flag).and_then(Value::as_bool) == Some(true);
        let id = tokenizer.token_to_id(&token.content)?;
        added.then_some((token.content.as_str(), id))
    };
    let surrounding = around(added(ADD_BOS, "bos_token"), added(ADD_EOS, "eos_token"))
        .map_err(|e| unusable(e.to_string()))?;
    tokenizer.with_post_processor(surrounding);
    let Beside { templates, .. } = beside;
    Ok(Parts { tokenizer, specials, templates, config, sentencepiece: Some(bytes) })
}

const ADD_BOS: &str = "add_bos_token";
const ADD_EOS: &str = "add_eos_token";

impl Class {
    fn of(path: &Path, name: Option<&str>, model_type: &str) -> Result<Class> {
        match name.map(|name| name.strip_suffix("Fast").unwrap_or(name)) {
            Some("LlamaTokenizer" | "LLaMATokenizer") => Ok(Class::Llama),
            Some("CodeLlamaTokenizer") => Ok(Class::CodeLlama),
            Some("GemmaTokenizer") => Ok(Class::Gemma),
            Some("PreTrainedTokenizer" | "TokenizersBackend") => Ok(Class::Generic),
            None if model_type == "gemma" => Ok(Class::Gemma),
            None => Ok(Class::Unsaid),
            Some(other) => Err(TokenizerError::SentencePieceKind {
                path: path.into(),
                what: format!(
                    "is for the tokenizer_class `{other}`; known are LlamaTokenizer, CodeLlamaTokenizer and GemmaTokenizer"
                ),
            }),
        }
    }

    /// The name under which Transformers 4 and 5 take what is saved as it is, or build the same again.
    fn saved_as(self, way: Way) -> &'static str {
        match (way, self) {
            (Way::AsWritten(_), _) => "PreTrainedTokenizerFast",
            (Way::Gemma, _) => "GemmaTokenizer",
            (Way::Llama(_), Class::CodeLlama) => "CodeLlamaTokenizer",
            (Way::Llama(_), _) => "LlamaTokenizer",
        }
    }
}

/// Llama's and Gemma's pipelines have a normaliser of their own; where the model has another one, its own counts.
fn way(
    file: &SentencePieceFile,
    class: Class,
    model_type: &str,
    config: &Map<String, Value>,
) -> Way {
    let flag = |key: &str| config.get(key).and_then(Value::as_bool).unwrap_or(true);
    let legacy = if flag("legacy") { PrependScheme::Always } else { PrependScheme::First };
    let normalizer = &file.normalizer;
    let plain = file.algorithm == Algorithm::Bpe
        && file.byte_fallback
        && normalizer.charsmap.is_empty()
        && normalizer.escape_whitespaces
        && !normalizer.remove_extra_whitespaces;
    match class {
        Class::Gemma if plain && !normalizer.add_dummy_prefix => Way::Gemma,
        // Transformers 5 builds Mistral's by the model's specs, whatever class it names.
        Class::Llama | Class::CodeLlama
            if plain && normalizer.add_dummy_prefix && model_type != "mistral" =>
        {
            Way::Llama(match (flag("add_prefix_space"), class) {
                (false, _) => PrependScheme::Never,
                (true, Class::CodeLlama) => PrependScheme::First,
                (true, _) => legacy,
            })
        }
        _ => Way::AsWritten(legacy),
    }
}

/// The tokens that the files give an id, in its order; those of `added_tokens.json` go to `specials.added` where the
/// config has no `added_tokens_decoder`.
fn declared(folder: &Path, beside: &Beside, specials: &mut Specials) -> Result<Vec<(u32, String)>> {
    let mut declared: Vec<(u32, String)> = Vec::new();
    if let Some(decoder) = beside.config.get("added_tokens_decoder").and_then(Value::as_object) {
        // Read and checked with the other special tokens; here the ids count.
        let entries = decoder.iter().filter_map(|(id, token)| Some((id, content_of(token)?)));
        declared.extend(entries.filter_map(|(id, text)| Some((id.parse().ok()?, text.to_owned()))));
    } else {
        let path = folder.join("added_tokens.json");
        for (text, id) in folder::read_object(&path)?.unwrap_or_default() {
            let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) else {
                return Err(special::wrong_key(&path, &text, &id, "a token's id"));
            };
            declared.push((id, text));
        }
        declared.sort();
        let named: HashSet<&str> = specials.texts().collect();
        let added = declared.iter().map(|(_, text)| {
            let is_special = named.contains(text.as_str());
            AddedToken::from(text, is_special).normalized(!is_special)
        });
        specials.added = added.collect();
    }
    declared.retain(|(_, text)| !text.is_empty());
    declared.sort();
    Ok(declared)
}

/// A declared token takes the place of the piece with its id, which stood there for it. A text that is a piece with an
/// id of its own stays that.
fn rename(file: &mut SentencePieceFile, declared: &[(u32, String)]) {
    let renamed: HashMap<usize, &String> = declared
        .iter()
        .map(|(id, text)| (*id as usize, text))
        .filter(|(id, text)| file.pieces.get(*id).is_some_and(|piece| piece.text != **text))
        .collect();
    if renamed.is_empty() {
        return;
    }
    let pieces = file.pieces.iter().enumerate();
    let kept: HashSet<String> = pieces
        .filter(|(id, _)| !renamed.contains_key(id))
        .map(|(_, piece)| piece.text.clone())
        .collect();
    for (id, text) in renamed {
        if !kept.contains(text) {
            file.pieces[id].text = text.clone();
        }
    }
}

impl Specials {
    /// The model's own begin, end and unknown tokens, and Gemma's for padding and masks, where the files name none.
    fn name_missing(&mut self, beside: &Beside, file: &SentencePieceFile, class: Class) {
        let (config, map) = (&beside.config, &beside.map);
        let map_counts = !config.contains_key("added_tokens_decoder");
        let mask = || file.pieces.iter().position(|piece| piece.text == "<mask>");
        let (pad, mask) = if class == Class::Gemma { (file.pad, mask()) } else { (None, None) };
        for (name, id) in [
            ("bos_token", file.bos),
            ("eos_token", file.eos),
            ("unk_token", Some(file.unk)),
            ("pad_token", pad),
            ("mask_token", mask),
        ] {
            let said = config.contains_key(name) || map_counts && map.contains_key(name);
            if let (false, Some(id)) = (said, id) {
                let token = AddedToken::from(&file.pieces[id].text, true);
                self.named.push((name.to_owned(), token));
            }
        }
    }
}

/// Control pieces are special; user-defined ones are not, and where the model's specs count, the pipeline keeps them
/// whole.
fn whole_pieces(file: &SentencePieceFile, way: Way) -> Vec<AddedToken> {
    let as_written = matches!(way, Way::AsWritten(_));
    let token = |text: &String, special| AddedToken::from(text, special).normalized(false);
    let pieces = file.pieces.iter().filter_map(|piece| match piece.kind {
        Kind::Control => Some(token(&piece.text, true)),
        Kind::UserDefined if !as_written => Some(token(&piece.text, false)),
        _ => None,
    });
    pieces.collect()
}

/// CodeLlama's tokens for filling in, those that the model has. Its `<FILL_ME>` is no token of a model.
fn infilling(file: &SentencePieceFile, config: &Map<String, Value>) -> Vec<AddedToken> {
    let names = [
        ("prefix_token", "▁<PRE>"),
        ("middle_token", "▁<MID>"),
        ("suffix_token", "▁<SUF>"),
        ("eot_token", "▁<EOT>"),
    ];
    let texts = names.into_iter().filter_map(|(name, default)| match config.get(name) {
        None => Some(default),
        Some(value) => content_of(value),
    });
    let known = |text: &&str| file.pieces.iter().any(|piece| piece.text == *text);
    texts.filter(known).map(|text| AddedToken::from(text, true)).collect()
}

fn build(path: &Path, file: &SentencePieceFile, way: Way) -> Result<Tokenizer> {
    let unusable = |what: String| TokenizerError::Unusable { path: path.into(), what };
    let legacy = match way {
        Way::AsWritten(prepend) => return build_as_written(path, file, prepend),
        Way::Llama(prepend) => Some(prepend),
        Way::Gemma => None,
    };
    let ids: Vocab = file.pieces.iter().zip(0u32..).map(|(p, id)| (p.text.clone(), id)).collect();
    // By ids, as `generate_merges` without scores: pieces are trained, and stored, in the order of their merges.
    let shorter_first = |a: &Cut, b: &Cut| (a.id, a.lengths()).cmp(&(b.id, b.lengths()));
    let merges = sentencepiece::merges(path, &ids, shorter_first)?;
    let unk = &file.pieces[file.unk].text;
    let model = with_byte_fallback(ids, merges, Some(unk)).map_err(unusable)?;
    let made: Made<Tokenizer> = match legacy {
        Some(prepend) => sentencepiece::llama_pipeline(model, prepend),
        None => sentencepiece::gemma_pipeline(model),
    };
    made.map_err(|e| unusable(e.to_string()))
}

/// A gap among the ids, or two tokens for one, would give a token another row of the embedding than it was trained on.
fn check_ids(path: &Path, tokenizer: &Tokenizer, declared: &[(u32, String)]) -> Result<()> {
    for (said, text) in declared {
        let found = tokenizer.token_to_id(text);
        if found != Some(*said) {
            return Err(TokenizerError::AddedId {
                path: path.into(),
                text: text.chars().take(40).collect(),
                said: *said,
                found: found.map_or("none".into(), |id| id.to_string()),
            });
        }
    }
    Ok(())
}

/// The config with what was decided here spelled out, so that other versions of Transformers, whose defaults differ,
/// give the same ids.
fn config_of(
    config: &Map<String, Value>,
    class: Class,
    way: Way,
    specials: &Specials,
) -> Map<String, Value> {
    let mut config = config.clone();
    let named = |name: &str| specials.named.iter().any(|(n, _)| n == name);
    for (flag, name, default) in
        [(ADD_BOS, "bos_token", class != Class::Generic), (ADD_EOS, "eos_token", false)]
    {
        let added = config.get(flag).and_then(Value::as_bool).unwrap_or(default);
        config.insert(flag.to_owned(), (added && named(name)).into());
    }
    config.insert("tokenizer_class".into(), class.saved_as(way).into());
    if let (Way::Llama(prepend), Class::Llama) = (way, class) {
        config.insert("legacy".into(), (prepend == PrependScheme::Always).into());
    }
    config
}
