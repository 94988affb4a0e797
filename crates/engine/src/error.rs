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
    #[error("the call was asked to stop")]
    Cancelled,
    #[error(transparent)]
    Check(#[from] crate::model::check::CheckError),
    #[error(transparent)]
    Checkpoint(#[from] crate::checkpoint::CheckpointError),
    #[error(transparent)]
    Config(#[from] crate::families::ConfigError),
    #[error(transparent)]
    Model(#[from] crate::model::ModelError),
    #[error(transparent)]
    Optimizer(#[from] crate::optimizer::OptimizerError),
    #[error(transparent)]
    Options(#[from] crate::options::OptionsError),
    #[error(transparent)]
    Plan(#[from] crate::plan::PlanError),
    #[error(transparent)]
    Session(#[from] crate::session::SessionError),
    #[error(transparent)]
    Train(#[from] crate::train::TrainError),
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
            Error::Check(e) => e.code(),
            Error::Checkpoint(e) => e.code(),
            Error::Config(e) => e.code(),
            Error::Model(e) => e.code(),
            Error::Optimizer(e) => e.code(),
            Error::Options(e) => e.code(),
            Error::Plan(e) => e.code(),
            Error::Session(e) => e.code(),
            Error::Train(e) => e.code(),
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
            Error::Check(e) => e.hint(),
            Error::Checkpoint(e) => e.hint(),
            Error::Config(e) => e.hint(),
            Error::Model(e) => e.hint(),
            Error::Optimizer(e) => e.hint(),
            Error::Options(e) => e.hint(),
            Error::Plan(e) => e.hint(),
            Error::Session(e) => e.hint(),
            Error::Train(e) => e.hint(),
            Error::Format(e) => e.hint().into(),
            Error::Tokenizer(e) => e.hint().into(),
        }
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
