//! The meaning of a pipeline: everything that is wrong with its values, found in one go.
//!
//! What depends on the dataset, models or other files is checked by the plan, and reported together with this.

mod baseline;
mod cluster;
mod property;

use std::collections::BTreeSet;

use super::cluster::ClusterSpec;
use super::diagnostic::names_help;
use super::document::Problem;
use super::init::{BlendSpec, InitSpec, Lift};
use super::likelihood::LikelihoodSpec;
use super::method::{
    BandsSpec, DflowSpec, InitialHessian, LbfgsSpec, LossSpec, LpSpec, MethodSpec, NllSpec, OptimizerSpec,
    RegularizerSpec,
};
use super::metric::MetricSpec;
use super::operator::{Bicubic, CenterMask, GaussianBlur, OperatorSpec, PinvCutoff, RandomMask};
use super::parse::join;
use super::pipeline::{PipelineSpec, TaskKind, TaskSpec};
use super::solver::{Adaptive, SolverSpec};
use super::stop::{Stagnation, StopRule};

/// PSNR in dB that no solve can pass: the MSE is floored at 1e-12·R².
const PSNR_CEILING: f64 = 120.0;

/// Network evaluations that one solve may take: a guard against slips, far above what any grid needs.
const MOST_NFE: u32 = 1_000_000;

/// Folders under `reports/` that are not runs.
const RESERVED_OUTPUTS: [&str; 2] = ["paper", "templates"];

/// Every semantic error of a spec, in the order of its fields.
pub fn check(spec: &PipelineSpec) -> Vec<Problem> {
    let mut found = Found::default();
    found.require(!spec.name.trim().is_empty(), "name", "the pipeline needs a name");
    found.require(!spec.dataset.name.trim().is_empty(), "dataset.name", "the dataset needs a name");
    found.require(spec.dataset.limit != Some(0), "dataset.limit", "a limit of 0 leaves no sample");
    check_output(&mut found, &spec.output);
    found.require(!spec.tasks.is_empty(), "tasks", "there is no task: nothing to run");
    found.require(!spec.methods.is_empty(), "methods", "there is no method: nothing to run");
    check_names(&mut found, "task", spec.tasks.iter().map(|task| &*task.name), |i| {
        format!("tasks[{i}].name")
    });
    check_names(&mut found, "method", spec.methods.iter().map(MethodSpec::name), |i| {
        format!("methods[{i}].{}.name", spec.methods[i].kind())
    });
    for (i, task) in spec.tasks.iter().enumerate() {
        check_task(&mut found, &format!("tasks[{i}]"), task);
        let idle = !spec.methods.is_empty() && !spec.methods.iter().any(|method| method.runs_on(&task.name));
        found.require(!idle, &format!("tasks[{i}].name"), "no method runs on this task: see their `tasks:`");
    }
    let names: Vec<&str> = spec.tasks.iter().map(|task| &*task.name).collect();
    for (i, method) in spec.methods.iter().enumerate() {
        let at = format!("methods[{i}].{}", method.kind());
        if method.needs_model() && method.model().or(spec.model.as_ref()).is_none() {
            found.key(
                &at,
                format!("`{}` has no model", method.name()),
                "give the pipeline or the method a `model:`",
            );
        }
        check_limits(&mut found, &join(&at, "tasks"), method.tasks(), &names);
        let tasks: Vec<&TaskSpec> = spec.tasks.iter().filter(|task| method.runs_on(&task.name)).collect();
        check_kinds(&mut found, &at, method, &tasks);
        match method {
            MethodSpec::Dflow(dflow) => {
                check_dflow(&mut found, &at, dflow, &names);
                check_on_tasks(&mut found, &at, dflow, &tasks);
            }
            MethodSpec::OtOde(ot_ode) => baseline::check_ot_ode(&mut found, &at, ot_ode, &names, &tasks),
            MethodSpec::Pigdm(pigdm) => baseline::check_pigdm(&mut found, &at, pigdm, &names, &tasks),
            MethodSpec::RedDiff(red_diff) => baseline::check_red_diff(&mut found, &at, red_diff, &names),
            MethodSpec::Pinv(_) => {}
            MethodSpec::Sample(sample) => check_solver(&mut found, &join(&at, "solver"), sample.solver),
            MethodSpec::Ancestral(ancestral) => check_steps(&mut found, &at, ancestral.steps),
            MethodSpec::Likelihood(spec) => check_measured(&mut found, &at, spec),
        }
    }
    check_repeats(&mut found, "metrics", &spec.metrics);
    check_metrics(&mut found, &spec.metrics);
    check_repeats(&mut found, "save", &spec.save);
    if let Some(spec) = &spec.cluster {
        cluster::check(&mut found, "cluster", spec);
    }
    found.problems
}

