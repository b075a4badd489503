//! Tables from made-up rows.

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow::array::{Array, AsArray};
use arrow::datatypes::Float64Type;
use serde_json::json;

use super::*;
use crate::plan::{
    Cell as PlanCell, CellHash, CellModel, DatasetInfo, Goal, ImageShape, ModelInfo, Restoration, StateShape,
};
use crate::spec::method::{DflowSpec, LossSpace, LossSpec, MethodSpec, PinvSpec, RegularizerSpec};
use crate::spec::model::{FitSplit, GaussianFit, ModelRef};
use crate::spec::operator::{CenterMask, Identity, OperatorSpec};
use crate::spec::pipeline::PipelineSpec;
use crate::spec::stop::StopRule;
use crate::store::Status;

fn dataset(id: &str, side: u32, samples: usize) -> DatasetInfo {
    DatasetInfo {
        id: id.to_owned(),
        manifest: "0123456789abcdef0123".to_owned(),
        split: "test".to_owned(),
        shape: StateShape::Image(ImageShape { channels: 3, height: side, width: side }),
        classes: 10,
        samples: (0..samples).map(|i| format!("s{i:05}")).collect(),
    }
}

fn model(reference: ModelRef) -> CellModel {
    let shape = StateShape::Image(ImageShape { channels: 3, height: 32, width: 32 });
    CellModel {
        reference,
        info: ModelInfo {
            identity: "00".to_owned(),
            shape,
            classes: 10,
            predicts_noise: false,
            finish: false,
            gpu_only: false,
        },
    }
}

fn methods() -> Vec<(&'static str, MethodSpec, Option<CellModel>)> {
    let dflow = || {
        let stop = vec![StopRule::TargetPsnr(45.0), StopRule::Evals(300)];
        MethodSpec::Dflow(Box::new(DflowSpec { stop, ..empty_dflow() }))
    };
    let gaussian = ModelRef::Gaussian(GaussianFit { fit: FitSplit::Train });
    vec![
        ("d-flow", dflow(), Some(model(ModelRef::Name("mini-images".to_owned())))),
        ("gaussian", dflow(), Some(model(gaussian))),
        ("pinv", MethodSpec::Pinv(PinvSpec::default()), None),
    ]
}

fn empty_dflow() -> DflowSpec {
    serde_json::from_value(json!({})).expect("every field has a default")
}

fn plan(dataset: DatasetInfo) -> Plan {
    let tasks = [
        ("inpainting", OperatorSpec::CenterMask(CenterMask { size: 10 }), 0.0),
        ("denoising", OperatorSpec::Identity(Identity {}), 0.05),
    ];
    let mut cells = Vec::new();
    for (task, operator, noise) in tasks {
        for (method, solve, model) in methods() {
            let determinants = json!({ "task": task, "method": method });
            let hash = CellHash::of(&determinants);
            let (task, method) = (task.to_owned(), method.to_owned());
            let goal = Goal::Restore(Restoration { operator, noise });
            cells.push(PlanCell { task, method, goal, solve, model, hash, determinants });
        }
    }
    let devices = serde_json::from_value(json!("cpu")).expect("a device list");
    let (name, output) = ("table1-mini".to_owned(), "reports/table1-mini".to_owned());
    Plan { name, seed: 7, dataset, cells, devices, metrics: vec![], save: vec![], output }
}

fn record(plan: &Plan, cell: usize, sample: usize, psnr: f64) -> Record {
    Record {
        task: plan.cells[cell].task.clone(),
        method: plan.cells[cell].method.clone(),
        cell_hash: plan.cells[cell].hash.to_string(),
        sample_id: format!("s{sample:05}"),
        reproducible: true,
        stop_reason: Some(if sample.is_multiple_of(2) { "target_psnr" } else { "evals" }.to_owned()),
        evals: 10 * sample as u32,
        wall_seconds: 2.0,
        mse: Some(4.0 / 10_f64.powf(psnr / 10.0)),
        psnr: Some(psnr),
        ssim_tm13: Some(0.9),
        hole_psnr: (cell < 3).then_some(psnr - 10.0),
        observed_psnr: (cell < 3).then_some(psnr + 10.0),
        ..Record::default()
    }
}

