//! Tables 1 (linear inverse problems) and 9 (denoising): task × method × metric, further metrics, paired differences
//! to the sanity rows, and cost.

use std::collections::{BTreeMap, BTreeSet};

use super::aggregate::{Group, groups};
use super::energy;
use super::paired;
use super::paper::{self, Profile};
use super::table::{Cell, Column, Kind, Table};
use super::{PsnrColumn, ReportError, Run, SetColumn};
use crate::metric::{Better, Metric, metric};
use crate::plan;
use crate::spec::metric::MetricSpec;
use crate::spec::operator::OperatorSpec;

/// One of the paper's tables of image restoration.
#[derive(Debug)]
pub struct Definition {
    number: u32,
    about: &'static str,
    /// Whether a task makes the table meaningful.
    needs: fn(&OperatorSpec) -> bool,
    /// Whether a task is shown in it.
    shows: fn(&OperatorSpec) -> bool,
}

const fn is_denoising(operator: &OperatorSpec) -> bool {
    matches!(operator, OperatorSpec::Identity(_))
}

/// Table 1. Denoising tasks of the same run are shown too, beside the paper's Table 9.
pub const TABLE_1: Definition = Definition {
    number: 1,
    about: "inpainting, super-resolution and deblurring",
    needs: |operator| !is_denoising(operator),
    shows: |_| true,
};

/// Table 9.
pub const TABLE_9: Definition =
    Definition { number: 9, about: "denoising", needs: is_denoising, shows: is_denoising };

/// Metrics of the first table, beside the paper's and in its order; distances between sets stand before them.
const fn main_metrics(psnr: PsnrColumn) -> [&'static str; 3] {
    match psnr {
        PsnrColumn::Float => ["lpips", "psnr", "ssim_tm13"],
        PsnrColumn::U8Wrap => ["lpips", "psnr_u8wrap", "ssim_tm13"],
    }
}
/// Metrics of the second; the rest is in `samples.parquet`.
const FURTHER: [&str; 4] = ["hole_psnr", "hole_ssim_tm19", "ssim_tm19", "psnr_u8wrap"];
/// Metrics of the paired differences.
const COMPARED: [&str; 3] = ["psnr", "hole_psnr", "ssim_tm13"];

/// The tables of a run.
pub(super) fn tables(definition: &Definition, run: Run<'_>) -> Result<Vec<Table>, ReportError> {
    if !run.plan.cells.iter().any(|cell| operator(cell).is_some_and(definition.needs)) {
        return Err(super::no_task(definition.number, definition.about, run));
    }
    let profile = Profile::of(run.plan);
    let (groups, unplanned) = groups(&run);
    let shows = |group: &Group<'_>| operator(group.cell).is_some_and(definition.shows);
    let shown: Vec<Group<'_>> = groups.into_iter().filter(shows).collect();
    let context = Context { number: definition.number, about: definition.about, profile, run, unplanned };
    let all = [
        context.scores(&shown),
        context.further_metrics(&shown),
        context.paired(&shown),
        context.cost(&shown),
    ];
    Ok(all.into_iter().filter(|table| !table.rows.is_empty()).collect())
}

struct Context<'a> {
    number: u32,
    about: &'static str,
    profile: Profile,
    run: Run<'a>,
    unplanned: usize,
}