/// Every semantic error of a site file.
pub fn check_site(spec: &ClusterSpec) -> Vec<Problem> {
    let mut found = Found::default();
    cluster::check(&mut found, "", spec);
    found.problems
}

/// What is wrong with the values of a site file and a pipeline together, each of which is right by itself.
pub fn check_together(spec: &ClusterSpec) -> Option<Problem> {
    cluster::check_together("", spec)
}

/// A row has one column for LPIPS.
fn check_metrics(found: &mut Found, metrics: &[MetricSpec]) {
    let trunks = metrics.iter().enumerate().filter(|(_, metric)| matches!(metric, MetricSpec::Lpips(_)));
    for (i, _) in trunks.skip(1) {
        found.value(
            &format!("metrics[{i}]"),
            "a second trunk of LPIPS: rows have one; `dflow score` adds others beside them",
        );
    }
    for (i, metric) in metrics.iter().enumerate() {
        if matches!(metric, MetricSpec::Features(name) if name.trim().is_empty()) {
            found.value(&format!("metrics[{i}].features"), "the name of a feature network is empty");
        }
    }
}

/// The problems found so far.
#[derive(Default)]
struct Found {
    problems: Vec<Problem>,
}

impl Found {
    fn value(&mut self, path: &str, message: impl Into<String>) {
        let (path, message) = (path.to_owned(), message.into());
        self.problems.push(Problem { path, at_key: false, message, help: None });
    }

    fn key(&mut self, path: &str, message: impl Into<String>, help: impl Into<String>) {
        let (path, message) = (path.to_owned(), message.into());
        self.problems.push(Problem { path, at_key: true, message, help: Some(help.into()) });
    }

    fn require(&mut self, holds: bool, path: &str, message: &str) {
        if !holds {
            self.value(path, message);
        }
    }

    /// `value` of the field `name` must be finite and fulfil `range`, which `in_words` says.
    fn number(&mut self, at: &str, name: &str, value: f64, in_words: &str, range: impl Fn(f64) -> bool) {
        if !(value.is_finite() && range(value)) {
            self.value(&join(at, name), format!("{name} must be a finite number {in_words}, got {value}"));
        }
    }

    fn positive(&mut self, at: &str, name: &str, value: f64) {
        self.number(at, name, value, "above 0", |value| value > 0.0);
    }

    fn not_negative(&mut self, at: &str, name: &str, value: f64) {
        self.number(at, name, value, "that is not negative", |value| value >= 0.0);
    }

    fn count(&mut self, at: &str, name: &str, value: u32) {
        if value == 0 {
            self.value(&join(at, name), format!("{name} must be at least 1, got 0"));
        }
    }
}

fn check_output(found: &mut Found, output: &str) {
    let mut parts = output.trim_end_matches('/').rsplit('/');
    let last = parts.next().unwrap_or_default();
    if output.trim().is_empty() {
        found.value("output", "the run needs a directory, such as reports/my-run");
    } else if RESERVED_OUTPUTS.contains(&last) && parts.next() == Some("reports") {
        found.value("output", format!("reports/{last} is not a place for a run: the name is reserved"));
    }
}

