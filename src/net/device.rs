//! Networks on a candle device (CUDA, or candle's CPU for tests): the same graph, batched, channels first.
//!
//! Both directions use candle's forward operations only; its autograd is not involved. The embedding is computed on
//! the host, once per call.

mod attention;
mod conv;
mod norm;
mod resample;

use candle_core::{Device, Result, Tensor};

pub(crate) use attention::Attention;
pub(crate) use conv::Conv;
pub(crate) use norm::NormAct;
pub(crate) use resample::{Concat, Down2, Up2};

use super::Network;
use super::model::Matmul;
use crate::flow::{FieldError, RawNetwork, Rows, Tape};

/// An op on a device; values are `[rows, channels, height, width]`, the conditioning `[rows, numbers]`.
pub(crate) trait DeviceOp: Send + Sync + std::fmt::Debug {
    /// The output.
    fn forward(&self, conditioning: &Tensor, inputs: &[Tensor]) -> Result<Tensor>;

    /// The pull-back of `cotangent` to every input. `inputs` are absent unless the op keeps them.
    fn pull_back(&self, conditioning: &Tensor, inputs: &[Tensor], cotangent: &Tensor) -> Result<Vec<Tensor>>;
}

#[derive(Debug)]
struct Step {
    op: Box<dyn DeviceOp>,
    inputs: Vec<usize>,
    output: usize,
    keeps_inputs: bool,
    /// Inputs that no later step reads.
    last_uses: Vec<usize>,
}

/// A network on a device.
///
/// Rows are evaluated in batches of fixed size, the last one filled up: the device may choose its algorithms by the
/// batch size, and so a row's numbers would depend on how many others are in the call.
#[derive(Debug)]
pub struct DeviceNetwork {
    network: Network,
    device: Device,
    batch: usize,
    steps: Vec<Step>,
    values: usize,
    matmul: Option<Matmul>,
}

/// Tape of one batch: kept values, and the conditioning.
struct BatchTape {
    rows: usize,
    kept: Vec<Option<Tensor>>,
    conditioning: Tensor,
}

impl DeviceNetwork {
    /// Copies the weights of `network` to `device`; every call is evaluated in batches of `batch` rows.
    ///
    /// # Errors
    /// What the device says, for example that its memory is too small.
    pub fn new(network: &Network, device: &Device, batch: usize) -> std::result::Result<Self, FieldError> {
        let mut steps = Vec::new();
        let mut values = 1;
        for (op, inputs, output) in network.graph().steps() {
            let keeps_inputs = op.keeps_inputs();
            let op = op.on(device).map_err(|error| failure(&error, 0))?;
            values = values.max(output + 1);
            steps.push(Step { op, inputs, output, keeps_inputs, last_uses: Vec::new() });
        }
        let mut used = vec![false; values];
        for step in steps.iter_mut().rev() {
            step.last_uses =
                step.inputs.iter().copied().filter(|&v| !std::mem::replace(&mut used[v], true)).collect();
        }
        Ok(Self {
            network: network.clone(),
            device: device.clone(),
            batch: batch.max(1),
            steps,
            values,
            matmul: None,
        })
    }

    /// The network with matrix products that are not f32, on a GPU; others have no other.
    #[must_use]
    pub fn with_matmul(mut self, matmul: Option<Matmul>) -> Self {
        self.matmul = matmul;
        self
    }

    /// The backend's switch is the process's, and networks differ: set before every call. (A worker on a GPU is a process,
    /// and calls from one thread.)
    fn set_matmul(&self) {
        candle_core::cuda::set_gemm_reduced_precision_f32(self.matmul == Some(Matmul::Tf32));
    }

    fn forward_batch(&self, x: Tensor, conditioning: Tensor, taped: bool) -> Result<(Tensor, BatchTape)> {
        let rows = x.dim(0)?;
        let mut values: Vec<Option<Tensor>> = vec![None; self.values];
        let mut kept = vec![None; self.values];
        values[0] = Some(x);
        for step in &self.steps {
            let inputs: Vec<_> = step.inputs.iter().filter_map(|&v| values[v].clone()).collect();
            values[step.output] = Some(step.op.forward(&conditioning, &inputs)?);
            if taped && step.keeps_inputs {
                for (&v, input) in step.inputs.iter().zip(inputs) {
                    kept[v] = Some(input);
                }
            }
            step.last_uses.iter().for_each(|&v| values[v] = None);
        }
        let out = values.pop().flatten().expect("the last step makes the last value");
        Ok((out, BatchTape { rows, kept, conditioning }))
    }

    fn pull_back_batch(&self, tape: &BatchTape, cotangent: Tensor) -> Result<Tensor> {
        let mut gradients: Vec<Option<Tensor>> = vec![None; self.values];
        gradients[self.values - 1] = Some(cotangent);
        for step in self.steps.iter().rev() {
            let Some(cotangent) = gradients[step.output].take() else { continue };
            let inputs: Vec<_> = if step.keeps_inputs {
                step.inputs.iter().filter_map(|&v| tape.kept[v].clone()).collect()
            } else {
                Vec::new()
            };
            let parts = step.op.pull_back(&tape.conditioning, &inputs, &cotangent)?;
            for (&v, part) in step.inputs.iter().zip(parts) {
                gradients[v] = Some(match gradients[v].take() {
                    Some(sum) => (sum + part)?,
                    None => part,
                });
            }
        }
        Ok(gradients.swap_remove(0).expect("every network uses its input"))
    }

