//! `dflow model classifier`: the error of a property classifier on real molecules.

use clap::Args;
use serde_json::json;

use crate::cli::{CliError, CliResult, Global, print_lossy};
use crate::dataset::{Description, Split};
use crate::exit;
use crate::molecule::Molecule;
use crate::net::model::load_classifier;

/// Options of `dflow model classifier`.
#[derive(Debug, Args)]
pub(super) struct ClassifierArgs {
    /// Name under `models/classifiers/`, or path of its file.
    name: String,
    /// Dataset of real molecules whose test split is taken.
    #[arg(long, default_value = "qm9-test-split")]
    dataset: String,
    /// Molecules used; default: all of the split.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    molecules: Option<u64>,
}

pub(super) fn run(args: &ClassifierArgs, global: &Global) -> CliResult {
    let loaded = load_classifier(&args.name, global.home.as_deref(), global.data.as_deref())
        .map_err(CliError::usage)?;
    let description = Description::load(&args.dataset).map_err(CliError::usage)?;
    let set = description.open_molecules(Split::Test, global.data.as_deref()).map_err(CliError::usage)?;
    let most =
        args.molecules.map_or(usize::MAX, |molecules| usize::try_from(molecules).unwrap_or(usize::MAX));
    let count = most.min(set.len());
    let labelled = &set.molecules()[..count];
    let molecules: Vec<Molecule> = labelled.iter().map(|labelled| labelled.molecule.clone()).collect();
    let property = loaded.classifier.config().property;
    let values = loaded.classifier.predict_all(&molecules);
    let errors = values
        .iter()
        .zip(labelled)
        .map(|(value, labelled)| (f64::from(*value) - labelled.property(property)).abs());
    let mae = errors.sum::<f64>() / count as f64;
    if !mae.is_finite() {
        return Err(CliError::failure(format!("{}: no finite value for some molecule", args.name)));
    }
    let unit = property.unit();
    let json = json!({
        "classifier": args.name, "property": property, "unit": unit, "dataset": args.dataset, "molecules": count,
        "mae": mae,
    });
    let text =
        format!("{}: mean absolute error {mae:.4} {unit} of {property} on {count} molecules", args.name);
    print_lossy(&if global.json { json.to_string() } else { text });
    Ok(exit::OK)
}

/// A line and a JSON object of `dflow model list`.
pub(super) fn listed(name: &str, global: &Global) -> (String, serde_json::Value) {
    let loaded = load_classifier(name, global.home.as_deref(), global.data.as_deref());
    match loaded.map(|loaded| loaded.file.classifier) {
        Ok(config) => {
            let unit = config.property.unit();
            let error = config.held_out.map_or_else(String::new, |held_out| {
                format!(", mean absolute error {} {unit} on {} molecules", held_out.mae, held_out.molecules)
            });
            let small = if config.small { "small " } else { "" };
            let line = format!("classifiers/{name}: {small}classifier of {}{error}", config.property);
            let json = json!({
                "name": name, "property": config.property, "unit": unit, "small": config.small,
                "mae": config.held_out.map(|held_out| held_out.mae), "error": null,
            });
            (line, json)
        }
        Err(error) => {
            let error = error.to_string();
            (format!("classifiers/{name}: {error}"), json!({ "name": name, "error": error }))
        }
    }
}
