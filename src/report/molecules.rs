//! Tables 4 (property errors), 5 (quality of controlled molecules), 7 (unconditional molecules) and 8 (errors of stable
//! and of other molecules): a column per property task, a row per method.

use super::aggregate::{Group, groups, mean};
use super::energy;
use super::paper::{self, Profile, Row};
use super::table::{Cell, Column, Kind, Table};
use super::{ReportError, Run};
use crate::metric::molecule::{MoleculeGraph, distinct};
use crate::plan::{Goal, PropertyGoal};
use crate::spec::method::MethodSpec;
use crate::spec::property::Property;
use crate::store::Record;

/// Table 4: mean absolute error of each property, further statistics of it, and cost.
pub(super) fn table_4(run: Run<'_>) -> Result<Vec<Table>, ReportError> {
    let page = Page::new(4, "molecules of a wanted property", run, of_properties)?;
    Ok(vec![page.errors(), page.further_errors(), page.cost()])
}

/// Table 5: stability and validity of the molecules made for each property.
pub(super) fn table_5(run: Run<'_>) -> Result<Vec<Table>, ReportError> {
    let page = Page::new(5, "quality of molecules of a wanted property", run, of_properties)?;
    Ok(vec![page.qualities()])
}

/// Table 7: unconditional molecules by solver.
pub(super) fn table_7(run: Run<'_>) -> Result<Vec<Table>, ReportError> {
    let page = Page::new(7, "unconditional molecules", run, |goal| matches!(goal, Goal::Generate))?;
    Ok(vec![page.unconditional()])
}

/// Table 8: the errors of Table 4, of stable and of other molecules apart.
pub(super) fn table_8(run: Run<'_>) -> Result<Vec<Table>, ReportError> {
    let page = Page::new(8, "molecules of a wanted property, stable ones and others", run, of_properties)?;
    Ok(vec![page.by_stability()])
}

/// Tasks whose targets are drawn: a common value is for pictures.
fn of_properties(goal: &Goal) -> bool {
    goal.property().is_some_and(|property| property.spec.value.is_none())
}

/// How a property is printed.
struct Printed {
    unit: &'static str,
    /// From the unit of rows to that.
    factor: f64,
    digits: usize,
}

fn printed(property: Property) -> Printed {
    match property {
        Property::Alpha => Printed { unit: "Bohr³", factor: 1.0, digits: 2 },
        Property::Gap | Property::Homo | Property::Lumo => Printed { unit: "meV", factor: 1000.0, digits: 0 },
        Property::Mu => Printed { unit: "D", factor: 1.0, digits: 3 },
        Property::Cv => Printed { unit: "cal/(mol K)", factor: 1.0, digits: 3 },
    }
}

/// A property task: a column.
struct Asked<'a> {
    task: &'a str,
    goal: &'a PropertyGoal,
}

impl Asked<'_> {
    fn property(&self) -> Property {
        self.goal.spec.name
    }
}

/// What tables of one run share.
struct Page<'a> {
    number: u32,
    about: &'static str,
    run: Run<'a>,
    profile: Profile,
    groups: Vec<Group<'a>>,
}

impl<'a> Page<'a> {
    fn new(
        number: u32,
        about: &'static str,
        run: Run<'a>,
        shows: fn(&Goal) -> bool,
    ) -> Result<Self, ReportError> {
        let (groups, _) = groups(&run);
        let groups: Vec<Group<'a>> = groups.into_iter().filter(|group| shows(&group.cell.goal)).collect();
        if groups.is_empty() {
            return Err(super::no_task(number, about, run));
        }
        Ok(Self { number, about, run, profile: Profile::of(run.plan), groups })
    }

