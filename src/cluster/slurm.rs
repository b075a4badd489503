//! The client of Slurm: sbatch, squeue, scancel and scontrol as subprocesses, patient with a busy controller.
//!
//! A submission that got no answer may nevertheless have been taken: before it is repeated, `squeue` is asked for its
//! name, which is unique, and what is found is adopted.

mod refusal;

use std::time::Duration;

use super::commands::{Answer, Commands, SearchPath};
use super::error::ClusterError;
use super::question::Question;
use super::queue::{self, Job};
pub(super) use refusal::explain;
pub use refusal::is_transient;

/// Seconds before each repetition of a command that did not get through: a little over two minutes altogether, beside
/// what the commands themselves wait for an answer.
const PAUSES: [u64; 6] = [2, 5, 10, 20, 40, 60];

/// Most tasks of an array where the cluster does not say: one less than Slurm's default `MaxArraySize`.
const MOST_TASKS: usize = 1000;

/// What Slurm says of a job that could never run, because no node of the cluster is or may be its own.
const NO_NODE: &str = "node configuration is not available";

/// A cluster that is reached through Slurm's commands.
pub struct Slurm {
    commands: Box<dyn Commands>,
    pauses: Vec<Duration>,
}

/// A job to submit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// Its name, unique for ever.
    pub name: &'a str,
    /// Options beside those in the script.
    pub options: Vec<String>,
    /// The batch script.
    pub script: &'a str,
    /// Arguments of the script.
    pub arguments: Vec<String>,
}

impl Slurm {
    /// The commands on `PATH`.
    pub fn on_path() -> Self {
        let pauses = PAUSES.into_iter().map(Duration::from_secs).collect();
        Self { commands: Box::new(SearchPath::from_environment()), pauses }
    }

    /// Other commands, with these pauses before each repetition.
    pub fn with(commands: impl Commands + 'static, pauses: Vec<Duration>) -> Self {
        Self { commands: Box::new(commands), pauses }
    }

    /// Whether jobs can be submitted from here: that sbatch is there, before any work.
    ///
    /// # Errors
    /// [`ClusterError::NoProgram`].
    pub fn check(&self) -> Result<(), ClusterError> {
        self.commands.run("sbatch", &["--version"]).map(|_| ())
    }

    /// Submits a job; returns its id.
    ///
    /// # Errors
    /// What Slurm refuses, at once; [`ClusterError::Busy`] when it does not answer.
    ///
    /// A refusal in unknown words may come after the job was taken: then, too, the queue is asked first.
    pub fn submit(&self, request: &Request<'_>) -> Result<u64, ClusterError> {
        let name = format!("--job-name={}", request.name);
        let mut arguments = vec!["--parsable", &name];
        arguments.extend(request.options.iter().map(String::as_str));
        arguments.push(request.script);
        arguments.extend(request.arguments.iter().map(String::as_str));
        let mut pauses = self.pauses.iter();
        loop {
            let message = match self.send(&arguments)? {
                Sent::Taken(id) => return Ok(id),
                Sent::Unclear(error) => return self.job_named(request.name)?.ok_or(error),
                Sent::Lost(message) => message,
            };
            if let Some(id) = self.look_for(request.name, &message, &mut pauses)? {
                return Ok(id);
            }
        }
    }

    /// Runs sbatch once.
    fn send(&self, arguments: &[&str]) -> Result<Sent, ClusterError> {
        let answer = self.commands.run("sbatch", arguments)?;
        if answer.ok {
            return Ok(match job_id(&answer.out) {
                Some(id) => Sent::Taken(id),
                None => Sent::Unclear(unexpected("sbatch", answer.out)),
            });
        }
        let message = answer.message();
        if is_transient(&message) {
            return Ok(Sent::Lost(message));
        }
        let is_known = refusal::is_known(&message);
        let error = refusal::explain("sbatch", message);
        if is_known { Err(error) } else { Ok(Sent::Unclear(error)) }
    }

