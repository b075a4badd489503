//! Distances between the reconstructions of a cell and the clean images, from the stored features.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::scorers::file_name;
use crate::metric::set::{FeatureSet, KidReference, Reference, SetError, bootstrap, frechet};
use crate::plan::Plan;
use crate::report::{SetColumn, SetScore};
use crate::spec::metric::MetricSpec;
use crate::store::features::{FeatureReader, clean_cell, merge_features, stored_nets};
use crate::store::fs::OsFs;
use crate::store::{
    FeatureNet, NetKind, Record, ReferenceInfo, RunDir, Status, cached_reference, read_reference,
    write_reference,
};
use crate::user_cache;

/// Name of the file of the network that FID is defined with; what follows in others is how images are prepared.
const FID_NETWORK: &str = "inception";
/// Cells measured at once: each holds its features in f64 and a few square matrices.
const AT_ONCE: usize = 2;

/// What is measured.
#[derive(Debug, Clone, Default)]
pub struct SetOptions {
    /// Bootstrap samples for a standard deviation.
    pub bootstrap: Option<usize>,
    /// Stored statistics instead of the run's own clean images.
    pub reference: Option<PathBuf>,
    /// Where to write the statistics of the run's clean images, for other runs.
    pub write_reference: Option<PathBuf>,
    /// Leave out the kernel distance.
    pub no_kernel: bool,
    /// The reference may be of another of the run's networks, of which there are several.
    pub other_references: bool,
}

impl SetOptions {
    /// The options for one of `several` networks: statistics are written to a file of its own, named after it.
    fn of_network(&self, name: &str, several: bool) -> Self {
        let own = |path: &PathBuf| {
            let suffix =
                path.extension().map_or_else(String::new, |suffix| format!(".{}", suffix.to_string_lossy()));
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            path.with_file_name(format!("{stem}-{name}{suffix}"))
        };
        let write_reference = self.write_reference.as_ref();
        Self {
            write_reference: if several { write_reference.map(own) } else { write_reference.cloned() },
            other_references: several,
            ..self.clone()
        }
    }
}

/// One column per feature network of the run: those of its metrics, and those that were scored later. A metric without
/// features says `no weights`. `plan` is the run's, or one of some of its samples.
///
/// # Errors
/// Features that are damaged, not finite (names the sample), or of different weights; statistics that do not suit.
pub fn columns(
    run_dir: &RunDir,
    plan: &Plan,
    records: &[Record],
    options: &SetOptions,
) -> Result<Vec<SetColumn>, String> {
    let (fs, layout) = (&**run_dir.fs(), run_dir.layout());
    let planned = plan.metrics.iter().filter_map(|metric| match metric {
        MetricSpec::Features(name) => Some(file_name(name)),
        _ => None,
    });
    let mut names: Vec<String> = planned.collect();
    for stored in stored_nets(fs, layout).map_err(|error| error.to_string())? {
        if !names.contains(&stored) {
            names.push(stored);
        }
    }
    let mut readers = Vec::new();
    for name in names {
        let merged = merge_features(fs, layout, &name).map_err(|error| error.to_string())?;
        merged.notes.iter().for_each(|note| tracing::warn!("{note}"));
        let reader = FeatureReader::open(fs, layout, &name, None).map_err(|error| error.to_string())?;
        readers.push((name, reader));
    }
    let several = readers.iter().filter(|(_, reader)| reader.is_some()).count() > 1;
    let (mut columns, mut is_used) = (Vec::new(), false);
    for (name, reader) in readers {
        let Some(reader) = reader else {
            columns.push(without_weights(plan, records, &name));
            continue;
        };
        let clean = clean(plan, &reader, &options.of_network(&name, several))?;
        is_used |= clean.as_ref().is_some_and(|clean| clean.is_stored);
        columns.push(column(plan, records, &reader, clean.as_ref(), options)?);
    }
    match &options.reference {
        Some(path) if several && !is_used => Err(format!(
            "--reference: {} holds statistics of none of this run's networks: make statistics with one of them (`dflow \
             table … --write-reference`)",
            path.display()
        )),
        _ => Ok(columns),
    }
}

