//! What the loss of a large vocabulary needs beside its inputs and outputs. A program of its own, with one
//! test: it watches the memory of its process.

use candle_core::{Device, Tensor};
use engine::ctx::{Ctx, Precision};
use engine::ops::head_loss::{HeadLoss, forward_backward};
use engine::weight::Weight;
use half::bf16;

/// BLOOM's.
const VOCAB: usize = 250_880;
/// BLOOM-560m's.
const HIDDEN: usize = 1024;
const ROWS: usize = 2048;
const EXTRA_MAX: u64 = 16_000_000;

/// A line of /proc/self/status in bytes, where the system has it.
fn status(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// From here on VmHWM is the peak since this call; false where the system can't.
fn forget_peak() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Independent values between −scale and scale: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
fn values(seed: u64, n: usize, scale: f32) -> impl Iterator<Item = f32> {
    (0..n as u64).map(move |i| {
        let x = (i ^ (seed << 48)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        scale * ((x >> 40) as f32 / (1 << 23) as f32 - 1.0)
    })
}

#[test]
fn a_vocabulary_of_a_quarter_million_needs_16_mb() -> engine::Result<()> {
    let ctx = Ctx::cpu(Precision::Bf16);
    let head: Vec<bf16> = values(1, VOCAB * HIDDEN, 0.02).map(bf16::from_f32).collect();
    let head = Weight::Tensor(Tensor::from_vec(head, (VOCAB, HIDDEN), &Device::Cpu)?);
    let x = ctx.tensor(values(2, ROWS * HIDDEN, 1.0).collect(), &[ROWS, HIDDEN])?;
    let targets: Vec<(u32, u32)> =
        (0..ROWS).map(|row| (row as u32, (row * 7919 % VOCAB) as u32)).collect();
    let dloss = 1.0 / ROWS as f32;

    let reset = forget_peak();
    let before = status("VmRSS");
    let args = HeadLoss { x: &x, head: &head, targets: &targets, dloss, dhead: None };
    let out = forward_backward(&ctx, args)?;
    let peak = status("VmHWM");

    // Nothing was learned: the loss is near that of even odds.
    let loss = out.loss_sum / ROWS as f64;
    assert!((loss - (VOCAB as f64).ln()).abs() < 1.0, "{loss}");
    assert_eq!(out.dx.dims(), [ROWS, HIDDEN]);
    let (true, Some(before), Some(peak)) = (reset, before, peak) else {
        println!("skipped: this system does not say how much memory a process had");
        return Ok(());
    };
    let dx = (size_of::<f32>() * ROWS * HIDDEN) as u64;
    let extra = peak.saturating_sub(before + dx);
    println!("{extra} bytes beside inputs and outputs");
    assert!(extra > 1 << 20, "{extra} bytes: the buffers were not seen");
    assert!(extra <= EXTRA_MAX, "{extra} bytes of {EXTRA_MAX}");
    Ok(())
}
