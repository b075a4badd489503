//! What can go wrong between a run directory and a scheduler.

use std::path::PathBuf;

use crate::exit;
use crate::spec::diagnostic::Diagnostics;
use crate::store::error::remedy;

/// Why something about a submission cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A file or folder cannot be read or written.
    #[error("cannot {doing} {path}: {source}{}", advice(doing, source))]
    Io {
        /// `read`, `write` …
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a folder of a submission.
    #[error(
        "{path} is no submission: there is no submission.json; name a folder such as reports/my-run/submit/2026…"
    )]
    NoSubmission {
        /// As given.
        path: PathBuf,
    },
    /// A file of a submission that is not what was written.
    #[error(
        "{path}: {detail}; it was damaged or changed by hand: cancel the submission (`dflow cancel`) and submit again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// Written by another version.
    #[error(
        "{path} has form {found}, this program reads {expected}: use the version that submitted, or submit again"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its form.
        found: u32,
        /// The form that is read.
        expected: u32,
    },
    /// A frozen cell that the pipeline, as it resolves now, does not have.
    #[error(
        "task `{task}`, method `{method}`: submitted as cell {frozen}, but the pipeline now gives {now}: data, weights or \
         the program changed since then; cancel the submission and submit again"
    )]
    OtherCell {
        /// Name of the task.
        task: String,
        /// Name of the method.
        method: String,
        /// The cell hash when it was submitted.
        frozen: String,
        /// The cell hash now, or that there is none.
        now: String,
    },
    /// A frozen sample that the dataset does not have.
    #[error(
        "sample `{id}` was submitted, but the dataset no longer has it; cancel the submission and submit again"
    )]
    NoSample {
        /// Id of the sample.
        id: String,
    },
    /// No such chunk.
    #[error("there is no chunk {index}: the submission has {count}, from 0 to {}", count.saturating_sub(1))]
    NoChunk {
        /// As asked for.
        index: usize,
        /// Number of chunks.
        count: usize,
    },
    /// A site file that cannot be read.
    #[error("cannot read the site file {path}: {source}; --site, or the variable DFLOW_SITE, names another")]
    SiteFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A site file that is wrong.
    #[error(transparent)]
    Site(#[from] Diagnostics),
    /// The frozen pipeline does not read any more.
    #[error("the frozen pipeline does not read: {0}")]
    Pipeline(Diagnostics),
    /// Site file and pipeline say what is wrong only together.
    #[error("{text}\n  = note: {origins}")]
    Together {
        /// What is wrong, and what to do.
        text: String,
        /// Where each of the values stands.
        origins: String,
    },
    /// A batch script that bash does not read.
    #[error(
        "bash does not read the batch script, with `setup:` and `command:` in it: {message}\n  = help: mend them in \
         `cluster:` or in the site file; --dry-run shows the script with its lines"
    )]
    Script {
        /// What bash said.
        message: String,
    },
    /// A scheduler's command is not there.
    #[error(
        "{program} not found: run this on a login node of the cluster, where `which {program}` finds it (some sites need \
         `module load slurm`)"
    )]
    NoProgram {
        /// Such as `sbatch`.
        program: String,
    },
    /// The scheduler refused, for good.
    #[error("{program}: {message}\n  = help: {help}")]
    Refused {
        /// Such as `sbatch`.
        program: String,
        /// What it said.
        message: String,
        /// What to do.
        help: String,
    },
    /// The scheduler did not answer, however often it was asked.
    #[error(
        "{program} did not get through in {}: {message}\n  = help: the controller is busy or away: try later; what was submitted so far is recorded",
        times(*.tries)
    )]
    Busy {
        /// Such as `sbatch`.
        program: String,
        /// How often it was tried.
        tries: usize,
        /// What it said last.
        message: String,
    },
    /// An answer that makes no sense.
    #[error("{program} answered something unexpected: {answer:?}")]
    Answer {
        /// Such as `sbatch`.
        program: String,
        /// What it said.
        answer: String,
    },
    /// A path that cannot stand in a script or manifest.
    #[error("{path:?} cannot stand in a batch script: {reason}")]
    Path {
        /// The path.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// It was cancelled while it was being submitted.
    #[error(
        "the submission was cancelled meanwhile, with all that was submitted of it; `dflow submit` of the same pipeline \
         makes a new one"
    )]
    Cancelled,
    /// It was cancelled, but that could not be written down.
    #[error(
        "{source}\n  = help: its jobs were cancelled all the same; run `dflow cancel` once more when the run directory can be \
         written, so that nothing of it counts as waiting"
    )]
    Unrecorded {
        /// Why not.
        source: Box<ClusterError>,
    },
    /// A submission of which not even the jobs are known.
    #[error(
        "{source}\n  = help: its jobs are not known any more: find them (squeue --me --format='%A %j' | grep dflow-{id}), \
         scancel them, then remove {}",
        dir.display()
    )]
    Unknown {
        /// Why.
        source: Box<ClusterError>,
        /// Its id.
        id: String,
        /// Its folder.
        dir: PathBuf,
    },
    /// Tasks of cancelled submissions do not end.
    #[error(
        "what was cancelled is still ending (squeue --jobs={jobs}), and its last checkpoints are not there yet\n  = help: \
         run the same command when it is gone; `dflow cancel {}` cancels it once more; --force submits without waiting, and \
         what both solve counts once",
        run.display()
    )]
    Ending {
        /// Ids of their arrays, as squeue takes them.
        jobs: String,
        /// The run directory.
        run: PathBuf,
    },
    /// A manifest that cannot be made.
    #[error("{0}")]
    Manifest(String),
}

