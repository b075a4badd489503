//! Taking a submission out of the queue, also while its collecting job submits more of it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::error::ClusterError;
use super::queue::Phase;
use super::slurm::Slurm;
use super::state::{collector_jobs, jobs_of_chunks};
use super::submission::Submission;

/// Most looks at the queue. A collecting job that runs is gone after the cluster's `KillWait`, half a minute by default.
const LOOKS: u32 = 40;

/// Chunks that were taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cancelled {
    /// That waited.
    pub queued: usize,
    /// That ran.
    pub running: usize,
}

/// Records that a submission is cancelled, and cancels every job of it: also where that cannot be recorded.
///
/// # Errors
/// As [`Slurm::jobs`] and [`Slurm::cancel`]; [`ClusterError::Unrecorded`] when all is cancelled.
pub fn cancel(
    submission: &mut Submission,
    slurm: &Slurm,
    pause: Duration,
) -> Result<Cancelled, ClusterError> {
    let recorded = submission.mark_cancelled();
    let cancelled = take_out(submission, slurm, pause)?;
    recorded.map_err(|source| ClusterError::Unrecorded { source: Box::new(source) })?;
    Ok(cancelled)
}

/// The collecting jobs go first, because they would submit again what they find missing; as long as one of them still runs
/// it may be doing so, and the queue is looked at again after `pause`, until nothing new is there.
fn take_out(submission: &mut Submission, slurm: &Slurm, pause: Duration) -> Result<Cancelled, ClusterError> {
    let mut told = BTreeSet::new();
    let mut cancelled = Cancelled::default();
    for _ in 0..LOOKS {
        let collectors = collector_jobs(submission, slurm)?;
        let news = tell(slurm, &mut told, collectors.iter().map(|job| job.id))?;
        let is_collecting = collectors.iter().any(|job| job.phase == Phase::Running);
        submission.refresh()?;
        let chunks = jobs_of_chunks(submission, slurm)?;
        let live = || chunks.values().filter(|job| job.phase.is_live());
        for job in live().filter(|job| !told.contains(&job.id)) {
            match job.phase {
                Phase::Queued => cancelled.queued += 1,
                _ => cancelled.running += 1,
            }
        }
        let more = tell(slurm, &mut told, live().map(|job| job.id))?;
        if !is_collecting && !news && !more {
            break;
        }
        if is_collecting {
            std::thread::sleep(pause);
        }
    }
    Ok(cancelled)
}

