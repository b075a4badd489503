//! The ordered list of a dataset's samples, and its hash.

use std::collections::BTreeMap;

use blake3::{Hash, Hasher};

use super::{DatasetError, SampleError, Split};

/// One sample of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Stable name, unique in the dataset.
    pub id: String,
    /// Class, if the dataset has classes.
    pub label: Option<u32>,
    /// blake3 of the stored bytes (of the recipe, for procedural images).
    pub content: Hash,
}

/// Samples in the order in which a limit counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    name: String,
    split: Split,
    classes: Option<usize>,
    entries: Vec<Entry>,
    hash: Hash,
}

impl Manifest {
    /// Checks the entries and hashes them in their order.
    ///
    /// # Errors
    /// No entries, an id that occurs twice, a label outside 0..`classes`.
    pub fn new(
        name: &str,
        split: Split,
        classes: Option<usize>,
        entries: Vec<Entry>,
    ) -> Result<Self, DatasetError> {
        Self::with_resize(name, split, classes, None, entries)
    }

    /// As [`Self::new`], for samples that are stored pictures resized by a named rule, which the hash then holds.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_resize(
        name: &str,
        split: Split,
        classes: Option<usize>,
        resize: Option<&str>,
        entries: Vec<Entry>,
    ) -> Result<Self, DatasetError> {
        if entries.is_empty() {
            return Err(DatasetError::Empty { name: name.to_owned(), split });
        }
        let mut seen = BTreeMap::new();
        for (second, entry) in entries.iter().enumerate() {
            if let Some(first) = seen.insert(entry.id.as_str(), second) {
                let id = entry.id.clone();
                return Err(DatasetError::Duplicate { name: name.to_owned(), id, first, second });
            }
            if let (Some(label), Some(classes)) = (entry.label, classes)
                && label as usize >= classes
            {
                let (name, id) = (name.to_owned(), entry.id.clone());
                return Err(DatasetError::Label { name, id, label: i64::from(label), classes });
            }
        }
        let hash = hash_of(name, split, resize, &entries);
        Ok(Self { name: name.to_owned(), split, classes, entries, hash })
    }

    /// The dataset's name: with the sample id it keys every random draw.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The split.
    pub fn split(&self) -> Split {
        self.split
    }

    /// Number of classes, if there are any.
    pub fn classes(&self) -> Option<usize> {
        self.classes
    }

    /// All samples in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The first `limit` samples: limits nest, the first 8 are part of the first 64.
    pub fn first(&self, limit: usize) -> &[Entry] {
        &self.entries[..limit.min(self.entries.len())]
    }

    /// The sample at `index`.
    ///
    /// # Errors
    /// If there is none.
    pub fn entry(&self, index: usize) -> Result<&Entry, SampleError> {
        self.entries.get(index).ok_or_else(|| SampleError {
            id: format!("#{index}"),
            reason: format!("the manifest of {} has {} samples", self.name, self.entries.len()),
        })
    }

    /// blake3 over name, split, resize rule and all entries in order: equal hashes mean equal samples.
    pub fn hash(&self) -> Hash {
        self.hash
    }
}

fn hash_of(name: &str, split: Split, resize: Option<&str>, entries: &[Entry]) -> Hash {
    let mut hasher = Hasher::new_derive_key("dflow dataset manifest v1");
    let mut text = |s: &str| {
        hasher.update(&(s.len() as u64).to_le_bytes());
        hasher.update(s.as_bytes());
    };
    text(name);
    text(&split.to_string());
    // No entry reads so: its third text is a hash.
    resize.into_iter().for_each(|rule| ["resize", rule, "-"].into_iter().for_each(&mut text));
    for entry in entries {
        text(&entry.id);
        text(&entry.label.map_or_else(|| "-".to_owned(), |label| label.to_string()));
        text(entry.content.to_hex().as_str());
    }
    hasher.finalize()
}

/// Puts entries into the order of blake3(seed, id): a fixed shuffle that other samples do not disturb.
///
/// Returns the old position of every new one, so that what belongs to the entries can follow.
pub(super) fn seeded_order(seed: u64, ids: &[String]) -> Vec<usize> {
    let mut ranked: Vec<(Hash, usize)> = ids
        .iter()
        .enumerate()
        .map(|(position, id)| {
            let mut hasher = Hasher::new_derive_key("dflow dataset order v1");
            hasher.update(&seed.to_le_bytes());
            hasher.update(id.as_bytes());
            (hasher.finalize(), position)
        })
        .collect();
    ranked.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()).then(a.1.cmp(&b.1)));
    ranked.into_iter().map(|(_, position)| position).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, label: u32) -> Entry {
        Entry { id: id.to_owned(), label: Some(label), content: blake3::hash(id.as_bytes()) }
    }

    fn manifest(entries: Vec<Entry>) -> Result<Manifest, DatasetError> {
        Manifest::new("d", Split::Test, Some(10), entries)
    }

    #[test]
    fn the_hash_depends_on_order_labels_contents_and_name() {
        let base = manifest(vec![entry("a", 0), entry("b", 1)]).unwrap().hash();
        assert_eq!(base, manifest(vec![entry("a", 0), entry("b", 1)]).unwrap().hash());
        assert_ne!(base, manifest(vec![entry("b", 1), entry("a", 0)]).unwrap().hash());
        assert_ne!(base, manifest(vec![entry("a", 0), entry("b", 2)]).unwrap().hash());
        let mut other = entry("b", 1);
        other.content = blake3::hash(b"else");
        assert_ne!(base, manifest(vec![entry("a", 0), other]).unwrap().hash());
        let renamed = Manifest::new("e", Split::Test, Some(10), vec![entry("a", 0), entry("b", 1)]);
        assert_ne!(base, renamed.unwrap().hash());
        let entries = || vec![entry("a", 0), entry("b", 1)];
        let resized =
            |rule| Manifest::with_resize("d", Split::Test, Some(10), rule, entries()).unwrap().hash();
        assert!(
            resized(None) == base
                && resized(Some("box")) != base
                && resized(Some("x")) != resized(Some("box"))
        );
    }

    #[test]
    fn duplicates_empty_lists_and_labels_out_of_range_are_errors() {
        let duplicate = manifest(vec![entry("a", 0), entry("b", 0), entry("a", 1)]).unwrap_err();
        assert!(matches!(duplicate, DatasetError::Duplicate { first: 0, second: 2, .. }), "{duplicate}");
        assert!(matches!(manifest(vec![]).unwrap_err(), DatasetError::Empty { .. }));
        let label = manifest(vec![entry("a", 10)]).unwrap_err();
        assert!(label.to_string().contains("label 10 is out of range"), "{label}");
    }

    #[test]
    fn limits_nest() {
        let all = manifest((0..9).map(|i| entry(&i.to_string(), i)).collect()).unwrap();
        assert_eq!(all.first(3), &all.first(8)[..3]);
        assert_eq!(all.first(100).len(), 9);
    }

    #[test]
    fn a_seeded_order_is_a_permutation_that_keeps_relative_order_when_samples_are_added() {
        let ids: Vec<String> = (0..100).map(|i| format!("test/{i}")).collect();
        let order = seeded_order(0, &ids);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert_ne!(order, seeded_order(1, &ids));
        let fewer: Vec<usize> = order.into_iter().filter(|&i| i < 50).collect();
        assert_eq!(fewer, seeded_order(0, &ids[..50]));
    }
}
