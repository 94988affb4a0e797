//! Every golden that is there: the project's own always, those beside the checkout where they are.
//! Under `CI=true` a missing one is a failure, elsewhere it is skipped by name.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// `../shared` beside the checkout, or `LORA_TRAIN_SHARED`.
fn shared() -> Option<PathBuf> {
    let path = std::env::var_os("LORA_TRAIN_SHARED")
        .map_or_else(|| root().join("../shared"), PathBuf::from);
    let there = path.join("goldens").is_dir();
    assert!(there || std::env::var_os("CI").is_none(), "{} has no goldens", path.display());
    if !there {
        println!("skipped: the goldens in {} are not there", path.display());
    }
    there.then_some(path)
}

fn check_all(dirs: impl IntoIterator<Item = PathBuf>) {
    let mut failed = vec![];
    for dir in dirs {
        match golden::check(&dir) {
            Ok(report) => {
                println!("{report}");
                if !report.passes() {
                    failed.push(report.to_string());
                }
            }
            Err(error) => failed.push(format!("{}: {error}", dir.display())),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn own_models() {
    let models = root().join("test/goldens/models");
    let entries =
        std::fs::read_dir(&models).expect("the project's own goldens are in the repository");
    let dirs: Vec<PathBuf> = entries.map(|e| e.expect("a readable entry").path()).collect();
    assert!(dirs.len() >= 6, "{dirs:?}");
    check_all(dirs);
}

#[test]
fn shared_models() {
    let Some(shared) = shared() else { return };
    // Not falcon-rw-style: Transformers' eager attention, which made it, adds Falcon's ALiBi twice (to
    // the scores, and inside the mask). The project's own falcon-rw was made without that.
    let models = [
        "bloom",
        "falcon-40b-style",
        "falcon-7b-style",
        "gemma",
        "gpt-neox",
        "llama-gqa-tied",
        "llama-mha",
        "llama3-rope-scaled",
        "mistral",
        "mpt",
        "mpt-clip",
        "qwen2",
        "qwen3",
    ];
    check_all(models.map(|name| shared.join("goldens/models").join(name)));
}

#[test]
fn four_bit_codecs() {
    check_all(["nf4", "fp4"].map(|it| root().join(format!("test/goldens/{it}.safetensors"))));
    let Some(shared) = shared() else { return };
    check_all([shared.join("goldens/nf4.safetensors")]);
}

#[test]
fn optimizer_trajectories() {
    check_all([root().join("test/goldens/adamw.safetensors")]);
    let Some(shared) = shared() else { return };
    check_all([shared.join("goldens/adamw.safetensors")]);
}

#[test]
fn the_real_model() {
    let Some(shared) = shared() else { return };
    if std::env::var_os("LORA_TRAIN_SMOLLM2").is_none() {
        assert!(std::env::var_os("CI").is_none(), "LORA_TRAIN_SMOLLM2 is not set");
        println!("skipped: LORA_TRAIN_SMOLLM2 names no model");
        return;
    }
    check_all([shared.join("goldens/smollm2")]);
}
