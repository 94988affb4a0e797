//! Checks the parts of a weight in 8 bits when a model's files are opened; a weight that is asked for stays
//! where it lies in the mapped file. Reads no code.

use super::packed::{Part, Reader, bytes_in_memory, floats, mapped};
use super::{FORMAT, PackedFault, ROW_ABSMAX};
use crate::formats::mapped::MappedFile;
use crate::formats::model::bytes;
use crate::formats::{Result, StoredDtype};
use crate::int8::Int8Matrix;
use crate::weight::Values;

/// How a weight ends in bitsandbytes' int8 layers.
const WEIGHT: &str = ".weight";
/// Rows, one after another: the only `weight_format` that bitsandbytes still writes.
const FORMAT_ROWS: u8 = 0;

/// A weight in 8 bits, its parts checked.
#[derive(Debug)]
pub(in crate::formats) struct PackedRows {
    pub dims: (usize, usize),
    codes: Part,
    absmax: Part,
}

/// The weight that a tensor tells of: codes, or their maxima.
pub(super) fn weight_of((info, _): &Part) -> Option<String> {
    if info.dtype == StoredDtype::I8 && info.name.ends_with(WEIGHT) && info.shape.len() == 2 {
        return Some(info.name.clone());
    }
    let module = info.name.strip_suffix(ROW_ABSMAX)?.strip_suffix('.')?;
    Some(format!("{module}{WEIGHT}"))
}

impl Reader<'_> {
    pub fn rows(&self) -> Result<PackedRows> {
        let codes = self.codes()?;
        let shape = || self.fault(PackedFault::Shape(codes.0.shape.clone()));
        let &[rows, cols] = codes.0.shape.as_slice() else { return Err(shape()) };
        let n = rows.checked_mul(cols).filter(|&n| n > 0).ok_or_else(shape)?;
        self.check_size("weight", codes, StoredDtype::I8, n)?;
        let absmax = self.beside(ROW_ABSMAX);
        let absmax = absmax.ok_or_else(|| self.fault(PackedFault::Lacks(ROW_ABSMAX)))?;
        self.check_size(ROW_ABSMAX, absmax, StoredDtype::F32, rows)?;
        if let Some(format) = self.beside(FORMAT) {
            self.check_format(format)?;
        }
        Ok(PackedRows { dims: (rows, cols), codes: codes.clone(), absmax: absmax.clone() })
    }

    fn check_format(&self, format: &Part) -> Result<()> {
        self.check_size(FORMAT, format, StoredDtype::U8, 1)?;
        match *bytes(self.files, &format.0, &format.1)? {
            [FORMAT_ROWS] => Ok(()),
            ref other => Err(self.fault(PackedFault::Format(other[0]))),
        }
    }

    /// A part of the weight's module.
    fn beside(&self, part: &str) -> Option<&Part> {
        let module = self.weight.strip_suffix(WEIGHT)?;
        self.named(&format!("{module}.{part}"))
    }
}

impl PackedRows {
    /// The weight where it lies; parts that lie askew or in another order are copied.
    pub fn matrix(&self, files: &[MappedFile]) -> Result<Int8Matrix> {
        let codes = mapped(files, &self.codes, signed)?;
        let absmax: Values<f32> = mapped(files, &self.absmax, floats)?;
        Ok(Int8Matrix::of_parts(codes, absmax, self.dims))
    }
}

fn signed(files: &[MappedFile], part: &Part) -> Result<Vec<i8>> {
    Ok(bytes_in_memory(files, part)?.into_iter().map(u8::cast_signed).collect())
}
