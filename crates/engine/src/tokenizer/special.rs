//! The named tokens of a model (`bos_token`, `eos_token`, …) and what follows from naming them.
//! Never reads a file.

use super::error::{Result, TokenizerError};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::path::Path;
use tokenizers::{AddedToken, Tokenizer};

/// The names that Transformers knows, in its order.
pub(super) const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialToken {
    pub text: String,
    pub id: u32,
}

/// The named tokens that training uses. None where the tokenizer's files name none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    pub bos: Option<SpecialToken>,
    pub eos: Option<SpecialToken>,
    pub pad: Option<SpecialToken>,
    pub unk: Option<SpecialToken>,
}

/// What a tokenizer's files say about special and added tokens.
#[derive(Default)]
pub(super) struct Specials {
    /// Name and token, in the order of `NAMES`.
    pub(super) named: Vec<(String, AddedToken)>,
    /// Special, but without a name.
    pub(super) extra: Vec<AddedToken>,
    /// `added_tokens_decoder`, by id.
    pub(super) added: Vec<AddedToken>,
    /// What the tokenizer's own file says must stay whole. Matched in the text as it stands, whatever the others say.
    pub(super) pieces: Vec<AddedToken>,
}

impl Specials {
    /// From `tokenizer_config.json` and `special_tokens_map.json`; the map counts where the config has no
    /// `added_tokens_decoder`, and goes before it then.
    pub(super) fn read(
        config: &Map<String, Value>,
        map: &Map<String, Value>,
        path: &Path,
    ) -> Result<Specials> {
        let empty = Map::new();
        let decoder = config.get("added_tokens_decoder");
        let map = if decoder.is_some() { &empty } else { map };
        let mut specials = Specials::default();
        for name in NAMES {
            let value = map.get(name).or_else(|| config.get(name)).unwrap_or(&Value::Null);
            if let Some(token) = token_of(value, name, path)? {
                specials.named.push((name.to_owned(), token));
            }
        }
        for key in ["extra_special_tokens", "additional_special_tokens"] {
            for source in [config, map] {
                let values: Vec<&Value> = match source.get(key) {
                    None | Some(Value::Null) => vec![],
                    Some(Value::Array(list)) => list.iter().collect(),
                    Some(Value::Object(by_name)) => by_name.values().collect(),
                    Some(other) => return Err(wrong_key(path, key, other, "a list of tokens")),
                };
                for value in values {
                    specials.extra.extend(token_of(value, key, path)?);
                }
            }
        }
        if let Some(decoder) = decoder {
            specials.added = added_tokens(decoder, path)?;
        }
        Ok(specials)
    }

    /// Makes the tokenizer keep these tokens whole: an added token as the config describes it, a named
    /// one as special. A token that the vocabulary lacks gets the next id, as in Transformers.
    pub(super) fn add_to(&self, tokenizer: &mut Tokenizer) -> Result<(), String> {
        tokenizer.add_tokens(self.added.iter().cloned()).map_err(|e| e.to_string())?;
        let present = tokenizer.get_added_tokens_decoder();
        let named = self.named.iter().map(|(_, token)| token).chain(&self.extra);
        let special: Vec<AddedToken> = named
            .map(|token| {
                let added = present.values().find(|added| added.content == token.content);
                added.unwrap_or(token).clone().special(true)
            })
            .collect();
        tokenizer.add_special_tokens(special).map_err(|e| e.to_string())?;
        let present = tokenizer.get_added_tokens_decoder();
        let special: HashSet<&str> =
            present.values().filter(|t| t.special).map(|t| t.content.as_str()).collect();
        let pieces = self.pieces.iter().cloned().map(|piece| {
            let is_special = piece.special || special.contains(piece.content.as_str());
            piece.special(is_special).normalized(false)
        });
        tokenizer.add_tokens(pieces).map_err(|e| e.to_string())?;
        Ok(())
    }

    /// The ids of the named tokens.
    pub(super) fn resolve(&self, tokenizer: &Tokenizer) -> SpecialTokens {
        let find = |name: &str| {
            let (_, token) = self.named.iter().find(|(n, _)| n == name)?;
            let id = tokenizer.token_to_id(&token.content)?;
            Some(SpecialToken { text: token.content.clone(), id })
        };
        SpecialTokens {
            bos: find("bos_token"),
            eos: find("eos_token"),
            pad: find("pad_token"),
            unk: find("unk_token"),
        }
    }

