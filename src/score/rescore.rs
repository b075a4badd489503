//! Metrics of a finished run made again from its lossless reconstructions, without solving.
//!
//! They are written beside the rows (`scores/`, `features/`), never over them, and are the rows' own bit for bit where
//! these have them: [`Rescored::differing`] counts those that are not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rayon::prelude::*;

use super::family;
use super::scorers::stored;
use super::{Content, Ground, Scorers};
use crate::operator::Shape;
use crate::plan::Unit;
use crate::spec::metric::MetricSpec;
use crate::store::attempt::AttemptId;
use crate::store::features::{FeatureReader, FeatureRow, FeatureWriter, clean_cell, merge_features};
use crate::store::{
    Key, Record, RunDir, ScoreRow, ScoreSchema, ScoreWriter, Status, StoreError, X1Key, artifacts,
    merge_scores, read_scores, scored,
};

/// Reconstructions scored between two writes: what an interruption costs, per thread tens of milliseconds each.
const BATCH: usize = 256;

/// Told a metric, how much of it is done and how much there is, between batches; false stops.
pub type GoesOn<'a> = &'a (dyn Fn(&str, usize, usize) -> bool + Sync);

/// What became of one metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rescored {
    /// The metric.
    pub metric: MetricSpec,
    /// Rows scored now.
    pub scored: usize,
    /// Rows that were scored before.
    pub known: usize,
    /// Rows whose reconstruction was not kept.
    pub without: usize,
    /// Rows whose own values of the same definition, or features scored before, were compared.
    pub compared: usize,
    /// Of these, how many differ in a bit, with the first of them.
    pub differing: (usize, Option<String>),
    /// Rows that could not be scored, with the first of them and why.
    pub failed: (usize, Option<String>),
}

impl Rescored {
    /// Counts a row that had values of the same definition before; `what` names those that may differ.
    fn compare(&mut self, record: &Record, is_equal: bool, what: &str) {
        self.compared += 1;
        if !is_equal {
            self.differing.0 += 1;
            self.differing.1.get_or_insert_with(|| named(record, what));
        }
    }

    /// Counts a row; gives it if it could be scored.
    fn taken<T>(&mut self, record: &Record, row: Result<T, String>) -> Option<T> {
        match row {
            Ok(row) => {
                self.scored += 1;
                Some(row)
            }
            Err(error) => {
                self.failed.0 += 1;
                self.failed.1.get_or_insert_with(|| named(record, &error));
                None
            }
        }
    }
}

/// A run, ready to be scored again.
pub struct Rescore<'a> {
    run_dir: &'a RunDir,
    ground: &'a Ground,
    /// Rows that can be scored, with their units.
    rows: Vec<(Unit, &'a Record)>,
    /// Whether rows that were scored before are scored again.
    recheck: bool,
    goes_on: GoesOn<'a>,
}

impl<'a> Rescore<'a> {
    /// The ok rows of the plan; with `recheck` also those that were scored before, to be compared bit for bit.
    pub fn new(
        run_dir: &'a RunDir,
        ground: &'a Ground,
        records: &'a [Record],
        recheck: bool,
        goes_on: GoesOn<'a>,
    ) -> Self {
        let plan = ground.plan();
        let cells: BTreeMap<String, usize> =
            plan.cells.iter().enumerate().map(|(i, cell)| (cell.hash.to_string(), i)).collect();
        let samples: BTreeMap<&str, usize> =
            plan.dataset.samples.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
        let unit = |record: &Record| {
            let (cell, sample) = (*cells.get(&record.cell_hash)?, *samples.get(record.sample_id.as_str())?);
            Some(Unit { cell, sample })
        };
        let ok = records.iter().filter(|record| record.status == Status::Ok);
        let rows = ok.filter_map(|record| Some((unit(record)?, record))).collect();
        Self { run_dir, ground, rows, recheck, goes_on }
    }

