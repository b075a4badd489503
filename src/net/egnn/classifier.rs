//! Property classifiers: invariant EGNNs (arXiv 2102.09844) that read a property of QM9 from a molecule.

use std::sync::Arc;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::buffers::{Workspace, carve, carve_mut, edges, room};
use super::config::{EgnnConfigError, sizes};
use super::edge::{Call, Gradients};
use super::geometry;
use super::linear::{Linear, Write};
use super::message::Messages;
use super::{build, network};
use crate::flow::{Cond, FieldError, ReadOut};
use crate::molecule::{ELEMENTS, Molecule, Representation, SPACE};
use crate::net::NetError;
use crate::net::kernel::{InstructionSet, Team, silu_forward, silu_pull_back};
use crate::net::pool::{Pool, each};
use crate::net::weights::Weights;
use crate::spec::property::Property;

/// Configuration of a property classifier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassifierConfig {
    /// The property that it predicts.
    pub property: Property,
    /// Unit of `mean`, `mad` and predictions: the property's own, which is taken where this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Channels of an atom, 1 to 1024.
    #[schemars(range(min = 1, max = 1024))]
    pub nf: usize,
    /// Message layers.
    pub n_layers: usize,
    /// Whether messages are gated by σ of a linear map of them.
    #[serde(default = "yes")]
    pub attention: bool,
    /// Added to the network's number times `mad`.
    pub mean: f64,
    /// What the network's number is multiplied with; above 0. In training, the mean absolute deviation of the labels.
    pub mad: f64,
    /// Whether it is a small stand-in for the public classifier: tables say so.
    #[serde(default)]
    pub small: bool,
    /// How good it is on molecules that it was not trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<Reported>,
}

/// A figure that a classifier's file states.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reported {
    /// Molecules.
    pub molecules: usize,
    /// Mean absolute error over them, in the property's unit.
    pub mae: f64,
}

const fn yes() -> bool {
    true
}

/// A configuration that no classifier can be built from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClassifierConfigError {
    /// A size is out of its range.
    #[error(transparent)]
    Size(#[from] EgnnConfigError),
    /// `mean` or `mad` scales nothing.
    #[error("classifier: {name} must be {wanted}, got {got}")]
    Scale {
        /// The field.
        name: &'static str,
        /// Its range.
        wanted: &'static str,
        /// As given.
        got: String,
    },
    /// Another unit than the property's.
    #[error(
        "classifier: {property} is in {wanted} here, not in {got}: convert mean and mad, and write `unit: {wanted}`"
    )]
    Unit {
        /// The property.
        property: Property,
        /// Its unit.
        wanted: &'static str,
        /// As given.
        got: String,
    },
}

