//! The values of a pickle that holds tensors, and the only names that it may call for.

use super::fault::{Fault, TorchFault};
use crate::formats::dtype::StoredDtype;

/// What a pickle may call for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(StoredDtype),
}

impl Global {
    fn named(module: &str, name: &str) -> Option<Global> {
        use StoredDtype::*;
        let dtype = match (module, name) {
            ("collections", "OrderedDict") => return Some(Global::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => return Some(Global::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => return Some(Global::RebuildParameter),
            ("torch", "DoubleStorage") => F64,
            ("torch", "FloatStorage") => F32,
            ("torch", "HalfStorage") => F16,
            ("torch", "BFloat16Storage") => Bf16,
            ("torch", "LongStorage") => I64,
            ("torch", "IntStorage") => I32,
            ("torch", "ShortStorage") => I16,
            ("torch", "CharStorage") => I8,
            ("torch", "ByteStorage") => U8,
            ("torch", "BoolStorage") => Bool,
            _ => return None,
        };
        Some(Global::Storage(dtype))
    }

    pub fn name(self) -> &'static str {
        match self {
            Global::OrderedDict => "collections.OrderedDict",
            Global::RebuildTensor => "torch._utils._rebuild_tensor_v2",
            Global::RebuildParameter => "torch._utils._rebuild_parameter",
            Global::Storage(_) => "a storage of torch",
        }
    }
}

/// A value, or its place in one of the machine's lists.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    None,
    Bool,
    Int(i64),
    Float,
    Text(&'a str),
    Global(Global),
    /// Part of `tuples`.
    Tuple {
        begin: u32,
        end: u32,
    },
    Dict(u32),
    Storage(u32),
    Tensor(u32),
}

impl Value<'_> {
    pub fn kind(self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool => "a truth value",
            Value::Int(_) | Value::Float => "a number",
            Value::Text(_) => "a text",
            Value::Global(_) => "a class or a function",
            Value::Tuple { .. } => "a tuple",
            Value::Dict(_) => "a dict",
            Value::Storage(_) => "a storage",
            Value::Tensor(_) => "a tensor",
        }
    }
}

/// What `module.name` is, if a tensor may need it.
pub(super) fn global<'a>(module: &str, name: &str, at: u64) -> Result<Value<'a>, Fault> {
    let unknown =
        || TorchFault::Global { name: format!("{module}.{name}").escape_debug().to_string() };
    Global::named(module, name).map(Value::Global).ok_or_else(|| (at, unknown()))
}

pub(super) fn text(value: Value<'_>, at: u64) -> Result<&str, Fault> {
    match value {
        Value::Text(text) => Ok(text),
        other => Err((at, TorchFault::Type { found: other.kind(), needed: "a text" })),
    }
}

pub(super) fn count(value: Value, at: u64) -> Result<u64, Fault> {
    match value {
        Value::Int(n) if n >= 0 => Ok(n as u64),
        other => Err((at, TorchFault::Type { found: other.kind(), needed: "a count" })),
    }
}
