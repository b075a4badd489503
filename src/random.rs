//! All randomness of the project: one ChaCha stream per (run seed, dataset, sample, purpose), drawn on the host.
//!
//! A draw depends on nothing else: not on the shard, worker, batch, order or method. Measurements y and noises z
//! are therefore equal across methods, and a resumed run repeats them. Normals come from Box–Muller on the pure-Rust
//! `libm`, so that bits do not differ between machines.

use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

/// What a stream is drawn for. The text enters the key, so that renaming a variant changes no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Measurement noise n of y = Hx + σ_y n.
    MeasurementNoise,
    /// The pixels that a random mask keeps.
    Mask,
    /// z of the initial source point.
    Init,
    /// Rademacher probes of the likelihood penalty (eq. 9).
    NllProbe,
    /// Rademacher probes of a reported log-likelihood.
    LikelihoodProbe,
    /// Noise that a method draws while it runs (RED-diff, DDIM).
    MethodNoise,
    /// What a procedural image shows (keyed by the dataset's own seed, not by the run's).
    Image,
    /// Resamples of an interval in a table.
    Bootstrap,
    /// Times and noises of the held-out flow-matching loss of a model.
    HeldOutLoss,
    /// The number of atoms of a molecule that is to be generated.
    AtomCount,
    /// The value of a property that a molecule is to have (the dataset's text names the property).
    PropertyTarget,
}

impl Purpose {
    /// Every purpose, for tests and documentation.
    pub const ALL: [Self; 11] = [
        Self::MeasurementNoise,
        Self::Mask,
        Self::Init,
        Self::NllProbe,
        Self::LikelihoodProbe,
        Self::MethodNoise,
        Self::Image,
        Self::Bootstrap,
        Self::HeldOutLoss,
        Self::AtomCount,
        Self::PropertyTarget,
    ];

    /// The text that enters the key.
    pub const fn key(self) -> &'static str {
        match self {
            Self::MeasurementNoise => "measurement-noise",
            Self::Mask => "mask",
            Self::Init => "init",
            Self::NllProbe => "nll-probe",
            Self::LikelihoodProbe => "likelihood-probe",
            Self::MethodNoise => "method-noise",
            Self::Image => "image",
            Self::Bootstrap => "bootstrap",
            Self::HeldOutLoss => "held-out-loss",
            Self::AtomCount => "atom-count",
            Self::PropertyTarget => "property-target",
        }
    }
}

/// A stream of random numbers; equal keys give equal streams on every machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    rng: ChaCha12Rng,
    spare: Option<f64>,
}

impl Stream {
    /// The stream of one sample and purpose.
    pub fn new(run_seed: u64, dataset: &str, sample: &str, purpose: Purpose) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("dflow random stream v1");
        hasher.update(&run_seed.to_le_bytes());
        for text in [dataset, sample, purpose.key()] {
            // The length first: ("ab", "c") and ("a", "bc") are different keys.
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        Self { rng: ChaCha12Rng::from_seed(*hasher.finalize().as_bytes()), spare: None }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// Uniform in (0, 1): 53 bits, never an end point.
    pub fn uniform(&mut self) -> f64 {
        unit(self.bits())
    }

    /// Standard normal, by Box–Muller (both values of a pair are used, the cosine first).
    pub fn normal(&mut self) -> f64 {
        if let Some(value) = self.spare.take() {
            return value;
        }
        let radius = libm::sqrt(-2.0 * libm::log(self.uniform()));
        let angle = std::f64::consts::TAU * self.uniform();
        self.spare = Some(radius * libm::sin(angle));
        radius * libm::cos(angle)
    }

    /// `n` standard normals in f32.
    pub fn normals(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.normal() as f32).collect()
    }

    /// Block number `block` of a stream that is drawn in blocks of `n` standard normals, whatever has been drawn so far.
    ///
    /// Blocks of an even `n` follow each other as draws of [`Self::normals`] do.
    pub fn block(&self, block: u64, n: usize) -> Vec<f32> {
        /// 32-bit words of a pair of normals: two uniforms of 64 bits.
        const WORDS: u128 = 4;
        let mut stream = Self { rng: self.rng.clone(), spare: None };
        stream.rng.set_word_pos(u128::from(block) * WORDS * n.div_ceil(2) as u128);
        stream.normals(n)
    }

    /// +1 or −1 with equal probability.
    pub fn rademacher(&mut self) -> f64 {
        if self.bits() >> 63 == 0 { 1.0 } else { -1.0 }
    }
}

