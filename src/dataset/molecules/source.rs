//! Where the molecules of a dataset are stored, and how a split of them is read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::xyz::AtomReferences;
use super::{Failure, LabelledMolecule, MoleculeSet, SplitRule, Wrong, archive, edm};
use crate::dataset::{DatasetError, Description, Split};

/// One way in which molecules are stored. Files are relative to the dataset's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MoleculeSource {
    /// EDM's `.npz` files, one for each split.
    NpzPerSplit(BTreeMap<Split, String>),
    /// One of EDM's `.npz` files, divided by a rule.
    Npz(NpzFile),
    /// The public archive of QM9, divided by a rule.
    Gdb9(Gdb9Files),
}

/// One `.npz` file with all molecules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NpzFile {
    /// The file.
    pub file: String,
    /// Which molecules belong to which split.
    pub split: SplitRule,
}

/// The files of the public archive (Ramakrishnan et al. 2014).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gdb9Files {
    /// `dsgdb9nsd.xyz.tar.bz2`, the unpacked `.tar`, or a folder of `.xyz` files.
    pub archive: String,
    /// The list of molecules to leave out; where there is no such file, all are kept.
    #[serde(default)]
    pub uncharacterized: Option<String>,
    /// `atomref.txt`; where there is no such file, every atom's Cv is 2.981 cal/(mol K), as it says.
    #[serde(default)]
    pub atom_references: Option<String>,
    /// Which molecules, by rising index and without those left out, belong to which split.
    pub split: SplitRule,
}

impl MoleculeSource {
    /// The files that must be there.
    pub fn files(&self) -> Vec<&str> {
        match self {
            Self::NpzPerSplit(files) => files.values().map(String::as_str).collect(),
            Self::Npz(npz) => vec![&npz.file],
            Self::Gdb9(gdb9) => vec![&gdb9.archive],
        }
    }

    /// The files that are used where they are there.
    pub fn optional_files(&self) -> Vec<&str> {
        match self {
            Self::Gdb9(gdb9) => [&gdb9.uncharacterized, &gdb9.atom_references]
                .into_iter()
                .filter_map(Option::as_deref)
                .collect(),
            Self::NpzPerSplit(_) | Self::Npz(_) => Vec::new(),
        }
    }

    /// The first of `sources` of which a file is there, else the first: its error says what is missing.
    pub fn found_in<'a>(sources: &'a [Self], folder: &Path) -> Option<&'a Self> {
        let is_there = |source: &&Self| source.files().iter().any(|file| folder.join(file).exists());
        sources.iter().find(is_there).or(sources.first())
    }

    /// Reads a split of a dataset.
    pub(in crate::dataset) fn open(
        &self,
        description: &Description,
        split: Split,
        folder: &Path,
        max_atoms: usize,
    ) -> Result<MoleculeSet, DatasetError> {
        let name = &description.name;
        let no_split = || DatasetError::NoSplit { name: name.clone(), split };
        let files = Files { description, folder };
        let molecules = match self {
            Self::NpzPerSplit(by_split) => {
                let file = by_split.get(&split).ok_or_else(no_split)?;
                files.npz(file, max_atoms)?
            }
            Self::Npz(NpzFile { file, split: rule }) => {
                let all = files.npz(file, max_atoms)?;
                divided(*rule, split, all)
                    .map_err(|reason| files.wrong(file, "", reason))?
                    .ok_or_else(no_split)?
            }
            Self::Gdb9(gdb9) => {
                let all = files.gdb9(gdb9, max_atoms)?;
                let missing = gdb9.uncharacterized.iter().find(|file| !folder.join(file).exists());
                let hint = missing.map(|file| format!(" ({file} is not beside it)")).unwrap_or_default();
                divided(gdb9.split, split, all)
                    .map_err(|reason| files.wrong(&gdb9.archive, "", reason + &hint))?
                    .ok_or_else(no_split)?
            }
        };
        // The other splits are what models are trained on: all of them.
        let molecules = if split == description.split {
            let ids: Vec<String> = molecules.iter().map(|molecule| molecule.id.clone()).collect();
            let chosen = description.selector.choose(name, &ids, folder)?;
            taken(molecules, chosen.into_iter().map(|(position, _)| position).collect())
        } else {
            molecules
        };
        MoleculeSet::new(name, split, max_atoms, molecules)
    }
}

