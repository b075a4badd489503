//! What a pending ask asks for.

use super::StoredSolve;
use crate::flow::Grid;
use crate::method::Ask;

/// Kinds of evaluation that can share a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// A solve; whether its end will be pulled back, so that a tape is worth its memory.
    Solve(Grid, bool),
    /// A pull-back whose tape is gone (after a restart or an out-of-memory): the forward solve is repeated.
    PullBack(Grid),
    /// A velocity; whether its pull-back follows, so that a tape is worth its memory.
    Velocity(bool),
    /// A pull-back at a point whose tape is not there.
    Vjp,
    Noise,
    ReadOut,
    ReadOutVjp,
}

impl Kind {
    /// What an ask asks for; `None`: nothing, or what cannot be answered.
    pub(super) fn of(state: &StoredSolve) -> Option<Self> {
        match (&state.ask, &state.last) {
            (Ask::Solve { grid, .. }, _) => Some(Self::Solve(*grid, state.solve.is_differentiated())),
            (Ask::PullBack { .. }, Some((_, grid))) => Some(Self::PullBack(*grid)),
            (Ask::Velocity { keep, .. }, _) => Some(Self::Velocity(*keep)),
            (Ask::Vjp { .. }, _) => Some(Self::Vjp),
            (Ask::Noise { .. }, _) => Some(Self::Noise),
            (Ask::ReadOut { .. }, _) => Some(Self::ReadOut),
            (Ask::ReadOutVjp { .. }, _) => Some(Self::ReadOutVjp),
            (Ask::PullBack { .. }, None) | (Ask::Done, _) => None,
        }
    }

    /// Whether it is asked of a read-out rather than of a field.
    pub(super) const fn is_of_reader(self) -> bool {
        matches!(self, Self::ReadOut | Self::ReadOutVjp)
    }
}