    /// Scores all rows by one metric; its weights are in `scorers`.
    ///
    /// # Errors
    /// Files that cannot be read or written, samples that cannot be read, scores of another definition.
    pub fn metric(&self, metric: &MetricSpec, scorers: &Scorers) -> Result<Option<Rescored>, String> {
        if let MetricSpec::Features(_) = metric {
            return self.features(metric, scorers);
        }
        let Some(schema) = family::schema(metric, scorers) else { return Ok(None) };
        let (fs, layout) = (self.run_dir.fs(), self.run_dir.layout());
        let known = scored(&**fs, layout, &schema).map_err(text)?;
        let (open, mut outcome) = self.open(metric, |key| known.contains(key));
        let before = if self.recheck {
            merge_scores(&**fs, layout, &schema.metric).map_err(text)?;
            read_scores(&**fs, layout, &schema.metric, Some(&schema.identity)).map_err(text)?
        } else {
            None
        };
        let mut writer = ScoreWriter::new(Arc::clone(fs), layout.clone(), AttemptId::new(), schema.clone());
        for batch in open.chunks(BATCH) {
            if !(self.goes_on)(&metric.to_string(), outcome.scored, open.len()) {
                break;
            }
            let scored: Vec<_> =
                batch.par_iter().map(|(unit, record)| self.score(*unit, record, metric, scorers)).collect();
            let mut rows = Vec::with_capacity(scored.len());
            for ((_, record), row) in batch.iter().zip(scored) {
                let Some(row) = outcome.taken(record, row) else { continue };
                let (cell_hash, sample_id, x1_blake3) = row.key.as_text();
                let before = before.as_ref().and_then(|table| table.get(cell_hash, sample_id, x1_blake3));
                compare(metric, &schema, record, (&row, before), &mut outcome);
                rows.extend(before.is_none().then_some(row));
            }
            writer.append(rows).map_err(text)?;
        }
        writer.flush().map_err(text)?;
        let merged = merge_scores(&**fs, layout, &schema.metric).map_err(text)?;
        merged.notes.iter().for_each(|note| tracing::warn!("{note}"));
        Ok(Some(outcome))
    }

    /// The rows that `is_known` does not hold for and that have a reconstruction.
    fn open(
        &self,
        metric: &MetricSpec,
        is_known: impl Fn(&X1Key) -> bool,
    ) -> (Vec<(Unit, &'a Record)>, Rescored) {
        let (done, open): (Vec<_>, Vec<_>) = self
            .rows
            .iter()
            .partition(|(_, record)| !self.recheck && x1_key(record).is_some_and(|key| is_known(&key)));
        let (open, without): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|(_, record)| record.x1_file.is_some());
        let (known, without) = (done.len(), without.len());
        let outcome = Rescored {
            metric: metric.clone(),
            scored: 0,
            known,
            without,
            compared: 0,
            differing: (0, None),
            failed: (0, None),
        };
        (open, outcome)
    }

    fn score(
        &self,
        unit: Unit,
        record: &Record,
        metric: &MetricSpec,
        scorers: &Scorers,
    ) -> Result<ScoreRow, String> {
        let (x1, truth, shape) = self.images(unit, record)?;
        let operator = self.ground.operator(unit);
        let hole = operator.as_ref().and_then(|operator| operator.hole());
        let families = (std::slice::from_ref(metric), scorers);
        let scored = family::score_image(&x1, &truth, shape, hole, families, Record::default())?;
        let (values, lists) = family::values(metric, &scored);
        let key = x1_key(record).ok_or("it has no hash of its reconstruction")?;
        Ok(ScoreRow { key, values, lists })
    }

    /// Reconstruction and ground truth of a row.
    fn images(&self, unit: Unit, record: &Record) -> Result<(Vec<f32>, Vec<f32>, Shape), String> {
        let shape = self.ground.image_shape().ok_or("the samples of this run are no images")?;
        let x1 = self.reconstruction(record)?;
        match self.ground.sample(unit.sample)?.content {
            Content::Image(truth) => Ok((x1, truth, shape)),
            Content::Molecule { .. } => Err("the samples of this run are no images".to_owned()),
        }
    }