    /// The run's methods, in its order.
    fn methods(&self) -> Vec<&'a str> {
        let mut methods: Vec<&str> = Vec::new();
        for group in &self.groups {
            if !methods.contains(&&*group.cell.method) {
                methods.push(&group.cell.method);
            }
        }
        methods
    }

    /// The property tasks of the run: properties in the paper's order, tasks of one property in the run's.
    fn asked(&self) -> Vec<Asked<'a>> {
        let mut asked: Vec<Asked<'a>> = Vec::new();
        for group in &self.groups {
            if let Some(goal) = group.cell.goal.property()
                && !asked.iter().any(|other| other.task == group.cell.task)
            {
                asked.push(Asked { task: &group.cell.task, goal });
            }
        }
        asked.sort_by_key(Asked::property);
        asked
    }

    fn group(&self, method: &str, asked: &Asked<'a>) -> Option<&Group<'a>> {
        self.groups.iter().find(|group| group.cell.method == method && group.cell.task == asked.task)
    }

    /// A column per property.
    fn columns(&self, leading: &[(&str, &str)], with_unit: bool) -> Vec<Column> {
        let mut columns: Vec<Column> =
            leading.iter().map(|(key, header)| Column::new(*key, *header, Kind::Text)).collect();
        let all = self.asked();
        columns.extend(all.iter().map(|asked| {
            let property = asked.property();
            let unit = if with_unit { format!(" {}", printed(property).unit) } else { String::new() };
            let mark = if asked.goal.classifier.small { " †" } else { "" };
            let several = all.iter().filter(|other| other.property() == property).count() > 1;
            let task = if several { format!(" ({})", asked.task) } else { String::new() };
            let key = if several { asked.task } else { property.key() };
            Column::new(key, format!("{}{unit}{task}{mark}", property.symbol()), Kind::Mean)
        }));
        columns
    }

    /// A row per method: a statistic of each property's group.
    fn rows(
        &self,
        statistic: &str,
        of: impl Fn(&Group<'a>, Property) -> Cell,
    ) -> impl Iterator<Item = Vec<Cell>> {
        let all = self.asked();
        self.methods().into_iter().map(move |method| {
            let mut row = vec![Cell::text(method), Cell::text(statistic)];
            row.extend(all.iter().map(|asked| {
                self.group(method, asked).map_or(Cell::Missing, |group| of(group, asked.property()))
            }));
            row
        })
    }

    /// A row of the paper.
    fn paper_row(&self, row: &Row, leading: [&str; 2], digits: impl Fn(Property) -> usize) -> Vec<Cell> {
        let mut cells: Vec<Cell> = leading.map(Cell::text).to_vec();
        cells.extend(self.asked().iter().map(Asked::property).map(|property| {
            row.number(property.key()).map_or(Cell::Missing, |value| Cell::Number(value, digits(property)))
        }));
        cells
    }

    fn errors(&self) -> Table {
        let digits = |property| printed(property).digits;
        let mut rows: Vec<Vec<Cell>> = paper::property_errors()
            .iter()
            .map(|row| {
                let source = if row.text("method") == "d-flow" { "paper" } else { "published" };
                self.paper_row(row, [row.text("method"), source], digits)
            })
            .collect();
        rows.push(self.lower_bound());
        rows.extend(self.rows("this run", |group, property| {
            scaled_mean(group, property, |record| record.property_error)
        }));
        rows.extend(self.rows("ok/failed/planned", |group, _| Cell::text(group.counts())));
        let mut notes = self.notes();
        notes.push(
            "Mean absolute error ± standard error of the classifier's value, elements being those of the largest \
             one-hot entries, against the target."
                .to_owned(),
        );
        notes.push(
            "qm9*: the classifier's own error on real molecules that it was not trained on: no generator can be \
             shown to be better. Rows marked `published` are other papers' priors, classifiers and targets, as \
             remembered and not read again in the papers: check before quoting."
                .to_owned(),
        );
        if self.groups.iter().any(|group| matches!(group.cell.solve, MethodSpec::Sample(_))) {
            notes.push(
                "Rows of unconditional samples are scored with the same targets: the baseline of this prior."
                    .to_owned(),
            );
        }
        self.table("", self.columns(&[("method", "method"), ("source", "source")], true), rows, notes)
    }

    /// The classifiers' own errors, as their files state them.
    fn lower_bound(&self) -> Vec<Cell> {
        let mut row = vec![Cell::text("qm9*"), Cell::text("these classifiers")];
        row.extend(self.asked().iter().map(|asked| {
            let held_out = asked.goal.classifier.held_out;
            let Printed { factor, digits, .. } = printed(asked.property());
            held_out.map_or(Cell::Missing, |held_out| Cell::Number(factor * held_out.mae, digits))
        }));
        row
    }

    /// Medians, and what the loss saw.
    fn further_errors(&self) -> Table {
        let median = |value: fn(&Record) -> Option<f64>| {
            move |group: &Group<'_>, property: Property| {
                let Printed { factor, digits, .. } = printed(property);
                let mut values: Vec<f64> = group.ok.iter().filter_map(|record| value(record)).collect();
                values.sort_by(f64::total_cmp);
                let middle = values.get(values.len() / 2).zip(values.get(values.len().saturating_sub(1) / 2));
                middle.map_or(Cell::Missing, |(a, b)| Cell::Number(factor * f64::midpoint(*a, *b), digits))
            }
        };
        let mut rows: Vec<Vec<Cell>> = self.rows("median", median(|record| record.property_error)).collect();
        rows.extend(self.rows("median, relaxed", median(relaxed_error)));
        rows.extend(
            self.rows("mean, relaxed", |group, property| scaled_mean(group, property, relaxed_error)),
        );
        rows.extend(self.rows("change by argmax, mean", |group, property| {
            scaled_mean(group, property, |record| Some((record.property? - record.property_relaxed?).abs()))
        }));
        let notes = vec![
            "Relaxed: of x(1) with its continuous one-hot block, which is what the loss sees; `change by argmax`: how \
             far the value moves when every atom becomes one element."
                .to_owned(),
        ];
        self.table(
            "errors",
            self.columns(&[("method", "method"), ("statistic", "absolute error")], true),
            rows,
            notes,
        )
    }

    fn cost(&self) -> Table {
        let columns = [
            ("method", "method", Kind::Text),
            ("evals", "evals", Kind::Mean),
            ("nfe_forward", "calls", Kind::Mean),
            ("nfe_vjp", "VJPs", Kind::Mean),
            ("device_seconds", "device s/molecule", Kind::Mean),
            ("energy_kilojoules", "energy kJ/molecule", Kind::Mean),
            ("per_hour", "molecules/hour and device", Kind::Number),
            ("minutes_paper", "paper min/molecule", Kind::Number),
        ];
        let columns = columns.map(|(key, header, kind)| Column::new(key, header, kind)).to_vec();
        let rows = self.methods().into_iter().map(|method| {
            let own: Vec<&Group<'a>> =
                self.groups.iter().filter(|group| group.cell.method == method).collect();
            let records = || own.iter().flat_map(|group| group.ok.iter().copied());
            let quantity =
                |digits, value: fn(&Record) -> f64| mean(records().map(value), digits, f64::INFINITY);
            let seconds: f64 = records().map(|record| record.device_seconds).sum();
            let count = records().count();
            let is_dflow = own.iter().any(|group| matches!(group.cell.solve, MethodSpec::Dflow(_)));
            vec![
                Cell::text(method),
                quantity(1, |record| f64::from(record.evals)),
                quantity(0, |record| record.nfe_forward as f64),
                quantity(0, |record| record.nfe_vjp as f64),
                quantity(2, |record| record.device_seconds),
                energy::cell(&self.run, records()),
                if seconds > 0.0 { Cell::Number(3600.0 * count as f64 / seconds, 0) } else { Cell::Missing },
                if is_dflow { Cell::Number(PAPER_MINUTES, 1) } else { Cell::Missing },
            ]
        });
        let rows = rows.collect();
        let mut notes = vec![
            "device s: a molecule's share of its worker's time in network calls (VJPs: those backward). The paper's \
             minutes are of an RTX 8000."
                .to_owned(),
        ];
        let rows_of_all = self.groups.iter().flat_map(|group| group.ok.iter().copied());
        notes.extend(energy::note(&self.run, rows_of_all));
        Table { group_columns: 1, ..self.table("cost", columns, rows, notes) }.without_empty_columns()
    }

    fn qualities(&self) -> Table {
        let mut rows: Vec<Vec<Cell>> = paper::molecule_qualities()
            .iter()
            .map(|row| self.paper_row(row, ["d-flow, paper", heading(row.text("quality"))], |_| 1))
            .collect();
        for quality in Quality::ALL {
            rows.extend(self.rows(quality.heading(), |group, _| quality.of(&group.ok)));
        }
        rows.extend(self.rows("ok/failed/planned", |group, _| Cell::text(group.counts())));
        let mut notes = self.notes();
        notes.push(QUALITY_NOTE.to_owned());
        self.table("", self.columns(&[("method", "method"), ("quality", "quality, %")], false), rows, notes)
    }

    fn by_stability(&self) -> Table {
        let mut rows: Vec<Vec<Cell>> = Vec::new();
        for (heading, stable) in [("stable", true), ("not stable", false)] {
            rows.extend(self.rows(heading, |group, property| {
                scaled_mean(group, property, |record| {
                    record.property_error.filter(|_| record.molecule_stable == Some(stable))
                })
            }));
            rows.extend(self.rows(&format!("{heading}, molecules"), |group, _| {
                let scored = group.ok.iter().filter(|record| record.molecule_stable.is_some()).count();
                let count = group.ok.iter().filter(|record| record.molecule_stable == Some(stable)).count();
                if scored == 0 { Cell::Missing } else { Cell::Share(count, scored) }
            }));
        }
        rows.extend(self.rows("ok/failed/planned", |group, _| Cell::text(group.counts())));
        rows.sort_by_key(|row| {
            let method = row[0].display();
            self.methods().iter().position(|name| *name == method)
        });
        let mut notes = self.notes();
        notes.push(
            "Mean absolute error ± standard error. The paper's values of this table are not in `reports/paper/`: \
             they were not read in the source."
                .to_owned(),
        );
        self.table("", self.columns(&[("method", "method"), ("molecules", "molecules")], true), rows, notes)
    }

    fn unconditional(&self) -> Table {
        let mut columns = vec![
            Column::new("method", "method", Kind::Text),
            Column::new("rows", "ok/failed/planned", Kind::Text),
        ];
        columns.extend(
            Quality::ALL
                .map(|quality| Column::new(quality.key(), format!("{} % ↑", quality.heading()), Kind::Mean)),
        );
        columns.push(Column::new("nfe_forward", "network calls", Kind::Mean));
        let mut rows: Vec<Vec<Cell>> = paper::unconditional_qualities()
            .iter()
            .map(|row| {
                let mut cells =
                    vec![Cell::text(format!("{}, paper's prior", row.text("solver"))), Cell::Missing];
                cells.extend(Quality::ALL.map(|quality| {
                    row.number(quality.key()).map_or(Cell::Missing, |value| Cell::Number(value, 2))
                }));
                cells.push(Cell::Missing);
                cells
            })
            .collect();
        rows.extend(self.groups.iter().map(|group| {
            let mut row = vec![Cell::text(&group.cell.method), Cell::text(group.counts())];
            row.extend(Quality::ALL.map(|quality| quality.of(&group.ok)));
            row.push(group.quantity(1, |record| record.nfe_forward as f64));
            row
        }));
        let mut notes = self.notes();
        notes.push(QUALITY_NOTE.to_owned());
        self.table("", columns, rows, notes)
    }

    fn table(&self, part: &str, columns: Vec<Column>, rows: Vec<Vec<Cell>>, notes: Vec<String>) -> Table {
        let id = ["table", &self.number.to_string(), if part.is_empty() { "" } else { "-" }, part].concat();
        let what = match part {
            "" => self.about,
            "errors" => "further statistics of the errors",
            part => part,
        };
        let dataset = &self.run.plan.dataset;
        let title = format!(
            "Table {}, {what} (profile {}, {}, n = {} per task)",
            self.number,
            self.profile.name(),
            dataset.id,
            dataset.samples.len()
        );
        Table { id, title, columns, rows, notes, group_columns: 1, ..Table::default() }
    }

    fn notes(&self) -> Vec<String> {
        let n = self.run.plan.dataset.samples.len();
        let mut notes = vec![match self.profile {
            Profile::MiniMolecules => format!(
                "Not comparable with the paper: a small prior trained on 11,083 molecules, small classifiers, n = {n} \
                 instead of 10,000."
            ),
            _ => format!(
                "The paper's prior and classifiers are not public: these are others. Its values are over 10,000 \
                 molecules, these over {n}."
            ),
        }];
        let missing: usize =
            self.groups.iter().map(|group| group.planned - group.ok.len() - group.failed).sum();
        let planned: usize = self.groups.iter().map(|group| group.planned).sum();
        if missing > 0 {
            notes.push(format!(
                "PARTIAL: {missing} of {planned} planned rows are missing; run again to continue."
            ));
        }
        let failed: usize = self.groups.iter().map(|group| group.failed).sum();
        if failed > 0 {
            notes.push(format!(
                "{failed} failed molecules are in no figure: methods may be averaged over different samples."
            ));
        }
        if self.groups.iter().any(|group| group.ok.iter().any(|record| record.molecule_stable.is_none())) {
            notes.push(
                "Rows without stability were run without `metrics: [molecule]`: run into another output to have it."
                    .to_owned(),
            );
        }
        if self.asked().iter().any(|asked| asked.goal.classifier.small) {
            notes.push(
                "† small classifier: shipped in the place of a public one, with larger errors.".to_owned(),
            );
        }
        let hash: String = self.run.plan.dataset.manifest.chars().take(16).collect();
        notes.push(format!("Run `{}`, seed {}, targets {hash}.", self.run.plan.name, self.run.plan.seed));
        notes
    }
}