    /// The tokens that are special, by name or without one.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        let named = self.named.iter().map(|(_, token)| token);
        named.chain(&self.extra).map(|token| token.content.as_str())
    }

    /// The named tokens as a chat template sees them.
    pub(super) fn variables(&self) -> Vec<(String, String)> {
        self.named.iter().map(|(name, token)| (name.clone(), token.content.clone())).collect()
    }

    /// The config with the tokens that came from elsewhere; where it named one itself, that spelling stays.
    pub(super) fn written_to(&self, mut config: Map<String, Value>) -> Map<String, Value> {
        for (name, token) in &self.named {
            let spelled = config.get(name).and_then(content_of);
            if spelled != Some(&token.content) {
                config.insert(name.clone(), Value::String(token.content.clone()));
            }
        }
        config
    }
}

/// The text of a token that is spelled `"</s>"` or `{"content": "</s>", …}`.
pub(super) fn content_of(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

fn token_of(value: &Value, key: &str, path: &Path) -> Result<Option<AddedToken>> {
    if value.is_null() {
        return Ok(None);
    }
    let Some(content) = content_of(value) else {
        return Err(wrong_key(path, key, value, "a token's text or an object with `content`"));
    };
    let flag =
        |name: &str, default: bool| value.get(name).and_then(Value::as_bool).unwrap_or(default);
    // A text that is named a special token is matched as it stands; an object says so itself.
    let normalized = flag("normalized", value.is_object());
    let token = AddedToken::from(content, flag("special", true))
        .normalized(normalized)
        .lstrip(flag("lstrip", false))
        .rstrip(flag("rstrip", false))
        .single_word(flag("single_word", false));
    // An empty text is how some configs say "none".
    Ok((!content.is_empty()).then_some(token))
}

/// `{"0": {"content": …}, …}`, in the order of the ids.
fn added_tokens(decoder: &Value, path: &Path) -> Result<Vec<AddedToken>> {
    let key = "added_tokens_decoder";
    let Some(entries) = decoder.as_object() else {
        return Err(wrong_key(path, key, decoder, "an object by token id"));
    };
    let mut tokens = Vec::with_capacity(entries.len());
    for (id, value) in entries {
        let (Ok(id), true) = (id.parse::<u32>(), value.is_object()) else {
            return Err(wrong_key(path, &format!("{key}.{id}"), value, "a token by its id"));
        };
        let special = value.get("special").and_then(Value::as_bool).unwrap_or(false);
        if let Some(token) = token_of(value, key, path)? {
            tokens.push((id, token.special(special)));
        }
    }
    tokens.sort_by_key(|(id, _)| *id);
    Ok(tokens.into_iter().map(|(_, token)| token).collect())
}

pub(super) fn wrong_key(
    path: &Path,
    key: &str,
    found: &Value,
    expected: &'static str,
) -> TokenizerError {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    TokenizerError::Key { path: path.into(), key: key.into(), found: found.into(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(config: Value, map: Value) -> Result<Specials> {
        let object = |value: Value| value.as_object().cloned().unwrap_or_default();
        Specials::read(&object(config), &object(map), Path::new("tokenizer_config.json"))
    }

    #[test]
    fn tokens_are_named_as_text_or_object() {
        let config = json!({"bos_token": {"content": "<s>", "lstrip": true}, "eos_token": "</s>", "pad_token": null});
        let specials = read(config, Value::Null).unwrap();
        let names: Vec<_> = specials.variables();
        assert_eq!(
            names,
            [("bos_token".into(), "<s>".into()), ("eos_token".into(), "</s>".into())]
        );
        assert!(specials.named[0].1.lstrip && specials.named[0].1.normalized);
        assert!(specials.named[1].1.special && !specials.named[1].1.normalized);
    }

    #[test]
    fn the_map_counts_only_without_added_tokens_decoder() {
        let map = json!({"eos_token": "<map>"});
        let specials = read(json!({"eos_token": "</s>"}), map.clone()).unwrap();
        assert_eq!(specials.variables()[0].1, "<map>");
        let specials = read(json!({"eos_token": "</s>", "added_tokens_decoder": {}}), map).unwrap();
        assert_eq!(specials.variables()[0].1, "</s>");
    }

    #[test]
    fn wrong_types_are_named() {
        for (config, key) in [
            (json!({"eos_token": 3}), "eos_token"),
            (json!({"eos_token": {"text": "a"}}), "eos_token"),
            (json!({"extra_special_tokens": "a"}), "extra_special_tokens"),
            (json!({"added_tokens_decoder": []}), "added_tokens_decoder"),
            (json!({"added_tokens_decoder": {"x": {"content": "a"}}}), "added_tokens_decoder.x"),
        ] {
            let error = read(config, Value::Null).err().unwrap();
            assert!(error.to_string().contains(&format!("`{key}`")), "{error}");
        }
    }
}
