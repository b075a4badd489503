//! The client against commands that are scripts in a folder of the test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;
use crate::cluster::queue::Phase;

/// A folder of stand-ins for Slurm's commands. Each answers call k by its k-th line of bash, and the last one for good.
struct FakeSlurm(tempfile::TempDir);

impl FakeSlurm {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn command(self, name: &str, answers: &[&str]) -> Self {
        let cases: String = answers
            .iter()
            .enumerate()
            .map(|(i, answer)| {
                format!(
                    "{}) {answer} ;;\n",
                    if i + 1 == answers.len() { "*".to_owned() } else { i.to_string() }
                )
            })
            .collect();
        let folder = self.0.path().display();
        let script = format!(
            "#!/bin/bash\nk=$(cat {folder}/{name}.calls 2>/dev/null | wc -l)\necho \"$*\" >> {folder}/{name}.calls\n\
             case $k in\n{cases}esac\n"
        );
        let path = self.0.path().join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn slurm(&self) -> Slurm {
        let path = std::env::join_paths([
            self.0.path().to_owned(),
            PathBuf::from("/usr/bin"),
            PathBuf::from("/bin"),
        ]);
        Slurm::with(OnlyHere(SearchPath::new(self.0.path()), path.unwrap()), vec![Duration::ZERO; 3])
    }

