//! From a pipeline file to a plan, with everything that is wrong reported at once.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::identity::{CellHash, NUMERICS};
use super::resources::{ClassifierInfo, DatasetInfo, ImageShape, ModelInfo, Resources, StateShape};
use super::{Cell, CellModel, Goal, Plan, PropertyGoal, Restoration};
use crate::spec::check::check;
use crate::spec::diagnostic::Diagnostics;
use crate::spec::document::{Document, Problem};
use crate::spec::init::InitSpec;
use crate::spec::method::{ConditionSpec, MethodSpec, NormalizeSpec};
use crate::spec::metric::MetricSpec;
use crate::spec::model::ModelRef;
use crate::spec::operator::{Bicubic, Boundary, CenterMask, GaussianBlur, OperatorSpec};
use crate::spec::pipeline::{PipelineSpec, TaskSpec};
use crate::spec::property::PropertySpec;

impl Plan {
    /// Resolves a pipeline: checks all of it, looks up its dataset, models and files, and lists its cells.
    pub fn resolve(document: &Document, resources: &dyn Resources) -> Result<Self, Diagnostics> {
        let mut resolver = Resolver { spec: &document.spec, resources, problems: check(&document.spec) };
        let plan = resolver.plan();
        document.report(resolver.problems)?;
        Ok(plan.expect("without a problem there is a plan"))
    }
}

struct Resolver<'a> {
    spec: &'a PipelineSpec,
    resources: &'a dyn Resources,
    problems: Vec<Problem>,
}

