//! `CUDA_VISIBLE_DEVICES`: which GPUs a process has, and in which order CUDA counts them.

/// One GPU that CUDA shows to this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// By its place in CUDA's order of all GPUs (see [`check_index`]).
    Index(usize),
    /// By the beginning of its UUID, `GPU-…`, which may be abbreviated.
    Gpu(String),
    /// A MIG instance: `MIG-…`.
    Mig(String),
}

/// The GPUs of a process out of `count` in the machine that it may use, in CUDA's order, given the value of the variable.
///
/// As CUDA reads it: without the variable all GPUs; an entry that is none (`-1`, `NoDevFiles`, an index without a GPU)
/// hides itself and all after it; an entry that stands twice hides all.
pub fn entries(variable: Option<&str>, count: usize) -> Vec<Entry> {
    let Some(text) = variable else { return (0..count).map(Entry::Index).collect() };
    let parsed = text.split(',').map(|word| parse(word.trim(), count));
    let entries: Vec<Entry> = parsed.map_while(|entry| entry).collect();
    let is_repeated = |(i, entry): (usize, &Entry)| entries[..i].contains(entry);
    if entries.iter().enumerate().any(is_repeated) { Vec::new() } else { entries }
}

fn parse(word: &str, count: usize) -> Option<Entry> {
    if word.starts_with("GPU-") {
        return Some(Entry::Gpu(word.to_owned()));
    }
    if word.starts_with("MIG-") {
        return Some(Entry::Mig(word.to_owned()));
    }
    let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let index: usize = is_number.then(|| word.parse().ok()).flatten()?;
    (index < count).then_some(Entry::Index(index))
}

/// What NVML tells of the model of one GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Model {
    /// Its name.
    Named(String),
    /// The GPU is there, but has no name; why.
    Unnamed(String),
    /// The GPU cannot be read at all; why.
    Lost(String),
}

/// Whether an index of CUDA means the GPU of that index of NVML, which counts by PCI bus; the error says why that is
/// not known.
///
/// CUDA counts by PCI bus where it was asked to, or where all GPUs are of one model: by default it puts the fastest
/// first. Whether it counts a GPU that cannot be read is not said anywhere: by bus only those before it are sure of
/// their index, and in the default order none is, for its model is not known.
pub fn check_index(device_order: Option<&str>, models: &[Model], index: usize) -> Result<(), String> {
    const BY_UUID: &str = "name GPUs by UUID in CUDA_VISIBLE_DEVICES";
    let is_by_bus = device_order == Some("PCI_BUS_ID");
    let lost = models.iter().enumerate().find_map(|(i, model)| match model {
        Model::Lost(why) => Some((i, why)),
        _ => None,
    });
    if let Some((lost, why)) = lost {
        let note = cannot_read(lost, why);
        return match models.len() {
            _ if is_by_bus && index < lost => Ok(()),
            1 => Err(note),
            _ if is_by_bus => Err(format!(
                "{note}; which GPUs the indices of CUDA from {lost} on mean is then not known: {BY_UUID}"
            )),
            _ => Err(format!("{note}; which GPUs the indices of CUDA mean is then not known: {BY_UUID}")),
        };
    }
    if is_by_bus || models.len() < 2 {
        return Ok(());
    }
    let unnamed = models.iter().enumerate().find_map(|(i, model)| match model {
        Model::Unnamed(why) => Some(format!("NVML does not name the model of GPU {i} ({why})")),
        _ => None,
    });
    let differ = models.iter().any(|model| *model != models[0]);
    let cause =
        unnamed.or_else(|| differ.then(|| "the GPUs of this machine are of different models".to_owned()));
    cause.map_or(Ok(()), |cause| {
        Err(format!(
            "{cause}, and which of them an index of CUDA means is not known: set CUDA_DEVICE_ORDER=PCI_BUS_ID, or {BY_UUID}"
        ))
    })
}

/// What is said of a GPU that NVML counts but cannot read.
fn cannot_read(index: usize, why: &str) -> String {
    format!("NVML cannot read GPU {index}: {why}")
}

/// Why no GPU, or more than one, has a UUID that begins with `prefix`.
pub fn unmatched(prefix: &str, models: &[Model]) -> String {
    let lost = models.iter().enumerate().filter_map(|(i, model)| match model {
        Model::Lost(why) => Some(cannot_read(i, why)),
        _ => None,
    });
    let lost: Vec<String> = lost.collect();
    if lost.is_empty() {
        return format!("NVML knows no GPU, or more than one, whose UUID begins with {prefix}");
    }
    format!("{}; no other GPU is the only one whose UUID begins with {prefix}", lost.join("; "))
}

