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

/// One column per feature network of the run: those of its metrics, and those that were scored later.
///
/// # Errors
/// Features that are damaged, not finite (names the sample), or of different weights; statistics that do not suit.
pub fn columns(run_dir: &RunDir, records: &[Record], options: &SetOptions) -> Result<Vec<SetColumn>, String> {
    let (fs, layout) = (&**run_dir.fs(), run_dir.layout());
    let planned = run_dir.plan().metrics.iter().filter_map(|metric| match metric {
        MetricSpec::Features(name) => Some(file_name(name)),
        _ => None,
    });
    let mut names: Vec<String> = planned.collect();
    for stored in stored_nets(fs, layout).map_err(|error| error.to_string())? {
        if !names.contains(&stored) {
            names.push(stored);
        }
    }
    let several = names.len() > 1;
    let mut columns = Vec::new();
    for name in names {
        let options = &options.of_network(&name, several);
        let merged = merge_features(fs, layout, &name).map_err(|error| error.to_string())?;
        merged.notes.iter().for_each(|note| tracing::warn!("{note}"));
        let reader = FeatureReader::open(fs, layout, &name, None).map_err(|error| error.to_string())?;
        if let Some(reader) = reader {
            columns.push(column(run_dir.plan(), records, &reader, options)?);
        }
    }
    Ok(columns)
}

/// What the cells are compared with.
struct Clean {
    reference: Reference,
    kernel: Option<KidReference>,
    about: String,
}

fn column(
    plan: &Plan,
    records: &[Record],
    reader: &FeatureReader,
    options: &SetOptions,
) -> Result<SetColumn, String> {
    let net = reader.net();
    let (key, display) = names(net);
    let clean = clean(plan, reader, options)?;
    let hashes: Vec<String> = plan.cells.iter().map(|cell| cell.hash.to_string()).collect();
    let mut scores = BTreeMap::new();
    for some in hashes.chunks(AT_ONCE) {
        let measured: Vec<_> = some
            .par_iter()
            .map(|hash| score(hash, plan, records, reader, clean.as_ref(), options))
            .collect::<Result<_, String>>()?;
        scores.extend(some.iter().cloned().zip(measured).filter_map(|(hash, score)| Some((hash, score?))));
    }
    Ok(SetColumn {
        key,
        display,
        is_fid: net.kind != NetKind::Other,
        dims: net.dims,
        reference_n: clean.as_ref().and_then(|clean| clean.reference.n()),
        reference: clean.map_or_else(|| "nothing".to_owned(), |clean| clean.about),
        scores,
    })
}

/// Names of the column: FID is that of one network only, in the preparation of the paper's era; others are named.
fn names(net: &FeatureNet) -> (String, String) {
    let profile = net.name.strip_prefix("inception-").unwrap_or(&net.name);
    match net.kind {
        NetKind::Inception => ("fid".to_owned(), "FID".to_owned()),
        NetKind::InceptionVariant => (format!("fid_{profile}"), format!("FID({profile})")),
        NetKind::Other => (format!("fd_{}", net.name), format!("FD({})", net.name)),
    }
}

/// The reference: stored statistics, or the clean images of the run's samples; `None` if these have no features yet.
fn clean(plan: &Plan, reader: &FeatureReader, options: &SetOptions) -> Result<Option<Clean>, String> {
    let net = reader.net();
    if let Some(path) = &options.reference
        && let Some(reference) = stored_reference(path, net, options.other_references)?
    {
        return Ok(Some(Clean { reference, kernel: None, about: format!("of {}", path.display()) }));
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
    Ok(Some(Clean { reference, kernel, about: "clean images of this run".to_owned() }))
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
    let rows: BTreeMap<&str, &str> = records
        .iter()
        .filter(|record| record.status == Status::Ok && record.cell_hash == cell_hash)
        .filter_map(|record| Some((record.sample_id.as_str(), record.x1_blake3.as_deref()?)))
        .collect();
    let planned: BTreeSet<&str> = plan.dataset.samples.iter().map(String::as_str).collect();
    let is_row = |id: &str, hash: &str| planned.contains(id) && rows.get(id) == Some(&hash);
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
