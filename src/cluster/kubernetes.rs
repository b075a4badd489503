//! The manifest of an Indexed Job of Kubernetes: the same contract as a Slurm array.
//!
//! The index comes from `JOB_COMPLETION_INDEX`. Pods that are evicted start again without being counted
//! (`podFailurePolicy`), wrong input (2) fails its index at once, everything else counts against `backoffLimitPerIndex`,
//! with growing pauses: stopping early (75), workers that crash (72), devices that are not to be had (73), a volume that is full (74). Field names
//! are those of `batch/v1` since Kubernetes 1.33.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::ClusterError;
use super::submission::Submission;
use super::task::TaskShape;
use crate::exit;
use crate::spec::cluster::{KubernetesSpec, PodSecuritySpec};

const MANIFEST: &str = include_str!("template/job.k8s.yaml");

/// Restarts of an index that count, where the spec does not say.
const BACKOFF: u32 = 6;
/// The resource of a GPU.
const GPU: &str = "nvidia.com/gpu";

/// The manifest that works off the chunks of a submission.
///
/// # Errors
/// No `kubernetes:` section, or a run directory outside of its volumes.
pub fn manifest(submission: &Submission) -> Result<String, ClusterError> {
    let file = submission.file();
    let missing = "there is no `kubernetes:` section in `cluster:` or the site file; it needs an image and volumes, such as \
                   kubernetes: { image: registry.example/dflow:1, volumes: { results: /mnt/results } }";
    let spec = file.cluster.kubernetes.as_ref().ok_or_else(|| ClusterError::Manifest(missing.to_owned()))?;
    let directory = directory_in_pod(spec, submission)?;
    let shape = TaskShape::of(&file.cluster, &file.devices);
    let at_once = file.cluster.throttle.map_or(file.chunks, |throttle| file.chunks.min(throttle as usize));
    let name = format!("dflow-{}", submission.short());
    let gaps = BTreeMap::from([
        ("NAME", name.clone()),
        ("METADATA", metadata(spec)),
        ("CHUNKS", file.chunks.to_string()),
        ("AT_ONCE", at_once.max(1).to_string()),
        ("BACKOFF", file.cluster.max_restarts.unwrap_or(BACKOFF).to_string()),
        ("DEADLINE", deadline(spec)),
        ("MOST_FAILED", file.chunks.to_string()),
        ("USAGE", exit::USAGE.to_string()),
        ("GRACE", shape.warn.max(60).to_string()),
        ("POD", pod(spec)),
        ("IMAGE", quoted(&spec.image)),
        ("COMMAND", command(submission)?),
        ("DIRECTORY", quoted_path(directory)?),
        ("ENV", env(spec)),
        ("SECURITY", container_security(spec)),
        ("RESOURCES", resources(submission, shape)),
        ("MOUNTS", mounts(spec)),
        ("VOLUMES", volumes(spec)),
        ("RUN", submission.dir().display().to_string()),
        ("NAMESPACE", spec.namespace.as_ref().map_or_else(String::new, |name| format!(" -n {name}"))),
    ]);
    Ok(super::script::fill(MANIFEST, |gap| gaps.get(gap).map(String::as_str)))
}

/// The working directory, if the pods see it, else the run directory, which they must see under the same path.
fn directory_in_pod<'a>(spec: &KubernetesSpec, submission: &'a Submission) -> Result<&'a Path, ClusterError> {
    let seen = |path: &Path| spec.volumes.values().any(|mount| path.starts_with(mount));
    let (run, directory) = (submission.run_dir(), submission.file().directory.as_path());
    if seen(run) {
        return Ok(if seen(directory) { directory } else { run });
    }
    let mounts = spec.volumes.values().map(String::as_str).collect::<Vec<_>>().join(", ");
    Err(ClusterError::Manifest(format!(
        "the pods see {mounts}, but the run directory is {}: set `output` (or --output) to a folder below one of them, \
         mounted here under the same path",
        run.display()
    )))
}

/// A text as YAML (JSON is YAML).
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn quoted_path(path: &Path) -> Result<String, ClusterError> {
    let reason = "it is no text";
    path.to_str().map(quoted).ok_or_else(|| ClusterError::Path { path: path.to_owned(), reason })
}

/// Lines of `key: value`, indented.
fn entries(indent: usize, title: &str, map: Option<&BTreeMap<String, String>>) -> String {
    let Some(map) = map.filter(|map| !map.is_empty()) else { return String::new() };
    let pad = " ".repeat(indent);
    let lines = map.iter().map(|(key, value)| format!("\n{pad}  {}: {}", quoted(key), quoted(value)));
    format!("\n{pad}{title}:{}", lines.collect::<String>())
}

fn metadata(spec: &KubernetesSpec) -> String {
    let namespace = spec.namespace.as_ref().map_or_else(String::new, |name| format!("\n  namespace: {name}"));
    namespace + &entries(2, "labels", spec.labels.as_ref())
}

