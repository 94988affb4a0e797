//! The `tojson` filter of chat templates: Python's `json.dumps`, as Transformers sets it. Never escapes HTML.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// Deeper values are refused; a conversation's own depth is limited by its parser.
const DEPTH_MAX: usize = 200;

/// `tojson(value, ensure_ascii=false, indent=none, separators=none, sort_keys=false)`.
pub(super) fn tojson(state: &State, value: Value, kwargs: Kwargs) -> Result<Value, Error> {
    let indent = kwargs.get::<Option<Value>>("indent")?.filter(|indent| !indent.is_none());
    let indent = match indent {
        None => None,
        Some(text) if text.as_str().is_some() => text.as_str().map(str::to_owned),
        Some(width) => Some(" ".repeat(usize::try_from(width)?.min(64))),
    };
    let separators = kwargs.get::<Option<Value>>("separators")?.filter(|value| !value.is_none());
    let (item, key) = match separators {
        Some(pair) => (text_at(&pair, 0)?, text_at(&pair, 1)?),
        // With an indent, lines end without a space.
        None => ((if indent.is_some() { "," } else { ", " }).to_owned(), ": ".to_owned()),
    };
    let ensure_ascii = kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sort_keys = kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    let mut writer =
        Writer { state, indent, item, key, ensure_ascii, sort_keys, out: String::new() };
    writer.value(&value, 0)?;
    Ok(Value::from(writer.out))
}

fn text_at(pair: &Value, index: usize) -> Result<String, Error> {
    let value = pair.get_item_by_index(index)?;
    let wrong = || Error::new(ErrorKind::InvalidOperation, "separators must be two texts");
    value.as_str().map(str::to_owned).ok_or_else(wrong)
}

/// A number as Python writes it: Rust's shortest digits, with Python's spelling of the exponent.
fn number(value: &Value) -> String {
    let float = match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => float,
        _ => return value.to_string(),
    };
    if float.is_nan() {
        return "NaN".to_owned();
    }
    if float.is_infinite() {
        return (if float > 0.0 { "Infinity" } else { "-Infinity" }).to_owned();
    }
    let digits = format!("{float:?}");
    match digits.split_once('e') {
        None => digits,
        Some((mantissa, exponent)) => match exponent.strip_prefix('-') {
            Some(exponent) => format!("{mantissa}e-{exponent:0>2}"),
            None => format!("{mantissa}e+{exponent:0>2}"),
        },
    }
}

struct Writer<'a, 'env> {
    state: &'a State<'a, 'env>,
    indent: Option<String>,
    item: String,
    key: String,
    ensure_ascii: bool,
    sort_keys: bool,
    out: String,
}

impl Writer<'_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "the value is nested too deeply for tojson",
            ));
        }
        // The text is memory that the engine does not see grow.
        self.state.consume_fuel(1)?;
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&number(value)),
            ValueKind::String => self.text(value.as_str().unwrap_or_default())?,
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.container(['[', ']'], items.len(), depth, |writer, index| {
                    writer.value(&items[index], depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort_by_key(Value::to_string);
                }
                self.container(['{', '}'], keys.len(), depth, |writer, index| {
                    writer.key_of(&keys[index])?;
                    writer.out.push_str(&writer.key.clone());
                    writer.value(&value.get_item(&keys[index])?, depth + 1)
                })?;
            }
            kind => {
                let what = format!("{kind} is not JSON serializable");
                return Err(Error::new(ErrorKind::InvalidOperation, what));
            }
        }
        Ok(())
    }

    fn container(
        &mut self,
        [open, close]: [char; 2],
        len: usize,
        depth: usize,
        mut item: impl FnMut(&mut Self, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        for index in 0..len {
            if index > 0 {
                self.out.push_str(&self.item.clone());
            }
            self.line(depth + 1);
            item(self, index)?;
        }
        if len > 0 {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            (0..depth).for_each(|_| self.out.push_str(indent));
        }
    }

    fn key_of(&mut self, key: &Value) -> Result<(), Error> {
        match key.kind() {
            ValueKind::None => self.text("null"),
            ValueKind::Bool => self.text(if key.is_true() { "true" } else { "false" }),
            _ => self.text(&key.to_string()),
        }
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        self.state.consume_fuel(text.len() as u64 / 64)?;
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && c > '~') => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
        Ok(())
    }
}
