//! Figure 4: on a mixture in the plane, the gradient of the loss at x(1) against the direction in which a step of x₀ moves
//! x(1).
//!
//! A gradient step x₀ ← x₀ − τ Dᵀ∇L with D = ∂x(1)/∂x₀ moves x(1) by −τ D Dᵀ∇L to first order: D-Flow's step is the raw
//! gradient projected by D Dᵀ, which for the affine Gaussian path follows the covariance of the data (section 3.4 and
//! Theorem 4.2 of the paper).

use super::{Drawn, FigureError, Pictures, cells, not_in_run, notes, record, title};
use crate::plan::Unit;
use crate::report::Run;
use crate::report::plot::{Arrow, Axis, Chart, Figure, Mark, Panel, Point, Series};
use crate::report::table::{Cell, Column, Kind, Table};

/// The gradients of a data term L at one source point of the plane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradientPair {
    /// x(1).
    pub x1: [f64; 2],
    /// ∇L at x(1).
    pub raw: [f64; 2],
    /// D Dᵀ∇L at x(1), D = ∂x(1)/∂x₀.
    pub projected: [f64; 2],
}

/// Sides of a panel's plane in px.
const PLANE: [f64; 2] = [360.0, 360.0];
/// Panels in a row, and at the most.
const PANELS: [usize; 2] = [2, 4];
/// Length of the longest arrow of a kind, as a share of the extent of the data.
const LONGEST: f64 = 0.22;

/// One solve in the plane.
struct Solve {
    name: String,
    sample: String,
    measured: Option<[f64; 2]>,
    steps: Vec<(u32, GradientPair)>,
}

pub(super) fn draw(run: Run<'_>, pictures: &dyn Pictures) -> Result<Drawn, FigureError> {
    let needs = "D-Flow solves of points in the plane (shape [2, 1, 1]) with `save: [trajectory]`";
    if pictures.shape() != [2, 1, 1] {
        return Err(not_in_run(4, needs, run));
    }
    let solves = solves(run, pictures)?;
    if solves.is_empty() {
        return Err(not_in_run(4, needs, run));
    }
    let mut crowd = Vec::new();
    for sample in 0..run.plan.dataset.samples.len() {
        crowd.extend(pictures.truth(sample).map_err(FigureError::Picture)?.as_deref().and_then(plane));
    }
    let mut reached = crowd.clone();
    reached.extend(solves.iter().flat_map(|solve| solve.steps.iter().map(|(_, pair)| pair.x1)));
    let longest = LONGEST * extent(&reached).max(1e-9);
    let panels = solves.iter().map(|solve| Panel::Chart(chart(solve, &crowd, longest))).collect();
    let title = title(4, "raw against projected gradient", run, solves.len());
    let mut notes = notes(run);
    notes.insert(0, "At x(1) of so many evaluations: −∇L of the data term (raw) and −D D^T ∇L (projected), D = ∂x(1)/∂x₀: where \
         a small step of x₀ moves x(1). Within each panel the longest arrow of either kind has the same length."
        .to_owned());
    let figure = Figure { title: title.clone(), panels, columns: PANELS[0], notes: notes.clone() };
    Ok(Drawn { figure, numbers: table(title, &solves, notes) })
}

fn solves(run: Run<'_>, pictures: &dyn Pictures) -> Result<Vec<Solve>, FigureError> {
    let mut solves = Vec::new();
    for (index, cell) in cells(run, |cell| cell.goal.restoration().is_some()) {
        for sample in 0..run.plan.dataset.samples.len() {
            let unit = Unit { cell: index, sample };
            let Some(record) = record(run, unit).filter(|_| solves.len() < PANELS[1]) else { continue };
            let mut steps = Vec::new();
            for snapshot in pictures.trajectory(record).map_err(FigureError::Picture)? {
                let pair = pictures.gradients(unit, &snapshot.x0).map_err(FigureError::Picture)?;
                steps.push((snapshot.eval, pair));
            }
            if !steps.is_empty() {
                let measured = pictures.degraded(unit).map_err(FigureError::Picture)?;
                let measured = measured.as_deref().and_then(plane);
                let name = format!("{}/{}, {}", cell.task, cell.method, record.sample_id);
                solves.push(Solve { name, sample: record.sample_id.clone(), measured, steps });
            }
        }
    }
    Ok(solves)
}

