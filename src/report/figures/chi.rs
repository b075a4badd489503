//! Figure 7: the weight λ of the χ penalty (eq. 10) on a noisy task, against the image metrics.

use super::{Drawn, FigureError, cells, noise, not_in_run, notes, title};
use crate::metric::metric;
use crate::plan::Cell;
use crate::report::aggregate::{Group, groups};
use crate::report::plot::{Axis, Chart, Figure, Mark, Panel, Point, Series};
use crate::report::table::{self, Column, Kind, Table};
use crate::report::{Run, SetColumn};
use crate::spec::method::{DflowSpec, MethodSpec, RegularizerSpec};

/// The metrics that have a panel, where the rows have them.
const METRICS: [&str; 3] = ["psnr", "ssim_tm13", "lpips"];
/// Size of a panel's plane in px.
const PLANE: [f64; 2] = [330.0, 230.0];

/// Cells that differ in λ alone.
struct Sweep<'a> {
    task: &'a str,
    /// The method with λ = 0.
    without: DflowSpec,
    /// (λ, group), by λ.
    groups: Vec<(f64, Group<'a>)>,
}

/// What a panel shows.
struct Quantity<'a> {
    /// Name in the CSV.
    key: &'a str,
    /// Title of the panel.
    display: &'a str,
    /// The axis.
    label: String,
    /// Its mean over a group.
    of: Box<dyn Fn(&Group<'_>) -> table::Cell + 'a>,
}

/// λ of a cell of D-Flow without a penalty or with that of χ.
fn weight(cell: &Cell) -> Option<(f64, DflowSpec)> {
    let MethodSpec::Dflow(spec) = &cell.solve else { return None };
    let weight = match spec.regularizer {
        RegularizerSpec::None => 0.0,
        RegularizerSpec::Chi(weight) => weight,
        _ => return None,
    };
    Some((weight, DflowSpec { regularizer: RegularizerSpec::None, ..(**spec).clone() }))
}

fn sweeps(run: Run<'_>) -> Vec<Sweep<'_>> {
    let mut sweeps: Vec<Sweep<'_>> = Vec::new();
    for group in groups(&run).0 {
        let Some((weight, without)) = weight(group.cell) else { continue };
        let is_of = |sweep: &&mut Sweep<'_>| sweep.task == group.cell.task && sweep.without == without;
        match sweeps.iter_mut().find(is_of) {
            Some(sweep) => sweep.groups.push((weight, group)),
            None => sweeps.push(Sweep { task: &group.cell.task, without, groups: vec![(weight, group)] }),
        }
    }
    for sweep in &mut sweeps {
        sweep.groups.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    }
    sweeps.retain(|sweep| sweep.groups.len() > 1);
    sweeps
}

pub(super) fn draw(run: Run<'_>) -> Result<Drawn, FigureError> {
    let sweeps = sweeps(run);
    if sweeps.is_empty() {
        return Err(not_in_run(7, "D-Flow methods that differ in `regularizer: { chi: λ }`", run));
    }
    let mut panels = Vec::new();
    let mut rows = Vec::new();
    for quantity in quantities(run) {
        let series: Vec<Series> =
            sweeps.iter().enumerate().map(|(i, sweep)| series(i, sweep, &quantity, &mut rows)).collect();
        if series.iter().any(|series| !series.points.is_empty()) {
            panels.push(Panel::Chart(chart(&quantity, series)));
        }
    }
    let n = sweeps.iter().flat_map(|sweep| &sweep.groups).map(|(_, group)| group.ok.len()).max().unwrap_or(0);
    let sigmas: Vec<String> = cells(run, |cell| sweeps.iter().any(|sweep| sweep.task == cell.task))
        .iter()
        .map(|(_, cell)| noise(cell).to_string())
        .collect();
    let title = title(7, "the weight λ of the χ penalty", run, n);
    let mut notes = notes(run);
    notes.insert(0, format!(
        "Mean ± standard error over the samples of each λ; λ = 0 is no penalty. σ_y = {} on [−1, 1]. Every λ starts from \
         the same noise.",
        sigmas.first().map_or("0", String::as_str)
    ));
    notes.extend(run.sets.iter().flat_map(SetColumn::notes));
    let figure = Figure { title: title.clone(), panels, columns: 2, notes: notes.clone() };
    Ok(Drawn { figure, numbers: numbers(title, rows, notes) })
}

/// Every quantity of a panel: metrics of samples, then distances between sets.
fn quantities(run: Run<'_>) -> Vec<Quantity<'_>> {
    let metrics = METRICS.iter().filter_map(|name| metric(name)).map(|metric| {
        let unit = if metric.unit.is_empty() { String::new() } else { format!(" [{}]", metric.unit) };
        Quantity {
            key: metric.name,
            display: metric.display,
            label: format!("{}{unit} {}", metric.display, metric.better.arrow()),
            of: Box::new(move |group| group.metric(metric)),
        }
    });
    let sets = run.sets.iter().map(|set| Quantity {
        key: &set.key,
        display: &set.display,
        label: format!("{} ↓", set.display),
        of: Box::new(move |group| set.cell(group.cell)),
    });
    metrics.chain(sets).collect()
}

fn chart(quantity: &Quantity<'_>, series: Vec<Series>) -> Chart {
    Chart {
        title: quantity.display.to_owned(),
        x: Axis::log_with_zero("λ"),
        y: Axis::linear(&*quantity.label),
        series,
        plane: PLANE,
        equal_units: false,
    }
}

/// The curve of one sweep; its numbers go to `rows`.
fn series(
    index: usize,
    sweep: &Sweep<'_>,
    quantity: &Quantity<'_>,
    rows: &mut Vec<Vec<table::Cell>>,
) -> Series {
    let mut points = Vec::new();
    for (weight, group) in &sweep.groups {
        let mean = (quantity.of)(group);
        if let table::Cell::Mean { value, error, .. } = mean {
            points.push(Point { x: *weight, y: value, error });
            rows.push(vec![
                table::Cell::text(sweep.task),
                table::Cell::text(&group.cell.method),
                table::Cell::text(quantity.key),
                table::Cell::Number(*weight, 4),
                mean,
                table::Cell::Number(group.ok.len() as f64, 0),
            ]);
        }
    }
    Series { name: sweep.task.to_owned(), style: index, mark: Mark::Line, points }
}

fn numbers(title: String, rows: Vec<Vec<table::Cell>>, notes: Vec<String>) -> Table {
    let columns = vec![
        Column::new("task", "task", Kind::Text),
        Column::new("method", "method", Kind::Text),
        Column::new("metric", "metric", Kind::Text),
        Column::new("lambda", "λ", Kind::Number),
        Column::new("mean", "mean", Kind::Mean),
        Column::new("n", "n", Kind::Number),
    ];
    Table { id: "figure7".to_owned(), title, columns, rows, notes, ..Table::default() }
}