/// Minutes per molecule on an RTX 8000 (appendix B.3).
const PAPER_MINUTES: f64 = 2.5;

const QUALITY_NOTE: &str = "Molecule stability: all atoms have their valence; atom stability: over the atoms of all \
    molecules; validity: as RDKit's sanitisation, disconnected molecules included; valid and unique: distinct largest \
    parts of valid molecules over all molecules.";

fn relaxed_error(record: &Record) -> Option<f64> {
    Some((record.property_relaxed? - record.target?).abs())
}

/// The mean of a value in the property's printed unit.
fn scaled_mean(group: &Group<'_>, property: Property, value: impl Fn(&Record) -> Option<f64>) -> Cell {
    let Printed { factor, digits, .. } = printed(property);
    let values = group.ok.iter().filter_map(|record| value(record)).map(|value| factor * value);
    mean(values, digits, f64::INFINITY)
}

/// A percentage over molecules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quality {
    MoleculeStability,
    AtomStability,
    Validity,
    ValidAndUnique,
}

impl Quality {
    const ALL: [Self; 4] =
        [Self::MoleculeStability, Self::AtomStability, Self::Validity, Self::ValidAndUnique];

    const fn key(self) -> &'static str {
        match self {
            Self::MoleculeStability => "molecule_stability",
            Self::AtomStability => "atom_stability",
            Self::Validity => "validity",
            Self::ValidAndUnique => "valid_and_unique",
        }
    }

    const fn heading(self) -> &'static str {
        match self {
            Self::MoleculeStability => "molecule stability",
            Self::AtomStability => "atom stability",
            Self::Validity => "validity",
            Self::ValidAndUnique => "valid and unique",
        }
    }

    fn of(self, records: &[&Record]) -> Cell {
        let n = records.len();
        let share = |part: usize, whole: usize| {
            if whole == 0 { Cell::Missing } else { Cell::Number(100.0 * part as f64 / whole as f64, 1) }
        };
        let scored: Vec<&&Record> =
            records.iter().filter(|record| record.molecule_stable.is_some()).collect();
        if scored.len() < n {
            return Cell::Missing;
        }
        match self {
            Self::MoleculeStability => {
                share(records.iter().filter(|record| record.molecule_stable == Some(true)).count(), n)
            }
            Self::AtomStability => {
                let sum = |of: fn(&Record) -> Option<u32>| {
                    records.iter().filter_map(|record| of(record)).map(|count| count as usize).sum()
                };
                share(sum(|record| record.stable_atoms), sum(|record| record.n_atoms))
            }
            Self::Validity => {
                share(records.iter().filter(|record| record.molecule_valid == Some(true)).count(), n)
            }
            Self::ValidAndUnique => {
                let texts = records.iter().filter_map(|record| record.molecule_graph.as_deref());
                let graphs: Result<Vec<MoleculeGraph>, _> = texts.map(MoleculeGraph::from_text).collect();
                graphs.map_or(Cell::Missing, |graphs| share(distinct(&graphs), n))
            }
        }
    }
}

fn heading(key: &str) -> &'static str {
    Quality::ALL.into_iter().find(|quality| quality.key() == key).map_or("", Quality::heading)
}
