//! The batch scripts: written into the submission, readable, and able to stand alone.
//!
//! What a task does about signals, restarts and nodes that cannot write or start dflow is all in `template/job.sbatch`; here
//! its gaps are filled.

use std::path::Path;

use super::error::ClusterError;
use super::submission::{Array, Submission};
use super::task::TaskShape;
use crate::spec::cluster::ClusterSpec;

const JOB: &str = include_str!("template/job.sbatch");
const COLLECT: &str = include_str!("template/collect.sbatch");
/// How both keep away from nodes that are no good.
const AVOID: &str = include_str!("template/avoid.sh");

/// Restarts of a task by its own script.
const MAX_RESTARTS: u32 = 20;
/// Cores of the collecting job.
const COLLECT_CPUS: u32 = 2;

/// The script of the array tasks, with the commands that submit it.
///
/// # Errors
/// [`ClusterError::Path`] for paths that cannot stand in a script.
pub fn job(submission: &Submission, arrays: &[Array]) -> Result<String, ClusterError> {
    let file = submission.file();
    let spec = &file.cluster;
    let shape = TaskShape::of(spec, &file.devices);
    let started = (0..arrays.len()).map(|i| format!("#   {}", by_hand(submission, arrays, i)));
    let warn = shape.warn.to_string();
    let max_restarts = spec.max_restarts.unwrap_or(MAX_RESTARTS).to_string();
    let gaps = [
        ("STARTED", started.collect::<Vec<_>>().join("\n")),
        ("DIRECTIVES", job_directives(spec, shape)),
        ("WARN", warn),
        ("MAX_RESTARTS", format!("{max_restarts:<12}")),
    ];
    filled(JOB, submission, &gaps)
}

/// The script of the collecting job.
///
/// # Errors
/// As [`job`].
pub fn collect(submission: &Submission) -> Result<String, ClusterError> {
    let gaps = [("DIRECTIVES", collect_directives(&submission.file().cluster))];
    filled(COLLECT, submission, &gaps)
}

/// Options of sbatch for array `i` of `arrays`, which are submitted together, beside its name.
pub fn array_options(submission: &Submission, arrays: &[Array], i: usize) -> Vec<String> {
    let (throttle, array) = (submission.file().cluster.throttle, &arrays[i]);
    let throttle = throttle.map_or_else(String::new, |all| format!("%{}", share(all, arrays.len(), i)));
    let mut options = vec![format!("--array={}{throttle}", array.tasks)];
    let exclude = excluded(submission, array);
    options.extend((!exclude.is_empty()).then(|| format!("--exclude={exclude}")));
    options
}

/// Arguments of the script of the tasks for an array: first chunk, stride, and the nodes that are left out, if any.
pub fn array_arguments(submission: &Submission, array: &Array) -> Vec<String> {
    let exclude = excluded(submission, array);
    let mut arguments = vec![array.first.to_string(), array.stride.to_string()];
    arguments.extend((!exclude.is_empty()).then_some(exclude));
    arguments
}

/// What array `i` of so many has of a throttle that they share: together no more than it, but every array one task.
fn share(throttle: u32, arrays: usize, i: usize) -> usize {
    let throttle = throttle as usize;
    (throttle / arrays + usize::from(i < throttle % arrays)).max(1)
}

/// Nodes that the spec excludes, and those that the array does besides.
fn excluded(submission: &Submission, array: &Array) -> String {
    let parts = [submission.file().cluster.exclude.as_deref().unwrap_or_default(), &array.exclude];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(",")
}

/// The command that submits an array, for people.
fn by_hand(submission: &Submission, arrays: &[Array], i: usize) -> String {
    let (name, options) = (&arrays[i].name, array_options(submission, arrays, i).join(" "));
    format!(
        "sbatch --job-name={name} {options} job.sbatch {}",
        array_arguments(submission, &arrays[i]).join(" ")
    )
}

fn job_directives(spec: &ClusterSpec, shape: TaskShape) -> String {
    let mut lines = Lines::default();
    lines.option("partition", spec.partition.as_deref());
    lines.option("account", spec.account.as_deref());
    lines.option("qos", spec.qos.as_deref());
    lines.option("constraint", spec.constraint.as_deref());
    lines.option("nodes", Some("1"));
    lines.option("ntasks", Some("1"));
    lines.option("cpus-per-task", Some(&shape.cpus.to_string()));
    if shape.gpus > 0 {
        let kind = spec.gpu_type.as_ref().map_or_else(String::new, |kind| format!("{kind}:"));
        lines.option("gres", Some(&format!("gpu:{kind}{}", shape.gpus)));
    }
    lines.option("mem", spec.memory.as_deref());
    lines.option("time", spec.time.map(|time| time.to_string()).as_deref());
    lines.more(spec.sbatch.as_deref());
    lines.text()
}

