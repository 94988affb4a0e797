//! `golden DIR…`: one line a folder with the largest deviations; exit 1 where one is over its bound.

use std::path::Path;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let dirs: Vec<String> = std::env::args().skip(1).collect();
    if dirs.is_empty() {
        eprintln!("usage: npm run golden -- DIR…");
        return ExitCode::from(2);
    }
    let mut passes = true;
    for dir in dirs {
        match golden::check(Path::new(&dir)) {
            Ok(report) => {
                println!("{report}");
                passes &= report.passes();
            }
            Err(error) => {
                println!("FAIL {dir}: {error}");
                passes = false;
            }
        }
    }
    if passes { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
