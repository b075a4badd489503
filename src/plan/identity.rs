//! Identity of a cell: the hash of what determines its numbers.
//!
//! In it: the dataset (id and manifest hash), the task's operator and noise, the method with its resolved options and
//! stop rules, the model's identity, the run seed and [`NUMERICS`]. Not in it: limit, shard, devices, slots, output,
//! save, metrics, names. More samples, tasks or methods therefore continue a run; a changed option is another cell.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Cell, Plan};

/// Raised by every change of the code that changes a number in a row: rows of different values never mix.
pub const NUMERICS: u32 = 2;

/// blake3 of a cell's canonical JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CellHash([u8; 32]);

/// A text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no cell hash (64 hexadecimal digits)")]
pub struct CellHashError(String);

impl CellHash {
    /// The hash of what determines a cell.
    pub fn of(determinants: &Value) -> Self {
        Self(*blake3::hash(canonical(determinants).as_bytes()).as_bytes())
    }

    /// The first eight digits, for people.
    pub fn short(self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for CellHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl FromStr for CellHash {
    type Err = CellHashError;

    fn from_str(text: &str) -> Result<Self, CellHashError> {
        let hash = blake3::Hash::from_hex(text).map_err(|_| CellHashError(text.to_owned()))?;
        Ok(Self(*hash.as_bytes()))
    }
}

impl TryFrom<String> for CellHash {
    type Error = CellHashError;

    fn try_from(text: String) -> Result<Self, CellHashError> {
        text.parse()
    }
}

impl From<CellHash> for String {
    fn from(hash: CellHash) -> Self {
        hash.to_string()
    }
}

/// JSON in one form only: keys sorted by their bytes, no white space, entries that are null left out (an option
/// added later does not change the hash of files that do not use it), integers in plain digits, other numbers as
/// the shortest decimal that reads back to the same double, written `d.ddde±x` with −0 as 0.
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(&mut text, value);
    text
}

fn write_canonical(text: &mut String, value: &Value) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(flag) => text.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => write_number(text, number),
        Value::String(string) => text.push_str(&Value::from(string.as_str()).to_string()),
        Value::Array(list) => write_list(text, ('[', ']'), list, write_canonical),
        Value::Object(map) => {
            let sorted: BTreeMap<&str, &Value> = map
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (&**key, value))
                .collect();
            write_list(text, ('{', '}'), sorted, |text, (key, value)| {
                text.push_str(&Value::from(key).to_string());
                text.push(':');
                write_canonical(text, value);
            });
        }
    }
}

fn write_list<T>(
    text: &mut String,
    (open, close): (char, char),
    items: impl IntoIterator<Item = T>,
    write_item: impl Fn(&mut String, T),
) {
    text.push(open);
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        write_item(text, item);
    }
    text.push(close);
}

fn write_number(text: &mut String, number: &serde_json::Number) {
    match number.as_f64().filter(|_| number.is_f64()) {
        // Adding 0 turns −0 into 0.
        Some(double) => write!(text, "{:e}", double + 0.0),
        None => write!(text, "{number}"),
    }
    .expect("a String takes every text");
}

/// A value that differs between two documents.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Path of the value, such as `method.dflow.solver.midpoint.nfe`.
    pub path: String,
    /// The first document's value; null where it has none.
    pub old: Value,
    /// The second's.
    pub new: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, old, new } = self;
        write!(f, "{path}: {} there, {} here", shown(old), shown(new))
    }
}

fn shown(value: &Value) -> String {
    if value.is_null() { "nothing".to_owned() } else { value.to_string() }
}

/// The innermost values in which two documents differ, in the order of their paths.
pub fn differences(old: &Value, new: &Value) -> Vec<Difference> {
    let mut list = Vec::new();
    collect_differences(&mut list, "", old, new);
    list
}

fn collect_differences(list: &mut Vec<Difference>, path: &str, old: &Value, new: &Value) {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let dot = if path.is_empty() { "" } else { "." };
                let (a, b) = (a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null));
                collect_differences(list, &format!("{path}{dot}{key}"), a, b);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                collect_differences(list, &format!("{path}[{i}]"), a, b);
            }
        }
        _ if canonical(old) == canonical(new) => {}
        _ => list.push(Difference { path: path.to_owned(), old: old.clone(), new: new.clone() }),
    }
}

/// A (task, method) name that stands for another cell in an existing run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "task `{task}`, method `{method}` was run with other settings in this directory ({}); \
     choose another output directory, or give the task or the method another name",
    what_differs(.differences)
)]
pub struct CellConflict {
    /// Name of the task.
    pub task: String,
    /// Name of the method.
    pub method: String,
    /// What differs: the run's values and the plan's. Empty if no `run.json` tells what the run's values were.
    pub differences: Vec<Difference>,
}

fn what_differs(differences: &[Difference]) -> String {
    if differences.is_empty() {
        return "run.json is missing or does not name their cell, so what differs is not known".to_owned();
    }
    differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Plan {
    /// The names that already stand for other cells in an existing run. `rows` are task, method and cell hash of the
    /// run's rows; `known` are the cells that its `run.json` describes.
    pub fn conflicts<'a>(
        &self,
        rows: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>,
        known: &[Cell],
    ) -> Vec<CellConflict> {
        let conflict = |(task, method, hash): (&str, &str, &str)| {
            let cell = self.cell(task, method).filter(|cell| cell.hash.to_string() != hash)?;
            // By hash: after a renaming, the run has the cell of these rows under another name.
            let other = known.iter().find(|other| other.hash.to_string() == hash);
            let list = other.map(|other| differences(&other.determinants, &cell.determinants));
            let (task, method) = (task.to_owned(), method.to_owned());
            Some(CellConflict { task, method, differences: list.unwrap_or_default() })
        };
        rows.into_iter().filter_map(conflict).collect()
    }
}
