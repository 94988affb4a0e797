//! The words that the benchmarks of the kernels take, and what becomes of wrong ones. Measures nothing.

use kernels::Isa;
use rayon::{ThreadPool, ThreadPoolBuilder};

/// `[--json] [--isa NAME]… [--threads N] [--seconds S] [WORD…]`.
pub struct Options {
    pub json: bool,
    /// The best one where none is named.
    pub isas: Vec<Isa>,
    /// 0: as many as there are CPUs.
    pub threads: usize,
    pub seconds: f64,
    pub words: Vec<String>,
}

impl Options {
    /// What the command line says; the process ends with status 2 where that is nothing.
    pub fn read(seconds: f64) -> Options {
        let mut options = Options { json: false, isas: vec![], threads: 0, seconds, words: vec![] };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().unwrap_or_else(|| fail(&format!("{arg} needs a value")));
            match arg.as_str() {
                "--json" => options.json = true,
                "--isa" => {
                    let name = value();
                    let isa = Isa::by_name(&name);
                    options
                        .isas
                        .push(isa.unwrap_or_else(|| fail(&format!("this CPU has no {name}"))));
                }
                "--threads" => options.threads = number(&arg, &value()),
                "--seconds" => options.seconds = number(&arg, &value()),
                option if option.starts_with('-') => fail(&format!("there is no option {option}")),
                _ => options.words.push(arg),
            }
        }
        if options.isas.is_empty() {
            options.isas.push(Isa::best());
        }
        options
    }

    /// Whether a case is to run: its name has one of the words, or there are none.
    pub fn wants(&self, case: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| case.contains(word))
    }
}

/// 0: as many threads as there are CPUs.
pub fn pool(threads: usize) -> ThreadPool {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build();
    pool.unwrap_or_else(|error| fail(&error.to_string()))
}

fn number<T: std::str::FromStr>(option: &str, value: &str) -> T {
    value.parse().unwrap_or_else(|_| fail(&format!("{option} takes a number, not {value}")))
}

fn fail(message: &str) -> ! {
    eprintln!("error: {message}");
    eprintln!("hint: [--json] [--isa NAME]… [--threads N] [--seconds S] [WORD…]");
    std::process::exit(2)
}