fn plane(x: &[f32]) -> Option<[f64; 2]> {
    let &[a, b] = x else { return None };
    Some([f64::from(a), f64::from(b)])
}

/// Larger side of the rectangle around points.
fn extent(points: &[[f64; 2]]) -> f64 {
    let side = |axis: usize| {
        let values = || points.iter().map(|point| point[axis]).filter(|v| v.is_finite());
        values().fold(f64::NEG_INFINITY, f64::max) - values().fold(f64::INFINITY, f64::min)
    };
    side(0).max(side(1))
}

fn points(list: impl Iterator<Item = [f64; 2]>) -> Vec<Point> {
    list.map(|[x, y]| Point { x, y, error: None }).collect()
}

fn chart(solve: &Solve, crowd: &[[f64; 2]], longest: f64) -> Chart {
    let at = || points(solve.steps.iter().map(|(_, pair)| pair.x1));
    let arrows = |name: &str, style, of: fn(&GradientPair) -> [f64; 2]| {
        let downhill = solve.steps.iter().map(|(_, pair)| of(pair).map(|v| -v)).collect();
        let mark = Mark::Arrows(scaled(downhill, longest));
        Series { name: name.to_owned(), style, mark, points: at() }
    };
    let series = vec![
        Series { name: "data".to_owned(), style: 6, mark: Mark::Dots, points: points(crowd.iter().copied()) },
        Series { name: "x(1)".to_owned(), style: 4, mark: Mark::Line, points: at() },
        arrows("−∇L (raw)", 1, |pair| pair.raw),
        arrows("−D D^T ∇L (projected)", 0, |pair| pair.projected),
        Series {
            name: "y".to_owned(),
            style: 3,
            mark: Mark::Markers,
            points: points(solve.measured.into_iter()),
        },
    ];
    let (x, y) = (Axis::linear("first coordinate"), Axis::linear("second coordinate"));
    Chart { title: solve.name.clone(), x, y, series, plane: PLANE, equal_units: true }
}

/// Arrows scaled together so that the longest has this length.
fn scaled(arrows: Vec<Arrow>, longest: f64) -> Vec<Arrow> {
    let length = arrows.iter().map(|[x, y]| x.hypot(*y)).filter(|l| l.is_finite()).fold(0.0, f64::max);
    let factor = if length > 0.0 { longest / length } else { 0.0 };
    arrows.into_iter().map(|arrow| arrow.map(|v| v * factor)).collect()
}

fn table(title: String, solves: &[Solve], notes: Vec<String>) -> Table {
    let number = |name: &str| Column::new(name, name, Kind::Number);
    let mut columns =
        vec![Column::new("solve", "solve", Kind::Text), Column::new("sample_id", "sample", Kind::Text)];
    let names = ["eval", "x1_0", "x1_1", "raw_0", "raw_1", "projected_0", "projected_1"];
    columns.extend(names.map(number));
    let rows = solves.iter().flat_map(|solve| {
        solve.steps.iter().map(|(eval, pair)| {
            let mut row = vec![Cell::text(&solve.name), Cell::text(&solve.sample)];
            row.push(Cell::Number(f64::from(*eval), 0));
            let numbers = [pair.x1, pair.raw, pair.projected].into_iter().flatten();
            row.extend(numbers.map(|v| Cell::Number(v, 6)));
            row
        })
    });
    Table { id: "figure4".to_owned(), title, rows: rows.collect(), columns, notes, ..Table::default() }
}
