//! An EGNN on the CPU: batches of molecules.

use std::sync::Arc;

use super::buffers::Workspace;
use super::build;
use super::config::EgnnConfig;
use super::dynamics::{Dynamics, Sample};
use crate::flow::{Cond, FieldError, RawNetwork, Rows, Tape};
use crate::net::NetError;
use crate::net::kernel::{Aligned, InstructionSet};
use crate::net::pool::{Pool, each};
use crate::net::weights::Weights;

/// The EGNN dynamics of EDM with packed weights; clones share them and the pool of buffers.
///
/// A state is that of [`EgnnConfig::representation`]: `max_atoms` rows of position and features, and every call needs
/// [`Cond::Atoms`] for each of its rows. Only real atoms are read; the rows after them are zero in outputs and
/// pull-backs. Positions of the output have zero mean over the atoms (to rounding). Rows are computed one by one, on the
/// current rayon pool: results do not depend on its size, the batch or the order.
///
/// Unlike the public code, which replaces an output that holds NaN by zeros, numbers that are not finite are passed on.
#[derive(Debug, Clone)]
pub struct EgnnNetwork {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dynamics: Dynamics,
    dim: usize,
    max_atoms: usize,
    workspaces: Pool<Workspace>,
    tapes: Pool<Aligned>,
    /// Boxed, as a tape is: no call allocates it anew.
    batches: Pool<Box<Batch>>,
}

/// What one call uses and, where it is taped, keeps for its pull-back; used again by later calls.
#[derive(Debug, Default)]
struct Batch {
    atoms: Vec<usize>,
    /// A tape per row; none where nothing is kept.
    tapes: Vec<Aligned>,
}

impl EgnnNetwork {
    /// An EGNN, for the instruction set of this process.
    ///
    /// # Errors
    /// A configuration out of range, weights of another network, an unknown `DFLOW_CPU`.
    pub fn new(config: &EgnnConfig, weights: &Weights) -> Result<Self, NetError> {
        Self::on(InstructionSet::detect()?, config, weights)
    }

