//! GroupNorm with modulation and SiLU on a device.

use std::ops::Range;

use candle_core::{D, Result, Tensor};

use super::DeviceOp;

/// See [`crate::net::op::NormAct`].
#[derive(Debug)]
pub(crate) struct NormAct {
    pub groups: usize,
    pub epsilon: f64,
    /// `[1, channels, 1, 1]`.
    pub gamma: Tensor,
    /// `[1, channels, 1, 1]`.
    pub beta: Tensor,
    pub film: Option<Range<usize>>,
    pub silu: bool,
}

/// x̂ of the input and 1/√(var + ε) of every group, `[rows, groups, 1]`.
struct Normalised {
    x: Tensor,
    rstd: Tensor,
}

impl NormAct {
    /// `[rows, groups, numbers of a group]`.
    fn grouped(&self, x: &Tensor) -> Result<Tensor> {
        x.contiguous()?.reshape((x.dim(0)?, self.groups, ()))
    }

    fn normalise(&self, x: &Tensor) -> Result<Normalised> {
        let grouped = self.grouped(x)?;
        let centred = grouped.broadcast_sub(&grouped.mean_keepdim(D::Minus1)?)?;
        let rstd = (centred.sqr()?.mean_keepdim(D::Minus1)? + self.epsilon)?.sqrt()?.recip()?;
        Ok(Normalised { x: centred.broadcast_mul(&rstd)?.reshape(x.shape())?, rstd })
    }

    /// γ·(1 + scale) and β·(1 + scale) + shift, `[rows or 1, channels, 1, 1]`.
    fn affine(&self, conditioning: &Tensor) -> Result<(Tensor, Tensor)> {
        let Some(range) = &self.film else { return Ok((self.gamma.clone(), self.beta.clone())) };
        let half = range.len() / 2;
        let part = |start| conditioning.narrow(1, start, half)?.unsqueeze(2)?.unsqueeze(3);
        let scale = (part(range.start)? + 1.0)?;
        let offset = scale.broadcast_mul(&self.beta)?.add(&part(range.start + half)?)?;
        Ok((scale.broadcast_mul(&self.gamma)?, offset))
    }
}

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}

impl DeviceOp for NormAct {
    fn forward(&self, conditioning: &Tensor, inputs: &[Tensor]) -> Result<Tensor> {
        let (gain, offset) = self.affine(conditioning)?;
        let n = self.normalise(&inputs[0])?.x.broadcast_mul(&gain)?.broadcast_add(&offset)?;
        if self.silu { &n * sigmoid(&n)? } else { Ok(n) }
    }

    fn pull_back(&self, conditioning: &Tensor, inputs: &[Tensor], cotangent: &Tensor) -> Result<Vec<Tensor>> {
        let (gain, offset) = self.affine(conditioning)?;
        let Normalised { x, rstd } = self.normalise(&inputs[0])?;
        let mut g = cotangent.clone();
        if self.silu {
            let n = x.broadcast_mul(&gain)?.broadcast_add(&offset)?;
            let s = sigmoid(&n)?;
            // (n·σ)′ = σ + n·σ·(1 − σ)
            let slope = (&s + ((&n * &s)? * s.affine(-1.0, 1.0)?)?)?;
            g = (g * slope)?;
        }
        let g = self.grouped(&g.broadcast_mul(&gain)?)?;
        let x = self.grouped(&x)?;
        let mean = g.mean_keepdim(D::Minus1)?;
        let product = (&g * &x)?.mean_keepdim(D::Minus1)?;
        let dx = g.broadcast_sub(&mean)?.sub(&x.broadcast_mul(&product)?)?.broadcast_mul(&rstd)?;
        Ok(vec![dx.reshape(inputs[0].shape())?])
    }
}
