//! A network on the CPU: batches of rows over a graph.

use std::sync::Arc;

use super::NetError;
use super::adm::{self, AdmConfig};
use super::embedding::{self, Embedding};
use super::graph::{Graph, SampleTape, Workspace};
use super::kernel::{Aligned, InstructionSet, Team};
use super::pool::{self, Pool};
use super::weights::Weights;
use crate::flow::{Cond, FieldError, RawNetwork, Rows, Tape};

/// An ADM network with packed weights; clones share them and the pool of buffers.
///
/// Called with the raw network time (multiplied by `time_embedding_scale` inside) and raw prediction: what the
/// prediction means is known to the path that wraps it. Of a `learn_sigma` network the variance channels are dropped.
/// Runs on the current rayon pool; results do not depend on its size.
#[derive(Debug, Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    graph: Graph,
    embedding: Embedding,
    time_scale: f64,
    dim: usize,
    outputs: usize,
    workspaces: Pool<Workspace>,
    tapes: Pool<SampleTape>,
    /// Boxed, as a tape is: no call allocates it anew.
    batches: Pool<Box<Batch>>,
}

/// What one call uses and, where it is taped, keeps for its pull-back; used again by later calls.
#[derive(Debug, Default)]
struct Batch {
    /// A tape per row; none where nothing is kept.
    samples: Vec<SampleTape>,
    times: Vec<f64>,
    classes: Vec<Option<usize>>,
    embedding: embedding::Buffers,
}

impl Network {
    /// An ADM UNet, for the instruction set of this process.
    pub fn adm(config: &AdmConfig, weights: &Weights) -> Result<Self, NetError> {
        Self::adm_on(InstructionSet::detect()?, config, weights)
    }

