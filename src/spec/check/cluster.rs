//! The `cluster:` section: what must be one line of a batch script, and ranges.

use super::Found;
use crate::spec::cluster::{ClusterSpec, CollectSpec, KubernetesSpec};
use crate::spec::document::Problem;
use crate::spec::parse::join;
use crate::spec::span::Span;

/// Options of sbatch that carry the contract between a task and its script: they are not the user's to set.
const OWN_OPTIONS: [&str; 14] = [
    "array",
    "requeue",
    "no-requeue",
    "signal",
    "open-mode",
    "output",
    "error",
    "job-name",
    "dependency",
    "a",
    "o",
    "e",
    "J",
    "d",
];

/// Least seconds between the start of a task and its warning.
const LEAST_WORK: u64 = 60;

pub(super) fn check(found: &mut Found, at: &str, spec: &ClusterSpec) {
    let words = [
        ("partition", &spec.partition),
        ("account", &spec.account),
        ("qos", &spec.qos),
        ("constraint", &spec.constraint),
        ("gpu_type", &spec.gpu_type),
        ("exclude", &spec.exclude),
    ];
    for (name, value) in words {
        check_word(found, at, name, value.as_deref());
    }
    check_memory(found, at, spec.memory.as_deref());
    for (name, value) in [("cpus", spec.cpus), ("throttle", spec.throttle)] {
        value.inspect(|value| found.count(at, name, *value));
    }
    check_times(found, at, spec);
    for (i, module) in spec.modules.iter().flatten().enumerate() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || "._/+-".contains(c);
        let holds = !module.is_empty() && module.chars().all(is_word) && !module.starts_with('-');
        found.require(
            holds,
            &format!("{}[{i}]", join(at, "modules")),
            "a module is one word, such as cuda/13.0",
        );
    }
    for (i, line) in spec.setup.iter().flatten().enumerate() {
        let holds = !line.contains(['\0', '\r']);
        found.require(
            holds,
            &format!("{}[{i}]", join(at, "setup")),
            "a line of bash has no control characters",
        );
    }
    check_options(found, &join(at, "sbatch"), spec.sbatch.as_deref());
    if let Some(command) = &spec.command {
        let holds = !command.trim().is_empty() && !command.contains(char::is_control);
        found.require(holds, &join(at, "command"), "the command is one line, such as `/shared/bin/dflow`");
    }
    if let Some(collect) = &spec.collect {
        check_collect(found, &join(at, "collect"), collect);
    }
    if let Some(kubernetes) = &spec.kubernetes {
        check_kubernetes(found, &join(at, "kubernetes"), kubernetes);
    }
}

fn check_times(found: &mut Found, at: &str, spec: &ClusterSpec) {
    for (name, value) in [("time", spec.time), ("chunk", spec.chunk)] {
        found.require(
            value.is_none_or(|span| span.seconds() > 0),
            &join(at, name),
            "a length of time above 0",
        );
    }
    found.problems.extend(check_together(at, spec));
}

/// What concerns several fields, which may come from several files: its problem is at the first of them.
pub(super) fn check_together(at: &str, spec: &ClusterSpec) -> Option<Problem> {
    let (time, warn) = spec.time.map(Span::seconds).filter(|time| *time > 0).zip(spec.warn)?;
    let message = "the warning comes this many seconds before the time limit, and leaves less than a minute of work: \
                   lower `warn` or raise `time`";
    let problem = Problem { path: join(at, "warn"), at_key: false, message: message.to_owned(), help: None };
    (u64::from(warn) + LEAST_WORK > time).then_some(problem)
}

fn check_collect(found: &mut Found, at: &str, spec: &CollectSpec) {
    for (name, value) in
        [("partition", &spec.partition), ("qos", &spec.qos), ("constraint", &spec.constraint)]
    {
        check_word(found, at, name, value.as_deref());
    }
    check_memory(found, at, spec.memory.as_deref());
    spec.cpus.inspect(|cpus| found.count(at, "cpus", *cpus));
    found.require(
        spec.time.is_none_or(|time| time.seconds() > 0),
        &join(at, "time"),
        "a length of time above 0",
    );
    check_options(found, &join(at, "sbatch"), spec.sbatch.as_deref());
}

