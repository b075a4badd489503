//! Which molecules belong to which split.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::mt19937::RandomState;
use super::Split;

/// Molecules of the QM9 archive (Ramakrishnan et al. 2014).
pub const QM9_MOLECULES: u32 = 133_885;
/// Those whose geometry fell apart when it was relaxed, which are left out (`uncharacterized.txt`).
pub const QM9_UNCHARACTERIZED: u32 = 3_054;
/// Those that are kept.
pub const QM9_KEPT: u32 = QM9_MOLECULES - QM9_UNCHARACTERIZED;
/// Training molecules of the split that EDM and its successors use.
const QM9_TRAIN: usize = 100_000;
/// Test molecules: a tenth of the kept ones, rounded down.
const QM9_TEST: usize = QM9_KEPT as usize / 10;

/// How the molecules of one source are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SplitRule {
    /// The split of all of QM9 into 100,000 / 17,748 / 13,083 (see [`qm9_split`]); needs all 130,831 kept molecules.
    Qm9,
    /// `test` are the first `count` of numpy's `RandomState(seed).permutation(molecules)`, `train` the others, both in
    /// the order of the permutation.
    HeldOut(HeldOut),
}

/// A held-out part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldOut {
    /// Seed of numpy's legacy generator.
    pub seed: u32,
    /// Number of molecules held out: at least 1, and fewer than there are.
    pub count: usize,
}

impl SplitRule {
    /// Positions of the molecules of a split among `molecules` of them; `None` if the rule has no such split.
    ///
    /// # Errors
    /// A whole sentence, if the rule does not fit that many molecules.
    pub fn positions(self, split: Split, molecules: usize) -> Result<Option<Vec<usize>>, String> {
        let of =
            |positions: Vec<u32>| Some(positions.into_iter().map(|position| position as usize).collect());
        match self {
            Self::Qm9 if molecules != QM9_KEPT as usize => Err(format!(
                "the split of QM9 is one of {QM9_KEPT} molecules ({QM9_MOLECULES} less {QM9_UNCHARACTERIZED} \
                 uncharacterized), here are {molecules}"
            )),
            Self::Qm9 => {
                let all = qm9_split();
                let mut positions = match split {
                    Split::Train => all.train,
                    Split::Valid => all.valid,
                    Split::Test => all.test,
                };
                // EDM's files hold the molecules of a split in the order of the archive.
                positions.sort_unstable();
                Ok(of(positions))
            }
            Self::HeldOut(HeldOut { seed, count }) => {
                if count == 0 || count >= molecules {
                    return Err(format!("{count} molecules cannot be held out of {molecules}"));
                }
                let molecules = u32::try_from(molecules).map_err(|_| "too many molecules".to_owned())?;
                let mut test = RandomState::new(seed).permutation(molecules);
                let train = test.split_off(count);
                Ok(match split {
                    Split::Train => of(train),
                    Split::Valid => None,
                    Split::Test => of(test),
                })
            }
        }
    }
}

/// Positions in the list of the 130,831 kept molecules (by rising index), in the order of the permutation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qm9Split {
    /// 100,000 positions.
    pub train: Vec<u32>,
    /// 17,748 positions.
    pub valid: Vec<u32>,
    /// 13,083 positions.
    pub test: Vec<u32>,
}

/// The split of QM9 that Cormorant introduced and EDM, EquiFM and D-Flow use: numpy's legacy
/// `RandomState(0).permutation(130831)` cut into train, valid and test (EDM `fce07d7`, `qm9/data/prepare/qm9.py`).
pub fn qm9_split() -> Qm9Split {
    let mut train = RandomState::new(0).permutation(QM9_KEPT);
    let mut valid = train.split_off(QM9_TRAIN);
    let test = valid.split_off(valid.len() - QM9_TEST);
    Qm9Split { train, valid, test }
}

/// A half of the training split, as conditional generation is evaluated with: what judges a molecule was not trained on
/// what makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// What property classifiers are trained on.
    First,
    /// What generators are trained on.
    Second,
}

/// Rows of a half of `molecules` training molecules, in the order of numpy's legacy `RandomState(42).permutation`
/// (EDM `fce07d7`, `qm9/data/utils.py`); of an odd number the second half has one more.
pub fn half_rows(half: Half, molecules: u32) -> Vec<u32> {
    let mut first = RandomState::new(42).permutation(molecules);
    let second = first.split_off(molecules as usize / 2);
    match half {
        Half::First => first,
        Half::Second => second,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_split_of_qm9_is_numpys() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/golden/qm9/splits.json")).unwrap();
        let Qm9Split { train, valid, test } = qm9_split();
        let first = half_rows(Half::First, 100_000);
        let second = half_rows(Half::Second, 100_000);
        for (key, found) in [
            ("train", train),
            ("valid", valid),
            ("test", test),
            ("first_half", first),
            ("second_half", second),
        ] {
            let expected = &golden["qm9"][key];
            assert_eq!(found.len() as u64, expected["count"].as_u64().unwrap(), "{key}");
            let bytes: Vec<u8> = found.iter().flat_map(|i| i.to_le_bytes()).collect();
            assert_eq!(blake3::hash(&bytes).to_hex().to_string(), expected["blake3"], "{key}");
        }
    }

    #[test]
    fn a_held_out_part_and_the_rest_are_all() {
        let rule = SplitRule::HeldOut(HeldOut { seed: 0, count: 3 });
        let [test, train] =
            [Split::Test, Split::Train].map(|split| rule.positions(split, 10).unwrap().unwrap());
        let whole: Vec<usize> =
            RandomState::new(0).permutation(10).into_iter().map(|position| position as usize).collect();
        assert_eq!([&test[..], &train[..]].concat(), whole);
        assert_eq!((test.len(), rule.positions(Split::Valid, 10)), (3, Ok(None)));
        for molecules in [0, 3] {
            assert!(rule.positions(Split::Test, molecules).unwrap_err().contains("held out"));
        }
    }

    #[test]
    fn the_split_of_qm9_needs_all_of_it() {
        let error = SplitRule::Qm9.positions(Split::Test, 100).unwrap_err();
        assert!(error.contains("130831") && error.contains("100"), "{error}");
        let test = SplitRule::Qm9.positions(Split::Test, QM9_KEPT as usize).unwrap().unwrap();
        assert!(test.is_sorted() && test.len() == 13_083);
    }
}
