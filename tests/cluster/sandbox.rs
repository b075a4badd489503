//! A Slurm cluster of its own, from `tools/cluster`, for one scenario.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use crate::ended::Ended;
use crate::process::Process;
use crate::queue::{self, Job};

/// The program under test.
pub(crate) const DFLOW: &str = env!("CARGO_BIN_EXE_dflow");

/// Nothing on the sandbox takes longer, also on a slow and busy machine.
const BOUND: Duration = Duration::from_secs(600);
/// Time between two looks.
const POLL: Duration = Duration::from_millis(100);

/// A running cluster; it is stopped when it is dropped, and its files are removed unless the scenario failed.
pub(crate) struct Cluster {
    directory: PathBuf,
    /// Held while this process lives: the next test run clears away what has no living owner.
    _owner: File,
}

fn tool(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/cluster").join(name))
}

/// Folder of all clusters; short, for the addresses of sockets below it.
fn parent() -> PathBuf {
    std::env::temp_dir().join("dflow-cluster")
}

fn owner_file(directory: &Path) -> PathBuf {
    directory.with_extension("owner")
}

/// Stops the clusters of test runs that were killed, and removes the files of those that failed.
pub(crate) fn sweep() {
    for entry in std::fs::read_dir(parent()).into_iter().flatten().flatten() {
        let directory = entry.path();
        let is_owned = || File::open(owner_file(&directory)).is_ok_and(|owner| owner.try_lock().is_err());
        if directory.is_dir() && !is_owned() {
            Ended::of(tool("down.sh").arg(directory.join("slurm"))).succeeds();
            std::fs::remove_dir_all(&directory).unwrap();
            let _ = std::fs::remove_file(owner_file(&directory));
        }
    }
}

/// Why nodes cannot have mounts of their own here; none if they can.
pub(crate) fn why_no_mounts() -> Option<String> {
    let script = "d=$(mktemp -d) && trap 'rmdir \"$d\"' EXIT && unshare --mount --propagation private \
                  mount -t tmpfs none \"$d\"";
    let ended = Command::new("bash").args(["-c", script]).output().expect("bash starts");
    let message = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
    (!ended.status.success())
        .then(|| format!("a mount namespace is not permitted on this machine ({message})"))
}

impl Cluster {
    /// A cluster as `tools/cluster/up.sh` has it.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// A cluster with some lines of slurm.conf replaced, such as `SlurmdTimeout=30`.
    pub(crate) fn with(settings: &[&str]) -> Self {
        std::fs::create_dir_all(parent()).unwrap();
        let directory =
            tempfile::Builder::new().prefix("").rand_bytes(8).tempdir_in(parent()).unwrap().keep();
        let owner = File::create(owner_file(&directory)).unwrap();
        owner.lock().unwrap();
        let cluster = Self { directory, _owner: owner };
        std::fs::create_dir(cluster.work()).unwrap();
        let settings = settings.iter().flat_map(|setting| ["--set", setting]);
        Ended::of(tool("up.sh").arg(cluster.slurm()).args(settings)).succeeds();
        cluster
    }

    /// Directory of Slurm's own files.
    fn slurm(&self) -> PathBuf {
        self.directory.join("slurm")
    }

    fn conf(&self) -> PathBuf {
        self.slurm().join("slurm.conf")
    }

