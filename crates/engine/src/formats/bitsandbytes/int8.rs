//! Checks the parts of a weight in 8 bits when a model's files are opened; a weight that is asked for stays
//! where it lies in the mapped file. Reads no code.

use super::packed::{ByName, Part, bytes_in_memory, floats, mapped, size};
use super::{FORMAT, PackedFault, ROW_ABSMAX};
use crate::formats::mapped::MappedFile;
use crate::formats::model::bytes;
use crate::formats::{FormatError, Result, StoredDtype};
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

/// Finds and checks the parts of one weight.
pub(super) struct Reader<'a> {
    pub files: &'a [MappedFile],
    pub weight: &'a str,
    /// The part that told of it.
    pub found: &'a Part,
    pub by_name: &'a ByName<'a>,
}

impl Reader<'_> {
    pub fn read(&self) -> Result<PackedRows> {
        let lacks = |part| self.fault(PackedFault::Lacks(part));
        let codes = *self.by_name.get(self.weight).ok_or_else(|| lacks("weight"))?;
        let &[rows, cols] = codes.0.shape.as_slice() else {
            return Err(self.fault(PackedFault::Shape(codes.0.shape.clone())));
        };
        let n = rows.checked_mul(cols).filter(|&n| n > 0);
        let n = n.ok_or_else(|| self.fault(PackedFault::Shape(codes.0.shape.clone())))?;
        if codes.0.dtype != StoredDtype::I8 {
            return Err(self.fault(size(&codes.0, "weight", n, StoredDtype::I8.name())));
        }
        let absmax = self.part(ROW_ABSMAX).ok_or_else(|| lacks(ROW_ABSMAX))?;
        if absmax.0.dtype != StoredDtype::F32 || absmax.0.bytes != 4 * rows {
            let needed = StoredDtype::F32.name();
            return Err(self.fault(size(&absmax.0, ROW_ABSMAX, 4 * rows, needed)));
        }
        if let Some(format) = self.part(FORMAT) {
            self.check_format(format)?;
        }
        Ok(PackedRows { dims: (rows, cols), codes: codes.clone(), absmax: absmax.clone() })
    }

    fn check_format(&self, format: &Part) -> Result<()> {
        let (info, place) = format;
        if info.dtype != StoredDtype::U8 || info.bytes != 1 {
            return Err(self.fault(size(info, FORMAT, 1, StoredDtype::U8.name())));
        }
        match *bytes(self.files, info, place)? {
            [FORMAT_ROWS] => Ok(()),
            ref other => Err(self.fault(PackedFault::Format(other[0]))),
        }
    }

    fn part(&self, part: &str) -> Option<&Part> {
        let module = self.weight.strip_suffix(WEIGHT)?;
        self.by_name.get(format!("{module}.{part}").as_str()).copied()
    }

    fn fault(&self, what: PackedFault) -> FormatError {
        let path = self.files[self.found.1.file].path.clone();
        FormatError::Packed { path, tensor: self.weight.into(), what: Box::new(what) }
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
