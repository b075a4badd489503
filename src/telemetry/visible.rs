//! `CUDA_VISIBLE_DEVICES`: which GPUs a process has, and in which order CUDA counts them.

/// One GPU that CUDA shows to this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// By its place in CUDA's order of all GPUs (see [`order_is_known`]).
    Index(usize),
    /// By the beginning of its UUID, `GPU-…`, which may be abbreviated.
    Gpu(String),
    /// A MIG instance: `MIG-…`.
    Mig(String),
}

/// The GPUs of a process out of `count` in the machine, in CUDA's order, given the value of the variable.
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

/// Whether CUDA's order of GPUs is that of NVML (by PCI bus): it was asked to, or all GPUs are of one model. By default
/// CUDA puts the fastest first, so that of different models an index does not say which GPU it is.
pub fn order_is_known(device_order: Option<&str>, names: &[Option<String>]) -> bool {
    device_order == Some("PCI_BUS_ID")
        || names.len() < 2
        || (names[0].is_some() && names.iter().all(|name| *name == names[0]))
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

    #[test]
    fn an_index_says_which_gpu_only_in_a_known_order() {
        let names = |names: &[&str]| names.iter().map(|name| Some((*name).to_owned())).collect::<Vec<_>>();
        assert!(order_is_known(None, &names(&["A", "A"])) && order_is_known(None, &names(&["A"])));
        assert!(!order_is_known(None, &names(&["A", "B"])));
        assert!(!order_is_known(Some("FASTEST_FIRST"), &names(&["A", "B"])));
        assert!(order_is_known(Some("PCI_BUS_ID"), &names(&["A", "B"])));
        assert!(!order_is_known(None, &[None, None]), "unnamed models may differ");
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
