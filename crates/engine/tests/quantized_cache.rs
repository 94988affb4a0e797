//! The cache of quantised weights: the second start has the bits of the first, and an entry that is damaged,
//! half-written or of other weights is never used.

use engine::ctx::{Ctx, Precision, read};
use engine::decoder::{self, MicroBatch};
use engine::formats::{ModelFiles, PackedFile, StoredDtype};
use engine::model::quantize::{QuantType, QuantizationOptions};
use engine::model::quantized_cache::{CacheOptions, CacheOutcome, CacheReport};
use engine::model::{self, Given, LoadOptions, Method, Model};
use engine::session::plan_only;
use engine::signal::Signal;
use engine::weight::Weight;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// A copy of a small model, and the cache's folder beside it; both go away.
struct World(PathBuf);

impl World {
    fn new() -> World {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("lora-train-quantized-{}-{number}", std::process::id());
        let world = World(std::env::temp_dir().join(name));
        fs::create_dir_all(world.model()).expect("a folder");
        let from =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/goldens/models/llama-bias");
        for name in ["config.json", "model.safetensors"] {
            fs::copy(from.join(name), world.model().join(name)).expect("a copy");
        }
        world
    }

    fn model(&self) -> PathBuf {
        self.0.join("model")
    }

    fn weights(&self) -> PathBuf {
        self.model().join("model.safetensors")
    }

    fn start(&self, quantization: &QuantizationOptions) -> (Model, CacheReport) {
        let files = ModelFiles::open(&self.model()).expect("opens");
        let cache = CacheOptions { dir: Some(self.0.join("cache")) };
        let given = Given { vocab_rows: None, cache: Some(&cache) };
        let load =
            LoadOptions { method: &Method::Frozen, quantization: Some(quantization), seed: 0 };
        let ctx = Ctx::cpu(Precision::F32);
        let signal = Signal::default();
        let loaded = model::load_given(&ctx, &files, load, given, &signal).expect("loads");
        let (done, total) = signal.progress();
        // An estimate from above, for the tables: in weights of a real size they don't show.
        assert!(done <= total && total < done * 4 / 3, "counted {done} of {total}");
        (loaded.model, loaded.cache.expect("something is quantised"))
    }

