//! Reads the tokenizer of a Hugging Face folder. Never runs code from it or follows a name out of it.

use super::error::{Result, TokenizerError};
use super::special::Specials;
use super::{Parts, sentencepiece_folder};
use crate::formats::{FormatError, is_lfs_pointer, refuse_irregular};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// The largest in use, of 262,144 tokens, has 34 MB.
const TOKENIZER_BYTES_MAX: u64 = 128 << 20;
/// The largest in use, of 262,144 tokens, has 5 MB.
const MODEL_BYTES_MAX: u64 = 16 << 20;
/// The largest in use, with an `added_tokens_decoder` of thousands, has about 1 MB.
const CONFIG_BYTES_MAX: u64 = 16 << 20;
/// The largest in use has about 20 KB.
const TEMPLATE_BYTES_MAX: u64 = 1 << 20;

pub(super) const MODEL_FILE: &str = "tokenizer.model";

/// What stands beside a tokenizer's own file.
pub(super) struct Beside {
    pub(super) config_path: PathBuf,
    pub(super) config: Map<String, Value>,
    /// `special_tokens_map.json`.
    pub(super) map: Map<String, Value>,
    /// By name.
    pub(super) templates: Vec<(String, String)>,
}

impl Beside {
    fn read(folder: &Path) -> Result<Beside> {
        let config_path = folder.join("tokenizer_config.json");
        let config = read_object(&config_path)?.unwrap_or_default();
        let map = read_object(&folder.join("special_tokens_map.json"))?.unwrap_or_default();
        let templates = match read_text(&folder.join("chat_template.jinja"))? {
            Some(source) => vec![("default".to_owned(), source)],
            None => templates_of(&config, &config_path)?,
        };
        Ok(Beside { config_path, config, map, templates })
    }

    pub(super) fn specials(&self) -> Result<Specials> {
        Specials::read(&self.config, &self.map, &self.config_path)
    }
}

/// Reads `tokenizer.json`, or else `tokenizer.model`, and what stands beside it.
pub(super) fn read(folder: &Path) -> Result<Parts> {
    let path = folder.join("tokenizer.json");
    if let Some(bytes) = read_bytes(&path, TOKENIZER_BYTES_MAX, "a tokenizer.json")? {
        let mut tokenizer = parse_tokenizer(&path, &bytes)?;
        let beside = Beside::read(folder)?;
        let specials = beside.specials()?;
        specials.add_to(&mut tokenizer).map_err(|what| TokenizerError::Unusable { path, what })?;
        let Beside { config, templates, .. } = beside;
        return Ok(Parts { tokenizer, specials, templates, config, sentencepiece: None });
    }
    let path = folder.join(MODEL_FILE);
    match read_bytes(&path, MODEL_BYTES_MAX, "a tokenizer.model")? {
        Some(bytes) => sentencepiece_folder::read(folder, &path, bytes, Beside::read(folder)?),
        None => Err(no_tokenizer(folder)?),
    }
}

/// The one `.gguf` file of a folder, if it holds exactly one.
pub(super) fn single_gguf(folder: &Path) -> Result<Option<PathBuf>> {
    let mut found: Vec<String> = names_in(folder)?;
    found.retain(|name| name.ends_with(".gguf"));
    Ok(match found.as_slice() {
        [name] => Some(folder.join(name)),
        _ => None,
    })
}

/// Runs a call of the `tokenizers` crate that a hostile file could make panic, and turns both kinds of
/// failure into words.
pub(super) fn guarded<T, E: ToString>(call: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(_) => Err("its parts contradict each other".to_owned()),
    }
}

fn parse_tokenizer(path: &Path, bytes: &[u8]) -> Result<Tokenizer> {
    let json = |e: serde_json::Error| TokenizerError::Json {
        path: path.into(),
        line: e.line(),
        column: e.column(),
        what: e.to_string(),
    };
    let unusable = |what: String| TokenizerError::Unusable { path: path.into(), what };
    let head: Head = serde_json::from_slice(bytes).map_err(json)?;
    head.check().map_err(unusable)?;
    match catch_unwind(AssertUnwindSafe(|| serde_json::from_slice::<Tokenizer>(bytes))) {
        Ok(result) => result.map_err(json),
        Err(_) => Err(unusable("its parts contradict each other".to_owned())),
    }
}

