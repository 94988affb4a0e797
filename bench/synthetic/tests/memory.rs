//! A step of a large model's width needs its weights, what is trained, and little else.

use serde_json::Value;
use std::process::Command;

/// What a step of the whole model may need beside its weights and what is trained.
const SURPLUS_MAX: u64 = 600 << 20;
const BLOCKS: u64 = 32;

/// The program's report on a model of so many blocks.
fn measured(blocks: u64) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_lora-train-synthetic"))
        .arg(blocks.to_string())
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn bytes(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("{key} in {report}"))
}

/// Peak memory beside weights, adapter, gradients and states.
fn surplus(report: &Value) -> u64 {
    let held = bytes(report, "weight_bytes") + bytes(report, "trained_bytes");
    bytes(report, "peak_rss_bytes").saturating_sub(held)
}

#[test]
fn a_few_blocks_of_seven_billion_show_what_all_of_them_need() {
    let (few, more) = (2, 6);
    let reports = [few, more].map(measured);
    check_what_is_held(few, &reports[0]);
    if bytes(&reports[0], "peak_rss_bytes") == 0 {
        println!("skipped: this system does not say how much memory a process had");
        return;
    }
    // What a block adds to the surplus, its input before all, it adds 32 times.
    let [at_few, at_more] = [0, 1].map(|i| surplus(&reports[i]));
    let of_block = at_more.saturating_sub(at_few) / (more - few);
    let of_all = at_few + (BLOCKS - few) * of_block;
    println!("{} MiB beside weights and training, {} a block", of_all >> 20, of_block >> 20);
    assert!(of_all <= SURPLUS_MAX, "{of_all} bytes of {SURPLUS_MAX}: {reports:?}");
}

fn check_what_is_held(blocks: u64, report: &Value) {
    // 4096·4096 four times and 4096·11008 three times a block, twice 32000·4096; 4.127 bits a value in
    // the blocks (4, and 8 + 32/256 for 64 values), 16 outside of them.
    let linears = blocks * (4 * 4096 * 4096 + 3 * 4096 * 11008);
    let norms = (2 * blocks + 1) * 4096;
    assert_eq!(bytes(report, "params"), linears + 2 * 32000 * 4096 + norms);
    let nf4 = linears as f64 * (4.0 + (8.0 + 32.0 / 256.0) / 64.0) / 8.0;
    let expected = nf4 + 2.0 * 2.0 * 32000.0 * 4096.0 + 4.0 * norms as f64;
    assert!((bytes(report, "weight_bytes") as f64 / expected - 1.0).abs() < 1e-5, "{report}");
    // r 16 on both sides of each linear, four f32 for each.
    let adapter = blocks * 16 * (4 * (4096 + 4096) + 3 * (4096 + 11008));
    assert_eq!(bytes(report, "trained_bytes"), 16 * adapter);
    // Nothing was learned yet: the loss is near that of even odds.
    let loss = report["loss"].as_f64().expect("a loss");
    assert!((loss - 32000f64.ln()).abs() < 2.0, "{loss}");
}
