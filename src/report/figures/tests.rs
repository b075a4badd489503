//! Figures from made-up rows: which numbers are plotted, and what is said where something is missing.

use serde_json::{Value, json};

use super::*;
use crate::plan::{self, CellHash, DatasetInfo, Goal, ImageShape, Plan, Restoration, StateShape};
use crate::report::plot;
use crate::report::table;
use crate::spec::method::MethodSpec;
use crate::spec::operator::{CenterMask, Identity, OperatorSpec};

const SAMPLES: usize = 3;
const HOLE: OperatorSpec = OperatorSpec::CenterMask(CenterMask { size: 2 });
const ALL: OperatorSpec = OperatorSpec::Identity(Identity {});

/// A plan of these (task, operator, σ_y, method's name, method) cells over images of this shape.
fn plan([channels, height, width]: [u32; 3], cells: &[(&str, OperatorSpec, f64, &str, Value)]) -> Plan {
    let cell = |(task, operator, noise, method, solve): &(&str, OperatorSpec, f64, &str, Value)| {
        let determinants = json!({ "task": task, "method": method });
        plan::Cell {
            task: (*task).to_owned(),
            method: (*method).to_owned(),
            goal: Goal::Restore(Restoration { operator: *operator, noise: *noise }),
            solve: serde_json::from_value::<MethodSpec>(solve.clone()).unwrap(),
            model: None,
            hash: CellHash::of(&determinants),
            determinants,
        }
    };
    let dataset = DatasetInfo {
        id: "mini-images".to_owned(),
        manifest: "00".to_owned(),
        split: "test".to_owned(),
        shape: StateShape::Image(ImageShape { channels, height, width }),
        classes: 0,
        samples: (0..SAMPLES).map(|i| format!("s{i}")).collect(),
    };
    Plan {
        name: "figure".to_owned(),
        seed: 0,
        dataset,
        cells: cells.iter().map(cell).collect(),
        devices: serde_json::from_value(json!("cpu")).unwrap(),
        metrics: Vec::new(),
        save: Vec::new(),
        output: "reports/figure".to_owned(),
    }
}

/// A row of every unit; PSNR is 10·(cell + 1) + sample.
fn records(plan: &Plan) -> Vec<Record> {
    let units = (0..plan.cells.len()).flat_map(|cell| (0..SAMPLES).map(move |sample| Unit { cell, sample }));
    let record = |unit: Unit| {
        let cell = &plan.cells[unit.cell];
        Record {
            task: cell.task.clone(),
            method: cell.method.clone(),
            sample_id: plan.dataset.samples[unit.sample].clone(),
            cell_hash: cell.hash.to_string(),
            psnr: Some(10.0 * (unit.cell + 1) as f64 + unit.sample as f64),
            ssim_tm13: Some(0.5),
            bits_per_dim: Some(3.0 + unit.cell as f64),
            bits_per_dim_error: (unit.sample > 0).then_some(0.25),
            evals: 5,
            ..Record::default()
        }
    };
    units.map(record).collect()
}

/// Grey images whose value tells what they are.
struct Made([usize; 3]);

impl Made {
    fn image(&self, value: f32) -> Vec<f32> {
        vec![value; self.0.iter().product()]
    }
}

impl Pictures for Made {
    fn shape(&self) -> [usize; 3] {
        self.0
    }

    fn truth(&self, sample: usize) -> Result<Option<Vec<f32>>, String> {
        // The last sample cannot be read.
        Ok((sample + 1 < SAMPLES).then(|| self.image(0.5)))
    }

    fn degraded(&self, _unit: Unit) -> Result<Option<Vec<f32>>, String> {
        Ok(Some(self.image(-0.5)))
    }

    fn reconstruction(&self, record: &Record) -> Result<Option<Vec<f32>>, String> {
        if record.sample_id == "broken" {
            Err("the file is gone".to_owned())
        } else {
            Ok(Some(self.image(0.0)))
        }
    }

    fn trajectory(&self, record: &Record) -> Result<Vec<Snapshot>, String> {
        // The first sample ended before evaluation 4.
        let evals: &[u32] = if record.sample_id == "s0" { &[1, 2] } else { &[1, 2, 4] };
        let snapshot = |&eval| Snapshot {
            eval,
            x0: self.image(eval as f32),
            // 0.5 off by 0.4, 0.2 and 0.1.
            x1: self.image(0.5 - 0.4 / eval as f32),
        };
        Ok(if record.method == "pinv" { Vec::new() } else { evals.iter().map(snapshot).collect() })
    }

    fn gradients(&self, _unit: Unit, x0: &[f32]) -> Result<GradientPair, String> {
        let at = f64::from(x0[0]) / 10.0;
        Ok(GradientPair { x1: [at, 0.0], raw: [1.0, 0.0], projected: [0.0, -4.0] })
    }
}

const OPTIONS: Options = Options { samples: 2, scale: 8 };

