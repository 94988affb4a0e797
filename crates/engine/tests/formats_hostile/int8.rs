//! Weights that bitsandbytes saved in 8 bits, each part of them missing, of another size or type, or lying.

use crate::support::TempDir;
use engine::Code;
use engine::formats::{FormatError, ModelFiles, Residency, StoredDtype};
use engine::weight::Layout;
use safetensors::{Dtype, tensor::TensorView};

const MODULE: &str = "model.layers.0.mlp.down_proj";

type Saved = (&'static str, Dtype, Vec<usize>, Vec<u8>);

/// Two rows of three values, as `Linear8bitLt` saves them.
fn parts() -> Vec<Saved> {
    let codes = [127, -64, 0, 1, -127, 2].map(|code: i8| code.cast_unsigned());
    let absmax = [0.5f32, 2.0].map(f32::to_le_bytes);
    vec![
        ("weight", Dtype::I8, vec![2, 3], codes.to_vec()),
        ("SCB", Dtype::F32, vec![2], absmax.as_flattened().to_vec()),
        ("weight_format", Dtype::U8, vec![], vec![0]),
    ]
}

fn open(parts: &[Saved]) -> (TempDir, Result<ModelFiles, FormatError>) {
    let views = parts.iter().map(|(name, dtype, shape, data)| {
        let view = TensorView::new(*dtype, shape.clone(), data).expect("a tensor");
        (format!("{MODULE}.{name}"), view)
    });
    let folder = TempDir::new();
    folder.write("config.json", "{\"model_type\": \"llama\"}");
    folder.write("model.safetensors", safetensors::serialize(views, None).expect("bytes"));
    let files = ModelFiles::open(&folder.0);
    (folder, files)
}

/// What is said of the parts after a change, without its place.
fn refused(change: impl FnOnce(&mut Vec<Saved>)) -> String {
    let mut parts = parts();
    change(&mut parts);
    let (folder, opened) = open(&parts);
    let error = opened.expect_err("the file is damaged");
    assert_eq!(error.code(), Code::ModelFiles);
    assert!(!error.hint().is_empty());
    let path = folder.0.join("model.safetensors");
    let start = format!("{}: tensor `{MODULE}.weight`: ", path.display());
    let text = error.to_string();
    text.strip_prefix(&start).unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[test]
fn whole_parts_are_one_matrix() {
    let mut parts = parts();
    for _ in 0..2 {
        let (_folder, files) = open(&parts);
        let files = files.expect("opens");
        let [info] = files.tensors() else { panic!("{:?}", files.tensors()) };
        assert_eq!((info.shape.as_slice(), info.dtype), (&[2, 3][..], StoredDtype::Int8));
        assert_eq!(files.layout(&info.name), Some(Layout::Int8));
        let want = [0.5, -64.0 * 0.5 / 127.0, 0.0, 2.0 / 127.0, -2.0, 4.0 / 127.0];
        let (shape, values) = files.read_f32(&info.name).expect("values");
        assert_eq!((shape.as_slice(), values.as_slice()), (&[2, 3][..], &want[..]));
        let weight = files.matrix(&info.name, Residency::Mapped).expect("a matrix");
        assert_eq!(weight.with_elements(|e| e.to_f32()).expect("on the CPU"), values);
        parts.retain(|part| part.0 != "weight_format"); // as files of before it are
    }
}

#[test]
fn a_missing_part_is_named() {
    let without = |name| refused(|parts| parts.retain(|part| part.0 != name));
    assert_eq!(without("SCB"), "its part `SCB` is missing");
    assert_eq!(without("weight"), "its part `weight` is missing");
}

#[test]
fn a_part_of_another_size_or_type_is_refused() {
    let cases: [(usize, Dtype, &[usize], usize, &str); 8] = [
        (0, Dtype::F16, &[2, 3], 12, "`weight` has 12 bytes in F16, needed are 6 in I8"),
        (0, Dtype::U8, &[2, 3], 6, "`weight` has 6 bytes in U8, needed are 6 in I8"),
        (1, Dtype::F32, &[3], 12, "`SCB` has 12 bytes in F32, needed are 8 in F32"),
        (1, Dtype::F32, &[0], 0, "`SCB` has 0 bytes in F32, needed are 8 in F32"),
        (1, Dtype::F16, &[4], 8, "`SCB` has 8 bytes in F16, needed are 8 in F32"),
        (1, Dtype::BF16, &[2], 4, "`SCB` has 4 bytes in BF16, needed are 8 in F32"),
        (2, Dtype::U8, &[2], 2, "`weight_format` has 2 bytes in U8, needed are 1 in U8"),
        (2, Dtype::I64, &[], 8, "`weight_format` has 8 bytes in I64, needed are 1 in U8"),
    ];
    for (at, dtype, shape, bytes, said) in cases {
        let found = refused(|parts| {
            let name = parts[at].0;
            parts[at] = (name, dtype, shape.to_vec(), vec![0; bytes]);
        });
        assert_eq!(found, format!("its part {said}"));
    }
}

#[test]
fn codes_that_are_no_matrix_are_refused() {
    for (shape, bytes) in [(vec![6], 6), (vec![1, 2, 3], 6), (vec![0, 3], 0), (vec![2, 0], 0)] {
        let said = format!(
            "its int8 codes have the shape {shape:?}, needed is a matrix that is not empty"
        );
        assert_eq!(refused(|parts| parts[0] = ("weight", Dtype::I8, shape, vec![0; bytes])), said);
    }
}

#[test]
fn codes_in_the_order_of_tensor_cores_are_refused() {
    for format in [1, 2, 3, 255] {
        let said = refused(|parts| parts[2].3 = vec![format]);
        assert_eq!(said, format!("its weight_format is {format}, only 0 (rows) can be read"));
    }
}