/// The molecules of a split, in its order.
fn divided(
    rule: SplitRule,
    split: Split,
    all: Vec<LabelledMolecule>,
) -> Result<Option<Vec<LabelledMolecule>>, String> {
    Ok(rule.positions(split, all.len())?.map(|positions| taken(all, positions)))
}

/// Those at `positions`, none of which occurs twice.
fn taken(all: Vec<LabelledMolecule>, positions: Vec<usize>) -> Vec<LabelledMolecule> {
    let mut slots: Vec<Option<LabelledMolecule>> = all.into_iter().map(Some).collect();
    positions.into_iter().filter_map(|position| slots[position].take()).collect()
}

/// Reads files of a dataset, and words what is wrong with them.
struct Files<'a> {
    description: &'a Description,
    folder: &'a Path,
}

impl Files<'_> {
    fn npz(&self, file: &str, max_atoms: usize) -> Result<Vec<LabelledMolecule>, DatasetError> {
        let open = File::open(self.folder.join(file)).map_err(|error| self.failed(file, error.into()))?;
        edm::read(BufReader::new(open), max_atoms).map_err(|wrong| self.failed(file, wrong.into()))
    }

    fn gdb9(&self, files: &Gdb9Files, max_atoms: usize) -> Result<Vec<LabelledMolecule>, DatasetError> {
        let (excluded, references) = self.gdb9_texts(files)?;
        archive::read(&self.folder.join(&files.archive), &excluded, &references, max_atoms)
            .map_err(|failure| self.failed(&files.archive, failure))
    }

    fn gdb9_texts(&self, files: &Gdb9Files) -> Result<(BTreeSet<u32>, AtomReferences), DatasetError> {
        let excluded = match self.text(files.uncharacterized.as_deref())? {
            Some((file, text)) => {
                archive::parse_excluded(&text).map_err(|wrong| self.failed(file, wrong.into()))?
            }
            None => BTreeSet::new(),
        };
        let references = match self.text(files.atom_references.as_deref())? {
            Some((file, text)) => AtomReferences::parse(&text)
                .map_err(|(line, reason)| self.wrong(file, &format!("line {line}"), reason))?,
            None => AtomReferences::default(),
        };
        Ok((excluded, references))
    }

    /// A text file, if it is named and there.
    fn text<'f>(&self, file: Option<&'f str>) -> Result<Option<(&'f str, String)>, DatasetError> {
        let Some(file) = file else { return Ok(None) };
        match fs::read(self.folder.join(file)) {
            Ok(bytes) => Ok(Some((file, String::from_utf8_lossy(&bytes).into_owned()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(file, error.into())),
        }
    }

    fn wrong(&self, file: &str, at: &str, reason: String) -> DatasetError {
        let reason = if at.is_empty() { reason } else { format!("{at}: {reason}") };
        DatasetError::Content {
            name: self.description.name.clone(),
            path: self.path(file),
            reason,
            source_hint: self.description.source.clone(),
        }
    }

    fn failed(&self, file: &str, failure: Failure) -> DatasetError {
        match failure {
            Failure::Wrong(Wrong { at, reason }) => self.wrong(file, &at, reason),
            Failure::Io(error) => DatasetError::File {
                name: self.description.name.clone(),
                path: self.path(file),
                reason: error.to_string(),
                source_hint: self.description.source.clone(),
            },
        }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }
}

#[cfg(test)]
mod tests {
    use zip::CompressionMethod;

    use super::super::edm::tests::members;
    use super::super::npz::tests::npz;
    use super::super::xyz::tests::water;
    use super::*;

    fn described(layout: &str) -> Description {
        let text = format!(
            "name: mine\nsource: made here\nlicence: none\nfolder: .\nmax_atoms: 29\nlayout:\n  molecules:\n{layout}"
        );
        Description::parse("mine.yaml", &text).unwrap()
    }

    fn folder_with_files() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.npz"), npz(&members(), CompressionMethod::Deflated)).unwrap();
        fs::create_dir(folder.path().join("xyz")).unwrap();
        for index in 1..=5 {
            fs::write(folder.path().join(format!("xyz/{index}.xyz")), water(index)).unwrap();
        }
        folder
    }

    fn ids(set: &MoleculeSet) -> Vec<&str> {
        set.molecules().iter().map(|molecule| &*molecule.id).collect()
    }

    #[test]
    fn the_source_whose_files_are_there_is_read() {
        let folder = folder_with_files();
        let mine = described(
            "    - npz: { file: b.npz, split: qm9 }\n    - npz_per_split: { test: a.npz, train: c.npz }\n",
        );
        let set = mine.open_molecules(Split::Test, Some(folder.path())).unwrap();
        assert_eq!(ids(&set), ["gdb9/3", "gdb9/7"]);
        assert_eq!((set.len(), set.max_atoms(), set.manifest().split()), (2, 29, Split::Test));
        let error = mine.open_molecules(Split::Train, Some(folder.path())).unwrap_err().to_string();
        assert!(error.contains("c.npz") && error.contains("from: made here"), "{error}");
        let error = mine.open_molecules(Split::Valid, Some(folder.path())).unwrap_err().to_string();
        assert!(error.contains("no valid split"), "{error}");
        let elsewhere = tempfile::tempdir().unwrap();
        let error = mine.open_molecules(Split::Test, Some(elsewhere.path())).unwrap_err().to_string();
        assert!(error.contains("b.npz"), "{error}");
    }

    #[test]
    fn the_archive_leaves_molecules_out_and_is_divided() {
        let folder = folder_with_files();
        let mine = described(
            "    - gdb9:\n        archive: xyz\n        uncharacterized: u.txt\n        atom_references: a.txt\n        split: { held_out: { seed: 0, count: 1 } }\n",
        );
        let open = |split| mine.open_molecules(split, Some(folder.path()));
        let [test, train] = [Split::Test, Split::Train].map(|split| open(split).unwrap());
        // numpy: RandomState(0).permutation(5) is [2, 0, 1, 3, 4].
        assert_eq!((ids(&test), ids(&train)), (vec!["gdb9/3"], vec!["gdb9/1", "gdb9/2", "gdb9/4", "gdb9/5"]));
        fs::write(folder.path().join("u.txt"), "Molecules\n1 CC\n").unwrap();
        assert_eq!(open(Split::Train).unwrap().len(), 3);
        assert!(matches!(open(Split::Valid), Err(DatasetError::NoSplit { .. })));
        fs::write(folder.path().join("a.txt"), "H 0 0 0 0 0 x\n").unwrap();
        let error = open(Split::Test).unwrap_err().to_string();
        assert!(error.contains("a.txt: line 1: `x` is no number"), "{error}");
    }

    #[test]
    fn a_selector_orders_the_evaluated_split() {
        let folder = folder_with_files();
        let text = "    - npz_per_split: { test: a.npz }\nselector: { first: 1 }\n";
        let set = described(text).open_molecules(Split::Test, Some(folder.path())).unwrap();
        assert_eq!(ids(&set), ["gdb9/3"]);
    }

    #[test]
    fn errors_name_dataset_file_and_place() {
        let folder = folder_with_files();
        let whole = described("    - npz: { file: a.npz, split: qm9 }\n");
        let error = whole.open_molecules(Split::Test, Some(folder.path())).unwrap_err().to_string();
        assert!(
            error.contains("`mine`") && error.contains("a.npz: the split of QM9 is one of 130831"),
            "{error}"
        );
        let raw = described("    - gdb9: { archive: xyz, uncharacterized: u.txt, split: qm9 }\n");
        let error = raw.open_molecules(Split::Test, Some(folder.path())).unwrap_err().to_string();
        assert!(error.contains("here are 5 (u.txt is not beside it)"), "{error}");
    }

    #[test]
    fn halves_share_no_molecule() {
        let folder = folder_with_files();
        let mine = described("    - gdb9: { archive: xyz, split: { held_out: { seed: 0, count: 1 } } }\n");
        let train = mine.open_molecules(Split::Train, Some(folder.path())).unwrap();
        let [first, second] =
            [super::super::Half::First, super::super::Half::Second].map(|half| train.half(half).unwrap());
        let mut both = [ids(&first), ids(&second)].concat();
        both.sort_unstable();
        assert_eq!((first.len(), both), (2, ids(&train)));
        assert!(matches!(
            first.half(super::super::Half::First).unwrap().half(super::super::Half::First),
            Err(DatasetError::Empty { .. })
        ));
    }
}
