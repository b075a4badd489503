//! Tables of molecules from rows that are made by hand.

use serde_json::json;

use super::table::Cell;
use super::{Run, Table, tables};
use crate::plan::{
    Cell as PlanCell, CellHash, CellModel, ClassifierInfo, DatasetInfo, Goal, HeldOut, ModelInfo,
    MoleculeShape, Plan, PropertyGoal, StateShape,
};
use crate::spec::method::MethodSpec;
use crate::spec::model::ModelRef;
use crate::spec::property::{Property, PropertySpec};
use crate::store::{MeanPower, Record, Status};

const SHAPE: StateShape = StateShape::Molecule(MoleculeShape { max_atoms: 29 });

fn method(json: serde_json::Value) -> MethodSpec {
    serde_json::from_value(json).expect("a method")
}

fn property(name: Property, small: bool) -> Goal {
    let classifier = ClassifierInfo {
        identity: name.key().to_owned(),
        property: name,
        small,
        held_out: Some(HeldOut { molecules: 1024, mae: 0.0915 }),
    };
    Goal::Property(PropertyGoal {
        spec: PropertySpec { name, classifier: name.key().to_owned(), value: None },
        classifier,
    })
}

/// α with a real classifier and the gap with a small one, by D-Flow and unconditional samples; four molecules.
fn plan(goals: Vec<(&str, Goal)>) -> Plan {
    let model = ModelInfo {
        identity: "00".to_owned(),
        shape: SHAPE,
        classes: 0,
        predicts_noise: true,
        finish: false,
        gpu_only: false,
    };
    let model = CellModel { reference: ModelRef::Name("edm-qm9-small".to_owned()), info: model };
    let methods = [("d-flow", json!({ "dflow": { "init": "source" } })), ("free", json!({ "sample": {} }))];
    let mut cells = Vec::new();
    for (task, goal) in goals {
        for (name, solve) in &methods {
            let determinants = json!({ "task": task, "method": name });
            cells.push(PlanCell {
                task: task.to_owned(),
                method: (*name).to_owned(),
                goal: goal.clone(),
                solve: method(solve.clone()),
                model: Some(model.clone()),
                hash: CellHash::of(&determinants),
                determinants,
            });
        }
    }
    Plan {
        name: "table4-qm9".to_owned(),
        seed: 0,
        dataset: DatasetInfo {
            id: "qm9-targets".to_owned(),
            manifest: "ab".repeat(32),
            split: "test".to_owned(),
            shape: SHAPE,
            classes: 0,
            samples: (0..4).map(|i| i.to_string()).collect(),
        },
        cells,
        devices: serde_json::from_value(json!("cpu")).expect("devices"),
        metrics: Vec::new(),
        save: Vec::new(),
        output: "reports/table4-qm9".to_owned(),
    }
}

fn both() -> Plan {
    plan(vec![("alpha", property(Property::Alpha, false)), ("gap", property(Property::Gap, true))])
}

/// Rows of every cell: errors 1, 2, 3, 4 times `scale`; samples 0 and 1 are stable, 0 to 2 valid, of two graphs.
fn records(plan: &Plan, scale: f64) -> Vec<Record> {
    let row = |cell: &PlanCell, i: usize| Record {
        task: cell.task.clone(),
        method: cell.method.clone(),
        cell_hash: cell.hash.to_string(),
        sample_id: i.to_string(),
        n_atoms: Some(2),
        target: Some(10.0),
        property: Some(10.0 + scale * (i + 1) as f64),
        property_relaxed: Some(10.0),
        property_error: Some(scale * (i + 1) as f64),
        stable_atoms: Some(if i < 2 { 2 } else { 1 }),
        molecule_stable: Some(i < 2),
        molecule_valid: Some(i < 3),
        molecule_graph: [Some("O2 H1|0-1"), Some("H1 O2|0-1"), Some("C4|"), None][i].map(str::to_owned),
        nfe_forward: 100,
        device_seconds: 0.5,
        reproducible: true,
        ..Record::default()
    };
    plan.cells.iter().flat_map(|cell| (0..4).map(move |i| row(cell, i))).collect()
}

fn made(number: u32, plan: &Plan, records: &[Record]) -> Vec<Table> {
    tables(number, Some(Run::new(plan, records))).expect("tables")
}

/// The cell of the row whose leading cells are these, in this column.
fn shown(table: &Table, row: &[&str], column: &str) -> String {
    let place = table.columns.iter().position(|other| other.key == column).expect("the column");
    let is_it = |cells: &&Vec<Cell>| row.iter().zip(*cells).all(|(text, cell)| cell.display() == *text);
    let found = table.rows.iter().find(is_it).unwrap_or_else(|| panic!("no row {row:?} in {:?}", table.rows));
    found[place].display()
}

#[test]
fn table_4_stands_beside_the_paper_in_its_units() {
    let plan = both();
    let table = &made(4, &plan, &records(&plan, 0.4))[0];
    assert!(table.title.contains("profile qm9") && table.title.contains("n = 4"), "{}", table.title);
    assert_eq!(shown(table, &["d-flow", "paper"], "alpha"), "1.39");
    assert_eq!(shown(table, &["geoldm", "published"], "gap"), "587");
    assert_eq!(shown(table, &["qm9*", "these classifiers"], "alpha"), "0.09");
    assert_eq!(shown(table, &["qm9*", "these classifiers"], "gap"), "92");
    // Mean of 0.4, 0.8, 1.2, 1.6 and its standard error 0.516/2; the gap in meV.
    assert_eq!(shown(table, &["d-flow", "this run"], "alpha"), "1.00 ± 0.26");
    assert_eq!(shown(table, &["free", "this run"], "gap"), "1000 ± 258");
    assert_eq!(shown(table, &["free", "ok/failed/planned"], "gap"), "4/0/4");
    let headers: Vec<&str> = table.columns.iter().map(|column| column.header.as_str()).collect();
    assert_eq!(headers[2..], ["α Bohr³", "Δε meV †"]);
}

