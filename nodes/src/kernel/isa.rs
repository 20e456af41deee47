//! Which instructions this processor has, and how a kernel gets to run on them.

use super::{portable::Portable, simd::Simd};
use std::sync::OnceLock;

/// A way to run kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust.
    Portable,
    /// NEON, on 64-bit ARM.
    Neon,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 with the byte products of VNNI; processors with the former alone use AVX2.
    Avx512,
}

/// Work that runs on any vector unit.
///
/// `run` must be `#[inline(always)]`, and so must all that it calls with the token.
pub(crate) trait Kernel {
    fn run<S: Simd>(self, simd: S);
}

/// The constants of a [`Simd`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Constants {
    /// [`Simd::LANES`]
    pub(super) lanes: usize,
    /// [`Simd::LARGEST_BYTE`]
    #[cfg(test)]
    pub(super) largest_byte: u8,
    /// [`Simd::LARGEST_FOUR`]
    pub(super) largest_four: u16,
}

impl Kernel for &mut Constants {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        *self = Constants {
            lanes: S::LANES,
            #[cfg(test)]
            largest_byte: S::LARGEST_BYTE,
            largest_four: S::LARGEST_FOUR,
        };
    }
}

impl Isa {
    /// The fastest way of this processor; one that is slower where the environment variable
    /// `ENGINE_ISA` names it (`portable`, `neon`, `avx2`, `avx512`), to compare them.
    #[must_use]
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            let wanted = std::env::var("ENGINE_ISA").unwrap_or_default();
            let available = Self::available();
            let named = |isa: &&Self| format!("{isa:?}").eq_ignore_ascii_case(&wanted);
            let chosen = available.iter().find(named).or(available.iter().max());
            chosen.copied().unwrap_or(Self::Portable)
        })
    }

    /// Every way that this processor has.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let all = [Self::Portable, Self::Neon, Self::Avx2, Self::Avx512];
        all.into_iter().filter(|isa| isa.is_here()).collect()
    }

    #[cfg(target_arch = "x86_64")]
    fn is_here(self) -> bool {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        match self {
            Self::Portable => true,
            Self::Neon => false,
            Self::Avx2 => avx2,
            Self::Avx512 => avx512,
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn is_here(self) -> bool {
        match self {
            Self::Portable => true,
            Self::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn is_here(self) -> bool {
        self == Self::Portable
    }

    /// What kernels of this way are made for.
    pub(super) fn constants(self) -> Constants {
        let mut constants = Constants::default();
        self.run(&mut constants);
        constants
    }

    /// Runs a kernel this way, or portably if the processor does not know it.
    pub(crate) fn run(self, kernel: impl Kernel) {
        if self != Self::best() && !self.is_here() {
            return kernel.run(Portable);
        }
        match self {
            // SAFETY, here and below: `is_here` has found the instructions on this processor.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86::on_avx512(kernel) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::on_avx2(kernel) },
            #[cfg(target_arch = "aarch64")]
            Self::Neon => unsafe { arm::on_neon(kernel) },
            _ => kernel.run(Portable),
        }
    }
}

/// The functions that are compiled for instructions of x86-64. A kernel is compiled once in each,
/// with all that it calls.
#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use super::{
        super::{avx2::Avx2, avx512::Avx512},
        Kernel,
    };

    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    pub(crate) fn on_avx512(kernel: impl Kernel) {
        // SAFETY: who calls this function vouches for the instructions.
        kernel.run(unsafe { Avx512::new() });
    }

    #[inline(never)]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(crate) fn on_avx2(kernel: impl Kernel) {
        // SAFETY: as above.
        kernel.run(unsafe { Avx2::new() });
    }
}

/// The function that is compiled for NEON.
#[cfg(target_arch = "aarch64")]
pub(super) mod arm {
    use super::{super::neon::Neon, Kernel};

    #[inline(never)]
    #[target_feature(enable = "neon")]
    pub(crate) fn on_neon(kernel: impl Kernel) {
        // SAFETY: who calls this function vouches for the instructions.
        kernel.run(unsafe { Neon::new() });
    }
}