/// Cell 0 has PSNR 30, 31, 32, 33; cell 1 two below, cell 2 exact matches; the last planned sample is missing.
fn records(plan: &Plan) -> Vec<Record> {
    let mut records = Vec::new();
    for cell in 0..plan.cells.len() {
        for sample in 0..4 {
            let psnr = match cell {
                2 => f64::INFINITY,
                _ => 30.0 + sample as f64 - 2.0 * cell as f64,
            };
            records.push(record(plan, cell, sample, psnr));
        }
    }
    let failed = Record { status: Status::Failed, ..record(plan, 0, 4, f64::NAN) };
    records.push(failed);
    records
}

fn made(number: u32, plan: &Plan) -> Vec<Table> {
    let records = records(plan);
    tables(number, Some(Run::new(plan, &records))).unwrap()
}

fn shown(table: &Table, row: usize, key: &str) -> String {
    let column = table.columns.iter().position(|column| column.key == key);
    column.map_or_else(|| panic!("no column {key} in {:?}", table.columns), |c| table.rows[row][c].display())
}

#[test]
fn means_errors_and_counts_are_those_of_the_rows() {
    let plan = plan(dataset("mini-images", 32, 6));
    let table = &made(1, &plan)[0];
    assert_eq!(shown(table, 0, "rows"), "4/1/6");
    assert_eq!(shown(table, 0, "reached_target"), "2/4");
    // s = 1.291, √4 = 2.
    assert_eq!(shown(table, 0, "psnr"), "31.50 ± 0.65");
    assert_eq!(shown(table, 0, "ssim_tm13"), "0.900");
    assert_eq!(shown(table, 2, "rows"), "4/0/6");
    assert_eq!(shown(table, 2, "reached_target"), "–");
    assert_eq!(table.rows.len(), 6);
}

#[test]
fn exact_matches_print_as_above_120() {
    let plan = plan(dataset("mini-images", 32, 6));
    let tables = made(1, &plan);
    assert_eq!(shown(&tables[0], 2, "psnr"), "> 120");
    assert_eq!(shown(&tables[1], 2, "psnr_pooled"), "> 120");
    assert_eq!(shown(&tables[1], 2, "observed_psnr"), "> 120");
    assert_eq!(shown(&tables[1], 0, "observed_psnr"), "41.50 ± 0.65");
}

#[test]
fn a_mean_with_some_exact_matches_is_a_lower_bound() {
    let plan = plan(dataset("mini-images", 32, 2));
    let records = [record(&plan, 0, 0, f64::INFINITY), record(&plan, 0, 1, 40.0)];
    let table = &tables(1, Some(Run::new(&plan, &records))).unwrap()[0];
    assert_eq!(shown(table, 0, "psnr"), "> 80.00 ± 40.00");
}

#[test]
fn the_pooled_psnr_is_that_of_the_mean_mse() {
    let plan = plan(dataset("mini-images", 32, 6));
    let mse = [3.0_f64, 3.1, 3.2, 3.3].map(|p| 10_f64.powf(-p)).iter().sum::<f64>() / 4.0;
    assert_eq!(shown(&made(1, &plan)[1], 0, "psnr_pooled"), format!("{:.2}", -10.0 * mse.log10()));
}

#[test]
fn paper_values_stand_beside_the_learned_prior_only() {
    let plan = plan(dataset("mini-images", 32, 6));
    let table = &made(1, &plan)[0];
    let printed: Vec<String> = (0..6).map(|row| shown(table, row, "psnr_paper")).collect();
    assert_eq!(printed, ["37.67", "–", "–", "36.05", "–", "–"]);
}

#[test]
fn only_the_paper_profile_prints_a_difference() {
    let mini = plan(dataset("mini-images", 32, 6));
    let table = &made(1, &mini)[0];
    assert!(table.columns.iter().any(|column| column.header == "PSNR paper†"));
    assert!(!table.columns.iter().any(|column| column.key.ends_with("difference")));
    let paper = plan(dataset("imagenet128", 128, 6));
    let table = &made(1, &paper)[0];
    assert!(table.columns.iter().any(|column| column.header == "PSNR paper"));
    assert_eq!(shown(table, 0, "psnr_difference"), "-6.17");
    assert!(table.notes[0].contains("10,000"), "{}", table.notes[0]);
}

