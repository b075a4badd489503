//! What class a sample is of, and the labels of classes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::listing::Sample;
use crate::dataset::{DatasetError, Description};

/// The shipped lists of classes, by file name.
const SHIPPED: [(&str, &str); 1] =
    [("imagenet-classes.txt", include_str!("../../../datasets/imagenet-classes.txt"))];

/// How the name of a file says its class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClassSource {
    /// By the first folder below the split's.
    #[default]
    Folder,
    /// By what stands before the first `_` of the file's own name.
    FilePrefix,
    /// Not at all.
    None,
}

/// The class of a sample as its source states it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::dataset) enum Class {
    /// It does not.
    None,
    /// As a label.
    Label(i64),
    /// By name.
    Name(String),
}

/// The classes of a dataset in the order of their labels.
pub(in crate::dataset) struct ClassList {
    /// Labels by name, of which a class may have two.
    labels: BTreeMap<String, u32>,
    count: Option<usize>,
}

impl ClassList {
    /// Those of the description: its `class_list`, else its `classes`, else all names that samples have, sorted.
    pub(in crate::dataset) fn of(
        description: &Description,
        samples: &[Sample],
    ) -> Result<Self, DatasetError> {
        if let Some(file) = &description.class_list {
            return Self::read(description, file);
        }
        if !description.classes.is_empty() {
            return Ok(Self::new(description.classes.iter().map(|name| vec![name.as_str()])));
        }
        let names: BTreeSet<&str> = samples
            .iter()
            .filter_map(|sample| match &sample.listed.class {
                Class::Name(name) => Some(name.as_str()),
                Class::None | Class::Label(_) => None,
            })
            .collect();
        Ok(Self::new(names.into_iter().map(|name| vec![name])))
    }

    /// A file with a class on every line: an id, a space, its name.
    fn read(description: &Description, file: &Path) -> Result<Self, DatasetError> {
        let text = match shipped(file) {
            Some(text) => text.to_owned(),
            None => std::fs::read_to_string(file).map_err(|error| DatasetError::File {
                name: description.name.clone(),
                path: file.to_owned(),
                reason: error.to_string(),
                source_hint: description.source.clone(),
            })?,
        };
        let line = |line: &str| {
            let (id, name) = line.split_once(' ').unwrap_or((line, ""));
            [id, name.trim()].iter().filter(|n| !n.is_empty()).map(|n| (*n).to_owned()).collect::<Vec<_>>()
        };
        let classes: Vec<Vec<String>> = text.lines().filter(|l| !l.trim().is_empty()).map(line).collect();
        Ok(Self::new(classes.iter().map(|names| names.iter().map(String::as_str).collect())))
    }

    /// From the names of every class, in the order of their labels; of two classes of one name the first has it.
    fn new<'a>(classes: impl Iterator<Item = Vec<&'a str>>) -> Self {
        let (mut labels, mut count) = (BTreeMap::new(), 0);
        for names in classes {
            for name in names {
                labels.entry(name.to_owned()).or_insert(count);
            }
            count += 1;
        }
        Self { labels, count: (count > 0).then_some(count as usize) }
    }

    /// Number of classes, if there are any.
    pub(in crate::dataset) const fn len(&self) -> Option<usize> {
        self.count
    }

    /// The label of a class.
    pub(in crate::dataset) fn label(
        &self,
        dataset: &str,
        id: &str,
        class: &Class,
    ) -> Result<Option<u32>, DatasetError> {
        let (name, id) = (dataset.to_owned(), id.to_owned());
        let classes = self.count.unwrap_or(u32::MAX as usize);
        match class {
            Class::None => Ok(None),
            Class::Label(label) => u32::try_from(*label)
                .ok()
                .filter(|label| (*label as usize) < classes)
                .map(Some)
                .ok_or(DatasetError::Label { name, id, label: *label, classes }),
            Class::Name(class) => self
                .labels
                .get(class)
                .copied()
                .map(Some)
                .ok_or_else(|| DatasetError::Class { name, id, class: class.clone(), classes }),
        }
    }
}

/// A shipped list, if the path is no more than its name.
fn shipped(file: &Path) -> Option<&'static str> {
    SHIPPED.iter().find(|(name, _)| Path::new(name) == file).map(|(_, text)| *text)
}

/// The list that a description beside `yaml` names: a file beside it, else a shipped one.
pub(in crate::dataset) fn beside(yaml: &Path, file: &Path) -> PathBuf {
    let beside = yaml.with_file_name(file);
    if beside.exists() || shipped(file).is_none() { beside } else { file.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(more: &str) -> Description {
        let text = format!(
            "name: mine\nsource: here\nlicence: none\nshape: [3, 4, 4]\n{more}\n\
             layout: {{ images: [ {{ folder: {{ splits: {{ test: '.' }} }} }} ] }}\n"
        );
        Description::parse("mine.yaml", &text).unwrap()
    }

    fn list(more: &str) -> ClassList {
        ClassList::of(&described(more), &[]).unwrap()
    }

    #[test]
    fn imagenet_labels_are_the_rank_of_the_wordnet_id() {
        let text = shipped(Path::new("imagenet-classes.txt")).unwrap();
        let ids: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(ids.len() == 1000 && ids.is_sorted());
        let imagenet = list("class_list: imagenet-classes.txt");
        let label = |name: &str| imagenet.label("d", "i", &Class::Name(name.to_owned())).unwrap();
        // Golden retriever is class 207 of every public ImageNet classifier; tench the first, toilet tissue the last.
        let known = ["n01440764", "n02099601", "golden_retriever", "n15075141"].map(label);
        assert_eq!(known, [Some(0), Some(207), Some(207), Some(999)]);
        assert_eq!(imagenet.len(), Some(1000));
    }

    #[test]
    fn unknown_classes_and_labels_are_named() {
        let classes = list("classes: [cat, dog]");
        let error = |class| classes.label("d", "sample", &class).unwrap_err().to_string();
        let unknown = error(Class::Name("cow".to_owned()));
        assert!(unknown.contains("sample") && unknown.contains("`cow`"), "{unknown}");
        assert!(error(Class::Label(2)).contains("label 2 is out of range"));
        assert!(error(Class::Label(-1)).contains("label -1"));
        assert_eq!(classes.label("d", "i", &Class::Name("dog".to_owned())).unwrap(), Some(1));
        assert_eq!(classes.label("d", "i", &Class::None).unwrap(), None);
        // Without classes every label is one.
        assert_eq!(list("").label("d", "i", &Class::Label(5)).unwrap(), Some(5));
    }
}
