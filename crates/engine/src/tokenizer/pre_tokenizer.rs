//! How byte-level tokenizers cut a text into words before merging, by the name that GGUF gives the rule
//! (`tokenizer.ggml.pre`).
//!
//! The names are llama.cpp's, the rules those of the models' `tokenizer.json` files. A name that is not
//! here is refused: any other rule would give other ids, silently.

use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::punctuation::Punctuation;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior::{Contiguous, Isolated};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper};

/// What a name stands for.
pub(super) struct Rule {
    pub(super) pre_tokenizer: Result<PreTokenizerWrapper, tokenizers::Error>,
    pub(super) normalizer: Option<NormalizerWrapper>,
    /// A word that is a token is taken whole, whether or not merges lead to it.
    pub(super) ignore_merges: bool,
    /// Whether `<bos>` is added where the file does not say.
    pub(super) add_bos: bool,
}

const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN35: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}",
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const BLOOM: &str = " ?[^(\\s|.,!?…。，、।۔،)]+";

/// The rule of a name; None where it is not known.
pub(super) fn rule(pre: &str) -> Option<Rule> {
    let plain = |pre_tokenizer| Rule {
        pre_tokenizer,
        normalizer: None,
        ignore_merges: false,
        add_bos: false,
    };
    Some(match pre {
        "default" | "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" | "gigachat" | "a.x-4.0"
        | "mellum" | "exaone4" | "trillion" | "granite-docling" => plain(Ok(gpt2().into())),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b"
        | "mellum2" => {
            plain(Ok(Sequence::new(vec![Digits::new(true).into(), gpt2().into()]).into()))
        }
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0"
        | "lfm2" => Rule { ignore_merges: true, add_bos: true, ..plain(split(LLAMA3)) },
        "dbrx" | "smaug-bpe" => plain(split(LLAMA3)),
        "tekken" => Rule { ignore_merges: true, add_bos: true, ..plain(split(TEKKEN)) },
        "qwen2" => Rule { normalizer: Some(NFC.into()), ..plain(split(QWEN2)) },
        "stablelm2" | "deepseek-r1-qwen" | "hunyuan" | "megrez" | "kormo" => plain(split(QWEN2)),
        "qwen35" => Rule { normalizer: Some(NFC.into()), ..plain(split(QWEN35)) },
        "gpt-4o" | "llama4" => plain(split(GPT4O)),
        "bloom" | "gpt3-finnish" | "poro-chat" => plain(split(BLOOM)),
        "falcon" => plain(falcon()),
        _ => return None,
    })
}

/// GPT-2's own cut into words.
fn gpt2() -> ByteLevel {
    ByteLevel::new(false, true, true)
}

fn split(regex: &str) -> Result<PreTokenizerWrapper, tokenizers::Error> {
    let words = Split::new(SplitPattern::Regex(regex.into()), Isolated, false)?;
    Ok(Sequence::new(vec![words.into(), ByteLevel::new(false, true, false).into()]).into())
}

fn falcon() -> Result<PreTokenizerWrapper, tokenizers::Error> {
    let threes = Split::new(SplitPattern::Regex("[0-9][0-9][0-9]".into()), Isolated, false)?;
    let parts = vec![
        Punctuation::new(Contiguous).into(),
        gpt2().into(),
        Digits::new(false).into(),
        threes.into(),
    ];
    Ok(Sequence::new(parts).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    fn words(pre: &str, text: &str) -> Vec<String> {
        let mut pieces = PreTokenizedString::from(text);
        rule(pre).unwrap().pre_tokenizer.unwrap().pre_tokenize(&mut pieces).unwrap();
        let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits.into_iter().map(|(_, (start, end), _)| text[start..end].to_owned()).collect()
    }

    /// Expected values: the same patterns in Python's `tokenizers` (Oniguruma).
    #[test]
    fn words_are_those_of_the_models() {
        let text = "Don't pay 12345€, bitte.\n\n  Straße!";
        for (pre, expected) in [
            ("gpt-2", "Don|'t| pay| 12345|€,| bitte|.|\n\n | Straße|!"),
            ("smollm", "Don|'t| pay| |1|2|3|4|5|€,| bitte|.|\n\n | Straße|!"),
            ("llama-bpe", "Don|'t| pay| |123|45|€,| bitte|.\n\n| | Straße|!"),
            ("qwen2", "Don|'t| pay| |1|2|3|4|5|€,| bitte|.\n\n| | Straße|!"),
            ("tekken", "Don|'t| pay| |1|2|3|4|5|€,| bitte|.\n\n| | Straße|!"),
            ("gpt-4o", "Don't| pay| |123|45|€,| bitte|.\n\n| | Straße|!"),
            ("bloom", "Don't| pay| 12345€|,| bitte|.\n\n | Straße|!"),
            ("falcon", "Don|'|t| pay| |123|45|€|,| bitte|.|\n\n | Straße|!"),
        ] {
            assert_eq!(words(pre, text).join("|"), expected, "{pre}");
        }
    }

    #[test]
    fn unknown_names_have_no_rule() {
        assert!(rule("").is_none() && rule("kimi-k2").is_none());
    }
}
