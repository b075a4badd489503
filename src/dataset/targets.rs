//! Targets of conditional generation: how many atoms a molecule is to have, and the value of a property it is to have.
//!
//! A sample is nothing but its id. Its number of atoms n is drawn from the histogram of a training split, a target from
//! the histogram of its property among the molecules of n atoms: first the bin, in proportion to the counts, then the
//! value, uniform in the bin (EDM's `DistributionProperty`, arXiv 2203.17003). Both depend on the run's seed, the
//! dataset's name and the id alone; all methods and properties see the same numbers of atoms.

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::manifest::{Entry, Manifest};
use super::statistics::Statistics;
use super::{DatasetError, Description, SampleError};
use crate::random::{Purpose, Stream};
use crate::spec::property::Property;

/// The statistics that are part of the program, by file name.
const EMBEDDED: [(&str, &str); 1] =
    [("qm9-statistics.json", include_str!("../../datasets/qm9-statistics.json"))];
/// More samples than this are a slip of the finger.
const MAX_COUNT: u32 = 1_000_000;

/// Targets that are drawn from statistics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetsLayout {
    /// A file of `dflow data statistics`, beside the description; `qm9-statistics.json` is part of the program.
    pub statistics: PathBuf,
    /// Number of samples, 1 to 1,000,000; a limit of a pipeline takes the first ones.
    pub count: u32,
}

impl TargetsLayout {
    /// Whether the file is part of the program.
    pub(super) fn is_embedded(&self) -> bool {
        self.embedded().is_some()
    }

    fn embedded(&self) -> Option<&'static str> {
        EMBEDDED.iter().find(|(name, _)| self.statistics.as_os_str() == *name).map(|(_, text)| *text)
    }
}

/// Samples of conditional generation.
#[derive(Debug, Clone)]
pub struct MoleculeTargets {
    manifest: Manifest,
    statistics: Arc<Statistics>,
    max_atoms: usize,
}

impl MoleculeTargets {
    /// Reads the statistics. Their file's content is the content of every sample, so that other statistics or another
    /// count give another manifest hash.
    pub(super) fn open(
        description: &Description,
        layout: &TargetsLayout,
        max_atoms: usize,
    ) -> Result<Self, DatasetError> {
        let (name, path) = (&description.name, &layout.statistics);
        let text = match layout.embedded() {
            Some(text) => text.to_owned(),
            None => std::fs::read_to_string(path).map_err(|error| DatasetError::File {
                name: name.clone(),
                path: path.clone(),
                reason: error.to_string(),
                source_hint: "`dflow data statistics` writes such a file".to_owned(),
            })?,
        };
        let wrong = |reason| DatasetError::Content {
            name: name.clone(),
            path: path.clone(),
            reason,
            source_hint: "`dflow data statistics` writes such a file".to_owned(),
        };
        let statistics = Statistics::parse(&text).map_err(wrong)?;
        if let Some((atoms, _)) = statistics.atoms().last_key_value().filter(|(atoms, _)| **atoms > max_atoms)
        {
            return Err(wrong(format!(
                "it has molecules of {atoms} atoms, and the description `max_atoms: {max_atoms}`"
            )));
        }
        if !(1..=MAX_COUNT).contains(&layout.count) {
            return Err(DatasetError::Description {
                file: name.clone(),
                message: format!("count: {} samples; 1 to {MAX_COUNT} can be drawn", layout.count),
            });
        }
        let content = blake3::hash(text.as_bytes());
        let entries = (0..layout.count).map(|i| Entry { id: i.to_string(), label: None, content }).collect();
        let manifest = Manifest::new(name, description.split, None, entries)?;
        Ok(Self { manifest, statistics: Arc::new(statistics), max_atoms })
    }

    /// Ids `0` to `count − 1`, and the hash that covers the statistics.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What is drawn from.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Most atoms that a state has room for (29 for QM9).
    pub fn max_atoms(&self) -> usize {
        self.max_atoms
    }

    /// Number of samples, at least 1.
    pub fn len(&self) -> usize {
        self.manifest.entries().len()
    }

    /// False: there is at least one.
    pub fn is_empty(&self) -> bool {
        self.manifest.entries().is_empty()
    }

    /// The number of atoms of a sample: one that molecules of the statistics have.
    pub fn atoms(&self, run_seed: u64, id: &str) -> usize {
        let mut stream = Stream::new(run_seed, self.manifest.name(), id, Purpose::AtomCount);
        let counts = self.statistics.atoms().iter().map(|(atoms, count)| (*atoms, *count));
        pick(&mut stream, self.statistics.molecules(), counts)
    }