/// The column of a network that nothing was measured with, where there are rows to measure.
fn without_weights(plan: &Plan, records: &[Record], name: &str) -> SetColumn {
    // Its file may not be here either: the shipped names say what is Inception.
    let kind = match name.strip_prefix(FID_NETWORK) {
        Some("") => NetKind::Inception,
        Some(variant) if variant.starts_with('-') => NetKind::InceptionVariant,
        _ => NetKind::Other,
    };
    let (key, display) = names(name, kind);
    let has_rows: BTreeSet<&str> = records
        .iter()
        .filter(|record| record.status == Status::Ok)
        .map(|record| record.cell_hash.as_str())
        .collect();
    let hashes = plan.cells.iter().map(|cell| cell.hash.to_string());
    let scores = hashes.filter(|hash| has_rows.contains(hash.as_str()));
    SetColumn {
        key,
        display,
        is_fid: kind != NetKind::Other,
        dims: 0,
        reference_n: None,
        reference: format!("`dflow score {} --metrics features:{name}`", plan.output),
        scores: scores.map(|hash| (hash, Err("no weights".to_owned()))).collect(),
    }
}

/// What the cells are compared with.
struct Clean {
    reference: Reference,
    kernel: Option<KidReference>,
    about: String,
    /// Whether it is that of [`SetOptions::reference`].
    is_stored: bool,
}

fn column(
    plan: &Plan,
    records: &[Record],
    reader: &FeatureReader,
    clean: Option<&Clean>,
    options: &SetOptions,
) -> Result<SetColumn, String> {
    let net = reader.net();
    let (key, display) = names(&net.name, net.kind);
    let hashes: Vec<String> = plan.cells.iter().map(|cell| cell.hash.to_string()).collect();
    let mut scores = BTreeMap::new();
    for some in hashes.chunks(AT_ONCE) {
        let measured: Vec<_> = some
            .par_iter()
            .map(|hash| score(hash, plan, records, reader, clean, options))
            .collect::<Result<_, String>>()?;
        scores.extend(some.iter().cloned().zip(measured).filter_map(|(hash, score)| Some((hash, score?))));
    }
    Ok(SetColumn {
        key,
        display,
        is_fid: net.kind != NetKind::Other,
        dims: net.dims,
        reference_n: clean.and_then(|clean| clean.reference.n()),
        reference: clean.map_or_else(|| "nothing".to_owned(), |clean| clean.about.clone()),
        scores,
    })
}

/// Names of the column: FID is that of one network only, in the preparation of the paper's era; others are named.
fn names(name: &str, kind: NetKind) -> (String, String) {
    let variant = name.strip_prefix(FID_NETWORK).map_or(name, |variant| variant.trim_start_matches('-'));
    match kind {
        NetKind::Inception if name == FID_NETWORK => ("fid".to_owned(), "FID".to_owned()),
        NetKind::Inception | NetKind::InceptionVariant => {
            (format!("fid_{variant}"), format!("FID({variant})"))
        }
        NetKind::Other => (format!("fd_{name}"), format!("FD({name})")),
    }
}