/// A value of `#SBATCH --name=value`.
fn check_word(found: &mut Found, at: &str, name: &str, value: Option<&str>) {
    let is_plain = |c: char| c.is_ascii_graphic() && !"'\"\\`#;$".contains(c);
    if value.is_some_and(|value| value.is_empty() || !value.chars().all(is_plain)) {
        found.value(&join(at, name), format!("{name} is one word without spaces and quotes"));
    }
}

fn check_memory(found: &mut Found, at: &str, value: Option<&str>) {
    let Some(value) = value else { return };
    // Without a unit Slurm counts in megabytes, which nobody means.
    let digits = value.strip_suffix(['K', 'M', 'G', 'T']).filter(|digits| !digits.starts_with('+'));
    let holds = digits.is_some_and(|digits| digits.parse::<u64>().is_ok_and(|n| n > 0));
    found.require(
        holds,
        &join(at, "memory"),
        "memory is a whole number with a unit K, M, G or T, such as 32G",
    );
}

fn check_options(found: &mut Found, at: &str, options: Option<&[String]>) {
    for (i, option) in options.unwrap_or_default().iter().enumerate() {
        let at = format!("{at}[{i}]");
        if !option.starts_with('-') || option.contains(char::is_control) {
            found.value(&at, "an option of sbatch is one line that begins with `-`, such as --mail-type=END");
            continue;
        }
        let name = option.trim_start_matches('-').split(['=', ' ']).next().unwrap_or_default();
        // A short option may stand with its value: `-J name`, `-Jname`.
        let short = if option.starts_with("--") { name } else { &name[..name.len().min(1)] };
        if OWN_OPTIONS.contains(&short) {
            found.value(&at, format!("dflow sets `{option}` by itself: the restarts of a task depend on it"));
        }
    }
}

/// A name of an object of Kubernetes (RFC 1123).
fn is_object_name(text: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && is_end(bytes.first())
        && is_end(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

fn check_kubernetes(found: &mut Found, at: &str, spec: &KubernetesSpec) {
    let is_image = !spec.image.is_empty() && spec.image.chars().all(|c| c.is_ascii_graphic());
    found.require(is_image, &join(at, "image"), "the image is a name such as registry.example/lab/dflow:1");
    let names = [("namespace", &spec.namespace), ("priority_class", &spec.priority_class)];
    for (name, value) in names {
        if value.as_deref().is_some_and(|value| !is_object_name(value)) {
            found.value(&join(at, name), format!("{name} has lower-case letters, digits and `-` only"));
        }
    }
    for (i, secret) in spec.pull_secrets.iter().flatten().enumerate() {
        let at = format!("{}[{i}]", join(at, "pull_secrets"));
        let holds = secret.split('.').all(is_object_name);
        found.require(holds, &at, "a secret has lower-case letters, digits, `-` and `.` only");
    }
    found.require(
        spec.deadline.is_none_or(|span| span.seconds() > 0),
        &join(at, "deadline"),
        "a length of time above 0",
    );
    let is_root = spec.security.is_some_and(|security| security.restricted && security.user == Some(0));
    found.require(!is_root, &join(at, "security.user"), "`restricted` pods cannot run as root (0)");
    let message = "the run directory must lie in a volume: name a claim and where it is mounted, such as { results: /mnt/results }";
    found.require(!spec.volumes.is_empty(), &join(at, "volumes"), message);
    for (claim, path) in &spec.volumes {
        let at = format!("{at}.volumes.{claim}");
        found.require(is_object_name(claim), &at, "a claim has lower-case letters, digits and `-` only");
        found.require(path.starts_with('/'), &at, "a volume is mounted under an absolute path");
    }
}
