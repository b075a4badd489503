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
    lines.extend(gpus.0.iter().map(|gpu| {
        let [name, uuid] = [&gpu.name, &gpu.uuid].map(|text| text.as_deref().unwrap_or("?"));
        format!("GPU {}: {name}, {uuid}  {}", gpu.device, status::reading(gpu))
    }));
    lines.extend(gpus.1.iter().map(|note| format!("note: {note}")));
    print_lossy(&lines.join("\n"));
    Ok(exit::OK)
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
