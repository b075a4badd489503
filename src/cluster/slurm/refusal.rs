//! Slurm's error messages: which pass by waiting, and what to do about the others.
//!
//! The texts are those of `slurm_strerror` (src/common/slurm_errno.c of Slurm, 20.11 to 25.05), of sbatch.c, and of
//! `strerror` for what the network answers.

use crate::cluster::commands::NO_ANSWER;
use crate::cluster::error::ClusterError;

/// Parts of messages after which the same command may succeed a little later.
const TRANSIENT: [&str; 21] = [
    "Unable to contact slurm controller",
    "Unable to establish controller machine",
    "Socket timed out on send/recv operation",
    "Zero Bytes were transmitted or received",
    "Slurm backup controller in standby mode",
    "Rate limit exceeded",
    "Communication connection failure",
    "Message send failure",
    "Message receive failure",
    "Communication shutdown failure",
    "Connection timed out",
    "Process is shutting down",
    "Slurm job queue full",
    "temporarily unable to accept job",
    "Job can not be altered now, try again later",
    "Resource temporarily unavailable",
    "Connection refused",
    "Connection reset by peer",
    "No route to host",
    "Transport endpoint is not connected",
    "Broken pipe",
];

/// Parts of messages that no waiting mends, and what to do.
const REFUSALS: [(&str, &str); 17] = [
    ("partition name", "`sinfo -s` lists the partitions; set `partition` in `cluster:` or in the site file"),
    ("No partition specified", "this cluster has no default partition: set `partition`, one of `sinfo -s`"),
    ("account/partition combination", "`sacctmgr show assoc user=$USER` lists your accounts; set `account`"),
    ("Invalid qos", "`sacctmgr show assoc user=$USER format=account,qos` lists yours; set `qos`"),
    ("Invalid feature", "`sinfo -o '%N %f'` lists the features of the nodes; set `constraint`"),
    ("generic resource", "`sinfo -o '%N %G'` lists the GPUs of the nodes; set `gpus` and `gpu_type`"),
    (
        "node configuration is not available",
        "no node of the partition has that many GPUs, cores or that much memory (`sinfo -N -o '%N %c %m %G'`); lower \
         `gpus`, `cpus` or `memory`, or change `partition` or `constraint`",
    ),
    ("More processors requested", "lower `cpus`, or change `partition`"),
    ("Memory required by task", "lower `memory`; `sinfo -N -o '%N %m'` lists what nodes have"),
    ("Memory specification", "lower `memory`; `sinfo -N -o '%N %m'` lists what nodes have"),
    ("time limit is invalid", "`sinfo -o '%P %l'` lists the limits of the partitions; set `time`"),
    (
        "accounting/QOS policy",
        "you may have too many jobs, or ask for too much at once: longer chunks make fewer tasks (--chunk 2h), or lower \
         `gpus`, `time` or `throttle`",
    ),
    (
        "MaxJobCount",
        "the queue of the cluster is full: longer chunks make fewer tasks (--chunk 2h), or try again later",
    ),
    ("not permitted to use this partition", "choose another `partition`, one of `sinfo -s`"),
    ("Invalid job array", "the cluster allows shorter arrays than it says: make longer chunks (--chunk 2h)"),
    ("Invalid node name", "`sinfo -N` lists the nodes; set `exclude`"),
    ("ermission denied", "this job, partition or account is not yours to use; ask the people of the cluster"),
];

/// Parts of messages about what a job asks for as such. Others, of a test, may be about nodes that are down now, or limits
/// that are reached now: jobs are taken all the same, and wait.
const ABOUT_REQUEST: [&str; 9] = [
    "partition name",
    "No partition specified",
    "account/partition combination",
    "Invalid qos",
    "Invalid feature",
    "generic resource",
    "time limit is invalid",
    "not permitted to use this partition",
    "Invalid node name",
];

/// Whether a command that failed with this message may succeed a little later.
pub fn is_transient(message: &str) -> bool {
    let message = message.to_lowercase();
    TRANSIENT.iter().chain(&[NO_ANSWER]).any(|part| message.contains(&part.to_lowercase()))
}

/// What to do about a message, if it is known.
fn help_for(message: &str) -> Option<&'static str> {
    let message = message.to_lowercase();
    REFUSALS.iter().find(|(part, _)| message.contains(&part.to_lowercase())).map(|(_, help)| *help)
}

/// Whether a message surely says that a job was not taken.
pub(super) fn is_known(message: &str) -> bool {
    help_for(message).is_some()
}

/// Whether a message of a test says that the job itself would be refused.
pub(super) fn is_about_request(message: &str) -> bool {
    let message = message.to_lowercase();
    ABOUT_REQUEST.iter().any(|part| message.contains(&part.to_lowercase()))
}

/// The error of a message that no waiting mends.
pub(in crate::cluster) fn explain(program: &str, message: String) -> ClusterError {
    let help = help_for(&message).map_or_else(
        || match program {
            "sbatch" => {
                "if these words are about an option, mend it in `cluster:` or in the site file; the people of the cluster know \
                 what else they mean"
                    .to_owned()
            }
            _ => format!("these are the words of {program}: the people of the cluster know what they mean"),
        },
        str::to_owned,
    );
    ClusterError::Refused { program: program.to_owned(), message, help }
}
