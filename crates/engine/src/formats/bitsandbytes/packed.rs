//! Finds the parts of each weight when a model's files are opened, whatever the bits of its codes, and gives
//! each weight its own shape. Knows no kind of codes from within.

use super::int8::{self, PackedRows};
use super::read::PackedBlocks;
use super::{
    ABSMAX, FORMAT, NESTED_ABSMAX, NESTED_QUANT_MAP, PackedFault, QUANT_MAP, ROW_ABSMAX, STATE,
};
use crate::formats::mapped::MappedFile;
use crate::formats::model::{Place, RowOrder, TensorInfo, bytes, read_values};
use crate::formats::{FormatError, Result, StoredDtype};
use crate::weight::{Layout, Values, Weight};
use bytemuck::AnyBitPattern;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// A tensor as a file has it.
pub(super) type Part = (TensorInfo, Place);

pub(super) type ByName<'a> = HashMap<&'a str, &'a Part>;

/// A weight in few bits, its parts checked.
#[derive(Debug)]
pub(in crate::formats) enum Packed {
    Blocks(PackedBlocks),
    Rows(PackedRows),
}

impl Packed {
    pub fn layout(&self) -> Layout {
        match self {
            Packed::Blocks(packed) => Layout::FourBits(packed.layout),
            Packed::Rows(_) => Layout::Int8,
        }
    }

    /// `(rows, cols)`.
    pub fn dims(&self) -> (usize, usize) {
        match self {
            Packed::Blocks(packed) => packed.dims,
            Packed::Rows(packed) => packed.dims,
        }
    }

    /// The weight where it lies; parts that lie askew or in another order are copied.
    pub fn weight(&self, files: &[MappedFile]) -> Result<Weight> {
        Ok(match self {
            Packed::Blocks(packed) => Weight::FourBits(Arc::new(packed.matrix(files)?)),
            Packed::Rows(packed) => Weight::Int8(Arc::new(packed.matrix(files)?)),
        })
    }

    pub fn to_f32(&self, files: &[MappedFile]) -> Result<Vec<f32>> {
        Ok(match self {
            Packed::Blocks(packed) => packed.matrix(files)?.elements().to_f32(),
            Packed::Rows(packed) => packed.matrix(files)?.elements().to_f32(),
        })
    }

    fn dtype(&self) -> StoredDtype {
        match self {
            Packed::Blocks(packed) => StoredDtype::of_codes(packed.layout.quant_type),
            Packed::Rows(_) => StoredDtype::Int8,
        }
    }
}

/// Takes the parts of weights in few bits out of `tensors`, and gives each weight its own shape.
pub(in crate::formats) fn fold(
    files: &[MappedFile],
    tensors: Vec<Part>,
) -> Result<(Vec<Part>, HashMap<String, Packed>)> {
    let by_name: ByName = tensors.iter().map(|p| (p.0.name.as_str(), p)).collect();
    let mut packed = HashMap::new();
    for part in &tensors {
        if let Some((weight, kind)) = part.0.name.split_once(STATE) {
            let reader = Reader { files, weight, found: part, by_name: &by_name };
            packed.insert(weight.to_owned(), Packed::Blocks(reader.blocks(kind)?));
        } else if let Some(weight) = int8::weight_of(part) {
            let reader = Reader { files, weight: &weight, found: part, by_name: &by_name };
            packed.insert(weight.clone(), Packed::Rows(reader.rows()?));
        }
    }
    for part in &tensors {
        let weight = part.0.name.strip_suffix(ABSMAX).and_then(|name| name.strip_suffix('.'));
        if let Some(weight) = weight.filter(|weight| !packed.contains_key(*weight)) {
            let reader = Reader { files, weight, found: part, by_name: &by_name };
            return Err(reader.fault(PackedFault::Lacks("quant_state")));
        }
    }
    let outer = |(info, place): Part| match packed.get(&info.name) {
        Some(packed) => {
            let (rows, cols) = packed.dims();
            let info = TensorInfo { shape: vec![rows, cols], dtype: packed.dtype(), ..info };
            Some((info, Place { rows: RowOrder::AsIs, ..place }))
        }
        None => (!is_part(&info.name, &packed)).then_some((info, place)),
    };
    Ok((tensors.into_iter().filter_map(outer).collect(), packed))
}

fn is_part(name: &str, packed: &HashMap<String, Packed>) -> bool {
    if let Some((weight, _)) = name.split_once(STATE) {
        return packed.contains_key(weight);
    }
    let Some((owner, part)) = name.rsplit_once('.') else { return false };
    match part {
        ABSMAX | QUANT_MAP | NESTED_ABSMAX | NESTED_QUANT_MAP => packed.contains_key(owner),
        ROW_ABSMAX | FORMAT => packed.contains_key(&format!("{owner}.weight")),
        _ => false,
    }
}

/// Finds and checks the parts of one weight: of blocks in `read.rs`, of rows in `int8.rs`.
pub(super) struct Reader<'a> {
    pub files: &'a [MappedFile],
    pub weight: &'a str,
    /// The part that told of it.
    pub found: &'a Part,
    pub by_name: &'a ByName<'a>,
}

impl<'a> Reader<'a> {
    pub fn codes(&self) -> Result<&'a Part> {
        self.named(self.weight).ok_or_else(|| self.fault(PackedFault::Lacks("weight")))
    }

    /// The tensor of a file.
    pub fn named(&self, name: &str) -> Option<&'a Part> {
        self.by_name.get(name).copied()
    }

    /// Refuses a part that has not so many values of a type whose blocks are one value.
    pub fn check_size(
        &self,
        part: &'static str,
        (found, _): &Part,
        dtype: StoredDtype,
        values: usize,
    ) -> Result<()> {
        // A table's length, or no more than there are codes: the product can't overflow.
        let needed = values * dtype.block().1;
        if found.dtype == dtype && found.bytes == needed {
            return Ok(());
        }
        Err(self.fault(size(found, part, needed, dtype.name())))
    }

    pub fn fault(&self, what: PackedFault) -> FormatError {
        let path = self.files[self.found.1.file].path.clone();
        FormatError::Packed { path, tensor: self.weight.into(), what: Box::new(what) }
    }
}

/// What is wrong with a part of another size or type.
pub(super) fn size(
    found: &TensorInfo,
    part: &'static str,
    needed: usize,
    needed_dtype: &'static str,
) -> PackedFault {
    let TensorInfo { bytes, dtype, .. } = *found;
    PackedFault::Size { part, bytes, dtype, needed, needed_dtype }
}

/// A part in the map, or as `copy` reads it.
pub(super) fn mapped<T: AnyBitPattern>(
    files: &[MappedFile],
    part: &Part,
    copy: fn(&[MappedFile], &Part) -> Result<Vec<T>>,
) -> Result<Values<T>> {
    let (info, Place { file, begin, rows }) = part;
    let there = (*rows == RowOrder::AsIs)
        .then(|| Values::mapped(files[*file].map.clone(), *begin..begin + info.bytes))
        .flatten();
    there.map_or_else(|| Ok(Values::Memory(copy(files, part)?)), Ok)
}

pub(super) fn floats(files: &[MappedFile], (info, place): &Part) -> Result<Vec<f32>> {
    let bytes = bytes(files, info, place)?;
    read_values(&files[place.file].path, &info.name, info.dtype, &bytes)
}

pub(super) fn bytes_in_memory(files: &[MappedFile], (info, place): &Part) -> Result<Vec<u8>> {
    bytes(files, info, place).map(Cow::into_owned)
}
