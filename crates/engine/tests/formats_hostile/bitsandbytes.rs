//! Weights that bitsandbytes saved in 4 bits, each part of them missing, of another size, or lying.

use crate::support::{TempDir, golden, le_bytes};
use engine::Code;
use engine::formats::ModelFiles;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

const WEIGHT: &str = "model.layers.0.mlp.down_proj.weight";
const STATE: &str = "quant_state.bitsandbytes__nf4";

type Tensors = Vec<(String, Dtype, Vec<usize>, Vec<u8>)>;

/// The tensors of the golden with double quantisation.
fn tensors() -> Tensors {
    let bytes = std::fs::read(golden("bitsandbytes/nested/model.safetensors")).expect("a golden");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let owned = |(name, view): (&str, TensorView)| {
        (name.to_owned(), view.dtype(), view.shape().to_vec(), view.data().to_vec())
    };
    file.iter().map(owned).collect()
}

/// A model of these tensors.
fn saved(tensors: &Tensors) -> TempDir {
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (name, TensorView::new(*dtype, shape.clone(), data).expect("a tensor"))
    });
    let folder = TempDir::new();
    folder.write("config.json", "{\"model_type\": \"llama\"}");
    folder.write("model.safetensors", safetensors::serialize(views, None).expect("bytes"));
    folder
}

/// What is said of the golden after a change, without its place.
fn refused(change: &dyn Fn(&mut Tensors)) -> String {
    let mut tensors = tensors();
    change(&mut tensors);
    let folder = saved(&tensors);
    let path = folder.0.join("model.safetensors");
    let error = ModelFiles::open(&folder.0).expect_err("the file is damaged");
    assert_eq!(error.code(), Code::ModelFiles);
    assert!(!error.hint().is_empty());
    let start = format!("{}: tensor `{WEIGHT}`: ", path.display());
    let text = error.to_string();
    text.strip_prefix(&start).unwrap_or_else(|| panic!("{text}")).to_owned()
}

fn part<'a>(tensors: &'a mut Tensors, part: &str) -> &'a mut (String, Dtype, Vec<usize>, Vec<u8>) {
    let name = if part.is_empty() { WEIGHT.to_owned() } else { format!("{WEIGHT}.{part}") };
    tensors.iter_mut().find(|t| t.0 == name).unwrap_or_else(|| panic!("no {name}"))
}

fn set(tensor: &mut (String, Dtype, Vec<usize>, Vec<u8>), dtype: Dtype, data: Vec<u8>) {
    let size = if dtype == Dtype::F32 { 4 } else { 1 };
    (tensor.1, tensor.2, tensor.3) = (dtype, vec![data.len() / size], data);
}

/// The golden with other JSON: `from` replaced by `to`.
fn lie(from: &str, to: &str) -> String {
    refused(&|tensors| {
        let state = part(tensors, STATE);
        let text = String::from_utf8(state.3.clone()).expect("JSON");
        assert!(text.contains(from), "{text}");
        set(state, Dtype::U8, text.replace(from, to).into_bytes());
    })
}

#[test]
fn a_missing_part_is_named() {
    for name in ["absmax", "quant_map", "nested_absmax", "nested_quant_map", STATE] {
        let gone = format!("{WEIGHT}.{name}");
        let said = refused(&|tensors| tensors.retain(|t| t.0 != gone));
        // Which type it would have been of is not known.
        let name = if name == STATE { "quant_state" } else { name };
        assert_eq!(said, format!("its part `{name}` is missing"));
    }
    let said = refused(&|tensors| tensors.retain(|t| t.0 != WEIGHT));
    assert_eq!(said, "its part `weight` is missing");
}

#[test]
fn a_part_of_another_size_or_type_is_refused() {
    for (name, dtype, bytes, needed) in [
        ("", Dtype::U8, 71, "its part `weight` has 71 bytes in U8, needed are 72 in any dtype"),
        ("", Dtype::U8, 73, "its part `weight` has 73 bytes in U8, needed are 72 in any dtype"),
        ("absmax", Dtype::U8, 2, "its part `absmax` has 2 bytes in U8, needed are 3 in U8"),
        ("absmax", Dtype::F32, 12, "its part `absmax` has 12 bytes in F32, needed are 3 in U8"),
        (
            "quant_map",
            Dtype::F32,
            60,
            "its part `quant_map` has 60 bytes in F32, needed are 64 in F32",
        ),
        (
            "nested_absmax",
            Dtype::F32,
            8,
            "its part `nested_absmax` has 8 bytes in F32, needed are 4 in F32",
        ),
        (
            "nested_absmax",
            Dtype::F32,
            0,
            "its part `nested_absmax` has 0 bytes in F32, needed are 4 in F32",
        ),
        (
            "nested_quant_map",
            Dtype::F32,
            1020,
            "its part `nested_quant_map` has 1020 bytes in F32, needed are 1024 in F32",
        ),
    ] {
        assert_eq!(refused(&|t| set(part(t, name), dtype, vec![0; bytes])), needed);
    }
}

