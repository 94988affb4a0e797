//! Damaged and hostile model files: each is refused with its place, fast, without memory.

#[path = "formats/support.rs"]
mod support;

use engine::Code;
use engine::formats::gguf::Gguf;
use engine::formats::safetensors::SafetensorsFile;
use engine::formats::{FormatError, ModelFiles, Residency};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use safetensors::Dtype;
use std::path::Path;
use support::{TempDir, golden, le_bytes, reference_safetensors};

/// A header and its data as a safetensors file.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn refuse(bytes: &[u8]) -> String {
    let folder = TempDir::new();
    let path = folder.write("model.safetensors", bytes);
    let error = SafetensorsFile::open(&path).expect_err("the file is damaged");
    assert_eq!(error.code(), Code::ModelFiles);
    assert!(!error.hint().is_empty());
    let text = error.to_string();
    assert!(text.starts_with(&path.display().to_string()), "{text}");
    assert!(!text.ends_with('.'), "{text}");
    text[path.display().to_string().len()..].to_owned()
}

#[test]
fn damaged_safetensors_are_refused_with_file_tensor_and_byte() {
    let tensor = |name: &str, dtype: &str, shape: &str, begin: u64, end: u64| {
        format!(
            "\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{begin},{end}]}}"
        )
    };
    let one = |dtype: &str, shape: &str, begin, end| {
        format!("{{{}}}", tensor("w", dtype, shape, begin, end))
    };
    let right = one("F32", "[2,3]", 0, 24);
    let end = 8 + right.len();
    let cases: Vec<(Vec<u8>, String)> = vec![
        (vec![], ": ends at byte 0, inside the header's length, which reaches to byte 8".into()),
        (
            vec![1, 2, 3],
            ": ends at byte 3, inside the header's length, which reaches to byte 8".into(),
        ),
        (
            (1u64 << 45).to_le_bytes().to_vec(),
            ", byte 0: promises 35184372088832 bytes for the header; the limit is 16777216".into(),
        ),
        (
            u64::MAX.to_le_bytes().to_vec(),
            ", byte 0: promises 18446744073709551615 bytes for the header; the limit is 16777216"
                .into(),
        ),
        (
            100u64.to_le_bytes().to_vec(),
            ": ends at byte 8, inside the header, which reaches to byte 108".into(),
        ),
        (
            file("{\"w\":!}", 0),
            ", byte 13: the header is not what safetensors writes: expected value".into(),
        ),
        (
            file("[]", 0),
            ", byte 8: the header is not what safetensors writes: \
             invalid type: sequence, expected an object of tensors"
                .into(),
        ),
        (
            file(&one("F32", "[1,1,1,1,1,1,1,1,1]", 0, 4), 4),
            ", byte 54: the header is not what safetensors writes: \
             invalid length 9, expected a shape of at most 8 dimensions"
                .into(),
        ),
        (
            file(&right, 20),
            format!(": tensor `w` ends at byte {}, the file at {}", end + 24, end + 20),
        ),
        (
            file(&right, 25),
            format!(": the last tensor ends at byte {}, the file at {}", end + 24, end + 25),
        ),
        (file(&one("F32", "[2,3]", 0, u64::MAX), 24), {
            let len = 8 + one("F32", "[2,3]", 0, u64::MAX).len() + 24;
            format!(": tensor `w` ends at byte 18446744073709551615, the file at {len}")
        }),
        (file(&one("F32", "[2,4]", 0, 24), 24), {
            format!(": tensor `w` of shape [2, 4] in F32 does not fit its 24 bytes at byte {end}")
        }),
        (file(&one("F16", "[2,3]", 0, 24), 24), {
            format!(": tensor `w` of shape [2, 3] in F16 does not fit its 24 bytes at byte {end}")
        }),
        (file(&one("F32", "[4294967296,4294967296,4]", 0, 0), 0), {
            let end = end + "[4294967296,4294967296,4]".len() - "[2,3]".len() - 1;
            format!(
                ": tensor `w` of shape [4294967296, 4294967296, 4] in F32 does not fit its 0 bytes at byte {end}"
            )
        }),
        (
            file(&one("F4", "[2,3]", 0, 3), 3),
            ": tensor `w` has the dtype F4, which is not known".into(),
        ),
        (
            file(
                &format!(
                    "{{{},{}}}",
                    tensor("w", "U8", "[4]", 0, 4),
                    tensor("w", "U8", "[4]", 4, 8)
                ),
                8,
            ),
            ": tensor `w` is there twice".into(),
        ),
        (
            file(
                &format!(
                    "{{{},{}}}",
                    tensor("a", "U8", "[4]", 0, 4),
                    tensor("b", "U8", "[4]", 2, 6)
                ),
                8,
            ),
            {
                let start = 8 + 2 * tensor("a", "U8", "[4]", 0, 4).len() + 3;
                format!(
                    ": tensor `b` begins at byte {}, the one before it ends at {}",
                    start + 2,
                    start + 4
                )
            },
        ),
        (file(&one("U8", "[4]", 4, 8), 8), {
            let start = 8 + one("U8", "[4]", 4, 8).len();
            format!(": tensor `w` begins at byte {}, the one before it ends at {start}", start + 4)
        }),
    ];
    for (bytes, expected) in cases {
        assert_eq!(refuse(&bytes), expected);
    }
}