    /// `rows` rows of `width` numbers as a tensor of a whole batch, filled up with zeros.
    fn upload(&self, x: &[f32], channels: usize) -> Result<Tensor> {
        let shape = self.network.graph().input();
        let mut padded = x.to_vec();
        padded.resize(self.batch * channels * shape.pixels(), 0.0);
        Tensor::from_vec(padded, (self.batch, channels, shape.height, shape.width), &self.device)
    }

    /// Reads the first `channels` of the rows that `out` has room for.
    fn download(value: &Tensor, channels: usize, out: &mut [f32]) -> Result<()> {
        let numbers = value.narrow(1, 0, channels)?.flatten_all()?.to_vec1::<f32>()?;
        out.copy_from_slice(&numbers[..out.len()]);
        Ok(())
    }

    fn evaluate(
        &self,
        rows: Rows<'_, f32>,
        out: &mut [f32],
        taped: bool,
    ) -> std::result::Result<Vec<BatchTape>, FieldError> {
        self.set_matmul();
        let (conditioning, width) = self.network.conditioning(&rows, out.len())?;
        let shape = self.network.graph().input();
        let (inputs, outputs) = (shape.channels, self.network.outputs());
        let batch = |x: &[f32], conditioning: &[f32], out: &mut [f32]| -> Result<BatchTape> {
            let x_on_device = self.upload(x, inputs)?;
            let mut padded = conditioning.to_vec();
            padded.resize(self.batch * width, 0.0);
            let conditioning = Tensor::from_vec(padded, (self.batch, width), &self.device)?;
            let (value, mut tape) = self.forward_batch(x_on_device, conditioning, taped)?;
            Self::download(&value, outputs, out)?;
            tape.rows = x.len() / (inputs * shape.pixels());
            Ok(tape)
        };
        let work = (rows.x.chunks(self.batch * inputs * shape.pixels()))
            .zip(conditioning.chunks(self.batch * width))
            .zip(out.chunks_mut(self.batch * outputs * shape.pixels()));
        work.map(|((x, conditioning), out)| batch(x, conditioning, out))
            .collect::<Result<_>>()
            .map_err(|error| failure(&error, rows.len()))
    }

    fn pull_back_all(&self, tapes: &[BatchTape], cotangent: &[f32], out: &mut [f32]) -> Result<()> {
        self.set_matmul();
        let shape = self.network.graph().input();
        let (inputs, outputs) = (shape.channels, self.network.outputs());
        let unused = self.network.graph().output_channels() - outputs;
        let work = (cotangent.chunks(self.batch * outputs * shape.pixels()))
            .zip(out.chunks_mut(self.batch * inputs * shape.pixels()));
        for (tape, (cotangent, out)) in tapes.iter().zip(work) {
            let cotangent = self.upload(cotangent, outputs)?.pad_with_zeros(1, 0, unused)?;
            Self::download(&self.pull_back_batch(tape, cotangent)?, inputs, out)?;
        }
        Ok(())
    }
}

/// Makes a small known call: an error where the device answers nobody any more, as one whose context is lost. One that is
/// only short of memory answers.
///
/// # Errors
/// What the device says, or that it miscalculates.
pub fn probe(device: &Device) -> std::result::Result<(), String> {
    let sum_of_squares =
        || Tensor::new(&[1_f32, 2.0, 3.0, 4.0], device)?.sqr()?.sum_all()?.to_scalar::<f32>();
    match sum_of_squares().map_err(|error| failure(&error, 0)) {
        Ok(30.0) | Err(FieldError::OutOfMemory { .. }) => Ok(()),
        Ok(sum) => Err(format!("the sum of four squares is {sum} instead of 30")),
        Err(error) => Err(error.to_string()),
    }
}

/// A device's error; `OutOfMemory` where fewer rows may help.
fn failure(error: &candle_core::Error, rows: usize) -> FieldError {
    let detail = error.to_string();
    if detail.contains("OUT_OF_MEMORY") || detail.contains("out of memory") {
        FieldError::OutOfMemory { rows, detail }
    } else {
        FieldError::Other(format!("network on a device: {detail}"))
    }
}

impl RawNetwork<f32> for DeviceNetwork {
    fn dim(&self) -> usize {
        self.network.dim()
    }

    fn forward(&mut self, rows: Rows<'_, f32>, out: &mut [f32]) -> std::result::Result<(), FieldError> {
        self.evaluate(rows, out, false).map(|_| ())
    }

    fn forward_taped(
        &mut self,
        rows: Rows<'_, f32>,
        out: &mut [f32],
    ) -> std::result::Result<Tape, FieldError> {
        Ok(Box::new(self.evaluate(rows, out, true)?))
    }

    fn pull_back(
        &mut self,
        tape: Tape,
        cotangent: &[f32],
        out: &mut [f32],
    ) -> std::result::Result<(), FieldError> {
        let tapes = tape
            .downcast::<Vec<BatchTape>>()
            .map_err(|_| FieldError::Other("the tape belongs to another field".to_owned()))?;
        let rows: usize = tapes.iter().map(|tape| tape.rows).sum();
        let pixels = self.network.graph().input().pixels();
        if cotangent.len() != rows * self.network.outputs() * pixels || out.len() != rows * self.dim() {
            return Err(FieldError::Other(format!(
                "pull-back of {} numbers to {} for a tape of {rows} rows",
                cotangent.len(),
                out.len()
            )));
        }
        self.pull_back_all(&tapes, cotangent, out).map_err(|error| failure(&error, rows))
    }

    fn tape_bytes_per_row(&self) -> usize {
        self.network.tape_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_computes_answers() {
        assert_eq!(probe(&Device::Cpu), Ok(()));
    }
}