    /// The value that a property of a sample of `atoms` atoms is to have, in the property's unit: between the least and
    /// the largest value that molecules of `atoms` atoms have.
    ///
    /// # Errors
    /// If no molecule of the statistics has that many atoms; those of [`Self::atoms`] are never that.
    pub fn target(
        &self,
        run_seed: u64,
        id: &str,
        atoms: usize,
        property: Property,
    ) -> Result<f64, SampleError> {
        let histogram = self.statistics.histogram(property, atoms).ok_or_else(|| SampleError {
            id: id.to_owned(),
            reason: format!("none of the {} has {atoms} atoms", self.statistics.made_from()),
        })?;
        // A stream for each property: targets of different properties are independent.
        let dataset = format!("{}/{property}", self.manifest.name());
        let mut stream = Stream::new(run_seed, &dataset, id, Purpose::PropertyTarget);
        let bin = pick(&mut stream, self.statistics.atoms()[&atoms], histogram.filled());
        Ok(histogram.value(bin, stream.uniform()))
    }
}

/// One of the items, in proportion to their counts, which sum to `total`.
fn pick(stream: &mut Stream, total: u64, items: impl Iterator<Item = (usize, u64)>) -> usize {
    // ⌊bits · total / 2⁶⁴⌋ is uniform in 0..total, to one part in 2⁶⁴ / total.
    let mut place = ((u128::from(stream.bits()) * u128::from(total)) >> 64) as u64;
    let mut last = 0;
    for (item, count) in items {
        last = item;
        if place < count {
            break;
        }
        place -= count;
    }
    last
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::super::Split;
    use super::super::statistics::tests::small_set;
    use super::*;

    fn shipped() -> MoleculeTargets {
        super::super::open_targets("qm9-targets").unwrap()
    }

    #[test]
    fn the_shipped_targets_need_no_file() {
        let targets = shipped();
        assert_eq!(
            (targets.len(), targets.max_atoms(), targets.manifest().split()),
            (10_000, 29, Split::Test)
        );
        assert_eq!(
            (&*targets.manifest().entries()[0].id, &*targets.manifest().entries()[9_999].id),
            ("0", "9999")
        );
        assert_eq!(targets.statistics().made_from(), "11,083 training molecules of qm9-test-split");
        assert_eq!(targets.statistics().molecules(), 11_083);
    }

    #[test]
    fn first_draws_are_pinned() {
        let targets = shipped();
        let atoms: Vec<usize> = (0..8).map(|i| targets.atoms(0, &i.to_string())).collect();
        assert_eq!(atoms, GOLDEN_ATOMS);
        let values = Property::ALL.map(|property| targets.target(0, "0", atoms[0], property).unwrap());
        assert_eq!(values, GOLDEN_TARGETS);
    }

    const GOLDEN_ATOMS: [usize; 8] = [16, 22, 19, 18, 17, 23, 17, 20];
    const GOLDEN_TARGETS: [f64; 6] = [
        68.06138898687598,
        7.255678893103191,
        -6.176085676127135,
        0.3716827921523286,
        4.186237557269081,
        -20.139723083968967,
    ];

    #[test]
    fn draws_differ_by_seed_sample_and_property() {
        let targets = shipped();
        let part = |seed, id: &str, property| {
            let histogram = targets.statistics().histogram(property, 18).unwrap();
            let value = targets.target(seed, id, 18, property).unwrap();
            (value - histogram.min()) / (histogram.max() - histogram.min())
        };
        let base = part(0, "0", Property::Gap);
        assert_eq!(base, part(0, "0", Property::Gap));
        for other in [part(1, "0", Property::Gap), part(0, "1", Property::Gap), part(0, "0", Property::Homo)]
        {
            assert_ne!(base, other);
        }
        let atoms = |seed| (0..32).map(|i| targets.atoms(seed, &i.to_string())).collect::<Vec<_>>();
        assert_ne!(atoms(0), atoms(1));
        let error = targets.target(0, "5", 6, Property::Mu).unwrap_err().to_string();
        assert!(error.contains("sample 5: none of the 11,083") && error.contains("6 atoms"), "{error}");
    }

    /// Pearson's χ² of counts against expected ones, in standard deviations above its mean (k − 1 degrees of freedom).
    fn excess(counts: &BTreeMap<usize, u64>, expected: &BTreeMap<usize, f64>) -> f64 {
        let statistic: f64 = expected
            .iter()
            .map(|(key, expected)| {
                (counts.get(key).copied().unwrap_or(0) as f64 - expected).powi(2) / expected
            })
            .sum();
        let freedom = expected.len() as f64 - 1.0;
        (statistic - freedom) / (2.0 * freedom).sqrt()
    }

    #[test]
    fn numbers_of_atoms_have_the_distribution_of_the_molecules() {
        let targets = shipped();
        let draws = 200_000;
        let mut counts = BTreeMap::<usize, u64>::new();
        for i in 0..draws {
            *counts.entry(targets.atoms(7, &i.to_string())).or_default() += 1;
        }
        let molecules = targets.statistics().molecules() as f64;
        let expected: BTreeMap<usize, f64> = targets
            .statistics()
            .atoms()
            .iter()
            .map(|(atoms, count)| (*atoms, *count as f64 / molecules * f64::from(draws)))
            .collect();
        assert!(counts.keys().all(|atoms| expected.contains_key(atoms)));
        // Five standard deviations; 200,000 draws see a wrong probability of one part in a hundred.
        assert!(excess(&counts, &expected) < 5.0, "{counts:?}");
    }

    #[test]
    fn targets_have_the_distribution_of_the_property_and_stay_inside() {
        let targets = shipped();
        for (property, atoms) in [(Property::Alpha, 18), (Property::Gap, 19), (Property::Cv, 12)] {
            let histogram = targets.statistics().histogram(property, atoms).unwrap();
            let width = (histogram.max() - histogram.min()) / 20.0;
            let draws = 50_000;
            // Twenty wide bins of fifty each.
            let mut counts = BTreeMap::<usize, u64>::new();
            for i in 0..draws {
                let value = targets.target(7, &i.to_string(), atoms, property).unwrap();
                assert!((histogram.min()..=histogram.max()).contains(&value));
                *counts.entry((((value - histogram.min()) / width) as usize).min(19)).or_default() += 1;
            }
            let mut expected = BTreeMap::<usize, f64>::new();
            let molecules = targets.statistics().atoms()[&atoms] as f64;
            for (bin, count) in histogram.filled() {
                *expected.entry(bin / 50).or_default() += count as f64 / molecules * f64::from(draws);
            }
            assert!(excess(&counts, &expected) < 5.0, "{property}: {counts:?} {expected:?}");
        }
    }

    #[test]
    fn every_size_has_targets_of_every_property_inside_its_range() {
        let targets = shipped();
        for atoms in targets.statistics().atoms().keys() {
            for property in Property::ALL {
                let histogram = targets.statistics().histogram(property, *atoms).unwrap();
                for i in 0..50 {
                    let value = targets.target(1, &i.to_string(), *atoms, property).unwrap();
                    assert!((histogram.min()..=histogram.max()).contains(&value));
                }
            }
        }
    }

    fn own(folder: &std::path::Path, more: &str) -> Result<MoleculeTargets, DatasetError> {
        let text = format!(
            "name: mine\nsource: made here\nlicence: none\nmax_atoms: 29\nlayout:\n  molecule_targets: {{ {more} }}\n"
        );
        let path = folder.join("mine.yaml");
        fs::write(&path, text).unwrap();
        super::super::open_targets(path.to_str().unwrap())
    }

    #[test]
    fn own_statistics_stand_beside_their_description() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("s.json"), Statistics::of(&small_set()).unwrap().to_json()).unwrap();
        let targets = own(folder.path(), "statistics: s.json, count: 40").unwrap();
        let drawn: Vec<usize> = (0..40).map(|i| targets.atoms(0, &i.to_string())).collect();
        assert!(drawn.contains(&3) && drawn.iter().all(|atoms| [3, 5].contains(atoms)));
        assert_eq!(targets.target(0, "0", 5, Property::Mu).unwrap(), 2.0);
        let embedded = own(folder.path(), "statistics: qm9-statistics.json, count: 40").unwrap();
        assert_eq!(embedded.statistics().molecules(), 11_083);
    }

    #[test]
    fn statistics_and_count_are_part_of_the_identity() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("s.json"), Statistics::of(&small_set()).unwrap().to_json()).unwrap();
        let hash = |more: &str| own(folder.path(), more).unwrap().manifest().hash();
        let base = hash("statistics: s.json, count: 40");
        assert_ne!(base, hash("statistics: s.json, count: 41"));
        assert_ne!(base, hash("statistics: qm9-statistics.json, count: 40"));
        let half = small_set().half(super::super::molecules::Half::First).unwrap();
        fs::write(folder.path().join("s.json"), Statistics::of(&half).unwrap().to_json()).unwrap();
        assert_ne!(base, hash("statistics: s.json, count: 40"));
    }

    #[test]
    fn errors_name_the_file_and_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let error = own(folder.path(), "statistics: s.json, count: 40").unwrap_err().to_string();
        assert!(error.contains("s.json") && error.contains("dflow data statistics"), "{error}");
        fs::write(folder.path().join("s.json"), "{").unwrap();
        let error = own(folder.path(), "statistics: s.json, count: 40").unwrap_err().to_string();
        assert!(error.contains("s.json: ") && error.contains("line 1"), "{error}");
        for count in ["0", "1000001"] {
            let error =
                own(folder.path(), &format!("statistics: qm9-statistics.json, count: {count}")).unwrap_err();
            assert!(error.to_string().contains("1 to 1000000"), "{error}");
        }
    }
}
