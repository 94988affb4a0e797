//! Right files with random damage: whatever opens can be read, and nothing panics.

use crate::support::{TempDir, golden, le_bytes, reference_safetensors};
use ::safetensors::Dtype;
use engine::formats::{ModelFiles, Residency};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use std::path::Path;

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

fn open_and_read(path: &Path) {
    if let Ok(model) = ModelFiles::open(path) {
        read_all(&model);
    }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn a_damaged_gguf_never_panics(damage in damage()) {
        let bytes = std::fs::read(golden("gguf/tiny-llama.gguf")).expect("the golden opens");
        let folder = TempDir::new();
        open_and_read(&folder.write("m.gguf", damaged(&bytes, 2600, damage)));
    }

    #[test]
    fn a_damaged_safetensors_never_panics(damage in damage()) {
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

    #[test]
    fn a_damaged_pickle_or_archive_never_panics(damage in damage(), of_pickle in any::<bool>()) {
        let bytes = std::fs::read(golden("bin/mpt-f16/pytorch_model.bin")).expect("the golden opens");
        let folder = TempDir::new();
        folder.write("config.json", "{}");
        // The pickle lies at the beginning, the directory at the end.
        let bytes = match of_pickle {
            true => damaged(&bytes, 1800, damage),
            false => {
                let reversed = |bytes: &[u8]| bytes.iter().rev().copied().collect::<Vec<_>>();
                reversed(&damaged(&reversed(&bytes), 1200, damage))
            }
        };
        folder.write("pytorch_model.bin", bytes);
        open_and_read(&folder.0);
    }
}