#[test]
fn every_format_names_profile_n_and_what_not_to_compare() {
    let plan = plan(dataset("mini-images", 32, 6));
    let tables = made(1, &plan);
    for (name, format) in Format::ALL {
        let text = render::render(&tables, format, None);
        for part in ["profile mini", "n = 6", "Not comparable with the paper", "PARTIAL: 11 of 36"] {
            assert!(text.contains(part), "{name} lacks {part}:\n{text}");
        }
        assert_eq!(format.to_string().parse(), Ok(format));
    }
    assert!("docx".parse::<Format>().is_err());
}

#[test]
fn csv_is_rectangular_and_keeps_full_precision() {
    let plan = plan(dataset("mini-images", 32, 6));
    let text = render::render(&made(1, &plan)[..1], Format::Csv, None);
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let head: Vec<&str> = lines.next().unwrap().split(',').collect();
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    assert!(rows.len() == 6 && rows.iter().all(|row| row.len() == head.len()));
    let error = head.iter().position(|name| *name == "psnr_standard_error").unwrap();
    // Rounding of four squares.
    assert!((rows[0][error].parse::<f64>().unwrap() - (5.0_f64 / 3.0).sqrt() / 2.0).abs() < 1e-12);
    assert!(rows.iter().all(|row| !row[0].is_empty()), "groups are repeated for machines");
}

#[test]
fn parquet_has_the_columns_of_the_csv_in_full_precision() {
    let plan = plan(dataset("mini-images", 32, 6));
    let table = &made(1, &plan)[0];
    let csv = render::render(std::slice::from_ref(table), Format::Csv, None);
    let head = csv.lines().find(|line| !line.starts_with('#')).unwrap();
    let bytes = bytes::Bytes::from(parquet::to_parquet(table).unwrap());
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let notes = builder.metadata().file_metadata().key_value_metadata().unwrap()[0].value.clone().unwrap();
    assert!(notes.contains("profile mini") && notes.contains("PARTIAL"), "{notes}");
    let batch = builder.build().unwrap().next().unwrap().unwrap();
    let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names.join(","), head);
    let psnr = batch.column_by_name("psnr").unwrap().as_primitive::<Float64Type>();
    assert_eq!((batch.num_rows(), psnr.value(0)), (6, 31.5));
    assert!(batch.column_by_name("psnr_paper").unwrap().is_null(1));
}

#[test]
fn json_holds_numbers_and_latex_is_escaped() {
    let plan = plan(dataset("mini-images", 32, 6));
    let tables = made(1, &plan);
    let json: serde_json::Value = serde_json::from_str(&render::render(&tables, Format::Json, None)).unwrap();
    assert_eq!(json[0]["rows"][0]["psnr"]["mean"], json!(31.5));
    assert_eq!(json[0]["rows"][1]["psnr_paper"], serde_json::Value::Null);
    let latex = render::render(&tables, Format::Latex, None);
    assert!(latex.contains("31.50 $\\pm$ 0.65") && latex.contains("$\\sigma_y$"), "{latex}");
}

#[test]
fn repeated_groups_are_blank_for_people() {
    let plan = plan(dataset("mini-images", 32, 6));
    let text = render::render(&made(1, &plan)[..1], Format::Markdown, None);
    assert_eq!(text.matches("| inpainting |").count(), 1, "{text}");
}

#[test]
fn differences_to_sanity_rows_are_paired() {
    let plan = plan(dataset("mini-images", 32, 6));
    let all = made(1, &plan);
    let table = all.iter().find(|table| table.id == "table1-paired").unwrap();
    assert_eq!(table.rows.len(), 4);
    // Every pair differs by exactly 2 dB, in the hole too.
    assert_eq!(shown(table, 0, "psnr"), "+2.00 [+2.00, +2.00]");
    assert_eq!(shown(table, 0, "hole_psnr"), "+2.00 [+2.00, +2.00]");
    assert_eq!(shown(table, 0, "pairs"), "4");
}

#[test]
fn cost_stands_beside_the_paper_s_run_times() {
    let plan = plan(dataset("mini-images", 32, 6));
    let all = made(1, &plan);
    let table = all.iter().find(|table| table.id == "table1-cost").unwrap();
    assert_eq!(shown(table, 0, "evals"), "15.0 ± 6.5");
    assert_eq!(shown(table, 0, "minutes_paper"), "10.0");
    assert_eq!(shown(table, 1, "minutes_paper"), "–");
}

