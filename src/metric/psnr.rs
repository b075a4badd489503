//! Mean squared error and peak signal-to-noise ratio.
//!
//! PSNR = 10·log₁₀(R²/MSE) dB. Two aggregates over samples are in use and differ by decibels: the mean of the
//! samples' PSNR, and the PSNR of the pooled MSE (what TorchMetrics' class gives by default).

/// Range R of images in [−1, 1].
pub const RANGE: f64 = 2.0;

/// PSNR above which a match counts as exact: MSE 1e-12·R², near the rounding of f32.
pub const EXACT_DB: f64 = 120.0;

/// Mean squared difference; NaN if there are no entries.
pub fn mse(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&x, &y)| squared_difference(x, y)).sum::<f64>() / a.len() as f64
}

/// Mean squared difference over the pixels of `hole` (`height·width`), all channels; `None` if it has no pixel.
pub fn hole_mse(a: &[f32], b: &[f32], hole: &[bool]) -> Option<f64> {
    let inside = a.iter().zip(b).zip(hole.iter().cycle()).filter(|&(_, &hidden)| hidden);
    let (sum, count) =
        inside.fold((0.0, 0_usize), |(sum, n), ((&x, &y), _)| (sum + squared_difference(x, y), n + 1));
    (count > 0).then(|| sum / count as f64)
}

fn squared_difference(x: f32, y: f32) -> f64 {
    let difference = f64::from(x) - f64::from(y);
    difference * difference
}

/// 10·log₁₀(R²/MSE) in dB; infinite for MSE = 0.
pub fn psnr(mse: f64, range: f64) -> f64 {
    10.0 * libm::log10(range * range / mse)
}

/// PSNR in dB of the mean of the samples' MSE: TorchMetrics' default aggregate.
pub fn pooled(mses: &[f64], range: f64) -> f64 {
    psnr(mses.iter().sum::<f64>() / mses.len() as f64, range)
}

/// trunc((x + 1)·127.5) in f32, as `((x + 1) * 127.5).to(torch.uint8)` for x in [−1, 1].
pub fn to_byte(x: f32) -> u8 {
    ((x + 1.0) * 127.5) as u8
}

/// PSNR in dB of bytes (R = 255) with difference and square taken modulo 256: TorchMetrics < 1.5.0 on uint8 images
/// (its issue #2787). Far too high where differences are large; kept for comparison with published values.
pub fn psnr_u8wrap(a: &[f32], b: &[f32]) -> f64 {
    let wrapped = |(&x, &y): (&f32, &f32)| {
        let difference = to_byte(x).wrapping_sub(to_byte(y));
        u64::from(difference.wrapping_mul(difference))
    };
    let sum: u64 = a.iter().zip(b).map(wrapped).sum();
    psnr(sum as f64 / a.len() as f64, 255.0)
}
