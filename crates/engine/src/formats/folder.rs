//! Finds out what a path holds: a Hugging Face folder, a GGUF file, or what is in the way.

use super::mapped::MappedFile;
use super::model::{RowOrder, TensorInfo};
use super::safetensors::{self, SafetensorsFile};
use super::torch::{TorchFile, TorchTensor};
use super::{FormatError, Result, json};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// Where weights are, in the order in which Transformers looks for them.
const WEIGHTS: [(&str, Open); 2] =
    [("model.safetensors", open_safetensors), ("pytorch_model.bin", open_torch)];
/// Names that a message lists at most.
const LISTED_MAX: usize = 8;

/// Where a model's weights are.
pub(super) enum Source {
    /// A folder with `config.json`.
    HfFolder(PathBuf),
    Gguf(PathBuf),
}

pub(super) fn find(path: &Path) -> Result<Source> {
    let meta = std::fs::metadata(path).map_err(|e| FormatError::read(path, e))?;
    if !meta.is_dir() {
        return match begins_like_gguf(path)? {
            true => Ok(Source::Gguf(path.into())),
            false => Err(FormatError::NotAModel { path: path.into() }),
        };
    }
    if path.join("config.json").exists() {
        return Ok(Source::HfFolder(path.into()));
    }
    let names = names_in(path)?;
    let gguf: Vec<&String> = names.iter().filter(|name| is_gguf_name(name)).collect();
    match gguf.as_slice() {
        [] => Err(FormatError::NoConfig { path: path.into(), found: listed(&names) }),
        [one] => Ok(Source::Gguf(path.join(one))),
        more => {
            Err(FormatError::ManyGguf { path: path.into(), count: more.len(), found: listed(more) })
        }
    }
}

/// A file with GGUF's first bytes, or with its ending: then the reader says what is wrong with it.
fn begins_like_gguf(path: &Path) -> Result<bool> {
    if path.file_name().is_some_and(|name| is_gguf_name(&name.to_string_lossy())) {
        return Ok(true);
    }
    Ok(MappedFile::open(path)?.map.starts_with(b"GGUF"))
}

fn is_gguf_name(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".gguf")
}

/// A file of weights, opened and checked.
pub(super) struct Shard {
    pub file: MappedFile,
    pub tensors: Vec<ShardTensor>,
}

/// A tensor of a shard. `begin` counts from the file's start.
pub(super) struct ShardTensor {
    pub info: TensorInfo,
    pub begin: usize,
    pub rows: RowOrder,
}

type Open = fn(&Path) -> Result<Shard>;

fn open_safetensors(path: &Path) -> Result<Shard> {
    let file = SafetensorsFile::open(path)?;
    let tensor = |entry: &safetensors::Entry| ShardTensor {
        info: TensorInfo {
            name: entry.name.clone(),
            shape: entry.shape.clone(),
            dtype: entry.dtype,
            bytes: entry.bytes,
        },
        begin: entry.begin,
        rows: RowOrder::AsIs,
    };
    Ok(Shard { tensors: file.entries().iter().map(tensor).collect(), file: file.file })
}

fn open_torch(path: &Path) -> Result<Shard> {
    let file = TorchFile::open(path)?;
    let tensor = |tensor: &TorchTensor| ShardTensor {
        info: TensorInfo {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            dtype: tensor.dtype,
            bytes: tensor.shape.iter().product::<usize>() * tensor.dtype.block().1,
        },
        begin: tensor.begin,
        rows: tensor.strides.clone().map_or(RowOrder::AsIs, RowOrder::Strided),
    };
    Ok(Shard { tensors: file.tensors().iter().map(tensor).collect(), file: file.file })
}

/// The weight files of a folder, each opened once; an index must agree with them.
pub(super) fn open_shards(folder: &Path) -> Result<Vec<Shard>> {
    for (name, open) in WEIGHTS {
        let (single, index) = (folder.join(name), folder.join(format!("{name}.index.json")));
        if single.exists() {
            return Ok(vec![open(&single)?]);
        }
        if index.exists() {
            return open_indexed(folder, &index, open);
        }
    }
    Err(FormatError::NoWeights { path: folder.into(), found: listed(&names_in(folder)?) })
}

#[derive(Deserialize)]
struct Index {
    weight_map: WeightMap,
}

/// The tensors of each shard. A shard's name is kept once, not once for each of its tensors.
struct WeightMap(BTreeMap<String, Vec<String>>);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<WeightMap, D::Error> {
        struct WeightMapVisitor;
        impl<'de> Visitor<'de> for WeightMapVisitor {
            type Value = WeightMap;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensors and their shards")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
                let mut by_shard: BTreeMap<String, Vec<String>> = BTreeMap::new();
                while let Some((tensor, shard)) = map.next_entry()? {
                    by_shard.entry(shard).or_default().push(tensor);
                }
                Ok(WeightMap(by_shard))
            }
        }
        d.deserialize_map(WeightMapVisitor)
    }
}

fn open_indexed(folder: &Path, index_path: &Path, open: Open) -> Result<Vec<Shard>> {
    let index: Index = json::read(index_path, json::INDEX_BYTES_MAX)?;
    let by_shard = index.weight_map.0;
    let mut files = Vec::with_capacity(by_shard.len());
    for (shard, tensors) in by_shard {
        // A name with a separator could lead out of the folder.
        if shard.contains(['/', '\\']) || shard == ".." {
            return Err(FormatError::ShardName { index: index_path.into(), shard });
        }
        let file = open(&folder.join(&shard)).map_err(|e| match e {
            FormatError::NotFound { .. } => FormatError::MissingShard {
                index: index_path.into(),
                shard: shard.clone(),
                tensor: tensors[0].clone(),
            },
            other => other,
        })?;
        let held: HashSet<&str> =
            file.tensors.iter().map(|tensor| tensor.info.name.as_str()).collect();
        if let Some(tensor) = tensors.into_iter().find(|tensor| !held.contains(tensor.as_str())) {
            return Err(FormatError::NotInShard { index: index_path.into(), shard, tensor });
        }
        files.push(file);
    }
    Ok(files)
}

/// The names in a folder, sorted.
fn names_in(folder: &Path) -> Result<Vec<String>> {
    let failed = |source| FormatError::read(folder, source);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The first names and how many more there are.
fn listed(names: &[impl AsRef<str>]) -> String {
    if names.is_empty() {
        return "nothing".into();
    }
    let shown: Vec<&str> = names.iter().take(LISTED_MAX).map(AsRef::as_ref).collect();
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
