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

    /// The merged rows: what readers open.
    pub fn samples(&self) -> PathBuf {
        self.root.join("samples.parquet")
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

    /// What happened, one JSON object per line, for people.
    pub fn log(&self) -> PathBuf {
        self.root.join("log.jsonl")
    }

    /// Running solves.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }
}
