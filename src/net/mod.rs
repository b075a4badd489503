//! Networks from ops with an explicit pull-back: CPU kernels over planned buffers, or a device through candle.

pub mod weights;