/// The one of `uuids` that an entry's beginning belongs to; none if there is none, or more than one.
pub fn matching(prefix: &str, uuids: &[Option<String>]) -> Option<usize> {
    let is_match = |uuid: &&Option<String>| uuid.as_ref().is_some_and(|uuid| uuid.starts_with(prefix));
    let mut found = (0..uuids.len()).filter(|&i| is_match(&&uuids[i]));
    found.next().filter(|_| found.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices(list: &[usize]) -> Vec<Entry> {
        list.iter().copied().map(Entry::Index).collect()
    }

    #[test]
    fn entries_are_read_as_cuda_reads_them() {
        assert_eq!(entries(None, 3), indices(&[0, 1, 2]));
        assert_eq!(entries(Some("2,0"), 3), indices(&[2, 0]));
        assert_eq!(entries(Some(" 1 , 2 "), 3), indices(&[1, 2]));
        for nothing in ["", "-1", "NoDevFiles", "3", "1,1", "+1", "99999999999999999999999", "GPU"] {
            assert_eq!(entries(Some(nothing), 3), [], "{nothing:?}");
        }
        assert_eq!(entries(Some("1,-1,0"), 3), indices(&[1]), "an entry that is none hides those after it");
        let uuids =
            [Entry::Gpu("GPU-8a".to_owned()), Entry::Mig("MIG-GPU-1/2/3".to_owned()), Entry::Index(0)];
        assert_eq!(entries(Some("GPU-8a,MIG-GPU-1/2/3,0"), 1), uuids);
        assert_eq!(entries(Some("GPU-8a"), 0).len(), 1, "a UUID needs no count");
    }

    fn models(names: &[&str]) -> Vec<Model> {
        let model = |name: &&str| match *name {
            "lost" => Model::Lost("it fell off".to_owned()),
            "unnamed" => Model::Unnamed("not offered".to_owned()),
            name => Model::Named(name.to_owned()),
        };
        names.iter().map(model).collect()
    }

    #[test]
    fn an_index_says_which_gpu_only_in_a_known_order() {
        let is_known = |order, names: &[&str]| check_index(order, &models(names), 1).is_ok();
        assert!(is_known(None, &["A", "A"]) && check_index(None, &models(&["A"]), 0).is_ok());
        assert!(!is_known(None, &["A", "B"]) && !is_known(Some("FASTEST_FIRST"), &["A", "B"]));
        assert!(is_known(Some("PCI_BUS_ID"), &["A", "B"]));
        assert!(!is_known(None, &["unnamed", "unnamed"]), "unnamed models may differ");
        assert!(is_known(Some("PCI_BUS_ID"), &["unnamed", "A"]));
        let note = check_index(None, &models(&["A", "unnamed"]), 0).unwrap_err();
        assert!(note.contains("model of GPU 1 (not offered)") && !note.contains("different"), "{note}");
    }

    #[test]
    fn by_bus_the_gpus_before_a_lost_one_are_known_and_by_default_none() {
        let all = models(&["A", "A", "lost", "B"]);
        let known = |order| (0..4).map(|index| check_index(order, &all, index).is_ok()).collect::<Vec<_>>();
        assert_eq!(known(Some("PCI_BUS_ID")), [true, true, false, false]);
        assert_eq!(known(None), [false; 4]);
        for order in [None, Some("PCI_BUS_ID")] {
            let note = check_index(order, &all, 3).unwrap_err();
            assert!(note.starts_with("NVML cannot read GPU 2: it fell off; "), "{note}");
            assert!(!note.contains("models") && !note.contains("CUDA_DEVICE_ORDER"), "{note}");
        }
        let alone = check_index(None, &models(&["lost"]), 0);
        assert_eq!(alone, Err("NVML cannot read GPU 0: it fell off".to_owned()));
    }

    #[test]
    fn a_uuid_that_matches_nothing_may_be_that_of_a_lost_gpu() {
        assert!(unmatched("GPU-9", &models(&["A"])).starts_with("NVML knows no GPU, or more than one"));
        let note = unmatched("GPU-9", &models(&["A", "lost"]));
        assert!(
            note.starts_with("NVML cannot read GPU 1: it fell off; ") && note.ends_with("GPU-9"),
            "{note}"
        );
    }

    #[test]
    fn a_uuid_may_be_abbreviated_but_not_ambiguous() {
        let uuids = ["GPU-8a11", "GPU-8b22", "GPU-8b23"].map(|uuid| Some(uuid.to_owned()));
        assert_eq!(matching("GPU-8a", &uuids), Some(0));
        assert_eq!(matching("GPU-8b22", &uuids), Some(1));
        assert_eq!(matching("GPU-8b", &uuids), None);
        assert_eq!(matching("GPU-9", &uuids), None);
        assert_eq!(matching("GPU-8a", &[None]), None);
    }
}
