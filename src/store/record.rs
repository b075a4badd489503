//! The row of one solved sample, and the one table of its columns.
//!
//! The Arrow schema, `reports/SCHEMA.md` and the comparison of two runs are derived from [`COLUMNS`].
//! Change of a column's meaning or type, or a new column: raise [`SCHEMA_VERSION`].

use std::cmp::Ordering;

use arrow::array::ArrayRef;
use serde::{Deserialize, Serialize};

use super::columns::{Cell, Column, columns, decode_column};

/// Version of the table of columns; in every row, journal and Parquet file.
pub const SCHEMA_VERSION: u32 = 3;
/// How the metrics of the rows are measured; in `run.json` and in the footer of every Parquet file.
pub const METRIC_PROFILE: &str = "x(1) clamped to [-1, 1]; PSNR with R = 2; SSIM of (x + 1)/2 with R = 1 as TorchMetrics 1.3 (ssim_tm13) and 1.9 (ssim_tm19); molecules: bonds by EDM's distance table, validity as RDKit 2026.9.1 for H, C, N, O, F, property with the elements of the largest one-hot entries";

/// How a solve ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// By one of its stop rules.
    #[default]
    Ok,
    /// By an error; metrics are null.
    Failed,
}

impl Status {
    /// `ok` or `failed`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
        }
    }

    /// The inverse of [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Ok, Self::Failed].into_iter().find(|status| status.as_str() == text)
    }
}

/// One point of a solve's history.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TracePoint {
    /// Number of the evaluation, from 1.
    pub eval: u32,
    /// Seconds in which the sample held a slot until then.
    pub seconds: f64,
    /// Loss, regulariser included.
    pub loss: f64,
    /// Observed PSNR of the data term in dB, if the task has one.
    pub psnr: Option<f64>,
}

