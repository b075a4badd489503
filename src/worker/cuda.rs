//! CUDA devices, in binaries built with the `cuda` feature.

use super::device::{DeviceError, DeviceKind};
use super::engine::{Field, Probe};
use crate::catalog::Prior;

/// CUDA devices this process can use; 0 without the feature or without a device.
#[cfg(feature = "cuda")]
pub fn visible() -> usize {
    // Counting opens no context: those belong to the workers' processes.
    let count = candle_core::cuda_backend::cudarc::driver::CudaContext::device_count();
    count.map_or(0, |count| usize::try_from(count).unwrap_or(0))
}

/// CUDA devices this process can use; 0 without the feature or without a device.
#[cfg(not(feature = "cuda"))]
pub fn visible() -> usize {
    0
}

/// The number of CUDA devices, of which `index` must be one.
///
/// # Errors
/// When the binary has no CUDA, no device answers, or the index is not among the visible ones.
pub fn checked_count(spec: &str, index: Option<u32>) -> Result<usize, DeviceError> {
    if !cfg!(feature = "cuda") {
        return Err(DeviceError::NoCuda(spec.to_owned()));
    }
    let count = visible();
    if count == 0 {
        return Err(DeviceError::Cuda(format!(
            "`devices: {spec}`: no CUDA device answers (driver missing, or CUDA_VISIBLE_DEVICES empty); use `--devices cpu`"
        )));
    }
    match index {
        Some(index) if index as usize >= count => Err(DeviceError::Cuda(format!(
            "`devices: {spec}`: there is no cuda:{index}; this process sees cuda:0 to cuda:{}",
            count - 1
        ))),
        _ => Ok(count),
    }
}

/// Rows of one network call on the device; fewer rows are filled up, so that a row's numbers do not depend on how
/// many others are in the call.
pub(super) const BATCH: usize = 16;

/// A field on a CUDA device.
///
/// # Errors
/// When the prior has no CUDA form, or the device cannot hold it.
pub fn field(prior: &Prior, index: usize) -> Result<Field, String> {
    match prior {
        // A closed form is cheaper on the host than its transfer.
        Prior::Gaussian(_) | Prior::Mixture(_) => Ok(prior.field()),
        Prior::Network(model) => {
            let device =
                candle_core::Device::new_cuda(index).map_err(|error| format!("cuda:{index}: {error}"))?;
            model.field_on(&device, BATCH).map_err(|error| format!("cuda:{index}: {error}"))
        }
    }
}

/// A small known call of a device, where one that is lost would fail: on the host nothing is.
pub fn probe(kind: &DeviceKind) -> Probe {
    let DeviceKind::Cuda { index, .. } = *kind else { return Box::new(|| Ok(())) };
    Box::new(move || {
        // In the context that the fields share.
        let device = candle_core::Device::new_cuda(index).map_err(|error| error.to_string())?;
        crate::net::probe(&device)
    })
}
