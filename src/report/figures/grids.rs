//! Figures 5, 8 and 9: ground truth, degraded image and every method's reconstruction, side by side.

use super::{
    Drawn, FigureError, Options, Pictures, cells, decibels, noise, not_in_run, notes, record, shown_samples,
    title,
};
use crate::plan::{self, Unit};
use crate::report::Run;
use crate::report::plot::{Figure, ImageGrid, ImageRow, Panel, Picture};
use crate::report::table::{Cell, Column, Kind, Table};
use crate::spec::method::MethodSpec;
use crate::spec::operator::OperatorSpec;

/// One of the paper's picture grids.
#[derive(Debug)]
pub(super) struct Definition {
    number: u32,
    about: &'static str,
    /// Whether a task (its operator and σ_y) is shown.
    shows: fn(&OperatorSpec, f64) -> bool,
}

const fn is_denoising(operator: &OperatorSpec) -> bool {
    matches!(operator, OperatorSpec::Identity(_))
}

/// Figure 5: measurements without noise.
pub(super) const FIGURE_5: Definition = Definition {
    number: 5,
    about: "linear inverse problems without noise",
    shows: |operator, noise| !is_denoising(operator) && noise == 0.0,
};

/// Figure 8: noisy measurements.
pub(super) const FIGURE_8: Definition = Definition {
    number: 8,
    about: "linear inverse problems with noise",
    shows: |operator, noise| !is_denoising(operator) && noise > 0.0,
};

/// Figure 9: denoising.
pub(super) const FIGURE_9: Definition =
    Definition { number: 9, about: "denoising", shows: |operator, _| is_denoising(operator) };

impl Definition {
    fn shows(&self, cell: &plan::Cell) -> bool {
        // A likelihood restores nothing.
        let restores = !matches!(cell.solve, MethodSpec::Likelihood(_));
        restores && cell.goal.restoration().is_some_and(|goal| (self.shows)(&goal.operator, goal.noise))
    }
}

pub(super) fn draw(
    definition: &Definition,
    run: Run<'_>,
    pictures: &dyn Pictures,
    options: Options,
) -> Result<Drawn, FigureError> {
    let shown = cells(run, |cell| definition.shows(cell));
    if shown.is_empty() {
        return Err(not_in_run(definition.number, "tasks that restore images at its noise levels", run));
    }
    let mut methods: Vec<&str> = Vec::new();
    let mut tasks: Vec<&str> = Vec::new();
    for (_, cell) in &shown {
        if !methods.contains(&cell.method.as_str()) {
            methods.push(&cell.method);
        }
        if !tasks.contains(&cell.task.as_str()) {
            tasks.push(&cell.task);
        }
    }
    let mut rows = Vec::new();
    let mut numbers = Vec::new();
    for task in tasks {
        let own: Vec<(usize, &plan::Cell)> =
            shown.iter().filter(|(_, cell)| cell.task == task).copied().collect();
        for sample in shown_samples(run, options) {
            rows.push(row(run, &own, sample, &methods, pictures, &mut numbers)?);
        }
    }
    let columns = ["ground truth", "degraded"].into_iter().chain(methods).map(str::to_owned).collect();
    let grid = ImageGrid { shape: pictures.shape(), scale: options.scale, columns, rows };
    let n = shown_samples(run, options).len();
    let title = title(definition.number, definition.about, run, n);
    let mut notes = notes(run);
    notes.insert(0, "Below each image its PSNR against the ground truth (R = 2); degraded: y, or H†y where y has not the \
         image's shape. Grey: not kept, failed, or not run."
        .to_owned());
    let figure =
        Figure { title: title.clone(), panels: vec![Panel::Images(grid)], columns: 1, notes: notes.clone() };
    Ok(Drawn { figure, numbers: table(definition, title, numbers, notes) })
}

/// The pictures of one sample of one task, whose cells are `own`.
fn row(
    run: Run<'_>,
    own: &[(usize, &plan::Cell)],
    sample: usize,
    methods: &[&str],
    pictures: &dyn Pictures,
    numbers: &mut Vec<Vec<Cell>>,
) -> Result<ImageRow, FigureError> {
    let plain = |image: Option<Vec<f32>>| Picture { image, caption: String::new() };
    let (cell, first) = own.first().expect("a task is that of a cell");
    // Every method of a task has the same measurement.
    let degraded = pictures.degraded(Unit { cell: *cell, sample }).map_err(FigureError::Picture)?;
    let mut row = vec![plain(pictures.truth(sample).map_err(FigureError::Picture)?), plain(degraded)];
    for method in methods {
        let cell = own.iter().find(|(_, cell)| cell.method == *method);
        let found = cell.and_then(|(cell, _)| record(run, Unit { cell: *cell, sample }));
        let Some(record) = found else {
            row.push(plain(None));
            continue;
        };
        let image = pictures.reconstruction(record).map_err(FigureError::Picture)?;
        row.push(Picture { image, caption: decibels(record.psnr) });
        let number = |value: Option<f64>, digits| value.map_or(Cell::Missing, |v| Cell::Number(v, digits));
        numbers.push(vec![
            Cell::text(&first.task),
            Cell::Number(noise(first), 4),
            Cell::text(&run.plan.dataset.samples[sample]),
            Cell::text(*method),
            number(record.psnr, 2),
            number(record.ssim_tm13, 4),
        ]);
    }
    let label = format!("{}, σ_y = {}", first.task, noise(first));
    Ok(ImageRow { label, pictures: row })
}

fn table(definition: &Definition, title: String, rows: Vec<Vec<Cell>>, notes: Vec<String>) -> Table {
    let columns = vec![
        Column::new("task", "task", Kind::Text),
        Column::new("noise", "σ_y", Kind::Number),
        Column::new("sample_id", "sample", Kind::Text),
        Column::new("method", "method", Kind::Text),
        Column::new("psnr", "PSNR dB", Kind::Number),
        Column::new("ssim_tm13", "SSIM", Kind::Number),
    ];
    let id = format!("figure{}", definition.number);
    Table { id, title, columns, rows, notes, ..Table::default() }
}
