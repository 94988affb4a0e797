//! Protobuf's wire format, as far as SentencePiece's files need it. Never allocates, never panics on what it reads.
//!
//! A message is a run of fields: a key (number and kind of value) as a varint, then the value. Which number means
//! what is the reader's business.

use super::error::{Result, TokenizerError};
use std::path::Path;

/// The rest of a message, with its place in the file.
pub(super) struct Message<'a> {
    path: &'a Path,
    rest: &'a [u8],
    at: usize,
}

/// One field of a message; `at` is the byte where its value begins.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) number: u64,
    path: &'a Path,
    at: usize,
    value: Value<'a>,
}

#[derive(Clone, Copy)]
enum Value<'a> {
    Varint(u64),
    Fixed64,
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

const TRUNCATED: &str = "the file ends inside a field";

impl<'a> Message<'a> {
    pub(super) fn whole(path: &'a Path, bytes: &'a [u8]) -> Message<'a> {
        Message { path, rest: bytes, at: 0 }
    }

    /// None at the end of the message.
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let start = self.at;
        let key = self.varint()?;
        let mut at = self.at;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Fixed64
            }
            2 => {
                let length = self.varint()?;
                at = self.at;
                Value::Bytes(self.take(length)?)
            }
            5 => match self.take(4)?.try_into() {
                Ok(bytes) => Value::Fixed32(bytes),
                Err(_) => return Err(self.refused(at, TRUNCATED)),
            },
            _ => return Err(self.refused(start, "is no field of a SentencePiece model")),
        };
        Ok(Some(Field { number: key >> 3, path: self.path, at, value }))
    }

    /// Seven bits a byte, the lowest first; the highest bit says that there are more.
    fn varint(&mut self) -> Result<u64> {
        let start = self.at;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.refused(start, "is a number of more than 64 bits"))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8]> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.refused(self.at, TRUNCATED));
        };
        (self.rest, self.at) = (rest, self.at + length);
        Ok(taken)
    }

    fn refused(&self, at: usize, what: &'static str) -> TokenizerError {
        TokenizerError::SentencePiece { path: self.path.into(), at, what }
    }
}

impl<'a> Field<'a> {
    pub(super) fn refused(&self, what: &'static str) -> TokenizerError {
        TokenizerError::SentencePiece { path: self.path.into(), at: self.at, what }
    }

    pub(super) fn message(&self) -> Result<Message<'a>> {
        Ok(Message { path: self.path, rest: self.bytes()?, at: self.at })
    }

    pub(super) fn bytes(&self) -> Result<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(self.refused("is not the text or message that belongs here")),
        }
    }

    pub(super) fn text(&self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| self.refused("is not UTF-8"))
    }

    pub(super) fn float(&self) -> Result<f32> {
        match self.value {
            Value::Fixed32(bytes) => Ok(f32::from_le_bytes(bytes)),
            _ => Err(self.refused("is not the 32-bit number that belongs here")),
        }
    }

    /// Protobuf's int32 and enums: a negative one has all 64 bits, of which the lower 32 count.
    pub(super) fn int(&self) -> Result<i32> {
        match self.value {
            Value::Varint(value) => Ok(value as i32),
            _ => Err(self.refused("is not the whole number that belongs here")),
        }
    }

    pub(super) fn flag(&self) -> Result<bool> {
        Ok(self.int()? != 0)
    }
}
