//! Energy per sample: a column of the tables of cost, where the devices told their power.

use super::Run;
use super::aggregate::mean;
use super::table::{Cell, Column, Kind};
use crate::store::Record;

/// Digits after the point, of kJ.
const DIGITS: usize = 3;

/// The column.
pub(super) fn column(noun: &str) -> Column {
    Column::new("energy_kilojoules", format!("energy kJ/{noun}"), Kind::Mean)
}

/// Mean over the rows whose device told its power.
pub(super) fn cell<'a>(run: &Run<'_>, rows: impl Iterator<Item = &'a Record>) -> Cell {
    let Some(power) = run.power else { return Cell::Missing };
    mean(rows.filter_map(|row| power.energy(row)).map(|joules| joules / 1000.0), DIGITS, f64::INFINITY)
}

/// What the column is, and how many of the rows it is of.
pub(super) fn note<'a>(run: &Run<'_>, rows: impl Iterator<Item = &'a Record>) -> Option<String> {
    let power = run.power.filter(|power| !power.is_empty())?;
    let (mut all, mut told) = (0, 0);
    for row in rows {
        all += 1;
        told += usize::from(power.energy(row).is_some());
    }
    let part = if told < all { format!(" Known for {told} of {all} rows.") } else { String::new() };
    (told > 0).then(|| {
        format!(
            "Energy: device seconds × the mean power that the device drew while its attempt lasted (NVML, whole board). \
             Power between network calls, the host and cooling are not in it.{part}"
        )
    })
}
