//! Where and how a pipeline runs on a cluster: the `cluster:` section, and site files of the same form.
//!
//! Nothing in here enters the hash of a cell: where a row was computed does not make it another row. Every field is
//! optional, so that a site file says what holds for a cluster and a pipeline only what is its own.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::check_site;
use super::device::DeviceList;
use super::diagnostic::{Diagnostic, Diagnostics, Place, Source};
use super::parse::{Positions, from_yaml};
use super::span::Span;

/// What a task of the cluster gets, and how the tasks are made and run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterSpec {
    /// Slurm partition; default: the cluster's.
    #[serde(default)]
    pub partition: Option<String>,
    /// Account that is charged.
    #[serde(default)]
    pub account: Option<String>,
    /// Quality of service.
    #[serde(default)]
    pub qos: Option<String>,
    /// Features that a node must have, such as `a100&ib`.
    #[serde(default)]
    pub constraint: Option<String>,
    /// GPUs of one task; default: 1, or 0 where `devices` are CPUs.
    #[serde(default)]
    pub gpus: Option<u32>,
    /// Type of the GPUs as the cluster names it, such as `a100`; for Kubernetes the resource, such as `nvidia.com/gpu`.
    #[serde(default)]
    pub gpu_type: Option<String>,
    /// CPU cores of one task; default: 4 per GPU, or as many as `devices: cpu:WxT` names.
    #[serde(default)]
    pub cpus: Option<u32>,
    /// Memory of one task, such as `32G`; default: the cluster's.
    #[serde(default)]
    pub memory: Option<String>,
    /// Time limit of one task, such as `08:00:00`; default: the partition's.
    #[serde(default)]
    pub time: Option<Span>,
    /// Most tasks that run at once; default: as many as the cluster starts.
    #[serde(default)]
    pub throttle: Option<u32>,
    /// Time that a chunk of samples should take; default: 30m.
    #[serde(default)]
    pub chunk: Option<Span>,
    /// Seconds before the time limit at which a task is told to checkpoint; default: 180.
    #[serde(default)]
    pub warn: Option<u32>,
    /// Most times that a task puts itself into the queue again; default: 20.
    #[serde(default)]
    pub max_restarts: Option<u32>,
    /// Most times that the collecting job submits what is missing again; default: 2.
    #[serde(default)]
    pub sweeps: Option<u32>,
    /// Nodes that are not used, such as `node[3-5],node9`.
    #[serde(default)]
    pub exclude: Option<String>,
    /// Modules that are loaded before dflow starts.
    #[serde(default)]
    pub modules: Option<Vec<String>>,
    /// Lines of bash that run before dflow starts.
    #[serde(default)]
    pub setup: Option<Vec<String>>,
    /// Further options of sbatch, such as `--mail-type=END`.
    #[serde(default)]
    pub sbatch: Option<Vec<String>>,
    /// How dflow is started on a node, such as `apptainer exec --nv dflow.sif dflow`; default: the program that submits.
    #[serde(default)]
    pub command: Option<String>,
    /// Devices on the nodes; default: the pipeline's `devices`.
    #[serde(default)]
    pub devices: Option<DeviceList>,
    /// What is different for the job that collects the results; it needs no GPU.
    #[serde(default)]
    pub collect: Option<CollectSpec>,
    /// For `dflow submit --k8s`.
    #[serde(default)]
    pub kubernetes: Option<KubernetesSpec>,
}

/// The job that collects the results, where it differs from the tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CollectSpec {
    /// Partition, such as one without GPUs; default: that of the tasks.
    #[serde(default)]
    pub partition: Option<String>,
    /// Quality of service; default: that of the tasks.
    #[serde(default)]
    pub qos: Option<String>,
    /// Features that its node must have; default: none.
    #[serde(default)]
    pub constraint: Option<String>,
    /// Cores; default: 2.
    #[serde(default)]
    pub cpus: Option<u32>,
    /// Memory; default: the cluster's.
    #[serde(default)]
    pub memory: Option<String>,
    /// Time limit; default: the partition's.
    #[serde(default)]
    pub time: Option<Span>,
    /// Further options of sbatch.
    #[serde(default)]
    pub sbatch: Option<Vec<String>>,
}

/// What Kubernetes has to know besides.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesSpec {
    /// Image of a container that has dflow.
    pub image: String,
    /// Namespace; default: that of kubectl's context.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Persistent volume claims and where they are mounted; one of them holds the run directory, under the same path as
    /// where the manifest is made.
    pub volumes: BTreeMap<String, String>,
    /// Labels that a node must have.
    #[serde(default)]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Labels of the job, such as `kueue.x-k8s.io/queue-name: lab`.
    #[serde(default)]
    pub labels: Option<BTreeMap<String, String>>,
    /// Environment of the container.
    #[serde(default)]
    pub env: Option<BTreeMap<String, String>>,
    /// Keys of taints that are tolerated, such as `nvidia.com/gpu`.
    #[serde(default)]
    pub tolerate: Option<Vec<String>>,
    /// Priority class of the pods.
    #[serde(default)]
    pub priority_class: Option<String>,
    /// Secrets that the image is pulled with.
    #[serde(default)]
    pub pull_secrets: Option<Vec<String>>,
    /// Time after which the whole job is ended; default: never.
    #[serde(default)]
    pub deadline: Option<Span>,
    /// Whom the pods run as, and what they may do.
    #[serde(default)]
    pub security: Option<PodSecuritySpec>,
}

