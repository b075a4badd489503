//! Statistics of molecules that targets are drawn from: how many atoms they have, and the distribution of each property
//! among the molecules of one size.
//!
//! The histograms are those of EDM's `DistributionProperty` (`fce07d7`, `qm9/models.py`): for every number of atoms,
//! 1000 bins between the least and the largest value. A file of them is JSON with empty bins left out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Split;
use super::molecules::{Element, MoleculeSet};
use crate::spec::property::Property;

/// Version of the file.
const FORMAT: u32 = 1;
/// Bins of a histogram.
pub const BINS: usize = 1000;
/// Added to the range of a histogram, so that the largest value is inside and a range of 0 divides nothing by 0.
const RANGE_MARGIN: f64 = 1e-12;

/// What targets are drawn from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    format: u32,
    made_from: String,
    manifest: String,
    molecules: u64,
    bins: usize,
    atoms: BTreeMap<usize, u64>,
    elements: ElementCounts,
    properties: BTreeMap<Property, PropertyStatistics>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE", deny_unknown_fields)]
struct ElementCounts {
    h: u64,
    c: u64,
    n: u64,
    o: u64,
    f: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PropertyStatistics {
    unit: String,
    mean: f64,
    mad: f64,
    by_atoms: BTreeMap<usize, Histogram>,
}

/// Values of a property among the molecules of one size: counts in [`BINS`] equal bins between `min` and `max`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Histogram {
    min: f64,
    max: f64,
    /// Bins that are not empty, rising.
    bins: Vec<usize>,
    /// Their counts.
    counts: Vec<u64>,
}

impl Histogram {
    fn of(values: &[f64]) -> Self {
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut by_bin = BTreeMap::<usize, u64>::new();
        for value in values {
            *by_bin.entry(bin(*value, min, max)).or_default() += 1;
        }
        let (bins, counts) = by_bin.into_iter().unzip();
        Self { min, max, bins, counts }
    }

    /// The least value, in the unit of the property.
    pub fn min(&self) -> f64 {
        self.min
    }

    /// The largest value, in the unit of the property.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// Bins that are not empty (0 to 999, rising) with their counts (at least 1).
    pub fn filled(&self) -> impl Iterator<Item = (usize, u64)> {
        self.bins.iter().copied().zip(self.counts.iter().copied())
    }

    /// The value at `part` (0 to 1) of a bin: never below [`Self::min`] or above [`Self::max`].
    pub fn value(&self, bin: usize, part: f64) -> f64 {
        let edge = |bin: usize| bin as f64 / BINS as f64 * (self.max - self.min) + self.min;
        let (left, right) = (edge(bin), edge(bin + 1));
        (part * (right - left) + left).clamp(self.min, self.max)
    }

    fn check(&self, molecules: u64) -> Result<(), String> {
        if !(self.min.is_finite() && self.max.is_finite() && self.min <= self.max) {
            return Err(format!("the values are from {} to {}", self.min, self.max));
        }
        let rises = self.bins.is_sorted_by(|a, b| a < b) && self.bins.last().is_some_and(|bin| *bin < BINS);
        if !rises || self.counts.len() != self.bins.len() || self.counts.contains(&0) {
            return Err(format!("`bins` must rise from 0 to {} at most, each with a count", BINS - 1));
        }
        match sum(&self.counts) {
            Some(sum) if sum == molecules => Ok(()),
            _ => Err(format!("the counts are not those of {molecules} molecules")),
        }
    }
}

/// The bin of a value.
fn bin(value: f64, min: f64, max: f64) -> usize {
    let range = max - min + RANGE_MARGIN;
    (((value - min) / range * BINS as f64) as usize).min(BINS - 1)
}

/// The sum, unless it overflows, as that of a damaged file may.
fn sum<'a>(counts: impl IntoIterator<Item = &'a u64>) -> Option<u64> {
    counts.into_iter().try_fold(0_u64, |sum, count| sum.checked_add(*count))
}

impl Statistics {
    /// The statistics of a set.
    ///
    /// # Errors
    /// If all molecules have the same value of a property, which then cannot be normalised.
    pub fn of(set: &MoleculeSet) -> Result<Self, String> {
        let (mut atoms, mut elements) = (BTreeMap::new(), [0; 5]);
        for molecule in set.molecules() {
            *atoms.entry(molecule.molecule.len()).or_default() += 1;
            for element in &molecule.molecule.elements {
                elements[element.index()] += 1;
            }
        }
        let [h, c, n, o, f] = elements;
        let kind = match set.manifest().split() {
            Split::Train => "training",
            Split::Valid => "validation",
            Split::Test => "test",
        };
        let statistics = Self {
            format: FORMAT,
            made_from: format!("{} {kind} molecules of {}", thousands(set.len()), set.manifest().name()),
            manifest: set.manifest().hash().to_string(),
            molecules: set.len() as u64,
            bins: BINS,
            atoms,
            elements: ElementCounts { h, c, n, o, f },
            properties: Property::ALL.map(|property| (property, of_property(set, property))).into(),
        };
        statistics.check()?;
        Ok(statistics)
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let statistics: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        statistics.check()?;
        Ok(statistics)
    }

