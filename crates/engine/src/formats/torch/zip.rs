//! Finds the entries of a ZIP archive that are stored as they are: what torch.save writes.
//!
//! ```text
//! per entry: header · name · extra · bytes (· descriptor)      then: directory (· ZIP64 end) · end
//! ```
//! The directory is what counts; an entry's own header must not contradict it. Nothing is decompressed
//! and nothing copied. Checksums are not compared: they would need every weight to be read, and PyTorch
//! can be told not to compute them.

use super::fault::{Fault, TorchFault};
use std::collections::HashSet;

/// Longest directory that is read: room for 100,000 entries, ten times as many as any model has.
const DIRECTORY_BYTES_MAX: u64 = 8 << 20;
const END_BYTES: usize = 22;
const END64_BYTES: usize = 56;
const LOCATOR_BYTES: usize = 20;
const HEADER_BYTES: usize = 30;
const ENTRY_BYTES: usize = 46;
const COMMENT_BYTES_MAX: usize = u16::MAX as usize;

/// Flags of an entry: its bytes are encrypted; its sizes stand behind its bytes.
const ENCRYPTED: u64 = 1;
const SIZES_BEHIND: u64 = 8;

/// A stored entry. `begin` counts from the file's start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub name: &'a str,
    pub begin: usize,
    pub bytes: usize,
}

/// The entries in the order of their bytes: each inside the file, none over another.
pub(super) fn entries(data: &[u8]) -> Result<Vec<Entry<'_>>, Fault> {
    let directory = find_directory(data)?;
    let mut at = directory.begin;
    let mut headers = Vec::new();
    for _ in 0..directory.count {
        let (header, next) = read_header(data, at, directory.end)?;
        headers.push(header);
        at = next;
    }
    if at != directory.end {
        return Err((at as u64, TorchFault::Directory("its entries are not as long as it is")));
    }
    headers.sort_by_key(|header| (header.offset, header.bytes));
    let mut names = HashSet::with_capacity(headers.len());
    let mut entries: Vec<Entry> = Vec::with_capacity(headers.len());
    for header in headers {
        if let Some(before) = entries.last()
            && header.offset < (before.begin + before.bytes) as u64
        {
            let (first, second) = (before.name.to_owned(), header.name.to_owned());
            return Err((header.offset, TorchFault::Overlap { first, second }));
        }
        if !names.insert(header.name) {
            return Err((header.offset, TorchFault::DuplicateEntry(header.name.to_owned())));
        }
        entries.push(header.entry(data, directory.begin)?);
    }
    Ok(entries)
}

/// The little-endian number of `SIZE` bytes at `at`, if the data reach so far.
fn number<const SIZE: usize>(data: &[u8], at: usize) -> Option<u64> {
    let bytes = data.get(at..)?.first_chunk::<SIZE>()?;
    Some(bytes.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte)))
}

struct Directory {
    begin: usize,
    end: usize,
    count: u64,
}

fn find_directory(data: &[u8]) -> Result<Directory, Fault> {
    let fault = |at: usize, what| (at as u64, TorchFault::Directory(what));
    let end = find_end(data).ok_or_else(|| match data.starts_with(b"PK\x03\x04") {
        true => (data.len() as u64, TorchFault::End("the archive, before its directory")),
        false => (0, TorchFault::NotAZip),
    })?;
    let field = |at: usize| number::<4>(data, at);
    let short = |at: usize| number::<2>(data, at);
    let parts = (short(end + 10), field(end + 12), field(end + 16));
    let (Some(count), Some(bytes), Some(begin)) = parts else {
        return Err(fault(end, "its end is cut off"));
    };
    let (before, [count, bytes, begin]) = match end64(data, end)? {
        None => (end, [count, bytes, begin]),
        Some((at, wide)) => {
            let narrow = [(count, 0xffff), (bytes, 0xffff_ffff), (begin, 0xffff_ffff)];
            // A number that does not fit is saturated; any other stands there twice.
            if narrow.iter().zip(wide).any(|(&(n, full), w)| n != w.min(full) && n != full) {
                return Err(fault(end, "its two ends differ"));
            }
            (at, wide)
        }
    };
    if bytes > DIRECTORY_BYTES_MAX {
        let what = "bytes of a directory";
        return Err((
            end as u64,
            TorchFault::Count { what, value: bytes, limit: DIRECTORY_BYTES_MAX },
        ));
    }
    // So nothing hides between the directory and its end.
    if begin.checked_add(bytes) != Some(before as u64) {
        return Err(fault(end, "it does not reach to its end"));
    }
    let limit = bytes / ENTRY_BYTES as u64;
    if count > limit {
        return Err((end as u64, TorchFault::Count { what: "entries", value: count, limit }));
    }
    Ok(Directory { begin: begin as usize, end: before, count })
}

/// The place of the end record: the last that reaches just to the file's end.
fn find_end(data: &[u8]) -> Option<usize> {
    let last = data.len().checked_sub(END_BYTES)?;
    (last.saturating_sub(COMMENT_BYTES_MAX)..=last).rev().find(|&at| {
        let comment = number::<2>(data, at + 20);
        data[at..].starts_with(b"PK\x05\x06")
            && comment == Some((data.len() - at - END_BYTES) as u64)
    })
}