    /// An ADM UNet, for an instruction set of choice (in tests: every one).
    ///
    /// # Panics
    /// When this CPU has not got it: the kernels must never run there.
    pub(crate) fn adm_on(
        set: InstructionSet,
        config: &AdmConfig,
        weights: &Weights,
    ) -> Result<Self, NetError> {
        assert!(set.is_supported(), "this CPU has no {}", set.name());
        let (graph, embedding) = adm::build(set, config, weights)?;
        let pixels = config.image_size * config.image_size;
        let inner = Inner {
            graph,
            embedding,
            time_scale: config.time_embedding_scale,
            dim: config.in_channels * pixels,
            outputs: config.out_channels * pixels,
            workspaces: Pool::default(),
            tapes: Pool::default(),
            batches: Pool::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Classes; 0 for an unconditional network.
    pub fn classes(&self) -> usize {
        self.inner.embedding.classes()
    }

    /// Bytes of one sample's tape.
    pub fn tape_bytes(&self) -> usize {
        self.inner.graph.tape_bytes() + 4 * self.inner.embedding.len()
    }

    /// Bytes of the buffers that one thread uses besides tapes.
    pub fn workspace_bytes(&self) -> usize {
        self.inner.graph.workspace_bytes()
    }

    /// The graph, for another executor of it.
    pub(crate) fn graph(&self) -> &Graph {
        &self.inner.graph
    }

    /// Channels of the output that are used.
    pub(crate) fn outputs(&self) -> usize {
        self.inner.outputs / self.inner.graph.input().pixels()
    }

    /// Checks a call that writes `out` numbers; its conditioning and the numbers of one row's.
    pub(crate) fn conditioning(
        &self,
        rows: &Rows<'_, f32>,
        out: usize,
    ) -> Result<(Aligned, usize), FieldError> {
        let mut batch = Batch::default();
        self.inner.condition(rows, out, &mut batch)?;
        Ok((batch.embedding.conditioning, self.inner.embedding.len()))
    }

    /// Evaluates rows; fills the tapes of the batch if asked for.
    fn evaluate(&self, rows: Rows<'_, f32>, out: &mut [f32], taped: bool) -> Result<Box<Batch>, FieldError> {
        let inner = &*self.inner;
        let mut batch = inner.batches.take(Box::default);
        inner.condition(&rows, out.len(), &mut batch)?;
        let Batch { samples, embedding, .. } = &mut *batch;
        samples.extend((0..if taped { rows.len() } else { 0 }).map(|_| inner.tape()));
        let tapes = samples.iter_mut().map(Some).chain(std::iter::repeat_with(|| None));
        let work: Vec<_> = (rows.x.chunks_exact(inner.dim).zip(out.chunks_exact_mut(inner.outputs)))
            .zip(embedding.conditioning.chunks_exact(inner.embedding.len()))
            .zip(tapes)
            .collect();
        inner.each(work, |(((x, out), conditioning), tape), workspace, team| {
            inner.graph.forward(x, conditioning, workspace, tape, out, team);
        });
        Ok(batch)
    }
}

impl Inner {
    fn check(&self, rows: &Rows<'_, f32>, out: usize) -> Result<(), FieldError> {
        let n = rows.len();
        if rows.x.len() == n * self.dim && rows.cond.len() == n && out == n * self.outputs {
            return Ok(());
        }
        Err(FieldError::Other(format!(
            "network call with {n} times, {} conditions, {} numbers in and {out} out; wanted {} in and {} out per row",
            rows.cond.len(),
            rows.x.len(),
            self.dim,
            self.outputs
        )))
    }

    /// Checks a call that writes `out` numbers, and fills the conditioning of its rows.
    fn condition(&self, rows: &Rows<'_, f32>, out: usize, batch: &mut Batch) -> Result<(), FieldError> {
        self.check(rows, out)?;
        let Batch { times, classes, embedding, .. } = batch;
        classes.clear();
        for cond in rows.cond {
            classes.push(self.class_of(*cond)?);
        }
        times.clear();
        times.extend(rows.t.iter().map(|t| t * self.time_scale));
        self.embedding.forward(times, classes, embedding, Team::pool());
        Ok(())
    }

    fn class_of(&self, cond: Cond) -> Result<Option<usize>, FieldError> {
        let classes = self.embedding.classes();
        match cond {
            Cond::None if classes == 0 => Ok(None),
            Cond::Class(label) if (label as usize) < classes => Ok(Some(label as usize)),
            Cond::None => Err(FieldError::Other(format!(
                "the network is conditional on {classes} classes: every row needs a label"
            ))),
            Cond::Class(label) if classes == 0 => Err(FieldError::Other(format!(
                "label {label} given to an unconditional network: use condition `none`"
            ))),
            Cond::Class(label) => Err(FieldError::Other(format!(
                "label {label} is out of range: the network has {classes} classes"
            ))),
            Cond::Atoms(atoms) => Err(FieldError::Other(format!(
                "{atoms} atoms given to a network of images; please report this"
            ))),
        }
    }

    /// Keeps the buffers of a call for later ones.
    fn give_back(&self, mut batch: Box<Batch>) {
        self.tapes.give(batch.samples.drain(..));
        self.batches.give([batch]);
    }

    /// Runs `body` for every item.
    fn each<T: Send>(&self, items: Vec<T>, body: impl Fn(T, &mut Workspace, Team) + Sync) {
        pool::each(items, |item, team| {
            self.workspaces.with(|| self.graph.new_workspace(), |workspace| body(item, workspace, team));
        });
    }

    fn tape(&self) -> SampleTape {
        self.tapes.take(|| self.graph.new_tape())
    }
}

impl RawNetwork<f32> for Network {
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
        let n = batch.samples.len();
        if cotangent.len() != n * inner.outputs || out.len() != n * inner.dim {
            return Err(FieldError::Other(format!(
                "pull-back of {} numbers to {} for a tape of {n} rows",
                cotangent.len(),
                out.len()
            )));
        }
        let work: Vec<_> = (cotangent.chunks_exact(inner.outputs).zip(out.chunks_exact_mut(inner.dim)))
            .zip(batch.embedding.conditioning.chunks_exact(inner.embedding.len()))
            .zip(&batch.samples)
            .collect();
        inner.each(work, |(((cotangent, out), conditioning), sample), workspace, team| {
            inner.graph.pull_back(cotangent, conditioning, workspace, sample, out, team);
        });
        inner.give_back(batch);
        Ok(())
    }

    fn tape_bytes_per_row(&self) -> usize {
        self.tape_bytes()
    }
}
