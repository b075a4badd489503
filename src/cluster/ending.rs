//! Tasks of cancelled submissions that still end: their last checkpoints and rows are there only when they are gone, and
//! nobody but the next submission goes on with what they leave.

use std::path::Path;
use std::time::Duration;

use super::error::ClusterError;
use super::slurm::Slurm;
use super::state::{self, Live, jobs_of_chunks};
use super::submission::Submission;

/// How long they are waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Most looks at the queue.
    pub looks: u32,
    /// Time between two of them.
    pub pause: Duration,
}

impl Patience {
    /// Two minutes: a task is gone after the cluster's `KillWait`, half a minute by default.
    pub const USUAL: Self = Self { looks: 61, pause: Duration::from_secs(2) };
}

/// Looks at the queue until no chunk of these submissions waits or runs; how many still do in the end. `say` is told once
/// how many are waited for, if any.
///
/// # Errors
/// As [`Slurm::jobs`].
pub fn wait(
    submissions: &[Submission],
    slurm: &Slurm,
    patience: Patience,
    say: impl FnOnce(usize),
) -> Result<usize, ClusterError> {
    let mut say = Some(say);
    let mut left = live_chunks(submissions, slurm)?;
    for _ in 1..patience.looks {
        if left == 0 {
            break;
        }
        if let Some(say) = say.take() {
            say(left);
        }
        std::thread::sleep(patience.pause);
        left = live_chunks(submissions, slurm)?;
    }
    Ok(left)
}

/// Chunks that still wait or run.
fn live_chunks(submissions: &[Submission], slurm: &Slurm) -> Result<usize, ClusterError> {
    let mut count = 0;
    for submission in submissions {
        let jobs = jobs_of_chunks(submission, slurm)?;
        count += jobs.values().filter(|job| job.phase.is_live()).count();
    }
    Ok(count)
}

/// What the run in `root` has in the queue, when nothing of cancelled submissions is in it any more, and whether that was
/// waited for.
///
/// # Errors
/// As [`state::live`]; [`ClusterError::Ending`] when patience is at its end.
pub fn live(
    root: &Path,
    slurm: &Slurm,
    patience: Patience,
    say: impl FnOnce(usize),
) -> Result<(Live, bool), ClusterError> {
    let found = state::live(root, slurm)?;
    if found.ending.jobs.is_empty() {
        return Ok((found, false));
    }
    let mut cancelled = Submission::all(root)?;
    cancelled.retain(Submission::is_cancelled);
    wait(&cancelled, slurm, patience, say)?;
    let now = state::live(root, slurm)?;
    if now.ending.jobs.is_empty() {
        return Ok((now, true));
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

    /// Of every array both tasks, of which the first ends for so many looks at array 1; keeps every call.
    struct Ends(usize, Rc<RefCell<Vec<String>>>);

    impl Commands for Ends {
        fn run(&self, _: &str, arguments: &[&str]) -> Result<Answer, ClusterError> {
            let asked = arguments.last().copied().unwrap_or_default().trim_start_matches("--jobs=");
            self.1.borrow_mut().push(asked.to_owned());
            let looks = self.1.borrow().iter().filter(|asked| *asked == "1").count();
            let out = match asked {
                "1" if looks > self.0 => "1_0|CANCELLED||a|None\n1_1|CANCELLED||a|None",
                "1" => "1_0|COMPLETING|node1|a|None\n1_1|CANCELLED||a|None",
                _ => "2_0|PENDING||b|Resources",
            };
            Ok(Answer { ok: true, out: out.to_owned(), err: String::new() })
        }
    }

    const AT_ONCE: Patience = Patience { looks: 4, pause: Duration::ZERO };

    /// A submission of two chunks in the queue as array `job`.
    fn submitted(root: &Path, job: u64) -> Submission {
        let mut submission = submission_in(root, ClusterSpec::default());
        submission.create(&document_of(PINV)).unwrap();
        let (name, tasks) = (format!("dflow-{job}"), "0-1".to_owned());
        let array =
            Array { name, first: 0, stride: 1, tasks, sweep: 0, exclude: String::new(), job: Some(job) };
        submission.update(|file| file.arrays.push(array)).unwrap();
        submission
    }

    fn slurm(looks: usize) -> (Slurm, Rc<RefCell<Vec<String>>>) {
        let calls = Rc::new(RefCell::new(Vec::new()));
        (Slurm::with(Ends(looks, Rc::clone(&calls)), Vec::new()), calls)
    }

    #[test]
    fn what_was_cancelled_is_waited_for_and_not_left_out() {
        let root = tempfile::tempdir().unwrap();
        submitted(root.path(), 1).mark_cancelled().unwrap();
        let other = submitted(root.path(), 2);
        let (slurm, calls) = slurm(3);
        let mut said = Vec::new();
        let (live, waited) = live(root.path(), &slurm, AT_ONCE, |chunks| said.push(chunks)).unwrap();
        assert_eq!((waited, said), (true, vec![1]), "one line");
        assert_eq!(live.keys.len(), 10, "the first chunk of the submission that goes on");
        assert_eq!(live.arrays.keys().collect::<Vec<_>>(), [&PathBuf::from(other.dir())]);
        assert!(live.ending.keys.is_empty());
        assert!(calls.borrow().iter().filter(|asked| *asked == "1").count() > 3, "until it is gone");
    }

    #[test]
    fn what_does_not_end_is_an_error_that_names_it() {
        let root = tempfile::tempdir().unwrap();
        let mut submission = submitted(root.path(), 1);
        let (slurm, _) = slurm(usize::MAX);
        // Of one that goes on nothing is waited for.
        let (found, waited) = live(root.path(), &slurm, AT_ONCE, |_| panic!("nobody waits")).unwrap();
        assert_eq!((found.keys.len(), waited), (10, false));
        submission.mark_cancelled().unwrap();
        let error = live(root.path(), &slurm, AT_ONCE, |_| ()).unwrap_err();
        assert!(!error.is_usage() && error.to_string().contains("squeue --jobs=1"), "{error}");
        assert_eq!(wait(&[submission], &slurm, AT_ONCE, |_| ()).unwrap(), 1);
    }
}