/// The two keys that are looked at before the `tokenizers` crate reads the file.
#[derive(Deserialize)]
struct Head {
    model: ModelHead,
}

#[derive(Deserialize)]
struct ModelHead {
    r#type: Option<String>,
    continuing_subword_prefix: Option<String>,
}

impl Head {
    /// The crate's reader of BPE cuts the prefix's length off a merge's bytes unchecked; no decoder has one.
    fn check(&self) -> Result<(), String> {
        let prefix = self.model.continuing_subword_prefix.as_deref().unwrap_or("");
        match self.model.r#type.as_deref() {
            Some("WordPiece") | Some("WordLevel") | Some("Unigram") => Ok(()),
            _ if prefix.is_empty() => Ok(()),
            _ => {
                Err(format!("a BPE with the continuing_subword_prefix `{prefix}` is not supported"))
            }
        }
    }
}

/// `chat_template`: a text, or a list of `{"name": …, "template": …}`.
fn templates_of(config: &Map<String, Value>, path: &Path) -> Result<Vec<(String, String)>> {
    let wrong = |found: &str| TokenizerError::Key {
        path: path.into(),
        key: "chat_template".into(),
        found: found.into(),
        expected: "a template's text or a list of {name, template}",
    };
    match config.get("chat_template") {
        None | Some(Value::Null) => Ok(vec![]),
        Some(Value::String(source)) => Ok(vec![("default".to_owned(), source.clone())]),
        Some(Value::Array(list)) => list
            .iter()
            .map(|entry| {
                let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
                text("name").zip(text("template")).ok_or_else(|| wrong("a list of something else"))
            })
            .collect(),
        Some(_) => Err(wrong("neither")),
    }
}

fn no_tokenizer(folder: &Path) -> Result<TokenizerError> {
    const NAMED_MAX: usize = 12;
    let mut names = names_in(folder)?;
    names.sort();
    let more = names.len().saturating_sub(NAMED_MAX);
    names.truncate(NAMED_MAX);
    let found = match (names.is_empty(), more) {
        (true, _) => "nothing".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    };
    Ok(TokenizerError::NoTokenizer { path: folder.into(), found })
}

fn names_in(folder: &Path) -> Result<Vec<String>> {
    let failed = |e| TokenizerError::read(folder, e);
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    entries
        .map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned()))
        .collect()
}

pub(super) fn read_object(path: &Path) -> Result<Option<Map<String, Value>>> {
    let Some(bytes) = read_bytes(path, CONFIG_BYTES_MAX, "a tokenizer's config")? else {
        return Ok(None);
    };
    let object = serde_json::from_slice(&bytes).map_err(|e| TokenizerError::Json {
        path: path.into(),
        line: e.line(),
        column: e.column(),
        what: e.to_string(),
    })?;
    Ok(Some(object))
}

fn read_text(path: &Path) -> Result<Option<String>> {
    let Some(bytes) = read_bytes(path, TEMPLATE_BYTES_MAX, "a chat template")? else {
        return Ok(None);
    };
    let unusable = |what: String| TokenizerError::Unusable { path: path.into(), what };
    Ok(Some(String::from_utf8(bytes).map_err(|e| unusable(e.to_string()))?))
}

/// None where there is no such file.
fn read_bytes(path: &Path, limit: u64, what: &'static str) -> Result<Option<Vec<u8>>> {
    let failed = |e| TokenizerError::read(path, e);
    refuse_irregular(path)?;
    let file = match std::fs::File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    // One byte more than allowed shows that the file is longer, whatever its length claims to be.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if is_lfs_pointer(&bytes) {
        return Err(FormatError::LfsPointer { path: path.into() }.into());
    }
    match bytes.len() as u64 > limit {
        true => Err(TokenizerError::TooLong { path: path.into(), what, limit }),
        false => Ok(Some(bytes)),
    }
}