/// Whom pods run as, and what they may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PodSecuritySpec {
    /// User id; default: the image's.
    #[serde(default)]
    pub user: Option<u32>,
    /// Group id; default: the image's.
    #[serde(default)]
    pub group: Option<u32>,
    /// Group that owns the volumes.
    #[serde(default)]
    pub volume_group: Option<u32>,
    /// No root, no capabilities and no more privileges later: what clusters with the `restricted` standard ask for.
    #[serde(default)]
    pub restricted: bool,
}

impl ClusterSpec {
    /// What the job that collects asks for: what `collect` leaves open is as for the tasks, as far as it suits a job without
    /// GPUs.
    pub fn collecting(&self) -> CollectSpec {
        let mut own = self.collect.clone().unwrap_or_default();
        own.partition = own.partition.or_else(|| self.partition.clone());
        own.qos = own.qos.or_else(|| self.qos.clone());
        own
    }

    /// This spec with what it leaves open taken from `site`, field by field.
    #[must_use]
    pub fn over(self, site: Self) -> Self {
        Self {
            partition: self.partition.or(site.partition),
            account: self.account.or(site.account),
            qos: self.qos.or(site.qos),
            constraint: self.constraint.or(site.constraint),
            gpus: self.gpus.or(site.gpus),
            gpu_type: self.gpu_type.or(site.gpu_type),
            cpus: self.cpus.or(site.cpus),
            memory: self.memory.or(site.memory),
            time: self.time.or(site.time),
            throttle: self.throttle.or(site.throttle),
            chunk: self.chunk.or(site.chunk),
            warn: self.warn.or(site.warn),
            max_restarts: self.max_restarts.or(site.max_restarts),
            sweeps: self.sweeps.or(site.sweeps),
            exclude: self.exclude.or(site.exclude),
            modules: self.modules.or(site.modules),
            setup: self.setup.or(site.setup),
            sbatch: self.sbatch.or(site.sbatch),
            command: self.command.or(site.command),
            devices: self.devices.or(site.devices),
            collect: self.collect.or(site.collect),
            kubernetes: self.kubernetes.or(site.kubernetes),
        }
    }

    /// Reads a site file; the error shows line and column of everything that is wrong.
    ///
    /// # Errors
    /// What is wrong, as for pipelines.
    pub fn parse(source: &Source) -> Result<Self, Diagnostics> {
        let spec: Self = from_yaml(source)?;
        let problems = check_site(&spec);
        if problems.is_empty() {
            return Ok(spec);
        }
        let positions = Positions::of(source)?;
        let place = |path: &str| positions.value(path).map_or(Place::Unknown, Place::File);
        let list = problems.into_iter().map(|problem| {
            let place = place(&problem.path);
            Diagnostic { message: problem.message, place, help: problem.help }
        });
        Err(Diagnostics { source: source.clone(), list: list.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ClusterSpec, String> {
        let source = Source { name: "site.yaml".to_owned(), text: text.to_owned() };
        ClusterSpec::parse(&source).map_err(|error| error.to_string())
    }

    #[test]
    fn a_pipeline_replaces_the_site_field_by_field() {
        let site = read("partition: gpu\ntime: 08:00:00\nmodules: [ cuda/13, gcc ]\nthrottle: 8").unwrap();
        let own = read("time: 30\nmodules: [ cuda/12 ]").unwrap();
        let both = own.over(site);
        assert_eq!(both.partition.as_deref(), Some("gpu"));
        assert_eq!(both.time, Some(Span::from_seconds(1800)));
        assert_eq!(both.modules, Some(vec!["cuda/12".to_owned()]));
        assert_eq!(both.throttle, Some(8));
        assert_eq!(both.qos, None);
    }

    #[test]
    fn everything_wrong_in_a_site_file_is_shown_where_it_stands() {
        let error =
            read("partition: a b\nmemory: 32 gigabytes\nthrottle: 0\nsbatch: [ --array=1-3 ]").unwrap_err();
        assert!(error.starts_with("4 errors in site.yaml"), "{error}");
        for (place, word) in
            [("1:12", "partition"), ("2:9", "32G"), ("3:11", "throttle"), ("4:11", "dflow sets")]
        {
            let line =
                error.lines().find(|line| line.starts_with(&format!("site.yaml:{place}:"))).expect(&error);
            assert!(line.contains(word), "{line}");
        }
    }

    #[test]
    fn an_unknown_field_is_named_with_its_neighbour() {
        let error = read("partitoin: gpu").unwrap_err();
        assert!(
            error.contains("site.yaml:1:1: unknown field `partitoin`") && error.contains("`partition`"),
            "{error}"
        );
        let error = read("time: soon").unwrap_err();
        assert!(error.contains("site.yaml:1:7") && error.contains("1h30m"), "{error}");
    }

    #[test]
    fn what_cannot_be_a_line_of_a_script_is_refused() {
        for text in [
            "account: \"a\\nb\"",
            "exclude: node1 node2",
            "sbatch: [ mail ]",
            "sbatch: [ \"--mail-type=END\\nrm\" ]",
            "modules: [ \"a; b\" ]",
            "warn: 600\ntime: 10m",
            "chunk: 0",
            "cpus: 0",
            "memory: 32",
            "memory: +32G",
            "collect: { memory: \"8\" }",
            "command: \"\"",
            "kubernetes: { image: \"\", volumes: { a: /b } }",
            "kubernetes: { image: a, volumes: {} }",
            "kubernetes: { image: a, volumes: { Claim: relative } }",
            "kubernetes: { image: a, volumes: { a: /b }, deadline: 0 }",
            "kubernetes: { image: a, volumes: { a: /b }, pull_secrets: [ Ä ] }",
            "kubernetes: { image: a, volumes: { a: /b }, security: { user: 0, restricted: true } }",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