impl Context<'_> {
    /// The main table, beside the paper's values.
    fn scores(&self, groups: &[Group<'_>]) -> Table {
        let mut columns = leading_columns();
        columns.push(Column::new("rows", "ok/failed/planned", Kind::Text));
        columns.push(Column::new("reached_target", "ended by target", Kind::Share));
        let main = main_metrics(self.run.psnr);
        let mut ranked: Vec<(String, Better)> = Vec::new();
        for set in self.run.sets {
            columns.extend(self.compared_columns(&set.key, &format!("{} ↓", set.display), &set.display));
            ranked.push((set.key.clone(), Better::Lower));
        }
        for metric in named(&main) {
            columns.extend(self.compared_columns(metric.name, &heading(metric), metric.display));
            ranked.push((metric.name.to_owned(), metric.better));
        }
        let rows = groups.iter().map(|group| {
            let share = group.reached().map_or(Cell::Missing, |part| Cell::Share(part, group.ok.len()));
            let mut row = leading_cells(group);
            row.extend([Cell::text(group.counts()), share]);
            row.extend(self.run.sets.iter().flat_map(|set| self.set_cells(group, set)));
            row.extend(named(&main).flat_map(|metric| self.score_cells(group, metric)));
            row
        });
        let rows = rows.collect();
        let unlike = tasks_of_unlike_samples(groups);
        let one_lpips = |task: &str| {
            let methods = groups.iter().filter(|group| !group.is_sanity() && group.cell.task == task);
            lpips_networks(methods).len() < 2
        };
        let competes = |row: usize, key: &str| {
            let group = &groups[row];
            let task = &*group.cell.task;
            let is_comparable = !unlike.contains(task) && (key != "lpips" || one_lpips(task));
            !group.is_sanity() && is_comparable && self.is_whole(group, key)
        };
        self.table("", columns, rows, self.score_notes(groups)).ranked(&ranked, competes)
    }

    /// A value of ours and, where it has one, the paper's.
    fn compared_columns(&self, key: &str, heading: &str, display: &str) -> Vec<Column> {
        let mut columns = vec![
            Column::new(key, heading, Kind::Mean),
            Column::new(format!("{key}_paper"), format!("{display} {}", self.profile.header()), Kind::Number),
        ];
        if self.profile == Profile::Paper {
            let difference = format!("{display} difference");
            columns.push(Column::new(format!("{key}_difference"), difference, Kind::Number));
        }
        columns
    }

    fn score_cells(&self, group: &Group<'_>, metric: &Metric) -> Vec<Cell> {
        let ours = match group.metric(metric) {
            _ if metric.name == "lpips" && lpips_networks([group]).len() > 1 => Cell::text("mixed weights"),
            Cell::Missing if metric.name == "lpips" && self.wants_lpips() && !group.ok.is_empty() => {
                Cell::text("no weights")
            }
            cell => cell,
        };
        self.compared(ours, paper_value(group, metric), metric.digits)
    }

    fn set_cells(&self, group: &Group<'_>, set: &SetColumn) -> Vec<Cell> {
        let paper = (set.key == "fid").then(|| paper_number(group, "fid")).flatten();
        self.compared(set.cell(group.cell), paper, 2)
    }

    fn compared(&self, ours: Cell, paper: Option<f64>, digits: usize) -> Vec<Cell> {
        let number = |value: Option<f64>| value.map_or(Cell::Missing, |v| Cell::Number(v, digits));
        let difference = match (&ours, paper) {
            (Cell::Mean { value, .. }, Some(paper)) => Some(value - paper),
            _ => None,
        };
        let mut cells = vec![ours, number(paper)];
        if self.profile == Profile::Paper {
            cells.push(number(difference));
        }
        cells
    }

    /// How many ok rows of a cell a metric of the main table was measured on.
    fn measured(&self, group: &Group<'_>, key: &str) -> usize {
        match self.run.sets.iter().find(|set| set.key == key) {
            Some(set) => set.n(group.cell),
            None => metric(key).map_or(0, |metric| group.values(metric).count()),
        }
    }

    fn is_whole(&self, group: &Group<'_>, key: &str) -> bool {
        self.measured(group, key) == group.ok.len()
    }

    /// Where a metric was measured on some of the ok rows only.
    fn partial_notes(&self, groups: &[Group<'_>]) -> Vec<String> {
        let sets = self.run.sets.iter().map(|set| (&*set.key, &*set.display));
        let main = main_metrics(self.run.psnr);
        let metrics = sets.chain(named(&main).map(|metric| (metric.name, metric.display)));
        let note = |(key, display): (&str, &str)| {
            let part = |group: &Group<'_>| {
                let n = self.measured(group, key);
                let is_partial = n > 0 && n < group.ok.len();
                is_partial
                    .then(|| format!("{}/{} {n} of {}", group.cell.method, group.cell.task, group.ok.len()))
            };
            let parts: Vec<String> = groups.iter().filter_map(part).collect();
            let score = "`dflow score` measures the rest";
            (!parts.is_empty()).then(|| {
                format!("{display} of some rows only, and not ranked: {}; {score}.", parts.join(", "))
            })
        };
        metrics.filter_map(note).collect()
    }

    fn wants_lpips(&self) -> bool {
        self.run.plan.metrics.iter().any(|metric| matches!(metric, MetricSpec::Lpips(_)))
    }

    /// Hole metrics, the pooled PSNR and the other eras' definitions.
    fn further_metrics(&self, groups: &[Group<'_>]) -> Table {
        let mut columns = leading_columns();
        columns.extend(self.run.sets.iter().map(SetColumn::kernel_column));
        columns.push(Column::new("psnr_pooled", "pooled PSNR dB ↑", Kind::Mean));
        columns.extend(named(&FURTHER).map(|metric| Column::new(metric.name, heading(metric), Kind::Mean)));
        columns.push(Column::new("observed_psnr", "observed PSNR dB", Kind::Mean));
        let rows = groups.iter().map(|group| {
            let mut row = leading_cells(group);
            row.extend(self.run.sets.iter().map(|set| set.kernel_cell(group.cell)));
            row.push(group.pooled_psnr());
            row.extend(named(&FURTHER).map(|metric| group.metric(metric)));
            row.push(group.decibels(2, |record| record.observed_psnr));
            row
        });
        let rows = rows.collect();
        let mut notes: Vec<String> =
            self.run.sets.iter().filter(|set| set.has_kernel()).map(SetColumn::kernel_note).collect();
        notes.extend([
            "Pooled PSNR is that of the mean MSE (TorchMetrics' default); the table above shows the mean PSNR.".into(),
            "PSNR u8-wrap: differences of bytes wrap at 256 as in TorchMetrics before 1.5.0, never a quality.".into(),
            "Observed PSNR: of the pair that the loss compares, at the returned iterate.".into(),
        ]);
        self.table("metrics", columns, rows, notes)
    }

    /// Every method against every sanity row of its task.
    fn paired(&self, groups: &[Group<'_>]) -> Table {
        let compared: Vec<&Metric> = named(&COMPARED).collect();
        let mut columns = leading_columns();
        columns.push(Column::new("versus", "minus", Kind::Text));
        columns.push(Column::new("pairs", "pairs", Kind::Number));
        let header = |metric: &Metric| format!("Δ {}", heading(metric));
        columns.extend(compared.iter().map(|m| Column::new(m.name, header(m), Kind::Interval)));
        let mut rows = Vec::new();
        for group in groups.iter().filter(|group| !group.is_sanity()) {
            let same_task = |other: &&Group<'_>| other.is_sanity() && other.cell.task == group.cell.task;
            rows.extend(groups.iter().filter(same_task).map(|other| paired_row(group, other, &compared)));
        }
        let notes = vec![
            "Mean difference over the samples that both solved, with its 95 % bootstrap interval.".into(),
        ];
        self.table("paired", columns, rows, notes)
    }

    /// Seconds and evaluations, beside appendix B.1.
    fn cost(&self, groups: &[Group<'_>]) -> Table {
        let mut columns = leading_columns();
        columns.extend([
            Column::new("wall_seconds", "s/sample", Kind::Mean),
            Column::new("device_seconds", "device s/sample", Kind::Mean),
            energy::column("sample"),
            Column::new("evals", "evals", Kind::Mean),
            Column::new("nfe_forward", "calls", Kind::Mean),
            Column::new("nfe_vjp", "VJPs", Kind::Mean),
            Column::new("minutes_paper", "paper min/image", Kind::Number),
        ]);
        let rows = groups.iter().map(|group| {
            let mut row = leading_cells(group);
            row.extend([
                group.quantity(2, |record| record.wall_seconds),
                group.quantity(2, |record| record.device_seconds),
                energy::cell(&self.run, group.ok.iter().copied()),
                group.quantity(1, |record| f64::from(record.evals)),
                group.quantity(0, |record| record.nfe_forward as f64),
                group.quantity(0, |record| record.nfe_vjp as f64),
                paper_minutes(group),
            ]);
            row
        });
        let rows = rows.collect();
        let mut notes = vec![
            "s/sample: wall time in a slot, which several samples share; device s: a sample's share of its network calls; \
             VJPs: those backward."
                .to_owned(),
            "The paper's minutes (B.1: V100, 128×128) are for another network, size and machine: not comparable."
                .to_owned(),
        ];
        notes.extend(energy::note(&self.run, groups.iter().flat_map(|group| group.ok.iter().copied())));
        self.table("cost", columns, rows, notes)
    }

    fn table(&self, part: &str, columns: Vec<Column>, rows: Vec<Vec<Cell>>, notes: Vec<String>) -> Table {
        let id = ["table", &self.number.to_string(), if part.is_empty() { "" } else { "-" }, part].concat();
        let what = match part {
            "" => self.about.to_owned(),
            "metrics" => "further metrics".to_owned(),
            "paired" => "paired differences to the sanity rows".to_owned(),
            part => part.to_owned(),
        };
        let dataset = &self.run.plan.dataset;
        let title = format!(
            "Table {}, {what} (profile {}, {} {} {}, n = {})",
            self.number,
            self.profile.name(),
            dataset.id,
            dataset.split,
            dataset.shape,
            dataset.samples.len()
        );
        Table { id, title, columns, rows, notes, group_columns: 2, ..Table::default() }
            .without_empty_columns()
    }

    fn score_notes(&self, groups: &[Group<'_>]) -> Vec<String> {
        let mut notes = vec![self.comparability()];
        notes.push(
            "Mean over ok rows ± standard error. PSNR with R = 2 on [−1, 1]; SSIM as TorchMetrics 1.3 on [0, 1]; an \
             exact match counts as 120 dB."
                .to_owned(),
        );
        if self.run.psnr == PsnrColumn::U8Wrap {
            notes.push(
                "PSNR u8-wrap emulates TorchMetrics before 1.5.0 on bytes: far too high, never a quality."
                    .into(),
            );
        }
        notes.extend(self.run.sets.iter().flat_map(SetColumn::notes));
        notes.extend(self.lpips_note(groups));
        notes.extend(self.partial_notes(groups));
        let hash = &self.run.plan.dataset.manifest;
        let short: String = hash.chars().take(16).collect();
        notes.push(format!("Run `{}`, seed {}, manifest {short}.", self.run.plan.name, self.run.plan.seed));
        let missing: usize = groups.iter().map(|group| group.planned - group.ok.len() - group.failed).sum();
        let planned: usize = groups.iter().map(|group| group.planned).sum();
        if missing > 0 {
            notes.push(format!(
                "PARTIAL: {missing} of {planned} planned rows are missing; run again to continue."
            ));
        }
        if groups.iter().any(|group| group.failed > 0) {
            notes.push(
                "Some rows failed: methods of one task may be averaged over different samples.".to_owned(),
            );
        }
        if !tasks_of_unlike_samples(groups).is_empty() {
            notes.push("Methods are ranked only where they share at least 99 % of their samples (`--common`: means over those alone).".to_owned());
        }
        if groups.iter().any(|group| group.ok.iter().any(|record| !record.reproducible)) {
            notes.push("Some rows were ended by `time_limit`: their values are not reproducible.".to_owned());
        }
        if self.unplanned > 0 {
            notes.push(format!("{} rows of other samples or cells are left out.", self.unplanned));
        }
        notes
    }

    /// What the LPIPS column is of, or how to fill it.
    fn lpips_note(&self, groups: &[Group<'_>]) -> Option<String> {
        let networks = lpips_networks(groups.iter());
        let short = |network: &&str| match network.split_once(':') {
            Some((trunk, hash)) => format!("trunk {trunk}, weights {}", &hash[..hash.len().min(16)]),
            None => (*network).to_owned(),
        };
        let named: Vec<String> = networks.iter().map(short).collect();
        match &named[..] {
            [] => {}
            [one] => return Some(format!("LPIPS: {one}.")),
            several => {
                return Some(format!(
                    "LPIPS was measured with several networks, which are never mixed: {}. `dflow score` measures all \
                     rows with the one that is here.",
                    several.join("; ")
                ));
            }
        }
        let wanted = self.run.plan.metrics.iter().find(|metric| matches!(metric, MetricSpec::Lpips(_)))?;
        Some(format!(
            "LPIPS: its weights were not there (`dflow model check`); once they are, `dflow score {} --metrics {wanted}` \
             fills the column.",
            self.run.plan.output
        ))
    }

    fn comparability(&self) -> String {
        let n = self.run.plan.dataset.samples.len();
        match self.profile {
            Profile::Paper if n < 10_000 => {
                format!("The paper's values are over 10,000 images, these over {n}.")
            }
            Profile::Paper => "The paper's 10,000 images are not published: the split may differ.".to_owned(),
            _ => format!(
                "† Not comparable with the paper, which has 128×128 images, another prior and n = 10,000; here {}, n = {n}.",
                self.run.plan.dataset.shape
            ),
        }
    }
}

/// The tasks whose methods, sanity rows and those without rows apart, have less than 99 % of their samples in common.
fn tasks_of_unlike_samples<'a>(groups: &'a [Group<'_>]) -> BTreeSet<&'a str> {
    // By task: samples that all methods have, and samples that any has.
    let mut tasks: BTreeMap<&str, (BTreeSet<&str>, BTreeSet<&str>)> = BTreeMap::new();
    for group in groups.iter().filter(|group| !group.is_sanity() && !group.ok.is_empty()) {
        let own: BTreeSet<&str> = group.ok.iter().map(|record| &*record.sample_id).collect();
        let (all, any) = tasks.entry(&group.cell.task).or_insert_with(|| (own.clone(), BTreeSet::new()));
        all.retain(|sample| own.contains(sample));
        any.extend(own);
    }
    let unlike = tasks.into_iter().filter(|(_, (all, any))| 100 * all.len() < 99 * any.len());
    unlike.map(|(task, _)| task).collect()
}

/// The networks that LPIPS of these rows was measured with.
fn lpips_networks<'a>(groups: impl IntoIterator<Item = &'a Group<'a>>) -> BTreeSet<&'a str> {
    groups.into_iter().flat_map(|group| &group.ok).filter_map(|row| row.lpips_network.as_deref()).collect()
}

fn named(names: &[&'static str]) -> impl Iterator<Item = &'static Metric> {
    names.iter().filter_map(|name| metric(name))
}

/// Name, unit and direction.
fn heading(metric: &Metric) -> String {
    let unit = if metric.unit.is_empty() { String::new() } else { format!(" {}", metric.unit) };
    format!("{}{unit} {}", metric.display, metric.better.arrow())
}

/// The degradation of a cell, if it restores images.
fn operator(cell: &plan::Cell) -> Option<&OperatorSpec> {
    cell.goal.restoration().map(|restoration| &restoration.operator)
}

/// σ_y.
fn noise(cell: &plan::Cell) -> f64 {
    cell.goal.restoration().map_or(0.0, |restoration| restoration.noise)
}

fn leading_columns() -> Vec<Column> {
    vec![
        Column::new("task", "task", Kind::Text),
        Column::new("noise", "σ_y", Kind::Text),
        Column::new("method", "method", Kind::Text),
    ]
}

fn leading_cells(group: &Group<'_>) -> Vec<Cell> {
    let cell = group.cell;
    vec![Cell::text(&cell.task), Cell::text(noise(cell).to_string()), Cell::text(&cell.method)]
}

/// The paper's value of a metric, for D-Flow under a learned prior.
fn paper_value(group: &Group<'_>, metric: &Metric) -> Option<f64> {
    paper_number(group, metric.paper?)
}

fn paper_number(group: &Group<'_>, key: &str) -> Option<f64> {
    let task = operator(group.cell).and_then(paper::task).filter(|_| group.is_paper_method())?;
    paper::scores(task, noise(group.cell))?.number(key)
}

fn paper_minutes(group: &Group<'_>) -> Cell {
    let task = operator(group.cell).and_then(paper::task).filter(|_| group.is_paper_method());
    let minutes = task.and_then(|task| paper::minutes(task, noise(group.cell)));
    minutes.map_or(Cell::Missing, |minutes| Cell::Number(minutes, 1))
}

fn paired_row(group: &Group<'_>, other: &Group<'_>, metrics: &[&Metric]) -> Vec<Cell> {
    let mut row = leading_cells(group);
    let differences: Vec<Vec<f64>> =
        metrics.iter().map(|metric| paired::differences(metric, group, other)).collect();
    let pairs = differences.iter().map(Vec::len).max().unwrap_or(0);
    row.extend([Cell::text(&other.cell.method), Cell::Number(pairs as f64, 0)]);
    let label = |metric: &Metric| {
        format!("{}/{}/{}/{}", group.cell.task, group.cell.method, other.cell.method, metric.name)
    };
    let intervals = metrics.iter().zip(&differences);
    row.extend(intervals.map(|(metric, list)| paired::interval(list, metric.digits, &label(metric))));
    row
}
