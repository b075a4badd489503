//! CPU kernels: the unsafe code of the crate, but for the prefetch in `optim`.
//!
//! Values are planes of one sample (or, in `edge`, rows of one molecule's atoms and edges), `[height, width, channels]`
//! with channels contiguous and a border of zeros where a 3×3 convolution reads them (`plane::Shape`). Every kernel exists
//! for three instruction sets, chosen once per process: by detection, or by the environment variable `DFLOW_CPU`
//! (`avx512`, `avx2` or `portable`).
//!
//! Work is split over outputs, never over a reduction, and no choice of algorithm depends on the number of threads
//! or samples: results are bit-identical for any of them on one instruction set.
#![expect(unsafe_code, reason = "vector intrinsics, and threads writing disjoint parts of one buffer")]

mod aligned;
mod attention;
mod conv;
mod edge;
mod matmul;
mod norm;
mod plane;
mod simd;
mod team;
mod tile;
mod window;
mod winograd;

use std::sync::OnceLock;

pub(crate) use aligned::Aligned;
pub(crate) use attention::{Attention, HeadOrder};
pub(crate) use conv::{Add, ConvCall, Filter, Kernel, conv};
pub(crate) use edge::{
    FirstGradients, FirstLayer, GatedSum, MAX_WIDTH, Receivers, head_forward, head_pull_back, silu_forward,
    silu_pull_back,
};
pub(crate) use norm::{NormCall, norm_forward, norm_pull_back, norm_scratch_len};
pub(crate) use plane::{Plane, PlaneMut, Shape};
pub(crate) use team::Team;
pub(crate) use window::{Window, WindowFilter};
pub(crate) use winograd::{WinogradCall, WinogradFilter, winograd, winograd_scratch_len};

/// The instruction sets that kernels exist for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstructionSet {
    /// AVX-512F: 16 lanes.
    Avx512,
    /// AVX2 with FMA: 8 lanes.
    Avx2,
    /// Any CPU: 4 lanes, multiplication and addition rounded separately.
    Portable,
}

impl InstructionSet {
    /// All sets, fastest first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Portable];

    /// Its name in `DFLOW_CPU` and in the result column.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// Whether this CPU has it.
    pub fn is_supported(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512 | Self::Avx2 => false,
            Self::Portable => true,
        }
    }

    /// f32 numbers in one vector.
    pub(crate) const fn lanes(self) -> usize {
        match self {
            Self::Avx512 => 16,
            Self::Avx2 => 8,
            Self::Portable => 4,
        }
    }

    /// The set that this process uses: `DFLOW_CPU` if set and not empty, else the fastest that the CPU has.
    pub fn detect() -> Result<Self, UnknownInstructionSet> {
        static CHOICE: OnceLock<Result<InstructionSet, UnknownInstructionSet>> = OnceLock::new();
        CHOICE
            .get_or_init(|| {
                let wanted = std::env::var_os("DFLOW_CPU").filter(|wanted| !wanted.is_empty());
                Self::choose(wanted.map(|wanted| wanted.to_string_lossy().into_owned()))
            })
            .clone()
    }

    fn choose(wanted: Option<String>) -> Result<Self, UnknownInstructionSet> {
        let found = match &wanted {
            None => Self::ALL.into_iter().find(|set| set.is_supported()),
            Some(name) => Self::ALL.into_iter().find(|set| set.name() == name && set.is_supported()),
        };
        found.ok_or_else(|| UnknownInstructionSet { wanted: wanted.unwrap_or_default() })
    }
}

/// `DFLOW_CPU` names no instruction set of this CPU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("DFLOW_CPU={wanted}: this CPU offers {}; unset DFLOW_CPU to use the fastest", supported())]
pub struct UnknownInstructionSet {
    wanted: String,
}

fn supported() -> String {
    let names: Vec<_> =
        InstructionSet::ALL.into_iter().filter(|set| set.is_supported()).map(InstructionSet::name).collect();
    names.join(", ")
}

/// Name of the instruction set that the CPU kernels of this process use (a column of every row); `"invalid"` if
/// `DFLOW_CPU` names none of this CPU's, in which case no network can be built.
pub fn instruction_set() -> &'static str {
    InstructionSet::detect().map_or("invalid", InstructionSet::name)
}

/// Instantiates an `#[inline(always)]` kernel for every instruction set.
///
/// `dispatch!(fn name(args) = generic_kernel);` makes `unsafe fn name(set, args)`, whose contract is the kernel's, on a CPU
/// that has `set`.
macro_rules! dispatch {
    (fn $name:ident($($arg:ident: $type:ty),* $(,)?) = $kernel:ident) => {
        unsafe fn $name(set: crate::net::kernel::InstructionSet, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f")]
            unsafe fn avx512($($arg: $type),*) {
                unsafe { $kernel::<crate::net::kernel::simd::Avx512>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $type),*) {
                unsafe { $kernel::<crate::net::kernel::simd::Avx2>($($arg),*) }
            }
            unsafe {
                match set {
                    #[cfg(target_arch = "x86_64")]
                    crate::net::kernel::InstructionSet::Avx512 => avx512($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    crate::net::kernel::InstructionSet::Avx2 => avx2($($arg),*),
                    _ => $kernel::<crate::net::kernel::simd::Portable>($($arg),*),
                }
            }
        }
    };
}
use dispatch;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_instruction_set_is_an_error_that_lists_the_known() {
        let error = InstructionSet::choose(Some("sse9".into())).unwrap_err().to_string();
        assert!(error.contains("sse9") && error.contains("portable"), "{error}");
    }

    #[test]
    fn portable_can_always_be_forced() {
        assert_eq!(InstructionSet::choose(Some("portable".into())), Ok(InstructionSet::Portable));
    }
}