fn collect_directives(spec: &ClusterSpec) -> String {
    let own = spec.collecting();
    let mut lines = Lines::default();
    lines.option("partition", own.partition.as_deref());
    lines.option("account", spec.account.as_deref());
    lines.option("qos", own.qos.as_deref());
    lines.option("constraint", own.constraint.as_deref());
    lines.option("nodes", Some("1"));
    lines.option("ntasks", Some("1"));
    lines.option("cpus-per-task", Some(&own.cpus.unwrap_or(COLLECT_CPUS).to_string()));
    lines.option("mem", own.memory.as_deref());
    lines.option("time", own.time.map(|time| time.to_string()).as_deref());
    lines.more(own.sbatch.as_deref());
    lines.text()
}

/// Lines of `#SBATCH`.
#[derive(Default)]
struct Lines(Vec<String>);

impl Lines {
    fn option(&mut self, name: &str, value: Option<&str>) {
        self.0.extend(value.map(|value| format!("#SBATCH --{name}={value}")));
    }

    fn more(&mut self, options: Option<&[String]>) {
        self.0.extend(options.unwrap_or_default().iter().map(|option| format!("#SBATCH {option}")));
    }

    fn text(self) -> String {
        self.0.join("\n")
    }
}

/// What runs before dflow: modules, then the site's own lines; a module that is not there ends the script, which sees to it
/// that another node is tried.
pub(super) fn setup(spec: &ClusterSpec) -> String {
    let mut lines = Vec::new();
    for module in spec.modules.iter().flatten() {
        lines.push(format!(
            "module load {module} || {{ echo \"module {module} cannot be loaded\"; exit 1; }}"
        ));
    }
    lines.extend(spec.setup.iter().flatten().cloned());
    if lines.is_empty() { String::new() } else { format!("set +u\n{}\nset -u", lines.join("\n")) }
}

fn filled(template: &str, submission: &Submission, gaps: &[(&str, String)]) -> Result<String, ClusterError> {
    let file = submission.file();
    // `module` is a function of login shells.
    let login =
        if file.cluster.modules.as_ref().is_some_and(|modules| !modules.is_empty()) { " -l" } else { "" };
    let common = [
        ("LOGIN", login.to_owned()),
        ("NAME", one_line(&file.name)),
        ("ID", file.id.clone()),
        ("SUBMISSION", quoted_path(submission.dir())?),
        ("LOGS", quoted_path(&submission.logs())?),
        ("DIRECTORY", quoted_path(&file.directory)?),
        ("AVOID", AVOID.trim_end().to_owned()),
        ("SETUP", setup(&file.cluster)),
        ("COMMAND", file.command.clone()),
    ];
    Ok(fill(template, |name| {
        gaps.iter().chain(&common).find(|(gap, _)| *gap == name).map(|(_, text)| text.as_str())
    }))
}

/// The template with every `@GAP@` filled; what is filled in is not looked at again.
pub(super) fn fill<'a>(template: &str, text_of: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('@') {
        text.push_str(before);
        let filled = after.split_once('@').and_then(|(name, end)| Some((text_of(name)?, end)));
        let (filling, end) = filled.unwrap_or(("@", after));
        text.push_str(filling);
        rest = end;
    }
    text + rest
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A path as one word of bash.
///
/// # Errors
/// A path that is no text, or that holds control characters.
pub fn quoted_path(path: &Path) -> Result<String, ClusterError> {
    let text = checked(path)?;
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:=@%,".contains(c);
    if text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

fn checked(path: &Path) -> Result<&str, ClusterError> {
    let refuse = |reason| ClusterError::Path { path: path.to_owned(), reason };
    let text = path.to_str().ok_or_else(|| refuse("it is no text"))?;
    if text.contains(char::is_control) { Err(refuse("it holds control characters")) } else { Ok(text) }
}

#[cfg(test)]
pub(super) mod tests;
#[cfg(test)]
mod trials;
