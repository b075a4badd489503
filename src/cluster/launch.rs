//! Submitting chunks: arrays of at most so many tasks, and the job after them.
//!
//! What is about to be submitted is recorded before, with its name, and its id after: wherever this is cut short, the
//! next submission knows what may be in the queue.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::error::ClusterError;
use super::question::Question;
use super::queue::{Job, Phase, list_of};
use super::script::{array_arguments, array_options, collect, job};
use super::slurm::{Request, Slurm, explain};
use super::state::collector_jobs;
use super::submission::{Array, Collector, Submission, SubmissionFile};
use crate::spec::cluster::ClusterSpec;

/// Why a job waits that asks for what its partition has not, or not now.
const MAY_NEVER_START: [&str; 3] = ["PartitionConfig", "BadConstraints", "ReqNodeNotAvail"];

/// Deals chunks to arrays, in turns, so that each has as many long ones as the others and they end together; every index
/// of an array is below `most`. `chunks` ascend.
pub fn arrays(
    submission: &Submission,
    chunks: &[usize],
    most: usize,
    sweep: u32,
    exclude: &str,
) -> Vec<Array> {
    let number = submission.file().arrays.len();
    let stride = chunks.last().map_or(1, |last| last / most + 1);
    let dealt = (0..stride).map(|first| {
        let own = chunks.iter().filter(|chunk| *chunk % stride == first);
        (first, own.map(|chunk| chunk / stride).collect::<Vec<_>>())
    });
    let array = |(k, (first, indices)): (usize, (usize, Vec<usize>))| Array {
        name: format!("dflow-{}-{}", submission.id(), number + k),
        first,
        stride,
        tasks: list_of(&indices),
        sweep,
        exclude: exclude.to_owned(),
        job: None,
        lost: false,
    };
    dealt.filter(|(_, indices)| !indices.is_empty()).enumerate().map(array).collect()
}

/// The nodes that arrays of a submission leave out beside those of its spec: `nodes`, unless no other would remain. Then
/// none: whatever ailed all of them may be mended, and jobs that are kept off every node wait for ever.
///
/// # Errors
/// [`ClusterError::Path`].
pub fn left_out(submission: &Submission, nodes: String, slurm: &Slurm) -> Result<String, ClusterError> {
    if nodes.is_empty() {
        return Ok(nodes);
    }
    let spec = submission.file().cluster.exclude.as_deref();
    let all = spec.into_iter().chain([nodes.as_str()]).collect::<Vec<_>>().join(",");
    let script = script_path(submission, "job.sbatch")?;
    Ok(if slurm.has_nodes_besides(&all, &script) { nodes } else { String::new() })
}

/// Writes the scripts of a new submission, with the commands that start `arrays`.
///
/// # Errors
/// As [`job`], [`Submission::write_file`].
pub fn write_scripts(submission: &Submission, arrays: &[Array]) -> Result<(), ClusterError> {
    submission.write_file("job.sbatch", &job(submission, arrays)?)?;
    submission.write_file("collect.sbatch", &collect(submission)?)
}

/// Asks whether both kinds of jobs of a submission, whose scripts are written, would be taken, while nothing of it is in
/// the queue yet: a refused job that collects would leave arrays behind that nobody collects after.
///
/// # Errors
/// [`ClusterError::Refused`] with what is wrong; what Slurm cannot tell beforehand is none.
pub fn check(submission: &Submission, slurm: &Slurm) -> Result<(), ClusterError> {
    let spec = &submission.file().cluster;
    let own = spec.collecting();
    let jobs = [
        ("job.sbatch", "the tasks", spec.partition.as_ref(), spec.qos.as_ref(), spec.constraint.as_ref()),
        (
            "collect.sbatch",
            "the job that collects (`collect:`)",
            own.partition.as_ref(),
            own.qos.as_ref(),
            own.constraint.as_ref(),
        ),
    ];
    for (script, job, partition, qos, constraint) in jobs {
        if let Some(message) = slurm.objection(&script_path(submission, script)?)? {
            let asked = [
                ("partition", partition),
                ("account", spec.account.as_ref()),
                ("qos", qos),
                ("constraint", constraint),
            ];
            let asked = asked.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?)));
            let asked = asked.collect::<Vec<_>>().join(", ");
            let asked = if asked.is_empty() { asked } else { format!(" ({asked})") };
            return Err(explain("sbatch", format!("{job} would be refused{asked}: {message}")));
        }
    }
    Ok(())
}

