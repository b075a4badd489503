//! Readings of the devices and processes of a run: utilisation, memory, power, temperature, clocks, ECC errors and
//! throttle reasons of NVIDIA GPUs (NVML, the driver's own library, loaded at run time), CPU time and memory of
//! processes (`/proc`).
//!
//! Every reading is optional: what a device, a driver or a machine does not offer is null, never an error. Without the
//! library, or where it refuses, there are processes only, which the log says once. A GPU is matched to the CUDA device
//! of a worker by what `CUDA_VISIBLE_DEVICES` says ([`visible`]), best by UUID.
//!
//! `DFLOW_NVML` names another library than `libnvidia-ml.so.1`: for drivers in an unusual place, and for tests.

pub mod gpu;
pub mod process;
pub mod reader;
pub mod sampler;
pub mod visible;

pub use reader::Reader;
pub use sampler::{Sampler, SamplerOptions};
