//! What this machine has: memory that is free for us, the CPU's name, measured speed.
//! Reads `/proc` and `/sys`; a machine without them is described by what is known.

use crate::ctx::Precision;
use kernels::Isa;
use kernels::gemm::{Elements, Mat, Store, gemm};
use kernels::peak::{copy_gb_per_s, peak_gflops};
use serde::Serialize;
use std::fs::read_to_string;
use std::time::Instant;

/// Total and free bytes; the smaller of the machine's and the control group's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub total_bytes: u64,
    pub free_bytes: u64,
}

/// Memory as the kernel reports it; `None` where it reports nothing.
pub fn memory() -> Option<Memory> {
    let meminfo = read_to_string("/proc/meminfo").ok()?;
    let host = Memory {
        total_bytes: meminfo_bytes(&meminfo, "MemTotal:")?,
        free_bytes: meminfo_bytes(&meminfo, "MemAvailable:")?,
    };
    Some(match cgroup() {
        None => host,
        Some(limit) => Memory {
            total_bytes: host.total_bytes.min(limit.total_bytes),
            free_bytes: host.free_bytes.min(limit.free_bytes),
        },
    })
}

fn meminfo_bytes(meminfo: &str, key: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with(key))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// The limit of this process's control group (version 2, else 1), and what it leaves. The page cache
/// counts as used there, and is given back under pressure.
fn cgroup() -> Option<Memory> {
    let number = |path: &str| read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let stat = |path: &str, key: &str| -> Option<u64> {
        let text = read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.split(' ').next() == Some(key))?;
        line.split(' ').nth(1)?.parse().ok()
    };
    let v2 = || {
        let root = "/sys/fs/cgroup";
        let limit = number(&format!("{root}/memory.max"))?; // "max" is no number: no limit
        let used = number(&format!("{root}/memory.current"))?;
        Some((limit, used, stat(&format!("{root}/memory.stat"), "inactive_file").unwrap_or(0)))
    };
    let v1 = || {
        let root = "/sys/fs/cgroup/memory";
        let limit = number(&format!("{root}/memory.limit_in_bytes"))?;
        let used = number(&format!("{root}/memory.usage_in_bytes"))?;
        Some((
            limit,
            used,
            stat(&format!("{root}/memory.stat"), "total_inactive_file").unwrap_or(0),
        ))
    };
    let (limit, used, cache) = v2().or_else(v1)?;
    Some(Memory {
        total_bytes: limit,
        free_bytes: limit.saturating_sub(used.saturating_sub(cache)),
    })
}

/// The CPU's name from `/proc/cpuinfo`.
pub fn cpu_name() -> String {
    let cpuinfo = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim());
    name.unwrap_or(std::env::consts::ARCH).to_owned()
}

/// What `doctor` prints. Speeds are of all threads of the current pool.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DoctorReport {
    pub cpu: String,
    pub isas: Vec<&'static str>,
    pub isa: &'static str,
    pub threads: usize,
    pub memory_total_bytes: Option<u64>,
    pub memory_free_bytes: Option<u64>,
    pub peak_gflops_f32: f64,
    pub peak_gflops_bf16: f64,
    pub gemm_gflops_f32: f64,
    pub gemm_gflops_bf16: f64,
    pub copy_gb_per_s: f64,
}

/// Measures the machine, in about a second.
pub fn doctor(isa: Isa) -> DoctorReport {
    let memory = memory();
    DoctorReport {
        cpu: cpu_name(),
        isas: Isa::available().into_iter().map(Isa::name).collect(),
        isa: isa.name(),
        threads: rayon::current_num_threads(),
        memory_total_bytes: memory.map(|m| m.total_bytes),
        memory_free_bytes: memory.map(|m| m.free_bytes),
        peak_gflops_f32: peak_gflops(isa, Precision::F32, 0.15),
        peak_gflops_bf16: peak_gflops(isa, Precision::Bf16, 0.15),
        gemm_gflops_f32: gemm_gflops(isa, Precision::F32, 0.2),
        gemm_gflops_bf16: gemm_gflops(isa, Precision::Bf16, 0.2),
        copy_gb_per_s: copy_gb_per_s(0.15),
    }
}

/// The best GFLOP/s of a product of 512 × 1024 × 1024 within `seconds`: the shape of a training step.
pub fn gemm_gflops(isa: Isa, precision: Precision, seconds: f64) -> f64 {
    let (m, n, k) = (512, 1024, 1024);
    let (a, b) = (vec![0.5f32; m * k], vec![0.25f32; k * n]);
    let mut c = vec![0f32; m * n];
    let start = Instant::now();
    let mut best = f64::INFINITY;
    while start.elapsed().as_secs_f64() < seconds {
        let run = Instant::now();
        let (a, b) = (Mat::new(m, k, Elements::F32(&a)), Mat::new(k, n, Elements::F32(&b)));
        gemm(isa, precision, 1.0, a, b, Store::Overwrite, &mut c);
        best = best.min(run.elapsed().as_secs_f64());
    }
    (2 * m * n * k) as f64 / best / 1e9
}
