//! From the parts of all attempts to `scores/<metric>.parquet`: the same bytes whoever writes it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{ScoreRow, ScoreSchema, ScoreTable, codec, write};
use crate::store::error::StoreError;
use crate::store::fs::{Fs, read_if_exists};
use crate::store::gather::{Note, note_damage, paths};
use crate::store::layout::Layout;
use crate::store::x1_key::X1Key;

/// Ending of a part's name.
pub(super) const EXTENSION: &str = "parquet";

/// What a merge found and wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScoreMerge {
    /// Rows of the table.
    pub rows: u64,
    /// Rows left out for another of the same key.
    pub duplicates: u64,
    /// Whether the table changed.
    pub changed: bool,
    /// What was strange about the files.
    pub notes: Vec<Note>,
}

/// Makes `scores/<metric>.parquet` from the parts of all attempts and from what it holds already. Merging again gives the
/// same bytes; without rows there is no table.
///
/// # Errors
/// Scores of different definitions, with both identities; what the file system says.
pub fn merge_scores(fs: &dyn Fs, layout: &Layout, metric: &str) -> Result<ScoreMerge, StoreError> {
    let (table, duplicates, notes) = gather(fs, layout, metric)?;
    let Some(table) = table else { return Ok(ScoreMerge { notes, ..ScoreMerge::default() }) };
    let path = layout.scores(metric);
    let changed = read_if_exists(fs, &path)? != Some(codec::encode(&table.schema, &table.rows)?);
    if changed {
        write(fs, &path, &table.schema, &table.rows)?;
    }
    Ok(ScoreMerge { rows: table.rows.len() as u64, duplicates, changed, notes })
}

/// The merged scores; `None` if there are none. With `identity`, those of another definition are refused.
///
/// # Errors
/// A damaged file, another version, another definition.
pub fn read_scores(
    fs: &dyn Fs,
    layout: &Layout,
    metric: &str,
    identity: Option<&str>,
) -> Result<Option<ScoreTable>, StoreError> {
    let path = layout.scores(metric);
    let Some(bytes) = read_if_exists(fs, &path)? else { return Ok(None) };
    let table = codec::decode(&path, bytes)?;
    match identity.filter(|identity| **identity != table.schema.identity) {
        Some(expected) => Err(other_definition(&path, &table.schema, expected)),
        None => Ok(Some(table)),
    }
}

/// Which reconstructions are scored already, in parts or table: what an interrupted scoring need not do again.
///
/// # Errors
/// Scores of another definition than `schema`; what the file system says.
pub fn scored(fs: &dyn Fs, layout: &Layout, schema: &ScoreSchema) -> Result<BTreeSet<X1Key>, StoreError> {
    let (table, _, _) = gather(fs, layout, &schema.metric)?;
    match table {
        Some(table) if table.schema != *schema => {
            Err(other_definition(&layout.scores(&schema.metric), &table.schema, &schema.identity))
        }
        table => Ok(table.into_iter().flat_map(|table| table.rows).map(|row| row.key).collect()),
    }
}

/// All scores of a metric, one row per key, with the number of others and what was strange.
fn gather(
    fs: &dyn Fs,
    layout: &Layout,
    metric: &str,
) -> Result<(Option<ScoreTable>, u64, Vec<Note>), StoreError> {
    let (mut all, mut notes): (Option<ScoreTable>, _) = (None, Vec::new());
    let parts = paths(fs, &layout.score_parts(metric), EXTENSION)?;
    for path in [layout.scores(metric)].iter().chain(&parts) {
        let Some(bytes) = read_if_exists(fs, path)? else { continue };
        let Some(table) = note_damage(codec::decode(path, bytes), &mut notes)? else { continue };
        add(&mut all, path, table)?;
    }
    let duplicates = all.as_mut().map_or(0, keep_one_per_key);
    Ok((all, duplicates, notes))
}

fn add(all: &mut Option<ScoreTable>, path: &Path, table: ScoreTable) -> Result<(), StoreError> {
    match all {
        Some(all) if all.schema != table.schema => {
            Err(other_definition(path, &table.schema, &all.schema.identity))
        }
        Some(all) => {
            all.rows.extend(table.rows);
            Ok(())
        }
        None => {
            *all = Some(table);
            Ok(())
        }
    }
}

/// Sorts and keeps the row with the smallest bits of every key; returns how many others there were, not counting copies
/// of one row.
fn keep_one_per_key(table: &mut ScoreTable) -> u64 {
    table.rows.sort_by(|a, b| a.key.cmp(&b.key).then_with(|| a.bits().cmp(&b.bits())));
    table.rows.dedup_by(|b, a| a.key == b.key && a.bits() == b.bits());
    let rows = table.rows.len();
    table.rows.dedup_by(|b, a| a.key == b.key);
    (rows - table.rows.len()) as u64
}

impl ScoreRow {
    /// The numbers as bits, in which NaN equals itself.
    fn bits(&self) -> (Vec<Option<u64>>, Vec<Vec<u64>>) {
        let values = self.values.iter().map(|value| value.map(f64::to_bits));
        let lists = self.lists.iter().map(|list| list.iter().map(|value| value.to_bits()).collect());
        (values.collect(), lists.collect())
    }
}

fn other_definition(path: &Path, found: &ScoreSchema, expected: &str) -> StoreError {
    StoreError::OtherWeights {
        path: PathBuf::from(path),
        what: format!("scores {}", found.metric),
        found: found.identity.clone(),
        expected: expected.to_owned(),
    }
}
