//! Convolution on a device.

use std::ops::Range;

use candle_core::{Result, Tensor};

use super::DeviceOp;

/// See [`crate::net::op::Conv`].
#[derive(Debug)]
pub(crate) struct Conv {
    /// `[outputs, inputs, k, k]`.
    pub forward: Tensor,
    /// The same flipped, inputs and outputs exchanged.
    pub backward: Tensor,
    /// `[1, outputs, 1, 1]`.
    pub bias: Tensor,
    pub padding: usize,
    pub stride: usize,
    pub conditioning: Option<Range<usize>>,
}

impl DeviceOp for Conv {
    fn forward(&self, conditioning: &Tensor, inputs: &[Tensor]) -> Result<Tensor> {
        let mut y =
            inputs[0].conv2d(&self.forward, self.padding, self.stride, 1, 1)?.broadcast_add(&self.bias)?;
        if let Some(range) = &self.conditioning {
            let shift = conditioning.narrow(1, range.start, range.len())?.unsqueeze(2)?.unsqueeze(3)?;
            y = y.broadcast_add(&shift)?;
        }
        match inputs.get(1) {
            Some(residual) => y + residual,
            None => Ok(y),
        }
    }

    fn pull_back(
        &self,
        _conditioning: &Tensor,
        _inputs: &[Tensor],
        cotangent: &Tensor,
    ) -> Result<Vec<Tensor>> {
        let spread = if self.stride == 2 { spread(cotangent)? } else { cotangent.contiguous()? };
        // The residual, where there is one, receives the cotangent as it is.
        Ok(vec![spread.conv2d(&self.backward, self.padding, 1, 1, 1)?, cotangent.clone()])
    }
}

/// Twice the height and width, with zeros between the numbers.
fn spread(x: &Tensor) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let x = &x.contiguous()?;
    let zeros = x.zeros_like()?;
    let wide = Tensor::stack(&[x, &zeros], 4)?.reshape((n, c, h, 1, 2 * w))?;
    Tensor::cat(&[&wide, &wide.zeros_like()?], 3)?.reshape((n, c, 2 * h, 2 * w))
}