columns! {
    "identity" {
        /// Name of the task when the sample was solved; after a renaming, tables show the pipeline's.
        task: String, "", reproducible;
        /// Name of the method when the sample was solved; after a renaming, tables show the pipeline's.
        method: String, "", reproducible;
        /// Id of the sample in the dataset's manifest.
        sample_id: String, "", reproducible;
        /// blake3 (hex) of everything that determines the row's numbers but the sample; with `sample_id` the row's key.
        cell_hash: String, "", reproducible;
        /// Name of the dataset.
        dataset: String, "", reproducible;
        /// Split of the dataset.
        split: String, "", reproducible;
        /// Class label of the sample.
        label: Option<u32>, "", reproducible;
        /// Run seed.
        seed: u64, "", reproducible;
        /// Version of this table of columns.
        schema_version: u32, "", reproducible;
    }
    "outcome" {
        /// `ok` or `failed`.
        status: Status, "", reproducible;
        /// Why a failed row failed.
        error: Option<String>, "", reproducible;
        /// Name of the stop rule that ended the solve.
        stop_reason: Option<String>, "", reproducible;
        /// False if the row was ended by `time_limit`: its numbers then depend on batch and machine.
        reproducible: bool, "", reproducible;
        /// Outer steps of the optimiser, or steps of a method without one.
        outer_steps: u32, "", reproducible;
        /// Evaluations of loss and gradient. Work repeated after a crash is not counted, here and below.
        evals: u32, "", reproducible;
        /// Network calls forward, of this sample.
        nfe_forward: u64, "calls", reproducible;
        /// Network calls backward (vector–Jacobian products).
        nfe_vjp: u64, "calls", reproducible;
        /// Wall time in which the sample held a slot, over all attempts.
        wall_seconds: f64, "s", varies;
        /// Its share of the device: the sum over its network calls of (seconds of the call / rows of the call).
        device_seconds: f64, "s", varies;
        /// Largest resident memory of the worker's process so far (`VmHWM`). Memory of a CUDA device is not in it.
        peak_memory: Option<u64>, "bytes", varies;
        /// Device of the worker, such as `cpu:0` or `cuda:1`.
        device: String, "", varies;
        /// Instruction set of the kernels, such as `x86-64-v4`; rows are bit-identical within one.
        instruction_set: String, "", reproducible;
        /// Host name.
        host: String, "", varies;
        /// Id of the process attempt and writer: sorts by start time.
        attempt: String, "", varies;
    }
    "metrics" {
        /// Mean squared error of the reconstruction, clamped to [−1, 1], against the ground truth.
        mse: Option<f64>, "", reproducible;
        /// PSNR of `mse` with R = 2. Infinite if exact.
        psnr: Option<f64>, "dB", reproducible;
        /// PSNR of bytes with differences wrapped to 8 bits, as TorchMetrics before 1.5.0 gave on uint8 images.
        psnr_u8wrap: Option<f64>, "dB", reproducible;
        /// SSIM as TorchMetrics 1.3 gives it on (x + 1)/2 with R = 1: 5 border pixels cropped, variances unclamped.
        ssim_tm13: Option<f64>, "", reproducible;
        /// SSIM as TorchMetrics 1.9 gives it on (x + 1)/2 with R = 1: whole map.
        ssim_tm19: Option<f64>, "", reproducible;
        /// `mse` over the hole only (inpainting tasks).
        hole_mse: Option<f64>, "", reproducible;
        /// `psnr` over the hole only.
        hole_psnr: Option<f64>, "dB", reproducible;
        /// Mean of the `ssim_tm13` map over the hole's pixels that the crop leaves.
        hole_ssim_tm13: Option<f64>, "", reproducible;
        /// Mean of the `ssim_tm19` map over the hole's pixels.
        hole_ssim_tm19: Option<f64>, "", reproducible;
        /// LPIPS of the trunk that the pipeline names, if its weights were there.
        lpips: Option<f64>, "", reproducible;
        /// Its layer terms, which add up to it.
        lpips_layers: Vec<f64>, "", reproducible;
        /// Trunk of `lpips` and the hash of its weights and heads, such as `alex:1f6a…`.
        lpips_network: Option<String>, "", reproducible;
        /// PSNR of the pair of images that the loss compares, unclamped, at the returned iterate.
        observed_psnr: Option<f64>, "dB", reproducible;
        /// Highest `observed_psnr` of any evaluation, trials of the line search included.
        best_psnr: Option<f64>, "dB", reproducible;
        /// `observed_psnr` that a `target_psnr` rule asked for.
        target_psnr: Option<f64>, "dB", reproducible;
        /// Whether `observed_psnr` reached `target_psnr`.
        target_reached: Option<bool>, "", reproducible;
        /// Loss at the returned iterate, regulariser included.
        loss: Option<f64>, "", reproducible;
        /// Euclidean norm of the returned source point x₀.
        x0_norm: Option<f64>, "", reproducible;
        /// −log₂ p₁(x)/d + offset of H†y, mean over the probes of Hutchinson's estimate (method `likelihood`).
        bits_per_dim: Option<f64>, "bits", reproducible;
        /// Standard error of that mean; of two probes or more.
        bits_per_dim_error: Option<f64>, "bits", reproducible;
    }
    "molecule" {
        /// Number of atoms.
        n_atoms: Option<u32>, "", reproducible;
        /// Wanted value of the property, in its unit (α Bohr³; gap, HOMO, LUMO eV; μ D; Cv cal/(mol K)).
        target: Option<f64>, "", reproducible;
        /// The classifier's value for the molecule, every atom being the element of its largest one-hot entry.
        property: Option<f64>, "", reproducible;
        /// The classifier's value for x(1) as it is, one-hot block and all: what the loss sees.
        property_relaxed: Option<f64>, "", reproducible;
        /// |property − target|.
        property_error: Option<f64>, "", reproducible;
        /// Atoms whose bond orders add up to the element's valence.
        stable_atoms: Option<u32>, "", reproducible;
        /// Whether all atoms are stable.
        molecule_stable: Option<bool>, "", reproducible;
        /// Whether the molecule is valid: the rule that equals RDKit's sanitisation for H, C, N, O, F.
        molecule_valid: Option<bool>, "", reproducible;
        /// Connected parts.
        fragments: Option<u32>, "", reproducible;
        /// Pairs of atoms within 0.001 pm of a bond's threshold: other arithmetic may see another bond there.
        borderline_bonds: Option<u32>, "", reproducible;
        /// Bond graph of a valid molecule's largest part, for counting distinct molecules.
        molecule_graph: Option<String>, "", reproducible;
    }
    "artifact" {
        /// blake3 (hex) of the reconstruction x(1), unclamped, as little-endian f32.
        x1_blake3: Option<String>, "", reproducible;
        /// File under `artifacts/` that holds the reconstruction as raw little-endian f32, if it was kept.
        x1_file: Option<String>, "", varies;
        /// Position of its first byte in that file.
        x1_offset: Option<u64>, "bytes", varies;
        /// Its shape, such as [3, 32, 32].
        x1_shape: Vec<u32>, "", varies;
        /// File under `artifacts/` that holds x₀ and x(1) of some evaluations as raw little-endian f32, if they were kept.
        trajectory_file: Option<String>, "", varies;
        /// Position of its first byte in that file.
        trajectory_offset: Option<u64>, "bytes", varies;
        /// Their shape: evaluations, 2 (x₀ and x(1)), and that of a sample, such as [7, 2, 3, 32, 32].
        trajectory_shape: Vec<u32>, "", varies;
        /// The numbers of those evaluations, from 1.
        trajectory_evals: Vec<u32>, "", varies;
        /// blake3 (hex) of their bytes.
        trajectory_blake3: Option<String>, "", varies;
    }
    "history" {
        /// One point per evaluation. The seconds in it are not reproducible.
        trace: Vec<TracePoint>, "s, dB", reproducible;
    }
}

/// Identity of a row: cell hash (hex) and sample id.
pub type Key = (String, String);

impl Record {
    /// The row's identity.
    pub fn key(&self) -> Key {
        (self.cell_hash.clone(), self.sample_id.clone())
    }

    /// The order of rows with one key, the one to keep first: ok before failed, then the smallest attempt id, then
    /// (several tries within one attempt) the smallest bytes.
    pub fn precedence(&self, other: &Self) -> Ordering {
        (self.status, &self.attempt)
            .cmp(&(other.status, &other.attempt))
            .then_with(|| self.to_bytes().cmp(&other.to_bytes()))
    }

    /// A short hash of all fields.
    pub(super) fn digest(&self) -> [u8; 16] {
        *blake3::hash(&self.to_bytes()).as_bytes().first_chunk().expect("a hash has 32 bytes")
    }

    /// A short hash of the reproducible columns: equal for rows that are the same in all of them, as [`Column::same`]
    /// sees it.
    pub(super) fn reproducible_digest(self) -> [u8; 16] {
        let mut row = self.without_varying();
        row.trace.iter_mut().for_each(|point| point.seconds = 0.0);
        row.digest()
    }

    /// All fields as bytes; equal bytes are the same row read from two files.
    fn to_bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("a record has no type that postcard refuses")
    }
}