#[test]
fn energy_is_a_column_where_a_device_told_its_power() {
    let plan = plan(dataset("mini-images", 32, 6));
    let mut records = records(&plan);
    for (i, record) in records.iter_mut().enumerate() {
        // Cell 0 on a device of 200 W, one of its four rows on one that tells nothing; the others told nothing.
        let attempt = if i < 3 { "told" } else { "silent" };
        (record.attempt, record.device_seconds) = (attempt.to_owned(), 5.0 * (i + 1) as f64);
    }
    let cost = |power: Option<&MeanPower>| {
        let made = tables(1, Some(Run { power, ..Run::new(&plan, &records) })).unwrap();
        made.into_iter().find(|table| table.id == "table1-cost").unwrap()
    };
    let power = MeanPower::of([("told".to_owned(), 200.0)]);
    let table = cost(Some(&power));
    assert_eq!(
        (shown(&table, 0, "energy_kilojoules"), shown(&table, 1, "energy_kilojoules")),
        ("2.000 ± 0.577".to_owned(), "–".to_owned())
    );
    assert!(table.notes.iter().any(|note| note.ends_with("Known for 3 of 24 rows.")), "{:?}", table.notes);
    for format in [Format::Markdown, Format::Csv, Format::Latex, Format::Json] {
        let text = render::render(std::slice::from_ref(&table), format, None);
        assert!(text.contains("energy") && text.contains("0.577"), "{format:?}: {text}");
    }
    for none in [None, Some(&MeanPower::default()), Some(&MeanPower::of([("other".to_owned(), 1.0)]))] {
        let table = cost(none);
        assert!(!table.columns.iter().any(|column| column.key == "energy_kilojoules"));
        assert!(!table.notes.iter().any(|note| note.starts_with("Energy")));
    }
}

#[test]
fn table_9_shows_denoising_only() {
    let plan = plan(dataset("mini-images", 32, 6));
    let table = &made(9, &plan)[0];
    assert_eq!(table.rows.len(), 3);
    assert_eq!(shown(table, 0, "ssim_tm13_paper"), "0.952");
}

#[test]
fn rows_outside_of_the_plan_are_left_out_and_counted() {
    let plan = plan(dataset("mini-images", 32, 2));
    let table = &made(1, &plan)[0];
    assert_eq!(shown(table, 0, "rows"), "2/0/2");
    assert!(table.notes.iter().any(|note| note.starts_with("13 rows of other samples")), "{:?}", table.notes);
}

#[test]
fn tables_that_cannot_be_made_say_why() {
    for number in [2, 3] {
        assert_eq!(tables(number, None), Err(ReportError::NotBuilt(number)));
    }
    assert_eq!(tables(10, None), Err(ReportError::NoSuchTable(10)));
    for number in [1, 4, 5, 7, 8, 9] {
        assert_eq!(tables(number, None), Err(ReportError::NeedsRun(number)));
    }
    let mut plan = plan(dataset("mini-images", 32, 2));
    plan.cells.truncate(3);
    let error = tables(9, Some(Run::new(&plan, &[]))).unwrap_err().to_string();
    assert!(error.contains("its tasks are inpainting:"), "{error}");
    for number in [4, 5, 7, 8] {
        let error = tables(number, Some(Run::new(&plan, &[]))).unwrap_err().to_string();
        assert!(error.contains("which is about") && error.contains("molecules"), "{error}");
    }
}

fn paper_like_pipeline() -> PipelineSpec {
    serde_json::from_value(json!({
        "name": "t", "dataset": { "name": "imagenet128" }, "output": "reports/t",
        "tasks": [{ "name": "in", "operator": { "center_mask": { "size": 40 } }, "noise": 0.0 }],
        "methods": [{ "dflow": { "stop": [{ "target_psnr": 45.0 }] } }]
    }))
    .expect("a pipeline")
}

#[test]
fn table_6_compares_a_pipeline_as_resolved() {
    let mut pipeline = paper_like_pipeline();
    assert_eq!(settings::differences(&pipeline), vec![]);
    let MethodSpec::Dflow(spec) = &mut pipeline.methods[0] else { panic!("dflow") };
    spec.loss = LossSpec::NegPsnr(LossSpace::Pinv);
    spec.regularizer = RegularizerSpec::Chi(0.01);
    let keys: Vec<&str> = settings::differences(&pipeline).iter().map(|(_, _, key)| *key).collect();
    assert_eq!(keys, ["space", "regularizer", "weight"]);
    let table = settings::table(Some(&pipeline));
    assert_eq!(table.rows.len(), 8);
    assert_eq!(shown(&table, 1, "differs"), "space, regularizer, weight");
    assert_eq!(settings::table(None).rows.len(), 7);
}