    /// An EGNN, for an instruction set of choice (in tests: every one).
    ///
    /// # Panics
    /// When this CPU has not got it: the kernels must never run there.
    pub(crate) fn on(set: InstructionSet, config: &EgnnConfig, weights: &Weights) -> Result<Self, NetError> {
        assert!(set.is_supported(), "this CPU has no {}", set.name());
        let inner = Inner {
            dynamics: build::dynamics(set, config, weights)?,
            dim: config.representation().dim(),
            max_atoms: config.max_atoms,
            workspaces: Pool::default(),
            tapes: Pool::default(),
            batches: Pool::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Bytes of the tape of a molecule of `atoms` atoms.
    pub fn tape_bytes(&self, atoms: usize) -> usize {
        self.inner.dynamics.tape_len(atoms) * size_of::<f32>()
    }

    /// Evaluates rows; fills the tapes of the batch if asked for.
    fn evaluate(&self, rows: Rows<'_, f32>, out: &mut [f32], taped: bool) -> Result<Box<Batch>, FieldError> {
        let inner = &*self.inner;
        let mut batch = inner.batches.take(Box::default);
        let Batch { atoms, tapes } = &mut *batch;
        inner.check(&rows, out.len(), atoms)?;
        tapes.extend(atoms.iter().take(if taped { atoms.len() } else { 0 }).map(|n| inner.tape(*n)));
        let each_tape = tapes.iter_mut().map(Some).chain(std::iter::repeat_with(|| None));
        let samples = atoms.iter().zip(rows.t).map(|(&atoms, &t)| Sample { atoms, t });
        let work = (samples.zip(rows.x.chunks_exact(inner.dim)))
            .zip(out.chunks_exact_mut(inner.dim))
            .zip(each_tape)
            .collect();
        each(work, |(((sample, x), out), tape), team| {
            let tape = tape.map(|tape| &mut tape[..inner.dynamics.tape_len(sample.atoms)]);
            inner.workspaces.with(
                || inner.dynamics.workspace(inner.max_atoms),
                |workspace| inner.dynamics.forward(sample, x, workspace, tape, out, team),
            );
        });
        Ok(batch)
    }
}

impl Inner {
    /// Writes the atoms of every row of a call that writes `out` numbers.
    fn check(&self, rows: &Rows<'_, f32>, out: usize, counts: &mut Vec<usize>) -> Result<(), FieldError> {
        let n = rows.len();
        if rows.x.len() != n * self.dim || rows.cond.len() != n || out != n * self.dim {
            return Err(FieldError::Other(format!(
                "network call with {n} times, {} conditions, {} numbers in and {out} out; wanted {} in and out per row",
                rows.cond.len(),
                rows.x.len(),
                self.dim,
            )));
        }
        counts.clear();
        for cond in rows.cond {
            counts.push(atoms(*cond, self.max_atoms)?);
        }
        Ok(())
    }

    /// A tape with room for `atoms`.
    fn tape(&self, atoms: usize) -> Aligned {
        let wanted = self.dynamics.tape_len(atoms);
        let mut tape = self.tapes.take(Aligned::default);
        if tape.len() < wanted {
            tape.resize(wanted);
        }
        tape
    }

    /// Keeps the buffers of a call for later ones.
    fn give_back(&self, mut batch: Box<Batch>) {
        self.tapes.give(batch.tapes.drain(..));
        self.batches.give([batch]);
    }
}

/// The number of atoms that a condition names, 1 to `most`.
pub(super) fn atoms(cond: Cond, most: usize) -> Result<usize, FieldError> {
    let wrong = |what: String| Err(FieldError::Other(what));
    match cond {
        Cond::Atoms(0) => wrong("a molecule of 0 atoms: at least one is needed".to_owned()),
        Cond::Atoms(n) if n as usize > most => {
            wrong(format!("a molecule of {n} atoms: states of this model have room for {most}"))
        }
        Cond::Atoms(n) => Ok(n as usize),
        Cond::None => {
            wrong("a network of molecules needs the number of atoms of every row, and got none".to_owned())
        }
        Cond::Class(label) => wrong(format!(
            "label {label} given to a network of molecules: it needs the number of atoms of every row"
        )),
    }
}

impl RawNetwork<f32> for EgnnNetwork {
    fn dim(&self) -> usize {
        self.inner.dim
    }

    fn forward(&mut self, rows: Rows<'_, f32>, out: &mut [f32]) -> Result<(), FieldError> {
        let batch = self.evaluate(rows, out, false)?;
        self.inner.give_back(batch);
        Ok(())
    }

    fn forward_taped(&mut self, rows: Rows<'_, f32>, out: &mut [f32]) -> Result<Tape, FieldError> {
        Ok(self.evaluate(rows, out, true)?)
    }

    fn pull_back(&mut self, tape: Tape, cotangent: &[f32], out: &mut [f32]) -> Result<(), FieldError> {
        let inner = &*self.inner;
        let batch = tape
            .downcast::<Batch>()
            .map_err(|_| FieldError::Other("the tape belongs to another field".to_owned()))?;
        let rows = batch.tapes.len();
        if cotangent.len() != rows * inner.dim || out.len() != rows * inner.dim {
            return Err(FieldError::Other(format!(
                "pull-back of {} numbers to {} for a tape of {rows} rows of {}",
                cotangent.len(),
                out.len(),
                inner.dim
            )));
        }
        let work = (batch.atoms.iter().zip(&batch.tapes))
            .zip(cotangent.chunks_exact(inner.dim))
            .zip(out.chunks_exact_mut(inner.dim))
            .collect();
        each(work, |(((&atoms, tape), cotangent), out), team| {
            let tape = &tape[..inner.dynamics.tape_len(atoms)];
            inner.workspaces.with(
                || inner.dynamics.workspace(inner.max_atoms),
                |workspace| inner.dynamics.pull_back(atoms, cotangent, workspace, tape, out, team),
            );
        });
        inner.give_back(batch);
        Ok(())
    }

    fn extent(&self, cond: &Cond) -> usize {
        match cond {
            Cond::Atoms(n) => self.inner.dim.min(*n as usize * self.inner.dynamics.columns()),
            Cond::None | Cond::Class(_) => self.inner.dim,
        }
    }

    /// That of a molecule of `max_atoms` atoms: an upper bound. A molecule of n atoms takes about (n / max_atoms)² of it.
    fn tape_bytes_per_row(&self) -> usize {
        self.tape_bytes(self.inner.max_atoms)
    }
}
