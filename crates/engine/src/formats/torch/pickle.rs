//! Reads the pickle of a state dict: a machine for the few opcodes that torch.save writes for tensors
//! under their names. It makes no object and calls nothing: a name that is not of a tensor ends it.
//!
//! Every value is copied into one of four lists, and refers to others by their place in them. So values
//! that hold each other, many times or many deep, take no more memory than the pickle has opcodes.

use super::fault::{Fault, TorchFault};
use super::value::{Global, Value, count, global, text};
use crate::formats::dtype::StoredDtype;
use std::collections::HashMap;

/// Opcodes that are read at most: a tensor takes about 30, a model with the most of them 300,000.
const OPCODES_MAX: u64 = 1 << 20;
/// Longest name of something that the pickle calls for.
const NAME_BYTES_MAX: usize = 256;
const DIMS_MAX: usize = 8;

/// A tensor as the pickle has it; nothing of it is checked against its storage.
#[derive(Clone, Debug)]
pub(super) struct RawTensor<'a> {
    /// Where in the file it was made.
    pub at: u64,
    pub storage: RawStorage<'a>,
    /// Values of the storage before the first one.
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct RawStorage<'a> {
    /// The entry of the archive below `data/`.
    pub key: &'a str,
    pub dtype: StoredDtype,
    pub values: u64,
}

/// The tensors of the dict that the pickle makes. `start` is the pickle's place in the file.
pub(super) fn read(pickle: &[u8], start: u64) -> Result<Vec<(&str, RawTensor<'_>)>, Fault> {
    let mut machine = Machine {
        pickle,
        start,
        position: 0,
        stack: vec![],
        marks: vec![],
        memo: HashMap::new(),
        tuples: vec![],
        entries: vec![],
        n_dicts: 0,
        storages: vec![],
        tensors: vec![],
    };
    let top = machine.run()?;
    let end = machine.at();
    let Value::Dict(top) = top else {
        return Err((end, TorchFault::Type { found: top.kind(), needed: "a dict of tensors" }));
    };
    let mut named = Vec::new();
    for (dict, key, value) in machine.entries {
        match (key, value) {
            _ if dict != top => {}
            (Value::Text(name), Value::Tensor(i)) => {
                named.push((name, machine.tensors[i as usize].clone()))
            }
            (Value::Text(name), other) => {
                let (name, found) = (name.escape_debug().to_string(), other.kind());
                return Err((end, TorchFault::NotATensor { name, found }));
            }
            (other, _) => {
                return Err((end, TorchFault::Type { found: other.kind(), needed: "a name" }));
            }
        }
    }
    Ok(named)
}

struct Machine<'a> {
    pickle: &'a [u8],
    start: u64,
    position: usize,
    stack: Vec<Value<'a>>,
    /// Lengths of the stack at its open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    tuples: Vec<Value<'a>>,
    /// Dict, key and value.
    entries: Vec<(u32, Value<'a>, Value<'a>)>,
    n_dicts: u32,
    storages: Vec<RawStorage<'a>>,
    tensors: Vec<RawTensor<'a>>,
}

