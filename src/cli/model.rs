//! `dflow model`: models.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{CliError, CliResult, Global, print_lossy};

use crate::dataset::{Description, Split};
use crate::exit;
use crate::flow::Cond;
use crate::flow::gaussian_fit::GaussianFit;
use crate::net::model::check::{HeldOut, best_linear_loss, flow_matching_loss};
use crate::net::model::{Given, Import, Model, PathSpec, Precision, Prediction, VpLinear, names_under};
use crate::path::Path as ProbabilityPath;

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
    /// Take over an ADM UNet from safetensors or a PyTorch zip file: writes `models/NAME.yaml` and its weights.
    Import(ImportArgs),
}

/// Options of `dflow model import`: what the weights do not say of themselves.
#[derive(Debug, Args)]
struct ImportArgs {
    /// The weights.
    source: PathBuf,
    /// Name of the new model.
    name: String,
    /// Height and width of the images.
    #[arg(long)]
    image_size: usize,
    /// Attention heads.
    #[arg(long, default_value_t = 4)]
    heads: usize,
    /// Channels per attention head, instead of a number of heads.
    #[arg(long)]
    head_channels: Option<usize>,
    /// The newer order of the qkv channels.
    #[arg(long)]
    new_attention_order: bool,
    /// Start of the tensors' names, such as `ema.state_dict.`.
    #[arg(long, default_value = "")]
    prefix: String,
    /// Path that the network was trained on.
    #[arg(long, value_enum, default_value_t = PathName::CondOt)]
    path: PathName,
    /// What the network predicts.
    #[arg(long, value_enum, default_value_t = PredictionName::Velocity)]
    prediction: PredictionName,
    /// Factor of the network's time argument; default: 1 for step indices (vp-linear), 1000 for t in [0, 1].
    #[arg(long)]
    time_scale: Option<f64>,
    /// Keep the weights in f32 instead of f16.
    #[arg(long)]
    f32: bool,
}

/// Probability paths by name.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum PathName {
    /// x_t = t·x₁ + (1 − t)·x₀.
    CondOt,
    /// Diffusion with 1000 steps and β from 1e-4 to 0.02.
    VpLinear,
    /// The schedule of EDM for molecules.
    Polynomial2,
}

/// Parametrisations by name.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum PredictionName {
    /// The velocity.
    Velocity,
    /// The noise.
    Noise,
    /// The clean image.
    Denoiser,
    /// v = α·ε̂ − σ·x̂₁.
    V,
}

pub(super) fn run(args: &ModelArgs, global: &Global) -> CliResult {
    match &args.action {
        Action::List => list(global),
        Action::Import(args) => import(args, global),
        Action::Check { name, dataset, images, draws } => {
            check(name, dataset.as_deref(), *images, *draws, global)
        }
    }
}

fn import(args: &ImportArgs, global: &Global) -> CliResult {
    let imported = Import {
        source: &args.source,
        prefix: &args.prefix,
        given: Given {
            image_size: args.image_size,
            num_heads: args.heads,
            num_head_channels: args.head_channels,
            use_new_attention_order: args.new_attention_order,
        },
        path: match args.path {
            PathName::CondOt => PathSpec::CondOt,
            PathName::VpLinear => PathSpec::VpLinear(VpLinear::default()),
            PathName::Polynomial2 => PathSpec::Polynomial2,
        },
        prediction: match args.prediction {
            PredictionName::Velocity => Prediction::Velocity,
            PredictionName::Noise => Prediction::Noise,
            PredictionName::Denoiser => Prediction::Denoiser,
            PredictionName::V => Prediction::V,
        },
        time_embedding_scale: args.time_scale,
        precision: if args.f32 { Precision::F32 } else { Precision::F16 },
    };
    let home = global.home.clone().unwrap_or_else(|| PathBuf::from("."));
    let written = imported.run(&home, &args.name).map_err(CliError::usage)?;
    print_lossy(&format!(
        "{}: {} parameters, rounded by {:.1e}; weights in {}",
        written.model.display(),
        written.parameters,
        written.rounding,
        written.weights.display()
    ));
    Ok(exit::OK)
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
    let found = format!(
        "held-out flow-matching loss {:.4} ± {:.4} on {} images",
        loss.mean, loss.standard_error, loss.images
    );
    if !matches!(path, ProbabilityPath::CondOt) {
        print_lossy(&format!("{found}; the best linear field's is known for the Cond-OT path only"));
        return Ok(exit::OK);
    }
    let dim = test.shape().iter().product();
    let rows = (0..train.len()).map(|index| train.image(index).map(|image| image.data));
    let fit =
        GaussianFit::cached(&train.manifest().hash().to_string(), dim, rows).map_err(CliError::failure)?;
    let linear = best_linear_loss(fit.variances());
    print_lossy(&format!(
        "{found}; best linear field {linear:.4}: {:.1} % below",
        100.0 * (1.0 - loss.mean / linear)
    ));
    Ok(exit::OK)
}
