//! The GPUs that this process is granted: by CUDA_VISIBLE_DEVICES, which Slurm sets for every task.

/// What the environment says about GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gpus {
    /// Nothing: all that the driver shows.
    Unrestricted,
    /// The entries of CUDA_VISIBLE_DEVICES: indices or UUIDs. May be empty.
    Listed(Vec<String>),
}

/// Slurm's variables that name the GPUs of a step or a job.
const SLURM_LISTS: [&str; 2] = ["SLURM_STEP_GPUS", "SLURM_JOB_GPUS"];
/// Slurm's variables that count the GPUs of a node or a job.
const SLURM_COUNTS: [&str; 2] = ["SLURM_GPUS_ON_NODE", "SLURM_GPUS"];

impl Gpus {
    /// As the environment of this process says.
    ///
    /// # Errors
    /// When Slurm has granted GPUs that this process is not shown: the variable that says so, and its value.
    pub(super) fn of_this_process() -> Result<Self, String> {
        Self::of(|name| std::env::var(name).ok())
    }

    /// As some environment says.
    fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let listed = variable("CUDA_VISIBLE_DEVICES").map(|text| entries(&text));
        if listed.as_ref().is_some_and(|entries| !entries.is_empty()) {
            return Ok(Self::Listed(listed.unwrap_or_default()));
        }
        let names = |value: &String| !matches!(value.trim(), "" | "(null)");
        let lists = SLURM_LISTS.iter().map(|name| (name, variable(name).filter(names)));
        let counts = SLURM_COUNTS.iter();
        let counts =
            counts.map(|name| (name, variable(name).filter(|value| names(value) && value.trim() != "0")));
        let granted = lists.chain(counts).find_map(|(name, value)| Some(format!("{name}={}", value?)));
        match (granted, listed) {
            (Some(granted), _) => Err(granted),
            (None, Some(none)) => Ok(Self::Listed(none)),
            (None, None) => Ok(Self::Unrestricted),
        }
    }

    /// The entry by which a child process is shown the `index`-th of them alone.
    pub(super) fn entry(&self, index: usize) -> String {
        match self {
            Self::Listed(entries) if index < entries.len() => entries[index].clone(),
            _ => index.to_string(),
        }
    }
}

/// The entries that CUDA takes: it stops at the first that is none (CUDA C++ Programming Guide, Environment Variables).
fn entries(text: &str) -> Vec<String> {
    let is_entry = |entry: &&str| {
        let is_index = !entry.is_empty() && entry.bytes().all(|byte| byte.is_ascii_digit());
        is_index || entry.starts_with("GPU-") || entry.starts_with("MIG-")
    };
    text.split(',').map(str::trim).take_while(is_entry).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Gpus, String> {
        Gpus::of(|name| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn listed(entries: &[&str]) -> Result<Gpus, String> {
        Ok(Gpus::Listed(entries.iter().map(|entry| (*entry).to_owned()).collect()))
    }

    #[test]
    fn entries_are_read_as_cuda_reads_them() {
        assert_eq!(of(&[("CUDA_VISIBLE_DEVICES", "1, 0")]), listed(&["1", "0"]));
        assert_eq!(of(&[("CUDA_VISIBLE_DEVICES", "GPU-5a,MIG-7")]), listed(&["GPU-5a", "MIG-7"]));
        for none in ["", "-1", "NoDevFiles", "-1,0"] {
            assert_eq!(of(&[("CUDA_VISIBLE_DEVICES", none)]), listed(&[]), "{none:?}");
        }
        assert_eq!(of(&[("CUDA_VISIBLE_DEVICES", "2,-1,0")]), listed(&["2"]));
        assert_eq!(of(&[]), Ok(Gpus::Unrestricted));
    }

    #[test]
    fn gpus_that_slurm_grants_must_be_shown() {
        for (name, value) in
            [("SLURM_GPUS_ON_NODE", "2"), ("SLURM_JOB_GPUS", "0,1"), ("SLURM_STEP_GPUS", "0")]
        {
            let granted = Err(format!("{name}={value}"));
            assert_eq!(of(&[(name, value)]), granted);
            assert_eq!(of(&[(name, value), ("CUDA_VISIBLE_DEVICES", "NoDevFiles")]), granted);
            assert_eq!(of(&[(name, value), ("CUDA_VISIBLE_DEVICES", "0")]), listed(&["0"]));
        }
        assert_eq!(of(&[("SLURM_GPUS_ON_NODE", "0"), ("SLURM_JOB_GPUS", "")]), Ok(Gpus::Unrestricted));
    }

    #[test]
    fn a_child_is_shown_one_entry() {
        let gpus = of(&[("CUDA_VISIBLE_DEVICES", "3,GPU-5a")]).unwrap();
        assert_eq!((gpus.entry(0), gpus.entry(1)), ("3".to_owned(), "GPU-5a".to_owned()));
        assert_eq!(Gpus::Unrestricted.entry(2), "2");
    }
}