    fn check(&self) -> Result<(), String> {
        if (self.format, self.bins) != (FORMAT, BINS) {
            let (format, bins) = (self.format, self.bins);
            return Err(format!("format {format} with {bins} bins; {FORMAT} with {BINS} is read"));
        }
        if self.molecules == 0
            || self.atoms.contains_key(&0)
            || sum(self.atoms.values()) != Some(self.molecules)
        {
            return Err(format!("atoms: the counts are not those of {} molecules", self.molecules));
        }
        for property in Property::ALL {
            let of =
                self.properties.get(&property).ok_or_else(|| format!("properties: {property} is missing"))?;
            if of.unit != property.unit() || !of.mean.is_finite() || !(of.mad.is_finite() && of.mad > 0.0) {
                let unit = property.unit();
                return Err(format!(
                    "properties, {property}: unit {unit}, a mean and a mad above 0 are expected"
                ));
            }
            if !of.by_atoms.keys().eq(self.atoms.keys()) {
                return Err(format!(
                    "properties, {property}: `by_atoms` has other numbers of atoms than `atoms`"
                ));
            }
            for (n, histogram) in &of.by_atoms {
                histogram
                    .check(self.atoms[n])
                    .map_err(|reason| format!("properties, {property}, {n} atoms: {reason}"))?;
            }
        }
        Ok(())
    }

    /// The text of a file: a line for every histogram.
    pub fn to_json(&self) -> String {
        let value = serde_json::to_value(self).expect("numbers that are finite, and keys that are text");
        let mut text = String::new();
        write_lines(&value, 0, &mut text);
        text + "\n"
    }

    /// What they were made from, for people.
    pub fn made_from(&self) -> &str {
        &self.made_from
    }

    /// Manifest hash of the molecules they were made from.
    pub fn manifest(&self) -> &str {
        &self.manifest
    }

    /// How many molecules they were made from.
    pub fn molecules(&self) -> u64 {
        self.molecules
    }

    /// Molecules by their number of atoms.
    pub fn atoms(&self) -> &BTreeMap<usize, u64> {
        &self.atoms
    }

    /// Atoms of an element in all molecules.
    pub fn element(&self, element: Element) -> u64 {
        let ElementCounts { h, c, n, o, f } = self.elements;
        [h, c, n, o, f][element.index()]
    }

    /// The mean of a property over all molecules, in its unit.
    pub fn mean(&self, property: Property) -> f64 {
        self.properties[&property].mean
    }

    /// The mean absolute difference of a property from its mean, in its unit; what values are divided by to be
    /// normalised.
    pub fn mad(&self, property: Property) -> f64 {
        self.properties[&property].mad
    }

    /// The values of a property among molecules of `atoms` atoms; `None` if there are none.
    pub fn histogram(&self, property: Property, atoms: usize) -> Option<&Histogram> {
        self.properties[&property].by_atoms.get(&atoms)
    }
}

fn of_property(set: &MoleculeSet, property: Property) -> PropertyStatistics {
    let mut by_atoms = BTreeMap::<usize, Vec<f64>>::new();
    for molecule in set.molecules() {
        by_atoms.entry(molecule.molecule.len()).or_default().push(molecule.property(property));
    }
    let values = || set.molecules().iter().map(|molecule| molecule.property(property));
    // Summed in the order of the molecules.
    let mean = values().sum::<f64>() / set.len() as f64;
    let mad = values().map(|value| (value - mean).abs()).sum::<f64>() / set.len() as f64;
    let by_atoms = by_atoms.into_iter().map(|(n, values)| (n, Histogram::of(&values))).collect();
    PropertyStatistics { unit: property.unit().to_owned(), mean, mad, by_atoms }
}

/// JSON with a line for every entry down to the histograms.
fn write_lines(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(entries) if depth < 4 => {
            let indent = "  ".repeat(depth);
            *text += "{\n";
            for (i, (key, value)) in entries.iter().enumerate() {
                let key = Value::from(key.as_str());
                *text += &format!("{indent}  {key}: ");
                write_lines(value, depth + 1, text);
                *text += if i + 1 < entries.len() { ",\n" } else { "\n" };
            }
            *text += &format!("{indent}}}");
        }
        _ => *text += &value.to_string(),
    }
}

