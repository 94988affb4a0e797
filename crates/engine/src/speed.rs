//! The machine's speed of matrix products, measured once: by `doctor`, which keeps it in the user's
//! cache folder, else by whoever asks first, for the life of the process. Decides nothing but the time
//! that a plan names; a file that can't be read or written is as good as none.

use crate::ctx::Ctx;
use crate::machine::{DoctorReport, cpu_name, gemm_gflops as measure};
use kernels::gemm::Precision;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

const FILE: &str = "speed.json";
/// Machines that share a home folder, their instruction sets and numbers of threads.
const KEPT_MAX: usize = 64;
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Beyond any machine: such a number was not measured.
const GFLOPS_MAX: f64 = 1e7;
const MEASURED_SECONDS: f64 = 0.2;

/// What a speed belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    cpu: String,
    isa: String,
    precision: String,
    threads: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Speed {
    #[serde(flatten)]
    key: Key,
    gflops: f64,
}

static MEASURED: Mutex<Vec<Speed>> = Mutex::new(Vec::new());

/// GFLOP/s of all threads of the current pool.
pub fn gemm_gflops(ctx: &Ctx) -> f64 {
    let key = key(cpu_name(), ctx.isa.name(), ctx.precision, rayon::current_num_threads());
    // A panic elsewhere while it was locked leaves a list that is still whole.
    let mut measured = MEASURED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(gflops) = find(&measured, &key) {
        return gflops;
    }
    let kept = cache_folder().and_then(|folder| find(&read(&folder), &key));
    let gflops = kept.unwrap_or_else(|| measure(ctx.isa, ctx.precision, MEASURED_SECONDS));
    measured.push(Speed { key, gflops });
    gflops
}

/// Keeps what `doctor` has measured.
pub fn keep(report: &DoctorReport) {
    let Some(folder) = cache_folder() else { return };
    let speed = |precision, gflops| {
        let key = key(report.cpu.clone(), report.isa, precision, report.threads);
        Speed { key, gflops }
    };
    let new = [
        speed(Precision::F32, report.gemm_gflops_f32),
        speed(Precision::Bf16, report.gemm_gflops_bf16),
    ];
    write(&folder, &new);
}

fn key(cpu: String, isa: &str, precision: Precision, threads: usize) -> Key {
    let precision = match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    };
    Key { cpu, isa: isa.into(), precision: precision.into(), threads }
}

fn find(speeds: &[Speed], key: &Key) -> Option<f64> {
    speeds.iter().find(|speed| speed.key == *key).map(|speed| speed.gflops)
}

/// `LORA_TRAIN_CACHE`, else `lora-train` in `XDG_CACHE_HOME`, else in `~/.cache`.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("LORA_TRAIN_CACHE").or_else(|| {
        let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
        Some(cache.join("lora-train"))
    })
}

/// What is kept; nothing where the file is missing, too long, or not what `write` writes.
fn read(folder: &Path) -> Vec<Speed> {
    let text = || {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(folder.join(FILE)).ok()?;
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        serde_json::from_slice::<Vec<Speed>>(&bytes).ok()
    };
    let mut speeds = text().unwrap_or_default();
    speeds.retain(|speed| speed.gflops > 0.0 && speed.gflops < GFLOPS_MAX);
    speeds
}

/// Puts `new` before what is kept under other keys. The file is replaced whole, or stays.
fn write(folder: &Path, new: &[Speed]) {
    let mut speeds = new.to_vec();
    let is_new = |old: &Speed| new.iter().any(|speed| speed.key == old.key);
    speeds.extend(read(folder).into_iter().filter(|old| !is_new(old)));
    speeds.truncate(KEPT_MAX);
    let beside = folder.join(format!("{FILE}.{}.tmp", std::process::id()));
    let written = serde_json::to_vec_pretty(&speeds).ok().and_then(|text| {
        std::fs::create_dir_all(folder).ok()?;
        std::fs::write(&beside, text).ok()?;
        std::fs::rename(&beside, folder.join(FILE)).ok()
    });
    if written.is_none() {
        // Nothing depends on the file; what was begun does not stay.
        let _ = std::fs::remove_file(&beside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempFolder;

    fn speed(threads: usize, gflops: f64) -> Speed {
        Speed { key: key("A processor".into(), "avx2", Precision::F32, threads), gflops }
    }

    #[test]
    fn what_is_kept_is_found_by_its_key_and_replaced() {
        let dir = TempFolder::new();
        let folder = dir.path().join("made");
        write(&folder, &[speed(1, 10.0), speed(2, 20.0)]);
        write(&folder, &[speed(2, 25.0)]);
        let kept = read(&folder);
        assert_eq!(kept, [speed(2, 25.0), speed(1, 10.0)]);
        assert_eq!(find(&kept, &speed(2, 0.0).key), Some(25.0));
        let other = key("A processor".into(), "avx2", Precision::Bf16, 2);
        assert_eq!(find(&kept, &other), None);
        let names: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, [FILE]);
    }

    #[test]
    fn a_broken_file_is_ignored_and_replaced() {
        let dir = TempFolder::new();
        let file = dir.path().join(FILE);
        let long = vec![b'['; 2 * FILE_BYTES_MAX as usize];
        let entry = r#""cpu":"c","isa":"i","precision":"f32","threads":1"#;
        let negative = format!(r#"[{{{entry},"gflops":-3}}]"#);
        let many = format!(r#"[{{{entry},"gflops":1e300}}]"#);
        for broken in
            [&b"{"[..], b"", b"[1]", b"{}", b"\xff", &long, negative.as_bytes(), many.as_bytes()]
        {
            std::fs::write(&file, broken).unwrap();
            assert_eq!(read(dir.path()), []);
        }
        write(dir.path(), &[speed(1, 10.0)]);
        assert_eq!(read(dir.path()), [speed(1, 10.0)]);
    }

    #[test]
    fn a_folder_that_can_not_be_made_does_no_harm() {
        let dir = TempFolder::new();
        let file = dir.path().join("a file");
        std::fs::write(&file, "").unwrap();
        write(&file.join("below"), &[speed(1, 10.0)]);
        assert_eq!(read(&file.join("below")), []);
    }

    #[test]
    fn old_speeds_make_room() {
        let dir = TempFolder::new();
        for threads in 0..KEPT_MAX + 3 {
            write(dir.path(), &[speed(threads, 1.0)]);
        }
        let kept = read(dir.path());
        assert_eq!(kept.len(), KEPT_MAX);
        assert_eq!(kept[0], speed(KEPT_MAX + 2, 1.0));
    }
}
