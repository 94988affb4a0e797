//! Training rows: prompt and answer to ids and labels, on all threads of the current rayon pool.
//!
//! ```text
//! text  = source ++ target                 tokenised as one text
//! label = id      for a token that ends after the border, so a token that spans it too
//!       = −100    for the others (source, <bos>)
//! ```
//! Labels are not shifted. Never reads files, fills templates or builds batches.

use super::error::{Result, TokenizerError};
use super::{TextTokenizer, folder};
use rayon::prelude::*;
use serde_json::Value;
use tokenizers::{Encoding, PostProcessorWrapper};

/// The label of a token that the loss leaves out.
pub const IGNORED: i32 = -100;

#[derive(Clone, Copy, Debug)]
pub struct RowOptions {
    /// Longer rows lose their end.
    pub model_max_length: usize,
    /// Ends each row with the end-of-sequence token, if there is one and the row does not end with it already.
    pub append_eos: bool,
    /// False: every token is supervised.
    pub mask_source: bool,
}

/// Rows one after another: row r is `ids[offsets[r]..offsets[r + 1]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedRows {
    pub ids: Vec<u32>,
    /// As long as `ids`; [`IGNORED`] where masked.
    pub labels: Vec<i32>,
    /// One more than there are rows.
    pub offsets: Vec<u64>,
    /// The rows that `model_max_length` cut, ascending.
    pub cut: Vec<u32>,
    /// The rows that leave nothing to learn once labels are shifted (every label but the first is
    /// [`IGNORED`]), ascending. They are in `ids` too; dropping them is the caller's decision.
    pub unsupervised: Vec<u32>,
}

struct Row {
    ids: Vec<u32>,
    labels: Vec<i32>,
    cut: bool,
}

impl TextTokenizer {
    /// Tokenises rows of (source, target). The result does not depend on the number of threads.
    pub fn encode_rows(
        &self,
        rows: &[(String, String)],
        options: &RowOptions,
    ) -> Result<EncodedRows> {
        let encoded: Vec<Result<Row, String>> = rows
            .par_iter()
            .map(|(source, target)| self.encode_row(source, target, options))
            .collect();
        let mut out = EncodedRows { offsets: vec![0], ..EncodedRows::default() };
        for (row, encoded) in encoded.into_iter().enumerate() {
            let encoded = encoded.map_err(|what| TokenizerError::Row { row, what })?;
            let number = u32::try_from(row).map_err(|_| TokenizerError::Row {
                row,
                what: "there are more than 4,294,967,295 rows".into(),
            })?;
            if encoded.cut {
                out.cut.push(number);
            }
            if encoded.labels.iter().skip(1).all(|&label| label == IGNORED) {
                out.unsupervised.push(number);
            }
            out.ids.extend(encoded.ids);
            out.labels.extend(encoded.labels);
            out.offsets.push(out.ids.len() as u64);
        }
        Ok(out)
    }

    fn encode_row(&self, source: &str, target: &str, options: &RowOptions) -> Result<Row, String> {
        let text = [source, target].concat();
        let encoding = self.tokenizer.encode(text, true).map_err(|e| e.to_string())?;
        let mut ids = encoding.get_ids().to_vec();
        let mut supervised = match options.mask_source {
            true => supervised_tokens(&encoding, source.len()),
            false => vec![true; ids.len()],
        };
        if let (true, Some(eos)) = (options.append_eos, &self.special.eos)
            && ids.last() != Some(&eos.id)
        {
            ids.push(eos.id);
            supervised.push(true);
        }
        let cut = ids.len() > options.model_max_length;
        ids.truncate(options.model_max_length);
        let label = |(&id, supervised)| match supervised {
            true => i32::try_from(id).map_err(|_| format!("token id {id} is past 2,147,483,647")),
            false => Ok(IGNORED),
        };
        let labels = ids.iter().zip(supervised).map(label).collect::<Result<_, _>>()?;
        Ok(Row { ids, labels, cut })
    }
}

/// Which tokens belong to the answer, which begins at byte `border`.
///
/// Tokens that the post-processor put around the text have no place in it: those at the end (`<eos>`)
/// belong to the answer, the others don't.
fn supervised_tokens(encoding: &Encoding, border: usize) -> Vec<bool> {
    let added = encoding.get_special_tokens_mask();
    let text_end = added.iter().rposition(|&added| added == 0).map_or(0, |last| last + 1);
    let places = encoding.get_offsets().iter().zip(added).enumerate();
    places
        .map(|(token, (&(_, end), &added))| match (added, border) {
            (0, 0) => true,
            (0, border) => end > border,
            // A text without tokens: only what ends it can be learned.
            _ => token >= text_end && (text_end > 0 || token > 0),
        })
        .collect()
}

/// The post-processor with `trim_offsets` off wherever it occurs.
///
/// Trimming takes the spaces off a token's place in the text: a token `". "` whose space is the answer's
/// first character would count as the prompt's. Ids don't depend on it.
pub(super) fn without_trimming(
    stored: Option<&PostProcessorWrapper>,
) -> Result<Option<PostProcessorWrapper>, String> {
    let Some(stored) = stored else { return Ok(None) };
    let mut json = serde_json::to_value(stored).map_err(|e| e.to_string())?;
    untrim(&mut json);
    folder::guarded(|| serde_json::from_value(json)).map(Some)
}

fn untrim(json: &mut Value) {
    if let Some(trim) = json.get_mut("trim_offsets") {
        *trim = Value::Bool(false);
    }
    if let Some(parts) = json.get_mut("processors").and_then(Value::as_array_mut) {
        parts.iter_mut().for_each(untrim);
    }
}
