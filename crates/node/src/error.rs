//! The only place that maps the engine's errors to JavaScript: an expected failure is a value.

use napi_derive::napi;

/// Stable. A new one breaks the TypeScript build until it has an exit status.
#[napi(string_enum = "UPPER_SNAKE")]
pub enum Code {
    Internal,
    Config,
    Data,
    ModelFiles,
    Memory,
    Device,
    Diverged,
    Output,
    Cancelled,
}

#[napi(object, object_from_js = false)]
pub struct NativeError {
    pub code: Code,
    pub message: String,
    pub hint: String,
}

/// What a call resolves to where it failed.
#[napi(object, object_from_js = false)]
pub struct Failed {
    pub error: NativeError,
}

impl From<engine::Code> for Code {
    fn from(code: engine::Code) -> Code {
        match code {
            engine::Code::Internal => Code::Internal,
            engine::Code::Config => Code::Config,
            engine::Code::Data => Code::Data,
            engine::Code::ModelFiles => Code::ModelFiles,
            engine::Code::Memory => Code::Memory,
            engine::Code::Device => Code::Device,
            engine::Code::Diverged => Code::Diverged,
            engine::Code::Output => Code::Output,
            engine::Code::Cancelled => Code::Cancelled,
        }
    }
}

impl From<engine::Error> for Failed {
    fn from(error: engine::Error) -> Failed {
        let error = NativeError {
            code: error.code().into(),
            message: error.to_string(),
            hint: error.hint(),
        };
        Failed { error }
    }
}

impl Failed {
    /// A panic, or a call on a handle that panicked before.
    pub fn internal(message: String) -> Failed {
        let hint =
            "This is a bug of lora-train; please report it with the command that you ran.".into();
        Failed { error: NativeError { code: Code::Internal, message, hint } }
    }
}
