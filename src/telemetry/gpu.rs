//! NVIDIA GPUs through NVML.

use std::ffi::OsString;

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::error::NvmlError;

use super::visible::{self, Entry, Model};
use crate::store::TelemetryRow;

/// Names another library than `libnvidia-ml.so.1`.
pub const LIBRARY_VARIABLE: &str = "DFLOW_NVML";

/// The environment that decides which GPUs are this process's.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `DFLOW_NVML`.
    pub library: Option<OsString>,
    /// `CUDA_VISIBLE_DEVICES`.
    pub visible: Option<String>,
    /// `CUDA_DEVICE_ORDER`.
    pub order: Option<String>,
}

impl Environment {
    /// That of this process.
    pub fn of_this_process() -> Self {
        let text = |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Self {
            library: std::env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty()),
            visible: text("CUDA_VISIBLE_DEVICES"),
            order: text("CUDA_DEVICE_ORDER"),
        }
    }
}

/// The GPUs of this process, in CUDA's order.
pub struct Gpus {
    nvml: Nvml,
    gpus: Vec<Handle>,
}

/// How NVML finds a GPU, and what never changes of it.
struct Handle {
    by: By,
    name: Option<String>,
    uuid: Option<String>,
}

enum By {
    Index(u32),
    Uuid(String),
    /// There is a GPU, but which one is not known.
    Unknown,
}

impl Gpus {
    /// Loads the library and finds the GPUs that `CUDA_VISIBLE_DEVICES` names. Notes say which of them have no readings
    /// and why.
    ///
    /// # Errors
    /// Why there are no readings at all: no library, or it refuses.
    pub fn open(environment: &Environment) -> Result<(Self, Vec<String>), String> {
        let mut builder = Nvml::builder();
        if let Some(path) = &environment.library {
            builder.lib_path(path);
        }
        let nvml = builder.init().map_err(|error| reason(&error))?;
        let all = allowed(&nvml)?;
        let order = environment.order.as_deref();
        let mut notes = Vec::new();
        let entries = visible::entries(environment.visible.as_deref(), all.indices.len());
        let found = entries.into_iter().map(|entry| {
            let by = find(&nvml, &entry, order, &all).unwrap_or_else(|note| {
                notes.push(note);
                By::Unknown
            });
            let gpu = by.open(&nvml);
            let (name, uuid) = gpu.map_or((None, None), |gpu| (gpu.name().ok(), gpu.uuid().ok()));
            Handle { by, name, uuid }
        });
        let gpus = found.collect();
        notes.dedup();
        Ok((Self { nvml, gpus }, notes))
    }

    /// Number of GPUs that CUDA shows.
    pub fn len(&self) -> usize {
        self.gpus.len()
    }

    /// Whether CUDA shows none.
    pub fn is_empty(&self) -> bool {
        self.gpus.is_empty()
    }

    /// Reads CUDA device `index` into `row`; what it does not offer stays null.
    pub fn read(&self, index: usize, row: &mut TelemetryRow) {
        let Some(handle) = self.gpus.get(index) else { return };
        row.name.clone_from(&handle.name);
        row.uuid.clone_from(&handle.uuid);
        let Some(gpu) = handle.by.open(&self.nvml) else { return };
        let rates = gpu.utilization_rates().ok();
        row.gpu_utilization = rates.as_ref().map(|rates| rates.gpu);
        row.memory_utilization = rates.as_ref().map(|rates| rates.memory);
        let memory = gpu.memory_info().ok();
        row.memory_used = memory.as_ref().map(|memory| memory.used);
        row.memory_total = memory.as_ref().map(|memory| memory.total);
        row.power = gpu.power_usage().ok().map(watts);
        row.power_limit = gpu.enforced_power_limit().ok().map(watts);
        row.temperature = gpu.temperature(TemperatureSensor::Gpu).ok();
        row.sm_clock = gpu.clock_info(Clock::SM).ok();
        row.memory_clock = gpu.clock_info(Clock::Memory).ok();
        row.ecc_corrected = gpu.total_ecc_errors(MemoryError::Corrected, EccCounter::Volatile).ok();
        row.ecc_uncorrected = gpu.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile).ok();
        row.throttle = gpu.current_throttle_reasons().ok().map(throttle_names);
    }
}

impl By {
    fn open<'a>(&self, nvml: &'a Nvml) -> Option<nvml_wrapper::Device<'a>> {
        match self {
            Self::Index(index) => nvml.device_by_index(*index).ok(),
            Self::Uuid(uuid) => nvml.device_by_uuid(uuid.as_str()).ok(),
            Self::Unknown => None,
        }
    }
}

