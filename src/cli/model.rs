//! `dflow model`: models.

mod classifier;
mod fetch;
mod perceptual;
mod time;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{CliError, CliResult, Global, print_lossy};

use crate::dataset::{Dataset, Description, Split};
use crate::exit;
use crate::flow::Cond;
use crate::flow::gaussian_fit::GaussianFit;
use crate::net::model::check::{FlowMatchingLoss, HeldOut, best_linear_loss, flow_matching_loss};
use crate::net::model::{
    Given, Import, Model, PathSpec, Precision, Prediction, StateShape, VpLinear, classifier_names,
    names_under, with_advice,
};
use crate::path::Path as ProbabilityPath;

/// Options of `dflow model`.
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the models under `models/`, the property classifiers under `models/classifiers/`, and the networks of metrics
    /// under `models/features/` and `models/lpips/`.
    List,
    /// Load a model; with --dataset, for an image model, compare its held-out flow-matching loss with the best linear field's.
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
    /// Download the public files of models, or continue; files that are here are compared with their hashes.
    Fetch(fetch::FetchArgs),
    /// The error of a property classifier on real molecules.
    Classifier(classifier::ClassifierArgs),
    /// Seconds and peak memory of one evaluation of D-Flow: solve, loss and pull-back.
    Time(time::TimeArgs),
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
    /// Attention heads (no tensor tells).
    #[arg(long, required_unless_present = "head_channels", conflicts_with = "head_channels")]
    heads: Option<usize>,
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
        Action::Classifier(args) => classifier::run(args, global),
        Action::Fetch(args) => fetch::run(args, global),
        Action::Time(args) => time::run(args, global),
        Action::Check { name, dataset, images, draws } => match perceptual::Perceptual::of(name) {
            Some(network) => network.check(global),
            None => check(name, dataset.as_deref(), *images, *draws, global),
        },
    }
}

fn import(args: &ImportArgs, global: &Global) -> CliResult {
    let imported = Import {
        source: &args.source,
        prefix: &args.prefix,
        given: Given {
            image_size: args.image_size,
            num_heads: args.heads.unwrap_or(1),
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
    let json = json!({
        "model": written.model, "weights": written.weights, "parameters": written.parameters,
        "rounding": written.rounding
    });
    let text = format!(
        "{}: {} parameters, rounded by {:.1e}; weights in {}",
        written.model.display(),
        written.parameters,
        written.rounding,
        written.weights.display()
    );
    print_lossy(&if global.json { json.to_string() } else { text });
    Ok(exit::OK)
}

fn list(global: &Global) -> CliResult {
    let (mut lines, mut list) = (Vec::new(), Vec::new());
    for name in names_under(global.home.as_deref()) {
        let loaded = Model::load(&name, global.home.as_deref(), global.data.as_deref());
        let error = loaded.as_ref().err().map(|error| with_advice(error, &name, global.home.as_deref()));
        let (state, classes) =
            (loaded.as_ref().ok().map(Model::state), loaded.as_ref().ok().map(Model::classes));
        let (shape, line) = match (state, classes, &error) {
            (Some(StateShape::Image(sides)), Some(classes), _) => {
                let [channels, height, width] = sides;
                (Some(sides.to_vec()), format!("{channels}×{height}×{width}, {classes} classes"))
            }
            (Some(StateShape::Molecule(molecule)), ..) => (
                Some(vec![molecule.max_atoms, molecule.columns()]),
                format!("molecules of up to {} atoms", molecule.max_atoms),
            ),
            (.., error) => (None, error.clone().unwrap_or_default()),
        };
        lines.push(format!("{name}: {line}"));
        list.push(json!({ "name": name, "shape": shape, "classes": classes, "error": error }));
    }
    for name in classifier_names(global.home.as_deref()) {
        let (line, json) = classifier::listed(&name, global);
        lines.push(line);
        list.push(json);
    }
    let is_empty = lines.is_empty();
    for (line, json) in perceptual::listed(global) {
        lines.push(line);
        list.push(json);
    }
    if is_empty {
        lines.push("no model under `models/`: run in a checkout of the project, or give --home".to_owned());
    }
    print_lossy(&if global.json { Value::from(list).to_string() } else { lines.join("\n") });
    Ok(exit::OK)
}

/// `dflow model check` in figures.
#[derive(serde::Serialize)]
struct Checked {
    model: PathBuf,
    weights_blake3: String,
    /// Held-out flow-matching loss per pixel with its standard error, and the number of images.
    loss: Option<(f64, f64, usize)>,
    /// The best linear field's loss; known on the Cond-OT path only.
    linear_field_loss: Option<f64>,
}

impl std::fmt::Display for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: blake3 {}", self.model.display(), self.weights_blake3)?;
        let Some((loss, error, images)) = self.loss else { return Ok(()) };
        write!(f, "\nheld-out flow-matching loss {loss:.4} ± {error:.4} on {images} images; ")?;
        match self.linear_field_loss {
            Some(linear) => {
                write!(f, "best linear field {linear:.4}: {:.1} % below", 100.0 * (1.0 - loss / linear))
            }
            None => f.write_str("the best linear field's is known for the Cond-OT path only"),
        }
    }
}

fn check(name: &str, dataset: Option<&str>, images: usize, draws: usize, global: &Global) -> CliResult {
    let home = global.home.as_deref();
    let model = Model::load(name, home, global.data.as_deref())
        .map_err(|error| CliError::usage(with_advice(&error, name, home)))?;
    let mut checked = Checked {
        model: model.path().to_owned(),
        weights_blake3: model.weights_blake3().to_owned(),
        loss: None,
        linear_field_loss: None,
    };
    if let (Some(dataset), StateShape::Molecule(_)) = (dataset, model.state()) {
        return Err(CliError::usage(format!(
            "--dataset {dataset}: the held-out loss is computed for image models only; that of a molecule model stands in \
             its file, from its training"
        )));
    }
    if let Some(dataset) = dataset {
        let description = Description::load(dataset).map_err(CliError::usage)?;
        let open = |split| description.open(split, global.data.as_deref()).map_err(CliError::usage);
        let loss = held_out_loss(&model, &*open(Split::Test)?, images, draws)?;
        checked.loss = Some((loss.mean, loss.standard_error, loss.images));
        if matches!(model.file().convention().path, ProbabilityPath::CondOt) {
            let train = open(Split::Train)?;
            let rows = (0..train.len()).map(|index| train.image(index).map(|image| image.data));
            let (manifest, dim) = (train.manifest().hash().to_string(), train.shape().iter().product());
            let fit = GaussianFit::cached(&manifest, dim, rows).map_err(CliError::failure)?;
            checked.linear_field_loss = Some(best_linear_loss(fit.variances()));
        }
    }
    let text = serde_json::to_string(&checked).map_err(CliError::failure)?;
    print_lossy(&if global.json { text } else { checked.to_string() });
    Ok(exit::OK)
}

fn held_out_loss(
    model: &Model,
    test: &dyn Dataset,
    images: usize,
    draws: usize,
) -> Result<FlowMatchingLoss, CliError> {
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
    flow_matching_loss(&mut *model.field(), &path, (0, test.manifest().name()), &held_out, draws)
        .map_err(CliError::failure)
}
