//! When a solve ends: the user's stop rules, and the ends that a method finds by itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::loss::Fit;
use crate::spec::stop::StopRule;

/// Why a solve ended. [`Self::name`] is the column `stop_reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StopReason {
    /// The observed PSNR reached its target.
    TargetPsnr,
    /// All evaluations were used.
    Evals,
    /// All outer steps were made.
    OuterSteps,
    /// The time was up. Where it strikes depends on machine and batch.
    TimeLimit,
    /// The residual is down to the noise.
    NoiseLevel,
    /// The observed PSNR no longer rises.
    Stagnation,
    /// The optimiser is at a minimum: no direction of descent is left.
    Converged,
    /// A line search found no lower point, and would find none again.
    LineSearchFailed,
    /// All steps of the method's own schedule were made.
    Steps,
    /// The method does not iterate.
    Direct,
}

impl StopReason {
    /// Every reason, for tables and documentation.
    pub const ALL: [Self; 10] = [
        Self::TargetPsnr,
        Self::Evals,
        Self::OuterSteps,
        Self::TimeLimit,
        Self::NoiseLevel,
        Self::Stagnation,
        Self::Converged,
        Self::LineSearchFailed,
        Self::Steps,
        Self::Direct,
    ];

    /// The stable name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TargetPsnr => "target_psnr",
            Self::Evals => "evals",
            Self::OuterSteps => "outer_steps",
            Self::TimeLimit => "time_limit",
            Self::NoiseLevel => "noise_level",
            Self::Stagnation => "stagnation",
            Self::Converged => "converged",
            Self::LineSearchFailed => "line_search_failed",
            Self::Steps => "steps",
            Self::Direct => "direct",
        }
    }

    /// Whether another run would end at the same evaluation.
    pub const fn is_reproducible(self) -> bool {
        !matches!(self, Self::TimeLimit)
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// When rules are tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// After an evaluation inside an outer step: only `evals` and `time_limit`.
    Evaluation,
    /// After an outer step, and at evaluations where the method tests them there: all rules.
    OuterStep,
}

/// What the rules look at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct State<'a> {
    /// Evaluations of loss and gradient so far.
    pub evals: u32,
    /// Outer steps so far.
    pub outer_steps: u32,
    /// Seconds in which the sample held a slot.
    pub seconds: f64,
    /// Fit of the last accepted point.
    pub fit: Fit,
    /// σ_y.
    pub sigma: f64,
    /// Observed PSNR at the start and after every outer step, in dB.
    pub psnr_history: &'a [f64],
}

/// The first rule that fires, in the order in which they were written.
pub fn fired(rules: &[StopRule], moment: Moment, state: &State<'_>) -> Option<StopReason> {
    rules.iter().find_map(|rule| {
        let (reason, at_every_evaluation, fires) = judge(rule, state);
        (fires && (at_every_evaluation || moment == Moment::OuterStep)).then_some(reason)
    })
}

fn judge(rule: &StopRule, state: &State<'_>) -> (StopReason, bool, bool) {
    match *rule {
        StopRule::TargetPsnr(target) => {
            (StopReason::TargetPsnr, false, state.fit.psnr.is_some_and(|psnr| psnr >= target))
        }
        StopRule::Evals(limit) => (StopReason::Evals, true, state.evals >= limit),
        StopRule::OuterSteps(limit) => (StopReason::OuterSteps, false, state.outer_steps >= limit),
        StopRule::TimeLimit(limit) => (StopReason::TimeLimit, true, state.seconds >= limit),
        StopRule::NoiseLevel(factor) => {
            (StopReason::NoiseLevel, false, state.fit.residual_rms <= factor * state.sigma)
        }
        StopRule::Stagnation(rule) => {
            let fires = stagnates(state.psnr_history, rule.outer as usize, rule.min_db);
            (StopReason::Stagnation, false, fires)
        }
    }
}

/// Whether the last `outer` outer steps gained less than `min_db`.
fn stagnates(history: &[f64], outer: usize, min_db: f64) -> bool {
    match (history.last(), history.len().checked_sub(outer + 1)) {
        (Some(now), Some(then)) => now - history[then] < min_db,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::stop::Stagnation;

    fn state(psnr_history: &[f64]) -> State<'_> {
        let fit = Fit { loss: -30.0, psnr: Some(30.0), residual_rms: 0.06 };
        State { evals: 10, outer_steps: 2, seconds: 5.0, fit, sigma: 0.05, psnr_history }
    }

    #[test]
    fn every_rule_fires_at_its_bound_and_not_before() {
        let history = [10.0, 29.0, 29.5, 30.0];
        let stagnation = |outer, min_db| StopRule::Stagnation(Stagnation { outer, min_db });
        for (rule, before, reason) in [
            (StopRule::TargetPsnr(30.0), StopRule::TargetPsnr(30.01), StopReason::TargetPsnr),
            (StopRule::Evals(10), StopRule::Evals(11), StopReason::Evals),
            (StopRule::OuterSteps(2), StopRule::OuterSteps(3), StopReason::OuterSteps),
            (StopRule::TimeLimit(5.0), StopRule::TimeLimit(5.1), StopReason::TimeLimit),
            (StopRule::NoiseLevel(1.3), StopRule::NoiseLevel(1.1), StopReason::NoiseLevel),
            (stagnation(2, 1.1), stagnation(2, 1.0), StopReason::Stagnation),
        ] {
            assert_eq!(fired(&[rule], Moment::OuterStep, &state(&history)), Some(reason));
            assert_eq!(fired(&[before], Moment::OuterStep, &state(&history)), None);
        }
    }

    #[test]
    fn only_evals_and_time_end_a_solve_inside_an_outer_step() {
        let rules = [StopRule::TargetPsnr(0.0), StopRule::OuterSteps(1), StopRule::NoiseLevel(9.0)];
        assert_eq!(fired(&rules, Moment::Evaluation, &state(&[])), None);
        for (rule, reason) in
            [(StopRule::Evals(1), StopReason::Evals), (StopRule::TimeLimit(1.0), StopReason::TimeLimit)]
        {
            assert_eq!(fired(&[rule], Moment::Evaluation, &state(&[])), Some(reason));
        }
    }

    #[test]
    fn the_first_rule_written_gives_the_reason() {
        let rules = [StopRule::TargetPsnr(20.0), StopRule::Evals(1)];
        assert_eq!(fired(&rules, Moment::OuterStep, &state(&[])), Some(StopReason::TargetPsnr));
    }

    #[test]
    fn stagnation_waits_for_enough_outer_steps() {
        assert!(!stagnates(&[], 1, 9.0));
        assert!(!stagnates(&[1.0, 1.0], 2, 9.0));
        assert!(stagnates(&[1.0, 1.0, 1.0], 2, 9.0));
    }

    #[test]
    fn a_fit_that_is_not_a_number_fires_no_quality_rule() {
        let fit = Fit { loss: f64::NAN, psnr: Some(f64::NAN), residual_rms: f64::NAN };
        let rules = [StopRule::TargetPsnr(0.0), StopRule::NoiseLevel(9.0)];
        assert_eq!(fired(&rules, Moment::OuterStep, &State { fit, ..state(&[]) }), None);
    }

    #[test]
    fn names_are_unique() {
        for (i, reason) in StopReason::ALL.iter().enumerate() {
            assert!(StopReason::ALL[..i].iter().all(|other| other.name() != reason.name()));
        }
    }
}
