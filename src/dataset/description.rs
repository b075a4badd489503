//! `datasets/<name>.yaml`: where a dataset comes from, how it is laid out, which samples are used in which order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parquet::{ParquetImages, ParquetLayout};
use super::procedural::{self, Procedural};
use super::{Dataset, DatasetError, Split};

/// The shipped descriptions, by name.
pub const SHIPPED: [(&str, &str); 2] = [
    ("mini-images", include_str!("../../datasets/mini-images.yaml")),
    ("cifar10", include_str!("../../datasets/cifar10.yaml")),
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
    /// Sub-folder of the data folder that holds the files (none for procedural data).
    #[serde(default)]
    pub folder: Option<String>,
    /// How samples are stored.
    pub layout: Layout,
    /// The split that is evaluated.
    #[serde(default = "default_split")]
    pub split: Split,
    /// Channels, height, width of every image.
    pub shape: [usize; 3],
    /// Names of the classes, in the order of their labels.
    #[serde(default)]
    pub classes: Vec<String>,
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
    /// Encoded images in Parquet files.
    Parquet(ParquetLayout),
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

/// Which samples of the stored ones, in which order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Selector {
    /// All, as stored.
    #[default]
    All,
    /// The first n, as stored.
    First(usize),
    /// Ranked by blake3(seed, id), for files sorted by class.
    Seeded(Seeded),
}

/// A hash-ranked order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Seeded {
    /// Seed of the ranking.
    pub seed: u64,
    /// How many of the ranked samples; all if absent.
    #[serde(default)]
    pub count: Option<usize>,
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
        Self::parse(name, &text)
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

    /// A procedural dataset is what it is: other sizes, classes or orders would be ignored.
    fn check(&self) -> Result<(), String> {
        let Layout::Procedural(_) = self.layout else { return Ok(()) };
        if self.shape != procedural::SHAPE {
            return Err(format!(
                "shape: procedural images are {:?}, not {:?}",
                procedural::SHAPE,
                self.shape
            ));
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

    /// Opens a split; `data` is the folder that holds one sub-folder per dataset.
    ///
    /// # Errors
    /// Everything that is wrong with the dataset as a whole (see [`DatasetError`]).
    pub fn open(&self, split: Split, data: Option<&Path>) -> Result<Box<dyn Dataset>, DatasetError> {
        match &self.layout {
            Layout::Procedural(layout) => {
                let count = match split {
                    Split::Train => layout.train,
                    Split::Test => layout.test,
                };
                Ok(Box::new(Procedural::new(&self.name, layout.seed, split, count)?))
            }
            Layout::Parquet(layout) => {
                let folder = self.folder_under(data)?;
                Ok(Box::new(ParquetImages::open(self, layout, split, &folder)?))
            }
        }
    }

    /// Hashes the dataset's files and compares them with the known copies.
    ///
    /// # Errors
    /// If the dataset has files and `data` is not given.
    pub fn check_files(&self, data: Option<&Path>) -> Result<Vec<FileCheck>, DatasetError> {
        let Layout::Parquet(layout) = &self.layout else { return Ok(Vec::new()) };
        let folder = self.folder_under(data)?;
        let check = |file: &String| {
            let path = folder.join(file);
            let found = std::fs::read(&path).map(|b| blake3::hash(&b).to_hex().to_string());
            FileCheck { path, found: found.map_err(|e| e.to_string()), known: self.known.get(file).cloned() }
        };
        Ok(layout.files.values().flatten().map(check).collect())
    }

    fn folder_under(&self, data: Option<&Path>) -> Result<PathBuf, DatasetError> {
        let folder = self.folder.as_ref().unwrap_or(&self.name);
        data.map(|root| root.join(folder))
            .ok_or_else(|| DatasetError::NoDataFolder { name: self.name.clone(), folder: folder.clone() })
    }
}

/// Opens a dataset's evaluated split by name or path.
///
/// # Errors
/// See [`Description::load`] and [`Description::open`].
pub fn open(name: &str, data: Option<&Path>) -> Result<Box<dyn Dataset>, DatasetError> {
    let description = Description::load(name)?;
    description.open(description.split, data)
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
        let key = Description::parse("mine.yaml", "name: a\nsauce: b\n").unwrap_err().to_string();
        assert!(key.starts_with("mine.yaml: ") && key.contains("sauce"), "{key}");
    }
}
