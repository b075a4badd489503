//! `dflow data`: datasets.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{CliError, CliResult, Global, print_lossy};
use crate::atomic;
use crate::dataset::{Description, Kind, Layout, Opened, SHIPPED, Split, Statistics, export_npy};
use crate::exit;
use crate::metric::molecule::{molecule_scores, score_table};
use crate::molecule::xyz::read_xyz;

/// Options of `dflow data`.
#[derive(Debug, Args)]
pub(super) struct DataArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the known datasets: where they come from, and whether they can be opened here.
    List,
    /// Open a dataset, hash its files, and print its manifest hash.
    Check {
        /// Name, or path of a description.
        name: String,
    },
    /// Write the images of a split as NumPy arrays, for training a prior.
    Export {
        /// Name, or path of a description.
        name: String,
        /// Which split.
        #[arg(long, value_parser = parse_split)]
        split: Split,
        /// Folder to write to.
        folder: PathBuf,
        /// The first N images of a procedural dataset, whose stream has no end; default: as many as the split holds.
        #[arg(long, value_name = "N")]
        count: Option<u64>,
    },
    /// Score the molecules of an XYZ file (frames one after the other): stability, validity, bond graphs, as CSV.
    Score {
        /// The file; `-`: standard input.
        file: PathBuf,
    },
    /// Write the statistics of molecules that targets are drawn from: sizes, and values of each property by size.
    Statistics {
        /// Name, or path of a description, of a dataset of molecules.
        name: String,
        /// Which split.
        #[arg(long, value_parser = parse_split)]
        split: Split,
        /// File to write (JSON), for `molecule_targets` in a description.
        out: PathBuf,
    },
}

fn parse_split(text: &str) -> Result<Split, String> {
    match text {
        "train" => Ok(Split::Train),
        "valid" => Ok(Split::Valid),
        "test" => Ok(Split::Test),
        _ => Err("write train, valid or test".to_owned()),
    }
}

pub(super) fn run(args: &DataArgs, global: &Global) -> CliResult {
    match &args.action {
        Action::List => list(global),
        Action::Check { name } => check(name, global),
        Action::Export { name, split, folder, count } => {
            let mut description = Description::load(name).map_err(CliError::usage)?;
            match (&mut description.layout, count) {
                (_, None) => {}
                (Layout::Procedural(layout), Some(count)) => (layout.train, layout.test) = (*count, *count),
                (Layout::Mixture(layout), Some(count)) => (layout.train, layout.test) = (*count, *count),
                (_, Some(_)) => {
                    let error =
                        format!("--count is for procedural datasets; `{name}` is exported as a whole");
                    return Err(CliError::usage(error));
                }
            }
            let dataset = description.open(*split, global.data.as_deref()).map_err(CliError::usage)?;
            export_npy(&*dataset, *split, folder).map_err(CliError::failure)?;
            let json = json!({ "folder": folder, "split": split, "images": dataset.len() });
            let text = format!("{}: {} images of {split}", folder.display(), dataset.len());
            print_lossy(&if global.json { json.to_string() } else { text });
            Ok(exit::OK)
        }
        Action::Statistics { name, split, out } => statistics(name, *split, out, global),
        Action::Score { file } => score(file, global),
    }
}

fn score(file: &Path, global: &Global) -> CliResult {
    let read = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    let text = read.map_err(|error| CliError::usage(format!("cannot read {}: {error}", file.display())))?;
    let molecules =
        read_xyz(&text).map_err(|error| CliError::usage(format!("{}: {error}", file.display())))?;
    if global.json {
        let scores: Vec<_> = molecules.iter().map(molecule_scores).collect();
        print_lossy(&serde_json::to_string(&scores).map_err(CliError::failure)?);
    } else {
        print_lossy(score_table(&molecules).trim_end());
    }
    Ok(exit::OK)
}

