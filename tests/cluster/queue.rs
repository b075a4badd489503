//! What `squeue` knows of jobs, those that have ended included: the sandbox forgets none for an hour.

/// `-O` of the call that [`parse`] reads. Widths end in nothing that Slurm writes.
pub(crate) const FORMAT: &str =
    "ArrayJobID:.12,ArrayTaskID:.12,State:.20,RestartCnt:.8,exit_code:.10,NodeList:.20,Name:.120";

/// A job or array task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    /// Id of the job or of its array.
    pub(crate) id: u64,
    /// Index in the array; none for a plain job, and for tasks that have not started.
    pub(crate) task: Option<usize>,
    /// Slurm's long name, such as `RUNNING`.
    pub(crate) state: String,
    /// How often it went back into the queue.
    pub(crate) restarts: u32,
    /// Exit code of its script.
    pub(crate) exit_code: i32,
    /// Where it runs or ran last.
    pub(crate) node: String,
    /// Its name.
    pub(crate) name: String,
}

impl Job {
    /// Whether it will not run any more.
    pub(crate) fn is_over(&self) -> bool {
        !matches!(
            &*self.state,
            "PENDING" | "CONFIGURING" | "RUNNING" | "COMPLETING" | "SUSPENDED" | "REQUEUED"
        )
    }

    /// Whether its script runs.
    pub(crate) fn is_running(&self) -> bool {
        self.state == "RUNNING"
    }
}

/// Jobs for people, one a line.
pub(crate) fn table(jobs: &[Job]) -> String {
    jobs.iter().map(|job| format!("{job:?}\n")).collect()
}

/// The jobs in the output of `squeue -h -r -t all -O` [`FORMAT`].
pub(crate) fn parse(text: &str) -> Vec<Job> {
    text.lines().filter(|line| !line.trim().is_empty()).map(parse_line).collect()
}

fn parse_line(line: &str) -> Job {
    // A node list is empty until the job runs, so that columns, not words, are counted.
    let mut rest = line;
    let mut column = |width: usize| {
        let (column, more) = rest.split_at_checked(width).unwrap_or((rest, ""));
        rest = more;
        column.trim().to_owned()
    };
    let (id, task, state) = (column(12), column(12), column(20));
    let (restarts, exit_code, node, name) = (column(8), column(10), column(20), column(120));
    let number =
        |text: &str| text.parse().unwrap_or_else(|_| panic!("squeue: no number {text:?} in {line:?}"));
    Job {
        id: u64::from(number(&id)),
        task: task.parse().ok(),
        state,
        restarts: number(&restarts),
        // As wait(2) has it: the exit code is the second byte.
        exit_code: (number(&exit_code) >> 8) as i32,
        node,
        name,
    }
}
