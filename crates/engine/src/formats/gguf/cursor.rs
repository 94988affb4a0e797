//! Reads GGUF's header from bytes: every length is checked against the bytes that are left, and all
//! that is allocated against one budget.

use super::value::{Array, Value};
use crate::formats::error::GgufFault;

/// Memory that the metadata may take. The largest vocabularies in use (some 250,000 tokens and 450,000
/// merges) take half of it.
const METADATA_BYTES_MAX: u64 = 64 << 20;
const DEPTH_MAX: u32 = 4;

/// A place in the file, and what is wrong there.
pub(super) type Fault = (u64, GgufFault);

pub(super) struct Cursor<'a> {
    data: &'a [u8],
    position: usize,
    budget: u64,
}

/// Bytes that an element of a list takes at least, in the file.
const fn file_bytes_min(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        8 | 10..=12 => Some(8),
        9 => Some(12),
        _ => None,
    }
}

impl<'a> Cursor<'a> {
    pub fn new(data: &'a [u8]) -> Cursor<'a> {
        Cursor { data, position: 0, budget: METADATA_BYTES_MAX }
    }

    pub fn position(&self) -> u64 {
        self.position as u64
    }

    pub fn left(&self) -> u64 {
        (self.data.len() - self.position) as u64
    }

    pub fn fault<T>(&self, what: GgufFault) -> Result<T, Fault> {
        Err((self.position(), what))
    }

    fn array<const SIZE: usize>(&mut self, what: &'static str) -> Result<[u8; SIZE], Fault> {
        match self.data[self.position..].first_chunk::<SIZE>() {
            Some(bytes) => {
                self.position += SIZE;
                Ok(*bytes)
            }
            None => self.fault(GgufFault::End(what)),
        }
    }

    pub fn u32(&mut self, what: &'static str) -> Result<u32, Fault> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub fn u64(&mut self, what: &'static str) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A count of things that take at least `bytes_min` each; more than the file can hold is refused.
    pub fn count(
        &mut self,
        what: &'static str,
        bytes_min: u64,
        limit: u64,
    ) -> Result<usize, Fault> {
        let at = self.position();
        let value = self.u64(what)?;
        let limit = limit.min(self.left() / bytes_min);
        match value <= limit {
            true => Ok(value as usize),
            false => Err((at, GgufFault::Count { what, value, limit })),
        }
    }

    /// Takes `bytes` from the budget before they are allocated.
    fn spend(&mut self, bytes: u64) -> Result<(), Fault> {
        match self.budget.checked_sub(bytes) {
            Some(left) => {
                self.budget = left;
                Ok(())
            }
            None => self.fault(GgufFault::Count {
                what: "bytes of metadata",
                value: METADATA_BYTES_MAX - self.budget + bytes,
                limit: METADATA_BYTES_MAX,
            }),
        }
    }

    pub fn string(&mut self, what: &'static str, limit: u64) -> Result<String, Fault> {
        let len = self.count(what, 1, limit)?;
        self.spend((len + size_of::<String>()) as u64)?;
        let bytes = &self.data[self.position..self.position + len];
        let Ok(text) = std::str::from_utf8(bytes) else {
            return self.fault(GgufFault::Utf8);
        };
        self.position += len;
        Ok(text.to_owned())
    }

    pub fn value(&mut self) -> Result<Value, Fault> {
        const WHAT: &str = "a value";
        let at = self.position();
        let kind = self.u32("a value's type")?;
        Ok(match kind {
            0 => Value::U8(u8::from_le_bytes(self.array(WHAT)?)),
            1 => Value::I8(i8::from_le_bytes(self.array(WHAT)?)),
            2 => Value::U16(u16::from_le_bytes(self.array(WHAT)?)),
            3 => Value::I16(i16::from_le_bytes(self.array(WHAT)?)),
            4 => Value::U32(u32::from_le_bytes(self.array(WHAT)?)),
            5 => Value::I32(i32::from_le_bytes(self.array(WHAT)?)),
            6 => Value::F32(f32::from_le_bytes(self.array(WHAT)?)),
            7 => Value::Bool(self.bool()?),
            8 => Value::String(self.string("bytes of a text", METADATA_BYTES_MAX)?),
            9 => Value::Array(self.list(DEPTH_MAX)?),
            10 => Value::U64(u64::from_le_bytes(self.array(WHAT)?)),
            11 => Value::I64(i64::from_le_bytes(self.array(WHAT)?)),
            12 => Value::F64(f64::from_le_bytes(self.array(WHAT)?)),
            _ => return Err((at, GgufFault::ValueType(kind))),
        })
    }

    fn bool(&mut self) -> Result<bool, Fault> {
        let at = self.position();
        match self.array("a value")? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err((at, GgufFault::Bool(other))),
        }
    }

    fn list(&mut self, depth_left: u32) -> Result<Array, Fault> {
        if depth_left == 0 {
            return self.fault(GgufFault::Depth(DEPTH_MAX));
        }
        let at = self.position();
        let kind = self.u32("a list's type")?;
        let Some(bytes_min) = file_bytes_min(kind) else {
            return Err((at, GgufFault::ValueType(kind)));
        };
        let count = self.count("elements of a list", bytes_min, u64::MAX)?;
        const WHAT: &str = "a list";
        Ok(match kind {
            0 => Array::U8(self.elements(count, |c| Ok(u8::from_le_bytes(c.array(WHAT)?)))?),
            1 => Array::I8(self.elements(count, |c| Ok(i8::from_le_bytes(c.array(WHAT)?)))?),
            2 => Array::U16(self.elements(count, |c| Ok(u16::from_le_bytes(c.array(WHAT)?)))?),
            3 => Array::I16(self.elements(count, |c| Ok(i16::from_le_bytes(c.array(WHAT)?)))?),
            4 => Array::U32(self.elements(count, |c| Ok(u32::from_le_bytes(c.array(WHAT)?)))?),
            5 => Array::I32(self.elements(count, |c| Ok(i32::from_le_bytes(c.array(WHAT)?)))?),
            6 => Array::F32(self.elements(count, |c| Ok(f32::from_le_bytes(c.array(WHAT)?)))?),
            7 => Array::Bool(self.elements(count, Self::bool)?),
            8 => Array::String(
                self.elements(count, |c| c.string("bytes of a text", METADATA_BYTES_MAX))?,
            ),
            10 => Array::U64(self.elements(count, |c| Ok(u64::from_le_bytes(c.array(WHAT)?)))?),
            11 => Array::I64(self.elements(count, |c| Ok(i64::from_le_bytes(c.array(WHAT)?)))?),
            12 => Array::F64(self.elements(count, |c| Ok(f64::from_le_bytes(c.array(WHAT)?)))?),
            // 9, the one that is left of the types that `file_bytes_min` knows.
            _ => Array::Array(self.elements(count, |c| c.list(depth_left - 1))?),
        })
    }

    fn elements<T>(
        &mut self,
        count: usize,
        read: impl Fn(&mut Self) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        self.spend((count as u64).saturating_mul(size_of::<T>() as u64))?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(read(self)?);
        }
        Ok(elements)
    }
}
