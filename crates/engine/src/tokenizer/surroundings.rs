//! The post-processor that puts `<bos>` and `<eos>` around a text. Never decides whether they are added.

use serde_json::{Map, Value, json};
use tokenizers::PostProcessorWrapper;

/// None where neither token is given. Each is its text and its id.
pub(super) fn around(
    bos: Option<(&str, u32)>,
    eos: Option<(&str, u32)>,
) -> serde_json::Result<Option<PostProcessorWrapper>> {
    if bos.is_none() && eos.is_none() {
        return Ok(None);
    }
    let special =
        |(token, _), type_id: u32| json!({"SpecialToken": {"id": token, "type_id": type_id}});
    let part = |sequence: &str, type_id: u32| {
        let text = json!({"Sequence": {"id": sequence, "type_id": type_id}});
        let bos = bos.map(|token| special(token, type_id));
        let eos = eos.map(|token| special(token, type_id));
        bos.into_iter().chain([text]).chain(eos).collect::<Vec<_>>()
    };
    let tokens: Map<String, Value> = bos
        .into_iter()
        .chain(eos)
        .map(|(token, id)| (token.to_owned(), json!({"id": token, "ids": [id], "tokens": [token]})))
        .collect();
    let pair = [part("A", 0), part("B", 1)].concat();
    let template = json!({
        "type": "TemplateProcessing",
        "single": part("A", 0),
        "pair": pair,
        "special_tokens": tokens,
    });
    serde_json::from_value(template).map(Some)
}
