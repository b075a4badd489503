//! From time and class to what conditions the blocks: sinusoids, two linear layers, the class embedding, and one linear
//! layer per residual block, all rows at once. No gradient to the state passes here.

use super::kernel::{
    Add, Aligned, ConvCall, Filter, InstructionSet, Kernel, Plane, PlaneMut, Shape, Team, conv,
};

/// A linear layer on rows.
#[derive(Debug)]
pub(crate) struct Linear {
    filter: Filter,
    bias: Vec<f32>,
}

impl Linear {
    /// From weights `[outputs, inputs]` and a bias per output.
    pub(crate) fn new(
        set: InstructionSet,
        outputs: usize,
        inputs: usize,
        weights: &[f32],
        bias: &[f32],
    ) -> Self {
        let mut bias = bias.to_vec();
        bias.resize(outputs.next_multiple_of(set.lanes()), 0.0);
        Self { filter: Filter::pack(set, Kernel::Point, outputs, inputs, weights), bias }
    }

    fn apply(&self, x: &[f32], rows: usize, out: &mut [f32], team: Team) {
        // A row of the batch is a pixel here.
        let x = Plane::new(x, Shape::new(self.filter.inputs(), rows, 1));
        let mut out = PlaneMut::new(out, Shape::new(self.filter.outputs(), rows, 1));
        let call = ConvCall { filter: &self.filter, bias: &self.bias, x, stride: 1, add: Add::Nothing };
        conv(call, &mut out, team);
    }

    fn outputs(&self) -> usize {
        self.filter.outputs()
    }
}

/// What [`Embedding::forward`] works in, used again by later calls.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    waves: Aligned,
    hidden: Aligned,
    emb: Aligned,
    /// The result.
    pub(crate) conditioning: Aligned,
}

/// The embedding path of an ADM network.
#[derive(Debug)]
pub(crate) struct Embedding {
    /// Channels of the sinusoids.
    pub(crate) channels: usize,
    /// The two layers of `time_embed`.
    pub(crate) time: [Linear; 2],
    /// `label_emb`, one row per class; empty for an unconditional network.
    pub(crate) labels: Vec<f32>,
    /// The `emb_layers` of all residual blocks, stacked.
    pub(crate) blocks: Linear,
}

impl Embedding {
    /// Numbers that one row's conditioning takes.
    pub(crate) fn len(&self) -> usize {
        self.blocks.outputs()
    }

    /// Classes; 0 for an unconditional network.
    pub(crate) fn classes(&self) -> usize {
        self.labels.len() / self.time[1].outputs()
    }

    /// Writes the conditioning of rows at these network times, with these classes: `rows × len` numbers.
    pub(crate) fn forward(
        &self,
        times: &[f64],
        classes: &[Option<usize>],
        buffers: &mut Buffers,
        team: Team,
    ) {
        let (rows, width) = (times.len(), self.time[1].outputs());
        let Buffers { waves, hidden, emb, conditioning } = buffers;
        waves.resize(rows * self.channels);
        for (row, &time) in waves.chunks_exact_mut(self.channels).zip(times) {
            sinusoids(time, row);
        }
        hidden.resize(rows * width);
        self.time[0].apply(waves, rows, hidden, team);
        hidden.iter_mut().for_each(silu);
        emb.resize(rows * width);
        self.time[1].apply(hidden, rows, emb, team);
        for (row, class) in emb.chunks_exact_mut(width).zip(classes) {
            if let Some(class) = class {
                row.iter_mut().zip(&self.labels[class * width..]).for_each(|(e, l)| *e += l);
            }
        }
        emb.iter_mut().for_each(silu);
        conditioning.resize(rows * self.len());
        self.blocks.apply(emb, rows, conditioning, team);
    }
}

fn silu(x: &mut f32) {
    *x /= 1.0 + libm::expf(-*x);
}

/// cos(t·f) and then sin(t·f) (and a 0 where `out` has an odd length), f = 10000^(−i/half); the frequencies are f32, as the
/// public code has them.
fn sinusoids(time: f64, out: &mut [f32]) {
    let half = out.len() / 2;
    let (cosines, sines) = out.split_at_mut(half);
    sines[half..].fill(0.0);
    for (i, (cosine, sine)) in cosines.iter_mut().zip(sines).enumerate() {
        let exponent = -libm::log(10000.0) as f32 * i as f32 / half as f32;
        let angle = time * f64::from(libm::exp(f64::from(exponent)) as f32);
        *cosine = libm::cos(angle) as f32;
        *sine = libm::sin(angle) as f32;
    }
}
