//! A table as data: columns, typed cells, and the notes that must be printed with it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::metric::Better;

/// What a column holds; decides alignment and how many CSV columns it becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A plain number.
    Number,
    /// A mean with its standard error.
    Mean,
    /// A part of a whole.
    Share,
    /// An estimate with its 95 % interval.
    Interval,
}

impl Kind {
    /// Suffixes of the CSV columns.
    pub(super) const fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Text | Self::Number => &[""],
            Self::Mean => &["", "_standard_error"],
            Self::Share => &["", "_of"],
            Self::Interval => &["", "_low", "_high"],
        }
    }
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name in CSV and JSON.
    pub key: String,
    /// Heading for people.
    pub header: String,
    /// What it holds.
    pub kind: Kind,
}

impl Column {
    /// A column.
    pub fn new(key: impl Into<String>, header: impl Into<String>, kind: Kind) -> Self {
        Self { key: key.into(), header: header.into(), kind }
    }
}

/// One cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing to show.
    Missing,
    /// Text.
    Text(String),
    /// A number, with its digits after the point.
    Number(f64, usize),
    /// A mean.
    Mean {
        /// The mean.
        value: f64,
        /// Its standard error, from two values on.
        error: Option<f64>,
        /// Digits after the point.
        digits: usize,
        /// Some values were exact matches and entered as the cap, so that the mean is a lower bound.
        lower_bound: bool,
    },
    /// `part` of `whole`.
    Share(usize, usize),
    /// An estimate and its 95 % interval.
    Interval {
        /// The estimate.
        value: f64,
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
        /// Digits after the point.
        digits: usize,
    },
}

impl Cell {
    /// A text cell.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The cell as people read it.
    pub fn display(&self) -> String {
        match self {
            Self::Missing => "–".to_owned(),
            Self::Text(text) => text.clone(),
            Self::Number(value, digits) => signed(*value, *digits),
            Self::Mean { value, error, digits, lower_bound } => {
                let bound = if *lower_bound { "> " } else { "" };
                let error = error.filter(|error| *error > 0.0).map(|error| format!(" ± {error:.digits$}"));
                format!("{bound}{}{}", short(*value, *digits), error.unwrap_or_default())
            }
            Self::Share(part, whole) => format!("{part}/{whole}"),
            Self::Interval { value, low, high, digits } => {
                format!("{value:+.digits$} [{low:+.digits$}, {high:+.digits$}]")
            }
        }
    }

    /// What the cell reads as, if it is a number.
    fn shown_value(&self) -> Option<f64> {
        let rounded = |value: f64, digits: usize| format!("{value:.digits$}").parse().ok();
        match self {
            Self::Number(value, digits)
            | Self::Mean { value, digits, .. }
            | Self::Interval { value, digits, .. } => {
                rounded(*value, *digits).filter(|value: &f64| !value.is_nan())
            }
            Self::Missing | Self::Text(_) | Self::Share(..) => None,
        }
    }

    /// The cell's values for CSV, one per suffix of the column's kind.
    pub(super) fn values(&self, kind: Kind) -> Vec<String> {
        let mut values = match self {
            Self::Text(text) => vec![text.clone()],
            numbers => {
                let text = |number: Option<f64>| number.map_or_else(String::new, |number| number.to_string());
                numbers.numbers().into_iter().map(text).collect()
            }
        };
        values.resize(kind.suffixes().len(), String::new());
        values
    }

    /// The cell's numbers, one per suffix of the kind that it is of; none of a text.
    pub(super) fn numbers(&self) -> Vec<Option<f64>> {
        match self {
            Self::Missing | Self::Text(_) => Vec::new(),
            Self::Number(value, _) => vec![Some(*value)],
            Self::Mean { value, error, .. } => vec![Some(*value), *error],
            Self::Share(part, whole) => vec![Some(*part as f64), Some(*whole as f64)],
            Self::Interval { value, low, high, .. } => [value, low, high].map(|v| Some(*v)).to_vec(),
        }
    }

    /// The cell for JSON: full precision.
    pub(super) fn json(&self) -> Value {
        match self {
            Self::Missing => Value::Null,
            Self::Text(text) => json!(text),
            Self::Number(value, _) => json!(value),
            Self::Mean { value, error, lower_bound, .. } => {
                json!({ "mean": value, "standard_error": error, "lower_bound": lower_bound })
            }
            Self::Share(part, whole) => json!({ "part": part, "whole": whole }),
            Self::Interval { value, low, high, .. } => json!({ "value": value, "low": low, "high": high }),
        }
    }
}

