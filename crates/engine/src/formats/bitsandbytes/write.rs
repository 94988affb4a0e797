//! Writes weights in 4 or 8 bits as bitsandbytes saves them: a safetensors file that it, and we, read.
//!
//! Knows no model. The order of the JSON's keys and the form of its numbers are Python's.

use super::{ABSMAX, FORMAT, NESTED_ABSMAX, NESTED_QUANT_MAP, QUANT_MAP, ROW_ABSMAX, STATE};
use crate::formats::write::{TensorBytes, order, write_atomically, write_safetensors};
use crate::formats::{FormatError, StoredDtype};
use crate::four_bit::FourBitMatrix;
use crate::int8::Int8Matrix;
use crate::signal::Signal;
use crate::weight::Quantized;
use kernels::nf4::{DYNAMIC_CODE, NESTED_BLOCK_SIZE, Scales};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

/// A part of a weight, to be written.
pub struct Part<'a> {
    pub name: String,
    pub dtype: StoredDtype,
    pub shape: Vec<usize>,
    pub bytes: Cow<'a, [u8]>,
}

impl Part<'_> {
    fn tensor(&self) -> TensorBytes<'_> {
        let Part { name, dtype, shape, bytes } = self;
        TensorBytes { name, dtype: *dtype, shape, bytes }
    }
}

/// Writes the weights under their names, with these metadata and a `checksum` of all bytes after the header.
///
/// Errors: what the disk refuses. The file appears whole or not at all. `signal` counts bytes.
pub fn write_packed(
    path: &Path,
    weights: &[(String, Quantized)],
    mut metadata: BTreeMap<String, String>,
    signal: &Signal,
) -> Result<(), FormatError> {
    let parts: Vec<Part> = weights.iter().flat_map(|(name, weight)| parts(name, *weight)).collect();
    let tensors: Vec<TensorBytes> = parts.iter().map(Part::tensor).collect();
    metadata.insert(super::CHECKSUM.into(), checksum(&tensors));
    write_atomically(path, |file| {
        file.watch(signal);
        write_safetensors(file, &tensors, &metadata)
    })
}

/// Of the tensors in the order of the file.
fn checksum(tensors: &[TensorBytes]) -> String {
    let mut hash = blake3::Hasher::new();
    for i in order(tensors.iter().map(|tensor| (tensor.name, tensor.dtype))) {
        hash.update_rayon(tensors[i].bytes);
    }
    hash.finalize().to_hex().to_string()
}

/// The parts of a weight of this name.
pub fn parts<'a>(name: &str, weight: Quantized<'a>) -> Vec<Part<'a>> {
    match weight {
        Quantized::FourBits(matrix) => parts_of_blocks(name, matrix),
        Quantized::Int8(matrix) => parts_of_rows(name, matrix).into(),
    }
}

fn parts_of_rows<'a>(name: &str, matrix: &'a Int8Matrix) -> [Part<'a>; 3] {
    let (rows, cols) = matrix.dims();
    let (codes, absmax) = matrix.parts();
    let module = name.strip_suffix("weight").expect("a module's weight");
    let part = |name: String, dtype, shape: &[usize], bytes| {
        let shape = shape.to_vec();
        Part { name, dtype, shape, bytes }
    };
    let floats = Cow::Borrowed(bytemuck::cast_slice(absmax));
    let bytes = Cow::Borrowed(bytemuck::cast_slice(codes));
    [
        part(name.to_owned(), StoredDtype::I8, &[rows, cols], bytes),
        part(format!("{module}{ROW_ABSMAX}"), StoredDtype::F32, &[rows], floats),
        part(format!("{module}{FORMAT}"), StoredDtype::U8, &[], Cow::Borrowed(&[0])),
    ]
}

fn parts_of_blocks<'a>(name: &str, matrix: &'a FourBitMatrix) -> Vec<Part<'a>> {
    let floats = |values: &'a [f32]| Cow::Borrowed(bytemuck::cast_slice::<f32, u8>(values));
    let part = |suffix: &str, dtype, shape, bytes| {
        let name = if suffix.is_empty() { name.to_owned() } else { format!("{name}.{suffix}") };
        Part { name, dtype, shape, bytes }
    };
    let (codes, scales) = matrix.parts();
    let quant_type = matrix.layout().quant_type;
    let values = quant_type.values();
    let mut parts = vec![
        part("", StoredDtype::U8, vec![codes.len(), 1], Cow::Borrowed(codes)),
        part(QUANT_MAP, StoredDtype::F32, vec![values.len()], floats(values)),
    ];
    let mut offset = None;
    match scales {
        Scales::Plain(absmax) => {
            parts.push(part(ABSMAX, StoredDtype::F32, vec![absmax.len()], floats(absmax)));
        }
        Scales::Nested { codes, absmax2, offset: nested } => {
            let table = floats(&DYNAMIC_CODE);
            parts.extend([
                part(ABSMAX, StoredDtype::U8, vec![codes.len()], Cow::Borrowed(codes)),
                part(NESTED_ABSMAX, StoredDtype::F32, vec![absmax2.len()], floats(absmax2)),
                part(NESTED_QUANT_MAP, StoredDtype::F32, vec![DYNAMIC_CODE.len()], table),
            ]);
            offset = Some(nested);
        }
    }
    let state = state(matrix, offset).into_bytes();
    let name = format!("{name}{STATE}{}", quant_type.name());
    parts.push(Part {
        name,
        dtype: StoredDtype::U8,
        shape: vec![state.len()],
        bytes: Cow::Owned(state),
    });
    parts
}

/// The JSON of a weight, as Python's `json.dumps` writes it. Unpacked values are f32 here.
fn state(matrix: &FourBitMatrix, offset: Option<f32>) -> String {
    let ((rows, cols), layout) = (matrix.dims(), matrix.layout());
    let (quant_type, block) = (layout.quant_type.name(), layout.block_size);
    let nested = offset.map_or(String::new(), |offset| {
        format!(
            ", \"nested_blocksize\": {NESTED_BLOCK_SIZE}, \"nested_dtype\": \"float32\", \"nested_offset\": {}",
            python_number(offset.into())
        )
    });
    format!(
        "{{\"quant_type\": \"{quant_type}\", \"blocksize\": {block}, \"dtype\": \"float32\", \"shape\": [{rows}, {cols}]{nested}}}"
    )
}

/// Python's `repr` of a float: the fewest digits, an exponent of two digits below 1e-4 and from 1e16 on.
fn python_number(value: f64) -> String {
    if value == 0.0 || (1e-4..1e16).contains(&value.abs()) {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text, // no number: NaN or infinity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_python() {
        for (value, text) in [
            (0.6223958134651184, "0.6223958134651184"),
            (1.0, "1.0"),
            (0.0, "0.0"),
            (1e-4, "0.0001"),
            (5.9e-5, "5.9e-05"),
            (-1.25e-12, "-1.25e-12"),
            (1e-100, "1e-100"),
            (1e16, "1e+16"),
            (123456789012345.0, "123456789012345.0"),
        ] {
            assert_eq!(python_number(value), text);
        }
    }
}
