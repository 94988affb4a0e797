//! `ModelFiles`: the config and the weights of a model on disk, under Hugging Face's names.
//!
//! Weights stay in the mapped files until they are asked for. Does not know what a decoder needs;
//! never writes.

use super::bitsandbytes::{self, Packed};
use super::dtype::StoredDtype;
use super::folder::{ShardTensor, Source, find, open_shards};
use super::gguf::{Gguf, hf};
use super::mapped::MappedFile;
use super::strided::{gather, span};
use super::{FormatError, Result, convert, identity, json};
use crate::families;
use crate::weight::{Layout, MappedMatrix, Weight};
use candle_core::{Device, Tensor};
use half::{bf16, f16};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A tensor of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Hugging Face's name.
    pub name: String,
    pub shape: Vec<usize>,
    pub dtype: StoredDtype,
    /// Bytes in the file; of NF4 those of the codes.
    pub bytes: usize,
}

/// Where a tensor's bytes are.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Which of the model's files.
    pub file: usize,
    pub begin: usize,
    pub rows: RowOrder,
}

/// The order of a tensor's rows, or of all its values, in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RowOrder {
    AsIs,
    /// llama.cpp's order of q and k: inside each head, row `2i + h` holds row `h·(D/2) + i`.
    Interleaved {
        heads: usize,
    },
    /// A view of PyTorch: values from one index to the next, for each dimension.
    Strided(Vec<usize>),
}

/// Where a frozen weight should live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residency {
    /// In the mapped file if it lies there in a plain dtype, else in memory.
    Mapped,
    /// In memory, in the stored dtype (f32 for quantised values).
    Memory,
}

/// A model's files, opened and checked.
#[derive(Debug)]
pub struct ModelFiles {
    path: PathBuf,
    config: Value,
    generation_config: Option<Value>,
    files: Vec<MappedFile>,
    tensors: Vec<TensorInfo>,
    places: Vec<Place>,
    by_name: HashMap<String, usize>,
    /// Those that are stored in few bits.
    packed: HashMap<String, Packed>,
    /// The identity that was asked for first.
    id: OnceLock<(Vec<String>, Option<blake3::Hash>)>,
}

impl ModelFiles {
    /// Opens a folder with `config.json` and weights (`model.safetensors`, else `pytorch_model.bin`, each
    /// as one file or as shards with an index), or a GGUF file (also as the only one of a folder without
    /// `config.json`).
    ///
    /// Checks every header against its file; reads no weight.
    pub fn open(path: &Path) -> Result<ModelFiles> {
        match find(path)? {
            Source::HfFolder(folder) => open_hf_folder(&folder),
            Source::Gguf(file) => open_gguf(&file),
        }
    }

    /// The folder or file that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `config.json`, an object.
    pub fn config(&self) -> &Value {
        &self.config
    }