fn times(count: usize) -> String {
    if count == 1 { "one try".to_owned() } else { format!("{count} tries") }
}

/// What to do about a refusal of the file system, as for the rest of the run directory.
fn advice(doing: &str, error: &std::io::Error) -> &'static str {
    if ["create", "write", "remove"].contains(&doing) { remedy(doing, error) } else { "" }
}

impl ClusterError {
    /// Makes the error of a failed operation on a file.
    pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }

    /// The exit code of a command that ends with it.
    pub fn exit_code(&self) -> i32 {
        use std::io::ErrorKind::{
            NotADirectory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
        };
        match self {
            Self::Unknown { source, .. } | Self::Unrecorded { source } => source.exit_code(),
            Self::Io { source, .. } => match source.kind() {
                // A file is in the way, elsewhere as well.
                NotADirectory => exit::USAGE,
                StorageFull | QuotaExceeded | ReadOnlyFilesystem | PermissionDenied => exit::UNWRITABLE,
                _ => exit::FAILURE,
            },
            _ if self.is_usage() => exit::USAGE,
            _ => exit::FAILURE,
        }
    }

    /// Whether nothing but the input is wrong.
    pub const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NoSubmission { .. }
                | Self::OtherCell { .. }
                | Self::NoSample { .. }
                | Self::NoChunk { .. }
                | Self::SiteFile { .. }
                | Self::Site(_)
                | Self::Together { .. }
                | Self::Script { .. }
                | Self::Pipeline(_)
                | Self::NoProgram { .. }
                | Self::Refused { .. }
                | Self::Path { .. }
                | Self::Manifest(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    fn refused(doing: &'static str, kind: ErrorKind) -> ClusterError {
        ClusterError::io(doing, "a/submit/1/chunks.json")(Error::from(kind))
    }

    #[test]
    fn a_file_system_that_takes_nothing_has_a_code_and_says_what_to_do() {
        for (kind, words, code) in [
            (ErrorKind::StorageFull, "free some space", exit::UNWRITABLE),
            (ErrorKind::QuotaExceeded, "free some space", exit::UNWRITABLE),
            (ErrorKind::ReadOnlyFilesystem, "choose an `output`", exit::UNWRITABLE),
            (ErrorKind::PermissionDenied, "choose an `output`", exit::UNWRITABLE),
            (ErrorKind::NotADirectory, "a file is in the way", exit::USAGE),
            (ErrorKind::InvalidData, "", exit::FAILURE),
        ] {
            let error = refused("write", kind);
            assert_eq!(error.exit_code(), code, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
        // What cannot be read is not mended by another output.
        let said = refused("read", ErrorKind::PermissionDenied).to_string();
        assert!(!said.contains("output"), "{said}");
    }

    #[test]
    fn a_program_that_is_not_there_is_told_alike_whatever_it_was_for() {
        for program in ["sbatch", "squeue", "scancel"] {
            let said = ClusterError::NoProgram { program: program.to_owned() }.to_string();
            assert!(
                said.starts_with(&format!("{program} not found")) && said.contains("login node"),
                "{said}"
            );
            assert!(!said.contains("submit") && !said.contains("--dry-run"), "{said}");
        }
    }
}