/// Cancels those that were not cancelled yet; whether there were any.
fn tell(
    slurm: &Slurm,
    told: &mut BTreeSet<u64>,
    jobs: impl Iterator<Item = u64>,
) -> Result<bool, ClusterError> {
    let jobs: BTreeSet<u64> = jobs.filter(|id| !told.contains(id)).collect();
    if jobs.is_empty() {
        return Ok(false);
    }
    slurm.cancel(&jobs.iter().copied().collect::<Vec<_>>())?;
    told.extend(jobs);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::PathBuf;
    use std::rc::Rc;

    use super::*;
    use crate::cluster::commands::{Answer, Commands};
    use crate::cluster::launch;
    use crate::cluster::submission::tests::{PINV, document_of, submission_in};
    use crate::cluster::submission::{Array, Collector};
    use crate::spec::cluster::ClusterSpec;

    /// A queue with an array 1 and a running collecting job 2, which manages to submit array 3 before it is gone.
    struct Resubmits {
        dir: PathBuf,
        calls: Rc<RefCell<Vec<String>>>,
    }

    impl Resubmits {
        fn queue(&self, cancelled: bool) -> String {
            let all = self.calls.borrow();
            let was = |id: &str| {
                all.iter().any(|call| call.starts_with("scancel") && call.split(' ').any(|word| word == id))
            };
            let looks = all.iter().filter(|call| call.starts_with("squeue")).count();
            let mut lines = Vec::new();
            lines.extend((!was("1")).then_some("1_0|RUNNING|node1|a|None"));
            lines.extend((looks < 5).then_some("2|COMPLETING|node1|collect|None"));
            lines.extend((cancelled && !was("3")).then_some("3_0|PENDING||b|None"));
            lines.join("\n")
        }
    }

    impl Commands for Resubmits {
        fn run(&self, program: &str, arguments: &[&str]) -> Result<Answer, ClusterError> {
            let call = format!("{program} {}", arguments.join(" "));
            self.calls.borrow_mut().push(call);
            let mut submission = Submission::open(&self.dir)?;
            if program == "scancel" && arguments == ["2"] {
                submission.update(|file| file.arrays.push(array("b", 1, Some(3))))?;
            }
            let asked = arguments.last().copied().unwrap_or_default();
            let is_asked = |line: &&str| {
                let id = line.split(['_', '|']).next().unwrap_or_default();
                asked.trim_start_matches("--jobs=").split(',').any(|other| other == id)
            };
            let queue = self.queue(submission.file().arrays.len() > 1);
            let out = queue.lines().filter(is_asked).collect::<Vec<_>>().join("\n");
            Ok(Answer { ok: true, out, err: String::new() })
        }
    }

    fn array(name: &str, first: usize, job: Option<u64>) -> Array {
        let (name, tasks) = (name.to_owned(), "0".to_owned());
        Array { name, first, stride: 1, tasks, sweep: 0, exclude: String::new(), job, lost: false }
    }

    #[test]
    fn what_a_collecting_job_submits_meanwhile_is_cancelled_too() {
        let root = tempfile::tempdir().unwrap();
        let mut submission = submission_in(root.path(), ClusterSpec::default());
        submission.create(&document_of(PINV)).unwrap();
        submission
            .update(|file| {
                file.arrays.push(array("a", 0, Some(1)));
                file.collectors.push(Collector { name: "collect".to_owned(), job: Some(2) });
            })
            .unwrap();
        let calls = Rc::new(RefCell::new(Vec::new()));
        let slurm =
            Slurm::with(Resubmits { dir: submission.dir().to_owned(), calls: Rc::clone(&calls) }, Vec::new());
        let cancelled = cancel(&mut submission, &slurm, Duration::ZERO).unwrap();
        assert_eq!(cancelled, Cancelled { queued: 1, running: 1 });
        let calls = calls.borrow();
        let told: Vec<&String> = calls.iter().filter(|call| call.starts_with("scancel")).collect();
        assert_eq!(told[0], "scancel 2", "first of all: {told:?}");
        assert!(told.iter().skip(1).any(|call| call.contains('3')), "{told:?}");
        assert!(calls.iter().filter(|call| call.starts_with("squeue")).count() >= 5, "until it is gone");
        let read = Submission::open(submission.dir()).unwrap();
        assert_eq!((read.file().arrays.len(), read.file().cancelled), (2, true), "nothing is written over");
    }

    #[test]
    fn jobs_are_cancelled_also_where_nothing_can_be_written() {
        let root = tempfile::tempdir().unwrap();
        let mut submission = submission_in(root.path(), ClusterSpec::default());
        submission.create(&document_of(PINV)).unwrap();
        submission.update(|file| file.arrays.push(array("a", 0, Some(1)))).unwrap();
        // A folder in the way, with something in it: also root cannot write the file.
        std::fs::create_dir_all(submission.dir().join("cancelled/folder")).unwrap();
        let calls = Rc::new(RefCell::new(Vec::new()));
        let slurm =
            Slurm::with(Resubmits { dir: submission.dir().to_owned(), calls: Rc::clone(&calls) }, Vec::new());
        let error = cancel(&mut submission, &slurm, Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains("cancelled all the same") && error.contains("dflow cancel"), "{error}");
        assert!(calls.borrow().iter().any(|call| call == "scancel 1"), "{:?}", calls.borrow());
    }

    #[test]
    fn nothing_more_is_launched_of_a_submission_that_was_cancelled() {
        let root = tempfile::tempdir().unwrap();
        let mut submission = submission_in(root.path(), ClusterSpec::default());
        submission.create(&document_of(PINV)).unwrap();
        // By another process, which this one's copy of the file knows nothing of.
        Submission::open(submission.dir()).unwrap().mark_cancelled().unwrap();
        let calls = Rc::new(RefCell::new(Vec::new()));
        let slurm =
            Slurm::with(Resubmits { dir: submission.dir().to_owned(), calls: Rc::clone(&calls) }, Vec::new());
        let result = launch::launch(&mut submission, &slurm, vec![array("a", 0, None)], &[], None);
        assert!(matches!(result, Err(ClusterError::Cancelled)), "{result:?}");
        assert!(calls.borrow().is_empty(), "{:?}", calls.borrow());
    }

    #[test]
    fn no_other_writer_can_undo_it() {
        let root = tempfile::tempdir().unwrap();
        let mut submission = submission_in(root.path(), ClusterSpec::default());
        submission.create(&document_of(PINV)).unwrap();
        submission.mark_cancelled().unwrap();
        submission.update(|file| file.cancelled = false).unwrap();
        assert!(Submission::open(submission.dir()).unwrap().file().cancelled);
    }
}
