//! Table 6: the settings of the image experiments as printed, beside those of a pipeline as resolved.

use super::paper::{self, Row};
use super::table::{Cell, Column, Kind, Table};
use crate::spec::init::InitSpec;
use crate::spec::method::{
    DflowSpec, InitialHessian, LossSpace, LossSpec, MethodSpec, OptimizerSpec, RegularizerSpec, StopTests,
};
use crate::spec::pipeline::{PipelineSpec, TaskSpec};
use crate::spec::stop::StopRule;

/// The compared settings: columns of `reports/paper/table6.csv`, with their headings.
const SETTINGS: [(&str, &str); 9] = [
    ("loss", "loss"),
    ("space", "space of the loss"),
    ("target_psnr", "target PSNR dB"),
    ("blend", "blend"),
    ("regularizer", "regulariser"),
    ("weight", "λ"),
    ("inner", "inner iterations"),
    ("solver", "solver"),
    ("nfe", "NFE"),
];

/// Table 6; with a pipeline, each task is followed by the pipeline's D-Flow methods and what differs.
pub fn table(pipeline: Option<&PipelineSpec>) -> Table {
    let mut columns = vec![Column::new("task", "task", Kind::Text), Column::new("noise", "σ_y", Kind::Text)];
    columns.push(Column::new("source", "from", Kind::Text));
    columns.extend(SETTINGS.map(|(key, header)| Column::new(key, header, Kind::Text)));
    columns.push(Column::new("differs", "differs in", Kind::Text));
    let mut rows = Vec::new();
    for printed in paper::settings() {
        rows.push(line(&printed, "paper", &printed_values(&printed), &[]));
        for own in ours(pipeline, &printed) {
            rows.push(line(&printed, &own.method, &own.values, &own.differing(&printed)));
        }
    }
    let notes = vec![
        "The paper prints no line search, history or tolerances: torch.optim.LBFGS defaults, but where `initial` or \
         `stop_tests` differs.".to_owned(),
        "Noisy deblurring in pinv space cannot reach 32 dB with an exact H†: there the ground truth itself scores \
         −22 dB, so the mini and cifar10 pipelines use measurement space."
            .to_owned(),
    ];
    let source = pipeline.map_or_else(String::new, |spec| format!(", beside pipeline `{}`", spec.name));
    let title = format!("Table 6, settings of the image experiments as printed{source}");
    Table { id: "table6".to_owned(), title, columns, rows, notes, group_columns: 2, ..Table::default() }
        .without_empty_columns()
}

/// Every setting in which a pipeline's D-Flow methods differ from Table 6: (task, method, setting).
pub fn differences(pipeline: &PipelineSpec) -> Vec<(String, String, &'static str)> {
    let mut list = Vec::new();
    for printed in paper::settings() {
        for own in ours(Some(pipeline), &printed) {
            let task = format!("{} σ_y = {}", printed.text("task"), printed.text("noise"));
            let keys = own.differing(&printed).into_iter();
            list.extend(keys.map(|key| (task.clone(), own.method.clone(), key)));
        }
    }
    list
}

type Values = [String; SETTINGS.len()];

fn printed_values(row: &Row) -> Values {
    SETTINGS.map(|(key, _)| row.text(key).to_owned())
}

/// A D-Flow method of a pipeline on one task.
struct Own {
    method: String,
    values: Values,
    /// What is not the algorithm of the paper, which prints nothing of it.
    beyond: Vec<&'static str>,
}

impl Own {
    fn differing(&self, printed: &Row) -> Vec<&'static str> {
        let pairs = SETTINGS.iter().zip(&self.values);
        let keys =
            pairs.filter(|((key, _), value)| printed.text(key) != value.as_str()).map(|((key, _), _)| *key);
        keys.chain(self.beyond.iter().copied()).collect()
    }
}

fn beyond(spec: &DflowSpec) -> Vec<&'static str> {
    let OptimizerSpec::Lbfgs(optimizer) = &spec.optimizer;
    let options = [
        ("initial", optimizer.initial.is_some_and(|initial| initial != InitialHessian::Scalar)),
        ("stop_tests", spec.stop_tests.is_some_and(|tests| tests != StopTests::OuterStep)),
    ];
    options.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// The pipeline's D-Flow methods on the task that a printed row is about.
fn ours(pipeline: Option<&PipelineSpec>, printed: &Row) -> Vec<Own> {
    let Some(pipeline) = pipeline else { return Vec::new() };
    let same = |task: &&TaskSpec| {
        task.operator.as_ref().and_then(paper::task) == Some(printed.text("task"))
            && Some(task.noise) == printed.number("noise")
    };
    let mut list = Vec::new();
    for task in pipeline.tasks.iter().filter(same) {
        for method in pipeline.methods.iter().filter(|method| method.runs_on(&task.name)) {
            if let MethodSpec::Dflow(spec) = method {
                let spec = spec.for_task(&task.name);
                let (method, values) = (method.name().to_owned(), resolved_values(&spec));
                list.push(Own { method, values, beyond: beyond(&spec) });
            }
        }
    }
    list
}

fn resolved_values(spec: &DflowSpec) -> Values {
    let (loss, space) = loss(spec.loss);
    let (regularizer, weight) = regularizer(spec.regularizer);
    let OptimizerSpec::Lbfgs(optimizer) = spec.optimizer;
    let target = spec.stop.iter().find_map(|rule| match rule {
        StopRule::TargetPsnr(target) => Some(target.to_string()),
        _ => None,
    });
    let blend = match &spec.init {
        InitSpec::Blend(blend) => blend.weight.to_string(),
        InitSpec::Source => "source".to_owned(),
        InitSpec::Given(_) => "given".to_owned(),
    };
    let nfe = spec.solver.nfe().map_or_else(|| "adaptive".to_owned(), |nfe| nfe.to_string());
    [
        loss.to_owned(),
        space.to_owned(),
        target.unwrap_or_default(),
        blend,
        regularizer.to_owned(),
        weight,
        optimizer.inner.to_string(),
        spec.solver.kind().to_owned(),
        nfe,
    ]
}

fn loss(spec: LossSpec) -> (&'static str, &'static str) {
    let (name, space) = match spec {
        LossSpec::NegPsnr(space) => ("neg_psnr", space),
        LossSpec::SquaredError(space) => ("squared_error", space),
        LossSpec::Lp(lp) => ("lp", lp.space),
    };
    let space = match space {
        LossSpace::Measurement => "measurement",
        LossSpace::Pinv => "pinv",
    };
    (name, space)
}

fn regularizer(spec: RegularizerSpec) -> (&'static str, String) {
    match spec {
        RegularizerSpec::None => ("none", String::new()),
        RegularizerSpec::Chi(weight) => ("chi", weight.to_string()),
        RegularizerSpec::Gaussian(weight) => ("gaussian", weight.to_string()),
        RegularizerSpec::Nll(nll) => ("nll", nll.weight.to_string()),
    }
}

fn line(printed: &Row, source: &str, values: &Values, differs: &[&str]) -> Vec<Cell> {
    let text = |value: &str| if value.is_empty() { Cell::Missing } else { Cell::text(value) };
    let mut row = vec![text(printed.text("task")), text(printed.text("noise")), text(source)];
    row.extend(values.iter().map(|value| text(value)));
    row.push(text(&differs.join(", ")));
    row
}
