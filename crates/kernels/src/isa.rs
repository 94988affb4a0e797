//! Instruction sets: one token type per set, made only where the CPU was asked.
//!
//! Holding a token proves that this CPU has the features its name lists, which is what makes the
//! call of a `#[target_feature]` shell sound. Nothing else in the project asks the CPU.

/// Proof of `avx2`, `fma` and `f16c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

/// Proof of `avx512f`, `avx512bw`, `avx512vl`, `avx512dq`, and of all that [`Avx2`] proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(());

/// Proof of `avx512bf16`, and of all that [`Avx512`] proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512Bf16(());

/// Proof of `neon`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neon(());

/// An instruction set that this CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    Portable,
    Avx2(Avx2),
    Avx512(Avx512),
    Avx512Bf16(Avx512Bf16),
    Neon(Neon),
}

impl Isa {
    /// Every set this CPU has, slowest first. Tests run over all of them.
    pub fn available() -> Vec<Isa> {
        let mut sets = vec![Isa::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq");
            let bf16 = avx512 && is_x86_feature_detected!("avx512bf16");
            sets.extend(avx2.then_some(Isa::Avx2(Avx2(()))));
            sets.extend(avx512.then_some(Isa::Avx512(Avx512(()))));
            sets.extend(bf16.then_some(Isa::Avx512Bf16(Avx512Bf16(()))));
        }
        #[cfg(target_arch = "aarch64")]
        sets.push(Isa::Neon(Neon(())));
        sets
    }

    /// The fastest set this CPU has.
    pub fn best() -> Isa {
        Isa::available().pop().unwrap_or(Isa::Portable)
    }

    /// The set of that name (`portable`, `avx2`, `avx512`, `avx512bf16`, `neon`), if this CPU has it.
    pub fn by_name(name: &str) -> Option<Isa> {
        Isa::available().into_iter().find(|isa| isa.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2(_) => "avx2",
            Isa::Avx512(_) => "avx512",
            Isa::Avx512Bf16(_) => "avx512bf16",
            Isa::Neon(_) => "neon",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_set_and_the_best_is_the_last() {
        for isa in Isa::available() {
            println!("instruction set: {}", isa.name());
            assert_eq!(Isa::by_name(isa.name()), Some(isa));
        }
        assert_eq!(Isa::available().last(), Some(&Isa::best()));
        assert_eq!(Isa::by_name("sse9"), None);
    }
}