    fn reconstruction(&self, record: &Record) -> Result<Vec<f32>, String> {
        let read = artifacts::read(&**self.run_dir.fs(), self.run_dir.layout(), record).map_err(text)?;
        read.ok_or_else(|| "its reconstruction was not kept".to_owned())
    }

    fn features(&self, metric: &MetricSpec, scorers: &Scorers) -> Result<Option<Rescored>, String> {
        let Some(loaded) = scorers.features().first() else { return Ok(None) };
        let net = stored(loaded);
        let (fs, layout) = (self.run_dir.fs(), self.run_dir.layout());
        merge_features(&**fs, layout, &net.name).map_err(text)?;
        let reader = FeatureReader::open(&**fs, layout, &net.name, Some(&net.identity)).map_err(text)?;
        let mut known: BTreeSet<X1Key> = BTreeSet::new();
        for cell in reader.iter().flat_map(|reader| reader.cells().map(|cell| reader.keys(cell))) {
            known.extend(cell.map_err(text)?);
        }
        let shape = self.ground.image_shape().ok_or("the samples of this run are no images")?;
        let (open, mut outcome) = self.open(metric, |key| known.contains(key));
        let mut writer =
            FeatureWriter::new(Arc::clone(fs), layout, &AttemptId::new(), net.clone()).map_err(text)?;
        for batch in open.chunks(BATCH) {
            if !(self.goes_on)(&metric.to_string(), outcome.scored, open.len()) {
                break;
            }
            let before = match &reader {
                Some(reader) if self.recheck => known_features(reader, batch)?,
                _ => BTreeMap::new(),
            };
            let made = batch.par_iter().map(|(_, record)| {
                let x1 = self.reconstruction(record)?;
                scorers.feature_vector(0, &x1, shape)
            });
            let made: Vec<_> = made.collect();
            let mut rows: Vec<(&Record, Key, Vec<f32>)> = Vec::new();
            for ((_, record), features) in batch.iter().zip(made) {
                let Some(features) = outcome.taken(record, features) else { continue };
                match x1_key(record).and_then(|key| before.get(&key)) {
                    Some(before) => outcome.compare(record, bits(before).eq(bits(&features)), "features"),
                    None => rows.push((record, record.key(), features)),
                }
            }
            let items = rows.iter().filter_map(|(record, key, features)| {
                let x1_blake3 = record.x1_blake3.as_deref()?;
                Some(FeatureRow { key, x1_blake3, features })
            });
            writer.append(&items.collect::<Vec<_>>()).map_err(text)?;
        }
        drop(reader);
        merge_features(&**fs, layout, &net.name).map_err(text)?;
        Ok(Some(outcome))
    }
}

fn bits(features: &[f32]) -> impl Iterator<Item = u32> {
    features.iter().map(|v| v.to_bits())
}

/// The features that rows have already.
fn known_features(
    reader: &FeatureReader,
    rows: &[(Unit, &Record)],
) -> Result<BTreeMap<X1Key, Vec<f32>>, String> {
    let wanted: BTreeSet<X1Key> = rows.iter().filter_map(|(_, record)| x1_key(record)).collect();
    let cells: BTreeSet<&str> = rows.iter().map(|(_, record)| record.cell_hash.as_str()).collect();
    let mut known = BTreeMap::new();
    for cell in cells {
        let key = |sample_id: &str, x1_blake3: &str| X1Key {
            cell_hash: cell.into(),
            sample_id: sample_id.to_owned(),
            x1_blake3: x1_blake3.to_owned(),
        };
        let mut keys = Vec::new();
        let keep = |id: &str, hash: &str| {
            let key = key(id, hash);
            let is_wanted = wanted.contains(&key);
            keys.extend(is_wanted.then_some(key));
            is_wanted
        };
        let features = reader.read_cell(cell, keep).map_err(text)?;
        known.extend(keys.into_iter().zip(features.rows().map(<[f32]>::to_vec)));
    }
    Ok(known)
}

