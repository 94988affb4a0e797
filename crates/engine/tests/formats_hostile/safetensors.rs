//! Safetensors: every rule of the header, broken.

use crate::build::file;
use crate::support::TempDir;
use engine::Code;
use engine::formats::safetensors::SafetensorsFile;

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
