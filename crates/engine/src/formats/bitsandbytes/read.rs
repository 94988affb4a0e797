//! Checks the parts of a weight in 4 bits when a model's files are opened; a weight that is asked for stays
//! where it lies in the mapped file. Reads no code.

use super::packed::{Part, Reader, bytes_in_memory, floats, mapped, size};
use super::{ABSMAX, NESTED_ABSMAX, NESTED_QUANT_MAP, PackedFault, QUANT_MAP};
use crate::formats::mapped::MappedFile;
use crate::formats::model::bytes;
use crate::formats::{Result, StoredDtype, json};
use crate::four_bit::{FourBitLayout, FourBitMatrix, OwnedScales, QuantType, ScaleBits};
use crate::weight::Values;
use kernels::nf4::{BLOCK_SIZE_MAX, DYNAMIC_CODE, NESTED_BLOCK_SIZE};
use serde::Deserialize;

/// Longest JSON that is read: those that bitsandbytes writes have 200 bytes.
const STATE_BYTES_MAX: usize = 4096;

/// A weight in 4 bits, its parts checked.
#[derive(Debug)]
pub(in crate::formats) struct PackedBlocks {
    pub layout: FourBitLayout,
    pub dims: (usize, usize),
    codes: Part,
    absmax: Part,
    nested: Option<Nested>,
}

#[derive(Debug)]
struct Nested {
    absmax: Part,
    offset: f32,
    table: Vec<f32>,
}

/// The JSON of a weight, as far as it decides about values.
#[derive(Deserialize)]
struct State {
    quant_type: String,
    blocksize: usize,
    shape: Vec<usize>,
    nested_blocksize: Option<usize>,
    nested_offset: Option<f64>,
}

impl State {
    /// `(rows, cols)` and their product.
    fn dims(&self) -> Result<((usize, usize), usize), PackedFault> {
        if !(1..=BLOCK_SIZE_MAX).contains(&self.blocksize) {
            let needed = format!("1 to {BLOCK_SIZE_MAX}");
            return Err(wrong_key("blocksize", self.blocksize, needed));
        }
        let values = match self.shape[..] {
            [rows, cols] => rows.checked_mul(cols).filter(|n| *n > 0).map(|n| ((rows, cols), n)),
            _ => None,
        };
        let shown = || format!("{:?}", &self.shape[..self.shape.len().min(8)]);
        values.ok_or_else(|| wrong_key("shape", shown(), "[rows, columns]".into()))
    }

    /// The offset of nested maxima.
    fn offset(&self) -> Result<f32, PackedFault> {
        let offset = self.nested_offset.map(|offset| offset as f32);
        offset.filter(|offset| offset.is_finite()).ok_or_else(|| {
            let shown = self.nested_offset.map_or("missing".into(), |offset| offset.to_string());
            wrong_key("nested_offset", shown, "a number of f32".into())
        })
    }
}

fn wrong_key(key: &'static str, value: impl ToString, needed: String) -> PackedFault {
    PackedFault::Key { key, value: value.to_string(), needed }
}

