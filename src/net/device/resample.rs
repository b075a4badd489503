//! Resolution changes and concatenation on a device.

use candle_core::{Result, Tensor};

use super::DeviceOp;

/// See [`crate::net::op::Up2`].
#[derive(Debug)]
pub(crate) struct Up2;

/// See [`crate::net::op::Down2`].
#[derive(Debug)]
pub(crate) struct Down2;

/// See [`crate::net::op::Concat`].
#[derive(Debug)]
pub(crate) struct Concat {
    pub first: usize,
    pub second: usize,
}

fn up(x: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    x.contiguous()?.upsample_nearest2d(2 * height, 2 * width)
}

impl DeviceOp for Up2 {
    fn forward(&self, _conditioning: &Tensor, inputs: &[Tensor]) -> Result<Tensor> {
        up(&inputs[0])
    }

    fn pull_back(
        &self,
        _conditioning: &Tensor,
        _inputs: &[Tensor],
        cotangent: &Tensor,
    ) -> Result<Vec<Tensor>> {
        Ok(vec![(cotangent.contiguous()?.avg_pool2d(2)? * 4.0)?])
    }
}

impl DeviceOp for Down2 {
    fn forward(&self, _conditioning: &Tensor, inputs: &[Tensor]) -> Result<Tensor> {
        inputs[0].avg_pool2d(2)
    }

    fn pull_back(
        &self,
        _conditioning: &Tensor,
        _inputs: &[Tensor],
        cotangent: &Tensor,
    ) -> Result<Vec<Tensor>> {
        Ok(vec![(up(cotangent)? * 0.25)?])
    }
}

impl DeviceOp for Concat {
    fn forward(&self, _conditioning: &Tensor, inputs: &[Tensor]) -> Result<Tensor> {
        Tensor::cat(inputs, 1)
    }

    fn pull_back(
        &self,
        _conditioning: &Tensor,
        _inputs: &[Tensor],
        cotangent: &Tensor,
    ) -> Result<Vec<Tensor>> {
        Ok(vec![cotangent.narrow(1, 0, self.first)?, cotangent.narrow(1, self.first, self.second)?])
    }
}