/// A job of a submission that, by what Slurm says at one look, may never start, and why.
pub fn stuck(submission: &Submission, slurm: &Slurm) -> Option<Job> {
    let is_stuck = |job: &Job| {
        job.phase == Phase::Queued
            && MAY_NEVER_START.iter().any(|reason| job.reason.trim().starts_with(reason))
    };
    slurm.glance(&Question::of_arrays([submission])).ok()?.into_iter().find(is_stuck)
}

/// Submits arrays, and the job that collects when they and the jobs `after` are over, whatever became of them. With arrays of
/// what failed before, `missing` says how many rows are missing.
///
/// # Errors
/// As [`Slurm::submit`]; what was submitted before stays, and is recorded. [`ClusterError::Cancelled`] when somebody
/// cancels the submission meanwhile.
pub fn launch(
    submission: &mut Submission,
    slurm: &Slurm,
    arrays: Vec<Array>,
    after: &[u64],
    missing: Option<usize>,
) -> Result<(), ClusterError> {
    submission.update(|file| {
        file.missing.extend(missing);
        file.arrays.extend(arrays.iter().cloned());
    })?;
    let script = script_path(submission, "job.sbatch")?;
    let mut jobs = after.to_vec();
    for (i, array) in arrays.iter().enumerate() {
        if submission.is_cancelled() {
            return Err(ClusterError::Cancelled);
        }
        let request = Request {
            name: &array.name,
            options: array_options(submission, &arrays, i),
            script: &script,
            arguments: array_arguments(submission, array),
        };
        let id = slurm.submit(&request)?;
        submission.update(|file| record(file, array, id))?;
        withdraw_if_cancelled(submission, slurm, id)?;
        jobs.push(id);
    }
    launch_collector(submission, slurm, &jobs)
}

/// Also where others took the array for lost meanwhile.
fn record(file: &mut SubmissionFile, array: &Array, id: u64) {
    let array = Array { job: Some(id), ..array.clone() };
    match file.arrays.iter_mut().find(|other| other.name == array.name) {
        Some(recorded) => *recorded = array,
        None => file.arrays.push(array),
    }
}

/// Whoever cancelled the submission while sbatch was at work could not know of this job.
fn withdraw_if_cancelled(submission: &Submission, slurm: &Slurm, job: u64) -> Result<(), ClusterError> {
    if !submission.is_cancelled() {
        return Ok(());
    }
    slurm.cancel(&[job])?;
    Err(ClusterError::Cancelled)
}

/// Starts the job that collects of every submission that has none any more, because it was refused or the controller lost
/// it; returns the ids of these submissions. `live` is what they have in the queue, by their folders. The job is made as
/// `cluster` says now: what was refused may have been mended.
///
/// # Errors
/// As [`launch`].
pub fn restore_collectors(
    live: &BTreeMap<PathBuf, BTreeSet<u64>>,
    cluster: &ClusterSpec,
    slurm: &Slurm,
) -> Result<Vec<String>, ClusterError> {
    let mut restored = Vec::new();
    for (dir, jobs) in live {
        let mut submission = Submission::open(dir)?;
        if submission.is_cancelled() || has_collector(&submission, slurm, None)? {
            continue;
        }
        submission.update(|file| file.cluster.collect.clone_from(&cluster.collect))?;
        submission.write_file("collect.sbatch", &collect(&submission)?)?;
        launch_collector(&mut submission, slurm, &jobs.iter().copied().collect::<Vec<_>>())?;
        restored.push(submission.id().to_owned());
    }
    Ok(restored)
}

/// Starts a job that collects when `jobs` are over, unless one waits or runs beside `this` one; whether it did.
///
/// # Errors
/// As [`launch`].
pub fn ensure_collector(
    submission: &mut Submission,
    slurm: &Slurm,
    jobs: &[u64],
    this: Option<u64>,
) -> Result<bool, ClusterError> {
    if has_collector(submission, slurm, this)? {
        return Ok(false);
    }
    launch_collector(submission, slurm, jobs).map(|()| true)
}

