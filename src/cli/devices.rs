//! `dflow devices`: what a run would use here.

use clap::Args;

use super::{CliError, CliResult, Global, print_lossy};
use crate::exit;
use crate::net::kernel;
use crate::spec::device::DeviceList;
use crate::ui::text;
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
    if global.json {
        let value = serde_json::json!({ "devices": devices, "instruction_set": set, "free_memory": memory });
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
    print_lossy(&lines.join("\n"));
    Ok(exit::OK)
}