/// With a comma between thousands.
fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::molecules::{LabelledMolecule, Molecule};
    use super::*;

    /// Molecules of 3 and 5 atoms: twelve and one of them.
    pub(in super::super) fn small_set() -> MoleculeSet {
        let molecule = |i: usize| {
            let atoms = if i == 7 { 5 } else { 3 };
            LabelledMolecule {
                id: i.to_string(),
                molecule: Molecule {
                    elements: [vec![Element::O], vec![Element::H; atoms - 1]].concat(),
                    positions: vec![[i as f32, 0.0, 1.0]; atoms],
                },
                properties: [1.0, 2.0, -3.0, 0.5, 0.25, -7.0].map(|scale| scale * (1.0 + i as f64)),
            }
        };
        MoleculeSet::new("small", Split::Train, 29, (0..13).map(molecule).collect()).unwrap()
    }

    #[test]
    fn a_set_is_counted() {
        let statistics = Statistics::of(&small_set()).unwrap();
        assert_eq!(statistics.made_from(), "13 training molecules of small");
        assert_eq!(statistics.atoms(), &BTreeMap::from([(3, 12), (5, 1)]));
        assert_eq!(Element::ALL.map(|element| statistics.element(element)), [28, 0, 0, 13, 0]);
        assert_eq!(statistics.mean(Property::Alpha), 7.0);
        // The mean of |i − 6| over 0..13.
        assert_eq!(statistics.mad(Property::Alpha), 42.0 / 13.0);
        let three = statistics.histogram(Property::Homo, 3).unwrap();
        assert_eq!((three.min(), three.max()), (-39.0, -3.0));
        let filled: Vec<_> = three.filled().collect();
        // Values at i/12 of the range, without that of i = 5, which has five atoms; the largest in the last bin.
        let expected = [0, 83, 166, 250, 333, 500, 583, 666, 750, 833, 916, 999].map(|bin| (bin, 1));
        assert!(filled.iter().zip(expected).all(|(a, b)| a.0.abs_diff(b.0) <= 1 && a.1 == b.1), "{filled:?}");
        let five = statistics.histogram(Property::Mu, 5).unwrap();
        assert_eq!((five.min(), five.max(), five.filled().collect::<Vec<_>>()), (2.0, 2.0, vec![(0, 1)]));
        assert!(statistics.histogram(Property::Mu, 4).is_none());
    }

    #[test]
    fn values_are_in_their_bin_and_never_outside() {
        let histogram = Histogram { min: 0.1, max: 0.7, bins: vec![0], counts: vec![1] };
        for bin_drawn in [0, 1, 500, 998, 999] {
            for part in [0.0, 1e-9, 0.5, 1.0 - f64::EPSILON] {
                let value = histogram.value(bin_drawn, part);
                assert!((0.1..=0.7).contains(&value));
                assert!(bin(value, 0.1, 0.7).abs_diff(bin_drawn) <= 1);
            }
        }
        assert_eq!(bin(0.7, 0.1, 0.7), 999);
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let statistics = Statistics::of(&small_set()).unwrap();
        let text = statistics.to_json();
        assert_eq!(Statistics::parse(&text).unwrap(), statistics);
        assert!(
            text.lines()
                .any(|line| line.starts_with("        \"3\": {\"min\":1.0,\"max\":13.0,\"bins\":[0,")),
            "{text}"
        );
    }

    #[test]
    fn a_wrong_file_is_an_error_that_says_where() {
        let good = Statistics::of(&small_set()).unwrap().to_json();
        for (from, to, word) in [
            ("\"format\": 1", "\"format\": 2", "format 2"),
            ("\"3\": 12", "\"3\": 11", "atoms: the counts"),
            ("\"3\": 12", "\"3\": 18446744073709551615", "atoms: the counts"),
            ("\"lumo\"", "\"zpve\"", "zpve"),
            ("\"counts\":[1,", "\"counts\":[2,", "properties, alpha, 3 atoms: the counts"),
            ("\"bins\":[0,", "\"bins\":[1001,", "properties, alpha, 3 atoms: `bins`"),
            ("\"min\":1.0,", "\"min\":100.0,", "properties, alpha, 3 atoms: the values"),
            ("\"unit\": \"eV\"", "\"unit\": \"hartree\"", "properties, gap: unit eV"),
            ("\"elements\"", "\"element\"", "element"),
        ] {
            assert!(good.contains(from), "{from}");
            let error = Statistics::parse(&good.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        for end in (0..good.len() - 2).step_by(13) {
            let cut: String = good.chars().take(end).collect();
            assert!(Statistics::parse(&cut).is_err());
        }
    }

    #[test]
    fn thousands_have_commas() {
        assert_eq!(
            [7, 999, 1000, 11_083, 1_234_567].map(thousands),
            ["7", "999", "1,000", "11,083", "1,234,567"]
        );
    }

    #[test]
    fn the_shipped_file_is_what_the_test_split_of_qm9_gives() {
        let Some(data) = crate::test_data::folder() else { return };
        let set = super::super::open_molecules("qm9-test-split", Split::Train, Some(&data)).unwrap();
        let found = Statistics::of(&set).unwrap().to_json();
        // No assert_eq: it would print both.
        assert!(
            found == include_str!("../../datasets/qm9-statistics.json"),
            "make it again: dflow data statistics"
        );
    }
}
