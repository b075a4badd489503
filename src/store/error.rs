//! Why the store could not do what was asked: what, where, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::metric::set::SetError;
use crate::plan::CellConflict;

/// Errors of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}{}", path.display(), remedy(action, source))]
    Io {
        /// What was tried: "create", "write" …
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of another format version.
    #[error("{} has {what} version {found}, this program reads version {expected}: use the dflow version that wrote it, or another `output`", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Which version: "journal format", "row schema" …
        what: &'static str,
        /// The file's.
        found: String,
        /// Ours.
        expected: String,
    },
    /// A file whose content cannot be what the store wrote.
    #[error("{} is damaged: {detail}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A directory that holds rows of other settings under the same names.
    #[error("{} cannot be continued with this pipeline:\n{}", path.display(), list(conflicts))]
    Conflict {
        /// The run directory.
        path: PathBuf,
        /// Every name that stands for two cells, and what differs.
        conflicts: Vec<CellConflict>,
    },
    /// A directory that holds rows of another dataset.
    #[error("{} holds results of dataset {old} (another version of it, if the names are equal), and this pipeline runs on {new}: choose another `output`", path.display())]
    OtherDataset {
        /// The run directory.
        path: PathBuf,
        /// Id of the dataset of the rows.
        old: String,
        /// Id of the dataset of the pipeline.
        new: String,
    },
    /// A name that is kept for other things.
    #[error("{} cannot be a run directory: `paper` and `templates` are reserved names; choose another `output`", path.display())]
    Reserved {
        /// The directory.
        path: PathBuf,
    },
    /// No run.
    #[error("{} is no run directory (it has no run.json): name the `output` of a pipeline that has run", path.display())]
    NoRun {
        /// The directory.
        path: PathBuf,
    },
    /// Results of other weights than those that are wanted.
    #[error("{} holds {what} with weights {found}, and those of {expected} are wanted: two sets of weights are never mixed; move it (and the folder of the same name beside it) away and run `dflow score` to compute them anew", path.display())]
    OtherWeights {
        /// The file.
        path: PathBuf,
        /// What it holds.
        what: String,
        /// Identity of its weights.
        found: String,
        /// The wanted identity.
        expected: String,
    },
    /// Features that no metric can be computed from.
    #[error("{}: {source}", path.display())]
    Features {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        source: SetError,
    },
    /// Rows that could not be encoded.
    #[error("cannot encode rows: {0}")]
    Encode(String),
}

impl StoreError {
    /// For `map_err`: an I/O error with what was tried on what.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// For `map_err`: a file that cannot be decoded.
    pub(crate) fn damaged<E: std::fmt::Display>(path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |error| Self::Damaged { path, detail: error.to_string() }
    }

    /// Whether the device or the quota is full.
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_out_of_space(source))
    }
}

fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn list(conflicts: &[CellConflict]) -> String {
    conflicts.iter().map(|conflict| format!("  {conflict}")).collect::<Vec<_>>().join("\n")
}

/// What to do about a refusal of the file system, after `; `; empty if nobody knows.
pub fn remedy(action: &str, error: &io::Error) -> &'static str {
    match error.kind() {
        _ if is_out_of_space(error) => {
            "; free some space (or quota) and run the same command again: finished samples are kept"
        }
        // Its parents are there: a file system that takes no folders, such as /proc.
        io::ErrorKind::NotFound if action == "create directory" => {
            "; nothing can be made there: choose an `output` directory that you may write to"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            "; choose an `output` directory that you may write to"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "; a file is in the way: move it, or choose another `output` directory"
        }
        _ => "",
    }
}