/// Key `general.architecture` = `llama`, then what is given.
fn gguf(n_tensors: u64, n_keys: u64, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend(n_tensors.to_le_bytes());
    bytes.extend(n_keys.to_le_bytes());
    bytes.extend(rest);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn key(name: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&text(name)[..], &kind.to_le_bytes(), value].concat()
}

fn tensor(name: &str, dims: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut bytes = text(name);
    bytes.extend((dims.len() as u32).to_le_bytes());
    bytes.extend(dims.iter().flat_map(|d| d.to_le_bytes()));
    bytes.extend(kind.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

/// A header, padded to the alignment, and data.
fn with_data(mut header: Vec<u8>, data: usize) -> Vec<u8> {
    header.resize(header.len().next_multiple_of(32) + data, 0);
    header
}

#[test]
fn damaged_ggufs_are_refused_with_file_tensor_and_byte() {
    let list = |kind: u32, count: u64| [&kind.to_le_bytes()[..], &count.to_le_bytes()].concat();
    let nested = [list(9, 1), list(9, 1), list(9, 1), list(9, 1), list(9, 1)].concat();
    let n = u64::MAX;
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "byte 0: the file does not begin with GGUF"),
        (b"GGUF".to_vec(), "byte 4: the file ends inside the version"),
        (
            [&b"GGUF"[..], &9u32.to_le_bytes()].concat(),
            "byte 4: GGUF version 9 is not known; 2 and 3 are",
        ),
        (
            [&b"GGUF"[..], &3u32.to_be_bytes()].concat(),
            "byte 4: the file is written for big-endian machines",
        ),
        (
            gguf(n, 0, &[]),
            "byte 8: 18446744073709551615 tensors are more than the 0 that can be there",
        ),
        (
            gguf(0, 1 << 40, &[]),
            "byte 16: 1099511627776 keys are more than the 0 that can be there",
        ),
        (gguf(0, 1, &n.to_le_bytes().repeat(2)), {
            "byte 24: 18446744073709551615 bytes of a key are more than the 8 that can be there"
        }),
        (gguf(0, 1, &key("k", 99, &[0; 8])), "byte 33: value type 99 is not known"),
        (gguf(0, 1, &key("k", 7, &[2])), "byte 37: a truth value is 2"),
        (
            gguf(0, 1, &key("k", 8, &[&1u64.to_le_bytes()[..], &[0xff]].concat())),
            "byte 45: a text is not UTF-8",
        ),
        (gguf(0, 1, &key("k", 8, &n.to_le_bytes())), {
            "byte 37: 18446744073709551615 bytes of a text are more than the 0 that can be there"
        }),
        (gguf(0, 1, &key("k", 9, &list(8, 1 << 50))), {
            "byte 41: 1125899906842624 elements of a list are more than the 0 that can be there"
        }),
        (gguf(0, 1, &key("k", 9, &list(13, 0))), "byte 37: value type 13 is not known"),
        (gguf(0, 1, &key("k", 9, &nested)), "byte 85: lists are nested more than 4 deep"),
        (
            gguf(0, 2, &[key("k", 7, &[0]), key("k", 7, &[0])].concat()),
            "byte 38: the key `k` is there twice",
        ),
        (gguf(0, 1, &key("general.alignment", 4, &24u32.to_le_bytes())), {
            "byte 57: general.alignment is not a power of two from 8 to 65536"
        }),
        (
            gguf(1, 0, &tensor("t", &[4], 16, 0)),
            "byte 24: tensor `t` has the GGML type 16, which can't be read",
        ),
        (gguf(1, 0, &tensor("t", &[1, 1, 1, 1, 1], 0, 0)), {
            "byte 24: 5 dimensions are more than the 4 that can be there"
        }),
        (gguf(1, 0, &tensor("t", &[33], 2, 0)), {
            "byte 24: tensor `t` of shape [33] is no whole number of Q4_0 blocks, or overflows"
        }),
        // Two rows of 16: a whole block, but no whole row.
        (gguf(1, 0, &tensor("t", &[16, 2], 2, 0)), {
            "byte 24: tensor `t` of shape [2, 16] is no whole number of Q4_0 blocks, or overflows"
        }),
        (gguf(1, 0, &tensor("t", &[1 << 40, 1 << 40], 0, 0)), {
            "byte 24: tensor `t` of shape [1099511627776, 1099511627776] is no whole number of F32 blocks, \
             or overflows"
        }),
        (gguf(1, 0, &tensor("t", &[4], 0, 7)), {
            "byte 24: the offset 7 of tensor `t` is no multiple of the alignment 32"
        }),
        (with_data(gguf(1, 0, &tensor("t", &[9], 0, 0)), 32), {
            "byte 24: tensor `t` ends at byte 100, the file at 96"
        }),
        (with_data(gguf(1, 0, &tensor("t", &[1], 0, n - 31)), 32), {
            "byte 24: tensor `t` ends at byte 18446744073709551615, the file at 96"
        }),
        (
            with_data(
                gguf(2, 0, &[tensor("a", &[16], 0, 0), tensor("b", &[8], 0, 32)].concat()),
                64,
            ),
            { "byte 57: tensors `a` and `b` overlap" },
        ),
        (
            with_data(
                gguf(2, 0, &[tensor("a", &[8], 0, 0), tensor("a", &[8], 0, 32)].concat()),
                64,
            ),
            { "byte 57: tensor `a` is there twice" },
        ),
    ];
    let folder = TempDir::new();
    for (bytes, expected) in cases {
        let path = folder.write("model.gguf", bytes);
        let error = Gguf::open(&path).expect_err(expected);
        assert_eq!(error.to_string(), format!("{}, {expected}", path.display()));
        assert_eq!(error.code(), Code::ModelFiles);
        assert!(matches!(ModelFiles::open(&path), Err(FormatError::Gguf { .. })));
    }
}