/// Fixed digits; a whole number of the cap (120 dB) without them.
fn short(value: f64, digits: usize) -> String {
    if value.fract() == 0.0 && value.abs() >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.digits$}")
    }
}

/// Fixed digits, never "-0.00".
fn signed(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let zero = text.trim_start_matches('-').chars().all(|c| matches!(c, '0' | '.'));
    if zero { text.trim_start_matches('-').to_owned() } else { text }
}

/// A table with everything that has to be said about it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// Name in JSON, such as `table1-cost`.
    pub id: String,
    /// Title, with profile and n.
    pub title: String,
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows, one cell per column.
    pub rows: Vec<Vec<Cell>>,
    /// What the reader has to know, such as what the table may not be compared with.
    pub notes: Vec<String>,
    /// How many leading columns name a row's group: repeated values are left blank for people.
    pub group_columns: usize,
    /// The best and second best cells, by row and column.
    pub ranks: BTreeMap<(usize, usize), Rank>,
}

/// A cell's place among those of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// Bold, as the paper prints it.
    Best,
    /// Underlined.
    Second,
}

impl Table {
    /// Ranks the columns of `keys` within each group of rows, among the cells that `competes` holds for, asked by row and
    /// key. Values that read the same share a rank; a group with one competitor has none.
    #[must_use]
    pub fn ranked(mut self, keys: &[(String, Better)], competes: impl Fn(usize, &str) -> bool) -> Self {
        for (key, better) in keys {
            let Some(column) = self.columns.iter().position(|column| column.key == *key) else { continue };
            for rows in self.groups() {
                let rows = rows.filter(|row| competes(*row, key));
                let mut values: Vec<(usize, f64)> =
                    rows.filter_map(|row| Some((row, self.rows[row][column].shown_value()?))).collect();
                let mut distinct: Vec<f64> = values.iter().map(|(_, value)| *value).collect();
                distinct
                    .sort_by(|a, b| if *better == Better::Higher { b.total_cmp(a) } else { a.total_cmp(b) });
                distinct.dedup();
                if values.len() < 2 {
                    continue;
                }
                for (rank, place) in [(Rank::Best, 0), (Rank::Second, 1)] {
                    let of_place = |(_, value): &mut (usize, f64)| distinct.get(place) == Some(value);
                    let ranked = values.iter_mut().filter_map(|entry| of_place(entry).then_some(entry.0));
                    self.ranks.extend(ranked.map(|row| ((row, column), rank)));
                }
            }
        }
        self
    }

    /// The rows of each group: those that agree in the first leading columns.
    fn groups(&self) -> Vec<std::ops::Range<usize>> {
        let leading = |row: usize| &self.rows[row][..self.group_columns.min(self.rows[row].len())];
        let mut groups: Vec<std::ops::Range<usize>> = Vec::new();
        for row in 0..self.rows.len() {
            match groups.last_mut() {
                Some(group) if leading(group.start) == leading(row) => group.end = row + 1,
                _ => groups.push(row..row + 1),
            }
        }
        groups
    }

    /// Removes the columns that hold nothing in any row.
    #[must_use]
    pub fn without_empty_columns(mut self) -> Self {
        let empty = |index: usize| self.rows.iter().all(|row| row[index] == Cell::Missing);
        let keep: Vec<bool> = (0..self.columns.len()).map(|index| !empty(index)).collect();
        let mut flags = keep.iter();
        self.columns.retain(|_| flags.next() == Some(&true));
        let place = |column: usize| keep[..column].iter().filter(|kept| **kept).count();
        let ranks = std::mem::take(&mut self.ranks).into_iter();
        self.ranks = ranks.map(|((row, column), rank)| ((row, place(column)), rank)).collect();
        for row in &mut self.rows {
            let mut flags = keep.iter();
            row.retain(|_| flags.next() == Some(&true));
        }
        self
    }

    /// The rows as people read them: a leading cell that repeats the one above (and all before it) is blank, a ranked
    /// one is marked.
    pub(super) fn display_rows(&self, mark: impl Fn(String, Rank) -> String) -> Vec<Vec<String>> {
        let mut above: Option<&Vec<Cell>> = None;
        let mut lines = Vec::new();
        for (number, row) in self.rows.iter().enumerate() {
            let same = above.map_or(0, |above| row.iter().zip(above).take_while(|(a, b)| a == b).count());
            let blank = same.min(self.group_columns);
            let text = |(index, cell): (usize, &Cell)| match self.ranks.get(&(number, index)) {
                _ if index < blank => String::new(),
                Some(rank) => mark(cell.display(), *rank),
                None => cell.display(),
            };
            lines.push(row.iter().enumerate().map(text).collect());
            above = Some(row);
        }
        lines
    }
}