fn has_collector(submission: &Submission, slurm: &Slurm, besides: Option<u64>) -> Result<bool, ClusterError> {
    Ok(collector_jobs(submission, slurm)?.iter().any(|job| Some(job.id) != besides))
}

/// `afterany`: a failed, cancelled or timed-out task must not keep the results from being collected.
fn launch_collector(submission: &mut Submission, slurm: &Slurm, jobs: &[u64]) -> Result<(), ClusterError> {
    if submission.is_cancelled() {
        return Err(ClusterError::Cancelled);
    }
    let mut name = String::new();
    submission.update(|file| {
        name = format!("dflow-{}-collect-{}", file.id, file.collectors.len());
        file.collectors.push(Collector { name: name.clone(), job: None });
    })?;
    let jobs: Vec<String> = jobs.iter().map(u64::to_string).collect();
    let request = Request {
        name: &name,
        options: vec![format!("--dependency=afterany:{}", jobs.join(":"))],
        script: &script_path(submission, "collect.sbatch")?,
        arguments: Vec::new(),
    };
    let id = slurm.submit(&request)?;
    submission.update(|file| {
        let recorded = file.collectors.iter_mut().filter(|collector| collector.name == name);
        recorded.for_each(|recorded| recorded.job = Some(id));
    })?;
    withdraw_if_cancelled(submission, slurm, id)
}

