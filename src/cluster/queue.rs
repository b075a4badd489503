//! What `squeue` says, parsed.

use std::ops::RangeInclusive;

/// `-o` of the squeue calls whose lines [`parse`] reads: id, state, nodes, name, reason.
pub const FORMAT: &str = "%i|%T|%N|%j|%r";

/// Most indices that one line is expanded to: arrays are at most 4,000,001 tasks in any Slurm.
const MOST_INDICES: usize = 4_000_001;

/// Where a job or array task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It waits, or is back in the queue.
    Queued,
    /// It runs, or what is left of it is being cleared away; it may go back into the queue from there.
    Running,
    /// It is over and will not run again by itself.
    Over(Ending),
}

/// How a job ended, as far as it matters for trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// Exit code 0.
    Completed,
    /// By `scancel`: somebody wanted it to end.
    Cancelled,
    /// By its own exit code, its time limit, its node, preemption …
    Failed,
}

impl Phase {
    /// The phase of a state's long or short name (`squeue` states of Slurm 20.11 to 25). A state of a later version is
    /// taken for running, so that nothing is submitted twice.
    pub fn of(state: &str) -> Self {
        match state.trim().trim_end_matches('+') {
            "PENDING" | "PD" | "REQUEUED" | "RQ" | "REQUEUE_HOLD" | "RH" | "REQUEUE_FED" | "RF"
            | "SPECIAL_EXIT" | "SE" | "RESV_DEL_HOLD" | "RD" => Self::Queued,
            "COMPLETED" | "CD" => Self::Over(Ending::Completed),
            "CANCELLED" | "CA" | "REVOKED" | "RV" => Self::Over(Ending::Cancelled),
            "FAILED" | "F" | "TIMEOUT" | "TO" | "NODE_FAIL" | "NF" | "PREEMPTED" | "PR" | "BOOT_FAIL"
            | "BF" | "DEADLINE" | "DL" | "OUT_OF_MEMORY" | "OOM" | "LAUNCH_FAILED" | "RECONFIG_FAIL" => {
                Self::Over(Ending::Failed)
            }
            _ => Self::Running,
        }
    }

    /// Whether it may still write rows.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}

/// One job or array task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Id of the job, or of the whole array.
    pub id: u64,
    /// Index in the array.
    pub index: Option<usize>,
    /// Where it is.
    pub phase: Phase,
    /// Nodes it runs or ran on, as Slurm writes lists of them; empty while it waits.
    pub nodes: String,
    /// Name of the job.
    pub name: String,
    /// Why it waits or how it ended, in Slurm's words.
    pub reason: String,
}

/// The jobs of `squeue -h -o` [`FORMAT`]; a line of several tasks (`12_[0-3,7%2]`) gives one job each.
///
/// # Errors
/// The first line that does not read.
pub fn parse(text: &str) -> Result<Vec<Job>, String> {
    let mut jobs = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let more = parse_line(line).ok_or_else(|| line.to_owned())?;
        jobs.extend(more);
    }
    Ok(jobs)
}

fn parse_line(line: &str) -> Option<Vec<Job>> {
    let mut fields = line.trim().splitn(5, '|');
    let (id, state, nodes) = (fields.next()?, fields.next()?, fields.next()?);
    let (name, reason) = (fields.next()?, fields.next()?);
    let job = |id, index| Job {
        id,
        index,
        phase: Phase::of(state),
        nodes: nodes.to_owned(),
        name: name.to_owned(),
        reason: reason.to_owned(),
    };
    let Some((array, indices)) = id.split_once('_') else { return Some(vec![job(id.parse().ok()?, None)]) };
    let array = array.parse().ok()?;
    Some(indices_of(indices)?.into_iter().map(|index| job(array, Some(index))).collect())
}

/// The indices of `5`, `[1-5%2]` and `[0,3-9:2]`.
pub fn indices_of(text: &str) -> Option<Vec<usize>> {
    let inner = text.strip_prefix('[').map_or(Some(text), |rest| rest.strip_suffix(']'))?;
    let list = inner.split('%').next()?;
    let mut indices = Vec::new();
    for part in list.split(',') {
        let (range, step) =
            part.split_once(':').map_or((part, Some(1)), |(range, step)| (range, step.parse().ok()));
        let step: usize = step.filter(|step| *step > 0)?;
        let range: RangeInclusive<usize> = match range.split_once('-') {
            Some((first, last)) => first.parse().ok()?..=last.parse().ok()?,
            None => range.parse().ok().map(|index| index..=index)?,
        };
        if range.end() - range.start().min(range.end()) >= MOST_INDICES {
            return None;
        }
        indices.extend(range.step_by(step));
    }
    Some(indices)
}

/// Indices in Slurm's form, `0-3,7`; they must ascend.
pub fn list_of(indices: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &index in indices {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => parts.push((index, index)),
        }
    }
    let part = |(first, last): &(usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    parts.iter().map(part).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tasks_jobs_and_ranges_read() {
        let text = "12_3|RUNNING|node1|dflow-x-0|None\n12_[4-6,9%2]|PENDING||dflow-x-0|Resources\n\
                    13|PENDING||dflow-x-collect|Dependency\n";
        let jobs = parse(text).unwrap();
        let ids: Vec<_> = jobs.iter().map(|job| (job.id, job.index, job.phase)).collect();
        assert_eq!(ids[0], (12, Some(3), Phase::Running));
        assert_eq!(ids[1..5].iter().map(|(_, index, _)| index.unwrap()).collect::<Vec<_>>(), [4, 5, 6, 9]);
        assert_eq!(ids[5], (13, None, Phase::Queued));
        assert_eq!((&*jobs[0].nodes, &*jobs[5].reason), ("node1", "Dependency"));
    }

    #[test]
    fn a_reason_may_hold_the_separator() {
        assert_eq!(parse("1|PD||a|b|c").unwrap()[0].reason, "b|c");
    }

    #[test]
    fn phases_are_known_by_long_and_short_names() {
        for (state, phase) in [
            ("PD", Phase::Queued),
            ("REQUEUED", Phase::Queued),
            ("SE", Phase::Queued),
            ("COMPLETING", Phase::Running),
            ("CF", Phase::Running),
            ("SUSPENDED", Phase::Running),
            ("SOMETHING_NEW", Phase::Running),
            ("CD", Phase::Over(Ending::Completed)),
            ("CANCELLED+", Phase::Over(Ending::Cancelled)),
            ("PR", Phase::Over(Ending::Failed)),
            ("OUT_OF_MEMORY", Phase::Over(Ending::Failed)),
        ] {
            assert_eq!(Phase::of(state), phase, "{state}");
        }
    }

    #[test]
    fn damaged_lines_are_refused_whole() {
        for text in [
            "a|PD||b|c",
            "1_[2|PD||b|c",
            "1_[2-x]|PD||b|c",
            "1_[0-99999999999]|PD||b|c",
            "1_2|PD",
            "1_[1:0]|R||a|b",
        ] {
            assert_eq!(parse(text), Err(text.to_owned()));
        }
        assert_eq!(indices_of("[5-2]"), Some(vec![]));
        assert_eq!(indices_of("[0-6:3,9]"), Some(vec![0, 3, 6, 9]));
    }

    proptest! {
        #[test]
        fn a_list_reads_back(indices in prop::collection::btree_set(0_usize..2000, 1..80)) {
            let indices: Vec<usize> = indices.into_iter().collect();
            prop_assert_eq!(indices_of(&format!("[{}%3]", list_of(&indices))), Some(indices));
        }
    }
}
