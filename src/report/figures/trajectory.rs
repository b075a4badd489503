//! Figure 2: x(1) along the optimisation, beside the degraded image, the result and the ground truth.

use super::{
    Drawn, FigureError, Options, Pictures, Snapshot, cells, decibels, not_in_run, notes, record,
    shown_samples, title,
};
use crate::metric::psnr;
use crate::plan::Unit;
use crate::report::Run;
use crate::report::plot::{Figure, ImageGrid, ImageRow, Panel, Picture};
use crate::report::table::{Cell, Column, Kind, Table};
use crate::store::Record;

/// One solve with what was kept of its way.
struct Way<'a> {
    unit: Unit,
    label: String,
    record: &'a Record,
    snapshots: Vec<Snapshot>,
}

pub(super) fn draw(run: Run<'_>, pictures: &dyn Pictures, options: Options) -> Result<Drawn, FigureError> {
    let ways = ways(run, pictures, options)?;
    if ways.is_empty() {
        return Err(not_in_run(2, "D-Flow solves with `save: [trajectory]`", run));
    }
    let mut evals: Vec<u32> = ways.iter().flat_map(|way| way.snapshots.iter().map(|s| s.eval)).collect();
    evals.sort_unstable();
    evals.dedup();
    let mut numbers = Vec::new();
    let rows: Result<Vec<ImageRow>, FigureError> =
        ways.iter().map(|way| row(way, &evals, pictures, &mut numbers)).collect();
    let columns = [
        vec!["degraded".to_owned()],
        evals.iter().map(|eval| format!("eval {eval}")).collect(),
        vec!["result".to_owned(), "ground truth".to_owned()],
    ];
    let grid =
        ImageGrid { shape: pictures.shape(), scale: options.scale, columns: columns.concat(), rows: rows? };
    let title = title(2, "x(1) along the optimisation", run, shown_samples(run, options).len());
    let mut notes = notes(run);
    notes.insert(0, "x(1) of so many evaluations of loss and gradient (trials of the line search included); below it the \
         PSNR against the ground truth (R = 2). Grey: the solve had ended."
        .to_owned());
    let figure =
        Figure { title: title.clone(), panels: vec![Panel::Images(grid)], columns: 1, notes: notes.clone() };
    Ok(Drawn { figure, numbers: table(title, numbers, notes) })
}

fn ways<'a>(run: Run<'a>, pictures: &dyn Pictures, options: Options) -> Result<Vec<Way<'a>>, FigureError> {
    let mut ways = Vec::new();
    for (index, cell) in cells(run, |cell| cell.goal.restoration().is_some()) {
        for sample in shown_samples(run, options) {
            let unit = Unit { cell: index, sample };
            let Some(record) = record(run, unit) else { continue };
            let snapshots = pictures.trajectory(record).map_err(FigureError::Picture)?;
            if !snapshots.is_empty() {
                let label = format!("{}, {}", cell.task, run.plan.dataset.samples[sample]);
                ways.push(Way { unit, label, record, snapshots });
            }
        }
    }
    Ok(ways)
}

fn row(
    way: &Way<'_>,
    evals: &[u32],
    pictures: &dyn Pictures,
    numbers: &mut Vec<Vec<Cell>>,
) -> Result<ImageRow, FigureError> {
    let picture = |image, caption| Picture { image, caption };
    let truth = pictures.truth(way.unit.sample).map_err(FigureError::Picture)?;
    let degraded = pictures.degraded(way.unit).map_err(FigureError::Picture)?;
    let mut row = vec![picture(degraded, String::new())];
    let mut say = |eval: Option<u32>, psnr: Option<f64>| {
        numbers.push(vec![
            Cell::text(&way.record.task),
            Cell::text(&way.record.method),
            Cell::text(&way.record.sample_id),
            Cell::text(if eval.is_some() { "evaluation" } else { "result" }),
            eval.map_or(Cell::Missing, |eval| Cell::Number(f64::from(eval), 0)),
            psnr.map_or(Cell::Missing, |psnr| Cell::Number(psnr, 2)),
        ]);
        decibels(psnr)
    };
    for eval in evals {
        row.push(match way.snapshots.iter().find(|snapshot| snapshot.eval == *eval) {
            None => picture(None, String::new()),
            Some(snapshot) => {
                let psnr = truth.as_ref().map(|truth| clamped_psnr(&snapshot.x1, truth));
                picture(Some(snapshot.x1.clone()), say(Some(*eval), psnr))
            }
        });
    }
    let result = pictures.reconstruction(way.record).map_err(FigureError::Picture)?;
    row.push(picture(result, say(None, way.record.psnr)));
    row.push(picture(truth, String::new()));
    Ok(ImageRow { label: way.label.clone(), pictures: row })
}

/// PSNR in dB of an image clamped to [−1, 1], as the rows have it.
fn clamped_psnr(x1: &[f32], truth: &[f32]) -> f64 {
    let clamped: Vec<f32> = x1.iter().map(|v| v.clamp(-1.0, 1.0)).collect();
    psnr::psnr(psnr::mse(&clamped, truth), psnr::RANGE)
}

fn table(title: String, rows: Vec<Vec<Cell>>, notes: Vec<String>) -> Table {
    let columns = vec![
        Column::new("task", "task", Kind::Text),
        Column::new("method", "method", Kind::Text),
        Column::new("sample_id", "sample", Kind::Text),
        Column::new("of", "of", Kind::Text),
        Column::new("eval", "evaluation", Kind::Number),
        Column::new("psnr", "PSNR dB", Kind::Number),
    ];
    Table { id: "figure2".to_owned(), title, columns, rows, notes, ..Table::default() }
}