    /// Directory that commands run in.
    pub(crate) fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// A command as a user of the cluster runs it.
    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.work());
        command.env("SLURM_CONF", self.conf()).env("NO_COLOR", "1");
        ["RUST_LOG", "DFLOW_CPU", "SBATCH_PARTITION"].iter().for_each(|name| {
            command.env_remove(name);
        });
        command
    }

    /// Runs a command as a user of the cluster.
    #[track_caller]
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Ended {
        Ended::of(&mut self.command(program, arguments))
    }

    /// Injects a fault, or heals it: `tools/cluster/node.sh`.
    #[track_caller]
    pub(crate) fn node(&self, node: &str, fault: &[&str]) {
        Ended::of(tool("node.sh").arg(self.slurm()).arg(node).args(fault).current_dir(self.work()))
            .succeeds();
    }

    /// All jobs of this cluster, those that are over included; none while the controller does not answer.
    pub(crate) fn jobs(&self) -> Vec<Job> {
        let mut squeue =
            self.command("timeout", &["10", "squeue", "-h", "-r", "-t", "all", "-O", queue::FORMAT]);
        let ended = squeue.output().expect("timeout starts");
        if !ended.status.success() {
            return Vec::new();
        }
        queue::parse(&String::from_utf8_lossy(&ended.stdout))
    }

    /// The processes of `dflow` in array tasks.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let program = std::fs::canonicalize(DFLOW).expect("the program is built");
        Process::all(&program, &self.conf())
    }

    /// Those of one array task; several, where it has workers in processes of their own.
    pub(crate) fn processes_of(&self, task: usize) -> Vec<Process> {
        self.processes().into_iter().filter(|process| process.task() == Some(task)).collect()
    }

    /// How often a job was given a node, as the controller's log says: the two schedulers of Slurm have words of their own.
    pub(crate) fn starts_on(&self, node: &str) -> usize {
        let log = std::fs::read_to_string(self.slurm().join("log/slurmctld.log")).unwrap();
        let (main, backfill) = (format!(" NodeList={node} "), format!(" on {node}"));
        let is_start = |line: &&str| {
            (line.contains("Allocate JobId=") && line.contains(&main))
                || (line.contains("Started JobId=") && line.ends_with(&backfill))
        };
        log.lines().filter(is_start).count()
    }

    /// Has the controller write down all that it knows: a change of any job makes it, within seconds.
    pub(crate) fn save_state(&self, job: u64) {
        let now = SystemTime::now();
        self.run("scontrol", &["update", &format!("JobId={job}"), "Comment=saved"]).succeeds();
        let file = self.slurm().join("state/job_state");
        self.wait_until("the controller's saved state", || {
            std::fs::metadata(&file).and_then(|file| file.modified()).is_ok_and(|saved| saved > now)
        });
    }

    /// What an administrator does after a crash: drained nodes are taken back, held tasks released. How many there were.
    pub(crate) fn repair(&self) -> usize {
        let list = |program: &str, arguments: &[&str]| -> Vec<String> {
            let arguments = [&["10", program], arguments].concat();
            let ended = self.command("timeout", &arguments).output().expect("timeout starts");
            let text = String::from_utf8_lossy(&ended.stdout).into_owned();
            text.lines().map(|line| line.trim().to_owned()).collect()
        };
        let drained = list("sinfo", &["-h", "-N", "-p", "overnight", "-t", "drain", "-o", "%N"]);
        for node in &drained {
            self.run("scontrol", &["update", &format!("NodeName={node}"), "State=RESUME"]);
        }
        let pending = list("squeue", &["-h", "-r", "-t", "PENDING", "-o", "%i %r"]);
        let held: Vec<&String> = pending.iter().filter(|line| line.contains("held")).collect();
        for line in &held {
            self.run("scontrol", &["release", line.split(' ').next().unwrap_or_default()]);
        }
        drained.len() + held.len()
    }

    /// Looks until there is what is looked for.
    ///
    /// # Panics
    /// After [`BOUND`], with what Slurm says.
    #[track_caller]
    pub(crate) fn wait_for<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(begin.elapsed() < BOUND, "waited {BOUND:?} for {what}\n{}", self.report());
            std::thread::sleep(POLL);
        }
    }

    /// Looks until something holds.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        self.wait_for(what, || holds().then_some(()));
    }

    /// Queue, nodes, and the last lines of every log, for people.
    fn report(&self) -> String {
        let tails = format!(
            "timeout 5 squeue -r -t all; timeout 5 sinfo -N -l; tail -n 15 {0}/log/slurm*.log; \
             tail -n 20 {1}/*/submit/*/logs/*.out",
            self.slurm().display(),
            self.work().display()
        );
        let ended = self.command("bash", &["-c", &tails]).output().expect("bash starts");
        String::from_utf8_lossy(&ended.stdout).into_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A drop while another panic unwinds must not panic.
        let _ = tool("down.sh").arg(self.slurm()).output();
        if std::thread::panicking() {
            println!("    files of this scenario, until the next test run: {}", self.directory.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.directory);
            let _ = std::fs::remove_file(owner_file(&self.directory));
        }
    }
}