/// A list of empty texts takes three times its bytes in memory: the budget stops it, not the machine.
#[test]
fn lists_that_would_fill_the_memory_are_refused_by_the_budget() {
    let count = 4u64 << 20;
    let mut header =
        gguf(0, 1, &key("k", 9, &[&8u32.to_le_bytes()[..], &count.to_le_bytes()].concat()));
    header.resize(header.len() + 8 * count as usize, 0);
    let folder = TempDir::new();
    let error = Gguf::open(&folder.write("m.gguf", header)).expect_err("96 MB of metadata");
    assert!(error.to_string().contains("bytes of metadata are more than the 67108864"), "{error}");
}

/// Reads all that a model has, in every way.
fn read_all(model: &ModelFiles) {
    for info in model.tensors() {
        let _ = model.read_f32(&info.name);
        let _ = model
            .matrix(&info.name, Residency::Mapped)
            .map(|w| w.with_elements(|e| e.to_f32().len()));
        let _ = model.matrix(&info.name, Residency::Memory);
        model.release(&info.name);
    }
}

/// A change of a file: bytes overwritten at a place, then perhaps cut.
fn damage() -> impl Strategy<Value = (prop::sample::Index, Vec<u8>, Option<prop::sample::Index>)> {
    let numbers = prop::sample::select(vec![
        0,
        1,
        255,
        1 << 31,
        1 << 40,
        u64::MAX / 2,
        u64::MAX - 7,
        u64::MAX,
    ]);
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..4),
        numbers.prop_map(|n| n.to_le_bytes().to_vec()),
        // Digits, for numbers in JSON.
        "[0-9]{1,3}".prop_map(String::into_bytes),
    ];
    (any::<prop::sample::Index>(), bytes, prop::option::weighted(0.2, any::<prop::sample::Index>()))
}

fn damaged(
    bytes: &[u8],
    header: usize,
    (at, change, cut): (prop::sample::Index, Vec<u8>, Option<prop::sample::Index>),
) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = at.index(header);
    let end = (at + change.len()).min(bytes.len());
    bytes[at..end].copy_from_slice(&change[..end - at]);
    if let Some(cut) = cut {
        bytes.truncate(cut.index(bytes.len()));
    }
    bytes
}

fn config(cases: u32) -> ProptestConfig {
    let failure_persistence = Some(Box::new(FileFailurePersistence::Off) as _);
    ProptestConfig { cases, failure_persistence, ..ProptestConfig::default() }
}

/// The most memory this process ever had, in MB; 0 where the system does not say.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn open_and_read(path: &Path) {
    if let Ok(model) = ModelFiles::open(path) {
        read_all(&model);
    }
    // The tests of this file together; the largest, the list of texts, takes its 64 MB budget and its
    // 32 MB file twice.
    assert!(peak_mb() < 256, "{} MB", peak_mb());
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn a_damaged_gguf_never_panics_nor_fills_the_memory(damage in damage()) {
        let bytes = std::fs::read(golden("gguf/tiny-llama.gguf")).expect("the golden opens");
        let folder = TempDir::new();
        open_and_read(&folder.write("m.gguf", damaged(&bytes, 2600, damage)));
    }

    #[test]
    fn a_damaged_safetensors_never_panics_nor_fills_the_memory(damage in damage()) {
        let bytes = reference_safetensors(&[
            ("model.embed_tokens.weight", Dtype::F32, vec![3, 2], le_bytes(&[1.0; 6])),
            ("model.layers.0.mlp.up_proj.weight", Dtype::BF16, vec![2, 2], vec![1; 8]),
            ("model.norm.weight", Dtype::F64, vec![2], vec![1; 16]),
            ("model.ids", Dtype::I64, vec![2], vec![1; 16]),
        ]);
        let header = 8 + u64::from_le_bytes(*bytes.first_chunk().expect("a header")) as usize;
        let folder = TempDir::new();
        folder.write("config.json", "{}");
        folder.write("model.safetensors", damaged(&bytes, header, damage));
        open_and_read(&folder.0);
    }
}
