//! Figure 3: bits per dimension of an image and of its degraded copies, with the error of Hutchinson's estimate.

use super::{Drawn, FigureError, Options, Pictures, cells, not_in_run, notes, record, shown_samples, title};
use crate::plan::{self, Unit};
use crate::report::Run;
use crate::report::plot::{Axis, Chart, Figure, ImageGrid, ImageRow, Mark, Panel, Picture, Point, Series};
use crate::report::table::{Cell, Column, Kind, Table};
use crate::spec::method::MethodSpec;

/// Height of the chart's plane, and its width for one sample and for none, in px.
const PLANE: [f64; 3] = [220.0, 60.0, 120.0];

pub(super) fn draw(run: Run<'_>, pictures: &dyn Pictures, options: Options) -> Result<Drawn, FigureError> {
    let shown = cells(run, |cell| matches!(cell.solve, MethodSpec::Likelihood(_)));
    if shown.is_empty() {
        return Err(not_in_run(3, "a `likelihood` method", run));
    }
    let all = 0..run.plan.dataset.samples.len();
    let (mut series, mut rows) = (Vec::new(), Vec::new());
    for (style, (index, cell)) in shown.iter().enumerate() {
        let values = values(run, *index, all.clone());
        let point = |(sample, bits, error): &(usize, f64, Option<f64>)| Point {
            // Side by side: error bars do not cover each other.
            x: *sample as f64 + 0.16 * (style as f64 - (shown.len() - 1) as f64 / 2.0),
            y: *bits,
            error: *error,
        };
        let points = values.iter().map(point).collect();
        series.push(Series { name: name(cell, shown.len()), style, mark: Mark::Markers, points });
        rows.extend(values.iter().map(|(sample, bits, error)| numbers(run, cell, *sample, *bits, *error)));
    }
    let title = title(3, "bits per dimension of an image and its degraded copies", run, all.len());
    let mut notes = notes(run);
    notes.insert(0, offset_note(&shown));
    notes.insert(1, "± is one standard error over the probes of Hutchinson's estimate, the same probes for all copies of a \
         sample; it does not hold the error of the solver. Of a degraded copy H†y is measured."
        .to_owned());
    let chart = chart(series, all.len());
    let panels = vec![Panel::Images(grid(run, &shown, pictures, options)?), Panel::Chart(chart)];
    let figure = Figure { title: title.clone(), panels, columns: 1, notes: notes.clone() };
    Ok(Drawn { figure, numbers: table(title, rows, notes) })
}

/// Name of a cell among so many.
fn name(cell: &plan::Cell, count: usize) -> String {
    if count > 1 { cell.task.clone() } else { format!("{}/{}", cell.task, cell.method) }
}

/// Sample, bits per dimension and their error, of the rows that have them.
fn values(run: Run<'_>, cell: usize, samples: std::ops::Range<usize>) -> Vec<(usize, f64, Option<f64>)> {
    let of = |sample| {
        let record = record(run, Unit { cell, sample })?;
        Some((sample, record.bits_per_dim?, record.bits_per_dim_error))
    };
    samples.filter_map(of).collect()
}

/// Which constant stands in the bits.
fn offset_note(shown: &[(usize, &plan::Cell)]) -> String {
    let offsets: Vec<String> = shown
        .iter()
        .filter_map(|(_, cell)| match &cell.solve {
            MethodSpec::Likelihood(spec) => {
                Some(format!("{} ({} probes): {}", cell.task, spec.probes, spec.convention()))
            }
            _ => None,
        })
        .collect();
    format!("Bits per dimension = −log₂ p₁(x)/d + offset. {}.", offsets.join("; "))
}

fn chart(series: Vec<Series>, samples: usize) -> Chart {
    let categories = (1..=samples).map(|k| k.to_string()).collect();
    Chart {
        title: "all samples".to_owned(),
        x: Axis::categories("sample", categories),
        y: Axis::linear("bits per dimension"),
        series,
        plane: [PLANE[2] + PLANE[1] * samples.min(14) as f64, PLANE[0]],
        equal_units: false,
    }
}

/// Rows of samples, columns of copies, each with its bits.
fn grid(
    run: Run<'_>,
    shown: &[(usize, &plan::Cell)],
    pictures: &dyn Pictures,
    options: Options,
) -> Result<ImageGrid, FigureError> {
    let mut rows = Vec::new();
    for sample in shown_samples(run, options) {
        let mut row = Vec::new();
        for (cell, _) in shown {
            let record = record(run, Unit { cell: *cell, sample });
            let image = record.map(|record| pictures.reconstruction(record)).transpose();
            let bits = record.and_then(|record| Some((record.bits_per_dim?, record.bits_per_dim_error)));
            let caption = bits.map_or_else(String::new, |(bits, error)| match error {
                Some(error) => format!("{bits:.2} ± {error:.2}"),
                None => format!("{bits:.2}"),
            });
            row.push(Picture { image: image.map_err(FigureError::Picture)?.flatten(), caption });
        }
        rows.push(ImageRow { label: run.plan.dataset.samples[sample].clone(), pictures: row });
    }
    let columns = shown.iter().map(|(_, cell)| cell.task.clone()).collect();
    Ok(ImageGrid { shape: pictures.shape(), scale: options.scale, columns, rows })
}

fn numbers(run: Run<'_>, cell: &plan::Cell, sample: usize, bits: f64, error: Option<f64>) -> Vec<Cell> {
    vec![
        Cell::text(&cell.task),
        Cell::text(&cell.method),
        Cell::text(&run.plan.dataset.samples[sample]),
        Cell::Mean { value: bits, error, digits: 4, lower_bound: false },
    ]
}

fn table(title: String, rows: Vec<Vec<Cell>>, notes: Vec<String>) -> Table {
    let columns = vec![
        Column::new("task", "task", Kind::Text),
        Column::new("method", "method", Kind::Text),
        Column::new("sample_id", "sample", Kind::Text),
        Column::new("bits_per_dim", "bits per dimension", Kind::Mean),
    ];
    Table { id: "figure3".to_owned(), title, columns, rows, notes, ..Table::default() }
}