#[test]
fn json_that_lies_is_refused_by_its_key() {
    for (from, to, said) in [
        (
            "[11, 13]",
            "[11, 14]",
            "its part `weight` has 72 bytes in U8, needed are 77 in any dtype",
        ),
        ("[11, 13]", "[143]", "its quant_state has shape [143], needed is [rows, columns]"),
        ("[11, 13]", "[0, 13]", "its quant_state has shape [0, 13], needed is [rows, columns]"),
        (
            "[11, 13]",
            "[4294967296, 4294967296]",
            "its quant_state has shape [4294967296, 4294967296], needed is [rows, columns]",
        ),
        (
            "\"blocksize\": 64",
            "\"blocksize\": 0",
            "its quant_state has blocksize 0, needed is 1 to 65536",
        ),
        (
            "\"blocksize\": 64",
            "\"blocksize\": 32",
            "its part `absmax` has 3 bytes in U8, needed are 5 in U8",
        ),
        (
            "\"nested_blocksize\": 256",
            "\"nested_blocksize\": 128",
            "its quant_state has nested_blocksize 128, needed is 256",
        ),
        (
            "\"nested_blocksize\": 256",
            "\"none\": 256",
            "its part `absmax` has 3 bytes in U8, needed are 12 in F32",
        ),
        (
            "\"nested_offset\"",
            "\"offset\"",
            "its quant_state has nested_offset missing, needed is a number of f32",
        ),
        (
            "\"nf4\"",
            "\"fp4\"",
            "its quant_state has quant_type \"fp4\", needed is \"nf4\", as in the part's name",
        ),
        (
            "\"blocksize\": 64",
            "\"blocksize\": -1",
            "its quant_state is not the JSON that bitsandbytes writes: invalid value: integer `-1`, expected usize",
        ),
    ] {
        assert_eq!(lie(from, to), said);
    }
    assert!(lie("\"blocksize\": 64", "\"blocksize\"").contains("not the JSON"), "cut");
    let long = format!("\"blocksize\": 64, \"more\": \"{}\"", "x".repeat(8000));
    assert!(lie("\"blocksize\": 64", &long).contains("bytes are too many"));
}

#[test]
fn other_codes_and_tables_are_refused() {
    let said = refused(&|tensors| {
        part(tensors, STATE).0 = format!("{WEIGHT}.quant_state.bitsandbytes__af4");
    });
    assert_eq!(said, "its 4-bit codes are of the type \"af4\", only NF4 and FP4 can be read");
    // NF4's table with what says that it is FP4.
    let said = refused(&|tensors| {
        let state = part(tensors, STATE);
        let text = String::from_utf8(state.3.clone()).expect("JSON").replace("nf4", "fp4");
        (state.0, state.3) = (state.0.replace("nf4", "fp4"), text.into_bytes());
    });
    assert_eq!(said, "its part `quant_map` is not the table that it should be");
    let said = refused(&|tensors| {
        let table: Vec<f32> = (0..16).map(|i| i as f32 / 8.0 - 1.0).collect();
        part(tensors, "quant_map").3 = le_bytes(&table);
    });
    assert_eq!(said, "its part `quant_map` is not the table that it should be");
    let said = refused(&|tensors| {
        part(tensors, "nested_quant_map").3[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    assert_eq!(said, "its part `nested_quant_map` is not the table that it should be");
}

/// Twice the table with half of the maxima is the same: whatever table the file brings is computed with.
#[test]
fn maxima_in_codes_of_another_table_have_the_same_values() {
    let read = |tensors: &Tensors| {
        let folder = saved(tensors);
        ModelFiles::open(&folder.0).expect("opens").read_f32(WEIGHT).expect("values").1
    };
    let mut tensors = tensors();
    let expected = read(&tensors);
    for (name, factor) in [("nested_quant_map", 2.0), ("nested_absmax", 0.5)] {
        let bytes = &mut part(&mut tensors, name).3;
        let values = bytes.as_chunks::<4>().0.iter().map(|b| factor * f32::from_le_bytes(*b));
        *bytes = le_bytes(&values.collect::<Vec<f32>>());
    }
    assert!(read(&tensors).iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()));
}
