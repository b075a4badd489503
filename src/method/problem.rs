//! What a method is given: the degraded measurement of one sample, its options, and its random draws.

use super::loss;
use super::{Answer, Ask};
use crate::operator::{Operator, OperatorError};
use crate::random::{Purpose, Stream};
use crate::spec::init::InitSpec;
use crate::spec::method::{MethodSpec, RegularizerSpec};

/// The inverse problem of one sample: recover x from y = H x + σ_y n.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The method with its options for this task ([`MethodSpec::for_task`]).
    pub method: MethodSpec,
    /// H.
    pub operator: Operator,
    /// y: the observed entries.
    pub measurement: Vec<f32>,
    /// σ_y on the scale of the images, [−1, 1].
    pub sigma: f64,
    /// Random numbers and given start.
    pub draws: Draws,
    /// What the data term compares with: y or H†y.
    target: Vec<f32>,
}

/// Everything random that a method uses, drawn before it starts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Draws {
    /// z ~ N(0, I) of the initial source point: `dim` numbers.
    pub z: Vec<f32>,
    /// Signs ±1 of the likelihood penalty's probes, `dim` each.
    pub probes: Vec<Vec<f32>>,
    /// The start that `init: { given: … }` names: `dim` numbers.
    pub given: Option<Vec<f32>>,
}

impl Draws {
    /// What `method` needs for a state of `dim` numbers; `stream` gives the sample's stream of a purpose.
    pub fn for_method(method: &MethodSpec, dim: usize, stream: impl Fn(Purpose) -> Stream) -> Self {
        let MethodSpec::Dflow(spec) = method else {
            return Self::default();
        };
        let z = match spec.init {
            InitSpec::Blend(_) | InitSpec::Source => stream(Purpose::Init).normals(dim),
            InitSpec::Given(_) => Vec::new(),
        };
        let probes = match spec.regularizer {
            RegularizerSpec::Nll(nll) => {
                let mut signs = stream(Purpose::NllProbe);
                (0..nll.probes).map(|_| (0..dim).map(|_| signs.rademacher() as f32).collect()).collect()
            }
            _ => Vec::new(),
        };
        Self { z, probes, given: None }
    }
}

impl Problem {
    /// A problem; the lengths are checked when the method starts.
    ///
    /// # Panics
    /// If `measurement` does not have the operator's number of observed entries.
    pub fn new(
        method: MethodSpec,
        operator: Operator,
        measurement: Vec<f32>,
        sigma: f64,
        draws: Draws,
    ) -> Self {
        assert_eq!(measurement.len(), operator.measurement_dim(), "numbers in the measurement");
        let target = match &method {
            MethodSpec::Dflow(spec) => loss::target(&spec.loss, &operator, &measurement),
            MethodSpec::Pinv(_) => Vec::new(),
        };
        Self { method, operator, measurement, sigma, draws, target }
    }

    /// Numbers in one state.
    pub fn dim(&self) -> usize {
        self.operator.shape().dim()
    }

    pub(super) fn target(&self) -> &[f32] {
        &self.target
    }

    /// `values`, if there are `dim` of them.
    pub(super) fn checked(&self, what: &'static str, values: Vec<f32>) -> Result<Vec<f32>, MethodError> {
        if values.len() == self.dim() {
            return Ok(values);
        }
        Err(MethodError::Length { what, expected: self.dim(), found: values.len() })
    }
}

/// Why a solve cannot go on. The sample becomes a failed row.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MethodError {
    /// A vector does not fit the images.
    #[error(
        "{what} has {found} numbers, the images have {expected}: model, dataset or start do not fit together"
    )]
    Length {
        /// Which vector.
        what: &'static str,
        /// Numbers in an image.
        expected: usize,
        /// Numbers in the vector.
        found: usize,
    },
    /// The measurement cannot be lifted as the options ask.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// `init: { given: … }` without a start for this sample.
    #[error("init.given: the file holds no start for this sample; add a tensor named by its id")]
    NoStart,
    /// Loss or gradient at the first point is NaN or infinite.
    #[error(
        "the loss or its gradient is not finite at the first source point (loss {loss}): check the weights and the \
         measurement"
    )]
    NonFinite {
        /// The loss there.
        loss: f64,
    },
    /// The likelihood penalty with an adaptive solver.
    #[error("regularizer.nll needs a solver with fixed steps; use midpoint, heun, rk4 or euler")]
    AdaptiveLikelihood,
    /// The solver cannot be used.
    #[error("{0}")]
    Solver(String),
    /// The worker's answer does not belong to what was asked.
    #[error("internal error: a method was told {told} while it waited for {awaited}; please report this")]
    UnexpectedAnswer {
        /// Kind of the answer.
        told: &'static str,
        /// What it waited for.
        awaited: &'static str,
    },
    /// A stored solve goes on with another method's problem.
    #[error("internal error: a stored solve belongs to another method; please report this")]
    OtherMethod,
}

impl MethodError {
    pub(super) fn unexpected(answer: &Answer, awaited: &'static str) -> Self {
        let told = match answer {
            Answer::Start => "to start",
            Answer::State(_) => "a state",
            Answer::Gradient(_) => "a gradient",
        };
        Self::UnexpectedAnswer { told, awaited }
    }
}

/// What follows from an answer.
pub(super) type Next = Result<Ask, MethodError>;
