//! Mean power of a device during an attempt, and from it the energy of a row.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::Float64Type;

use super::table::Table;
use crate::store::error::StoreError;
use crate::store::fs::{Fs, read_if_exists};
use crate::store::layout::Layout;
use crate::store::record::Record;

/// Mean power of the device of every attempt that has readings of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MeanPower(BTreeMap<String, f64>);

impl MeanPower {
    /// From `telemetry.parquet`; empty if there is none, or no device told its power. Reads two columns.
    ///
    /// # Errors
    /// A file that cannot be read or decoded.
    pub fn read(fs: &dyn Fs, layout: &Layout) -> Result<Self, StoreError> {
        let path = layout.telemetry();
        let Some(bytes) = read_if_exists(fs, &path)? else { return Ok(Self::default()) };
        let table = Table::open(&path, bytes)?;
        let mut sums: BTreeMap<String, (f64, u64)> = BTreeMap::new();
        for batch in table.batches(&path, |name| matches!(name, "attempt" | "power"))? {
            let batch = batch.map_err(StoreError::damaged(&path))?;
            let attempts = batch.column_by_name("attempt").and_then(|column| column.as_string_opt::<i32>());
            let powers =
                batch.column_by_name("power").and_then(|column| column.as_primitive_opt::<Float64Type>());
            let (Some(attempts), Some(powers)) = (attempts, powers) else {
                return Err(StoreError::damaged(&path)(
                    "its columns attempt and power are not what they were",
                ));
            };
            for (attempt, power) in attempts.iter().zip(powers) {
                if let (Some(attempt), Some(power)) = (attempt, power) {
                    let sum = sums.entry(attempt.to_owned()).or_default();
                    *sum = (sum.0 + power, sum.1 + 1);
                }
            }
        }
        Ok(Self(sums.into_iter().map(|(attempt, (sum, n))| (attempt, sum / n as f64)).collect()))
    }

    /// Of given attempts, in W.
    pub fn of(powers: impl IntoIterator<Item = (String, f64)>) -> Self {
        Self(powers.into_iter().collect())
    }

    /// Whether no device told its power.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Energy of a row in J: its share of the device's time in network calls (`device_seconds`) × the mean power of
    /// the device during the attempt that solved it. Power drawn between calls is in no row. `None`: the device told
    /// no power.
    pub fn energy(&self, row: &Record) -> Option<f64> {
        self.0.get(&row.attempt).map(|power| power * row.device_seconds)
    }
}