/// Features of the clean images that have none yet: the reference of the distances between sets. Gives how many were made.
///
/// # Errors
/// Images that cannot be read, files that cannot be written, features of other weights.
pub fn complete_references(
    run_dir: &RunDir,
    ground: &Ground,
    scorers: &Scorers,
    samples: &[usize],
    goes_on: GoesOn<'_>,
) -> Result<usize, String> {
    let Some(shape) = ground.image_shape() else { return Ok(0) };
    let (fs, layout) = (run_dir.fs(), run_dir.layout());
    let plan = ground.plan();
    let cell = clean_cell(&plan.dataset.manifest);
    let mut made = 0;
    for (index, loaded) in scorers.features().iter().enumerate() {
        let net = stored(loaded);
        merge_features(&**fs, layout, &net.name).map_err(text)?;
        let reader = FeatureReader::open(&**fs, layout, &net.name, Some(&net.identity)).map_err(text)?;
        let keys = reader.map(|reader| reader.keys(&cell)).transpose().map_err(text)?.unwrap_or_default();
        let known: BTreeSet<&str> = keys.iter().map(|key| key.sample_id.as_str()).collect();
        let open: Vec<usize> =
            samples.iter().copied().filter(|i| !known.contains(plan.dataset.samples[*i].as_str())).collect();
        if open.is_empty() {
            continue;
        }
        let mut writer =
            FeatureWriter::new(Arc::clone(fs), layout, &AttemptId::new(), net.clone()).map_err(text)?;
        for (done, batch) in open.chunks(BATCH).enumerate() {
            if !goes_on(&format!("clean images, features:{}", net.name), done * BATCH, open.len()) {
                break;
            }
            let rows = batch.par_iter().map(|&sample| clean_row(ground, scorers, index, shape, sample));
            // An image that cannot be read has no row either: its failure is told there.
            let rows = rows.filter_map(Result::transpose).collect::<Result<Vec<_>, String>>()?;
            let rows: Vec<(Key, String, Vec<f32>)> =
                rows.into_iter().map(|(id, hash, row)| ((cell.clone(), id), hash, row)).collect();
            let items = rows.iter().map(|(key, x1_blake3, features)| FeatureRow { key, x1_blake3, features });
            writer.append(&items.collect::<Vec<_>>()).map_err(text)?;
            made += rows.len();
        }
        merge_features(&**fs, layout, &net.name).map_err(text)?;
    }
    Ok(made)
}

/// Id, hash and features of a clean image; `None`: it cannot be read.
fn clean_row(
    ground: &Ground,
    scorers: &Scorers,
    net: usize,
    shape: Shape,
    sample: usize,
) -> Result<Option<(String, String, Vec<f32>)>, String> {
    let Ok(sample) = ground.sample(sample) else { return Ok(None) };
    let Content::Image(image) = sample.content else {
        return Err("the samples of this run are no images".to_owned());
    };
    let row = scorers.feature_vector(net, &image, shape)?;
    Ok(Some((sample.id, artifacts::x1_blake3(&image), row)))
}

fn compare(
    metric: &MetricSpec,
    schema: &ScoreSchema,
    record: &Record,
    (row, before): (&ScoreRow, Option<&ScoreRow>),
    outcome: &mut Rescored,
) {
    if family::is_in_row(metric, schema, record) {
        let columns = family::differing(metric, record, &row.values);
        outcome.compare(record, columns.is_empty(), &columns.join(", "));
    } else if let Some(before) = before {
        let bits = |row: &ScoreRow| row.values.iter().map(|v| v.map(f64::to_bits)).collect::<Vec<_>>();
        outcome.compare(record, bits(row) == bits(before), &schema.metric);
    }
}

fn x1_key(record: &Record) -> Option<X1Key> {
    Some(X1Key {
        cell_hash: record.cell_hash.as_str().into(),
        sample_id: record.sample_id.clone(),
        x1_blake3: record.x1_blake3.clone()?,
    })
}

fn named(record: &Record, what: &str) -> String {
    format!("{}/{}/{}: {what}", record.task, record.method, record.sample_id)
}

fn text(error: StoreError) -> String {
    error.to_string()
}