fn with_sets(plan: &Plan, records: &[Record], sets: &[SetColumn], psnr: PsnrColumn) -> Table {
    tables(1, Some(Run { sets, psnr, ..Run::new(plan, records) })).unwrap().remove(0)
}

fn set_column(plan: &Plan, reference_n: usize) -> SetColumn {
    let reference_n = Some(reference_n);
    let score = |value: f64, n: usize| SetScore {
        frechet: value,
        bootstrap: None,
        kernel: Some((0.002, Some(0.001))),
        n,
    };
    let scores = [(0, Ok(score(7.5, 4))), (1, Ok(score(3.25, 4))), (3, Err("n = 1".to_owned()))];
    SetColumn {
        key: "fd_mini".to_owned(),
        display: "FD(mini)".to_owned(),
        is_fid: false,
        dims: 64,
        reference_n,
        reference: "clean images of this run".to_owned(),
        scores: scores.into_iter().map(|(cell, score)| (plan.cells[cell].hash.to_string(), score)).collect(),
    }
}

#[test]
fn the_best_and_second_of_a_task_are_marked_and_sanity_rows_do_not_compete() {
    let mut plan = plan(dataset("mini-images", 32, 6));
    // A second competitor: the Gaussian row gets a network.
    let network = plan.cells[0].model.clone();
    plan.cells[1].model = network;
    let records = records(&plan);
    let table = with_sets(&plan, &records, &[set_column(&plan, 6)], PsnrColumn::Float);
    let rank = |row: usize, key: &str| {
        let column = table.columns.iter().position(|column| column.key == key).unwrap();
        table.ranks.get(&(row, column)).copied()
    };
    assert_eq!((rank(0, "psnr"), rank(1, "psnr")), (Some(table::Rank::Best), Some(table::Rank::Second)));
    assert_eq!(rank(2, "psnr"), None, "the pseudo-inverse has the highest PSNR, and does not compete");
    assert_eq!(
        (rank(0, "fd_mini"), rank(1, "fd_mini")),
        (Some(table::Rank::Second), Some(table::Rank::Best))
    );
    // Equal to the digits shown: both are best.
    assert_eq!([rank(0, "ssim_tm13"), rank(1, "ssim_tm13")], [Some(table::Rank::Best); 2]);
    let markdown = render::render(std::slice::from_ref(&table), Format::Markdown, None);
    assert!(markdown.contains("**3.25**") && markdown.contains("<u>7.50</u>"), "{markdown}");
    let latex = render::render(std::slice::from_ref(&table), Format::Latex, None);
    assert!(latex.contains("\\textbf{3.25}") && latex.contains("\\underline{7.50}"), "{latex}");
    let text = render::render(&[table], Format::Text, None);
    assert!(text.contains("3.25¹") && text.contains("¹ best of its task"), "{text}");
}

#[test]
fn distances_say_what_they_are_and_where_they_mean_nothing() {
    let plan = plan(dataset("mini-images", 32, 6));
    let records = records(&plan);
    let table = with_sets(&plan, &records, &[set_column(&plan, 6)], PsnrColumn::Float);
    let notes = table.notes.join("\n");
    assert!(notes.contains("no FID") && notes.contains("n = 4"), "{notes}");
    assert!(notes.contains("WARNING: FD(mini) over n < 128"), "{notes}");
    assert_eq!(shown(&table, 3, "fd_mini"), "n = 1");
    let columns: Vec<&str> = table.columns.iter().map(|column| column.header.as_str()).collect();
    let place = |name: &str| columns.iter().position(|column| column.starts_with(name)).unwrap();
    assert!(place("FD(mini)") < place("PSNR") && place("PSNR") < place("SSIM"));
}

