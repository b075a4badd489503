//! `dflow devices`: what a run would use here.

use clap::Args;

use super::{CliError, CliResult, Global, print_lossy};
use crate::exit;
use crate::net::kernel;
use crate::spec::device::DeviceList;
use crate::store::TelemetryRow;
use crate::telemetry::gpu::{Environment, Gpus};
use crate::ui::{status, text};
use crate::worker::device::{self, Device, DeviceKind};

/// Options of `dflow devices`.
#[derive(Debug, Args)]
pub(super) struct DevicesArgs {
    /// Devices as in a pipeline file.
    #[arg(default_value = "auto")]
    devices: DeviceList,
}

pub(super) fn run(args: &DevicesArgs, global: &Global) -> CliResult {
    let devices = device::resolve(&args.devices);
    let (gpus, notes) = gpus();
    let (devices, refused) = match devices {
        Ok(devices) => (devices, None),
        // What is there helps to see why it cannot be used.
        Err(error) if gpus.is_empty() => return Err(CliError::usage(error)),
        Err(error) => (Vec::new(), Some(error)),
    };
    let (set, memory) = (kernel::instruction_set(), device::free_memory());
    if global.json {
        let error = refused.as_ref().map(ToString::to_string);
        let value = serde_json::json!({
            "devices": devices, "error": error, "instruction_set": set, "free_memory": memory, "gpus": gpus, "notes": notes,
        });
        print_lossy(&value.to_string());
    } else {
        let mut lines = vec![format!("instruction set {set}, {} of memory free", text::bytes(memory))];
        lines.extend(devices.iter().map(device_line));
        lines.extend(gpus.iter().map(gpu_line));
        lines.extend(notes.iter().map(|note| format!("note: {note}")));
        print_lossy(&lines.join("\n"));
    }
    refused.map_or(Ok(exit::OK), |error| Err(CliError::usage(error)))
}

fn device_line(device: &Device) -> String {
    let name = &device.name;
    match &device.kind {
        DeviceKind::Cpu { threads, cores } if cores.is_empty() => {
            format!("{name}: {}", text::count(*threads, "thread"))
        }
        DeviceKind::Cpu { threads, cores } => {
            format!("{name}: {}, pinned to cores {cores:?}", text::count(*threads, "thread"))
        }
        DeviceKind::Cuda { visible, .. } => format!("{name}: CUDA device {visible}"),
        DeviceKind::Sim { visible } => format!("{name}: one thread in the place of GPU {visible}"),
    }
}

fn gpu_line(gpu: &TelemetryRow) -> String {
    let (known, reading) = ([&gpu.name, &gpu.uuid], status::reading(gpu));
    let mut parts: Vec<&str> = known.into_iter().filter_map(Option::as_deref).collect();
    parts.extend((!reading.is_empty()).then_some(&*reading));
    let told = if parts.is_empty() { "the driver tells nothing of it".to_owned() } else { parts.join("  ") };
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