impl Reader<'_> {
    pub fn blocks(&self, kind: &str) -> Result<PackedBlocks> {
        let (quant_type, state) = self.state(kind)?;
        let (dims, n) = state.dims().map_err(|fault| self.fault(fault))?;
        let codes = self.codes()?;
        if codes.0.bytes != n.div_ceil(2) {
            return Err(self.fault(size(&codes.0, "weight", n.div_ceil(2), "any dtype")));
        }
        let values = quant_type.values();
        let table = self.floats(self.part(QUANT_MAP, StoredDtype::F32, values.len())?)?;
        if !same_bits(&table, values) {
            return Err(self.fault(PackedFault::Table(QUANT_MAP)));
        }
        let blocks = n.div_ceil(state.blocksize);
        let nested = state.nested_blocksize.map(|size| self.nested(&state, size, blocks));
        let nested = nested.transpose()?;
        let dtype = if nested.is_some() { StoredDtype::U8 } else { StoredDtype::F32 };
        let absmax = self.part(ABSMAX, dtype, blocks)?.clone();
        let scales = match &nested {
            Some(nested) if nested.is_ours() => ScaleBits::Nested,
            _ => ScaleBits::Plain,
        };
        let layout = FourBitLayout { quant_type, block_size: state.blocksize, scales };
        Ok(PackedBlocks { layout, dims, codes: codes.clone(), absmax, nested })
    }

    fn state(&self, kind: &str) -> Result<(QuantType, State)> {
        let other = |kind: &str| self.fault(PackedFault::Kind(kind.to_owned()));
        let quant_type = QuantType::by_name(kind).ok_or_else(|| other(kind))?;
        let (info, place) = self.found;
        let refused = |reason| self.fault(PackedFault::State(reason));
        if info.bytes > STATE_BYTES_MAX {
            return Err(refused(format!("{} bytes are too many", info.bytes)));
        }
        let text = bytes(self.files, info, place)?;
        let state: State =
            serde_json::from_slice(&text).map_err(|error| refused(json::cause(&error)))?;
        if state.quant_type != kind {
            let needed = format!("\"{kind}\", as in the part's name");
            let value = format!("\"{}\"", state.quant_type);
            return Err(self.fault(wrong_key("quant_type", value, needed)));
        }
        Ok((quant_type, state))
    }

    fn nested(&self, state: &State, size: usize, blocks: usize) -> Result<Nested> {
        if size != NESTED_BLOCK_SIZE {
            let needed = NESTED_BLOCK_SIZE.to_string();
            return Err(self.fault(wrong_key("nested_blocksize", size, needed)));
        }
        let offset = state.offset().map_err(|fault| self.fault(fault))?;
        let table = self.part(NESTED_QUANT_MAP, StoredDtype::F32, DYNAMIC_CODE.len())?;
        let table = self.floats(table)?;
        if !table.iter().all(|value| value.is_finite()) {
            return Err(self.fault(PackedFault::Table(NESTED_QUANT_MAP)));
        }
        let n = blocks.div_ceil(NESTED_BLOCK_SIZE);
        let absmax = self.part(NESTED_ABSMAX, StoredDtype::F32, n)?.clone();
        Ok(Nested { absmax, offset, table })
    }

    /// A part of so many values.
    fn part(&self, part: &'static str, dtype: StoredDtype, values: usize) -> Result<&Part> {
        let found = self.named(&format!("{}.{part}", self.weight));
        let found = found.ok_or_else(|| self.fault(PackedFault::Lacks(part)))?;
        self.check_size(part, found, dtype, values)?;
        Ok(found)
    }

    fn floats(&self, part: &Part) -> Result<Vec<f32>> {
        floats(self.files, part)
    }
}

impl PackedBlocks {
    /// The weight where it lies; parts that lie askew or in another order are copied.
    pub fn matrix(&self, files: &[MappedFile]) -> Result<FourBitMatrix> {
        let scales = match &self.nested {
            None => OwnedScales::Plain(mapped(files, &self.absmax, floats)?),
            Some(nested) => {
                let codes = mapped(files, &self.absmax, bytes_in_memory)?;
                let absmax2 = mapped(files, &nested.absmax, floats)?;
                match self.layout.scales {
                    ScaleBits::Nested => {
                        OwnedScales::Nested { codes, absmax2, offset: nested.offset }
                    }
                    ScaleBits::Plain => {
                        OwnedScales::Plain(Values::Memory(nested.unpack(&codes, &absmax2)))
                    }
                }
            }
        };
        let codes = mapped(files, &self.codes, bytes_in_memory)?;
        Ok(FourBitMatrix::of_parts(codes, scales, self.layout, self.dims))
    }
}

impl Nested {
    /// Whether the codes mean what the kernels' own mean.
    fn is_ours(&self) -> bool {
        same_bits(&self.table, &DYNAMIC_CODE)
    }

    /// The maxima of a table that is not the kernels': they are kept in f32, as they are computed with.
    ///
    /// `absmax[b] = table[q[b]] · absmax2[b / 256] + offset`, product and sum rounded one after the other.
    fn unpack(&self, codes: &[u8], absmax2: &[f32]) -> Vec<f32> {
        let blocks = codes.chunks(NESTED_BLOCK_SIZE).zip(absmax2);
        let value = |q: u8, absmax2: f32| self.table[usize::from(q)] * absmax2 + self.offset;
        blocks.flat_map(|(codes, &max)| codes.iter().map(move |&q| value(q, max))).collect()
    }
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.iter().map(|x| x.to_bits()).eq(b.iter().map(|x| x.to_bits()))
}