    pub fn generation_config(&self) -> Option<&Value> {
        self.generation_config.as_ref()
    }

    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|&i| &self.tensors[i])
    }

    /// How a weight that is stored in few bits is laid out; `None` for all others.
    pub fn layout(&self, name: &str) -> Option<Layout> {
        self.packed.get(name).map(Packed::layout)
    }

    /// Those of all weights that are stored in few bits.
    pub fn layouts(&self) -> impl Iterator<Item = Layout> {
        self.packed.values().map(Packed::layout)
    }

    /// Shape and values of a tensor, whatever it is stored as.
    pub fn read_f32(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let (info, place) = self.find(name)?;
        if let Some(packed) = self.packed.get(name) {
            return Ok((info.shape.clone(), packed.to_f32(&self.files)?));
        }
        let values =
            read_values(self.path_of(place), name, info.dtype, &bytes(&self.files, info, place)?)?;
        Ok((info.shape.clone(), values))
    }

    /// A frozen weight `[rows, cols]`; a tensor of another rank is refused. One in few bits stays so, in the
    /// mapped file.
    pub fn matrix(&self, name: &str, prefer: Residency) -> crate::Result<Weight> {
        let (info, place) = self.find(name)?;
        if let Some(packed) = self.packed.get(name) {
            return Ok(packed.weight(&self.files)?);
        }
        let &[rows, cols] = info.shape.as_slice() else {
            return Err(FormatError::TensorShape {
                path: self.path_of(place).into(),
                tensor: name.into(),
                shape: info.shape.clone(),
                needed: "a matrix".into(),
            }
            .into());
        };
        // A page is aligned for every dtype, so the offset decides. Big-endian machines convert.
        let lies_aligned = |size| place.begin % size == 0 && cfg!(target_endian = "little");
        match info.dtype.plain() {
            Some(dtype)
                if prefer == Residency::Mapped
                    && place.rows == RowOrder::AsIs
                    && lies_aligned(dtype.size_in_bytes()) =>
            {
                let map = self.files[place.file].map.clone();
                Ok(Weight::Mapped(MappedMatrix { map, offset: place.begin, dtype, rows, cols }))
            }
            _ => Ok(Weight::Tensor(self.tensor(info, place, (rows, cols))?)),
        }
    }

    /// A tensor in memory: bf16 and f16 as they are stored, all else in f32.
    fn tensor(
        &self,
        info: &TensorInfo,
        place: &Place,
        shape: (usize, usize),
    ) -> crate::Result<Tensor> {
        let bytes = bytes(&self.files, info, place)?;
        let tensor = match info.dtype {
            StoredDtype::Bf16 => {
                Tensor::from_vec(words(&bytes, bf16::from_le_bytes), shape, &Device::Cpu)
            }
            StoredDtype::F16 => {
                Tensor::from_vec(words(&bytes, f16::from_le_bytes), shape, &Device::Cpu)
            }
            _ => {
                let values = read_values(self.path_of(place), &info.name, info.dtype, &bytes)?;
                Tensor::from_vec(values, shape, &Device::Cpu)
            }
        };
        Ok(tensor?)
    }

    /// 16 hexadecimal digits that follow from the config, and from each tensor's name, dtype, shape and
    /// first values: another model has others. Reads a page of each tensor; is no proof against forgery.
    pub fn fingerprint(&self) -> String {
        let mut hash = Fnv::default();
        hash.add(self.config.to_string().as_bytes());
        let mut tensors: Vec<_> = self.tensors.iter().zip(&self.places).collect();
        tensors.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        for (info, place) in tensors {
            hash.add(format!("{} {} {:?}", info.name, info.dtype, info.shape).as_bytes());
            let from = &self.files[place.file].map[place.begin..];
            hash.add(&from[..from.len().min(info.bytes).min(FINGERPRINT_BYTES)]);
        }
        format!("{:016x}", hash.0)
    }

    /// What tells these tensors apart from all others, as far as eight pages of each tell it; see
    /// `formats/identity.rs`. `None` where one is missing, or the system does not tell a file's time.
    pub fn identity(&self, names: &[String]) -> Option<blake3::Hash> {
        let found = || {
            let found: Result<Vec<_>> = names.iter().map(|name| self.find(name)).collect();
            identity::identity(&self.files, found.ok()?.into_iter())
        };
        let (of, identity) = self.id.get_or_init(|| (names.to_vec(), found()));
        if of == names { *identity } else { found() }
    }

    /// Gives the pages of a tensor back to the system, once it was converted. Unknown names do nothing.
    pub fn release(&self, name: &str) {
        if let Ok((info, place)) = self.find(name) {
            self.files[place.file].release(place.begin..place.begin + bytes_in_file(info, place));
        }
    }

    /// The file that holds a tensor.
    pub fn file_of(&self, name: &str) -> Option<&Path> {
        self.by_name.get(name).map(|&i| self.path_of(&self.places[i]))
    }

    fn path_of(&self, place: &Place) -> &Path {
        &self.files[place.file].path
    }

    fn find(&self, name: &str) -> Result<(&TensorInfo, &Place)> {
        match self.by_name.get(name) {
            Some(&i) => Ok((&self.tensors[i], &self.places[i])),
            None => {
                Err(FormatError::MissingTensor { path: self.path.clone(), tensor: name.into() })
            }
        }
    }
}

/// The bytes of a tensor in Hugging Face's order.
pub(super) fn bytes<'a>(
    files: &'a [MappedFile],
    info: &TensorInfo,
    place: &Place,
) -> Result<Cow<'a, [u8]>> {
    let end = place.begin + bytes_in_file(info, place);
    let bytes = &files[place.file].map[place.begin..end];
    match &place.rows {
        RowOrder::AsIs => Ok(Cow::Borrowed(bytes)),
        RowOrder::Interleaved { heads } => {
            Ok(Cow::Owned(halves_apart(bytes, info.shape[0], *heads)))
        }
        RowOrder::Strided(strides) => {
            let mut out = Vec::new();
            out.try_reserve_exact(info.bytes).map_err(|_| FormatError::Memory {
                tensor: info.name.clone(),
                bytes: info.bytes as u64,
            })?;
            gather(bytes, info.dtype.block().1, &info.shape, strides, &mut out);
            Ok(Cow::Owned(out))
        }
    }
}

