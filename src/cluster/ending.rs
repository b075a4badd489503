//! Tasks of cancelled submissions that still end: their last checkpoints and rows are there only when they are gone, and
//! nobody but the next submission goes on with what they leave.

use std::path::Path;
use std::time::{Duration, Instant};

use super::error::ClusterError;
use super::question::Question;
use super::queue::Job;
use super::slurm::Slurm;
use super::state::{self, Live, by_chunk};
use super::submission::Submission;

/// How long they are waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From the first look at the queue on.
    pub within: Duration,
    /// Time between two looks.
    pub pause: Duration,
}

impl Patience {
    /// Two minutes: a task is gone after the cluster's `KillWait`, half a minute by default.
    pub const USUAL: Self = Self { within: Duration::from_secs(120), pause: Duration::from_secs(2) };
}

/// Looks at the queue until no chunk of these submissions waits or runs; how many still do in the end. `say` is told once
/// how many are waited for, if any.
///
/// # Errors
/// As [`Slurm::jobs`]; a controller that is busy later on is asked again.
pub fn wait(
    submissions: &[Submission],
    slurm: &Slurm,
    patience: Patience,
    say: impl FnOnce(usize),
) -> Result<usize, ClusterError> {
    let question = Question::of_arrays(submissions);
    let mut left = live_chunks(submissions, &slurm.jobs(&question)?);
    if left > 0 {
        say(left);
    }
    let begin = Instant::now();
    while left > 0 && begin.elapsed() < patience.within {
        std::thread::sleep(patience.pause);
        match slurm.glance(&question) {
            Ok(jobs) => left = live_chunks(submissions, &jobs),
            Err(ClusterError::Busy { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(left)
}

/// Chunks that still wait or run.
fn live_chunks(submissions: &[Submission], jobs: &[Job]) -> usize {
    let of = |submission| by_chunk(submission, jobs).into_values().filter(|job| job.phase.is_live()).count();
    submissions.iter().map(of).sum()
}

/// What the run in `root` has in the queue, when nothing of cancelled submissions is in it any more.
///
/// # Errors
/// As [`state::live`]; [`ClusterError::Ending`] when patience is at its end.
pub fn live(
    root: &Path,
    slurm: &Slurm,
    patience: Patience,
    say: impl FnOnce(usize),
) -> Result<Live, ClusterError> {
    let found = state::live(root, slurm)?;
    if found.ending.jobs.is_empty() {
        return Ok(found);
    }
    let mut cancelled = Submission::all(root)?;
    cancelled.retain(Submission::is_cancelled);
    wait(&cancelled, slurm, patience, say)?;
    let now = state::live(root, slurm)?;
    if now.ending.jobs.is_empty() {
        return Ok(now);
    }
    let jobs = now.ending.jobs.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    Err(ClusterError::Ending { jobs, run: root.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::PathBuf;
    use std::rc::Rc;

    use super::*;
    use crate::cluster::commands::{Answer, Commands};
    use crate::cluster::submission::Array;
    use crate::cluster::submission::tests::{PINV, document_of, submission_in};
    use crate::spec::cluster::ClusterSpec;

    /// Of every array both tasks, of which the first ends for so many looks at array 1; keeps every question. Every
    /// other look the controller is busy.
    struct Ends(usize, Rc<RefCell<Vec<String>>>);

    impl Commands for Ends {
        fn run(&self, _: &str, arguments: &[&str]) -> Result<Answer, ClusterError> {
            let asked =
                arguments.last().copied().unwrap_or_default().trim_start_matches("--jobs=").to_owned();
            let ids: Vec<&str> = asked.split(',').collect();
            let looks = self.1.borrow().len();
            self.1.borrow_mut().push(asked.clone());
            if looks % 2 == 1 {
                let err = "slurm_load_jobs error: Unable to contact slurm controller".to_owned();
                return Ok(Answer { ok: false, out: String::new(), err });
            }
            let first = if looks >= self.0 {
                "1_0|CANCELLED||a|None\n1_1|CANCELLED||a|None\n"
            } else {
                "1_0|COMPLETING|node1|a|None\n1_1|CANCELLED||a|None\n"
            };
            let of = |id: &str, lines: &'static str| if ids.contains(&id) { lines } else { "" };
            let out = of("1", first).to_owned() + of("2", "2_0|PENDING||b|Resources");
            Ok(Answer { ok: true, out, err: String::new() })
        }
    }

    const LONG: Patience = Patience { within: Duration::from_secs(600), pause: Duration::ZERO };
    const NONE: Patience = Patience { within: Duration::ZERO, pause: Duration::ZERO };

    /// A submission of two chunks in the queue as array `job`.
    fn submitted(root: &Path, job: u64) -> Submission {
        let mut submission = submission_in(root, ClusterSpec::default());
        submission.create(&document_of(PINV)).unwrap();
        let (name, tasks) = (format!("dflow-{job}"), "0-1".to_owned());
        let array = Array {
            name,
            first: 0,
            stride: 1,
            tasks,
            sweep: 0,
            exclude: String::new(),
            job: Some(job),
            lost: false,
        };
        submission.update(|file| file.arrays.push(array)).unwrap();
        submission
    }

    fn slurm(looks: usize) -> (Slurm, Rc<RefCell<Vec<String>>>) {
        let calls = Rc::new(RefCell::new(Vec::new()));
        (Slurm::with(Ends(looks, Rc::clone(&calls)), vec![Duration::ZERO; 2]), calls)
    }

    #[test]
    fn what_was_cancelled_is_waited_for_and_not_left_out() {
        let root = tempfile::tempdir().unwrap();
        submitted(root.path(), 1).mark_cancelled().unwrap();
        let other = submitted(root.path(), 2);
        let (slurm, calls) = slurm(6);
        let mut said = Vec::new();
        let live = live(root.path(), &slurm, LONG, |chunks| said.push(chunks)).unwrap();
        assert_eq!(said, [1], "one line");
        assert_eq!(live.keys.len(), 10, "the first chunk of the submission that goes on");
        assert_eq!(live.arrays.keys().collect::<Vec<_>>(), [&PathBuf::from(other.dir())]);
        assert!(live.ending.keys.is_empty());
        let calls = calls.borrow();
        assert_eq!(calls[0], "1,2", "one question for all submissions");
        assert!(calls.iter().filter(|asked| *asked == "1").count() > 3, "until it is gone");
    }

    #[test]
    fn what_does_not_end_is_an_error_that_names_it() {
        let root = tempfile::tempdir().unwrap();
        let mut submission = submitted(root.path(), 1);
        let (slurm, _) = slurm(usize::MAX);
        // Of one that goes on nothing is waited for.
        let found = live(root.path(), &slurm, NONE, |_| panic!("nobody waits")).unwrap();
        assert_eq!(found.keys.len(), 10);
        submission.mark_cancelled().unwrap();
        let error = live(root.path(), &slurm, NONE, |_| ()).unwrap_err();
        assert!(!error.is_usage() && error.to_string().contains("squeue --jobs=1"), "{error}");
        assert_eq!(wait(&[submission], &slurm, NONE, |_| ()).unwrap(), 1);
    }
}
