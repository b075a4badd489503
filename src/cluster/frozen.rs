//! `chunks.json`: the chunks of a submission, frozen, and their way back into a plan.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::chunks::{Chunk, Stretch};
use super::error::ClusterError;
use crate::plan::{Plan, Unit};

/// Version of the form of the file.
const FORMAT_VERSION: u32 = 1;

/// A cell, once; chunks name it by its place in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrozenCell {
    /// Name of the task.
    pub task: String,
    /// Name of the method.
    pub method: String,
    /// Cell hash, in hex.
    pub hash: String,
}

/// The content of `chunks.json`. Chunks name samples by their place in `samples`, in stretches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkFile {
    /// Version of this form.
    dflow_chunks: u32,
    /// The cells.
    pub cells: Vec<FrozenCell>,
    /// Ids of the samples.
    pub samples: Vec<String>,
    /// The chunks.
    pub chunks: Vec<Chunk>,
}

impl ChunkFile {
    /// Freezes chunks of a plan.
    pub fn new(plan: &Plan, chunks: Vec<Chunk>) -> Self {
        let cells = plan.cells.iter().map(|cell| FrozenCell {
            task: cell.task.clone(),
            method: cell.method.clone(),
            hash: cell.hash.to_string(),
        });
        let (cells, samples) = (cells.collect(), plan.dataset.samples.clone());
        Self { dflow_chunks: FORMAT_VERSION, cells, samples, chunks }
    }

    /// That of a submission of which nothing is to be known but its jobs.
    pub(super) const fn unknown() -> Self {
        Self { dflow_chunks: FORMAT_VERSION, cells: Vec::new(), samples: Vec::new(), chunks: Vec::new() }
    }

    /// The text of the file: one chunk a line.
    pub fn to_text(&self) -> String {
        let chunks: Vec<String> = self.chunks.iter().map(json).collect();
        format!(
            "{{\"dflow_chunks\":{},\n\"cells\":{},\n\"samples\":{},\n\"chunks\":[\n{}\n]}}\n",
            self.dflow_chunks,
            json(&self.cells),
            json(&self.samples),
            chunks.join(",\n")
        )
    }

    /// Reads and checks a file: whatever is in it, [`Self::units`] then answers or names what is wrong.
    ///
    /// # Errors
    /// Another version, a damaged file, a chunk that names what is not there, or a sample in two chunks.
    pub fn read(path: &Path) -> Result<Self, ClusterError> {
        #[derive(Deserialize)]
        struct Version {
            dflow_chunks: u32,
        }
        let damaged = |detail: String| ClusterError::Damaged { path: path.to_owned(), detail };
        let bytes = std::fs::read(path).map_err(ClusterError::io("read", path))?;
        let Version { dflow_chunks: found } =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if found != FORMAT_VERSION {
            return Err(ClusterError::Version { path: path.to_owned(), found, expected: FORMAT_VERSION });
        }
        let file: Self = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        file.check().map_err(damaged)?;
        Ok(file)
    }

    fn check(&self) -> Result<(), String> {
        let mut stretches: Vec<Stretch> = Vec::new();
        for (i, chunk) in self.chunks.iter().enumerate() {
            for stretch in &chunk.units {
                let end = stretch.first.checked_add(stretch.count);
                let inside = end.is_some_and(|end| stretch.count > 0 && end <= self.samples.len());
                if !inside || stretch.cell >= self.cells.len() {
                    return Err(format!("chunk {i} names a cell or sample that is not in the file"));
                }
                stretches.push(*stretch);
            }
        }
        stretches.sort_unstable();
        let overlap =
            |pair: &[Stretch]| pair[0].cell == pair[1].cell && pair[0].first + pair[0].count > pair[1].first;
        match stretches.windows(2).find(|pair| overlap(pair)) {
            Some(pair) => Err(format!("sample {} is in two chunks", self.samples[pair[1].first])),
            None => Ok(()),
        }
    }

    /// A chunk by its index.
    ///
    /// # Errors
    /// [`ClusterError::NoChunk`].
    pub fn chunk(&self, index: usize) -> Result<&Chunk, ClusterError> {
        self.chunks.get(index).ok_or(ClusterError::NoChunk { index, count: self.chunks.len() })
    }

    /// The cell hash and sample id of every unit of a chunk: the keys of its rows.
    ///
    /// # Errors
    /// [`ClusterError::NoChunk`].
    pub fn keys(&self, index: usize) -> Result<impl Iterator<Item = (&str, &str)>, ClusterError> {
        let units = self.chunk(index)?.units.iter().flat_map(|stretch| stretch.units());
        Ok(units.map(|unit| (&*self.cells[unit.cell].hash, &*self.samples[unit.sample])))
    }

    /// The units of a chunk in a plan.
    ///
    /// # Errors
    /// When the plan has no such cell or sample any more: it names the first.
    pub fn units(&self, plan: &Plan, index: usize) -> Result<Vec<Unit>, ClusterError> {
        let chunk = self.chunk(index)?;
        let is_same = self.samples == plan.dataset.samples;
        // Where the plan has the same samples in the same order, and it always should, no index of them is made.
        let places: HashMap<&str, usize> = if is_same {
            HashMap::new()
        } else {
            plan.dataset.samples.iter().enumerate().map(|(i, id)| (&**id, i)).collect()
        };
        let mut units = Vec::with_capacity(chunk.len());
        for stretch in &chunk.units {
            let cell = self.cell_in(plan, stretch.cell)?;
            for Unit { sample, .. } in stretch.units() {
                let id = &self.samples[sample];
                let place = if is_same { Some(sample) } else { places.get(&**id).copied() };
                let sample = place.ok_or_else(|| ClusterError::NoSample { id: id.clone() })?;
                units.push(Unit { cell, sample });
            }
        }
        Ok(units)
    }

    fn cell_in(&self, plan: &Plan, cell: usize) -> Result<usize, ClusterError> {
        let FrozenCell { task, method, hash } = &self.cells[cell];
        let found = plan.cells.iter().position(|cell| cell.hash.to_string() == *hash);
        found.ok_or_else(|| ClusterError::OtherCell {
            task: task.clone(),
            method: method.clone(),
            frozen: hash.clone(),
            now: plan
                .cell(task, method)
                .map_or_else(|| "no cell of these names".to_owned(), |cell| cell.hash.to_string()),
        })
    }
}

/// Plain data as JSON, which cannot fail.
fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("texts and numbers are plain JSON")
}