/// Bytes from the first value to the last: more, or fewer, than the tensor's own where it is a view.
fn bytes_in_file(info: &TensorInfo, place: &Place) -> usize {
    match &place.rows {
        RowOrder::Strided(strides) => {
            span(&info.shape, strides).expect("the reader counted it") * info.dtype.block().1
        }
        _ => info.bytes,
    }
}

/// What is read of each tensor for the fingerprint.
const FINGERPRINT_BYTES: usize = 1024;

/// FNV-1a with 64 bits (Fowler, Noll, Vo).
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

/// Undoes llama.cpp's order: row `2i + h` of a head becomes row `h·(D/2) + i`.
///
/// The reader has checked that a row is whole bytes and that the rows are whole pairs in each head.
fn halves_apart(bytes: &[u8], n_rows: usize, heads: usize) -> Vec<u8> {
    let (row, pairs) = (bytes.len() / n_rows, n_rows / heads / 2);
    let mut out = Vec::with_capacity(bytes.len());
    for head in bytes.chunks_exact(2 * pairs * row) {
        for half in 0..2 {
            for pair in head.chunks_exact(2 * row) {
                out.extend_from_slice(&pair[half * row..][..row]);
            }
        }
    }
    out
}

/// The values of a tensor's bytes as f32.
pub(super) fn read_values(
    path: &Path,
    tensor: &str,
    dtype: StoredDtype,
    bytes: &[u8],
) -> Result<Vec<f32>> {
    // Counted from the bytes, which lie in the file; the shape was checked against them.
    let (values, size) = dtype.block();
    let len = bytes.len() / size * values;
    let mut out = Vec::new();
    out.try_reserve_exact(len)
        .map_err(|_| FormatError::Memory { tensor: tensor.into(), bytes: 4 * len as u64 })?;
    out.resize(len, 0.0);
    match convert::to_f32(dtype, bytes, &mut out) {
        true => Ok(out),
        false => Err(FormatError::NotAWeight { path: path.into(), tensor: tensor.into(), dtype }),
    }
}

fn words<T>(bytes: &[u8], value: impl Fn([u8; 2]) -> T) -> Vec<T> {
    bytes.as_chunks::<2>().0.iter().map(|b| value(*b)).collect()
}

fn open_hf_folder(folder: &Path) -> Result<ModelFiles> {
    let config = read_object(&folder.join("config.json"))?;
    let generation_path = folder.join("generation_config.json");
    let generation_config =
        generation_path.exists().then(|| read_object(&generation_path)).transpose()?;
    let (mut files, mut tensors) = (Vec::new(), Vec::new());
    for (file, shard) in open_shards(folder)?.into_iter().enumerate() {
        for ShardTensor { info, begin, rows } in shard.tensors {
            tensors.push((info, Place { file, begin, rows }));
        }
        files.push(shard.file);
    }
    assemble(folder, config, generation_config, files, tensors)
}

fn open_gguf(path: &Path) -> Result<ModelFiles> {
    let gguf = Gguf::open(path)?;
    let view = hf::view(&gguf)?;
    assemble(path, view.config, Some(view.generation_config), vec![gguf.file], view.tensors)
}

/// Puts the parts together; a name that two files hold is refused.
///
/// A checkpoint of the bare decoder, as BLOOM's on the hub, gets the names of the whole model.
fn assemble(
    path: &Path,
    config: Value,
    generation_config: Option<Value>,
    files: Vec<MappedFile>,
    mut tensors: Vec<(TensorInfo, Place)>,
) -> Result<ModelFiles> {
    families::complete_names(&config, tensors.iter_mut().map(|(info, _)| &mut info.name).collect());
    let mut names = HashSet::with_capacity(tensors.len());
    for (info, _) in &tensors {
        if !names.insert(info.name.as_str()) {
            return Err(FormatError::DuplicateTensor {
                path: path.into(),
                tensor: info.name.clone(),
            });
        }
    }
    let (tensors, packed) = bitsandbytes::fold(&files, tensors)?;
    let by_name = tensors.iter().enumerate().map(|(i, (t, _))| (t.name.clone(), i)).collect();
    let (tensors, places) = tensors.into_iter().unzip();
    let path = path.into();
    let id = OnceLock::new();
    Ok(ModelFiles { path, config, generation_config, files, tensors, places, by_name, packed, id })
}

pub(super) fn read_object(path: &Path) -> Result<Value> {
    let value: Value = json::read(path, json::CONFIG_BYTES_MAX)?;
    match value.is_object() {
        true => Ok(value),
        false => Err(FormatError::ConfigNotObject { path: path.into() }),
    }
}
