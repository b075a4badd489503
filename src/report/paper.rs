//! The paper's printed values (arXiv 2402.14017), compiled in from `reports/paper/*.csv`.

use crate::plan::Plan;
use crate::spec::model::ModelRef;
use crate::spec::operator::OperatorSpec;

const TABLE_1: &str = include_str!("../../reports/paper/table1.csv");
const TABLE_4: &str = include_str!("../../reports/paper/table4.csv");
const TABLE_5: &str = include_str!("../../reports/paper/table5.csv");
const TABLE_7: &str = include_str!("../../reports/paper/table7.csv");
const TABLE_6: &str = include_str!("../../reports/paper/table6.csv");
const TABLE_9: &str = include_str!("../../reports/paper/table9.csv");
const RUN_TIMES: &str = include_str!("../../reports/paper/run_times.csv");

/// The paper's name of a task, as in the CSV files; `None` if the paper has no such operator.
pub fn task(operator: &OperatorSpec) -> Option<&'static str> {
    match operator {
        OperatorSpec::CenterMask(_) => Some("inpainting-center"),
        OperatorSpec::Bicubic(bicubic) if bicubic.factor == 2 => Some("super-resolution-x2"),
        OperatorSpec::GaussianBlur(_) => Some("gaussian-deblur"),
        OperatorSpec::Identity(_) => Some("denoising"),
        OperatorSpec::Bicubic(_) | OperatorSpec::RandomMask(_) => None,
    }
}

/// One line of a CSV file.
#[derive(Debug, Clone)]
pub struct Row(Vec<(&'static str, &'static str)>);

impl Row {
    /// A field as text; empty if the file has no such column.
    pub fn text(&self, column: &str) -> &'static str {
        self.0.iter().find(|(name, _)| *name == column).map_or("", |(_, value)| value)
    }

    /// A field as a number.
    pub fn number(&self, column: &str) -> Option<f64> {
        self.text(column).parse().ok()
    }
}

/// The D-Flow values of a task and noise level: Tables 1 and 9.
pub fn scores(task: &str, noise: f64) -> Option<Row> {
    find(TABLE_1, task, noise).or_else(|| find(TABLE_9, task, noise))
}

/// Minutes per image on a V100 (appendix B.1).
pub fn minutes(task: &str, noise: f64) -> Option<f64> {
    find(RUN_TIMES, task, noise)?.number("minutes_per_image")
}

/// Every line of Table 4, in order: a method's mean absolute errors by property.
pub fn property_errors() -> Vec<Row> {
    rows(TABLE_4)
}

/// Every line of Table 5, in order: a quality of D-Flow's molecules by property.
pub fn molecule_qualities() -> Vec<Row> {
    rows(TABLE_5)
}

/// Every line of Table 7, in order: the qualities of a solver's molecules.
pub fn unconditional_qualities() -> Vec<Row> {
    rows(TABLE_7)
}

/// Every line of Table 6, in order.
pub fn settings() -> Vec<Row> {
    rows(TABLE_6)
}

/// How far a run's values may be held against the paper's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// The embedded benchmark.
    Mini,
    /// CIFAR-10 photographs.
    Cifar10,
    /// The paper's images at the paper's size.
    Paper,
    /// Molecules of the shipped prior.
    MiniMolecules,
    /// Molecules of a public prior.
    Qm9,
    /// The user's own data.
    Own,
}

impl Profile {
    /// The profile of a plan, by its dataset.
    pub fn of(plan: &Plan) -> Self {
        let shape = plan.dataset.shape;
        match plan.dataset.id.as_str() {
            "mini-images" | "ring-mixture" => Self::Mini,
            "cifar10" => Self::Cifar10,
            "qm9-targets" if uses(plan, "mini-molecules") => Self::MiniMolecules,
            "qm9-targets" => Self::Qm9,
            id if id.starts_with("imagenet128")
                && shape.image().is_some_and(|shape| (shape.height, shape.width) == (128, 128)) =>
            {
                Self::Paper
            }
            _ => Self::Own,
        }
    }

    /// The name in titles.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mini | Self::MiniMolecules => "mini",
            Self::Qm9 => "qm9",
            Self::Cifar10 => "cifar10",
            Self::Paper => "paper",
            Self::Own => "own data",
        }
    }

    /// Heading of a column of the paper's values; the dagger stands for a note that says why they are not comparable.
    pub const fn header(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            _ => "paper†",
        }
    }
}

/// Whether a cell of the plan names this model.
fn uses(plan: &Plan, model: &str) -> bool {
    let names = |cell: &crate::plan::Cell| {
        cell.model
            .as_ref()
            .is_some_and(|cell| matches!(&cell.reference, ModelRef::Name(name) if name == model))
    };
    plan.cells.iter().any(names)
}

fn find(file: &'static str, task: &str, noise: f64) -> Option<Row> {
    rows(file).into_iter().find(|row| row.text("task") == task && row.number("noise") == Some(noise))
}

/// Lines of a CSV file without quotes: `#` lines are comments, the first other line names the columns.
fn rows(file: &'static str) -> Vec<Row> {
    let mut lines = file.lines().filter(|line| !line.starts_with('#'));
    let names: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    lines.map(|line| Row(names.iter().copied().zip(line.split(',')).collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_rectangular_and_every_number_is_one() {
        for file in [TABLE_1, TABLE_4, TABLE_5, TABLE_6, TABLE_7, TABLE_9, RUN_TIMES] {
            let mut lines = file.lines().filter(|line| !line.starts_with('#'));
            let columns = lines.next().unwrap().split(',').count();
            assert!(lines.all(|line| line.split(',').count() == columns));
        }
        for file in [TABLE_1, TABLE_9] {
            for row in rows(file) {
                assert!(
                    ["noise", "fid", "lpips", "psnr", "ssim"].iter().all(|name| row.number(name).is_some())
                );
            }
        }
        assert!(rows(RUN_TIMES).iter().all(|row| row.number("minutes_per_image").is_some()));
    }

    #[test]
    fn values_are_found_by_task_and_noise() {
        assert_eq!(scores("inpainting-center", 0.0).unwrap().number("psnr"), Some(37.67));
        assert_eq!(scores("denoising", 0.05).unwrap().number("ssim"), Some(0.952));
        assert_eq!(minutes("gaussian-deblur", 0.05), Some(3.5));
        assert!(scores("inpainting-center", 0.1).is_none() && minutes("denoising", 0.05).is_none());
    }

    #[test]
    fn scores_settings_and_times_are_about_the_same_tasks() {
        for row in settings() {
            let (task, noise) = (row.text("task"), row.number("noise").unwrap());
            assert!(scores(task, noise).is_some(), "{task}");
            assert_eq!(minutes(task, noise).is_some(), task != "denoising");
        }
    }
}