impl ClassifierConfig {
    /// Checks that a classifier can be built.
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub fn check(&self) -> Result<(), ClassifierConfigError> {
        sizes(self.nf, self.n_layers)?;
        let scale =
            |name, wanted, got: f64| Err(ClassifierConfigError::Scale { name, wanted, got: got.to_string() });
        if !self.mean.is_finite() {
            return scale("mean", "finite", self.mean);
        }
        if !self.mad.is_finite() || self.mad <= 0.0 {
            return scale("mad", "finite and above 0", self.mad);
        }
        let wanted = self.property.unit();
        match &self.unit {
            Some(got) if got.replace("^3", "³") != wanted => {
                Err(ClassifierConfigError::Unit { property: self.property, wanted, got: got.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// The network of a classifier, as a map of one molecule's atoms to a number.
#[derive(Debug)]
pub(super) struct ClassifierNet {
    pub set: InstructionSet,
    /// Channels, padded to whole vectors.
    pub width: usize,
    pub embedding: Linear,
    pub layers: Vec<Messages>,
    /// `node_dec`, before the sum over atoms.
    pub node: [Linear; 2],
    /// `graph_dec`, after it.
    pub graph: [Linear; 2],
}

impl ClassifierNet {
    /// Parts of the tape after the layers': pre-activations of `node_dec` and `graph_dec`.
    const fn parts(&self, atoms: usize) -> [usize; 2] {
        [atoms * self.width, self.width]
    }

    /// Numbers that the tape of `atoms` atoms takes.
    fn tape_len(&self, atoms: usize) -> usize {
        room(&self.parts(atoms)) + self.layers.iter().map(|layer| layer.tape_len(atoms)).sum::<usize>()
    }

    /// Buffers for up to `atoms` atoms, with a tape.
    fn workspace(&self, atoms: usize) -> Workspace {
        Workspace::new(atoms, self.width, ELEMENTS, self.tape_len(atoms))
    }

    /// The number of the molecule whose positions and elements are in the workspace; leaves its tape there.
    fn forward(&self, n: usize, workspace: &mut Workspace, team: Team) -> f32 {
        let Workspace { h, distances: [d, _], node, x, ops, tape, .. } = workspace;
        let h = &mut h[..n * self.width];
        self.embedding.forward(&node[..n * ELEMENTS], h, Write::Over, team);
        geometry::distances(&x[..SPACE * n], d);
        let d = &d[..edges(n)];
        let call = Call { atoms: n, distances: [d, d], team };
        let mut rest = &mut tape[..self.tape_len(n)];
        for layer in &self.layers {
            let (part, after) = rest.split_at_mut(layer.tape_len(n));
            rest = after;
            layer.forward(call, ops, h, part);
        }
        let [node_z, graph_z] = carve_mut(rest, self.parts(n));
        let hidden = &mut ops.hidden[..n * self.width];
        self.node[0].forward(h, node_z, Write::Over, team);
        silu_forward(self.set, node_z, hidden);
        self.node[1].forward(hidden, h, Write::Over, team);
        let (sum, others) = h.split_at_mut(self.width);
        for row in others.chunks_exact(self.width) {
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        self.graph[0].forward(sum, graph_z, Write::Over, team);
        silu_forward(self.set, graph_z, sum);
        let mut out = [0.0];
        self.graph[1].forward(sum, &mut out, Write::Over, team);
        out[0]
    }

    /// Replaces elements and positions in the workspace, whose tape [`Self::forward`] has left, by the pull-back of a
    /// cotangent to them.
    fn pull_back(&self, n: usize, cotangent: f32, workspace: &mut Workspace, team: Team) {
        let Workspace { h, distances: [d, _], to_distances: [to_d, unused], node, x, ops, tape, .. } =
            workspace;
        let (layers, ends) = tape[..self.tape_len(n)].split_at(self.tape_len(n) - room(&self.parts(n)));
        let [node_z, graph_z] = carve(ends, self.parts(n));
        let h = &mut h[..n * self.width];
        let hidden = &mut ops.hidden[..n * self.width];
        let (first, others) = h.split_at_mut(self.width);
        let scratch = &mut hidden[..self.width];
        self.graph[1].pull_back(&[cotangent], scratch, Write::Over, team);
        silu_pull_back(self.set, graph_z, scratch);
        self.graph[0].pull_back(scratch, first, Write::Over, team);
        others.chunks_exact_mut(self.width).for_each(|row| row.copy_from_slice(first));
        self.node[1].pull_back(h, hidden, Write::Over, team);
        silu_pull_back(self.set, node_z, hidden);
        self.node[0].pull_back(hidden, h, Write::Over, team);
        let (d, to_d, unused) = (&d[..edges(n)], &mut to_d[..edges(n)], &mut unused[..edges(n)]);
        to_d.fill(0.0);
        unused.fill(0.0);
        let call = Call { atoms: n, distances: [d, d], team };
        let mut rest = layers;
        for layer in self.layers.iter().rev() {
            let (before, part) = rest.split_at(rest.len() - layer.tape_len(n));
            rest = before;
            layer.pull_back(call, ops, part, Gradients { h, distances: [to_d, unused] });
        }
        self.embedding.pull_back(h, &mut node[..n * ELEMENTS], Write::Over, team);
        // The positions are needed for their own gradient.
        let positions = x[..SPACE * n].to_vec();
        x[..SPACE * n].fill(0.0);
        geometry::pull_back_distances(&positions, to_d, &mut x[..SPACE * n]);
    }
}

/// A property classifier with packed weights; clones share them.
#[derive(Debug, Clone)]
pub struct Classifier {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ClassifierConfig,
    net: ClassifierNet,
    workspaces: Pool<Workspace>,
}

impl Classifier {
    /// A classifier, for the instruction set of this process.
    ///
    /// # Errors
    /// A configuration out of range, weights of another network, an unknown `DFLOW_CPU`.
    pub fn new(config: &ClassifierConfig, weights: &Weights) -> Result<Self, NetError> {
        Self::on(InstructionSet::detect()?, config, weights)
    }

    /// A classifier, for an instruction set of choice (in tests: every one).
    ///
    /// # Panics
    /// When this CPU has not got it: the kernels must never run there.
    pub(crate) fn on(
        set: InstructionSet,
        config: &ClassifierConfig,
        weights: &Weights,
    ) -> Result<Self, NetError> {
        assert!(set.is_supported(), "this CPU has no {}", set.name());
        let net = build::classifier(set, config, weights)?;
        let inner = Inner { config: config.clone(), net, workspaces: Pool::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Its configuration.
    pub fn config(&self) -> &ClassifierConfig {
        &self.inner.config
    }

    /// The property of a molecule, in the property's unit: `mad · network + mean`. NaN for one without atoms.
    pub fn predict(&self, molecule: &Molecule) -> f32 {
        let n = molecule.len();
        if n == 0 {
            return f32::NAN;
        }
        let mut network = 0.0;
        self.inner.with(n, |workspace| {
            let (node, x) = (&mut workspace.node, &mut workspace.x);
            node[..n * ELEMENTS].fill(0.0);
            for (row, element) in node.chunks_exact_mut(ELEMENTS).zip(&molecule.elements) {
                row[element.index()] = 1.0;
            }
            for (row, position) in x.chunks_exact_mut(SPACE).zip(&molecule.positions) {
                row.copy_from_slice(position);
            }
            network = self.inner.net.forward(n, workspace, Team::SOLO);
        });
        self.inner.denormalised(network)
    }

    /// [`Self::predict`] of each, on all threads of the current rayon pool.
    pub fn predict_all(&self, molecules: &[Molecule]) -> Vec<f32> {
        molecules.par_iter().map(|molecule| self.predict(molecule)).collect()
    }

    /// The classifier as a map of states.
    pub fn read_out(&self, representation: Representation) -> ClassifierReadOut {
        ClassifierReadOut { classifier: self.clone(), representation }
    }
}

impl Inner {
    fn denormalised(&self, network: f32) -> f32 {
        (self.config.mad * f64::from(network) + self.config.mean) as f32
    }

    /// Runs `body` with room for `n` atoms.
    fn with(&self, n: usize, body: impl FnOnce(&mut Workspace)) {
        let new = || self.net.workspace(n.max(Representation::QM9.max_atoms));
        let mut workspace = self.workspaces.take(new);
        if workspace.atoms() < n {
            workspace = new();
        }
        body(&mut workspace);
        self.workspaces.give([workspace]);
    }
}

/// A classifier of states: F(x, h) with positions and one-hot block as they are in the state, times their factors.
///
/// The one-hot block is continuous (it is rounded nowhere), so that there is a gradient to it; the charge column has none.
/// The number is `mad · network + mean`, in the property's unit.
#[derive(Debug, Clone)]
pub struct ClassifierReadOut {
    classifier: Classifier,
    representation: Representation,
}

impl ClassifierReadOut {
    /// The classifier that reads.
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// The atoms of every row of a call with `x` numbers of states and `outputs` outputs.
    fn check(&self, x: usize, cond: &[Cond], outputs: usize) -> Result<Vec<usize>, FieldError> {
        let rows = cond.len();
        if x != rows * self.dim() || outputs != rows {
            return Err(FieldError::Other(format!(
                "classifier call with {rows} conditions, {x} numbers in and {outputs} out; wanted {} in and 1 out per row",
                self.dim()
            )));
        }
        cond.iter().map(|cond| network::atoms(*cond, self.representation.max_atoms)).collect()
    }

    /// The network's number for one state; leaves its tape in the workspace.
    fn forward(&self, n: usize, state: &[f32], workspace: &mut Workspace, team: Team) -> f32 {
        let [space, one_hot, _] = self.representation.factors.map(|factor| factor as f32);
        let rows = state.chunks_exact(self.representation.columns()).take(n);
        let targets = workspace.node.chunks_exact_mut(ELEMENTS).zip(workspace.x.chunks_exact_mut(SPACE));
        for (row, (node, x)) in rows.zip(targets) {
            (0..SPACE).for_each(|k| x[k] = space * row[k]);
            (0..ELEMENTS).for_each(|k| node[k] = one_hot * row[SPACE + k]);
        }
        self.classifier.inner.net.forward(n, workspace, team)
    }
}

impl ReadOut for ClassifierReadOut {
    fn dim(&self) -> usize {
        self.representation.dim()
    }

    fn outputs(&self) -> usize {
        1
    }

    fn read(&mut self, x: &[f32], cond: &[Cond], out: &mut [f32]) -> Result<(), FieldError> {
        let atoms = self.check(x.len(), cond, out.len())?;
        let inner = &*self.classifier.inner;
        let work = atoms.iter().zip(x.chunks_exact(self.dim())).zip(out).collect();
        each(work, |((&n, state), out), team| {
            inner.with(n, |workspace| {
                *out = inner.denormalised(self.forward(n, state, workspace, team));
            });
        });
        Ok(())
    }

    fn vjp(
        &mut self,
        x: &[f32],
        cond: &[Cond],
        cotangent: &[f32],
        out: &mut [f32],
    ) -> Result<(), FieldError> {
        let atoms = self.check(x.len(), cond, cotangent.len())?;
        if out.len() != x.len() {
            return Err(FieldError::Other(format!(
                "pull-back of a classifier to {} numbers of {} in",
                out.len(),
                x.len()
            )));
        }
        let inner = &*self.classifier.inner;
        let [space, one_hot, _] = self.representation.factors.map(|factor| factor as f32);
        let work = (atoms.iter().zip(x.chunks_exact(self.dim())))
            .zip(cotangent.iter().zip(out.chunks_exact_mut(self.dim())))
            .collect();
        each(work, |((&n, state), (cotangent, out)), team| {
            inner.with(n, |workspace| {
                self.forward(n, state, workspace, team);
                let cotangent = (inner.config.mad * f64::from(*cotangent)) as f32;
                inner.net.pull_back(n, cotangent, workspace, team);
                out.fill(0.0);
                let rows = out.chunks_exact_mut(self.representation.columns()).take(n);
                let sources = workspace.node.chunks_exact(ELEMENTS).zip(workspace.x.chunks_exact(SPACE));
                for (row, (node, x)) in rows.zip(sources) {
                    (0..SPACE).for_each(|k| row[k] = space * x[k]);
                    (0..ELEMENTS).for_each(|k| row[SPACE + k] = one_hot * node[k]);
                }
            });
        });
        Ok(())
    }
}