impl<'a> Machine<'a> {
    /// Runs to the end; returns what the pickle made.
    fn run(&mut self) -> Result<Value<'a>, Fault> {
        for _ in 0..OPCODES_MAX {
            let at = self.at();
            let [code] = self.bytes()?;
            if code == b'.' {
                let top = self.pop(at)?;
                return match self.position == self.pickle.len() {
                    true => Ok(top),
                    false => Err((self.at(), TorchFault::Rest)),
                };
            }
            self.opcode(code, at)?;
        }
        let (what, value) = ("opcodes", OPCODES_MAX + 1);
        Err((self.at(), TorchFault::Count { what, value, limit: OPCODES_MAX }))
    }

    fn opcode(&mut self, code: u8, at: u64) -> Result<(), Fault> {
        let value = match code {
            0x80 => match self.bytes()? {
                [0..=5] => return Ok(()),
                [version] => return Err((at, TorchFault::Protocol(version))),
            },
            // Frames only help a reader to fetch.
            0x95 => return self.bytes::<8>().map(drop),
            b'(' => {
                self.marks.push(self.stack.len());
                return Ok(());
            }
            b'N' => Value::None,
            0x88 | 0x89 => Value::Bool,
            b'K' => Value::Int(self.bytes::<1>()?[0].into()),
            b'M' => Value::Int(u16::from_le_bytes(self.bytes()?).into()),
            b'J' => Value::Int(i32::from_le_bytes(self.bytes()?).into()),
            0x8a => Value::Int(self.long(at)?),
            b'G' => self.bytes::<8>().map(|_| Value::Float)?,
            0x8c => self.text(1, at)?,
            b'X' => self.text(4, at)?,
            0x8d => self.text(8, at)?,
            b'c' | b'i' => {
                let (module, name) = (self.line(at)?, self.line(at)?);
                let global = global(module, name, at)?;
                match code {
                    b'c' => global,
                    _ => return Err((at, TorchFault::Opcode { code })),
                }
            }
            0x93 => {
                let (name, module) = (self.pop(at)?, self.pop(at)?);
                global(text(module, at)?, text(name, at)?, at)?
            }
            b')' => self.tuple(self.stack.len(), at)?,
            0x85..=0x87 => self.tuple(self.stack.len().wrapping_sub((code - 0x84).into()), at)?,
            b't' => {
                let begin = self.marks.pop().ok_or((at, TorchFault::Empty))?;
                self.tuple(begin, at)?
            }
            b'}' => self.dict(),
            b's' => return self.set_items(self.stack.len().wrapping_sub(2), at),
            b'u' => {
                let begin = self.marks.pop().ok_or((at, TorchFault::Empty))?;
                return self.set_items(begin, at);
            }
            b'Q' => self.storage(at)?,
            b'R' => self.call(at)?,
            b'b' => return self.build(at),
            b'q' | b'r' | 0x94 => return self.remember(code, at),
            b'h' | b'j' => {
                let place = match code {
                    b'h' => self.bytes::<1>()?[0].into(),
                    _ => u32::from_le_bytes(self.bytes()?),
                };
                *self.memo.get(&place).ok_or((at, TorchFault::Empty))?
            }
            code => return Err((at, TorchFault::Opcode { code })),
        };
        self.stack.push(value);
        Ok(())
    }

    fn at(&self) -> u64 {
        self.start + self.position as u64
    }

    fn slice(&mut self, len: u64, what: &'static str) -> Result<&'a [u8], Fault> {
        let left = &self.pickle[self.position..];
        let found = usize::try_from(len).ok().and_then(|len| left.get(..len));
        let bytes = found.ok_or((self.at(), TorchFault::End(what)))?;
        self.position += bytes.len();
        Ok(bytes)
    }

    fn bytes<const SIZE: usize>(&mut self) -> Result<[u8; SIZE], Fault> {
        let bytes = self.slice(SIZE as u64, "the pickle")?;
        Ok(*bytes.first_chunk().expect("a slice of this length"))
    }

    /// A signed number of up to 8 bytes, after their count.
    fn long(&mut self, at: u64) -> Result<i64, Fault> {
        let [count] = self.bytes()?;
        if count > 8 {
            return Err((at, TorchFault::LongNumber(count)));
        }
        let bytes = self.slice(count.into(), "a number of the pickle")?;
        let sign = if bytes.last().is_some_and(|&byte| byte >= 0x80) { -1 } else { 0 };
        Ok(bytes.iter().rev().fold(sign, |n, &byte| n << 8 | i64::from(byte)))
    }

    /// A text after its length in `size` bytes.
    fn text(&mut self, size: u64, at: u64) -> Result<Value<'a>, Fault> {
        let len = self.slice(size, "the pickle")?;
        let len = len.iter().rev().fold(0u64, |n, &byte| n << 8 | u64::from(byte));
        let bytes = self.slice(len, "a text of the pickle")?;
        std::str::from_utf8(bytes).map(Value::Text).map_err(|_| (at, TorchFault::Utf8))
    }

    /// Half of a name: up to the end of a line.
    fn line(&mut self, at: u64) -> Result<&'a str, Fault> {
        let left = &self.pickle[self.position..];
        let end = left.iter().take(NAME_BYTES_MAX).position(|&byte| byte == b'\n');
        let end = end.ok_or((at, TorchFault::End("a name of the pickle")))?;
        self.position += end + 1;
        std::str::from_utf8(&left[..end]).map_err(|_| (at, TorchFault::Utf8))
    }

    /// Takes a value, but none from below an open mark.
    fn pop(&mut self, at: u64) -> Result<Value<'a>, Fault> {
        let above = self.stack.len() > self.marks.last().copied().unwrap_or(0);
        self.stack.pop().filter(|_| above).ok_or((at, TorchFault::Empty))
    }

    /// The values from `begin` on, which must lie above every open mark.
    fn take(&mut self, begin: usize, at: u64) -> Result<std::vec::Drain<'_, Value<'a>>, Fault> {
        let above = self.marks.last().copied().unwrap_or(0);
        match begin >= above && begin <= self.stack.len() {
            true => Ok(self.stack.drain(begin..)),
            false => Err((at, TorchFault::Empty)),
        }
    }

    fn tuple(&mut self, begin: usize, at: u64) -> Result<Value<'a>, Fault> {
        let first = self.tuples.len() as u32;
        let values: Vec<Value> = self.take(begin, at)?.collect();
        self.tuples.extend(values);
        Ok(Value::Tuple { begin: first, end: self.tuples.len() as u32 })
    }

    fn dict(&mut self) -> Value<'a> {
        self.n_dicts += 1;
        Value::Dict(self.n_dicts)
    }

    /// Puts the pairs from `begin` on into the dict below them.
    fn set_items(&mut self, begin: usize, at: u64) -> Result<(), Fault> {
        let items: Vec<Value> = self.take(begin, at)?.collect();
        if !items.len().is_multiple_of(2) {
            return Err((at, TorchFault::Empty));
        }
        let target = self.pop(at)?;
        let Value::Dict(dict) = target else {
            return Err((at, TorchFault::Type { found: target.kind(), needed: "a dict" }));
        };
        self.entries.extend(items.chunks_exact(2).map(|pair| (dict, pair[0], pair[1])));
        self.stack.push(target);
        Ok(())
    }

    fn remember(&mut self, code: u8, at: u64) -> Result<(), Fault> {
        let place = match code {
            b'q' => self.bytes::<1>()?[0].into(),
            b'r' => u32::from_le_bytes(self.bytes()?),
            _ => self.memo.len() as u32,
        };
        let value = self.pop(at)?;
        self.stack.push(value);
        self.memo.insert(place, value);
        Ok(())
    }

    fn items(&self, value: Value<'a>, at: u64) -> Result<&[Value<'a>], Fault> {
        match value {
            Value::Tuple { begin, end } => Ok(&self.tuples[begin as usize..end as usize]),
            other => Err((at, TorchFault::Type { found: other.kind(), needed: "a tuple" })),
        }
    }

    /// `('storage', class, key, place, values)`.
    fn storage(&mut self, at: u64) -> Result<Value<'a>, Fault> {
        let id = self.pop(at)?;
        let storage = match *self.items(id, at)? {
            [
                Value::Text("storage"),
                Value::Global(Global::Storage(dtype)),
                Value::Text(key),
                Value::Text(_),
                values,
            ] => RawStorage { key, dtype, values: count(values, at)? },
            _ => {
                return Err((
                    at,
                    TorchFault::Type { found: "a tuple", needed: "a storage's name" },
                ));
            }
        };
        self.storages.push(storage);
        Ok(Value::Storage(self.storages.len() as u32 - 1))
    }

    /// What a call would make, where it is one that makes a dict or a tensor.
    fn call(&mut self, at: u64) -> Result<Value<'a>, Fault> {
        let (arguments, function) = (self.pop(at)?, self.pop(at)?);
        let Value::Global(function) = function else {
            return Err((at, TorchFault::Type { found: function.kind(), needed: "a function" }));
        };
        let tensor = match (function, self.items(arguments, at)?) {
            (Global::OrderedDict, []) => return Ok(self.dict()),
            (Global::RebuildParameter, &[tensor @ Value::Tensor(_), Value::Bool, _]) => {
                return Ok(tensor);
            }
            (
                Global::RebuildTensor,
                &[Value::Storage(storage), offset, shape, strides, Value::Bool, _, ref rest @ ..],
            ) if rest.len() <= 1 => RawTensor {
                at,
                storage: self.storages[storage as usize],
                offset: count(offset, at)?,
                shape: self.dims(shape, at)?,
                strides: self.dims(strides, at)?,
            },
            _ => return Err((at, TorchFault::Call { name: function.name() })),
        };
        self.tensors.push(tensor);
        Ok(Value::Tensor(self.tensors.len() as u32 - 1))
    }

    fn dims(&self, value: Value<'a>, at: u64) -> Result<Vec<u64>, Fault> {
        let items = self.items(value, at)?;
        if items.len() > DIMS_MAX {
            let (value, limit) = (items.len() as u64, DIMS_MAX as u64);
            return Err((at, TorchFault::Count { what: "dimensions", value, limit }));
        }
        items.iter().map(|&dim| count(dim, at)).collect()
    }

    /// Attributes of a dict, such as a state dict's `_metadata`: they hold no tensor and are dropped.
    fn build(&mut self, at: u64) -> Result<(), Fault> {
        let (state, target) = (self.pop(at)?, self.pop(at)?);
        match (target, state) {
            (Value::Dict(_), Value::Dict(_)) => {
                self.stack.push(target);
                Ok(())
            }
            (Value::Dict(_), other) | (other, _) => {
                Err((at, TorchFault::Type { found: other.kind(), needed: "a dict" }))
            }
        }
    }
}