impl Resolver<'_> {
    /// The plan, or `None` and at least one problem.
    fn plan(&mut self) -> Option<Plan> {
        let dataset = self.dataset();
        if let Some(dataset) = &dataset {
            for (i, task) in self.spec.tasks.iter().enumerate() {
                self.check_task(i, task, dataset);
            }
        }
        self.check_metrics();
        let classifiers: Vec<_> = (0..self.spec.tasks.len()).map(|i| self.classifier(i)).collect();
        let models: Vec<_> = (0..self.spec.methods.len()).map(|i| self.model(i, dataset.as_ref())).collect();
        let dataset = dataset?;
        let cells = self.cells(&dataset, &models, &classifiers);
        let spec = self.spec;
        self.problems.is_empty().then(|| Plan {
            name: spec.name.clone(),
            seed: spec.seed,
            metrics: applicable(&spec.metrics, dataset.shape),
            dataset,
            cells,
            devices: spec.devices.clone(),
            save: spec.save.clone(),
            output: spec.output.clone(),
        })
    }

    /// Notes a problem; one that several cells share is noted once.
    fn problem(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let problem = Problem { path: path.into(), at_key: false, message: message.into(), help: None };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// The dataset, cut to the limit.
    fn dataset(&mut self) -> Option<DatasetInfo> {
        let mut dataset = match self.resources.dataset(&self.spec.dataset) {
            Ok(dataset) => dataset,
            Err(message) => {
                self.problem("dataset.name", message);
                return None;
            }
        };
        if dataset.samples.is_empty() {
            self.problem("dataset.name", format!("the dataset {} has no sample", self.spec.dataset.name));
        }
        let mut places = BTreeMap::new();
        for (place, id) in dataset.samples.iter().enumerate() {
            if let Some(first) = places.insert(id, place) {
                let name = &self.spec.dataset.name;
                let message =
                    format!("the dataset {name} has two samples `{id}`, at places {first} and {place}");
                self.problem("dataset.name", message);
                break;
            }
        }
        if let Some(limit) = self.spec.dataset.limit {
            dataset.samples.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        Some(dataset)
    }

    /// Whether a task suits the dataset's samples.
    fn check_task(&mut self, i: usize, task: &TaskSpec, dataset: &DatasetInfo) {
        let Some(kind) = task.kind() else { return };
        let at = format!("tasks[{i}].{}", kind.key());
        match (&task.operator, dataset.shape) {
            (Some(operator), StateShape::Image(shape)) => self.check_operator(&at, operator, shape),
            (None, StateShape::Molecule(_)) => {}
            _ => {
                let message = format!(
                    "`{}` is not for {}, which the dataset {} has",
                    kind.key(),
                    dataset.shape.noun(),
                    self.spec.dataset.name
                );
                self.problem(at, message);
            }
        }
    }

    fn check_operator(&mut self, at: &str, operator: &OperatorSpec, shape: ImageShape) {
        let known = self.problems.len();
        self.check_image(at, *operator, shape);
        let is_sound =
            self.problems.len() == known && !self.problems.iter().any(|problem| problem.path.starts_with(at));
        if is_sound && let Err(message) = self.resources.operator(operator, shape) {
            self.problem(at, message);
        }
    }

    /// Whether the networks of the metrics are what they should be, where they are there.
    fn check_metrics(&mut self) {
        for (i, metric) in self.spec.metrics.iter().enumerate() {
            if let Err(message) = self.resources.metric(metric) {
                self.problem(format!("metrics[{i}]"), message);
            }
        }
    }

    /// The classifier of task `i`, if it is one of a property.
    fn classifier(&mut self, i: usize) -> Option<ClassifierInfo> {
        let PropertySpec { name, classifier, .. } = self.spec.tasks[i].property.as_ref()?;
        if classifier.trim().is_empty() {
            return None;
        }
        let at = format!("tasks[{i}].property.classifier");
        match self.resources.classifier(classifier) {
            Ok(info) if info.property != *name => {
                self.problem(at, format!("the classifier {classifier} reads {}, not {name}", info.property));
                None
            }
            Ok(info) => Some(info),
            Err(message) => {
                self.problem(at, message);
                None
            }
        }
    }

    /// Whether an operator fits images of this shape.
    fn check_image(&mut self, at: &str, operator: OperatorSpec, shape: ImageShape) {
        let side = shape.height.min(shape.width);
        match operator {
            OperatorSpec::CenterMask(CenterMask { size }) if size >= side => {
                let message = format!("a hole of {size}×{size} leaves nothing of an image of {shape}");
                self.problem(format!("{at}.center_mask.size"), message);
            }
            OperatorSpec::Bicubic(Bicubic { factor, .. })
                if factor > 1
                    && (!shape.height.is_multiple_of(factor) || !shape.width.is_multiple_of(factor)) =>
            {
                let message = format!("the factor {factor} does not divide the sides of an image of {shape}");
                self.problem(format!("{at}.bicubic.factor"), message);
            }
            OperatorSpec::GaussianBlur(GaussianBlur { size, boundary: Boundary::Reflect, .. })
                if size / 2 >= side =>
            {
                let message = format!(
                    "a kernel of {size} taps reaches over the mirrored border of an image of {shape}: at most {} taps",
                    2 * side - 1
                );
                self.problem(format!("{at}.gaussian_blur.size"), message);
            }
            _ => {}
        }
    }

    /// The model of method `i`, checked against the dataset.
    fn model(&mut self, i: usize, dataset: Option<&DatasetInfo>) -> Option<CellModel> {
        let method = &self.spec.methods[i];
        let (reference, at) = match method.model() {
            Some(own) => (own, format!("methods[{i}].{}.model", method.kind())),
            None => (self.spec.model.as_ref()?, "model".to_owned()),
        };
        // A Gaussian is fitted to the dataset: without it, the cause is reported already.
        let cause_known = dataset.is_none() && matches!(reference, ModelRef::Gaussian(_));
        if !method.needs_model() || cause_known {
            return None;
        }
        match self.resources.model(reference, &self.spec.dataset) {
            Ok(info) => {
                if let Some(dataset) = dataset {
                    self.check_model(&at, reference, &info, dataset);
                    self.check_conditions(i, &info, dataset);
                }
                Some(CellModel { reference: reference.clone(), info })
            }
            Err(message) => {
                self.problem(at, message);
                None
            }
        }
    }

    fn check_model(&mut self, at: &str, reference: &ModelRef, model: &ModelInfo, dataset: &DatasetInfo) {
        let fits = match (model.shape, dataset.shape) {
            (StateShape::Image(model), StateShape::Image(dataset)) => model == dataset,
            (StateShape::Molecule(model), StateShape::Molecule(dataset)) => {
                model.max_atoms >= dataset.max_atoms
            }
            _ => false,
        };
        if !fits {
            let message = format!(
                "the model {reference} makes {} of {}, the dataset {} has {} of {}",
                model.shape.noun(),
                model.shape,
                self.spec.dataset.name,
                dataset.shape.noun(),
                dataset.shape
            );
            self.problem(at, message);
        }
    }

    /// Whether the condition of method `i`, and those of its `per_task`, suit the model.
    fn check_conditions(&mut self, i: usize, model: &ModelInfo, dataset: &DatasetInfo) {
        let method = &self.spec.methods[i];
        let at = format!("methods[{i}].{}", method.kind());
        if let Some(condition) = method.condition() {
            self.check_condition(&format!("{at}.condition"), condition, model, dataset);
        }
        if matches!(method, MethodSpec::Ancestral(_)) && !model.predicts_noise {
            self.problem(&at, "the ancestral sampler needs a diffusion model that predicts the noise");
        }
        for (task, condition) in method.conditions_by_task() {
            self.check_condition(&format!("{at}.per_task.{task}.condition"), condition, model, dataset);
        }
    }

    fn check_condition(
        &mut self,
        at: &str,
        condition: ConditionSpec,
        model: &ModelInfo,
        dataset: &DatasetInfo,
    ) {
        let classes = model.classes;
        match condition {
            ConditionSpec::Fixed(_) if classes == 0 => {
                self.problem(at, "the model has no classes: write condition: none");
            }
            ConditionSpec::Fixed(label) if label >= classes => {
                let message =
                    format!("label {label} is out of range: the model has classes 0 to {}", classes - 1);
                self.problem(format!("{at}.fixed"), message);
            }
            ConditionSpec::None if classes > 0 => {
                let message =
                    format!("the model has {classes} classes and must be told one: {{label: dataset}}");
                self.problem(at, message);
            }
            ConditionSpec::Label(_) if classes > 0 && dataset.classes == 0 => {
                self.problem(at, "the dataset has no labels: write condition: {fixed: …}");
            }
            ConditionSpec::Label(_) if classes > 0 && dataset.classes > classes => {
                let message = format!(
                    "labels are out of range: the dataset has {} classes, the model {classes}",
                    dataset.classes
                );
                self.problem(at, message);
            }
            _ => {}
        }
    }

    fn cells(
        &mut self,
        dataset: &DatasetInfo,
        models: &[Option<CellModel>],
        classifiers: &[Option<ClassifierInfo>],
    ) -> Vec<Cell> {
        let spec = self.spec;
        let mut cells = Vec::new();
        for (task, classifier) in spec.tasks.iter().zip(classifiers) {
            // A task without a goal has a problem that is noted already.
            let Some(goal) = goal(task, classifier.as_ref()) else { continue };
            let methods = spec.methods.iter().enumerate().filter(|(_, method)| method.runs_on(&task.name));
            for (i, method) in methods {
                let points = self.initial_points(i, method, task, dataset);
                let cell = self.cell((task, &goal), method, models[i].clone(), dataset, points.as_deref());
                // One identity is one set of rows: two names for it would hide one of them.
                let twin = cells.iter().find(|other: &&Cell| other.hash == cell.hash);
                if let Some(Cell { task, method, .. }) = twin {
                    let message = format!(
                        "task `{}`, method `{}` is the same as task `{task}`, method `{method}`: remove one of them",
                        cell.task, cell.method
                    );
                    self.problem(format!("methods[{i}]"), message);
                }
                cells.push(cell);
            }
        }
        cells
    }

    /// Hash of the file of initial points that a cell starts from, if it does.
    fn initial_points(
        &mut self,
        i: usize,
        method: &MethodSpec,
        task: &TaskSpec,
        dataset: &DatasetInfo,
    ) -> Option<String> {
        let MethodSpec::Dflow(dflow) = method else { return None };
        let replaced = dflow.per_task.get(&task.name).is_some_and(|other| other.init.is_some());
        let InitSpec::Given(path) = dflow.for_task(&task.name).init else { return None };
        let found = self.resources.initial_points(&path, dataset);
        found
            .map_err(|message| {
                let own = if replaced { format!(".per_task.{}", task.name) } else { String::new() };
                self.problem(format!("methods[{i}].dflow{own}.init.given"), message);
            })
            .ok()
    }

    fn cell(
        &self,
        (task, goal): (&TaskSpec, &Goal),
        method: &MethodSpec,
        model: Option<CellModel>,
        dataset: &DatasetInfo,
        points: Option<&str>,
    ) -> Cell {
        let solve = method.for_task(&task.name);
        let mut determinants = json!({
            "numerics": NUMERICS,
            "seed": self.spec.seed,
            "dataset": { "id": dataset.id, "manifest": dataset.manifest },
            "method": numbers_of(&solve),
            "model": model.as_ref().map(|model| &model.info.identity),
            "initial_points": points,
        });
        match goal {
            Goal::Restore(Restoration { operator, noise }) => {
                determinants["operator"] = json!(operator);
                determinants["noise"] = json!(noise);
            }
            Goal::Property(PropertyGoal { spec, classifier }) => {
                determinants["property"] =
                    json!({ "name": spec.name, "classifier": classifier.identity, "value": spec.value });
            }
            Goal::Generate => determinants["generate"] = json!({}),
        }
        Cell {
            task: task.name.clone(),
            method: method.name().to_owned(),
            goal: goal.clone(),
            solve,
            model,
            hash: CellHash::of(&determinants),
            determinants,
        }
    }
}

/// What a task asks for; `None` where the task has a problem.
fn goal(task: &TaskSpec, classifier: Option<&ClassifierInfo>) -> Option<Goal> {
    match (&task.operator, &task.property, &task.generate) {
        (Some(operator), None, None) => {
            Some(Goal::Restore(Restoration { operator: *operator, noise: task.noise }))
        }
        (None, Some(spec), None) => {
            Some(Goal::Property(PropertyGoal { spec: spec.clone(), classifier: classifier?.clone() }))
        }
        (None, None, Some(_)) => Some(Goal::Generate),
        _ => None,
    }
}

/// The metrics that samples of this kind have.
fn applicable(metrics: &[MetricSpec], shape: StateShape) -> Vec<MetricSpec> {
    let is_image = shape.image().is_some();
    metrics.iter().filter(|metric| metric.is_of_images() == is_image).cloned().collect()
}

/// A resolved method without what its numbers do not depend on: the name of the model and of a file of points,
/// whose contents are hashed instead.
fn numbers_of(method: &MethodSpec) -> Value {
    let mut bare = method.without_model();
    if let MethodSpec::Dflow(dflow) = &mut bare
        && let InitSpec::Given(path) = &mut dflow.init
    {
        path.clear();
    }
    let mut numbers = json!(bare);
    // What is not done determines nothing: rows from before it could be asked for stay the same rows.
    if let Some(Value::Object(dflow)) = numbers.get_mut("dflow")
        && dflow.get("normalize") == Some(&json!(NormalizeSpec::None))
    {
        dflow.remove("normalize");
    }
    numbers
}