/// The reference: stored statistics, or the clean images of the run's samples; `None` if these have no features yet.
fn clean(plan: &Plan, reader: &FeatureReader, options: &SetOptions) -> Result<Option<Clean>, String> {
    let net = reader.net();
    if let Some(path) = &options.reference
        && let Some(reference) = stored_reference(path, net, options.other_references)?
    {
        let about = format!("of {}", path.display());
        return Ok(Some(Clean { reference, kernel: None, about, is_stored: true }));
    }
    let planned: BTreeSet<&str> = plan.dataset.samples.iter().map(String::as_str).collect();
    let features = reader
        .read_cell(&clean_cell(&plan.dataset.manifest), |id, _| planned.contains(id))
        .map_err(|error| error.to_string())?;
    if features.len() < 2 {
        return Ok(None);
    }
    let info = ReferenceInfo::new(net, &plan.dataset.manifest, &features);
    let make = || Reference::from_features(&features);
    let reference = match user_cache::folder() {
        Some(folder) => cached_reference(&OsFs, &folder, &info, make),
        None => make(),
    };
    let reference = reference.map_err(|error| error.to_string())?;
    if let Some(path) = &options.write_reference {
        // A bare name has no folder that could be synced.
        let path = std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))?;
        write_reference(&OsFs, &path, &info, &reference).map_err(|error| error.to_string())?;
    }
    let kernel = if options.no_kernel {
        None
    } else {
        Some(KidReference::new(features, plan.seed).map_err(|error| error.to_string())?)
    };
    Ok(Some(Clean { reference, kernel, about: "clean images of this run".to_owned(), is_stored: false }))
}

/// Statistics from a file, which must be of this network.
fn stored_reference(path: &Path, net: &FeatureNet, others: bool) -> Result<Option<Reference>, String> {
    let read = read_reference(&OsFs, path).map_err(|error| error.to_string())?;
    let (info, reference) =
        read.ok_or_else(|| format!("--reference: there is no file {}", path.display()))?;
    if info.net == *net {
        return Ok(Some(reference));
    }
    // Of several networks, the file is one's; the others are compared with the run's own clean images.
    if others && info.net.name != net.name {
        return Ok(None);
    }
    Err(format!(
        "--reference: {} holds statistics of {} (weights {}), the run has features of {} (weights {}): make statistics \
         with that network (`dflow table … --write-reference`)",
        path.display(),
        info.net.name,
        info.net.identity,
        net.name,
        net.identity
    ))
}

/// The distances of a cell, or in a few words why there are none; `None` if it has no row that could have features.
fn score(
    cell_hash: &str,
    plan: &Plan,
    records: &[Record],
    reader: &FeatureReader,
    clean: Option<&Clean>,
    options: &SetOptions,
) -> Result<Option<Result<SetScore, String>>, String> {
    let planned: BTreeSet<&str> = plan.dataset.samples.iter().map(String::as_str).collect();
    let rows: BTreeMap<&str, &str> = records
        .iter()
        .filter(|record| record.status == Status::Ok && record.cell_hash == cell_hash)
        .filter(|record| planned.contains(record.sample_id.as_str()))
        .filter_map(|record| Some((record.sample_id.as_str(), record.x1_blake3.as_deref()?)))
        .collect();
    let is_row = |id: &str, hash: &str| rows.get(id) == Some(&hash);
    let features = reader.read_cell(cell_hash, is_row).map_err(|error| error.to_string())?;
    if rows.is_empty() {
        return Ok(None);
    }
    let Some(clean) = clean else {
        let reason = if rows.len() < 2 { format!("n = {}", rows.len()) } else { "no reference".to_owned() };
        return Ok(Some(Err(reason)));
    };
    Ok(Some(match measured(&features, clean, plan.seed, options) {
        Ok(score) => Ok(score),
        Err(SetError::TooFew { n }) => Err(format!("n = {n}")),
        Err(error) => return Err(format!("{}: {error}", reader.path().display())),
    }))
}

fn measured(
    features: &FeatureSet,
    clean: &Clean,
    seed: u64,
    options: &SetOptions,
) -> Result<SetScore, SetError> {
    let distance = frechet(&clean.reference, features)?;
    let resampled = |resamples| bootstrap(&clean.reference, features, resamples, seed);
    let kernel = clean.kernel.as_ref().map(|kernel| kernel.distance(features)).transpose()?;
    Ok(SetScore {
        frechet: distance.value,
        bootstrap: options.bootstrap.map(resampled).transpose()?.map(|interval| interval.standard_error),
        kernel: kernel.map(|kernel| (kernel.mean, kernel.std)),
        n: distance.n,
    })
}
