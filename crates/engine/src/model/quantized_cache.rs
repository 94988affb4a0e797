//! Weights in few bits that an earlier start quantised and kept: found by what they are made of, else kept for the
//! next start. Never decides what is quantised, and never fails a run: what can't be read is made again, what
//! can't be written is reported. How many are kept, and for how long: `old_entries.rs`.

use super::old_entries::{self, EXTENSION, KEY_DIGITS, Removed};
use super::quantize::Quantizer;
use super::{Model, Source};
use crate::families::Family;
use crate::formats::{FormatError, PackedFile, write_packed};
use crate::four_bit::FourBitLayout;
use crate::signal::Signal;
use crate::spec::DecoderSpec;
use crate::speed;
use crate::weight::{Layout, Quantized};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

/// Raised whenever other codes follow from the same values: from another reader of a stored type, or from the
/// quantiser.
const CODEC: u32 = 1;
const KEY: &str = "lora_train_key";
const FOLDER: &str = "quantized";
/// Of one weight: both tables and the JSON, about.
const TABLE_BYTES: usize = 4 * (16 + 256) + 200;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct CacheOptions {
    /// None: in the user's cache folder.
    pub dir: Option<PathBuf>,
}

/// What became of the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CacheReport {
    pub path: PathBuf,
    pub bytes: u64,
    pub outcome: CacheOutcome,
    /// Why nothing could be kept; where something was, why an old entry could not be removed.
    pub reason: Option<String>,
    /// Old entries that made room for this one.
    pub removed: usize,
    pub removed_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheOutcome {
    Read,
    Written,
    Failed,
}

/// The place of a model's quantised weights, and the weights where they are there.
pub struct QuantizedCache {
    path: PathBuf,
    key: String,
    found: Option<PackedFile>,
    /// Of all quantised weights, with their tables.
    bytes: u64,
}

impl QuantizedCache {
    /// `None` where the model has nothing to be quantised, or there is no place for it. An entry that is
    /// damaged, or of other weights, is removed.
    pub fn find(
        options: &CacheOptions,
        files: &dyn Source,
        quantizer: &Quantizer,
        spec: &DecoderSpec,
        family: &Family,
    ) -> Option<QuantizedCache> {
        let names = quantizer.tensors(spec, family);
        let layout = quantizer.layout;
        let (path, key) = place(options, files, &names, layout)?;
        let bytes_of = |name: &String| match files.info(name).map(|info| info.shape.as_slice()) {
            Some(&[rows, cols]) => (layout.bytes((rows, cols)) + TABLE_BYTES) as u64,
            _ => 0,
        };
        let bytes = names.iter().map(bytes_of).sum();
        let mut cache = QuantizedCache { path, key, found: None, bytes };
        if cache.path.exists() {
            cache.found = PackedFile::open(&cache.path)
                .ok()
                .filter(|it| cache.holds(it, &names, layout, files));
            match cache.found {
                Some(_) => old_entries::mark_used(&cache.path, SystemTime::now()),
                // If it stays, the new one replaces it all the same.
                None => drop(std::fs::remove_file(&cache.path)),
            }
        }
        Some(cache)
    }

    /// Whether there is an entry for the model. Only reading it tells whether it is whole. Asks for the model's
    /// identity, and so reads pages of its weights, only where there is any entry.
    pub fn is_kept(
        options: &CacheOptions,
        files: &dyn Source,
        quantizer: &Quantizer,
        spec: &DecoderSpec,
        family: &Family,
    ) -> bool {
        let any = folder(options).and_then(|dir| std::fs::read_dir(dir).ok()?.next());
        if any.is_none() {
            return false;
        }
        let names = quantizer.tensors(spec, family);
        place(options, files, &names, quantizer.layout).is_some_and(|(path, _)| path.is_file())
    }

    fn holds(
        &self,
        found: &PackedFile,
        names: &[String],
        layout: Layout,
        files: &dyn Source,
    ) -> bool {
        let fits = |name: &String| {
            let shape = files.info(name).map(|info| info.shape.as_slice());
            found.describe(name).is_some_and(|(has, (rows, cols))| {
                has == layout && shape == Some(&[rows, cols][..])
            })
        };
        found.metadata().get(KEY) == Some(&self.key) && names.iter().all(fits)
    }

    /// What an earlier start kept.
    pub fn weights(&self) -> Option<&PackedFile> {
        self.found.as_ref()
    }

    /// What [`QuantizedCache::keep`] will count.
    pub fn bytes_to_write(&self) -> u64 {
        if self.found.is_some() { 0 } else { self.bytes }
    }

    /// Writes the model's quantised weights, if they are not there yet; `signal` counts their bytes.
    pub fn keep(self, model: &Model, signal: &Signal) -> CacheReport {
        let QuantizedCache { path, key, found, .. } = self;
        if let Some(found) = found {
            let (bytes, outcome) = (found.bytes(), CacheOutcome::Read);
            return CacheReport {
                path,
                bytes,
                outcome,
                reason: None,
                removed: 0,
                removed_bytes: 0,
            };
        }
        let weights: Vec<(String, Quantized)> = model
            .block_linears()
            .filter_map(|linear| {
                Some((format!("{}.weight", linear.name), linear.weight.quantized()?))
            })
            .collect();
        let metadata = [("format", "pt"), (KEY, &key)].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written = written
            .map_err(|source| FormatError::Write { path: path.clone(), source })
            .and_then(|()| write_packed(&path, &weights, BTreeMap::from(metadata), signal));
        let bytes = weights.iter().map(|(_, weight)| weight.bytes() as u64).sum();
        let (outcome, gone) = match written {
            Ok(()) => (CacheOutcome::Written, old_entries::remove_old(&path, SystemTime::now())),
            Err(error) => {
                let failure = Some(error.to_string());
                (CacheOutcome::Failed, Removed { failure, ..Removed::default() })
            }
        };
        let Removed { entries: removed, bytes: removed_bytes, failure: reason } = gone;
        CacheReport { path, bytes, outcome, reason, removed, removed_bytes }
    }
}

/// The file of a model's entry, and its key; `None` where nothing is quantised, or there is no place for it.
fn place(
    options: &CacheOptions,
    files: &dyn Source,
    names: &[String],
    layout: Layout,
) -> Option<(PathBuf, String)> {
    let dir = folder(options)?;
    let identity = files.identity(names).filter(|_| !names.is_empty())?;
    let mut hash = blake3::Hasher::new();
    hash.update(format!("{CODEC} {} {names:?} ", named(layout)).as_bytes());
    let key = hash.update(identity.as_bytes()).finalize().to_hex()[..KEY_DIGITS].to_owned();
    Some((dir.join(format!("{key}{EXTENSION}")), key))
}

/// A layout in the key. That of 4 bits has the text that it had under its first name: with another, every
/// weight would be quantised again.
fn named(layout: Layout) -> String {
    match layout {
        Layout::FourBits(FourBitLayout { quant_type, block_size, scales }) => format!(
            "Nf4Layout {{ quant_type: {quant_type:?}, block_size: {block_size}, scales: {scales:?} }}"
        ),
        Layout::Int8 => "Int8".into(),
    }
}

fn folder(options: &CacheOptions) -> Option<PathBuf> {
    options.dir.clone().or_else(|| Some(speed::cache_folder()?.join(FOLDER)))
}