/// The middle of the interval of [0, 1] that the first 53 bits name.
fn unit(bits: u64) -> f64 {
    let middle = ((bits >> 11) as f64 + 0.5) * (1.0 / 9_007_199_254_740_992.0);
    // The last of the 2⁵³ values would be rounded to 1.
    middle.min(1.0 - f64::EPSILON / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_keyed_by_every_part() {
        let first =
            |seed, dataset: &str, sample: &str, purpose| Stream::new(seed, dataset, sample, purpose).bits();
        let base = first(0, "d", "s", Purpose::Init);
        assert_eq!(base, first(0, "d", "s", Purpose::Init));
        for other in [
            first(1, "d", "s", Purpose::Init),
            first(0, "e", "s", Purpose::Init),
            first(0, "d", "t", Purpose::Init),
            first(0, "d", "s", Purpose::Mask),
            first(0, "ds", "", Purpose::Init),
        ] {
            assert_ne!(base, other);
        }
    }

    /// First draws of every purpose: bits, then two normals. A change here changes every number of every run.
    #[test]
    fn first_draws_are_pinned() {
        let draws = |purpose| {
            let mut stream = Stream::new(0, "golden", "0", purpose);
            (stream.bits(), stream.normal().to_bits(), stream.normal().to_bits())
        };
        let draws: Vec<_> = Purpose::ALL.into_iter().map(draws).collect();
        assert_eq!(draws, GOLDEN);
    }

    const GOLDEN: [(u64, u64, u64); 11] = [
        (0xd07f59fb67f62563, 0xbfabf3bbe30f8f09, 0xc001b1776df0ff30),
        (0xf4aa16e17bd1fd72, 0xbfec3d1ddb819f92, 0xbf9f0db51b7a0518),
        (0xad2dda3360825e11, 0x3ff08e1279931042, 0x3ff7e40a72ea49fe),
        (0x5e7e2894f29f2f29, 0x3fe5789638c6c72f, 0x3fa96c6f0f74668c),
        (0x7c96d2d47c4c50d3, 0xbfef3a979597b40e, 0xbf92dbd5ecf82901),
        (0x6c88c9a8c88b9c47, 0x3fdc24f59e2eb2ef, 0xbfeb4d02a6a1c6fc),
        (0x0e6c373097513a1f, 0xbfe0f4d282e7025b, 0xbfe61afb82a74fb1),
        (0x041c46c4f633381b, 0x3fed22bedb18cff8, 0xbfe4b8a116273063),
        (0x398a7f87cfdb70ff, 0x4001443b56fbfc51, 0x3fe73e45c9910d21),
        (0x87752fb190e4eb8d, 0xbff430ebb5628cec, 0xbfd137c024ea520f),
        (0xa00e0b0a694d2f41, 0xbfd34396ae11527f, 0xbfcde3f6b637bc03),
    ];

    #[test]
    fn blocks_are_parts_of_the_stream_in_any_order() {
        let mut stream = Stream::new(0, "d", "s", Purpose::MethodNoise);
        let blocks = stream.clone();
        let drawn = stream.normals(12);
        for block in [2, 0, 1] {
            assert_eq!(blocks.block(block, 4), drawn[4 * block as usize..][..4]);
            // What has been drawn from it moves no block.
            assert_eq!(stream.block(block, 4), drawn[4 * block as usize..][..4]);
        }
        assert_eq!(blocks.block(1, 3)[..], drawn[4..7], "an odd block leaves the second of its last pair");
    }

    #[test]
    fn uniforms_are_never_an_end_point() {
        assert!(unit(0) > 0.0 && unit(u64::MAX) < 1.0);
        assert!(unit(u64::MAX - (1 << 11)) < unit(u64::MAX));
    }

    #[test]
    fn normals_have_the_moments_of_a_standard_normal() {
        let mut stream = Stream::new(7, "moments", "0", Purpose::Init);
        let n = 200_000;
        let draws: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
        let moment = |k: i32| draws.iter().map(|x| x.powi(k)).sum::<f64>() / n as f64;
        // Five standard errors of each moment's estimate.
        assert!(moment(1).abs() < 5.0 / (n as f64).sqrt());
        assert!((moment(2) - 1.0).abs() < 5.0 * (2.0 / n as f64).sqrt());
        assert!((moment(4) - 3.0).abs() < 5.0 * (96.0 / n as f64).sqrt());
    }
}
