//! The residual MLP of atoms: h_i += MLP([h_i, sum of messages to i]).

use super::linear::{Linear, Write};
use crate::net::kernel::{InstructionSet, Team, silu_forward, silu_pull_back};

/// The residual MLP of atoms. Its first layer is split by its two inputs.
#[derive(Debug)]
pub(super) struct NodeMlp {
    pub set: InstructionSet,
    /// From h; it has the bias.
    pub from_h: Linear,
    /// From the sums of messages.
    pub from_sums: Linear,
    pub second: Linear,
}

impl NodeMlp {
    /// Updates `h`; `z` is kept for the pull-back, `hidden` is scratch. All are rows of channels.
    pub(super) fn forward(&self, h: &mut [f32], sums: &[f32], z: &mut [f32], hidden: &mut [f32], team: Team) {
        self.from_h.forward(h, z, Write::Over, team);
        self.from_sums.forward(sums, z, Write::Onto, team);
        silu_forward(self.set, z, hidden);
        self.second.forward(hidden, h, Write::Onto, team);
    }

    /// Adds the pull-back to h to `to_h`, which holds the cotangent of the updated h, and writes that to the sums.
    pub(super) fn pull_back(
        &self,
        to_h: &mut [f32],
        to_sums: &mut [f32],
        z: &[f32],
        hidden: &mut [f32],
        team: Team,
    ) {
        self.second.pull_back(to_h, hidden, Write::Over, team);
        silu_pull_back(self.set, z, hidden);
        self.from_h.pull_back(hidden, to_h, Write::Onto, team);
        self.from_sums.pull_back(hidden, to_sums, Write::Over, team);
    }
}
