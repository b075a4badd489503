//! `dflow model`: models.

use clap::{Args, Subcommand};

use super::{CliError, CliResult, Global, print_lossy};

use crate::dataset::{Description, Split};
use crate::exit;
use crate::flow::Cond;
use crate::flow::gaussian_fit::GaussianFit;
use crate::net::model::check::{HeldOut, best_linear_loss, flow_matching_loss};
use crate::net::model::{Model, names_under};

/// Options of `dflow model`.
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the models under `models/`.
    List,
    /// Load a model, and compare its held-out flow-matching loss with the best linear field's.
    Check {
        /// Name under `models/`, or path of a model file.
        name: String,
        /// Dataset whose test split is held out.
        #[arg(long)]
        dataset: Option<String>,
        /// Images used.
        #[arg(long, default_value_t = 1000)]
        images: usize,
        /// Pairs (t, x0) per image.
        #[arg(long, default_value_t = 4)]
        draws: usize,
    },
}

pub(super) fn run(args: &ModelArgs, global: &Global) -> CliResult {
    match &args.action {
        Action::List => list(global),
        Action::Check { name, dataset, images, draws } => {
            check(name, dataset.as_deref(), *images, *draws, global)
        }
    }
}

fn list(global: &Global) -> CliResult {
    let lines = names_under(global.home.as_deref()).into_iter().map(|name| {
        match Model::load(&name, global.home.as_deref(), global.data.as_deref()) {
            Ok(model) => {
                let [channels, height, width] = model.shape();
                format!("{name}: {channels}×{height}×{width}, {} classes", model.classes())
            }
            Err(error) => format!("{name}: {error}"),
        }
    });
    print_lossy(&lines.collect::<Vec<_>>().join("\n"));
    Ok(exit::OK)
}

fn check(name: &str, dataset: Option<&str>, images: usize, draws: usize, global: &Global) -> CliResult {
    let model = Model::load(name, global.home.as_deref(), global.data.as_deref()).map_err(CliError::usage)?;
    print_lossy(&format!("{}: blake3 {}", model.path().display(), model.weights_blake3()));
    let Some(dataset) = dataset else { return Ok(exit::OK) };
    let description = Description::load(dataset).map_err(CliError::usage)?;
    let open = |split| description.open(split, global.data.as_deref()).map_err(CliError::usage);
    let (test, train) = (open(Split::Test)?, open(Split::Train)?);
    let held_out = (0..test.len().min(images)).map(|index| {
        let image = test.image(index).map_err(CliError::failure)?;
        let entry = &test.manifest().entries()[index];
        let cond = match entry.label {
            Some(label) if model.classes() > 0 => Cond::Class(label),
            _ => Cond::None,
        };
        Ok(HeldOut { id: entry.id.clone(), image: image.data, cond })
    });
    let held_out = held_out.collect::<Result<Vec<_>, CliError>>()?;
    let path = model.file().convention().path;
    let loss = flow_matching_loss(&mut *model.field(), &path, (0, test.manifest().name()), &held_out, draws)
        .map_err(CliError::failure)?;
    let dim = test.shape().iter().product();
    let rows = (0..train.len()).map(|index| train.image(index).map(|image| image.data));
    let fit =
        GaussianFit::cached(&train.manifest().hash().to_string(), dim, rows).map_err(CliError::failure)?;
    let linear = best_linear_loss(fit.variances());
    print_lossy(&format!(
        "held-out flow-matching loss {:.4} ± {:.4} on {} images; best linear field {linear:.4}: {:.1} % below",
        loss.mean,
        loss.standard_error,
        loss.images,
        100.0 * (1.0 - loss.mean / linear)
    ));
    Ok(exit::OK)
}
