//! What can be wrong with a tokenizer's files, a chat template or a text: the facts, the kind, and
//! what to do. Never formats for a terminal.

use crate::error::Code;
use crate::formats::FormatError;
use std::io;
use std::path::PathBuf;

/// A tokenizer, template or text that can't be used. Rows and messages count from 0.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    #[error("{path}: no such file or folder")]
    NotFound { path: PathBuf },
    #[error("{path}: can't be read: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: is longer than {limit} bytes, the limit for {what}")]
    TooLong { path: PathBuf, what: &'static str, limit: u64 },
    #[error("{path}: the folder has neither tokenizer.json nor tokenizer.model; it holds {found}")]
    NoTokenizer { path: PathBuf, found: String },
    #[error("{path}, line {line}, column {column}: {what}")]
    Json { path: PathBuf, line: usize, column: usize, what: String },
    #[error("{path}: `{key}` is {found}; expected is {expected}")]
    Key { path: PathBuf, key: String, found: String, expected: &'static str },
    #[error("{path}: the tokenizer can't be used: {what}")]
    Unusable { path: PathBuf, what: String },

    #[error("{path}: has no `{key}`, so no tokenizer can be built from it")]
    GgufKey { path: PathBuf, key: String },
    #[error("{path}: its tokenizer is of the kind `{model}`; known are gpt2 and llama")]
    GgufModel { path: PathBuf, model: String },
    #[error("{path}: its tokenizer splits text by the rule `{pre}`, which is not known")]
    GgufPre { path: PathBuf, pre: String },
    #[error("{path}: `{key}` has {found} entries for {expected} tokens")]
    GgufLength { path: PathBuf, key: &'static str, found: usize, expected: usize },
    #[error("{path}: merge {index} (`{merge}`) does not join two tokens to a third")]
    GgufMerge { path: PathBuf, index: usize, merge: String },

    #[error("{path}: `{key}` is {id}, past the {tokens} tokens of the vocabulary")]
    TokenId { path: PathBuf, key: &'static str, id: u64, tokens: usize },
    #[error("{path}: token {id} (`{text}`) {what}")]
    Token { path: PathBuf, id: usize, text: String, what: &'static str },

    #[error("{path}, byte {at}: {what}")]
    SentencePiece { path: PathBuf, at: usize, what: &'static str },
    #[error("{path}: {what}, so no tokenizer can be built from it")]
    SentencePieceKind { path: PathBuf, what: String },
    #[error("{path}: `{text}` is the added token {said}, but gets the id {found}")]
    AddedId { path: PathBuf, text: String, said: u32, found: String },
    #[error("{path}: can't be written: {source}")]
    Write { path: PathBuf, source: serde_json::Error },
    #[error(transparent)]
    Format(#[from] FormatError),

    #[error("the tokenizer has no chat template{}", named(names))]
    NoTemplate { names: Vec<String> },
    #[error("the chat template has {bytes} bytes; the limit is {limit}")]
    TemplateTooLong { bytes: usize, limit: usize },
    #[error("the chat template does not compile, line {line}: {what}")]
    TemplateSyntax { line: usize, what: String },
    #[error("the chat template refuses the conversation: {message}")]
    TemplateRefused { message: String },
    #[error("the chat template was stopped after {fuel} steps")]
    TemplateFuel { fuel: u64 },
    #[error("the chat template failed at line {line}: {what}")]
    TemplateFailed { line: usize, what: String },
    #[error("the conversation is not JSON, line {line}, column {column}: {what}")]
    MessagesJson { line: usize, column: usize, what: String },
    #[error("the conversation is not a list of messages")]
    MessagesNotList,
    #[error("message {index} is not an object with a role")]
    Message { index: usize },

    #[error("the token `{text}` can't be added to the tokenizer: {what}")]
    NewToken { text: String, what: String },
    #[error("the text can't be tokenised: {what}")]
    Text { what: String },
    #[error("row {row} can't be tokenised: {what}")]
    Row { row: usize, what: String },
    #[error("the ids can't be turned into text: {what}")]
    Ids { what: String },
}

fn named(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!(" named `default`, only {}", names.join(", ")),
    }
}

impl TokenizerError {
    /// A failed read; a missing file has a variant of its own.
    pub(super) fn read(path: &std::path::Path, source: io::Error) -> TokenizerError {
        match source.kind() {
            io::ErrorKind::NotFound => TokenizerError::NotFound { path: path.into() },
            _ => TokenizerError::Read { path: path.into(), source },
        }
    }

    pub fn code(&self) -> Code {
        use TokenizerError::*;
        match self {
            MessagesJson { .. }
            | MessagesNotList
            | Message { .. }
            | TemplateRefused { .. }
            | Text { .. }
            | Row { .. } => Code::Data,
            NewToken { .. } => Code::Config,
            Ids { .. } => Code::Internal,
            Write { .. } => Code::Output,
            Format(error) => error.code(),
            _ => Code::ModelFiles,
        }
    }

    /// What to do about it, in one sentence.
    pub fn hint(&self) -> &'static str {
        use TokenizerError::*;
        match self {
            NotFound { .. } => {
                "Check the path's spelling; a model of the hub has to be downloaded first, with `hf download ID --local-dir DIR`."
            }
            Read { .. } => "Check the path and its permissions.",
            NoTokenizer { .. } => {
                "Name a folder with a tokenizer.json or a SentencePiece tokenizer.model, or one .gguf file."
            }
            SentencePieceKind { .. } => {
                "Save a tokenizer.json beside it, with AutoTokenizer.from_pretrained(…).save_pretrained(…)."
            }
            AddedId { .. } => {
                "Give the added tokens the ids behind the vocabulary, one after the other, or take the model's own files."
            }
            Json { .. } | Key { .. } | Unusable { .. } | TooLong { .. } => {
                "Correct the file, or download it again."
            }
            GgufModel { .. } | GgufPre { .. } | GgufKey { .. } => {
                "Take the model's Hugging Face folder, which has a tokenizer.json."
            }
            GgufLength { .. }
            | GgufMerge { .. }
            | TokenId { .. }
            | Token { .. }
            | SentencePiece { .. } => {
                "Download the file again; this copy is damaged or was converted wrongly."
            }
            Write { .. } => "Choose another output folder, or free space on the disk.",
            Format(error) => error.hint(),
            NoTemplate { .. } => {
                "Give a prompt template of your own, or take a model that was made for chats."
            }
            TemplateTooLong { .. }
            | TemplateSyntax { .. }
            | TemplateFuel { .. }
            | TemplateFailed { .. } => {
                "Correct the chat template in the model's folder, or give a prompt template of your own."
            }
            TemplateRefused { .. } => {
                "Bring the conversation into the form that the model's template asks for."
            }
            MessagesJson { .. } | MessagesNotList | Message { .. } => {
                "A conversation is a list of objects like {\"role\": \"user\", \"content\": \"…\"}."
            }
            NewToken { .. } => "Choose another text for it in special_tokens.",
            Text { .. } | Row { .. } => {
                "Look at the row's text, and check that the tokenizer belongs to the model."
            }
            Ids { .. } => {
                "This is a bug of lora-train; please report it with the command that you ran."
            }
        }
    }
}

pub(super) type Result<T, E = TokenizerError> = std::result::Result<T, E>;
