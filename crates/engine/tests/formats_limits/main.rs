//! The longest files that are taken in, in time and memory. A program of its own, with one test: it watches
//! the memory of its process.

#[expect(dead_code, reason = "what only the small files need")]
#[path = "../formats_hostile/build.rs"]
mod build;
#[expect(dead_code, reason = "what only the small files need")]
#[path = "../formats/support.rs"]
mod support;

use build::{file, gguf, key, torch, unicode, zip};
use engine::formats::gguf::Gguf;
use engine::formats::safetensors::SafetensorsFile;
use engine::formats::torch::TorchFile;
use engine::formats::{FormatError, ModelFiles};
use std::time::Instant;
use support::TempDir;

/// The most memory this process ever had, in MB; 0 where the system does not say.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Pickles and directories as long as they may be, of what takes the most memory for its bytes.
fn torch_files() -> Vec<(&'static str, Vec<u8>)> {
    const MILLION: usize = 1 << 20;
    let text = [&unicode("k")[..], &[0x94]].concat();
    let names: Vec<String> = (0..60_000).map(|i| format!("m/data/{i}")).collect();
    let entries: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let calls = [&b"ccollections\nOrderedDict\nq\0"[..], &b"h\0)R".repeat(MILLION / 3)].concat();
    let items = [&b"}q\0("[..], &b"h\0N".repeat(MILLION / 2 - 3), b"u."].concat();
    vec![
        // A pair of the pair before, and so on: written out, more values than atoms.
        ("laughs", torch(&[&b"Nq\0"[..], &b"h\0h\0\x86q\0".repeat(MILLION / 4)].concat(), &[])),
        ("tuples in tuples", torch(&[b"N", &vec![0x85; MILLION][..]].concat(), &[])),
        ("numbers", torch(&vec![b'N'; MILLION + 1], &[])),
        ("marks", torch(&vec![b'('; MILLION + 1], &[])),
        ("texts", torch(&text.repeat(MILLION / 2 + 1), &[])),
        ("calls", torch(&calls, &[])),
        ("items", torch(&items, &[])),
        ("a long pickle", torch(&vec![b'N'; 17 << 20], &[])),
        ("a long directory", zip(&entries)),
    ]
}

/// The longest files that are taken in, filled with what takes the most memory for its bytes. One after
/// another, so that the peak is of one.
#[test]
fn files_at_the_limits_are_read_or_refused_in_time_and_memory() {
    let folder = TempDir::new();
    for (what, bytes) in torch_files() {
        let path = folder.write("pytorch_model.bin", bytes);
        let start = Instant::now();
        assert!(TorchFile::open(&path).is_err(), "{what}");
        let (peak_mb, took) = (peak_mb(), start.elapsed());
        assert!(peak_mb < 256 && took.as_secs_f64() < 1.0, "{what}: {peak_mb} MB in {took:?}");
        println!("{what}: {peak_mb} MB in {took:?}");
    }
    let start = Instant::now();
    let in_bounds = |what: &str, seconds: f64| {
        assert!(peak_mb() < 256, "{what}: {} MB", peak_mb());
        assert!(start.elapsed().as_secs_f64() < seconds, "{what}: {:?}", start.elapsed());
    };
    // A list of empty texts takes three times its bytes: the budget stops it.
    let count = 4u64 << 20;
    let mut list =
        gguf(0, 1, &key("k", 9, &[&8u32.to_le_bytes()[..], &count.to_le_bytes()].concat()));
    list.resize(list.len() + 8 * count as usize, 0);
    let error = Gguf::open(&folder.write("m.gguf", list)).expect_err("96 MB of metadata");
    assert!(error.to_string().contains("bytes of metadata are more than the 67108864"), "{error}");
    in_bounds("a list", 1.0);
    let filled = |begin: &str, entry: &dyn Fn(usize) -> String, end: &str| {
        let mut text = begin.to_owned();
        for i in 0.. {
            let entry = entry(i);
            if text.len() + entry.len() > (16 << 20) - 64 {
                break;
            }
            text += &entry;
        }
        text.pop();
        text + end
    };
    let tensors = filled(
        "{",
        &|i| format!("\"{i:x}\":{{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}},"),
        "}",
    );
    let error = SafetensorsFile::open(&folder.write("t.safetensors", file(&tensors, 1)))
        .expect_err("overlaps");
    assert!(matches!(error, FormatError::TensorPlace { .. }), "{error}");
    in_bounds("tensors", 3.0);
    drop(tensors);
    let metadata = filled("{\"__metadata__\":{", &|i| format!("\"{i:x}\":\"\","), "}}");
    let read =
        SafetensorsFile::open(&folder.write("m.safetensors", file(&metadata, 0))).expect("texts");
    assert!(read.metadata().len() > 1_000_000);
    drop((read, metadata));
    in_bounds("metadata", 5.0);
    folder.write(
        "model.safetensors.index.json",
        filled("{\"weight_map\":{", &|i| format!("\"{i:x}\":\"s\","), "}}"),
    );
    folder.write("config.json", "{}");
    let error = ModelFiles::open(&folder.0).expect_err("no shard");
    assert!(matches!(error, FormatError::MissingShard { .. }), "{error}");
    in_bounds("an index", 7.0);
    folder.write("config.json", format!("[{}1]", "1,".repeat(2 << 20)));
    let error = ModelFiles::open(&folder.0).expect_err("too long");
    assert!(matches!(error, FormatError::TooLong { .. }), "{error}");
    in_bounds("a config", 7.5);
}
