//! Names of the files and folders of a run directory.

use std::path::{Path, PathBuf};

/// A run directory's layout. It only makes names; it touches no file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout of the run in `root`, such as `reports/table1-mini`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The run directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What was asked and how it stands.
    pub fn run_json(&self) -> PathBuf {
        self.root.join("run.json")
    }

    /// Held by whoever changes `run.json`; empty.
    pub fn run_lock(&self) -> PathBuf {
        self.root.join(".run.lock")
    }

    /// `.submit.lock`: held by whoever submits, from its look at what is left until what it submitted is recorded.
    pub fn submit_lock(&self) -> PathBuf {
        self.root.join(".submit.lock")
    }

    /// The merged rows: what readers open.
    pub fn samples(&self) -> PathBuf {
        self.root.join("samples.parquet")
    }

    /// What the last merge has seen: not for readers.
    pub fn merged(&self) -> PathBuf {
        self.root.join(".merged.json")
    }

    /// Journals: one file per writer of a process attempt.
    pub fn journals(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// Raw Parquet parts: not for readers.
    pub fn parts(&self) -> PathBuf {
        self.root.join("parts")
    }

    /// Reconstructions.
    pub fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    /// Per-sample features of a network, as their workers wrote them.
    pub fn feature_logs(&self, net: &str) -> PathBuf {
        self.root.join("features").join(net)
    }

    /// The merged features of a network.
    pub fn features(&self, net: &str) -> PathBuf {
        self.root.join("features").join(format!("{net}.parquet"))
    }

    /// Parts of the scores of a metric.
    pub fn score_parts(&self, metric: &str) -> PathBuf {
        self.root.join("scores").join(metric)
    }

    /// The merged scores of a metric.
    pub fn scores(&self, metric: &str) -> PathBuf {
        self.root.join("scores").join(format!("{metric}.parquet"))
    }

    /// What happened, one JSON object per line, for people.
    pub fn log(&self) -> PathBuf {
        self.root.join("log.jsonl")
    }

    /// Logs of processes that share the run, as [`Self::log`].
    pub fn logs(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Heartbeats: one file per process that solves.
    pub fn nodes(&self) -> PathBuf {
        self.root.join("nodes")
    }

    /// Readings of devices, as their processes wrote them.
    pub fn telemetry_parts(&self) -> PathBuf {
        self.root.join("telemetry")
    }

    /// The merged readings of devices.
    pub fn telemetry(&self) -> PathBuf {
        self.root.join("telemetry.parquet")
    }

    /// Running solves.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }
}
