//! The manifest against a committed one, which `make parity` checks against the published schemas.

use super::*;
use crate::cluster::script::tests::assert_golden;
use crate::cluster::submission::tests::submission_in;
use crate::spec::cluster::ClusterSpec;
use crate::spec::diagnostic::Source;

const SPEC: &str = "\
gpus: 2
cpus: 8
memory: 32G
throttle: 16
kubernetes:
  image: registry.example/lab/dflow:1
  namespace: lab
  volumes: { results: /mnt/results, \"data-1\": /mnt/data }
  node_selector: { nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3 }
  labels: { kueue.x-k8s.io/queue-name: lab }
  env: { DFLOW_CPU: avx2, SAYS: \"a \\\"word\\\": yes\" }
  tolerate: [ nvidia.com/gpu ]
  priority_class: batch-low
  pull_secrets: [ registry-lab ]
  deadline: 2-00:00:00
  security: { user: 1000, group: 100, volume_group: 100, restricted: true }
";

fn made(root: &str, text: &str) -> Result<String, ClusterError> {
    let spec = ClusterSpec::parse(&Source { name: "site.yaml".to_owned(), text: text.to_owned() }).unwrap();
    let submission = submission_in(Path::new(root), spec);
    let (id, short) = (submission.id().to_owned(), submission.short().to_owned());
    let text = manifest(&submission)?;
    Ok(text.replace(&id, "20261122T203405.123Z-0a1b2c3d").replace(&short, "0a1b2c3d"))
}

#[test]
fn the_manifests_are_as_committed() {
    assert_golden("job.k8s.yaml", &made("/mnt/results/small", SPEC).unwrap());
    let least = "gpus: 0\nkubernetes: { image: dflow, volumes: { results: /mnt/results } }";
    assert_golden("job-plain.k8s.yaml", &made("/mnt/results/it's a \"run\"", least).unwrap());
}

#[test]
fn a_manifest_is_yaml_with_the_contract_in_it() {
    let text = made("/mnt/results/small", SPEC).unwrap();
    let value: serde_json::Value =
        crate::spec::parse::from_yaml(&Source { name: "job.k8s.yaml".to_owned(), text }).unwrap();
    let spec = &value["spec"];
    assert_eq!(
        (&spec["completionMode"], &spec["completions"], &spec["parallelism"]),
        (&"Indexed".into(), &2.into(), &2.into())
    );
    let rules = spec["podFailurePolicy"]["rules"].as_array().unwrap();
    let codes: Vec<_> =
        rules.iter().map(|rule| (&rule["action"], &rule["onExitCodes"]["values"][0])).collect();
    assert_eq!(
        codes[1..],
        [(&"FailIndex".into(), &2.into())],
        "whatever else fails is counted: restarts end"
    );
    assert_eq!((&spec["backoffLimitPerIndex"], &spec["activeDeadlineSeconds"]), (&6.into(), &172_800.into()));
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["imagePullSecrets"][0]["name"], "registry-lab");
    let context = &pod["securityContext"];
    assert_eq!(
        (&context["runAsUser"], &context["runAsGroup"], &context["fsGroup"], &context["runAsNonRoot"]),
        (&1000.into(), &100.into(), &100.into(), &true.into())
    );
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["capabilities"]["drop"][0], "ALL");
    let command: Vec<&str> =
        container["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(command[..2], ["dflow", "work"]);
    assert_eq!(container["resources"]["limits"]["nvidia.com/gpu"], "2");
    assert_eq!(container["env"][1]["value"], "a \"word\": yes");
}

#[test]
fn restarts_are_bounded_by_the_spec() {
    let text = made("/mnt/results/small", &format!("max_restarts: 9\n{SPEC}")).unwrap();
    assert!(text.contains("backoffLimitPerIndex: 9\n"), "{text}");
}

#[test]
fn what_the_pods_could_not_see_is_refused() {
    let error = made("/home/user/reports/small", SPEC).unwrap_err().to_string();
    assert!(error.contains("/mnt/results") && error.contains("/home/user/reports/small"), "{error}");
    let error = made("/mnt/results/small", "gpus: 1").unwrap_err().to_string();
    assert!(error.contains("no `kubernetes:` section") && error.contains("image:"), "{error}");
}