fn script_path(submission: &Submission, name: &str) -> Result<String, ClusterError> {
    let path = submission.dir().join(name);
    let reason = "it is no text";
    path.to_str().map(str::to_owned).ok_or_else(|| ClusterError::Path { path: path.clone(), reason })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::Path;
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::cluster::commands::{Answer, Commands};
    use crate::cluster::queue::indices_of;
    use crate::cluster::submission::tests::{PINV, document_of, submission_in};
    use crate::spec::cluster::{ClusterSpec, CollectSpec};

    /// Takes so many submissions, then refuses; keeps every call.
    struct Takes(usize, Rc<RefCell<Vec<String>>>);

    impl Commands for Takes {
        fn run(&self, program: &str, arguments: &[&str]) -> Result<Answer, ClusterError> {
            let mut calls = self.1.borrow_mut();
            calls.push(format!("{program} {}", arguments.join(" ")));
            if program == "squeue" {
                return Ok(Answer { ok: true, ..Answer::default() });
            }
            let ok = calls.len() <= self.0;
            let out = (100 + calls.len()).to_string();
            Ok(Answer {
                ok,
                out,
                err: if ok { String::new() } else { "Invalid qos specification".to_owned() },
            })
        }
    }

    fn launched(root: &Path, takes: usize) -> (Submission, Vec<String>, Result<(), ClusterError>) {
        let mut submission = submission_in(root, ClusterSpec::default());
        submission.create(&document_of(PINV)).unwrap();
        let arrays = arrays(&submission, &[0, 1], 1, 0, "");
        write_scripts(&submission, &arrays).unwrap();
        let calls = Rc::new(RefCell::new(Vec::new()));
        let slurm = Slurm::with(Takes(takes, Rc::clone(&calls)), Vec::new());
        let result = launch(&mut submission, &slurm, arrays, &[7], None);
        let calls = calls.borrow().clone();
        (Submission::open(submission.dir()).unwrap(), calls, result)
    }

    #[test]
    fn chunks_are_cut_into_arrays_that_slurm_takes() {
        let submission = submission_in(Path::new("/r"), ClusterSpec::default());
        let dealt = |chunks: &[usize], most| {
            let arrays = arrays(&submission, chunks, most, 0, "");
            arrays.into_iter().map(|array| (array.first, array.stride, array.tasks)).collect::<Vec<_>>()
        };
        let is = |wanted: &[(usize, usize, &str)]| {
            let own = |(first, stride, tasks): &(usize, usize, &str)| (*first, *stride, (*tasks).to_owned());
            wanted.iter().map(own).collect::<Vec<_>>()
        };
        let all: Vec<usize> = (0..2500).collect();
        assert_eq!(dealt(&all, 1000), is(&[(0, 3, "0-833"), (1, 3, "0-832"), (2, 3, "0-832")]));
        assert_eq!(dealt(&all[..1000], 1000), is(&[(0, 1, "0-999")]));
        assert_eq!(dealt(&[3, 4, 1999], 1000), is(&[(0, 2, "2"), (1, 2, "1,999")]));
        assert_eq!(dealt(&[], 1000), []);
    }

    #[test]
    fn arrays_share_the_long_chunks_and_every_chunk_has_its_task() {
        let submission = submission_in(Path::new("/r"), ClusterSpec::default());
        let all: Vec<usize> = (0..2500).collect();
        let arrays = arrays(&submission, &all, 1000, 0, "");
        let chunks_of = |array: &Array| -> Vec<usize> {
            indices_of(&array.tasks).unwrap().into_iter().map(|index| array.chunk(index)).collect()
        };
        // Chunks shrink from the first to the last: half of all is as good as half of each array.
        for array in &arrays {
            let early = chunks_of(array).iter().filter(|chunk| **chunk < 1250).count();
            assert!((416..=418).contains(&early), "{early} of {}", array.tasks);
        }
        let mut chunks: Vec<usize> = arrays.iter().flat_map(chunks_of).collect();
        chunks.sort_unstable();
        assert_eq!(chunks, all);
    }

    /// Of two nodes.
    struct TwoNodes;

    impl Commands for TwoNodes {
        fn run(&self, _: &str, arguments: &[&str]) -> Result<Answer, ClusterError> {
            let ok = !(arguments[1].contains("node1") && arguments[1].contains("node2"));
            let err = "allocation failure: Requested node configuration is not available".to_owned();
            Ok(Answer { ok, out: String::new(), err: if ok { String::new() } else { err } })
        }
    }

    /// Tests scripts: takes what does not ask for partition `nope`, and what is told of others.
    struct Tests(&'static str);

    impl Commands for Tests {
        fn run(&self, _: &str, arguments: &[&str]) -> Result<Answer, ClusterError> {
            let [option, script] = arguments else { panic!("a test of a script: {arguments:?}") };
            assert_eq!(*option, "--test-only");
            let ok = !std::fs::read_to_string(script).unwrap().contains("--partition=nope");
            Ok(Answer { ok, out: String::new(), err: format!("allocation failure: {}", self.0) })
        }
    }

    #[test]
    fn what_would_be_refused_is_found_before_anything_is_submitted() {
        let checked = |partition: Option<&str>, collect: Option<&str>, message| {
            let root = tempfile::tempdir().unwrap();
            let partition = partition.map(str::to_owned);
            let collect = CollectSpec { partition: collect.map(str::to_owned), ..CollectSpec::default() };
            let spec = ClusterSpec { partition, collect: Some(collect), ..ClusterSpec::default() };
            let submission = submission_in(root.path(), spec);
            submission.create(&document_of(PINV)).unwrap();
            write_scripts(&submission, &arrays(&submission, &[0, 1], 10, 0, "")).unwrap();
            check(&submission, &Slurm::with(Tests(message), Vec::new())).map_err(|error| error.to_string())
        };
        let wrong = "Invalid partition name specified";
        assert_eq!(checked(Some("gpu"), Some("cpu"), wrong), Ok(()));
        let error = checked(Some("gpu"), Some("nope"), wrong).unwrap_err();
        let said =
            ["the job that collects (`collect:`) would be refused (partition nope)", wrong, "sinfo -s"];
        assert!(said.iter().all(|part| error.contains(part)), "{error}");
        let error = checked(Some("nope"), None, wrong).unwrap_err();
        assert!(error.contains("the tasks would be refused (partition nope)"), "{error}");
        // Nodes that are down now come back, and an sbatch without this option submits none the less.
        for other in ["Requested node configuration is not available", "unrecognized option '--test-only'"] {
            assert_eq!(checked(Some("nope"), None, other), Ok(()), "{other}");
        }
    }

    /// A queue of one line.
    struct Shows(&'static str);

    impl Commands for Shows {
        fn run(&self, _: &str, _: &[&str]) -> Result<Answer, ClusterError> {
            Ok(Answer {
                ok: !self.0.is_empty(),
                out: self.0.to_owned(),
                err: "Socket timed out on send/recv operation".to_owned(),
            })
        }
    }

    #[test]
    fn an_array_that_may_never_start_is_noticed_at_one_look() {
        let root = tempfile::tempdir().unwrap();
        let (submission, _, _) = launched(root.path(), 9);
        for (line, reason) in [
            ("101_[0]|PENDING||a|BadConstraints", Some("BadConstraints")),
            (
                "101_[0]|PENDING||a|ReqNodeNotAvail, UnavailableNodes:node1",
                Some("ReqNodeNotAvail, UnavailableNodes:node1"),
            ),
            ("101_[0]|PENDING||a|Resources", None),
            ("101_[0]|RUNNING|node1|a|None", None),
            ("", None),
        ] {
            let found = stuck(&submission, &Slurm::with(Shows(line), vec![Duration::MAX]));
            assert_eq!(found.map(|job| job.reason).as_deref(), reason, "{line}");
        }
    }

    #[test]
    fn no_array_leaves_out_every_node() {
        let slurm = Slurm::with(TwoNodes, Vec::new());
        let submission = submission_in(Path::new("/r"), ClusterSpec::default());
        let without = |nodes: &str| left_out(&submission, nodes.to_owned(), &slurm).unwrap();
        assert_eq!((&*without(""), &*without("node2"), &*without("node1,node2")), ("", "node2", ""));
        let spec = ClusterSpec { exclude: Some("node1".to_owned()), ..ClusterSpec::default() };
        let submission = submission_in(Path::new("/r"), spec);
        assert_eq!(left_out(&submission, "node2".to_owned(), &slurm).unwrap(), "", "the spec's count, too");
    }

    #[test]
    fn a_submission_without_its_collecting_job_gets_one_as_it_is_made_now() {
        let root = tempfile::tempdir().unwrap();
        let (submission, _, result) = launched(root.path(), 2);
        assert!(result.is_err() && submission.file().collectors[0].job.is_none());
        let live = BTreeMap::from([(submission.dir().to_owned(), BTreeSet::from([101, 102]))]);
        let collect = CollectSpec { partition: Some("cpu".to_owned()), ..CollectSpec::default() };
        let cluster = ClusterSpec { collect: Some(collect), ..ClusterSpec::default() };
        let calls = Rc::new(RefCell::new(Vec::new()));
        let slurm = Slurm::with(Takes(9, Rc::clone(&calls)), Vec::new());
        assert_eq!(restore_collectors(&live, &cluster, &slurm).unwrap(), [submission.id()]);
        let last = calls.borrow().last().cloned().unwrap();
        assert!(last.contains("--dependency=afterany:101:102") && last.ends_with("collect.sbatch"), "{last}");
        let script = std::fs::read_to_string(submission.dir().join("collect.sbatch")).unwrap();
        assert!(script.contains("#SBATCH --partition=cpu"), "{script}");
        assert!(Submission::open(submission.dir()).unwrap().file().collectors[1].job.is_some());
        // One that was cancelled is left alone.
        Submission::open(submission.dir()).unwrap().mark_cancelled().unwrap();
        assert!(restore_collectors(&live, &cluster, &slurm).unwrap().is_empty());
    }

    #[test]
    fn the_collecting_job_waits_for_every_array() {
        let root = tempfile::tempdir().unwrap();
        let (submission, calls, result) = launched(root.path(), 9);
        result.unwrap();
        let id = submission.id();
        assert!(
            calls[1].contains(&format!("--job-name=dflow-{id}-1 --array=0"))
                && calls[1].ends_with("job.sbatch 1 2")
        );
        assert!(calls[2].contains("--dependency=afterany:7:101:102") && calls[2].ends_with("collect.sbatch"));
        let ids: Vec<_> = submission.file().arrays.iter().map(|array| array.job).collect();
        assert_eq!((ids, submission.file().collectors[0].job), (vec![Some(101), Some(102)], Some(103)));
    }

    #[test]
    fn wherever_it_is_cut_short_what_was_submitted_is_recorded() {
        for takes in 0..3 {
            let root = tempfile::tempdir().unwrap();
            let (submission, _, result) = launched(root.path(), takes);
            assert!(matches!(result, Err(ClusterError::Refused { .. })));
            let known = submission.file().arrays.iter().filter(|array| array.job.is_some()).count();
            assert_eq!((known, submission.file().arrays.len()), (takes.min(2), 2), "{takes}");
        }
    }
}
