//! The table of columns of `telemetry.parquet`: the [`TelemetryRow`] struct, its Arrow schema and its documentation.

use arrow::array::ArrayRef;
use arrow::datatypes::Field;
use serde::{Deserialize, Serialize};

use crate::store::columns::{Cell, decode_column};

/// What one column of `telemetry.parquet` is.
#[derive(Debug, Clone, Copy)]
pub struct TelemetryColumn {
    /// Name in the Parquet file and in [`TelemetryRow`].
    pub name: &'static str,
    /// Type, as the documentation names it.
    pub type_name: &'static str,
    /// Unit; empty if it has none.
    pub unit: &'static str,
    /// Whether it may be null.
    pub nullable: bool,
    /// What it holds.
    pub description: &'static str,
    pub(super) field: fn() -> Field,
}

fn field<T: Cell>(name: &str) -> Field {
    Field::new(name, T::data_type(), T::NULLABLE)
}

/// Declares the row and everything derived from it: `/// description` `name: type, "unit";`.
macro_rules! telemetry_columns {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty, $unit:literal;)+) => {
        /// One reading of one device: a row of `telemetry.parquet`. [`TELEMETRY_COLUMNS`] describes every field. What
        /// a device does not offer is null.
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
        #[serde(default)]
        pub struct TelemetryRow {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        /// Every column, in the order of the file.
        pub const TELEMETRY_COLUMNS: &[TelemetryColumn] = &[$(TelemetryColumn {
            name: stringify!($name),
            type_name: <$type as Cell>::TYPE,
            unit: $unit,
            nullable: <$type as Cell>::NULLABLE,
            description: concat!($($doc),+).trim_ascii(),
            field: || field::<$type>(stringify!($name)),
        },)+];

        /// One array per column.
        pub(super) fn encode(rows: &[TelemetryRow]) -> Vec<ArrayRef> {
            vec![$(<$type as Cell>::encode(rows.iter().map(|row| &row.$name)),)+]
        }

        /// Rows whose columns `array` finds by name; the error names the column that is missing or has another type.
        pub(super) fn decode(
            rows: usize,
            array: impl Fn(&str) -> Option<ArrayRef>,
        ) -> Result<Vec<TelemetryRow>, String> {
            $(let mut $name = decode_column::<$type>(rows, stringify!($name), &array)?.into_iter();)+
            let values = "every column has as many values as there are rows";
            Ok((0..rows).map(|_| TelemetryRow { $($name: $name.next().expect(values),)+ }).collect())
        }
    };
}

telemetry_columns! {
    /// Time of the reading: UTC, milliseconds since 1970.
    time_ms: u64, "ms";
    /// Time since the process began to read.
    elapsed_seconds: f64, "s";
    /// Host name.
    host: String, "";
    /// Device of the worker, as in `samples.parquet`.
    device: String, "";
    /// Attempt whose rows were solved on the device at that time, as in `samples.parquet`; before its worker is ready,
    /// the id of the process.
    attempt: String, "";
    /// Process whose CPU time and memory are given. Workers that are threads share one.
    pid: u32, "";
    /// Model of the GPU.
    name: Option<String>, "";
    /// UUID of the GPU, or of its MIG instance.
    uuid: Option<String>, "";
    /// Share of the driver's last sampling period in which a kernel ran.
    gpu_utilization: Option<u32>, "%";
    /// Share of that period in which device memory was read or written.
    memory_utilization: Option<u32>, "%";
    /// Device memory in use, by all processes.
    memory_used: Option<u64>, "bytes";
    /// Device memory.
    memory_total: Option<u64>, "bytes";
    /// Power drawn by the whole board.
    power: Option<f64>, "W";
    /// Power limit that is enforced.
    power_limit: Option<f64>, "W";
    /// Temperature of the GPU.
    temperature: Option<u32>, "°C";
    /// Clock of the streaming multiprocessors.
    sm_clock: Option<u32>, "MHz";
    /// Clock of the memory.
    memory_clock: Option<u32>, "MHz";
    /// ECC errors corrected since the driver was loaded.
    ecc_corrected: Option<u64>, "";
    /// ECC errors not corrected since the driver was loaded.
    ecc_uncorrected: Option<u64>, "";
    /// Why clocks are below what was asked for: names joined by `+`, such as `sw_power_cap+hw_slowdown`; `none`.
    throttle: Option<String>, "";
    /// CPU time of the process per wall time since its reading before: 1 is one busy core.
    cpu_cores: Option<f64>, "";
    /// Resident memory of the process.
    resident_memory: Option<u64>, "bytes";
}