/// The GPUs that this process may use, in the order of their buses. NVML counts all of the machine; those that a device
/// cgroup denies it (a task of Slurm) it names by index, but gives no access to, and CUDA does not count them.
#[derive(Default)]
struct Allowed {
    /// NVML's.
    indices: Vec<u32>,
    models: Vec<Model>,
    uuids: Vec<Option<String>>,
}

fn allowed(nvml: &Nvml) -> Result<Allowed, String> {
    let count = nvml.device_count().map_err(|error| reason(&error))?;
    let mut all = Allowed::default();
    for index in 0..count {
        if let Some((model, uuid)) = identity(nvml, index) {
            all.indices.push(index);
            all.models.push(model);
            all.uuids.push(uuid);
        }
    }
    if count > 0 && all.indices.is_empty() {
        return Err(format!("this process may use none of the GPUs of this machine, which has {count}"));
    }
    Ok(all)
}

/// The model and the UUID of a GPU; none of one that is denied to this process.
fn identity(nvml: &Nvml, index: u32) -> Option<(Model, Option<String>)> {
    let gpu = match nvml.device_by_index(index) {
        Ok(gpu) => gpu,
        Err(NvmlError::NoPermission) => return None,
        Err(error) => return Some((Model::Lost(reason(&error)), None)),
    };
    let model = match gpu.name() {
        Ok(name) => Model::Named(name),
        Err(error @ NvmlError::NotSupported) => Model::Unnamed(reason(&error)),
        Err(error) => Model::Lost(reason(&error)),
    };
    Some((model, gpu.uuid().ok()))
}

/// How NVML finds an entry; the error says why it cannot.
fn find(nvml: &Nvml, entry: &Entry, order: Option<&str>, all: &Allowed) -> Result<By, String> {
    let by_place = |place: usize| By::Index(all.indices[place]);
    match entry {
        Entry::Index(index) => visible::check_index(order, &all.models, *index).map(|()| by_place(*index)),
        Entry::Gpu(prefix) => match visible::matching(prefix, &all.uuids) {
            Some(place) => Ok(by_place(place)),
            None => Err(visible::unmatched(prefix, &all.models)),
        },
        // An instance has its own memory; what it shares with the others of its GPU is not offered.
        Entry::Mig(uuid) => match nvml.device_by_uuid(uuid.as_str()) {
            Ok(_) => Ok(By::Uuid(uuid.clone())),
            Err(error) => Err(format!("NVML does not find the MIG instance {uuid}: {}", reason(&error))),
        },
    }
}

fn watts(milliwatts: u32) -> f64 {
    f64::from(milliwatts) / 1000.0
}

fn reason(error: &NvmlError) -> String {
    match error {
        NvmlError::LibloadingError(error) => format!("the library cannot be loaded ({error})"),
        error => error.to_string(),
    }
}

/// `sw_power_cap+hw_slowdown`; `none`.
fn throttle_names(reasons: ThrottleReasons) -> String {
    let names = [
        (ThrottleReasons::GPU_IDLE, "gpu_idle"),
        (ThrottleReasons::APPLICATIONS_CLOCKS_SETTING, "applications_clocks_setting"),
        (ThrottleReasons::SW_POWER_CAP, "sw_power_cap"),
        (ThrottleReasons::HW_SLOWDOWN, "hw_slowdown"),
        (ThrottleReasons::SYNC_BOOST, "sync_boost"),
        (ThrottleReasons::SW_THERMAL_SLOWDOWN, "sw_thermal_slowdown"),
        (ThrottleReasons::HW_THERMAL_SLOWDOWN, "hw_thermal_slowdown"),
        (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "hw_power_brake_slowdown"),
        (ThrottleReasons::DISPLAY_CLOCK_SETTING, "display_clock_setting"),
    ];
    let named = names.into_iter().filter(|(reason, _)| reasons.contains(*reason)).map(|(_, name)| name);
    let named: Vec<&str> = named.collect();
    if named.is_empty() { "none".to_owned() } else { named.join("+") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttle_reasons_have_names() {
        assert_eq!(throttle_names(ThrottleReasons::empty()), "none");
        let two = ThrottleReasons::SW_POWER_CAP | ThrottleReasons::HW_THERMAL_SLOWDOWN;
        assert_eq!(throttle_names(two), "sw_power_cap+hw_thermal_slowdown");
    }

    #[test]
    fn a_library_that_is_not_there_is_said_and_no_panic() {
        let library = Some(OsString::from("/nowhere/libnvidia-ml.so.1"));
        let error = Gpus::open(&Environment { library, ..Environment::default() }).err().unwrap();
        assert!(error.contains("/nowhere/libnvidia-ml.so.1"), "{error}");
    }
}