/// Of the job, not of a pod.
fn deadline(spec: &KubernetesSpec) -> String {
    spec.deadline.map_or_else(String::new, |span| format!("\n  activeDeadlineSeconds: {}", span.seconds()))
}

fn pod(spec: &KubernetesSpec) -> String {
    let mut text = entries(6, "nodeSelector", spec.node_selector.as_ref());
    text.push_str(&pod_security(spec));
    if let Some(secrets) = spec.pull_secrets.as_ref().filter(|secrets| !secrets.is_empty()) {
        text.push_str("\n      imagePullSecrets:");
        for secret in secrets {
            text.push_str(&format!("\n        - {{ name: {} }}", quoted(secret)));
        }
    }
    if let Some(class) = &spec.priority_class {
        text.push_str(&format!("\n      priorityClassName: {class}"));
    }
    if let Some(taints) = spec.tolerate.as_ref().filter(|taints| !taints.is_empty()) {
        text.push_str("\n      tolerations:");
        for key in taints {
            text.push_str(&format!("\n        - {{ key: {}, operator: Exists }}", quoted(key)));
        }
    }
    text
}

fn pod_security(spec: &KubernetesSpec) -> String {
    let Some(security) = spec.security.filter(|security| *security != PodSecuritySpec::default()) else {
        return String::new();
    };
    let mut lines = Vec::new();
    if security.restricted {
        lines.push("runAsNonRoot: true".to_owned());
        lines.push("seccompProfile: { type: RuntimeDefault }".to_owned());
    }
    let ids =
        [("runAsUser", security.user), ("runAsGroup", security.group), ("fsGroup", security.volume_group)];
    lines.extend(ids.into_iter().filter_map(|(name, id)| Some(format!("{name}: {}", id?))));
    let lines = lines.iter().map(|line| format!("\n        {line}"));
    format!("\n      securityContext:{}", lines.collect::<String>())
}

fn container_security(spec: &KubernetesSpec) -> String {
    let restricted = "\n          securityContext:\n            allowPrivilegeEscalation: false\
                      \n            capabilities: { drop: [ALL] }";
    let is_restricted = spec.security.is_some_and(|security| security.restricted);
    (if is_restricted { restricted } else { "" }).to_owned()
}

/// The command: `dflow work SUBMISSION`, whose chunk is the completion index. A pod does not know of those before it on
/// other nodes: samples are blamed at once, and the next submission tries what failed again.
fn command(submission: &Submission) -> Result<String, ClusterError> {
    let program = submission.file().cluster.command.as_deref().unwrap_or("dflow");
    let words = program.split_whitespace().map(quoted).collect::<Vec<_>>().join(", ");
    Ok(format!("[{words}, \"work\", {}, \"--blame-samples\"]", quoted_path(submission.dir())?))
}

fn env(spec: &KubernetesSpec) -> String {
    let Some(env) = spec.env.as_ref().filter(|env| !env.is_empty()) else { return String::new() };
    let lines = env.iter().map(|(name, value)| {
        format!("\n            - {{ name: {}, value: {} }}", quoted(name), quoted(value))
    });
    format!("\n          env:{}", lines.collect::<String>())
}

fn resources(submission: &Submission, shape: TaskShape) -> String {
    let spec = &submission.file().cluster;
    let mut lines = vec![format!("cpu: {}", quoted(&shape.cpus.to_string()))];
    // Slurm counts in MB where no unit stands; Kubernetes writes binary units with an i.
    let unit = |memory: &str| if memory.ends_with(['K', 'M', 'G', 'T']) { "i" } else { "Mi" };
    lines.extend(spec.memory.as_ref().map(|memory| format!("memory: {memory}{}", unit(memory))));
    if shape.gpus > 0 {
        let gpu = spec.gpu_type.as_deref().filter(|kind| kind.contains('/')).unwrap_or(GPU);
        lines.push(format!("{}: {}", quoted(gpu), quoted(&shape.gpus.to_string())));
    }
    lines.iter().map(|line| format!("\n              {line}")).collect()
}

fn mounts(spec: &KubernetesSpec) -> String {
    let numbered = spec.volumes.values().enumerate();
    numbered
        .map(|(i, path)| format!("\n            - {{ name: volume-{i}, mountPath: {} }}", quoted(path)))
        .collect()
}

fn volumes(spec: &KubernetesSpec) -> String {
    let numbered = spec.volumes.keys().enumerate();
    let line = |(i, claim): (usize, &String)| {
        format!(
            "\n        - {{ name: volume-{i}, persistentVolumeClaim: {{ claimName: {} }} }}",
            quoted(claim)
        )
    };
    numbered.map(line).collect()
}

#[cfg(test)]
mod tests;
