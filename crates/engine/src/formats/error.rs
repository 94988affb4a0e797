//! What can be wrong with a model file, an adapter or an output folder: the facts, the kind, and
//! what to do. Never formats for a terminal.

use super::bitsandbytes::PackedFault;
use super::dtype::StoredDtype;
use super::torch::TorchFault;
use crate::error::Code;
use std::io;
use std::path::{Path, PathBuf};

/// A file that can't be used. Byte positions count from the start of the file.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("{path}: no such file or folder")]
    NotFound { path: PathBuf },
    #[error("{path}: can't be read: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: can't be written: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path}: is not a regular file")]
    NotAFile { path: PathBuf },
    #[error("{path}: is a pointer of git-lfs, not the file that it stands for")]
    LfsPointer { path: PathBuf },
    #[error("{path}: is longer than {limit} bytes, the limit for {what}")]
    TooLong { path: PathBuf, what: &'static str, limit: u64 },
    #[error("{path}, line {line}, column {column}: {what}")]
    Json { path: PathBuf, line: usize, column: usize, what: String },
    #[error("not enough memory for {bytes} bytes of tensor `{tensor}`")]
    Memory { tensor: String, bytes: u64 },

    #[error("{path}: is neither a model folder nor a GGUF file")]
    NotAModel { path: PathBuf },
    #[error("{path}: the folder has no config.json; it holds {found}")]
    NoConfig { path: PathBuf, found: String },
    #[error("{path}: is not a JSON object")]
    ConfigNotObject { path: PathBuf },
    #[error(
        "{path}: the folder has no model.safetensors or pytorch_model.bin, and no index of their shards; it holds \
         {found}"
    )]
    NoWeights { path: PathBuf, found: String },
    #[error(
        "{path}: the folder has its adapter in {file} only; an adapter is read from safetensors"
    )]
    PickleOnly { path: PathBuf, file: String },
    #[error("{path}: the folder has no config.json and {count} GGUF files: {found}")]
    ManyGguf { path: PathBuf, count: usize, found: String },
    #[error("{index}: names shard `{shard}`, which is no plain file name")]
    ShardName { index: PathBuf, shard: String },
    #[error("{index}: shard {shard} is missing (it should hold `{tensor}`)")]
    MissingShard { index: PathBuf, shard: String, tensor: String },
    #[error("{index}: says that {shard} holds tensor `{tensor}`, but it does not")]
    NotInShard { index: PathBuf, shard: String, tensor: String },

    #[error("{path}: ends at byte {len}, inside {what}, which reaches to byte {end}")]
    Truncated { path: PathBuf, what: &'static str, end: u64, len: u64 },
    #[error("{path}, byte {byte}: promises {value} bytes for {what}; the limit is {limit}")]
    Promise { path: PathBuf, byte: u64, what: &'static str, value: u64, limit: u64 },
    #[error("{path}, byte {byte}: the header is not what safetensors writes: {what}")]
    Header { path: PathBuf, byte: u64, what: String },
    #[error("{path}: tensor `{tensor}` is there twice")]
    DuplicateTensor { path: PathBuf, tensor: String },
    #[error("{path}: tensor `{tensor}` has the dtype {dtype}, which is not known")]
    UnknownDtype { path: PathBuf, tensor: String, dtype: String },
    #[error("{path}: tensor `{tensor}` ends at byte {end}, the file at {len}")]
    TensorPastEnd { path: PathBuf, tensor: String, end: u64, len: u64 },
    #[error(
        "{path}: tensor `{tensor}` begins at byte {begin}, the one before it ends at {expected}"
    )]
    TensorPlace { path: PathBuf, tensor: String, begin: u64, expected: u64 },
    #[error("{path}: the last tensor ends at byte {end}, the file at {len}")]
    BytesLeft { path: PathBuf, end: u64, len: u64 },
    #[error(
        "{path}: tensor `{tensor}` of shape {shape:?} in {dtype} does not fit its {bytes} bytes at byte {begin}"
    )]
    TensorSize {
        path: PathBuf,
        tensor: String,
        shape: Vec<u64>,
        dtype: StoredDtype,
        begin: u64,
        bytes: u64,
    },

    #[error("{path}, byte {byte}: {what}")]
    Torch { path: PathBuf, byte: u64, what: Box<TorchFault> },
    #[error("{path}: its checksum is another one than that of its bytes")]
    Checksum { path: PathBuf },
    #[error("{path}: tensor `{tensor}`: {what}")]
    Packed { path: PathBuf, tensor: String, what: Box<PackedFault> },
    #[error("{path}, byte {byte}: {what}")]
    Gguf { path: PathBuf, byte: u64, what: GgufFault },
    #[error("{path}: is made for the architecture `{name}`; known are {}", known.join(", "))]
    UnknownArchitecture { path: PathBuf, name: String, known: Vec<&'static str> },
    #[error("{path}: the metadata has no `{key}`, or not as {needed}")]
    MetadataKey { path: PathBuf, key: String, needed: &'static str },
    #[error("{path}: tensor `{tensor}` has no place in a {architecture} model")]
    UnknownTensor { path: PathBuf, tensor: String, architecture: &'static str },
    #[error("{path}: {what}, which is not known")]
    RopeScaling { path: PathBuf, what: String },

    #[error("{path}: `{key}` is {value}, which is not supported")]
    AdapterFeature { path: PathBuf, key: &'static str, value: String },
    #[error("{path}: tensor `{tensor}` is none of a LoRA adapter's")]
    AdapterTensor { path: PathBuf, tensor: String },
    #[error("{path}: module `{module}` has no {half}")]
    AdapterHalf { path: PathBuf, module: String, half: &'static str },

    #[error("{path}: has no tensor `{tensor}`")]
    MissingTensor { path: PathBuf, tensor: String },
    #[error("{path}: tensor `{tensor}` is stored as {dtype}, which can't be read as a weight")]
    NotAWeight { path: PathBuf, tensor: String, dtype: StoredDtype },
    #[error("{path}: tensor `{tensor}` has the shape {shape:?}, needed is {needed}")]
    TensorShape { path: PathBuf, tensor: String, shape: Vec<usize>, needed: String },
}

/// What a GGUF file has at a place where it should not.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum GgufFault {
    #[error("the file does not begin with GGUF")]
    Magic,
    #[error("GGUF version {0} is not known; 2 and 3 are")]
    Version(u32),
    #[error("the file is written for big-endian machines")]
    BigEndian,
    #[error("the file ends inside {0}")]
    End(&'static str),
    #[error("{value} {what} are more than the {limit} that can be there")]
    Count { what: &'static str, value: u64, limit: u64 },
    #[error("a text is not UTF-8")]
    Utf8,
    #[error("value type {0} is not known")]
    ValueType(u32),
    #[error("a truth value is {0}")]
    Bool(u8),
    #[error("lists are nested more than {0} deep")]
    Depth(u32),
    #[error("the key `{0}` is there twice")]
    DuplicateKey(String),
    #[error("general.alignment is not a power of two from 8 to 65536")]
    Alignment,
    #[error("tensor `{tensor}` has the GGML type {dtype}, which can't be read")]
    TensorType { tensor: String, dtype: u32 },
    #[error(
        "tensor `{tensor}` of shape {shape:?} is no whole number of {dtype} blocks, or overflows"
    )]
    TensorBlocks { tensor: String, shape: Vec<u64>, dtype: StoredDtype },
    #[error("the offset {offset} of tensor `{tensor}` is no multiple of the alignment {alignment}")]
    TensorAlignment { tensor: String, offset: u64, alignment: u64 },
    #[error("tensor `{0}` is there twice")]
    DuplicateTensor(String),
    #[error("tensor `{tensor}` ends at byte {end}, the file at {len}")]
    TensorPastEnd { tensor: String, end: u64, len: u64 },
    #[error("tensors `{first}` and `{second}` overlap")]
    Overlap { first: String, second: String },
}

impl FormatError {
    /// A failed read; a missing file has a variant of its own.
    pub(super) fn read(path: &Path, source: io::Error) -> FormatError {
        match source.kind() {
            io::ErrorKind::NotFound => FormatError::NotFound { path: path.into() },
            _ => FormatError::Read { path: path.into(), source },
        }
    }

    pub(super) fn write(path: &Path, source: io::Error) -> FormatError {
        FormatError::Write { path: path.into(), source }
    }

    pub fn code(&self) -> Code {
        match self {
            FormatError::Write { .. } => Code::Output,
            FormatError::Memory { .. } => Code::Memory,
            _ => Code::ModelFiles,
        }
    }

    /// What to do about it, in one sentence.
    pub fn hint(&self) -> &'static str {
        use FormatError::*;
        match self {
            NotFound { .. } => {
                "Check the path's spelling; a model of the hub has to be downloaded first, with `hf download ID --local-dir DIR`."
            }
            Read { .. } | NotAFile { .. } => "Check the path and its permissions.",
            LfsPointer { .. } => {
                "Run `git lfs pull` in the model's folder, or download the file itself."
            }
            Write { .. } => "Choose another output folder, or free space on the disk.",
            Memory { .. } => "Close other programs, or take a smaller or quantised model.",
            NotAModel { .. } | NoConfig { .. } | NoWeights { .. } | ManyGguf { .. } => {
                "Name a folder with config.json and weights in safetensors or pytorch_model.bin, or one .gguf file."
            }
            PickleOnly { .. } => {
                "Load and save the adapter with a current PEFT, which writes safetensors."
            }
            Json { .. } | ConfigNotObject { .. } => "Correct the file, or download it again.",
            NotAWeight { .. } | UnknownDtype { .. } => {
                "Take a copy of the model in float32, float16, bfloat16 or a GGML quantisation."
            }
            Torch { what, .. } => what.hint(),
            Packed { what, .. } => what.hint(),
            Checksum { .. } => "Remove the file; it is made again.",
            Gguf { what: GgufFault::TensorType { .. }, .. } => {
                "Take a file in F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or Q2_K to Q6_K."
            }
            Gguf { what: GgufFault::Version(_) | GgufFault::BigEndian, .. } => {
                "Convert the model again with a current llama.cpp."
            }
            UnknownArchitecture { .. }
            | UnknownTensor { .. }
            | MetadataKey { .. }
            | RopeScaling { .. } => "Take the model as a Hugging Face folder, or another model.",
            AdapterFeature { .. } => {
                "Save the adapter again as a plain LoRA with PEFT, or merge it there."
            }
            AdapterTensor { .. } | AdapterHalf { .. } => {
                "Check that the adapter's two files belong together."
            }
            MissingTensor { .. } | TensorShape { .. } => {
                "Check that the config and the weights belong to one model."
            }
            TooLong { .. }
            | ShardName { .. }
            | MissingShard { .. }
            | NotInShard { .. }
            | Truncated { .. }
            | Promise { .. }
            | Gguf { .. }
            | Header { .. }
            | DuplicateTensor { .. }
            | TensorPastEnd { .. }
            | TensorPlace { .. }
            | BytesLeft { .. }
            | TensorSize { .. } => "Download the file again; this copy is damaged or incomplete.",
        }
    }
}