#[test]
fn lpips_without_weights_says_so_and_how_to_get_it() {
    let mut plan = plan(dataset("mini-images", 32, 6));
    plan.metrics = vec!["lpips:alex".parse().unwrap()];
    let mut records = records(&plan);
    let table = with_sets(&plan, &records, &[], PsnrColumn::Float);
    assert_eq!(shown(&table, 0, "lpips"), "no weights");
    assert!(table.notes.iter().any(|note| note.contains("dflow score") && note.contains("lpips:alex")));
    for record in &mut records {
        record.lpips = Some(0.25);
        record.lpips_network = Some("alex:0123456789abcdef0123".to_owned());
    }
    let table = with_sets(&plan, &records, &[], PsnrColumn::Float);
    assert_eq!(shown(&table, 1, "lpips"), "0.250");
    assert!(table.notes.iter().any(|note| note.contains("trunk alex, weights 0123456789abcdef")));
}

#[test]
fn the_wrapped_psnr_stands_in_the_main_table_on_request_only() {
    let plan = plan(dataset("mini-images", 32, 6));
    let mut records = records(&plan);
    records.iter_mut().for_each(|record| record.psnr_u8wrap = Some(38.5));
    let keys = |psnr| {
        let table = with_sets(&plan, &records, &[], psnr);
        table.columns.into_iter().map(|column| column.key).collect::<Vec<_>>()
    };
    let has = |keys: &[String], name: &str| keys.iter().any(|key| key == name);
    let (float, wrapped) = (keys(PsnrColumn::Float), keys(PsnrColumn::U8Wrap));
    assert!(has(&float, "psnr") && !has(&float, "psnr_u8wrap"));
    assert!(has(&wrapped, "psnr_u8wrap") && has(&wrapped, "psnr_u8wrap_paper") && !has(&wrapped, "psnr"));
}

#[test]
fn lpips_of_different_networks_is_not_ranked() {
    let mut plan = plan(dataset("mini-images", 32, 6));
    plan.cells[1].model = plan.cells[0].model.clone();
    let mut records = records(&plan);
    let ranks = |records: &[Record]| {
        let table = with_sets(&plan, records, &[], PsnrColumn::Float);
        let column = table.columns.iter().position(|column| column.key == "lpips").unwrap();
        table.ranks.keys().filter(|(row, place)| *row < 3 && *place == column).count()
    };
    for record in &mut records {
        record.lpips = Some(0.25);
        record.lpips_network = Some("alex:one".to_owned());
    }
    assert_eq!(ranks(&records), 2);
    let of_second = |record: &&mut Record| record.cell_hash == plan.cells[1].hash.to_string();
    records.iter_mut().filter(of_second).for_each(|row| row.lpips_network = Some("alex:other".to_owned()));
    assert_eq!(ranks(&records), 0);
}

#[test]
fn means_over_different_samples_are_not_ranked_and_are_told() {
    let mut plan = plan(dataset("mini-images", 32, 6));
    plan.cells[1].model = plan.cells[0].model.clone();
    let mut records = records(&plan);
    for record in &mut records {
        record.lpips = (record.sample_id != "s00002" || record.cell_hash != plan.cells[0].hash.to_string())
            .then_some(if record.cell_hash == plan.cells[0].hash.to_string() { 0.25 } else { 0.5 });
    }
    let ranked = |records: &[Record]| {
        let table = with_sets(&plan, records, &[set_column(&plan, 6)], PsnrColumn::Float);
        let of_inpainting = table.ranks.keys().filter(|(row, _)| *row < 3);
        (
            of_inpainting.map(|(_, column)| table.columns[*column].key.clone()).collect::<Vec<_>>(),
            table.notes.join("\n"),
        )
    };
    // LPIPS of three of four rows, FD of all.
    let (keys, notes) = ranked(&records);
    assert!(!keys.contains(&"lpips".to_owned()) && keys.contains(&"psnr".to_owned()), "{keys:?}");
    assert!(notes.contains("LPIPS of some rows only, and not ranked: d-flow/inpainting 3 of 4"), "{notes}");
    assert!(!notes.contains("FD(mini) of some rows only"), "{notes}");
    // A method without any row is no reason: all of its metrics are missing.
    let without: Vec<Record> =
        records.iter().filter(|row| row.cell_hash != plan.cells[1].hash.to_string()).cloned().collect();
    assert!(!ranked(&without).1.contains("ranked only where"));
    let last = records.iter().rposition(|record| record.cell_hash == plan.cells[1].hash.to_string());
    records.remove(last.unwrap());
    let (keys, notes) = ranked(&records);
    assert!(keys.is_empty() && notes.contains("ranked only where they share"), "{keys:?}");
}
