//! `datasets/<name>.yaml`: where a dataset comes from, how it is laid out, which samples are used in which order.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::images::{EncodedImages, ImageSource, ResizeRule, class_list_beside};
use super::manifest::Manifest;
use super::mixture::{self, MixtureLayout, MixturePoints};
use super::molecules::{MoleculeSet, MoleculeSource};
use super::parquet::ParquetLayout;
use super::procedural::{self, Procedural};
use super::selector::Selector;
use super::targets::{MoleculeTargets, TargetsLayout};
use super::{Dataset, DatasetError, Split};

/// The shipped descriptions, by name.
pub const SHIPPED: [(&str, &str); 8] = [
    ("mini-images", include_str!("../../datasets/mini-images.yaml")),
    ("cifar10", include_str!("../../datasets/cifar10.yaml")),
    ("imagenet128", include_str!("../../datasets/imagenet128.yaml")),
    ("imagenet-samples", include_str!("../../datasets/imagenet-samples.yaml")),
    ("qm9", include_str!("../../datasets/qm9.yaml")),
    ("qm9-test-split", include_str!("../../datasets/qm9-test-split.yaml")),
    ("qm9-targets", include_str!("../../datasets/qm9-targets.yaml")),
    ("ring-mixture", include_str!("../../datasets/ring-mixture.yaml")),
];

/// A dataset as its description file states it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Name: keys random draws and the manifest hash, so it is part of every result.
    pub name: String,
    /// Where it can be had.
    pub source: String,
    /// Licence of the data.
    pub licence: String,
    /// Sub-folder of the data folder that holds the files (none for what is made by this program).
    #[serde(default)]
    pub folder: Option<String>,
    /// How samples are stored.
    pub layout: Layout,
    /// The split that is evaluated.
    #[serde(default = "default_split")]
    pub split: Split,
    /// Channels, height, width of every image; only of images, and needed there.
    #[serde(default)]
    pub shape: Option<[usize; 3]>,
    /// Most atoms of a molecule, which a state has room for (29 for QM9); only of molecules, and needed there.
    #[serde(default)]
    pub max_atoms: Option<usize>,
    /// Names of the classes, in the order of their labels.
    #[serde(default)]
    pub classes: Vec<String>,
    /// A file beside the description with a class on every line, in the order of the labels: an id (such as that of
    /// WordNet, which names ImageNet's folders), a space and a name. In the place of `classes`.
    #[serde(default)]
    pub class_list: Option<PathBuf>,
    /// How pictures of other sizes become samples of `shape`.
    #[serde(default)]
    pub resize: ResizeRule,
    /// Which samples of the evaluated split, in which order.
    #[serde(default)]
    pub selector: Selector,
    /// blake3 of known copies of the files, by file name; other copies work too, with another manifest hash.
    #[serde(default)]
    pub known: BTreeMap<String, String>,
}

fn default_split() -> Split {
    Split::Test
}

/// How samples are stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Layout {
    /// Rendered by this program.
    Procedural(ProceduralLayout),
    /// Points of the plane, drawn by this program.
    Mixture(MixtureLayout),
    /// Encoded images in Parquet files.
    Parquet(ParquetLayout),
    /// Encoded images: the first of these ways whose files are there.
    Images(Vec<ImageSource>),
    /// Molecules with their properties: the first of these ways whose files are there.
    Molecules(Vec<MoleculeSource>),
    /// Sizes and properties that molecules are to have, drawn from statistics.
    MoleculeTargets(TargetsLayout),
}

/// What a dataset has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Images: [`Description::open`].
    Images,
    /// Molecules with their properties: [`Description::open_molecules`].
    Molecules,
    /// What molecules are to have: [`Description::open_targets`].
    MoleculeTargets,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Images => "images",
            Self::Molecules => "molecules",
            Self::MoleculeTargets => "targets for molecules",
        })
    }
}

/// An open dataset of any kind.
pub enum Opened {
    /// Images.
    Images(Box<dyn Dataset>),
    /// Molecules with their properties.
    Molecules(MoleculeSet),
    /// What molecules are to have.
    Targets(MoleculeTargets),
}

impl Opened {
    /// Ids and hashes of all samples, in order.
    pub fn manifest(&self) -> &Manifest {
        match self {
            Self::Images(images) => images.manifest(),
            Self::Molecules(molecules) => molecules.manifest(),
            Self::Targets(targets) => targets.manifest(),
        }
    }
}

