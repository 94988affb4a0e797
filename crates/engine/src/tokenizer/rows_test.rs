//! Labels, cuts and order of training rows, on a tokenizer whose merges cross borders.

use super::test_folder::{BOS, EOS, around, byte_level, folder};
use super::{EncodedRows, IGNORED, RowOptions, TextTokenizer};
use serde_json::{Value, json};

const OPTIONS: RowOptions =
    RowOptions { model_max_length: 1 << 30, append_eos: true, mask_source: true };
const MERGES: [(&str, &str); 3] = [("a", "b"), (".", "Ġ"), ("Ã", "¼")];

fn tokenizer(post_processor: Value) -> TextTokenizer {
    folder(&byte_level(&MERGES, post_processor)).open().unwrap()
}

fn encode(tokenizer: &TextTokenizer, rows: &[(&str, &str)], options: &RowOptions) -> EncodedRows {
    let rows: Vec<_> =
        rows.iter().map(|(source, target)| ((*source).to_owned(), (*target).to_owned())).collect();
    tokenizer.encode_rows(&rows, options).unwrap()
}

/// The texts of a single row's tokens, the masked ones in brackets.
fn shown(tokenizer: &TextTokenizer, row: (&str, &str), options: &RowOptions) -> String {
    let rows = encode(tokenizer, &[row], options);
    let texts = tokenizer.token_texts(&rows.ids).unwrap();
    let tokens = rows.ids.iter().zip(&rows.labels).zip(texts);
    tokens
        .map(|((&id, &label), text)| match label {
            IGNORED => format!("[{text}]"),
            label => {
                assert_eq!(label, id as i32);
                format!("({text})")
            }
        })
        .collect()
}

#[test]
fn a_token_across_the_border_belongs_to_the_answer() {
    let t = tokenizer(Value::Null);
    assert_eq!(shown(&t, ("xa", "by"), &OPTIONS), "[x](ab)(y)(</s>)");
    assert_eq!(shown(&t, ("xab", "y"), &OPTIONS), "[x][ab](y)(</s>)");
    assert_eq!(shown(&t, ("x", "aby"), &OPTIONS), "[x](ab)(y)(</s>)");
    // A character of two tokens; both lie after the border.
    assert_eq!(shown(&t, ("ä", "ü"), &OPTIONS), "[][ä](ü)(</s>)");
    assert_eq!(shown(&t, ("ü", "ä"), &OPTIONS), "[ü]()(ä)(</s>)");
}

#[test]
fn trimmed_offsets_do_not_hide_the_answers_spaces() {
    let trimming = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    for post_processor in [trimming.clone(), json!({"type": "Sequence", "processors": [trimming]})]
    {
        let t = tokenizer(post_processor);
        assert_eq!(shown(&t, ("x.", " y"), &OPTIONS), "[x](. )(y)(</s>)");
        assert_eq!(shown(&t, ("x.", " "), &OPTIONS), "[x](. )(</s>)");
    }
}

#[test]
fn special_tokens_around_the_text_keep_their_sides() {
    let both = tokenizer(around(&["<s>"], &["</s>"]));
    assert_eq!(shown(&both, ("x", "y"), &OPTIONS), "[<s>][x](y)(</s>)");
    assert_eq!(shown(&both, ("", "y"), &OPTIONS), "[<s>](y)(</s>)");
    assert_eq!(shown(&both, ("x", ""), &OPTIONS), "[<s>][x](</s>)");
    assert_eq!(shown(&both, ("", ""), &OPTIONS), "[<s>](</s>)");
    assert_eq!(
        shown(&both, ("x", "y"), &RowOptions { append_eos: false, ..OPTIONS }),
        "[<s>][x](y)(</s>)"
    );
    assert_eq!(
        shown(&both, ("x", "y"), &RowOptions { mask_source: false, ..OPTIONS }),
        "(<s>)(x)(y)(</s>)"
    );
    let bos = tokenizer(around(&["<s>"], &[]));
    assert_eq!(shown(&bos, ("x", "y"), &OPTIONS), "[<s>][x](y)(</s>)");
    assert_eq!(
        shown(&bos, ("x", "y"), &RowOptions { append_eos: false, ..OPTIONS }),
        "[<s>][x](y)"
    );
    // An end that the text spells out is not doubled either.
    assert_eq!(shown(&bos, ("x", "y</s>"), &OPTIONS), "[<s>][x](y)(</s>)");
}

#[test]
fn cut_and_unsupervised_rows_are_listed() {
    let t = tokenizer(around(&["<s>"], &[]));
    let rows = [("xx", "yy"), ("x", "y"), ("xxxx", "yy"), ("xxx", ""), ("", "")];
    let out = encode(&t, &rows, &RowOptions { model_max_length: 5, ..OPTIONS });
    // With <s> and </s>: 6 (cut by one), 4, 8 (its answer cut whole), 5, 2 tokens.
    assert_eq!(out.offsets, [0, 5, 9, 14, 19, 21]);
    assert_eq!(out.cut, [0, 2]);
    assert_eq!(out.unsupervised, [2]);
    assert_eq!(out.labels[3..5], [out.ids[3] as i32, out.ids[4] as i32]);
    assert_eq!(out.ids[8], EOS);
    let none = encode(&t, &rows, &RowOptions { model_max_length: 5, append_eos: false, ..OPTIONS });
    assert_eq!((none.cut, none.unsupervised), (vec![2], vec![2, 3, 4]));
    let nothing = encode(&t, &rows, &RowOptions { model_max_length: 0, ..OPTIONS });
    assert_eq!((nothing.ids.len(), nothing.offsets), (0, vec![0; 6]));
    assert_eq!(nothing.unsupervised, [0, 1, 2, 3, 4]);
}

#[test]
fn a_first_token_alone_is_nothing_to_learn() {
    // The only supervised label is the first, which the shift drops.
    let t = tokenizer(Value::Null);
    let out = encode(&t, &[("", "x")], &RowOptions { append_eos: false, ..OPTIONS });
    assert_eq!((out.ids.len(), out.unsupervised), (1, vec![0]));
}

#[test]
fn no_rows_are_no_error() {
    let out = encode(&tokenizer(Value::Null), &[], &OPTIONS);
    assert_eq!(out, EncodedRows { offsets: vec![0], ..EncodedRows::default() });
}

#[test]
fn threads_do_not_change_rows() {
    let t = tokenizer(around(&["<s>"], &[]));
    let rows: Vec<_> = (0..500)
        .map(|i| (format!("Frage {i}: a"), format!("b. ü{}", "ab. ".repeat(i % 37))))
        .collect();
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            t.encode_rows(&rows, &RowOptions { model_max_length: 60, ..OPTIONS }).unwrap()
        })
    };
    let one = with(1);
    assert!(!one.cut.is_empty() && one.ids[0] == BOS);
    for threads in [2, 3, 7] {
        assert_eq!(with(threads), one);
    }
}

#[test]
fn a_row_of_a_megabyte_is_fine() {
    let t = tokenizer(Value::Null);
    for text in [
        "ab".repeat(1 << 19),
        " ".repeat(1 << 20),
        "\u{FFFD}".repeat(1 << 18),
        "ü. ".repeat(1 << 18),
    ] {
        let out = encode(&t, &[(&text, &text)], &OPTIONS);
        assert_eq!(t.decode(&out.ids, true).unwrap(), [text.as_str(), &text].concat());
        assert_eq!(t.token_texts(&out.ids).unwrap().concat(), [&text, &text, "</s>"].concat());
    }
}
