//! OT-ODE, ΠGDM and RED-Diff: ranges of their options, where they are written.

use std::collections::BTreeMap;

use super::{Found, check_own_lift, check_steps, place_of};
use crate::spec::method::{
    DdimSpec, FlowInit, FlowSpec, OtOdeSpec, PigdmForm, PigdmSpec, RedDiffOverride, RedDiffSpec, Times,
    UniformTimes,
};
use crate::spec::parse::join;
use crate::spec::pipeline::{TaskKind, TaskSpec};

/// Steps of the diffusion whose times are used.
const DIFFUSION_STEPS: u32 = 1000;

fn check_start(found: &mut Found, at: &str, start: f64) {
    found.number(at, "start", start, "between 0 and 1, both excluded", |start| 0.0 < start && start < 1.0);
}

/// A guided flow must make a step: its grid must have a point from `start` on, before 1.
fn check_grid(found: &mut Found, at: &str, (steps, first): (u32, u32)) {
    if steps > 0 && first >= steps {
        found.value(
            at,
            format!("no step is made: a grid of {steps} steps has no point from `start` to below 1"),
        );
    }
}

/// The tasks that restore an image, with the place of the fields that they replace if they replace some.
fn restored<'a, T>(
    at: &str,
    per_task: &BTreeMap<String, T>,
    tasks: &'a [&TaskSpec],
) -> Vec<(&'a TaskSpec, String)> {
    let place = |task: &TaskSpec| match per_task.get(&task.name) {
        Some(_) => format!("{at}.per_task.{}", task.name),
        None => at.to_owned(),
    };
    let is_restored = |task: &&&TaskSpec| task.kind() == Some(TaskKind::Restore);
    tasks.iter().filter(is_restored).map(|task| (*task, place(task))).collect()
}

pub(super) fn check_ot_ode(
    found: &mut Found,
    at: &str,
    spec: &OtOdeSpec,
    names: &[&str],
    tasks: &[&TaskSpec],
) {
    check_steps(found, at, spec.steps);
    check_start(found, at, spec.start);
    check_grid(found, &join(at, "start"), (spec.steps, spec.first()));
    for (name, other) in &spec.per_task {
        let at = place_of(found, at, name, names);
        other.steps.inspect(|steps| check_steps(found, &at, *steps));
        other.start.inspect(|start| check_start(found, &at, *start));
        let own = spec.for_task(name);
        if (own.steps, own.start) != (spec.steps, spec.start) {
            check_grid(found, &at, (own.steps, own.first()));
        }
    }
    for (task, at) in restored(at, &spec.per_task, tasks) {
        check_own_lift(found, &join(&at, "lift"), spec.for_task(&task.name).lift, task);
    }
}

pub(super) fn check_pigdm(
    found: &mut Found,
    at: &str,
    spec: &PigdmSpec,
    names: &[&str],
    tasks: &[&TaskSpec],
) {
    check_form(found, &join(at, "form"), &spec.form);
    for (name, other) in &spec.per_task {
        let at = place_of(found, at, name, names);
        other.form.inspect(|form| check_form(found, &join(&at, "form"), form));
    }
    for (task, at) in restored(at, &spec.per_task, tasks) {
        if let PigdmForm::Flow(FlowSpec { init: FlowInit::Lifted(lift), .. }) = spec.for_task(&task.name).form
        {
            check_own_lift(found, &join(&at, "form.flow.init.lifted"), lift, task);
        }
    }
}

fn check_form(found: &mut Found, at: &str, form: &PigdmForm) {
    match form {
        PigdmForm::Flow(flow) => {
            let at = join(at, "flow");
            check_steps(found, &at, flow.steps);
            flow.start.inspect(|start| check_start(found, &at, *start));
            let field = if flow.start.is_some() { "start" } else { "steps" };
            check_grid(found, &join(&at, field), (flow.steps, flow.first()));
        }
        PigdmForm::Ddim(DdimSpec { steps, eta, .. }) => {
            let at = join(at, "ddim");
            check_diffusion_steps(found, &at, *steps);
            found.number(&at, "eta", *eta, "between 0 and 1", |eta| (0.0..=1.0).contains(&eta));
        }
    }
}

fn check_diffusion_steps(found: &mut Found, at: &str, steps: u32) {
    found.count(at, "steps", steps);
    if steps > DIFFUSION_STEPS {
        let message = format!("steps must be at most {DIFFUSION_STEPS}, those of the diffusion, got {steps}");
        found.value(&join(at, "steps"), message);
    }
}

pub(super) fn check_red_diff(found: &mut Found, at: &str, spec: &RedDiffSpec, names: &[&str]) {
    let RedDiffSpec { lr, lambda, betas, eps, sigma_x0, .. } = *spec;
    let all = RedDiffOverride {
        lr: Some(lr),
        lambda: Some(lambda),
        betas: Some(betas),
        eps: Some(eps),
        sigma_x0: Some(sigma_x0),
        ..RedDiffOverride::default()
    };
    check_numbers(found, at, &all);
    check_times(found, at, spec.times, spec.steps);
    for (name, other) in &spec.per_task {
        let at = place_of(found, at, name, names);
        check_numbers(found, &at, other);
        if other.times.is_some() || other.steps.is_some() {
            check_times(found, &at, other.times.unwrap_or(spec.times), other.steps.unwrap_or(spec.steps));
        }
    }
}

/// The numbers of RED-Diff that are given.
fn check_numbers(found: &mut Found, at: &str, given: &RedDiffOverride) {
    given.lr.inspect(|lr| found.positive(at, "lr", *lr));
    given.lambda.inspect(|lambda| found.not_negative(at, "lambda", *lambda));
    for (i, beta) in given.betas.iter().flatten().enumerate() {
        let name = format!("betas[{i}]");
        found.number(at, &name, *beta, "from 0 to below 1", |beta| (0.0..1.0).contains(&beta));
    }
    given.eps.inspect(|eps| found.positive(at, "eps", *eps));
    given.sigma_x0.inspect(|sigma| found.not_negative(at, "sigma_x0", *sigma));
}

fn check_times(found: &mut Found, at: &str, times: Times, steps: u32) {
    let Times::Uniform(uniform) = times else {
        check_diffusion_steps(found, at, steps);
        return;
    };
    check_steps(found, at, steps);
    let UniformTimes { min, max } = uniform;
    let at = join(at, "times.uniform");
    let inside = |t: f64| 0.0 < t && t < 1.0;
    found.number(&at, "min", min, "between 0 and 1, both excluded", inside);
    max.inspect(|max| found.number(&at, "max", *max, "between 0 and 1, both excluded", inside));
    let last = uniform.last(steps.max(1));
    found.require(last >= min, &at, &format!("the last time {last} lies before the first, {min}"));
}
