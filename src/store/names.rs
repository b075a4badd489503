//! Texts as small numbers: a run of a million rows repeats a few hundred names and the ids of its samples.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};

use super::record::{Key, Status};

/// Numbers for texts, in the order in which they were first seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Interner {
    numbers: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
    /// The last answer: neighbouring rows mostly share their names.
    last: u32,
}

impl Interner {
    /// The number of a text, a new one if need be.
    pub(super) fn number(&mut self, text: &str) -> u32 {
        if self.texts.get(self.last as usize).is_none_or(|last| **last != *text) {
            self.last = self.find(text).unwrap_or_else(|| self.insert(text));
        }
        self.last
    }

    fn insert(&mut self, text: &str) -> u32 {
        let number = u32::try_from(self.texts.len()).expect("fewer than 2^32 names fit into memory");
        let text: Arc<str> = text.into();
        self.texts.push(Arc::clone(&text));
        self.numbers.insert(text, number);
        number
    }

    /// The number of a text that was seen.
    pub(super) fn find(&self, text: &str) -> Option<u32> {
        self.numbers.get(text).copied()
    }

    /// The text of a number.
    pub(super) fn text(&self, number: u32) -> &str {
        &self.texts[number as usize]
    }

    /// All texts, in the order of their numbers.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(|text| &**text)
    }

    /// For every number its text's place in alphabetical order.
    pub(super) fn ranks(&self) -> Vec<u32> {
        let mut sorted: Vec<u32> = (0..self.texts.len() as u32).collect();
        sorted.sort_unstable_by_key(|number| self.text(*number));
        let mut ranks = vec![0; sorted.len()];
        sorted.into_iter().zip(0..).for_each(|(number, rank)| ranks[number as usize] = rank);
        ranks
    }
}

/// The names in rows.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    pub(super) tasks: Interner,
    pub(super) methods: Interner,
    pub(super) cells: Interner,
    pub(super) samples: Interner,
    pub(super) attempts: Interner,
}

impl Names {
    /// The key of the numbers of a cell and a sample.
    pub(super) fn key(&self, (cell, sample): (u32, u32)) -> Key {
        (self.cells.text(cell).to_owned(), self.samples.text(sample).to_owned())
    }
}

/// Who a row is, where it came from and how it ended, by the numbers of its [`Names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) task: u32,
    pub(super) method: u32,
    pub(super) cell: u32,
    pub(super) sample: u32,
    pub(super) attempt: u32,
    pub(super) status: Status,
}

impl Entry {
    /// The columns that it is made from.
    pub(super) const COLUMNS: [&str; 6] = ["task", "method", "cell_hash", "sample_id", "attempt", "status"];

    /// Adds the entries of a batch to `entries`.
    pub(super) fn decode(
        batch: &RecordBatch,
        names: &mut Names,
        entries: &mut Vec<Self>,
    ) -> Result<(), String> {
        let column = |name| text_column(batch, name);
        let (tasks, methods) = (column("task")?, column("method")?);
        let (cells, samples) = (column("cell_hash")?, column("sample_id")?);
        let (attempts, statuses) = (column("attempt")?, column("status")?);
        for i in 0..batch.num_rows() {
            let status = Status::parse(statuses.value(i))
                .ok_or_else(|| format!("column status holds {:?}", statuses.value(i)))?;
            entries.push(Self {
                task: names.tasks.number(tasks.value(i)),
                method: names.methods.number(methods.value(i)),
                cell: names.cells.number(cells.value(i)),
                sample: names.samples.number(samples.value(i)),
                attempt: names.attempts.number(attempts.value(i)),
                status,
            });
        }
        Ok(())
    }
}

/// A column of texts without nulls; the error names it.
pub(super) fn text_column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray, String> {
    let array = batch.column_by_name(name).ok_or_else(|| format!("column {name} is missing"))?;
    let texts = array.as_string_opt::<i32>().filter(|texts| texts.null_count() == 0);
    texts.ok_or_else(|| format!("column {name} is {}, not string", array.data_type()))
}
