//! Self-attention on a device.

use candle_core::{D, Result, Tensor};

use super::DeviceOp;
use crate::net::kernel::HeadOrder;

/// See [`crate::net::op::SelfAttention`].
#[derive(Debug)]
pub(crate) struct Attention {
    pub heads: usize,
    pub dim: usize,
    pub order: HeadOrder,
}

impl Attention {
    /// q, k and v, each `[rows, heads, dim, tokens]`.
    fn split(&self, qkv: &Tensor) -> Result<[Tensor; 3]> {
        let (rows, _, height, width) = qkv.dims4()?;
        let tokens = height * width;
        let (shape, axis) = match self.order {
            HeadOrder::Legacy => ((rows, self.heads, 3, self.dim, tokens), 2),
            HeadOrder::Grouped => ((rows, 3, self.heads, self.dim, tokens), 1),
        };
        let all = qkv.contiguous()?.reshape(shape)?;
        let part = |i| all.narrow(axis, i, 1)?.squeeze(axis)?.contiguous();
        Ok([part(0)?, part(1)?, part(2)?])
    }

    /// The inverse of [`Self::split`].
    fn join(&self, parts: [Tensor; 3], like: &Tensor) -> Result<Tensor> {
        let axis = if self.order == HeadOrder::Legacy { 2 } else { 1 };
        Tensor::stack(&parts, axis)?.reshape(like.shape())
    }

    /// softmax(qᵀk/√d), `[rows, heads, queries, keys]`.
    fn weights(&self, q: &Tensor, k: &Tensor) -> Result<Tensor> {
        let scores = (transposed(q)?.matmul(k)? * self.scale())?;
        let e = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
        e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
    }

    fn scale(&self) -> f64 {
        1.0 / (self.dim as f64).sqrt()
    }
}

fn transposed(x: &Tensor) -> Result<Tensor> {
    x.transpose(D::Minus1, D::Minus2)?.contiguous()
}

impl DeviceOp for Attention {
    fn forward(&self, _conditioning: &Tensor, inputs: &[Tensor]) -> Result<Tensor> {
        let (rows, _, height, width) = inputs[0].dims4()?;
        let [q, k, v] = self.split(&inputs[0])?;
        let out = v.matmul(&transposed(&self.weights(&q, &k)?)?)?;
        out.reshape((rows, self.heads * self.dim, height, width))
    }

    fn pull_back(
        &self,
        _conditioning: &Tensor,
        inputs: &[Tensor],
        cotangent: &Tensor,
    ) -> Result<Vec<Tensor>> {
        let [q, k, v] = self.split(&inputs[0])?;
        let p = self.weights(&q, &k)?;
        let g = cotangent.contiguous()?.reshape(v.shape())?;
        let dv = g.matmul(&p)?;
        let dp = transposed(&g)?.matmul(&v)?;
        let mean = (&p * &dp)?.sum_keepdim(D::Minus1)?;
        let ds = ((&p * dp.broadcast_sub(&mean)?)? * self.scale())?;
        let dq = k.matmul(&transposed(&ds)?)?;
        let dk = q.matmul(&ds)?;
        Ok(vec![self.join([dq, dk, dv], &inputs[0])?])
    }
}