/// Names become folder and file names and columns: unique (in upper and lower case alike) and safe in a path.
fn check_names<'a>(
    found: &mut Found,
    what: &str,
    names: impl Iterator<Item = &'a str>,
    path: impl Fn(usize) -> String,
) {
    let mut seen = BTreeSet::new();
    for (i, name) in names.enumerate() {
        if !is_path_safe(name) {
            let message = format!(
                "the {what} name {name:?} cannot be a file name: use 1 to 64 of A–Z a–z 0–9 . _ -, a letter or digit first"
            );
            found.value(&path(i), message);
        }
        if !seen.insert(name.to_lowercase()) {
            found.value(
                &path(i),
                format!("there are two {what}s of the name `{name}`: give one of them another `name:`"),
            );
        }
    }
}

fn is_path_safe(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn check_repeats<T: PartialEq + std::fmt::Debug>(found: &mut Found, path: &str, list: &[T]) {
    for (i, item) in list.iter().enumerate() {
        if list[..i].contains(item) {
            found.value(
                &format!("{path}[{i}]"),
                format!("{} is listed twice", format!("{item:?}").to_lowercase()),
            );
        }
    }
}

fn check_task(found: &mut Found, at: &str, task: &TaskSpec) {
    found.not_negative(at, "noise", task.noise);
    if task.kind().is_none() {
        let message = format!("the task `{}` needs one of `operator`, `property` and `generate`", task.name);
        found.key(
            at,
            message,
            "operator: {…} restores an image, property: {…} and generate: {} make a molecule",
        );
    }
    found.require(
        task.noise == 0.0 || task.operator.is_some(),
        &join(at, "noise"),
        "only the measurement of an `operator` has noise",
    );
    if let Some(property) = &task.property {
        property::check(found, &join(at, "property"), property);
    }
    if let Some(operator) = &task.operator {
        check_operator(found, &join(at, "operator"), operator);
    }
}

/// The methods that make sense of a kind of task.
fn check_kinds(found: &mut Found, at: &str, method: &MethodSpec, tasks: &[&TaskSpec]) {
    for task in tasks {
        let Some(kind) = task.kind() else { continue };
        let why = match (method, kind) {
            (MethodSpec::Dflow(_), TaskKind::Generate) => "there is nothing to optimise for",
            (MethodSpec::Pinv(_), TaskKind::Property | TaskKind::Generate) => {
                "there is no operator to invert"
            }
            (
                MethodSpec::OtOde(_) | MethodSpec::Pigdm(_) | MethodSpec::RedDiff(_),
                TaskKind::Property | TaskKind::Generate,
            ) => "there is no measurement that could guide it",
            (MethodSpec::Likelihood(_), TaskKind::Property | TaskKind::Generate) => {
                "there is no image to measure"
            }
            (MethodSpec::Sample(_) | MethodSpec::Ancestral(_), TaskKind::Restore) => {
                "a sample of the prior does not look at the measurement"
            }
            _ => continue,
        };
        found.key(
            at,
            format!("`{}` cannot run on the task `{}`: {why}", method.name(), task.name),
            "limit the method with `tasks: […]`",
        );
    }
}

/// A likelihood needs probes, and steps whose weights the divergence shares.
fn check_measured(found: &mut Found, at: &str, spec: &LikelihoodSpec) {
    found.count(at, "probes", spec.probes);
    let solver = join(at, "solver");
    check_solver(found, &solver, spec.solver);
    let is_fixed = spec.solver.nfe().is_some();
    found.require(is_fixed, &solver, "a likelihood needs fixed steps: use midpoint, heun, rk4 or euler");
}

fn check_steps(found: &mut Found, at: &str, steps: u32) {
    found.count(at, "steps", steps);
    if steps > MOST_NFE {
        found.value(&join(at, "steps"), format!("steps must be at most {MOST_NFE}, got {steps}"));
    }
}

fn check_operator(found: &mut Found, at: &str, operator: &OperatorSpec) {
    match *operator {
        OperatorSpec::CenterMask(CenterMask { size }) => found.count(&join(at, "center_mask"), "size", size),
        OperatorSpec::RandomMask(RandomMask { keep }) => {
            let at = join(at, "random_mask");
            found
                .number(&at, "keep", keep, "between 0 and 1, both excluded", |keep| 0.0 < keep && keep < 1.0);
        }
        OperatorSpec::Bicubic(Bicubic { factor, pinv_cutoff, .. }) => {
            let at = join(at, "bicubic");
            found.require(factor >= 2, &join(&at, "factor"), "factor must be at least 2");
            check_cutoff(found, &at, pinv_cutoff);
        }
        OperatorSpec::GaussianBlur(GaussianBlur { size, sigma, pinv_cutoff, .. }) => {
            let at = join(at, "gaussian_blur");
            found.require(size % 2 == 1, &join(&at, "size"), "size must be odd: the kernel has a middle tap");
            found.positive(&at, "sigma", sigma);
            check_cutoff(found, &at, pinv_cutoff);
        }
        OperatorSpec::Identity(_) => {}
    }
}

fn check_cutoff(found: &mut Found, at: &str, cutoff: PinvCutoff) {
    let at = join(at, "pinv_cutoff");
    match cutoff {
        PinvCutoff::None => {}
        PinvCutoff::PerAxis(value) => found.not_negative(&at, "per_axis", value),
        PinvCutoff::Product(value) => found.not_negative(&at, "product", value),
    }
}

/// The tasks that a method is limited to: some, each of them there, none twice.
fn check_limits(found: &mut Found, at: &str, own: Option<&[String]>, names: &[&str]) {
    let Some(own) = own else { return };
    found.require(!own.is_empty(), at, "the method is limited to no task: name some, or leave `tasks` out");
    for (i, name) in own.iter().enumerate().filter(|(_, name)| !names.contains(&&***name)) {
        let help = names_help(name, names);
        found.value(&format!("{at}[{i}]"), format!("there is no task `{name}`: {help}"));
    }
    check_repeats(found, at, own);
}

/// Checks the fields where they are written: once for the method, then for each task that replaces some.
fn check_dflow(found: &mut Found, at: &str, spec: &DflowSpec, names: &[&str]) {
    check_solver(found, &join(at, "solver"), spec.solver);
    check_init(found, &join(at, "init"), &spec.init);
    check_loss(found, &join(at, "loss"), spec.loss);
    check_regularizer(found, &join(at, "regularizer"), spec.regularizer);
    check_optimizer(found, &join(at, "optimizer"), spec.optimizer);
    check_rules(found, &join(at, "stop"), &spec.stop);
    for (name, other) in &spec.per_task {
        let at = place_of(found, at, name, names);
        let at = |field| join(&at, field);
        other.solver.inspect(|solver| check_solver(found, &at("solver"), *solver));
        other.init.as_ref().inspect(|init| check_init(found, &at("init"), init));
        other.loss.inspect(|loss| check_loss(found, &at("loss"), *loss));
        other.regularizer.inspect(|penalty| check_regularizer(found, &at("regularizer"), *penalty));
        other.optimizer.inspect(|optimizer| check_optimizer(found, &at("optimizer"), *optimizer));
        other.stop.as_ref().inspect(|rules| check_rules(found, &at("stop"), rules));
    }
}

/// The place of a task's own fields of a method; the task must be there.
fn place_of(found: &mut Found, at: &str, task: &str, names: &[&str]) -> String {
    let at = join(&join(at, "per_task"), task);
    if !names.contains(&task) {
        found.key(&at, format!("there is no task `{task}`"), names_help(task, names));
    }
    at
}

/// Checks what depends on the tasks that the method runs on.
fn check_on_tasks(found: &mut Found, at: &str, spec: &DflowSpec, tasks: &[&TaskSpec]) {
    check_ends(found, at, spec, tasks);
    for task in tasks {
        match task.kind() {
            Some(TaskKind::Restore) => {
                check_lift(found, at, spec, task);
                check_likelihood(found, at, spec, task);
                property::check_images(found, at, spec, task);
            }
            Some(TaskKind::Property) => property::check_dflow(found, at, spec, task),
            Some(TaskKind::Generate) | None => {}
        }
    }
}

/// A solve must be able to end on every task, by the method's rules or by those that replace them there.
fn check_ends(found: &mut Found, at: &str, spec: &DflowSpec, tasks: &[&TaskSpec]) {
    let own_rules =
        |task: &&&TaskSpec| spec.per_task.get(&task.name).and_then(|other| other.stop.as_ref()).is_none();
    let endless = |rules: &[StopRule], task: &TaskSpec| {
        rules.iter().all(|rule| task.noise == 0.0 && matches!(rule, StopRule::NoiseLevel(_)))
    };
    let mut report = |at: &str, rules: &[StopRule], names: Vec<&str>| {
        let cause =
            if rules.is_empty() { "stop lists no rule" } else { "noise_level never fires without noise" };
        let message = format!("nothing would end a solve of {}: {cause}", names.join(", "));
        found.key(
            &join(at, "stop"),
            message,
            "name a rule that does, such as {target_psnr: 32} or {evals: 300}",
        );
    };
    let names =
        tasks.iter().filter(own_rules).filter(|task| endless(&spec.stop, task)).map(|task| &*task.name);
    let names: Vec<&str> = names.collect();
    if !names.is_empty() {
        report(at, &spec.stop, names);
    }
    for task in tasks.iter().filter(|task| !own_rules(task)) {
        let rules = spec.for_task(&task.name).stop;
        if endless(&rules, task) {
            report(&format!("{at}.per_task.{}", task.name), &rules, vec![&task.name]);
        }
    }
}

/// A measurement can only be its own lift where it has the image's shape.
fn check_lift(found: &mut Found, at: &str, spec: &DflowSpec, task: &TaskSpec) {
    let own = spec.per_task.get(&task.name).is_some_and(|other| other.init.is_some());
    let at = if own { format!("{at}.per_task.{}", task.name) } else { at.to_owned() };
    if let InitSpec::Blend(BlendSpec { lift, .. }) = spec.for_task(&task.name).init {
        check_own_lift(found, &join(&at, "init.blend.lift"), lift, task);
    }
}

fn check_own_lift(found: &mut Found, at: &str, lift: Lift, task: &TaskSpec) {
    let is_image = matches!(task.operator, Some(OperatorSpec::GaussianBlur(_) | OperatorSpec::Identity(_)));
    if lift == Lift::Measurement && !is_image {
        let message =
            format!("the measurement of {} has not the image's shape: it cannot be its own lift", task.name);
        found.value(at, message);
    }
}

/// The likelihood penalty runs the solver's stages itself, which must not depend on x₀.
fn check_likelihood(found: &mut Found, at: &str, spec: &DflowSpec, task: &TaskSpec) {
    let own = spec.per_task.get(&task.name).is_some_and(|other| other.regularizer.is_some());
    let at = if own { format!("{at}.per_task.{}", task.name) } else { at.to_owned() };
    let spec = spec.for_task(&task.name);
    if let (RegularizerSpec::Nll(_), SolverSpec::Dopri5(_)) = (spec.regularizer, spec.solver) {
        let message = format!(
            "the likelihood penalty of {} needs a solver with fixed steps: midpoint, heun, rk4 or euler, not dopri5",
            task.name
        );
        found.value(&join(&at, "regularizer.nll"), message);
    }
}

fn check_solver(found: &mut Found, at: &str, solver: SolverSpec) {
    let at = join(at, solver.kind());
    if let SolverSpec::Dopri5(Adaptive { rtol, atol }) = solver {
        found.positive(&at, "rtol", rtol);
        found.positive(&at, "atol", atol);
    }
    let Some(nfe) = solver.nfe() else { return };
    let per_step = solver.evaluations_per_step();
    found.count(&at, "nfe", nfe);
    if nfe > MOST_NFE {
        found.value(&join(&at, "nfe"), format!("nfe must be at most {MOST_NFE}, got {nfe}"));
    } else if nfe % per_step != 0 {
        let below = nfe - nfe % per_step;
        let near = [below, below + per_step].into_iter().filter(|nfe| *nfe > 0);
        let near: Vec<String> = near.map(|nfe| nfe.to_string()).collect();
        let message = format!(
            "{} takes {per_step} evaluations a step: {nfe} is no multiple of it, {} would be",
            solver.kind(),
            near.join(" or ")
        );
        found.value(&join(&at, "nfe"), message);
    }
}

fn check_init(found: &mut Found, at: &str, init: &InitSpec) {
    match init {
        InitSpec::Blend(blend) => {
            let at = join(at, "blend");
            found.number(&at, "weight", blend.weight, "between 0 and 1", |a| (0.0..=1.0).contains(&a));
            blend.solver.inspect(|solver| check_solver(found, &join(&at, "solver"), *solver));
        }
        InitSpec::Given(path) => {
            found.require(!path.is_empty(), &join(at, "given"), "given needs the path of a file");
        }
        InitSpec::Source => {}
    }
}

fn check_loss(found: &mut Found, at: &str, loss: LossSpec) {
    if let LossSpec::Lp(LpSpec { p, .. }) = loss {
        found.number(&join(at, "lp"), "p", p, "of at least 1", |p| p >= 1.0);
    }
}

fn check_regularizer(found: &mut Found, at: &str, regularizer: RegularizerSpec) {
    match regularizer {
        RegularizerSpec::None => {}
        RegularizerSpec::Chi(weight) => found.not_negative(at, "chi", weight),
        RegularizerSpec::Gaussian(weight) => found.not_negative(at, "gaussian", weight),
        RegularizerSpec::Nll(NllSpec { weight, probes }) => {
            let at = join(at, "nll");
            found.not_negative(&at, "weight", weight);
            found.count(&at, "probes", probes);
        }
    }
}

fn check_optimizer(found: &mut Found, at: &str, optimizer: OptimizerSpec) {
    let OptimizerSpec::Lbfgs(LbfgsSpec {
        inner,
        max_eval,
        history,
        lr,
        tolerance_grad,
        tolerance_change,
        initial,
        line_search: _,
        guard_non_finite: _,
    }) = optimizer;
    let at = join(at, "lbfgs");
    found.count(&at, "inner", inner);
    max_eval.inspect(|max_eval| found.count(&at, "max_eval", *max_eval));
    found.count(&at, "history", history);
    found.positive(&at, "lr", lr);
    found.not_negative(&at, "tolerance_grad", tolerance_grad);
    found.not_negative(&at, "tolerance_change", tolerance_change);
    if let Some(InitialHessian::Bands(BandsSpec { from_psnr, pairs })) = initial {
        let at = join(&join(&at, "initial"), "bands");
        let in_words = format!("from 0 to {PSNR_CEILING} dB (the MSE is floored there)");
        found.number(&at, "from_psnr", from_psnr, &in_words, |psnr| (0.0..=PSNR_CEILING).contains(&psnr));
        found.count(&at, "pairs", pairs);
    }
}

fn check_rules(found: &mut Found, at: &str, rules: &[StopRule]) {
    for (i, rule) in rules.iter().enumerate() {
        check_rule(found, &format!("{at}[{i}]"), *rule);
    }
}

fn check_rule(found: &mut Found, at: &str, rule: StopRule) {
    match rule {
        StopRule::TargetPsnr(target) => {
            let in_words = format!("up to {PSNR_CEILING} dB (the MSE is floored there)");
            found.number(at, "target_psnr", target, &in_words, |target| target <= PSNR_CEILING);
        }
        StopRule::Evals(count) => found.count(at, "evals", count),
        StopRule::OuterSteps(count) => found.count(at, "outer_steps", count),
        StopRule::TimeLimit(seconds) => found.positive(at, "time_limit", seconds),
        StopRule::NoiseLevel(factor) => found.positive(at, "noise_level", factor),
        StopRule::Stagnation(Stagnation { outer, min_db }) => {
            let at = join(at, "stagnation");
            found.count(&at, "outer", outer);
            found.not_negative(&at, "min_db", min_db);
        }
    }
}