fn made(number: u32, plan: &Plan, records: &[Record]) -> Result<Drawn, FigureError> {
    let [channels, height, width] = plan.dataset.shape.image().unwrap().sides().map(|side| side as usize);
    draw(number, Run::new(plan, records), &Made([channels, height, width]), OPTIONS)
}

fn column(drawn: &Drawn, key: &str) -> Vec<String> {
    let place = drawn.numbers.columns.iter().position(|column| column.key == key).unwrap();
    drawn.numbers.rows.iter().map(|row| row[place].display()).collect()
}

fn dflow(regularizer: Value) -> Value {
    json!({ "dflow": { "regularizer": regularizer } })
}

fn charts(drawn: &Drawn) -> Vec<&plot::Chart> {
    let panels = drawn.figure.panels.iter();
    panels
        .filter_map(|panel| if let plot::Panel::Chart(chart) = panel { Some(chart) } else { None })
        .collect()
}

fn grid(drawn: &Drawn) -> &plot::ImageGrid {
    let mut panels = drawn.figure.panels.iter();
    panels.find_map(|panel| if let plot::Panel::Images(grid) = panel { Some(grid) } else { None }).unwrap()
}

/// Every figure is XML and a PNG of some size.
fn check_drawn(drawn: &Drawn) {
    let svg = drawn.figure.svg().unwrap();
    let png = plot::png(&svg, 1.0).unwrap();
    assert!(image::load_from_memory(&png).unwrap().width() > 300);
    for note in &drawn.numbers.notes {
        assert!(drawn.figure.notes.contains(note));
    }
}

#[test]
fn figure_7_has_the_mean_of_every_weight_by_weight() {
    let sweep = [
        ("sr", ALL, 0.05, "strong", dflow(json!({ "chi": 1 }))),
        ("sr", ALL, 0.05, "none", dflow(json!("none"))),
        ("sr", ALL, 0.05, "weak", dflow(json!({ "chi": 0.001 }))),
        ("sr", ALL, 0.05, "gaussian", dflow(json!({ "gaussian": 1 }))),
        ("sr", ALL, 0.05, "pinv", json!({ "pinv": {} })),
    ];
    let plan = plan([3, 8, 8], &sweep);
    let drawn = made(7, &plan, &records(&plan)).unwrap();
    check_drawn(&drawn);
    let charts = charts(&drawn);
    assert_eq!(charts.len(), 2, "PSNR and SSIM; no row has LPIPS");
    let points: Vec<(f64, f64)> = charts[0].series[0].points.iter().map(|p| (p.x, p.y)).collect();
    assert_eq!(points, [(0.0, 21.0), (0.001, 31.0), (1.0, 11.0)]);
    // Three values in steps of one: s/√n = 1/√3.
    assert!((charts[0].series[0].points[0].error.unwrap() - 3_f64.sqrt().recip()).abs() < 1e-12);
    assert_eq!(column(&drawn, "method")[..3], ["none", "weak", "strong"]);
    assert!(drawn.figure.title.contains("profile mini") && drawn.figure.title.contains("n = 3"));
    assert!(drawn.figure.notes.iter().any(|note| note.contains("Not comparable with the paper")));
}

#[test]
fn weights_under_different_settings_are_different_curves() {
    let other = |chi: Value| json!({ "dflow": { "regularizer": chi, "init": "source" } });
    let plan = plan(
        [3, 8, 8],
        &[
            ("sr", ALL, 0.05, "a0", dflow(json!("none"))),
            ("sr", ALL, 0.05, "a1", dflow(json!({ "chi": 1 }))),
            ("sr", ALL, 0.05, "b0", other(json!("none"))),
            ("sr", ALL, 0.05, "b1", other(json!({ "chi": 1 }))),
        ],
    );
    let drawn = made(7, &plan, &records(&plan)).unwrap();
    assert_eq!(charts(&drawn)[0].series.len(), 2);
}

#[test]
fn grids_show_the_tasks_of_their_noise_and_leave_gaps_grey() {
    let plan = plan(
        [3, 8, 8],
        &[
            ("hole", HOLE, 0.0, "d-flow", dflow(json!("none"))),
            ("hole", HOLE, 0.0, "pinv", json!({ "pinv": {} })),
            ("noisy", HOLE, 0.05, "d-flow", dflow(json!("none"))),
            ("denoising", ALL, 0.05, "d-flow", dflow(json!("none"))),
        ],
    );
    let mut records = records(&plan);
    records[1].status = Status::Failed;
    for (number, rows, methods) in [(5, 2, 2), (8, 2, 1), (9, 2, 1)] {
        let drawn = made(number, &plan, &records).unwrap();
        check_drawn(&drawn);
        let grid = grid(&drawn);
        assert_eq!((grid.rows.len(), grid.columns.len()), (rows, 2 + methods), "figure {number}");
    }
    let drawn = made(5, &plan, &records).unwrap();
    let grid = grid(&drawn);
    assert_eq!(grid.columns, ["ground truth", "degraded", "d-flow", "pinv"]);
    assert_eq!(grid.rows[0].pictures[2].caption, "10.0 dB");
    assert_eq!(grid.rows[1].pictures[2].image, None, "a failed row");
    assert_eq!(grid.rows[0].pictures[1].image.as_ref().unwrap()[0], -0.5);
    assert_eq!(column(&drawn, "psnr"), ["10.00", "20.00", "21.00"]);
    assert!(drawn.figure.notes.iter().any(|note| note.contains("1 rows failed")));
}

