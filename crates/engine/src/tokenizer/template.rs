//! Chat templates: a conversation to the text that the model was trained on.
//!
//! Templates are programs from outside. They run in minijinja, which reaches no files and no network,
//! on limited fuel. Never tokenises.

use super::error::{Result, TokenizerError};
use super::{time, tojson};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, context};
use std::sync::OnceLock;
use std::thread;

/// The longest templates in use, with tools and reasoning, have about 20 KB.
const TEMPLATE_BYTES_MAX: usize = 1 << 17;
/// Steps that a template may take besides those for its input. A step is an instruction, or 64 bytes
/// of text; long conversations with tools take some ten thousand.
const FUEL: u64 = 1_000_000;
/// Enough for sixteen copies of the conversation.
const BYTES_PER_FUEL: u64 = 4;
const FUEL_MAX: u64 = 2_000_000;
/// minijinja recurses over chained operators and over nested values. What `TEMPLATE_BYTES_MAX` and
/// `FUEL_MAX` allow of both was measured to fit a quarter of this; pages that aren't used cost nothing.
const STACK_BYTES: usize = 256 << 20;
/// Marks the one kind of error that a template raises on purpose.
const REFUSED: &str = "raise_exception: ";

pub(super) struct ChatTemplate {
    /// By name; `default` counts.
    templates: Vec<(String, String)>,
    /// The tokenizer's named tokens.
    variables: Vec<(String, String)>,
    /// Compiled at the first use: a broken template is no reason not to train without it.
    compiled: OnceLock<Environment<'static>>,
}

impl ChatTemplate {
    pub(super) fn new(
        templates: Vec<(String, String)>,
        variables: Vec<(String, String)>,
    ) -> ChatTemplate {
        ChatTemplate { templates, variables, compiled: OnceLock::new() }
    }

    pub(super) fn source(&self) -> Option<&str> {
        self.templates.iter().find(|(name, _)| name == "default").map(|(_, source)| source.as_str())
    }

    /// Sets a named token. What was compiled knows the old ones.
    pub(super) fn set_variable(&mut self, name: &str, text: &str) {
        self.variables.retain(|(have, _)| have != name);
        self.variables.push((name.to_owned(), text.to_owned()));
        self.compiled = OnceLock::new();
    }

    /// All templates by name, for saving.
    pub(super) fn all(&self) -> &[(String, String)] {
        &self.templates
    }

    pub(super) fn render(&self, messages: &str, add_generation_prompt: bool) -> Result<String> {
        let work = || self.render_here(messages, add_generation_prompt);
        // A stack of its own: overflowing one ends the whole process.
        let joined = thread::scope(|scope| {
            let builder = thread::Builder::new().stack_size(STACK_BYTES);
            builder.spawn_scoped(scope, work).map(thread::ScopedJoinHandle::join)
        });
        let failed = |what: String| TokenizerError::TemplateFailed { line: 0, what };
        match joined {
            Ok(Ok(rendered)) => rendered,
            Ok(Err(_)) => Err(failed("the template engine gave up".into())),
            Err(error) => Err(failed(format!("no thread could be started: {error}"))),
        }
    }

    fn render_here(&self, messages: &str, add_generation_prompt: bool) -> Result<String> {
        let fuel = (FUEL + messages.len() as u64 / BYTES_PER_FUEL).min(FUEL_MAX);
        let messages = parse_messages(messages)?;
        let mut environment = self.environment()?.clone();
        environment.set_fuel(Some(fuel));
        let tokens = Value::from_pairs(
            self.variables.iter().map(|(name, text)| (name.as_str(), text.as_str())),
        );
        let variables = context! {
            messages,
            add_generation_prompt,
            tools => Value::from(()),
            documents => Value::from(()),
            ..tokens
        };
        let rendered =
            environment.get_template("chat").and_then(|template| template.render(variables));
        rendered.map_err(|error| failure(&error, fuel))
    }