#[test]
fn further_errors_and_cost_follow_table_4() {
    let plan = both();
    let made = made(4, &plan, &records(&plan, 0.4));
    assert_eq!(shown(&made[1], &["d-flow", "median"], "alpha"), "1.00");
    assert_eq!(shown(&made[1], &["d-flow", "median, relaxed"], "alpha"), "0.00");
    assert_eq!(shown(&made[1], &["free", "change by argmax, mean"], "gap"), "1000 ± 258");
    assert_eq!(shown(&made[2], &["d-flow"], "per_hour"), "7200");
    assert_eq!(shown(&made[2], &["free"], "minutes_paper"), "–");
}

#[test]
fn molecules_cost_the_energy_of_their_device_seconds() {
    let plan = both();
    let records = records(&plan, 1.0).into_iter().map(|row| Record { attempt: "a".to_owned(), ..row });
    let records: Vec<Record> = records.collect();
    let power = MeanPower::of([("a".to_owned(), 500.0)]);
    let run = Run { power: Some(&power), ..Run::new(&plan, &records) };
    let table = &tables(4, Some(run)).expect("tables")[2];
    assert_eq!(shown(table, &["d-flow"], "energy_kilojoules"), "0.250");
}

#[test]
fn qualities_are_percentages_over_molecules_and_atoms() {
    let plan = both();
    let table = &made(5, &plan, &records(&plan, 1.0))[0];
    assert_eq!(shown(table, &["d-flow, paper", "validity"], "gap"), "79.4");
    for (quality, percent) in [
        ("molecule stability", "50.0"),
        ("atom stability", "75.0"),
        ("validity", "75.0"),
        // Three valid molecules, of which two are the same in another order of atoms.
        ("valid and unique", "50.0"),
    ] {
        assert_eq!(shown(table, &["d-flow", quality], "alpha"), percent, "{quality}");
    }
}

#[test]
fn table_8_tells_stable_molecules_from_others() {
    let plan = both();
    let table = &made(8, &plan, &records(&plan, 1.0))[0];
    assert_eq!(shown(table, &["d-flow", "stable"], "alpha"), "1.50 ± 0.50");
    assert_eq!(shown(table, &["d-flow", "not stable"], "alpha"), "3.50 ± 0.50");
    assert_eq!(shown(table, &["free", "stable, molecules"], "gap"), "2/4");
}

#[test]
fn table_7_has_a_row_per_solver_and_the_papers() {
    let plan = plan(vec![("generation", Goal::Generate)]);
    let table = &made(7, &plan, &records(&plan, 1.0))[0];
    assert_eq!(shown(table, &["midpoint-100, paper's prior"], "validity"), "85.56");
    assert_eq!(shown(table, &["free"], "molecule_stability"), "50.0");
    assert_eq!(shown(table, &["free"], "nfe_forward"), "100");
}

#[test]
fn missing_and_failed_rows_are_counted() {
    let plan = both();
    let mut rows = records(&plan, 1.0);
    rows[0].status = Status::Failed;
    rows.truncate(6);
    let table = &made(4, &plan, &rows)[0];
    assert_eq!(shown(table, &["d-flow", "ok/failed/planned"], "alpha"), "3/1/4");
    assert!(table.notes.iter().any(|note| note.starts_with("PARTIAL: 10 of 16")), "{:?}", table.notes);
    assert!(table.notes.iter().any(|note| note.starts_with("1 failed molecules")), "{:?}", table.notes);
    assert_eq!(shown(table, &["free", "this run"], "gap"), "–");
}

#[test]
fn two_tasks_of_one_property_have_a_column_each() {
    let plan = plan(vec![
        ("alpha-small", property(Property::Alpha, true)),
        ("alpha-real", property(Property::Alpha, false)),
    ]);
    for number in [4, 5, 8] {
        let table = &made(number, &plan, &records(&plan, 1.0))[0];
        let keys: Vec<&str> = table.columns[2..].iter().map(|column| column.key.as_str()).collect();
        assert_eq!(keys, ["alpha-small", "alpha-real"]);
        assert!(table.columns[3].header.contains("(alpha-real)"), "{}", table.columns[3].header);
        assert!(table.notes.iter().any(|note| note.contains("† small classifier")));
        assert_eq!(shown(table, &["free", "ok/failed/planned"], "alpha-real"), "4/0/4");
    }
}

#[test]
fn rows_without_stability_say_so() {
    let plan = both();
    let mut rows = records(&plan, 1.0);
    rows.iter_mut().for_each(|row| row.molecule_stable = None);
    let table = &made(8, &plan, &rows)[0];
    assert_eq!(shown(table, &["free", "stable, molecules"], "gap"), "–");
    assert!(table.notes.iter().any(|note| note.contains("metrics: [molecule]")), "{:?}", table.notes);
}

#[test]
fn tasks_of_one_common_target_are_for_pictures() {
    let mut goal = property(Property::Alpha, false);
    if let Goal::Property(goal) = &mut goal {
        goal.spec.value = Some(70.0);
    }
    let plan = plan(vec![("alpha-70", goal)]);
    assert!(tables(4, Some(Run::new(&plan, &[]))).is_err());
}