#[test]
fn figure_2_has_the_psnr_of_every_kept_evaluation() {
    let cells = [
        ("hole", HOLE, 0.0, "d-flow", dflow(json!("none"))),
        ("hole", HOLE, 0.0, "pinv", json!({ "pinv": {} })),
    ];
    let plan = plan([3, 8, 8], &cells);
    let drawn = made(2, &plan, &records(&plan)).unwrap();
    check_drawn(&drawn);
    let grid = grid(&drawn);
    assert_eq!(grid.columns, ["degraded", "eval 1", "eval 2", "eval 4", "result", "ground truth"]);
    assert_eq!(grid.rows.len(), 2, "two samples of the method that has a way");
    assert_eq!(grid.rows[0].pictures[3].image, None, "it had ended");
    // MSE 0.16, 0.04 and 0.01 with R = 2.
    assert_eq!(column(&drawn, "psnr"), ["13.98", "20.00", "10.00", "13.98", "20.00", "26.02", "11.00"]);
    assert_eq!(column(&drawn, "eval"), ["1", "2", "–", "1", "2", "4", "–"]);
}

#[test]
fn figure_3_has_the_bits_and_their_errors() {
    let likelihood = || json!({ "likelihood": { "probes": 4 } });
    let plan =
        plan([3, 8, 8], &[("image", ALL, 0.0, "l", likelihood()), ("masked", HOLE, 0.0, "l", likelihood())]);
    let mut records = records(&plan);
    records[5].bits_per_dim = None;
    let drawn = made(3, &plan, &records).unwrap();
    check_drawn(&drawn);
    assert_eq!(
        column(&drawn, "bits_per_dim"),
        ["3.0000", "3.0000 ± 0.2500", "3.0000 ± 0.2500", "4.0000", "4.0000 ± 0.2500"]
    );
    assert_eq!(grid(&drawn).rows[1].pictures[1].caption, "4.00 ± 0.25");
    assert!(drawn.figure.notes[0].contains("image (4 probes): uniformly dequantised bytes, offset 7"));
}

#[test]
fn figure_4_scales_each_kind_of_arrow_to_one_length() {
    let plan = plan([2, 1, 1], &[("point", ALL, 0.3, "d-flow", dflow(json!("none")))]);
    let drawn = made(4, &plan, &records(&plan)).unwrap();
    check_drawn(&drawn);
    let charts = charts(&drawn);
    assert_eq!(charts.len(), SAMPLES);
    let arrows = |index: usize| match &charts[0].series[index].mark {
        plot::Mark::Arrows(arrows) => arrows.clone(),
        other => panic!("{other:?}"),
    };
    let (raw, projected) = (arrows(2)[0], arrows(3)[0]);
    // Downhill, and equally long although the gradients are not.
    assert!(raw[0] < 0.0 && raw[1] == 0.0 && projected[0] == 0.0 && projected[1] > 0.0);
    assert!((raw[0] + projected[1]).abs() < 1e-12);
    assert_eq!(column(&drawn, "projected_1")[0], "-4.000000");
}

#[test]
fn a_run_of_something_else_and_unknown_figures_are_refused_with_the_remedy() {
    let plan = plan([3, 8, 8], &[("hole", HOLE, 0.0, "pinv", json!({ "pinv": {} }))]);
    let records = records(&plan);
    for number in [2, 3, 4, 7, 8, 9] {
        let error = made(number, &plan, &records).unwrap_err().to_string();
        assert!(error.contains(&format!("pipelines/figure{number}-mini.yaml")), "{error}");
    }
    assert_eq!(made(11, &plan, &records), Err(FigureError::NoSuchFigure(11)));
    let mut broken = plan.clone();
    broken.dataset.samples[0] = "broken".to_owned();
    let mut records = records;
    records[0].sample_id = "broken".to_owned();
    assert_eq!(made(5, &broken, &records), Err(FigureError::Picture("the file is gone".to_owned())));
}

#[test]
fn numbers_are_a_table_with_one_value_per_column() {
    let plan = plan([3, 8, 8], &[("hole", HOLE, 0.0, "pinv", json!({ "pinv": {} }))]);
    let drawn = made(5, &plan, &records(&plan)).unwrap();
    assert!(drawn.numbers.rows.iter().all(|row| row.len() == drawn.numbers.columns.len()));
    assert_eq!(drawn.numbers.rows[0][0], table::Cell::text("hole"));
}