    fn entries(&self) -> Vec<PathBuf> {
        let folder = fs::read_dir(self.0.join("cache")).expect("the cache");
        folder.map(|entry| entry.expect("an entry").path()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn options(quant_type: QuantType, double_quant: bool, skip: &[&str]) -> QuantizationOptions {
    let skip_modules = skip.iter().map(|&name| name.to_owned()).collect();
    QuantizationOptions::FourBits { quant_type, double_quant, block_size: 64, skip_modules }
}

fn nf4(double_quant: bool, skip: &[&str]) -> QuantizationOptions {
    options(QuantType::Nf4, double_quant, skip)
}

fn int8(skip: &[&str]) -> QuantizationOptions {
    QuantizationOptions::Int8 { skip_modules: skip.iter().map(|&name| name.to_owned()).collect() }
}

fn logits(model: &mut Model) -> Vec<u32> {
    let ids = vec![3, 1, 4, 1, 5, 9, 2, 6];
    let batch = MicroBatch { labels: vec![-100; 8], ids, seq_starts: vec![0, 5, 8] };
    let logits = decoder::logits(model, &batch, &Signal::default()).expect("logits");
    let values = read::<f32, _>(&logits, <[f32]>::to_vec).expect("values");
    values.into_iter().map(f32::to_bits).collect()
}

#[test]
fn the_second_start_has_the_bits_of_the_first() {
    let both = |quant_type| [true, false].map(|nested| options(quant_type, nested, &["o_proj"]));
    for options in QuantType::ALL.into_iter().flat_map(both).chain([int8(&["o_proj"])]) {
        let world = World::new();
        let (mut first, written) = world.start(&options);
        assert_eq!((written.outcome, written.reason), (CacheOutcome::Written, None));
        let (mut second, found) = world.start(&options);
        assert_eq!((found.outcome, &found.path), (CacheOutcome::Read, &written.path));
        assert_eq!(world.entries(), [written.path]);
        for (a, b) in first.block_linears().zip(second.block_linears()) {
            assert_eq!(a.weight.bytes(), b.weight.bytes());
            let packed = |weight: &Weight| weight.quantized().is_some();
            assert_eq!(packed(&a.weight), !a.name.ends_with("o_proj"));
            assert_eq!(packed(&a.weight), packed(&b.weight), "{}", a.name);
        }
        assert_eq!(logits(&mut first), logits(&mut second));
        assert_eq!(first.base_params, second.base_params);
        assert!(second.unused_tensors.is_empty());
    }
}

/// Bitsandbytes' own form: the file is read as part of any model.
#[test]
fn an_entry_is_a_file_of_bitsandbytes_form() {
    for (options, dtype) in [
        (nf4(true, &[]), StoredDtype::Nf4),
        (options(QuantType::Fp4, true, &[]), StoredDtype::Fp4),
        (int8(&[]), StoredDtype::Int8),
    ] {
        let world = World::new();
        let (model, report) = world.start(&options);
        fs::copy(&report.path, world.weights()).expect("a copy");
        let files = ModelFiles::open(&world.model()).expect("opens");
        assert_eq!(files.tensors().len(), model.block_linears().count());
        for linear in model.block_linears() {
            let name = format!("{}.weight", linear.name);
            assert_eq!(files.info(&name).map(|info| info.dtype), Some(dtype));
            let expected = linear.weight.with_elements(|e| e.to_f32()).expect("values");
            let (_, values) = files.read_f32(&name).expect("values");
            assert!(values.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}

#[test]
fn other_options_and_other_weights_have_entries_of_their_own() {
    let world = World::new();
    let outcome = |options: &QuantizationOptions| world.start(options).1.outcome;
    assert_eq!(outcome(&nf4(true, &[])), CacheOutcome::Written);
    assert_eq!(outcome(&nf4(false, &[])), CacheOutcome::Written);
    assert_eq!(outcome(&options(QuantType::Fp4, true, &[])), CacheOutcome::Written);
    assert_eq!(outcome(&int8(&[])), CacheOutcome::Written);
    assert_eq!(outcome(&nf4(true, &["o_proj"])), CacheOutcome::Written);
    assert_eq!(outcome(&nf4(true, &[])), CacheOutcome::Read);

    // One byte of the last page, and the file's time as before.
    let modified = fs::metadata(world.weights()).expect("the file").modified().expect("its time");
    let changed = |at: usize, time: SystemTime| {
        let mut bytes = fs::read(world.weights()).expect("the file");
        bytes[at] ^= 1;
        fs::write(world.weights(), bytes).expect("written");
        let file = File::options().write(true).open(world.weights()).expect("the file");
        file.set_modified(time).expect("its time is set");
    };
    let files = ModelFiles::open(&world.model()).expect("opens");
    let middle = fs::read(world.weights()).expect("the file").len() / 2;
    drop(files);
    changed(middle, modified);
    let sampled = outcome(&nf4(true, &[]));
    assert_eq!(sampled, CacheOutcome::Written, "every page of so small a model counts");
    changed(middle, modified);
    assert_eq!(outcome(&nf4(true, &[])), CacheOutcome::Read, "the first one again");
    // Another time alone is another file.
    changed(0, modified + Duration::from_secs(1));
    changed(0, modified + Duration::from_secs(1));
    assert_eq!(outcome(&nf4(true, &[])), CacheOutcome::Written);
}

#[test]
fn a_damaged_entry_is_removed_and_made_again() {
    let world = World::new();
    let options = nf4(true, &[]);
    let (mut model, report) = world.start(&options);
    let (expected, whole) = (logits(&mut model), fs::read(&report.path).expect("the entry"));
    let mut damaged = vec![whole[..whole.len() - 1].to_vec(), vec![], b"text".to_vec()];
    for at in [9, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        damaged.push(whole.clone());
        damaged.last_mut().expect("it was pushed")[at] ^= 4;
    }
    for bytes in damaged {
        fs::write(&report.path, bytes).expect("damaged");
        assert!(PackedFile::open(&report.path).is_err());
        let (mut model, again) = world.start(&options);
        assert_eq!(again.outcome, CacheOutcome::Written);
        assert_eq!(logits(&mut model), expected);
        assert_eq!(fs::read(&report.path).expect("the entry"), whole, "the same bytes");
    }
    // A whole entry of other weights, under this name.
    let (_, other) = world.start(&nf4(false, &[]));
    fs::copy(&other.path, &report.path).expect("a copy");
    assert_eq!(world.start(&options).1.outcome, CacheOutcome::Written);
    assert_eq!(fs::read(&report.path).expect("the entry"), whole);
}

/// The plan of the first start holds for the next: only the place changes.
#[test]
fn a_plan_tells_that_kept_weights_are_pages_of_a_file() {
    let world = World::new();
    let plan = |quantization: &Value, question: Value| {
        let options = json!({
            "model": world.model(), "computeDtype": "f32", "seed": 0, "method": { "kind": "none" },
            "quantization": quantization,
            "quantizedCache": { "dir": world.0.join("cache") },
            "optimizer": {
                "kind": "adamw", "paged": false, "stateDir": null,
                "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weightDecay": 0.0, "maxGradNorm": 0.0,
            },
            "plan": { "seqLength": 16, "microBatch": 1, "gradientAccumulation": 1 },
            "question": question,
        });
        let options = serde_json::from_value(options).expect("the bridge's options");
        plan_only(&options).expect("a plan")
    };
    let in_4_bits = json!({
        "kind": "fourBits", "quantType": "nf4", "doubleQuant": true, "blockSize": 64,
        "skipModules": [],
    });
    let in_8_bits = json!({ "kind": "int8", "skipModules": [] });
    for (asked, options) in [(in_4_bits, nf4(true, &[])), (in_8_bits, int8(&[]))] {
        let first = plan(&asked, Value::Null);
        let (model, _) = world.start(&options);
        let kept: usize = model.block_linears().map(|linear| linear.weight.bytes()).sum();
        let here = json!({ "devices": null, "offload": null });
        for next in [plan(&asked, Value::Null), plan(&asked, here)] {
            assert_eq!(next.mapped.weights, first.mapped.weights + kept as u64);
            assert_eq!((next.bytes, next.peak_bytes), (first.bytes, first.peak_bytes));
        }
        let elsewhere = plan(&asked, json!({ "devices": [1u64 << 34], "offload": null }));
        assert_eq!(elsewhere.mapped, first.mapped);
    }
}

#[test]
fn a_new_entry_removes_those_that_no_start_has_used_for_long() {
    let world = World::new();
    let [used, unused, new] = [nf4(true, &[]), nf4(false, &[]), nf4(true, &["o_proj"])];
    let [used_path, unused_path] = [&used, &unused].map(|options| world.start(options).1.path);
    let age = |path: &Path, time: SystemTime| {
        let file = File::options().write(true).open(path).expect("the entry");
        file.set_modified(time).expect("its time is set");
    };
    age(&used_path, SystemTime::UNIX_EPOCH);
    let (mut mapped, report) = world.start(&used);
    assert_eq!((report.outcome, report.removed), (CacheOutcome::Read, 0));
    let (mut still_mapped, report) = world.start(&unused);
    assert_eq!((report.outcome, report.removed), (CacheOutcome::Read, 0), "nothing new");
    let expected = [logits(&mut mapped), logits(&mut still_mapped)];
    age(&unused_path, SystemTime::UNIX_EPOCH);
    let bytes = fs::metadata(&unused_path).expect("the entry").len();

    let (_, report) = world.start(&new);
    assert_eq!((report.outcome, report.reason), (CacheOutcome::Written, None));
    assert_eq!((report.removed, report.removed_bytes), (1, bytes));
    assert!(used_path.exists() && !unused_path.exists());
    assert_eq!([logits(&mut mapped), logits(&mut still_mapped)], expected, "what is mapped stays");
}

#[test]
fn a_place_that_can_not_be_written_ends_no_run() {
    let world = World::new();
    fs::write(world.0.join("cache"), "a file").expect("written");
    let (mut model, report) = world.start(&nf4(true, &[]));
    assert_eq!(report.outcome, CacheOutcome::Failed);
    assert!(report.reason.is_some_and(|reason| reason.contains("cache")), "it is named");
    assert_eq!(logits(&mut model).len(), 8 * model.spec.vocab_size);
}