/// Procedural images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProceduralLayout {
    /// Seed of all pictures.
    pub seed: u64,
    /// Number of training images that the split holds; the stream itself has no end.
    pub train: u64,
    /// Number of test images.
    pub test: u64,
}

/// One file of a dataset, compared with its description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileCheck {
    /// The file.
    pub path: PathBuf,
    /// blake3 of what is there, or why it cannot be read.
    pub found: Result<String, String>,
    /// The hash of the known copy, if the description names one.
    pub known: Option<String>,
}

impl Description {
    /// A shipped description by name, or one from a path ending in `.yaml`.
    ///
    /// # Errors
    /// An unknown name, an unreadable file, a description that does not parse.
    pub fn load(name: &str) -> Result<Self, DatasetError> {
        if let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            return Self::parse(name, text);
        }
        if Path::new(name).extension().is_none_or(|e| e != "yaml") {
            let known = SHIPPED.map(|(shipped, _)| shipped).join(", ");
            return Err(DatasetError::Unknown { name: name.to_owned(), known });
        }
        let describe = |message| DatasetError::Description { file: name.to_owned(), message };
        let text = std::fs::read_to_string(name).map_err(|e| describe(e.to_string()))?;
        let mut description = Self::parse(name, &text)?;
        if let Some(list) = &mut description.class_list {
            *list = class_list_beside(Path::new(name), list);
        }
        if let Layout::MoleculeTargets(layout) = &mut description.layout {
            let beside = Path::new(name).with_file_name(&layout.statistics);
            if beside.exists() || !layout.is_embedded() {
                layout.statistics = beside;
            }
        }
        Ok(description)
    }

    /// Reads a description; `file` is for messages.
    ///
    /// # Errors
    /// If the text is not a description.
    pub fn parse(file: &str, text: &str) -> Result<Self, DatasetError> {
        let wrong = |message| DatasetError::Description { file: file.to_owned(), message };
        let description: Self = serde_yaml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        description.check().map_err(wrong)?;
        Ok(description)
    }

    fn check(&self) -> Result<(), String> {
        let (key, needed, other) = match self.kind() {
            Kind::Images => ("shape", self.shape.is_some(), self.max_atoms.map(|_| "max_atoms")),
            _ => ("max_atoms", self.max_atoms.is_some(), self.shape.map(|_| "shape")),
        };
        if !needed {
            return Err(format!("{key}: missing; a dataset of {} needs it", self.kind()));
        }
        if let Some(other) = other {
            return Err(format!("{other}: a dataset of {} has none", self.kind()));
        }
        match &self.layout {
            Layout::Procedural(_) => self.check_procedural(),
            Layout::Mixture(layout) => self.check_mixture(layout),
            Layout::Parquet(_) | Layout::Images(_) => self.check_images(),
            Layout::Molecules(sources) if sources.is_empty() => {
                Err("layout: molecules: name at least one way in which they are stored".to_owned())
            }
            Layout::MoleculeTargets(_) if self.selector != Selector::All => {
                Err("selector: targets have one order; write `selector: all`".to_owned())
            }
            Layout::Molecules(_) | Layout::MoleculeTargets(_) => self.check_without_classes(),
        }
    }

    /// A procedural dataset is what it is: other sizes, classes or orders would be ignored.
    fn check_procedural(&self) -> Result<(), String> {
        let shape = self.shape.unwrap_or_default();
        if shape != procedural::SHAPE {
            return Err(format!("shape: procedural images are {:?}, not {shape:?}", procedural::SHAPE));
        }
        if self.classes.len() != procedural::CLASSES.len() {
            let (known, found) = (procedural::CLASSES.len(), self.classes.len());
            return Err(format!("classes: procedural images have {known} classes, not {found}"));
        }
        if self.selector != Selector::All {
            return Err("selector: procedural images have one order; write `selector: all`".to_owned());
        }
        Ok(())
    }

    /// Points of the plane are what they are.
    fn check_mixture(&self, layout: &MixtureLayout) -> Result<(), String> {
        if self.shape != Some(mixture::SHAPE) {
            return Err(format!("shape: points of a mixture are {:?}", mixture::SHAPE));
        }
        if self.selector != Selector::All {
            return Err("selector: points of a mixture have one order; write `selector: all`".to_owned());
        }
        layout.check()?;
        self.check_without_classes()
    }

    fn check_images(&self) -> Result<(), String> {
        if matches!(&self.layout, Layout::Images(sources) if sources.is_empty()) {
            return Err("layout: images: name at least one way in which they are stored".to_owned());
        }
        if self.class_list.is_some() && !self.classes.is_empty() {
            return Err("class_list: the classes stand in `classes` already".to_owned());
        }
        match self.shape {
            Some([_, height, width]) if self.resize == ResizeRule::CentreCrop && height != width => {
                Err(format!("resize: centre_crop makes squares, and `shape` is {height}×{width}"))
            }
            Some(shape) if shape.contains(&0) => Err("shape: no side may be 0".to_owned()),
            _ => Ok(()),
        }
    }

    fn check_without_classes(&self) -> Result<(), String> {
        let (classes, list) = (!self.classes.is_empty(), self.class_list.is_some());
        let key = if list { "class_list" } else { "classes" };
        if classes || list { Err(format!("{key}: {} have none", self.kind())) } else { Ok(()) }
    }

    /// What the dataset has.
    pub fn kind(&self) -> Kind {
        match self.layout {
            Layout::Procedural(_) | Layout::Mixture(_) | Layout::Parquet(_) | Layout::Images(_) => {
                Kind::Images
            }
            Layout::Molecules(_) => Kind::Molecules,
            Layout::MoleculeTargets(_) => Kind::MoleculeTargets,
        }
    }

    fn is_no(&self, wanted: Kind) -> DatasetError {
        DatasetError::Kind { name: self.name.clone(), found: self.kind(), wanted }
    }

    /// Channels, height, width of every image.
    ///
    /// # Errors
    /// If these are no images.
    pub fn image_shape(&self) -> Result<[usize; 3], DatasetError> {
        self.shape.ok_or_else(|| self.is_no(Kind::Images))
    }

    /// Opens a split of images; `data` is the folder that holds one sub-folder per dataset.
    ///
    /// # Errors
    /// Everything that is wrong with the dataset as a whole (see [`DatasetError`]); that it has no images.
    pub fn open(&self, split: Split, data: Option<&Path>) -> Result<Box<dyn Dataset>, DatasetError> {
        match &self.layout {
            Layout::Procedural(layout) => {
                let count = self.drawn(split, layout.train, layout.test)?;
                Ok(Box::new(Procedural::new(&self.name, layout.seed, split, count)?))
            }
            Layout::Mixture(layout) => {
                let count = self.drawn(split, layout.train, layout.test)?;
                Ok(Box::new(MixturePoints::new(&self.name, layout, split, count)?))
            }
            Layout::Parquet(_) | Layout::Images(_) => {
                let folder = self.folder_under(data)?;
                let source = self.image_source(split, &folder).ok_or_else(|| self.is_no(Kind::Images))?;
                Ok(Box::new(EncodedImages::open(self, &source, split, &folder)?))
            }
            Layout::Molecules(_) | Layout::MoleculeTargets(_) => Err(self.is_no(Kind::Images)),
        }
    }

    /// Number of samples of a split that this program draws.
    fn drawn(&self, split: Split, train: u64, test: u64) -> Result<u64, DatasetError> {
        match split {
            Split::Train => Ok(train),
            Split::Valid => Err(DatasetError::NoSplit { name: self.name.clone(), split }),
            Split::Test => Ok(test),
        }
    }

    /// The way in which the images of a split are stored here.
    fn image_source(&self, split: Split, folder: &Path) -> Option<ImageSource> {
        match &self.layout {
            Layout::Parquet(layout) => Some(ImageSource::Parquet(layout.clone())),
            Layout::Images(sources) => ImageSource::found_in(sources, split, folder).cloned(),
            _ => None,
        }
    }

    /// Reads a split of molecules; `data` as in [`Self::open`].
    ///
    /// # Errors
    /// As [`Self::open`]; that it has no molecules.
    pub fn open_molecules(&self, split: Split, data: Option<&Path>) -> Result<MoleculeSet, DatasetError> {
        let (Layout::Molecules(sources), Some(max_atoms)) = (&self.layout, self.max_atoms) else {
            return Err(self.is_no(Kind::Molecules));
        };
        let folder = self.folder_under(data)?;
        let source = MoleculeSource::found_in(sources, &folder).ok_or_else(|| self.is_no(Kind::Molecules))?;
        source.open(self, split, &folder, max_atoms)
    }

    /// Opens what molecules are to have.
    ///
    /// # Errors
    /// As [`Self::open`]; that it has no targets.
    pub fn open_targets(&self) -> Result<MoleculeTargets, DatasetError> {
        let (Layout::MoleculeTargets(layout), Some(max_atoms)) = (&self.layout, self.max_atoms) else {
            return Err(self.is_no(Kind::MoleculeTargets));
        };
        MoleculeTargets::open(self, layout, max_atoms)
    }

    /// Opens the evaluated split, whatever it has; `data` as in [`Self::open`].
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_any(&self, data: Option<&Path>) -> Result<Opened, DatasetError> {
        match self.kind() {
            Kind::Images => self.open(self.split, data).map(Opened::Images),
            Kind::Molecules => self.open_molecules(self.split, data).map(Opened::Molecules),
            Kind::MoleculeTargets => self.open_targets().map(Opened::Targets),
        }
    }

    /// Hashes the dataset's files and compares them with the known copies.
    ///
    /// # Errors
    /// If the dataset has files and `data` is not given.
    pub fn check_files(&self, data: Option<&Path>) -> Result<Vec<FileCheck>, DatasetError> {
        if let Layout::Procedural(_) | Layout::Mixture(_) | Layout::MoleculeTargets(_) = self.layout {
            return Ok(Vec::new());
        }
        let folder = self.folder_under(data)?;
        let check = |file: String| {
            let path = folder.join(&file);
            FileCheck {
                found: file_hash(&path).map_err(|e| e.to_string()),
                known: self.known.get(&file).cloned(),
                path,
            }
        };
        Ok(self.files(&folder).into_iter().map(check).collect())
    }

    /// Looks whether the dataset's files are there, and reads none.
    ///
    /// # Errors
    /// The first that is not; `data` is not given.
    pub fn find_files(&self, data: Option<&Path>) -> Result<(), DatasetError> {
        if let Layout::Procedural(_) | Layout::Mixture(_) | Layout::MoleculeTargets(_) = self.layout {
            return Ok(());
        }
        let folder = self.folder_under(data)?;
        for file in self.files(&folder) {
            let path = folder.join(file);
            std::fs::metadata(&path).map_err(|error| DatasetError::File {
                name: self.name.clone(),
                path,
                reason: error.to_string(),
                source_hint: self.source.clone(),
            })?;
        }
        Ok(())
    }

    /// The files that are read, relative to the dataset's folder; of images in folders none.
    fn files(&self, folder: &Path) -> Vec<String> {
        match &self.layout {
            Layout::Procedural(_) | Layout::Mixture(_) | Layout::MoleculeTargets(_) => Vec::new(),
            Layout::Parquet(layout) => layout.files.values().flatten().cloned().collect(),
            Layout::Images(_) => {
                let source = self.image_source(self.split, folder);
                let shards =
                    source.and_then(|source| source.shards(self.split, folder).ok()).unwrap_or_default();
                let below = |path: PathBuf| path.strip_prefix(folder).unwrap_or(&path).display().to_string();
                shards.into_iter().map(below).collect()
            }
            Layout::Molecules(sources) => {
                let Some(source) = MoleculeSource::found_in(sources, folder) else { return Vec::new() };
                let optional = source.optional_files().into_iter().filter(|file| folder.join(file).exists());
                let files = source.files().into_iter().filter(|file| !folder.join(file).is_dir());
                files.chain(optional).map(str::to_owned).collect()
            }
        }
    }

    fn folder_under(&self, data: Option<&Path>) -> Result<PathBuf, DatasetError> {
        let folder = self.folder.as_ref().unwrap_or(&self.name);
        data.map(|root| root.join(folder))
            .ok_or_else(|| DatasetError::NoDataFolder { name: self.name.clone(), folder: folder.clone() })
    }
}

