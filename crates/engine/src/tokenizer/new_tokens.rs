//! Special tokens that a run names for itself: set or added by the rules of Transformers'
//! `add_special_tokens`. Never reads or writes a file, and decides on no default.

use super::error::{Result, TokenizerError};
use super::{SpecialToken, TextTokenizer, folder};
use serde::Deserialize;
use serde_json::json;
use tokenizers::AddedToken;

/// The tokens to name; none is left as it is. The fields stand in the order in which unknown ones get
/// their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSpecialTokens {
    pub pad_token: Option<String>,
    pub eos_token: Option<String>,
    pub bos_token: Option<String>,
    pub unk_token: Option<String>,
}

impl TextTokenizer {
    /// Gives texts the roles of special tokens, and makes the tokenizer keep them whole.
    ///
    /// A text that the vocabulary has keeps its id, an unknown one gets the next: as many as there are
    /// tokens. What the tokenizer puts around a text stays: that is `tokenizer.json`'s post-processor's
    /// say. Errors: an empty text, or one that the tokenizer can't keep whole; nothing has changed then.
    ///
    /// Source: `PreTrainedTokenizerBase.add_special_tokens` of Transformers 5.24, which says of each token
    /// that it is special, not normalised, and takes no spaces beside it.
    pub fn add_special_tokens(&mut self, tokens: &NewSpecialTokens) -> Result<()> {
        let named: Vec<(&str, &String)> = [
            ("pad_token", &tokens.pad_token),
            ("eos_token", &tokens.eos_token),
            ("bos_token", &tokens.bos_token),
            ("unk_token", &tokens.unk_token),
        ]
        .into_iter()
        .filter_map(|(name, text)| Some((name, text.as_ref()?)))
        .collect();
        let refused =
            |text: &String, what: String| TokenizerError::NewToken { text: text.clone(), what };
        if let Some((_, text)) = named.iter().find(|(_, text)| text.is_empty()) {
            return Err(refused(text, "it is empty".into()));
        }
        // On a copy: a failure leaves the tokenizer as it was.
        let mut tokenizer = self.tokenizer.clone();
        for (_, text) in &named {
            let token = AddedToken::from(text.as_str(), true);
            folder::guarded(|| tokenizer.add_special_tokens([token]))
                .map_err(|what| refused(text, what))?;
            if tokenizer.token_to_id(text).is_none_or(|id| i32::try_from(id).is_err()) {
                return Err(refused(text, "there is no id left for it".into()));
            }
        }
        self.tokenizer = tokenizer;
        for (name, text) in named {
            self.name_token(name, text);
        }
        Ok(())
    }

    /// Writes a role down wherever it is looked up: for training, for chat templates, for the saved files.
    fn name_token(&mut self, name: &str, text: &str) {
        let id = self.tokenizer.token_to_id(text);
        let token = id.map(|id| SpecialToken { text: text.to_owned(), id });
        match name {
            "pad_token" => self.special.pad = token,
            "eos_token" => self.special.eos = token,
            "bos_token" => self.special.bos = token,
            _ => self.special.unk = token,
        }
        self.template.set_variable(name, text);
        self.config.insert(name.to_owned(), text.into());
        let decoder = self.config.get_mut("added_tokens_decoder").and_then(|d| d.as_object_mut());
        if let (Some(decoder), Some(id)) = (decoder, id) {
            let added = json!({"content": text, "lstrip": false, "normalized": false,
                "rstrip": false, "single_word": false, "special": true});
            decoder.insert(id.to_string(), added);
        }
    }
}