    /// The arguments of every call.
    fn calls(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.0.path().join(format!("{name}.calls"))).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// Finds commands in the folder only, also where a real Slurm is installed.
struct OnlyHere(
    SearchPath,
    #[expect(dead_code, reason = "keeps the path alive for messages")] std::ffi::OsString,
);

impl Commands for OnlyHere {
    fn run(&self, program: &str, arguments: &[&str]) -> Result<Answer, ClusterError> {
        self.0.run(program, arguments)
    }
}

fn request() -> Request<'static> {
    Request {
        name: "dflow-x-0",
        options: vec!["--array=0-3%2".to_owned()],
        script: "job.sbatch",
        arguments: vec!["0".to_owned()],
    }
}

/// Asks for job 3.
fn three() -> Question {
    Question { ids: vec![3], names: Vec::new() }
}

const BUSY: &str =
    "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1";

#[test]
fn a_submission_gives_its_options_and_takes_the_id() {
    for (out, id) in [("77", 77), ("78;gpu-cluster", 78), ("welcome to the cluster\\n79", 79)] {
        let fake = FakeSlurm::new().command("sbatch", &[&format!("printf '{out}\\n'")]);
        assert_eq!(fake.slurm().submit(&request()).unwrap(), id);
        assert_eq!(fake.calls("sbatch"), ["--parsable --job-name=dflow-x-0 --array=0-3%2 job.sbatch 0"]);
    }
}

#[test]
fn a_busy_controller_is_asked_again() {
    let fake = FakeSlurm::new().command("sbatch", &[BUSY, BUSY, "echo 12"]).command("squeue", &["true"]);
    assert_eq!(fake.slurm().submit(&request()).unwrap(), 12);
    assert_eq!((fake.calls("sbatch").len(), fake.calls("squeue").len()), (3, 2));
}

#[test]
fn a_submission_that_was_taken_without_an_answer_is_adopted() {
    let fake = FakeSlurm::new()
        .command("sbatch", &[BUSY, "echo 13"])
        .command("squeue", &["echo '12_[0-3%2]|PENDING||dflow-x-0|None'"]);
    assert_eq!(fake.slurm().submit(&request()).unwrap(), 12);
    assert_eq!(fake.calls("sbatch").len(), 1, "nothing is submitted twice");
    assert!(fake.calls("squeue")[0].contains("--name=dflow-x-0"));
}

/// Ends sbatch at once, as if its time were over, and nothing else.
struct ImpatientWithSbatch(SearchPath);

impl Commands for ImpatientWithSbatch {
    fn run(&self, program: &str, arguments: &[&str]) -> Result<Answer, ClusterError> {
        let path = self.0.clone();
        if program == "sbatch" { path.within(Duration::ZERO) } else { path }.run(program, arguments)
    }
}

#[test]
fn an_sbatch_that_hangs_is_ended_and_what_it_submitted_adopted() {
    let fake = FakeSlurm::new()
        .command("sbatch", &["exec sleep 1000"])
        .command("squeue", &["echo '12_[0-3%2]|PENDING||dflow-x-0|None'"]);
    let impatient = |fake: &FakeSlurm| {
        Slurm::with(ImpatientWithSbatch(SearchPath::new(fake.0.path())), vec![Duration::ZERO; 3])
    };
    assert_eq!(impatient(&fake).submit(&request()).unwrap(), 12);
    // Where it is not in the queue, it is told as a controller that is away.
    let fake = fake.command("squeue", &["true"]);
    let error = impatient(&fake).submit(&request()).unwrap_err();
    assert!(matches!(&error, ClusterError::Busy { tries: 4, .. }) && !error.is_usage(), "{error}");
    assert!(error.to_string().contains("no answer within"), "{error}");
}

#[test]
fn nothing_is_submitted_again_before_the_queue_could_be_asked() {
    let away =
        "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1";
    let fake = FakeSlurm::new().command("sbatch", &[BUSY, "echo 13"]).command("squeue", &[away]);
    let error = fake.slurm().submit(&request()).unwrap_err();
    assert!(matches!(&error, ClusterError::Busy { program, tries: 4, .. } if program == "sbatch"), "{error}");
    // One patience for both, not one within the other.
    assert_eq!((fake.calls("sbatch").len(), fake.calls("squeue").len()), (1, 4));
}

#[test]
fn a_controller_that_stays_away_is_given_up_with_its_words() {
    let fake = FakeSlurm::new().command("sbatch", &[BUSY]).command("squeue", &["true"]);
    let error = fake.slurm().submit(&request()).unwrap_err().to_string();
    assert!(error.contains("4 tries") && error.contains("Socket timed out"), "{error}");
}

#[test]
fn a_refusal_comes_at_once_and_says_what_to_set() {
    for (message, word) in [
        (
            "invalid partition specified: nope\nsbatch: error: Batch job submission failed: Invalid partition name specified",
            "sinfo -s",
        ),
        (
            "Batch job submission failed: Invalid account or account/partition combination specified",
            "`account`",
        ),
        ("Batch job submission failed: Invalid qos specification", "`qos`"),
        ("Batch job submission failed: Invalid feature specification", "`constraint`"),
        ("Batch job submission failed: Requested node configuration is not available", "`gpus`"),
        (
            "Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)",
            "`time`",
        ),
        (
            "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
            "--chunk",
        ),
        ("something else", "mend it in `cluster:`"),
    ] {
        let script = format!("printf '%s\\n' \"sbatch: error: {message}\" >&2; exit 1");
        let fake = FakeSlurm::new().command("sbatch", &[&script]).command("squeue", &["true"]);
        let error = fake.slurm().submit(&request()).unwrap_err();
        assert!(matches!(error, ClusterError::Refused { .. }) && error.to_string().contains(word), "{error}");
        assert!(!error.to_string().contains("sbatch: error"), "{error}");
        assert_eq!(fake.calls("sbatch").len(), 1, "{message}");
    }
}

#[test]
fn an_unknown_refusal_is_believed_when_the_queue_says_so_too() {
    let odd = "echo 'sbatch: error: lua: prolog went astray' >&2; exit 1";
    let fake = FakeSlurm::new()
        .command("sbatch", &[odd])
        .command("squeue", &["echo '12_[0-3%2]|PENDING||dflow-x-0|None'"]);
    assert_eq!(fake.slurm().submit(&request()).unwrap(), 12, "it was taken all the same");
    let away = "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1";
    let fake = FakeSlurm::new().command("sbatch", &[odd]).command("squeue", &[away]);
    let error = fake.slurm().submit(&request()).unwrap_err();
    assert!(!error.is_usage(), "it may be in the queue: {error}");
    assert_eq!(fake.calls("sbatch").len(), 1);
}

#[test]
fn a_single_try_is_told_as_one() {
    let fake = FakeSlurm::new()
        .command("squeue", &["echo 'squeue: error: Socket timed out on send/recv operation' >&2; exit 1"]);
    let error = Slurm { pauses: Vec::new(), ..fake.slurm() }.jobs(&three()).unwrap_err().to_string();
    assert!(error.starts_with("squeue did not get through in one try: Socket timed out"), "{error}");
}

#[test]
fn a_missing_sbatch_says_where_it_is() {
    let error = FakeSlurm::new().slurm().check().unwrap_err().to_string();
    assert!(error.starts_with("sbatch not found") && error.contains("login node"), "{error}");
}

#[test]
fn the_queue_of_old_jobs_is_empty() {
    let fake = FakeSlurm::new()
        .command("squeue", &["echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"]);
    assert!(fake.slurm().jobs(&three()).unwrap().is_empty());
    let fake = FakeSlurm::new().command("squeue", &["printf '3_0|R|node1|a|None\\n3_1|CA||a|None\\n'"]);
    let phases: Vec<bool> =
        fake.slurm().jobs(&three()).unwrap().iter().map(|job| job.phase.is_live()).collect();
    assert_eq!(phases, [true, false]);
    assert_eq!(Phase::of("R"), Phase::Running);
}

#[test]
fn an_answer_that_does_not_read_is_an_error() {
    let fake = FakeSlurm::new().command("squeue", &["echo hello"]);
    assert!(fake.slurm().jobs(&three()).unwrap_err().to_string().contains("hello"));
    let fake = FakeSlurm::new().command("sbatch", &["echo hello"]).command("squeue", &["true"]);
    assert!(fake.slurm().submit(&request()).unwrap_err().to_string().contains("hello"));
}

#[test]
fn the_length_of_arrays_is_the_clusters_and_at_most_a_thousand() {
    for (line, most) in [
        ("MaxArraySize            = 1001", 1000),
        ("MaxArraySize = 501", 501),
        ("MaxArraySize = 40001", 1000),
        ("", 1000),
    ] {
        let fake = FakeSlurm::new().command("scontrol", &[&format!("echo '{line}'")]);
        assert_eq!(fake.slurm().most_tasks(), most, "{line}");
    }
    assert_eq!(FakeSlurm::new().slurm().most_tasks(), 1000);
}

#[test]
fn cancelling_what_is_over_is_no_error() {
    let fake = FakeSlurm::new().command(
        "scancel",
        &["echo 'scancel: error: Kill job error on job id 3: Invalid job id specified' >&2; exit 1"],
    );
    fake.slurm().cancel(&[3, 4]).unwrap();
    assert_eq!(fake.calls("scancel"), ["3 4"]);
}
