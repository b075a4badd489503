//! The paper's figures from a run: each a picture and a table of exactly the plotted numbers.
//!
//! | figure | shows | pipelines |
//! |---|---|---|
//! | 2 | x(1) along the optimisation | `figure2-*.yaml` |
//! | 3 | bits per dimension of an image and its masked copy | `figure3-*.yaml` |
//! | 4 | raw against projected gradient on a 2-D mixture | `figure4-mini.yaml` |
//! | 5, 8, 9 | ground truth, degraded image, methods | `figure5-*.yaml`, `figure8-*.yaml`, `figure9-*.yaml` |
//! | 7 | the weight λ of the χ penalty | `figure7-*.yaml` |
//!
//! Numbers come from the rows; images, trajectories and gradients come through [`Pictures`], so that nothing here reads
//! a file. (Figure 6 is drawn by [`super::molecule_svg`].)

mod chi;
mod gradients;
mod grids;
mod likelihood;
#[cfg(test)]
mod tests;
mod trajectory;

use thiserror::Error;

use super::Run;
use super::paper::Profile;
use super::plot::{Figure, PlotError};
use super::table::Table;
use crate::plan::{Cell, Unit};
use crate::store::{Record, Status};

pub use gradients::GradientPair;

/// Numbers of the figures that are made here.
pub const NUMBERS: [u32; 7] = [2, 3, 4, 5, 7, 8, 9];

/// A figure and what was plotted.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// The picture.
    pub figure: Figure,
    /// Every plotted number.
    pub numbers: Table,
}

/// What is drawn of a run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Samples that pictures are shown of, at the most.
    pub samples: usize,
    /// px per pixel of an image, at least 1.
    pub scale: usize,
}

/// An image on its way through the optimisation.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Number of the evaluation, from 1.
    pub eval: u32,
    /// The source point.
    pub x0: Vec<f32>,
    /// The end of its flow, unclamped.
    pub x1: Vec<f32>,
}

/// The pictures of a run. Images are planar, `channels × height × width`, in [−1, 1].
///
/// Errors are whole sentences: what could not be read, where, and what to do.
pub trait Pictures {
    /// Channels, height and width of every image.
    fn shape(&self) -> [usize; 3];
    /// The ground truth of a sample; `None` if it cannot be read.
    fn truth(&self, sample: usize) -> Result<Option<Vec<f32>>, String>;
    /// What the unit's method was given, in the image's shape: y itself, or H†y where y has another.
    fn degraded(&self, unit: Unit) -> Result<Option<Vec<f32>>, String>;
    /// x(1), unclamped; `None` if it was not kept.
    fn reconstruction(&self, record: &Record) -> Result<Option<Vec<f32>>, String>;
    /// x₀ and x(1) along the optimisation; empty if they were not kept.
    fn trajectory(&self, record: &Record) -> Result<Vec<Snapshot>, String>;
    /// The gradients of the unit's data term at a source point.
    fn gradients(&self, unit: Unit, x0: &[f32]) -> Result<GradientPair, String>;
}

/// Why a figure cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FigureError {
    /// The paper has no such figure, or it is not one of results.
    #[error("figures 2 to 9 can be made from runs, not figure {0}")]
    NoSuchFigure(u32),
    /// The run holds other cells.
    #[error(
        "run `{run}` has nothing for figure {figure}, which needs {needs}: see pipelines/figure{figure}-mini.yaml"
    )]
    NotInRun {
        /// The figure.
        figure: u32,
        /// What it needs.
        needs: &'static str,
        /// Name of the run.
        run: String,
    },
    /// A picture could not be read.
    #[error("{0}")]
    Picture(String),
    /// The figure could not be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
}

/// Draws figure `number` of a run.
///
/// # Errors
/// A number that is none of [`NUMBERS`], a run of something else, pictures that cannot be read.
pub fn draw(
    number: u32,
    run: Run<'_>,
    pictures: &dyn Pictures,
    options: Options,
) -> Result<Drawn, FigureError> {
    match number {
        2 => trajectory::draw(run, pictures, options),
        3 => likelihood::draw(run, pictures, options),
        4 => gradients::draw(run, pictures),
        5 => grids::draw(&grids::FIGURE_5, run, pictures, options),
        7 => chi::draw(run),
        8 => grids::draw(&grids::FIGURE_8, run, pictures, options),
        9 => grids::draw(&grids::FIGURE_9, run, pictures, options),
        number => Err(FigureError::NoSuchFigure(number)),
    }
}

fn not_in_run(figure: u32, needs: &'static str, run: Run<'_>) -> FigureError {
    FigureError::NotInRun { figure, needs, run: run.plan.name.clone() }
}

/// `Figure N: about (profile …, dataset …, n = …)`.
fn title(figure: u32, about: &str, run: Run<'_>, n: usize) -> String {
    let dataset = &run.plan.dataset;
    format!(
        "Figure {figure}: {about} (profile {}, {} {} {}, n = {n})",
        Profile::of(run.plan).name(),
        dataset.id,
        dataset.split,
        dataset.shape,
    )
}

/// What every figure says of its run.
fn notes(run: Run<'_>) -> Vec<String> {
    let profile = Profile::of(run.plan);
    let compared = match profile {
        Profile::Paper => "The paper's images are not published: the split may differ.".to_owned(),
        _ => "Not comparable with the paper's figure: other images, another prior.".to_owned(),
    };
    let mut notes = vec![compared];
    let failed = run.records.iter().filter(|record| record.status == Status::Failed).count();
    if failed > 0 {
        notes.push(format!("{failed} rows failed and are left out."));
    }
    notes.push(format!("Run `{}`, seed {}.", run.plan.name, run.plan.seed));
    notes
}

/// The ok row of a unit.
fn record(run: Run<'_>, unit: Unit) -> Option<&Record> {
    let (hash, id) = run.plan.key(unit);
    let hash = hash.to_string();
    let is_it =
        |record: &&Record| record.status == Status::Ok && record.cell_hash == hash && record.sample_id == id;
    run.records.iter().find(is_it)
}

/// The cells with their places in the plan, those that `shows` wants.
fn cells(run: Run<'_>, shows: impl Fn(&Cell) -> bool) -> Vec<(usize, &Cell)> {
    run.plan.cells.iter().enumerate().filter(|(_, cell)| shows(cell)).collect()
}

/// σ_y of a cell's measurement.
fn noise(cell: &Cell) -> f64 {
    cell.goal.restoration().map_or(0.0, |restoration| restoration.noise)
}

/// An image metric in dB for a caption; an exact match is "> 120 dB".
fn decibels(value: Option<f64>) -> String {
    value.filter(|value| !value.is_nan()).map_or_else(String::new, |value| {
        if value >= crate::metric::psnr::EXACT_DB { "> 120 dB".to_owned() } else { format!("{value:.1} dB") }
    })
}

/// Indices of the samples that pictures are shown of.
fn shown_samples(run: Run<'_>, options: Options) -> std::ops::Range<usize> {
    0..run.plan.dataset.samples.len().min(options.samples)
}