fn statistics(name: &str, split: Split, out: &Path, global: &Global) -> CliResult {
    let description = Description::load(name).map_err(CliError::usage)?;
    let set = description.open_molecules(split, global.data.as_deref()).map_err(CliError::usage)?;
    let statistics =
        Statistics::of(&set).map_err(|reason| CliError::usage(format!("dataset `{name}`: {reason}")))?;
    atomic::write_bytes(out, statistics.to_json().as_bytes())
        .map_err(|error| CliError::failure(format!("cannot write {}: {error}", out.display())))?;
    let made_from = statistics.made_from();
    let json = json!({ "file": out, "made_from": made_from, "manifest": statistics.manifest() });
    let text = format!("{}: statistics of {made_from}, manifest {}", out.display(), statistics.manifest());
    print_lossy(&if global.json { json.to_string() } else { text });
    Ok(exit::OK)
}

fn list(global: &Global) -> CliResult {
    let (mut lines, mut list) = (Vec::new(), Vec::new());
    for (name, _) in SHIPPED {
        let description = Description::load(name).map_err(CliError::failure)?;
        let (samples, state) = match at_hand(&description, global.data.as_deref()) {
            Ok((samples, state)) => (samples, Ok(state)),
            Err(error) => (None, Err(error)),
        };
        let text = state.as_ref().unwrap_or_else(|error| error);
        lines.push(format!("{name}: {}\n  {text}", description.source));
        list.push(json!({
            "name": name, "kind": description.kind().to_string(), "source": description.source,
            "samples": samples, "error": state.err()
        }));
    }
    print_lossy(&if global.json { Value::from(list).to_string() } else { lines.join("\n") });
    Ok(exit::OK)
}

/// How many samples there are, if that is soon known, and a line for people.
fn at_hand(description: &Description, data: Option<&Path>) -> Result<(Option<usize>, String), String> {
    if description.kind() == Kind::Molecules {
        // To count the molecules of an archive takes half a minute.
        description.find_files(data).map_err(|error| error.to_string())?;
        return Ok((
            None,
            format!("molecules; `dflow data check {}` reads and counts them", description.name),
        ));
    }
    let opened = description.open_any(data).map_err(|error| error.to_string())?;
    let samples = opened.manifest().entries().len();
    let what = match opened {
        Opened::Targets(targets) => format!("{samples} targets, from {}", targets.statistics().made_from()),
        _ => format!("{samples} samples"),
    };
    Ok((Some(samples), what))
}

fn check(name: &str, global: &Global) -> CliResult {
    let description = Description::load(name).map_err(CliError::usage)?;
    let (mut lines, mut files) = (Vec::new(), Vec::new());
    let mut differs = false;
    for file in description.check_files(global.data.as_deref()).map_err(CliError::usage)? {
        let state = match (&file.found, &file.known) {
            (Err(error), _) => error.clone(),
            (Ok(found), Some(known)) if found == known => "as known".to_owned(),
            (Ok(found), Some(_)) => format!("another file than the known one (blake3 {found})"),
            (Ok(found), None) => format!("blake3 {found}"),
        };
        differs |=
            file.found.is_err() || file.known.is_some() && file.found.as_ref().ok() != file.known.as_ref();
        lines.push(format!("{}: {state}", file.path.display()));
        files.push(json!({ "path": file.path, "blake3": file.found.as_ref().ok(), "state": state }));
    }
    let opened = description.open_any(global.data.as_deref()).map_err(CliError::usage)?;
    if let Opened::Targets(targets) = &opened {
        lines.push(format!("drawn from {}", targets.statistics().made_from()));
    }
    let (samples, manifest) = (opened.manifest().entries().len(), opened.manifest().hash().to_string());
    lines.push(format!("{name}: {samples} samples, manifest {manifest}"));
    let value = json!({ "name": name, "samples": samples, "manifest": manifest, "files": files });
    print_lossy(&if global.json { value.to_string() } else { lines.join("\n") });
    Ok(if differs { exit::INCOMPLETE } else { exit::OK })
}
