//! The text of each single token, for people to look at. Never decides what is supervised.

use super::TextTokenizer;
use super::error::Result;

/// Tokens that may wait for the rest of their character; the longest character has four bytes.
const WAITING_MAX: usize = 8;

impl TextTokenizer {
    /// The text of each token, such that all of them joined are the decoded text, special tokens
    /// included. A token that ends inside a character gives an empty text, and the token that
    /// completes it the whole character.
    pub fn token_texts(&self, ids: &[u32]) -> Result<Vec<String>> {
        let mut texts = Vec::with_capacity(ids.len());
        // Decoding starts one finished token early: a decoder may treat the first token apart (it takes a
        // leading space off). `shown` is what of that text was given out already.
        let (mut start, mut finished, mut shown) = (0, 0, String::new());
        for end in 1..=ids.len() {
            let text = self.decode(&ids[start..end], false)?;
            let waits =
                text.ends_with('\u{FFFD}') && end - finished < WAITING_MAX && end < ids.len();
            if waits {
                texts.push(String::new());
                continue;
            }
            texts.push(text.strip_prefix(&shown).unwrap_or(&text).to_owned());
            (start, finished) = (finished, end);
            shown = self.decode(&ids[start..finished], false)?;
        }
        Ok(texts)
    }
}