    /// Asks the queue for what was sent without an answer, in the same patience as sbatch's: none says that it is not
    /// there, so that it may be sent again.
    fn look_for<'a>(
        &self,
        name: &str,
        message: &str,
        pauses: &mut impl Iterator<Item = &'a Duration>,
    ) -> Result<Option<u64>, ClusterError> {
        let filter = format!("--name={name}");
        loop {
            let pause = pauses.next();
            std::thread::sleep(pause.copied().unwrap_or_default());
            let found = self.queue(&filter, &[]).map(|jobs| jobs.iter().map(|job| job.id).min());
            match (found, pause) {
                (Ok(None) | Err(ClusterError::Busy { .. }), None) => {
                    let (program, tries) = ("sbatch".to_owned(), self.pauses.len() + 1);
                    return Err(ClusterError::Busy { program, tries, message: message.to_owned() });
                }
                (Err(ClusterError::Busy { .. }), Some(_)) => {}
                (answer, _) => return answer,
            }
        }
    }

    /// The jobs and array tasks of a question that the controller still knows, those that ended some minutes ago included.
    ///
    /// # Errors
    /// [`ClusterError::Busy`], [`ClusterError::NoProgram`].
    pub fn jobs(&self, question: &Question) -> Result<Vec<Job>, ClusterError> {
        self.asked(question, &self.pauses)
    }

    /// As [`Self::jobs`], asked once, whatever the answer.
    ///
    /// # Errors
    /// As [`Self::jobs`].
    pub fn glance(&self, question: &Question) -> Result<Vec<Job>, ClusterError> {
        self.asked(question, &[])
    }

    /// All ids at once, and once more for names, if there are any.
    fn asked(&self, question: &Question, pauses: &[Duration]) -> Result<Vec<Job>, ClusterError> {
        let Question { ids, names } = question;
        let mut jobs = Vec::new();
        if !ids.is_empty() {
            let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
            jobs.extend(self.queue(&format!("--jobs={}", ids.join(",")), pauses)?);
        }
        if !names.is_empty() {
            jobs.extend(self.named(names, pauses)?);
        }
        Ok(jobs)
    }

    /// Jobs of these names; the controller sends its whole queue for it.
    fn named(&self, names: &[String], pauses: &[Duration]) -> Result<Vec<Job>, ClusterError> {
        let mut jobs = self.queue(&format!("--name={}", names.join(",")), pauses)?;
        jobs.retain(|job| names.contains(&job.name));
        Ok(jobs)
    }

    /// What squeue shows, asked again after each of these pauses while it does not get through.
    fn queue(&self, filter: &str, pauses: &[Duration]) -> Result<Vec<Job>, ClusterError> {
        let arguments = ["--noheader", "--array", "--all", "--states=all", "-o", queue::FORMAT, filter];
        let answer = match self.answer("squeue", &arguments, pauses) {
            // All of them ended long ago.
            Err(ClusterError::Refused { message, .. }) if message.contains("Invalid job id") => {
                return Ok(Vec::new());
            }
            other => other?,
        };
        queue::parse(&answer.out).map_err(|line| unexpected("squeue", line))
    }

    fn job_named(&self, name: &str) -> Result<Option<u64>, ClusterError> {
        let jobs = self.named(&[name.to_owned()], &self.pauses)?;
        Ok(jobs.iter().map(|job| job.id).min())
    }

    /// Cancels jobs and whole arrays; those that are over already are no error.
    ///
    /// # Errors
    /// [`ClusterError::Busy`], or a refusal such as jobs of somebody else.
    pub fn cancel(&self, ids: &[u64]) -> Result<(), ClusterError> {
        let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        match self.answer("scancel", &ids, &self.pauses) {
            Err(ClusterError::Refused { message, .. })
                if message.contains("Invalid job id")
                    || message.contains("already completing or completed") =>
            {
                Ok(())
            }
            other => other.map(|_| ()),
        }
    }

    /// Whether a node would be left for the job of a script that is kept off the nodes of `exclude`; also where that
    /// cannot be told.
    pub fn has_nodes_besides(&self, exclude: &str, script: &str) -> bool {
        let exclude = format!("--exclude={exclude}");
        let answer = self.commands.run("sbatch", &["--test-only", &exclude, script]);
        answer.map_or(true, |answer| answer.ok || !answer.message().contains(NO_NODE))
    }

    /// What Slurm has against the job of a script, whatever its nodes do now; none, too, where that cannot be told before it
    /// is submitted.
    ///
    /// # Errors
    /// [`ClusterError::NoProgram`].
    pub fn objection(&self, script: &str) -> Result<Option<String>, ClusterError> {
        let answer = self.commands.run("sbatch", &["--test-only", script])?;
        let message = answer.message();
        Ok((!answer.ok && refusal::is_about_request(&message)).then_some(message))
    }

    /// Most tasks of one array: what the cluster says, at most a thousand.
    pub fn most_tasks(&self) -> usize {
        let said = self.commands.run("scontrol", &["show", "config"]).ok().and_then(|answer| {
            let line = answer.out.lines().find(|line| line.trim_start().starts_with("MaxArraySize"))?;
            line.split('=').nth(1)?.trim().parse::<usize>().ok()
        });
        // Indices are below MaxArraySize. A size of 1 or 0 allows index 0 only, or no arrays at all.
        said.map_or(MOST_TASKS, |size| size.clamp(1, MOST_TASKS))
    }

    /// Runs a command until it gets through, again after each of these pauses.
    fn answer(&self, program: &str, arguments: &[&str], pauses: &[Duration]) -> Result<Answer, ClusterError> {
        let tries = pauses.len() + 1;
        let mut pauses = pauses.iter();
        loop {
            let answer = self.commands.run(program, arguments)?;
            if answer.ok {
                return Ok(answer);
            }
            let message = answer.message();
            if !is_transient(&message) {
                return Err(refusal::explain(program, message));
            }
            let Some(pause) = pauses.next() else {
                return Err(ClusterError::Busy { program: program.to_owned(), tries, message });
            };
            std::thread::sleep(*pause);
        }
    }
}

/// What became of a submission.
enum Sent {
    /// The controller has it.
    Taken(u64),
    /// The controller did not answer: it may have it.
    Lost(String),
    /// What it answered does not say whether it has it.
    Unclear(ClusterError),
}

/// The id of `sbatch --parsable`: `12`, or `12;cluster`; lines before it are remarks of the site.
fn job_id(out: &str) -> Option<u64> {
    let line = out.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    line.split(';').next()?.parse().ok()
}

fn unexpected(program: &str, answer: String) -> ClusterError {
    ClusterError::Answer { program: program.to_owned(), answer }
}

#[cfg(test)]
mod tests;