fn file_hash(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    // Some are too large to be read at once.
    std::io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Opens a dataset's evaluated split of images by name or path.
///
/// # Errors
/// See [`Description::load`] and [`Description::open`].
pub fn open(name: &str, data: Option<&Path>) -> Result<Box<dyn Dataset>, DatasetError> {
    let description = Description::load(name)?;
    description.open(description.split, data)
}

/// Opens a dataset's evaluated split, whatever it has, by name or path.
///
/// # Errors
/// See [`Description::load`] and [`Description::open_any`].
pub fn open_any(name: &str, data: Option<&Path>) -> Result<Opened, DatasetError> {
    Description::load(name)?.open_any(data)
}

/// Reads a split of molecules of a dataset by name or path.
///
/// # Errors
/// See [`Description::load`] and [`Description::open_molecules`].
pub fn open_molecules(name: &str, split: Split, data: Option<&Path>) -> Result<MoleculeSet, DatasetError> {
    Description::load(name)?.open_molecules(split, data)
}

/// Opens a dataset of targets by name or path.
///
/// # Errors
/// See [`Description::load`] and [`Description::open_targets`].
pub fn open_targets(name: &str) -> Result<MoleculeTargets, DatasetError> {
    Description::load(name)?.open_targets()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_descriptions_parse_under_their_own_name() {
        for (name, _) in SHIPPED {
            assert_eq!(Description::load(name).unwrap().name, name);
        }
    }

    #[test]
    fn the_mini_dataset_opens_without_any_file() {
        let dataset = open("mini-images", None).unwrap();
        assert!(dataset.len() >= 64);
        let image = dataset.image(0).unwrap();
        assert_eq!(image.shape, [3, 32, 32]);
        assert!(image.data.iter().all(|v| (-1.0..=1.0).contains(v)));
        assert!(dataset.image(dataset.len()).is_err());
    }

    #[test]
    fn a_dataset_of_another_kind_is_said_to_be_one() {
        let error = open("qm9-targets", None).err().unwrap().to_string();
        assert!(error.contains("has targets for molecules, not images"), "{error}");
        let error = open_molecules("mini-images", Split::Test, None).unwrap_err().to_string();
        assert!(error.contains("has images, not molecules"), "{error}");
        assert!(matches!(open_targets("qm9"), Err(DatasetError::Kind { .. })));
        assert!(matches!(open_any("qm9-targets", None), Ok(Opened::Targets(_))));
        assert!(matches!(open_any("qm9", None), Err(DatasetError::NoDataFolder { .. })));
    }

    #[test]
    fn errors_name_what_is_missing_and_the_remedy() {
        let unknown = Description::load("cifar").unwrap_err().to_string();
        assert!(unknown.contains("`cifar`") && unknown.contains("mini-images, cifar10"), "{unknown}");
        let folder = open("cifar10", None).err().unwrap().to_string();
        assert!(folder.contains("--data") && folder.contains("cifar10_jpeg"), "{folder}");
        let missing = open("cifar10", Some(Path::new("no-such-folder"))).err().unwrap().to_string();
        assert!(missing.contains("no-such-folder") && missing.contains("from:"), "{missing}");
        let mini = SHIPPED[0].1;
        for (from, to, word) in [
            ("shape: [3, 32, 32]", "shape: [3, 64, 64]", "shape"),
            ("selector: all", "selector: { first: 3 }", "selector"),
            ("[sphere, cube, ", "[", "classes"),
        ] {
            let error = Description::parse("mine.yaml", &mini.replace(from, to)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("mine.yaml: {word}: ")), "{error}");
        }
        let targets = include_str!("../../datasets/qm9-targets.yaml");
        for (from, to, word) in [
            ("max_atoms: 29", "shape: [3, 32, 32]", "max_atoms: missing"),
            ("max_atoms: 29", "max_atoms: 29\nshape: [3, 32, 32]", "shape: a dataset of targets"),
            ("max_atoms: 29", "max_atoms: 29\nselector: { first: 3 }", "selector: "),
            ("max_atoms: 29", "max_atoms: 29\nclasses: [a]", "classes: "),
        ] {
            assert!(targets.contains(from));
            let error = Description::parse("mine.yaml", &targets.replace(from, to)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("mine.yaml: {word}")), "{error}");
        }
        let key = Description::parse("mine.yaml", "name: a\nsauce: b\n").unwrap_err().to_string();
        assert!(key.starts_with("mine.yaml: ") && key.contains("sauce"), "{key}");
    }
}
