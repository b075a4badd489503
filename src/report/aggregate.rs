//! Rows of a run grouped by cell, and their means.

use std::collections::{BTreeMap, BTreeSet};

use super::Run;
use super::table;
use crate::metric::{ImageScores, Metric, psnr};
use crate::plan::{Cell, Plan};
use crate::spec::method::MethodSpec;
use crate::spec::model::ModelRef;
use crate::spec::stop::StopRule;
use crate::store::{Record, Status};

/// The planned rows of one cell that exist.
#[derive(Debug, Clone)]
pub struct Group<'a> {
    /// The cell.
    pub cell: &'a Cell,
    /// Rows with status ok, by sample id.
    pub ok: Vec<&'a Record>,
    /// Rows with status failed.
    pub failed: usize,
    /// Planned rows.
    pub planned: usize,
}

/// All cells of the plan in its order, and the number of rows that the plan does not name.
pub fn groups<'a>(run: &Run<'a>) -> (Vec<Group<'a>>, usize) {
    let samples: BTreeSet<&str> = run.plan.dataset.samples.iter().map(String::as_str).collect();
    let new = |cell: &'a Cell| Group { cell, ok: Vec::new(), failed: 0, planned: samples.len() };
    let mut groups: Vec<Group<'a>> = run.plan.cells.iter().map(new).collect();
    let index: BTreeMap<String, usize> =
        run.plan.cells.iter().enumerate().map(|(i, cell)| (cell.hash.to_string(), i)).collect();
    let mut unplanned = 0;
    for record in run.records {
        match index.get(&record.cell_hash) {
            Some(&i) if samples.contains(record.sample_id.as_str()) => match record.status {
                Status::Ok => groups[i].ok.push(record),
                Status::Failed => groups[i].failed += 1,
            },
            _ => unplanned += 1,
        }
    }
    for group in &mut groups {
        group.ok.sort_by(|a, b| a.sample_id.cmp(&b.sample_id));
    }
    (groups, unplanned)
}

/// The planned samples that have an ok row in every cell that has any, in the plan's order.
pub fn common_samples(plan: &Plan, records: &[Record]) -> Vec<String> {
    let (groups, _) = groups(&Run::new(plan, records));
    let mut common: BTreeSet<&str> = plan.dataset.samples.iter().map(String::as_str).collect();
    for group in groups.iter().filter(|group| !group.ok.is_empty()) {
        let own: BTreeSet<&str> = group.ok.iter().map(|record| &*record.sample_id).collect();
        common.retain(|sample| own.contains(sample));
    }
    plan.dataset.samples.iter().filter(|sample| common.contains(sample.as_str())).cloned().collect()
}

impl Group<'_> {
    /// `ok/failed/planned`.
    pub fn counts(&self) -> String {
        format!("{}/{}/{}", self.ok.len(), self.failed, self.planned)
    }

    /// Rows ended by `target_psnr`, if the method has that rule here.
    pub fn reached(&self) -> Option<usize> {
        let MethodSpec::Dflow(spec) = &self.cell.solve else { return None };
        let asked = spec.stop.iter().any(|rule| matches!(rule, StopRule::TargetPsnr(_)));
        let ended = self.ok.iter().filter(|record| record.stop_reason.as_deref() == Some("target_psnr"));
        asked.then(|| ended.count())
    }

    /// Whether the method is a sanity row: the pseudo-inverse, or a closed-form Gaussian prior.
    pub fn is_sanity(&self) -> bool {
        let gaussian = |model: &crate::plan::CellModel| matches!(model.reference, ModelRef::Gaussian(_));
        matches!(self.cell.solve, MethodSpec::Pinv(_)) || self.cell.model.as_ref().is_some_and(gaussian)
    }

    /// Whether the paper's D-Flow values stand beside this cell.
    pub fn is_paper_method(&self) -> bool {
        matches!(self.cell.solve, MethodSpec::Dflow(_)) && !self.is_sanity()
    }

    /// A metric of the ok rows that have it.
    pub fn values(&self, metric: &Metric) -> impl Iterator<Item = f64> {
        self.ok.iter().filter_map(|record| capped(metric, record))
    }

    /// Mean of a metric over the ok rows that have it.
    pub fn metric(&self, metric: &Metric) -> table::Cell {
        mean(
            self.values(metric),
            metric.digits,
            if metric.unit == "dB" { psnr::EXACT_DB } else { f64::INFINITY },
        )
    }

    /// PSNR of the pooled MSE.
    pub fn pooled_psnr(&self) -> table::Cell {
        let mses: Vec<f64> = self.ok.iter().filter_map(|record| record.mse).collect();
        if mses.is_empty() {
            return table::Cell::Missing;
        }
        let value = psnr::pooled(&mses, psnr::RANGE);
        let lower_bound = value >= psnr::EXACT_DB;
        table::Cell::Mean { value: value.min(psnr::EXACT_DB), error: None, digits: 2, lower_bound }
    }

    /// Mean of decibels over the ok rows that have them; an exact match counts as the cap, and makes it a lower bound.
    pub fn decibels(&self, digits: usize, value: impl Fn(&Record) -> Option<f64>) -> table::Cell {
        let values = self.ok.iter().filter_map(|record| value(record)).filter(|value| !value.is_nan());
        mean(values.map(|value| value.min(psnr::EXACT_DB)), digits, psnr::EXACT_DB)
    }

    /// Mean of a quantity that every ok row has.
    pub fn quantity(&self, digits: usize, value: impl Fn(&Record) -> f64) -> table::Cell {
        mean(self.ok.iter().map(|record| value(record)), digits, f64::INFINITY)
    }
}

/// A metric of one row; decibels of an exact match become the cap.
pub fn capped(metric: &Metric, record: &Record) -> Option<f64> {
    let value = (metric.value)(&image_scores(record)).filter(|value| !value.is_nan())?;
    Some(if metric.unit == "dB" { value.min(psnr::EXACT_DB) } else { value })
}

/// The image metrics of a row.
pub fn image_scores(record: &Record) -> ImageScores {
    ImageScores {
        mse: record.mse,
        psnr: record.psnr,
        psnr_u8wrap: record.psnr_u8wrap,
        ssim_tm13: record.ssim_tm13,
        ssim_tm19: record.ssim_tm19,
        hole_mse: record.hole_mse,
        hole_psnr: record.hole_psnr,
        hole_ssim_tm13: record.hole_ssim_tm13,
        hole_ssim_tm19: record.hole_ssim_tm19,
        lpips: record.lpips,
    }
}

/// Mean ± s/√n; values at `cap` make it a lower bound.
pub(super) fn mean(values: impl Iterator<Item = f64>, digits: usize, cap: f64) -> table::Cell {
    let values: Vec<f64> = values.collect();
    if values.is_empty() {
        return table::Cell::Missing;
    }
    let n = values.len() as f64;
    let value = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - value).powi(2)).sum();
    let error = (values.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt());
    table::Cell::Mean { value, error, digits, lower_bound: values.iter().any(|&v| v >= cap) }
}
