//! A step of a large model's width needs its weights, what is trained, and little else.

use serde_json::Value;
use std::process::Command;

/// What the step of a model of all 32 blocks may need beside its weights and what is trained.
const SURPLUS_MAX: u64 = 600 << 20;
/// The input of each block is kept, `[512, 4096]` in f32: blocks that are left out keep none.
const BLOCK_INPUT: u64 = 512 * 4096 * 4;

#[test]
fn four_blocks_of_seven_billion_train_in_their_weights_and_the_adapter() {
    let blocks = 4;
    let output = Command::new(env!("CARGO_BIN_EXE_lora-train-synthetic"))
        .arg(blocks.to_string())
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let bytes = |key: &str| report[key].as_u64().unwrap_or_else(|| panic!("{key} in {report}"));

    // 4096·4096 four times and 4096·11008 three times a block, twice 32000·4096; 4.127 bits a value in
    // the blocks (4, and 8 + 32/256 for 64 values), 16 outside of them.
    let linears = blocks * (4 * 4096 * 4096 + 3 * 4096 * 11008);
    let norms = (2 * blocks + 1) * 4096;
    assert_eq!(bytes("params"), linears + 2 * 32000 * 4096 + norms);
    let nf4 = linears as f64 * (4.0 + (8.0 + 32.0 / 256.0) / 64.0) / 8.0;
    let expected = nf4 + 2.0 * 2.0 * 32000.0 * 4096.0 + 4.0 * norms as f64;
    assert!((bytes("weight_bytes") as f64 / expected - 1.0).abs() < 1e-5, "{report}");
    // r 16 on both sides of each linear, four f32 for each.
    let adapter = blocks * 16 * (4 * (4096 + 4096) + 3 * (4096 + 11008));
    assert_eq!(bytes("trained_bytes"), 16 * adapter);
    // Nothing was learned yet: the loss is near that of even odds.
    let loss = report["loss"].as_f64().expect("a loss");
    assert!((loss - 32000f64.ln()).abs() < 2.0, "{loss}");

    let peak = bytes("peak_rss_bytes");
    if peak == 0 {
        println!("skipped: this system does not say how much memory a process had");
        return;
    }
    let surplus = peak.saturating_sub(bytes("weight_bytes") + bytes("trained_bytes"));
    let surplus_max = SURPLUS_MAX - (32 - blocks) * BLOCK_INPUT;
    println!("{} MiB beside weights and training, of {}", surplus >> 20, surplus_max >> 20);
    assert!(surplus <= surplus_max, "{surplus} bytes of {surplus_max}: {report}");
}
