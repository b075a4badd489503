//! `dflow devices`: what a run would use here.

use clap::Args;

use super::{CliError, CliResult, Global, print_lossy};
use crate::exit;
use crate::net::kernel;
use crate::spec::device::DeviceList;
use crate::store::TelemetryRow;
use crate::telemetry::gpu::{Environment, Gpus};
use crate::ui::{status, text};
use crate::worker::device::{self, DeviceKind};

/// Options of `dflow devices`.
#[derive(Debug, Args)]
pub(super) struct DevicesArgs {
    /// Devices as in a pipeline file.
    #[arg(default_value = "auto")]
    devices: DeviceList,
}

pub(super) fn run(args: &DevicesArgs, global: &Global) -> CliResult {
    let devices = device::resolve(&args.devices).map_err(CliError::usage)?;
    let (set, memory) = (kernel::instruction_set(), device::free_memory());
    let gpus = gpus();
    if global.json {
        let value = serde_json::json!({ "devices": devices, "instruction_set": set, "free_memory": memory, "gpus": gpus.0, "notes": gpus.1 });
        print_lossy(&value.to_string());
        return Ok(exit::OK);
    }
    let mut lines = vec![format!("instruction set {set}, {} of memory free", text::bytes(memory))];
    lines.extend(devices.iter().map(|device| match &device.kind {
        DeviceKind::Cpu { threads, cores } if cores.is_empty() => {
            format!("{}: {}", device.name, text::count(*threads, "thread"))
        }
        DeviceKind::Cpu { threads, cores } => {
            format!("{}: {}, pinned to cores {cores:?}", device.name, text::count(*threads, "thread"))
        }
        DeviceKind::Cuda { visible, .. } => format!("{}: CUDA device {visible}", device.name),
        DeviceKind::Sim { visible } => format!("{}: one thread in the place of GPU {visible}", device.name),
    }));
    lines.extend(gpus.0.iter().map(gpu_line));
    lines.extend(gpus.1.iter().map(|note| format!("note: {note}")));
    print_lossy(&lines.join("\n"));
    Ok(exit::OK)
}

/// `GPU cuda:0: NVIDIA A100, GPU-5f3a…  97 %  …`, without what the driver does not tell.
fn gpu_line(gpu: &TelemetryRow) -> String {
    let named: Vec<&str> = [&gpu.name, &gpu.uuid].into_iter().flatten().map(String::as_str).collect();
    let parts = [named.join(", "), status::reading(gpu)];
    let told: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    let told = if told.is_empty() { "its driver tells nothing of it".to_owned() } else { told.join("  ") };
    format!("GPU {}: {told}", gpu.device)
}

/// What the driver tells of the GPUs that CUDA shows to this process, and what it does not tell. Without a driver
/// there is nothing to say.
fn gpus() -> (Vec<TelemetryRow>, Vec<String>) {
    let environment = Environment::of_this_process();
    let (gpus, notes) = match Gpus::open(&environment) {
        Ok(opened) => opened,
        Err(reason) if environment.library.is_some() => return (Vec::new(), vec![format!("NVML: {reason}")]),
        Err(_) => return (Vec::new(), Vec::new()),
    };
    let read = |index| {
        let mut row = TelemetryRow { device: format!("cuda:{index}"), ..TelemetryRow::default() };
        gpus.read(index, &mut row);
        row
    };
    ((0..gpus.len()).map(read).collect(), notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_gpu_stands_what_its_driver_tells() {
        let silent = TelemetryRow { device: "cuda:0".to_owned(), ..TelemetryRow::default() };
        assert_eq!(gpu_line(&silent), "GPU cuda:0: its driver tells nothing of it");
        let hot = TelemetryRow { temperature: Some(64), ..silent.clone() };
        assert_eq!(gpu_line(&hot), "GPU cuda:0: 64 °C");
        let [name, uuid] = ["NVIDIA A100", "GPU-5f"].map(|text| Some(text.to_owned()));
        assert_eq!(gpu_line(&TelemetryRow { name, uuid, ..hot }), "GPU cuda:0: NVIDIA A100, GPU-5f  64 °C");
    }
}
