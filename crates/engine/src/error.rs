//! The engine's error: what happened, where, what to do, and the code that decides the exit status.
//!
//! Each part has an enum of its own with facts in named fields; this one collects them. It never
//! formats for a terminal.

/// Stable kinds of failure. TypeScript maps each to an exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A bug of ours.
    Internal,
    /// An option or a configuration that can't be used.
    Config,
    /// Training rows that can't be used.
    Data,
    /// Model, tokenizer or adapter files that can't be used.
    ModelFiles,
    /// The plan does not fit the memory.
    Memory,
    /// A device that is missing or failed.
    Device,
    /// The loss or a gradient is no longer finite.
    Diverged,
    /// An output that can't be written.
    Output,
    /// The caller asked to stop.
    Cancelled,
}

/// Any failure of the engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// candle refused an operation: shapes and dtypes are checked before, so this is our bug.
    #[error("{0}")]
    Candle(#[from] candle_core::Error),
    #[error("the training was asked to stop")]
    Cancelled,
    /// A model file, adapter or output folder.
    #[error(transparent)]
    Format(#[from] crate::formats::FormatError),
    /// A tokenizer, chat template or text.
    #[error(transparent)]
    Tokenizer(#[from] crate::tokenizer::TokenizerError),
}

impl Error {
    pub fn code(&self) -> Code {
        match self {
            Error::Candle(_) => Code::Internal,
            Error::Cancelled => Code::Cancelled,
            Error::Format(e) => e.code(),
            Error::Tokenizer(e) => e.code(),
        }
    }

    /// What to do about it, in one sentence.
    pub fn hint(&self) -> String {
        match self {
            Error::Candle(_) => {
                "This is a bug of lora-train; please report it with the command that you ran."
                    .into()
            }
            Error::Cancelled => "Start again to go on.".into(),
            Error::Format(e) => e.hint().into(),
            Error::Tokenizer(e) => e.hint().into(),
        }
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
