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

/// Proof of `amx-tile` and `amx-bf16`, of the system's leave to use tiles, and of all that
/// [`Avx512Bf16`] proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amx(());

/// Proof of `avx512vbmi`, and of all that [`Avx512`] proves. A part of the sets that have it, not one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512Vbmi(());

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
    Amx(Amx),
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
            let amx = bf16 && amx::is_usable();
            sets.extend(bf16.then_some(Isa::Avx512Bf16(Avx512Bf16(()))));
            sets.extend(amx.then_some(Isa::Amx(Amx(()))));
        }
        #[cfg(target_arch = "aarch64")]
        sets.push(Isa::Neon(Neon(())));
        sets
    }

    /// The fastest set this CPU has.
    pub fn best() -> Isa {
        Isa::available().pop().unwrap_or(Isa::Portable)
    }

    /// The set of that name (`portable`, `avx2`, `avx512`, `avx512bf16`, `amx`, `neon`), if this CPU
    /// has it.
    pub fn by_name(name: &str) -> Option<Isa> {
        Isa::available().into_iter().find(|isa| isa.name() == name)
    }

    /// The set that f32 arithmetic uses: those that only add bf16 products to AVX-512 are AVX-512.
    pub(crate) fn for_f32(self) -> Isa {
        match self {
            Isa::Avx512Bf16(_) | Isa::Amx(_) => Isa::Avx512(Avx512(())),
            isa => isa,
        }
    }

    /// Whether this set and this CPU permute bytes over a whole register.
    pub(crate) fn vbmi(self) -> Option<Avx512Vbmi> {
        #[cfg(target_arch = "x86_64")]
        if matches!(self.for_f32(), Isa::Avx512(_)) && is_x86_feature_detected!("avx512vbmi") {
            return Some(Avx512Vbmi(()));
        }
        None
    }

    /// Proof of the products of bf16 pairs on vectors, where the set has them.
    pub(crate) fn bf16_pairs(self) -> Option<Avx512Bf16> {
        match self {
            Isa::Avx512Bf16(proof) => Some(proof),
            Isa::Amx(_) => Some(Avx512Bf16(())),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2(_) => "avx2",
            Isa::Avx512(_) => "avx512",
            Isa::Avx512Bf16(_) => "avx512bf16",
            Isa::Amx(_) => "amx",
            Isa::Neon(_) => "neon",
        }
    }
}

/// Whether this process may run AMX instructions. `is_x86_feature_detected!` does not know them on a
/// stable compiler.
#[cfg(target_arch = "x86_64")]
mod amx {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    use std::sync::LazyLock;

    static USABLE: LazyLock<bool> = LazyLock::new(|| cpu_has_it() && system_permits_it());

    /// The answer; the system is asked once per process.
    pub(super) fn is_usable() -> bool {
        *USABLE
    }

    /// CPUID says that the instructions exist, XCR0 that the system saves the tiles of a thread.
    fn cpu_has_it() -> bool {
        const FEATURES: u32 = 1 << 22 | 1 << 24; // leaf 7, edx: amx-bf16, amx-tile
        const STATE: u64 = 1 << 17 | 1 << 18; // XCR0: the tiles' configuration and their data
        const OSXSAVE: u32 = 1 << 27; // leaf 1, ecx: XCR0 can be read
        if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 {
            return false;
        }
        // SAFETY: OSXSAVE is set, so `xgetbv` exists and register 0 does.
        let saved = unsafe { _xgetbv(0) };
        __cpuid_count(7, 0).edx & FEATURES == FEATURES && saved & STATE == STATE
    }

    /// Linux gives a process the room for tiles on request only. The leave holds for all threads.
    #[cfg(target_os = "linux")]
    fn system_permits_it() -> bool {
        const ARCH_PRCTL: isize = 158;
        const ARCH_REQ_XCOMP_PERM: usize = 0x1023;
        const XFEATURE_XTILEDATA: usize = 18;
        let status: isize;
        // SAFETY: this call takes two numbers, touches no memory of ours, and changes nothing but
        // what the process may do; the registers that `syscall` overwrites are named.
        unsafe {
            std::arch::asm!(
                "syscall",
                inlateout("rax") ARCH_PRCTL => status,
                in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") XFEATURE_XTILEDATA,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        status == 0
    }

    /// How other systems are asked is not known here.
    #[cfg(not(target_os = "linux"))]
    fn system_permits_it() -> bool {
        false
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
