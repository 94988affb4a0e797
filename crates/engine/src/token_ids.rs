//! The ids of the tokenizer's special tokens, and how a model's config comes to name them.
//! Never reads a file.

use serde::Deserialize;
use serde_json::{Map, Value};

/// None where the tokenizer names no such token, and the config keeps what it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct TokenIds {
    pub pad: Option<u32>,
    pub eos: Option<u32>,
    pub bos: Option<u32>,
}

impl TokenIds {
    /// Brings `config.json` and `generation_config.json` into line with the tokenizer.
    ///
    /// An id that both name already stays. The end tokens of a generation are added to, never taken
    /// away. Source: `align_special_tokens` of Transformers 5.24, which its Trainer calls.
    pub fn align(
        &self,
        config: &mut Map<String, Value>,
        generation: Option<&mut Map<String, Value>>,
    ) {
        let mut generation = generation;
        for (name, id) in
            [("eos_token_id", self.eos), ("bos_token_id", self.bos), ("pad_token_id", self.pad)]
        {
            let Some(id) = id else { continue };
            let several = name == "eos_token_id";
            let (ids, listed) = ids_of(config, name);
            let in_generation = generation.as_deref().map(|generation| ids_of(generation, name).0);
            if ids.contains(&id.into())
                && in_generation.as_ref().is_none_or(|g| g.contains(&id.into()))
            {
                continue;
            }
            let first = |ids: Vec<Value>| -> Value {
                let others = ids.into_iter().filter(|other| !other.is_null() && *other != id);
                std::iter::once(Value::from(id)).chain(others).collect()
            };
            let value = if several && listed { first(ids) } else { id.into() };
            config.insert(name.into(), value);
            if let (Some(generation), Some(ids)) = (generation.as_deref_mut(), in_generation) {
                generation.insert(name.into(), if several { first(ids) } else { id.into() });
            }
        }
    }
}

/// The ids of a key, and whether it is a list.
fn ids_of(config: &Map<String, Value>, name: &str) -> (Vec<Value>, bool) {
    match config.get(name) {
        Some(Value::Array(list)) => (list.clone(), true),
        value => (value.cloned().into_iter().collect(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Aligned, as `(config, generation config)`. The expected values are what Transformers 5.24 makes.
    fn aligned(ids: TokenIds, config: Value, generation: Value) -> (Value, Value) {
        let mut config = config.as_object().cloned().unwrap_or_default();
        let mut generation = generation.as_object().cloned();
        ids.align(&mut config, generation.as_mut());
        (config.into(), generation.map_or(Value::Null, Value::Object))
    }

    const IDS: TokenIds = TokenIds { pad: Some(9), eos: Some(2), bos: None };

    #[test]
    fn the_tokenizers_ids_are_taken_over() {
        let config = json!({"eos_token_id": 5, "bos_token_id": 1, "pad_token_id": null});
        let generation = json!({"eos_token_id": [5, 7]});
        assert_eq!(
            aligned(IDS, config, generation),
            (
                json!({"eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 9}),
                json!({"eos_token_id": [2, 5, 7], "pad_token_id": 9})
            )
        );
    }

    #[test]
    fn what_is_named_already_stays() {
        let config = json!({"eos_token_id": [3, 2], "pad_token_id": 9});
        let generation = json!({"eos_token_id": 2, "pad_token_id": 9});
        assert_eq!(aligned(IDS, config.clone(), generation.clone()), (config, generation));
        let listed = json!({"eos_token_id": [3], "pad_token_id": 9});
        assert_eq!(
            aligned(IDS, listed, Value::Null),
            (json!({"eos_token_id": [2, 3], "pad_token_id": 9}), Value::Null)
        );
    }
}
