//! Drawings of a run's molecules in one SVG file: a row per method, and per task unless every task has one target of its
//! own (figure 6), where the tasks stand side by side.

use std::path::Path;

use crate::atomic;
use crate::cli::CliError;
use crate::metric::molecule::{Structure, structure};
use crate::molecule::Molecule;
use crate::plan::{Cell, Unit};
use crate::report::molecule_svg::{Drawing, figure};
use crate::store::{Record, RunDir, artifacts};
use crate::worker::assembly::Assembly;

/// A molecule with what is written about it.
struct Shown {
    molecule: Molecule,
    structure: Structure,
    title: String,
    caption: String,
}

pub(super) fn draw(
    run_dir: &RunDir,
    assembly: &Assembly,
    records: &[Record],
    tasks: &[&str],
    samples: u32,
    file: &Path,
) -> Result<(), CliError> {
    let svg = svg(run_dir, assembly, records, tasks, samples)?;
    atomic::write_bytes(file, svg.as_bytes())
        .map_err(|error| CliError::failure(format!("cannot write {}: {error}", file.display())))
}

/// The drawings as an SVG document.
pub(in crate::cli) fn svg(
    run_dir: &RunDir,
    assembly: &Assembly,
    records: &[Record],
    tasks: &[&str],
    samples: u32,
) -> Result<String, CliError> {
    let plan = run_dir.plan();
    let has_own_target =
        |cell: &&Cell| cell.goal.property().is_some_and(|property| property.spec.value.is_some());
    let shown_cells =
        || plan.cells.iter().enumerate().filter(|(_, cell)| tasks.contains(&cell.task.as_str()));
    let side_by_side = shown_cells().all(|(_, cell)| has_own_target(&cell));
    let mut rows: Vec<(String, Vec<Shown>)> = Vec::new();
    for (index, cell) in shown_cells() {
        let count = plan.dataset.samples.len().min(samples as usize);
        let row = if side_by_side { cell.method.clone() } else { format!("{}/{}", cell.task, cell.method) };
        for sample in 0..count {
            let unit = Unit { cell: index, sample };
            if let Some(shown) = shown(run_dir, assembly, records, unit)? {
                match rows.iter_mut().find(|(name, _)| *name == row) {
                    Some((_, row)) => row.push(shown),
                    None => rows.push((row.clone(), vec![shown])),
                }
            }
        }
    }
    if rows.is_empty() {
        return Err(CliError::failure(format!(
            "the run {} has kept no molecules: write save: [reconstructions] in its pipeline",
            plan.name
        )));
    }
    let drawings: Vec<Vec<Drawing<'_>>> =
        rows.iter().map(|(_, row)| row.iter().map(Shown::drawing).collect()).collect();
    Ok(figure(&plan.name, &drawings))
}

impl Shown {
    fn drawing(&self) -> Drawing<'_> {
        Drawing {
            molecule: &self.molecule,
            bonds: &self.structure.bonds,
            charges: &self.structure.charges,
            title: &self.title,
            caption: &self.caption,
        }
    }
}

/// The molecule of a unit's row, if it was kept.
fn shown(
    run_dir: &RunDir,
    assembly: &Assembly,
    records: &[Record],
    unit: Unit,
) -> Result<Option<Shown>, CliError> {
    let (hash, id) = run_dir.plan().key(unit);
    let hash = hash.to_string();
    let Some(record) = records.iter().find(|record| record.cell_hash == hash && record.sample_id == id)
    else {
        return Ok(None);
    };
    let kept = artifacts::read(&**run_dir.fs(), run_dir.layout(), record).map_err(CliError::store)?;
    let (Some(x1), Some(atoms), Some(representation)) = (kept, record.n_atoms, assembly.representation(unit))
    else {
        return Ok(None);
    };
    let molecule = representation.decode(&x1, atoms as usize);
    let structure = structure(&molecule);
    let unit = assembly.cell(unit).goal.property().map_or("", |property| property.spec.name.unit());
    let title = match record.target {
        Some(target) => format!("{}: {target:.2} {unit}", record.task),
        None => format!("{} {id}", record.method),
    };
    let state = match (record.molecule_stable, record.molecule_valid) {
        (Some(true), _) => "stable",
        (_, Some(true)) => "valid",
        (_, Some(false)) => "not valid",
        _ => "",
    };
    let caption = match record.property {
        Some(value) => format!("{}: {value:.2}, {state}", record.method),
        None => state.to_owned(),
    };
    Ok(Some(Shown { molecule, structure, title, caption }))
}