    fn environment(&self) -> Result<&Environment<'static>> {
        if let Some(environment) = self.compiled.get() {
            return Ok(environment);
        }
        let Some(source) = self.source() else {
            let names = self.templates.iter().map(|(name, _)| name.clone()).collect();
            return Err(TokenizerError::NoTemplate { names });
        };
        if source.len() > TEMPLATE_BYTES_MAX {
            return Err(TokenizerError::TemplateTooLong {
                bytes: source.len(),
                limit: TEMPLATE_BYTES_MAX,
            });
        }
        let environment = compile(source).map_err(|error| TokenizerError::TemplateSyntax {
            line: error.line().unwrap_or(0),
            what: words(&error),
        })?;
        Ok(self.compiled.get_or_init(|| environment))
    }
}

/// An environment like that of Transformers (`utils/chat_template_utils.py`), with the template `chat`.
fn compile(source: &str) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", tojson::tojson);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, format!("{REFUSED}{message}")))
    });
    environment.add_function("strftime_now", |format: &str| -> Result<String, Error> {
        time::strftime_now(format).map_err(|what| Error::new(ErrorKind::InvalidOperation, what))
    });
    environment.add_template_owned("chat", without_generation_tags(source))?;
    Ok(environment)
}

/// `{% generation %}` marks the assistant's words for Transformers' masks and prints what is in it; here it
/// becomes `{% if true %}`, with the same control of white space.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let Some(length) = rest[open..].find("%}") else { break };
        let (tag_start, tag_end) = (open + 2, open + length);
        let inner = rest[tag_start..tag_end].trim_matches(['-', '+']);
        let replacement = match inner.trim() {
            "generation" => "if true",
            "endgeneration" => "endif",
            word => word,
        };
        out.push_str(&rest[..tag_start]);
        out.push_str(&rest[tag_start..tag_end].replacen(inner.trim(), replacement, 1));
        rest = &rest[tag_end..];
    }
    out + rest
}

/// The messages as Transformers hands them on: null keys dropped, a message's reasoning under each of the
/// names that templates read.
fn parse_messages(json: &str) -> Result<Value> {
    let messages: Value = serde_json::from_str(json).map_err(|e| TokenizerError::MessagesJson {
        line: e.line(),
        column: e.column(),
        what: e.to_string(),
    })?;
    if messages.kind() != ValueKind::Seq {
        return Err(TokenizerError::MessagesNotList);
    }
    let items = messages.try_iter().map_err(|_| TokenizerError::MessagesNotList)?;
    items
        .enumerate()
        .map(|(index, message)| normalized(&message).ok_or(TokenizerError::Message { index }))
        .collect()
}

fn normalized(message: &Value) -> Option<Value> {
    if message.kind() != ValueKind::Map {
        return None;
    }
    let entry = |key: Value| message.get_item(&key).ok().map(|value| (key, value));
    let mut entries: Vec<(Value, Value)> = message.try_iter().ok()?.filter_map(entry).collect();
    entries.retain(|(_, value)| !value.is_none());
    let get = |name: &str| {
        entries.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value.clone())
    };
    get("role")?;
    let reasoning = ["reasoning_content", "thinking", "reasoning"].into_iter().find_map(get);
    if let Some(reasoning) = reasoning {
        if get("thinking").is_none() {
            entries.insert(0, (Value::from("thinking"), reasoning.clone()));
        }
        match entries.iter_mut().find(|(key, _)| key.as_str() == Some("reasoning_content")) {
            Some((_, value)) => *value = reasoning,
            None => entries.push((Value::from("reasoning_content"), reasoning)),
        }
    }
    Some(Value::from_pairs(entries))
}

fn failure(error: &Error, fuel: u64) -> TokenizerError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(inner) = inner.downcast_ref::<Error>() {
            if inner.kind() == ErrorKind::OutOfFuel {
                return TokenizerError::TemplateFuel { fuel };
            }
            if let Some(message) = inner.detail().and_then(|detail| detail.strip_prefix(REFUSED)) {
                return TokenizerError::TemplateRefused { message: message.to_owned() };
            }
        }
        cause = inner.source();
    }
    TokenizerError::TemplateFailed { line: error.line().unwrap_or(0), what: words(error) }
}

/// What minijinja says, without the place, which the error names itself.
fn words(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}