/// Place and numbers (entries, bytes, begin) of the ZIP64 end, where there is one.
fn end64(data: &[u8], end: usize) -> Result<Option<(usize, [u64; 3])>, Fault> {
    let Some(locator) = end.checked_sub(LOCATOR_BYTES) else { return Ok(None) };
    if !data[locator..].starts_with(b"PK\x06\x07") {
        return Ok(None);
    }
    let wrong = (locator as u64, TorchFault::Directory("its ZIP64 end is not where it should be"));
    // The record has no place for more than its fixed fields, so it lies just before the locator.
    let at = locator.checked_sub(END64_BYTES);
    match at {
        Some(at)
            if number::<8>(data, locator + 8) == Some(at as u64)
                && data[at..].starts_with(b"PK\x06\x06") =>
        {
            let wide = [32, 40, 48].map(|field| number::<8>(data, at + field));
            let [Some(count), Some(bytes), Some(begin)] = wide else { return Err(wrong) };
            Ok(Some((at, [count, bytes, begin])))
        }
        _ => Err(wrong),
    }
}

/// An entry as the directory has it.
struct Header<'a> {
    name: &'a str,
    /// Of the entry's own header.
    offset: u64,
    bytes: u64,
}

/// The entry of the directory at `at`, and the place of the next.
fn read_header(data: &[u8], at: usize, end: usize) -> Result<(Header<'_>, usize), Fault> {
    let place = at as u64;
    let cut = || (place, TorchFault::Directory("an entry is cut off"));
    let entry = data[..end].get(at..).filter(|entry| entry.len() >= ENTRY_BYTES).ok_or_else(cut)?;
    if !entry.starts_with(b"PK\x01\x02") {
        return Err((place, TorchFault::Directory("an entry does not begin as one")));
    }
    let short = |at| number::<2>(entry, at).unwrap_or(0);
    let field = |at| number::<4>(entry, at).unwrap_or(0);
    let (flags, method) = (short(8), short(10));
    let [name_bytes, extra_bytes, comment_bytes] = [28, 30, 32].map(|at| short(at) as usize);
    let name_end = ENTRY_BYTES + name_bytes;
    let name = entry.get(ENTRY_BYTES..name_end).ok_or_else(cut)?;
    let name = std::str::from_utf8(name).map_err(|_| (place, TorchFault::Utf8))?;
    let extra = entry.get(name_end..name_end + extra_bytes).ok_or_else(cut)?;
    let packed = |how| Err((place, TorchFault::Packed { entry: name.into(), how }));
    if flags & ENCRYPTED != 0 {
        return packed("encrypted");
    }
    if method != 0 {
        return packed("compressed");
    }
    let numbers = [field(24), field(20), field(42)];
    let [bytes, packed_bytes, offset] = wide(numbers, extra).ok_or_else(cut)?;
    if bytes != packed_bytes {
        return packed("said to be of two sizes");
    }
    let next = at + name_end + extra_bytes + comment_bytes;
    if next > end {
        return Err(cut());
    }
    Ok((Header { name, offset, bytes }, next))
}

/// The numbers (bytes, packed bytes, offset); those that are saturated stand in the ZIP64 field.
fn wide(mut numbers: [u64; 3], mut extra: &[u8]) -> Option<[u64; 3]> {
    const FULL: u64 = 0xffff_ffff;
    while numbers.contains(&FULL) {
        let (kind, bytes) = (number::<2>(extra, 0)?, number::<2>(extra, 2)? as usize);
        let field = extra.get(4..4 + bytes)?;
        if kind == 1 {
            let saturated = numbers.iter_mut().filter(|n| **n == FULL);
            for (i, n) in saturated.enumerate() {
                *n = number::<8>(field, 8 * i)?;
            }
            return Some(numbers);
        }
        extra = &extra[4 + bytes..];
    }
    Some(numbers)
}

impl<'a> Header<'a> {
    /// Compares the directory with the entry's own header, and finds the bytes behind it.
    fn entry(&self, data: &'a [u8], directory: usize) -> Result<Entry<'a>, Fault> {
        let differ = |what| (self.offset, TorchFault::Header { entry: self.name.into(), what });
        let past = || (self.offset, TorchFault::Directory("an entry reaches into the directory"));
        let entries = &data[..directory];
        let at = usize::try_from(self.offset).map_err(|_| past())?;
        let own = entries.get(at..).filter(|own| own.len() >= HEADER_BYTES).ok_or_else(past)?;
        if !own.starts_with(b"PK\x03\x04") {
            return Err(differ("where the entry begins"));
        }
        let short = |at| number::<2>(own, at).unwrap_or(0);
        let flags = short(6);
        if flags & ENCRYPTED != 0 || short(8) != 0 {
            return Err(differ("how it is packed"));
        }
        let behind = flags & SIZES_BEHIND != 0;
        for at in [18, 22] {
            let own = number::<4>(own, at).unwrap_or(0);
            // Saturated where ZIP64 holds it; that one is never used.
            if own != self.bytes && own != 0xffff_ffff && !(behind && own == 0) {
                return Err(differ("its size"));
            }
        }
        let name_end = HEADER_BYTES + short(26) as usize;
        if own.get(HEADER_BYTES..name_end) != Some(self.name.as_bytes()) {
            return Err(differ("its name"));
        }
        let begin = at + name_end + short(28) as usize;
        let end = usize::try_from(self.bytes).ok().and_then(|bytes| begin.checked_add(bytes));
        match end {
            Some(end) if end <= directory => {
                Ok(Entry { name: self.name, begin, bytes: end - begin })
            }
            _ => Err(past()),
        }
    }
}
