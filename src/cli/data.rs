//! `dflow data`: datasets.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{CliError, CliResult, Global, print_lossy};
use crate::dataset::{self, Description, Layout, SHIPPED, Split, export_npy};
use crate::exit;

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
}

fn parse_split(text: &str) -> Result<Split, String> {
    match text {
        "train" => Ok(Split::Train),
        "test" => Ok(Split::Test),
        _ => Err("write train or test".to_owned()),
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
                (Layout::Parquet(_), Some(_)) => {
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
    }
}

fn list(global: &Global) -> CliResult {
    let (mut lines, mut list) = (Vec::new(), Vec::new());
    for (name, _) in SHIPPED {
        let description = Description::load(name).map_err(CliError::failure)?;
        let opened = dataset::open(name, global.data.as_deref());
        let samples = opened.as_ref().map(|dataset| dataset.len()).map_err(ToString::to_string);
        let state = samples.as_ref().map_or_else(Clone::clone, |count| format!("{count} samples"));
        lines.push(format!("{name}: {}\n  {state}", description.source));
        list.push(json!({
            "name": name, "source": description.source, "samples": samples.as_ref().ok(), "error": samples.err()
        }));
    }
    print_lossy(&if global.json { Value::from(list).to_string() } else { lines.join("\n") });
    Ok(exit::OK)
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
    let dataset = dataset::open(name, global.data.as_deref()).map_err(CliError::usage)?;
    let manifest = dataset.manifest().hash().to_string();
    lines.push(format!("{name}: {} samples, manifest {manifest}", dataset.len()));
    let value = json!({ "name": name, "samples": dataset.len(), "manifest": manifest, "files": files });
    print_lossy(&if global.json { value.to_string() } else { lines.join("\n") });
    Ok(if differs { exit::INCOMPLETE } else { exit::OK })
}
