//! Colours, value noise and the few functions that pictures are made of.
//!
//! Everything that reaches a byte uses IEEE basic operations and `libm`, so that bits do not differ between machines.

use crate::random::Stream;

/// Linear colour, each channel nominally in [0, 1].
pub(super) type Rgb = [f64; 3];

/// a + w (b − a).
pub(super) fn mix(a: Rgb, b: Rgb, w: f64) -> Rgb {
    std::array::from_fn(|i| a[i] + w * (b[i] - a[i]))
}

/// Every channel times `s`.
pub(super) fn scale(a: Rgb, s: f64) -> Rgb {
    a.map(|v| v * s)
}

/// 0 below `lo`, 1 above `hi`, a cubic between.
pub(super) fn smoothstep(lo: f64, hi: f64, x: f64) -> f64 {
    let t = ((x - lo) / (hi - lo)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Hue, saturation, value in [0, 1] to RGB.
pub(super) fn hsv(h: f64, s: f64, v: f64) -> Rgb {
    let channel = |offset: f64| {
        let k = (offset + h * 6.0) % 6.0;
        v - v * s * k.min(4.0 - k).clamp(0.0, 1.0)
    };
    [channel(5.0), channel(3.0), channel(1.0)]
}

/// Draws of a picture's parameters.
pub(super) struct Draw(pub(super) Stream);

impl Draw {
    /// Uniform in (lo, hi).
    pub(super) fn range(&mut self, lo: f64, hi: f64) -> f64 {
        lo + (hi - lo) * self.0.uniform()
    }

    /// True with probability `p`.
    pub(super) fn chance(&mut self, p: f64) -> bool {
        self.0.uniform() < p
    }

    /// Uniform integer in lo..=hi.
    pub(super) fn integer(&mut self, lo: i32, hi: i32) -> i32 {
        lo + (self.0.uniform() * f64::from(hi - lo + 1)) as i32
    }

    /// A colour with saturation and value in the given ranges.
    pub(super) fn colour(&mut self, saturation: [f64; 2], value: [f64; 2]) -> Rgb {
        let hue = self.0.uniform();
        let s = self.range(saturation[0], saturation[1]);
        hsv(hue, s, self.range(value[0], value[1]))
    }

    /// A colour of a given hue (± `spread`), saturation and value ranges.
    pub(super) fn hued(&mut self, hue: f64, spread: f64, saturation: [f64; 2], value: [f64; 2]) -> Rgb {
        let h = (hue + self.range(-spread, spread) + 1.0) % 1.0;
        let s = self.range(saturation[0], saturation[1]);
        hsv(h, s, self.range(value[0], value[1]))
    }

    /// A noise texture with its own seed.
    pub(super) fn noise(&mut self, frequency: f64) -> Noise {
        Noise { seed: self.0.bits(), frequency }
    }
}

/// Smooth value noise on the plane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noise {
    seed: u64,
    frequency: f64,
}

impl Noise {
    /// Two octaves, in about [−1, 1].
    pub(super) fn at(&self, x: f64, y: f64) -> f64 {
        let f = self.frequency;
        0.7 * self.octave(x * f, y * f) + 0.4 * self.octave(x * f * 2.1 + 17.0, y * f * 2.1 - 5.0)
    }

    fn octave(&self, x: f64, y: f64) -> f64 {
        let (cx, cy) = (x.floor(), y.floor());
        let fade = |t: f64| t * t * (3.0 - 2.0 * t);
        let (wx, wy) = (fade(x - cx), fade(y - cy));
        let corner = |dx: i64, dy: i64| self.lattice(cx as i64 + dx, cy as i64 + dy);
        let low = corner(0, 0) + wx * (corner(1, 0) - corner(0, 0));
        let high = corner(0, 1) + wx * (corner(1, 1) - corner(0, 1));
        low + wy * (high - low)
    }

    /// The value of a lattice point in [−1, 1).
    pub(super) fn lattice(&self, x: i64, y: i64) -> f64 {
        // The finaliser of SplitMix64 over the two coordinates.
        let mut h = self.seed
            ^ (x as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
            ^ (y as u64).wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
        h = (h ^ (h >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        h = (h ^ (h >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        h ^= h >> 31;
        (h >> 11) as f64 * (2.0 / 9_007_199_254_740_992.0) - 1.0
    }
}
