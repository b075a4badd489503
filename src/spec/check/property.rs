//! Property tasks: what D-Flow can do on them, and what only they can have.

use super::Found;
use crate::spec::init::InitSpec;
use crate::spec::method::{
    DflowSpec, InitialHessian, LossSpace, LossSpec, LpSpec, NormalizeSpec, OptimizerSpec, RegularizerSpec,
    StopTests,
};
use crate::spec::parse::join;
use crate::spec::pipeline::TaskSpec;
use crate::spec::property::PropertySpec;
use crate::spec::stop::StopRule;

pub(super) fn check(found: &mut Found, at: &str, spec: &PropertySpec) {
    found.require(
        !spec.classifier.trim().is_empty(),
        &join(at, "classifier"),
        "the property needs a classifier, such as small-alpha",
    );
    if let Some(value) = spec.value {
        found.number(at, "value", value, "in the property's unit", |_| true);
    }
}

/// Where a field of the options in force on a task stands.
fn place(at: &str, task: &TaskSpec, is_own: bool, field: &str) -> String {
    if is_own { format!("{at}.per_task.{}.{field}", task.name) } else { join(at, field) }
}

/// D-Flow on a property task: there is no image to compare, to invert, or whose noise is known.
pub(super) fn check_dflow(found: &mut Found, at: &str, spec: &DflowSpec, task: &TaskSpec) {
    let other = spec.per_task.get(&task.name);
    let resolved = spec.for_task(&task.name);
    let name = &task.name;
    let compares_values = matches!(
        resolved.loss,
        LossSpec::SquaredError(LossSpace::Measurement)
            | LossSpec::Lp(LpSpec { space: LossSpace::Measurement, .. })
    );
    if !compares_values {
        let path = place(at, task, other.is_some_and(|o| o.loss.is_some()), "loss");
        found.value(
            &path,
            format!(
                "`{name}` compares a property with its target: write loss: {{squared_error: measurement}}"
            ),
        );
    }
    if let InitSpec::Blend(_) = resolved.init {
        let path = place(at, task, other.is_some_and(|o| o.init.is_some()), "init");
        found.value(&path, format!("`{name}` has no measurement that could be inverted: write init: source"));
    }
    if let RegularizerSpec::Nll(_) = resolved.regularizer {
        let path = place(at, task, other.is_some_and(|o| o.regularizer.is_some()), "regularizer.nll");
        found.value(&path, format!("the likelihood penalty is for images, `{name}` makes molecules"));
    }
    let OptimizerSpec::Lbfgs(lbfgs) = resolved.optimizer;
    if let Some(InitialHessian::Bands(_)) = lbfgs.initial {
        let path = place(at, task, other.is_some_and(|o| o.optimizer.is_some()), "optimizer.lbfgs.initial");
        found.value(
            &path,
            format!("bands of frequency are of images, `{name}` makes molecules: leave `initial` out"),
        );
    }
    if let (Some(StopTests::Evaluation), NormalizeSpec::PerFeature(_)) =
        (resolved.stop_tests, resolved.normalize)
    {
        found.value(
            &place(at, task, other.is_some_and(|o| o.stop_tests.is_some()), "stop_tests"),
            "x₀ is normalised between outer steps: with normalize: per_feature a solve can end there only; leave \
             stop_tests out"
                .to_owned(),
        );
    }
    let at = place(at, task, other.is_some_and(|o| o.stop.is_some()), "stop");
    for (i, rule) in resolved.stop.iter().enumerate() {
        let kind = match rule {
            StopRule::TargetPsnr(_) => "target_psnr",
            StopRule::NoiseLevel(_) => "noise_level",
            StopRule::Stagnation(_) => "stagnation",
            StopRule::Evals(_) | StopRule::OuterSteps(_) | StopRule::TimeLimit(_) => continue,
        };
        found.value(
            &format!("{at}[{i}].{kind}"),
            format!("{kind} is for images; `{name}` can end by outer_steps, evals or time_limit"),
        );
    }
}

/// D-Flow on an image: it has no atoms to normalise over.
pub(super) fn check_images(found: &mut Found, at: &str, spec: &DflowSpec, task: &TaskSpec) {
    if let NormalizeSpec::PerFeature(_) = spec.normalize {
        let message =
            format!("normalize: per_feature is over the atoms of a molecule; `{}` has none", task.name);
        found.value(&join(at, "normalize"), message);
    }
}
