//! Readings of devices and processes, beside the rows: no result depends on them.
//!
//! ```text
//! push, flush ─► telemetry/<attempt>-000.parquet   one file per process, replaced every few minutes
//! merge       ─► telemetry.parquet                 all of them, in order of their names
//! ```

mod columns;
mod merge;
mod part;
mod power;
mod table;
#[cfg(test)]
mod tests;

pub use columns::{TELEMETRY_COLUMNS, TelemetryColumn, TelemetryRow};
pub(super) use merge::tidy;
pub use merge::{TelemetryMerge, merge_telemetry, read_telemetry};
pub use part::TelemetryWriter;
pub use power::MeanPower;
