//! Which of the stored samples are used, and in which order.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DatasetError;
use super::manifest::seeded_order;

/// Which samples of the stored ones, in which order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Selector {
    /// All, as stored.
    #[default]
    All,
    /// The first n, as stored.
    First(usize),
    /// Ranked by blake3(seed, id), for files sorted by class.
    Seeded(Seeded),
    /// Those that a text file names, in its order: a name on every line, and the label after a space if the dataset
    /// states none. The path is relative to the dataset's folder. Names may leave out folders and the suffix of ids.
    FromFile(PathBuf),
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

impl Selector {
    /// Positions of the selected samples in order, each with the label that a list gives it.
    ///
    /// # Errors
    /// A list that cannot be read; a name in it that is no sample's, or of several; a name that occurs twice.
    pub(super) fn choose(
        &self,
        dataset: &str,
        ids: &[String],
        folder: &Path,
    ) -> Result<Vec<(usize, Option<i64>)>, DatasetError> {
        let (order, count): (Vec<usize>, _) = match self {
            Self::All => ((0..ids.len()).collect(), None),
            Self::First(count) => ((0..ids.len()).collect(), Some(*count)),
            Self::Seeded(Seeded { seed, count }) => (seeded_order(*seed, ids), *count),
            Self::FromFile(path) => return listed(dataset, ids, &folder.join(path)),
        };
        Ok(order.into_iter().take(count.unwrap_or(ids.len())).map(|position| (position, None)).collect())
    }
}

fn listed(dataset: &str, ids: &[String], file: &Path) -> Result<Vec<(usize, Option<i64>)>, DatasetError> {
    let wrong = |reason| DatasetError::Selector { name: dataset.to_owned(), file: file.to_owned(), reason };
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let known = Names::of(ids);
    let mut lines_of: HashMap<usize, usize> = HashMap::new();
    let mut chosen = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty()) {
        let (name, label) = name_and_label(line);
        let position = known.position(name).map_err(|reason| wrong(format!("line {number}: {reason}")))?;
        if let Some(before) = lines_of.insert(position, number) {
            return Err(wrong(format!("line {number}: `{name}` stands in line {before} too")));
        }
        chosen.push((position, label));
    }
    Ok(chosen)
}

/// A line's name, and the label after its last space if that is a number.
fn name_and_label(line: &str) -> (&str, Option<i64>) {
    let split = line.rsplit_once(char::is_whitespace);
    let labelled = split.and_then(|(name, label)| Some((name.trim_end(), Some(label.parse().ok()?))));
    labelled.unwrap_or((line, None))
}

/// Samples by id, and by what remains of it without folders and suffix.
struct Names<'a> {
    ids: HashMap<&'a str, usize>,
    /// None: several samples have it.
    stems: HashMap<&'a str, Option<usize>>,
}

impl<'a> Names<'a> {
    fn of(ids: &'a [String]) -> Self {
        let mut stems = HashMap::new();
        for (position, id) in ids.iter().enumerate() {
            stems.entry(stem(id)).and_modify(|other| *other = None).or_insert(Some(position));
        }
        Self { ids: ids.iter().enumerate().map(|(position, id)| (id.as_str(), position)).collect(), stems }
    }

    fn position(&self, name: &str) -> Result<usize, String> {
        if let Some(position) = self.ids.get(name) {
            return Ok(*position);
        }
        match self.stems.get(stem(name)) {
            Some(Some(position)) => Ok(*position),
            Some(None) => Err(format!("several samples are called `{name}`: write their whole ids")),
            None => Err(format!("no sample is called `{name}`")),
        }
    }
}

/// A name without folders and without the suffix of an image file.
fn stem(name: &str) -> &str {
    let file = name.rsplit('/').next().unwrap_or(name);
    match file.rsplit_once('.') {
        Some((stem, suffix)) if ["jpg", "jpeg", "png"].contains(&&*suffix.to_ascii_lowercase()) => stem,
        _ => file,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(list: &str) -> Result<Vec<(usize, Option<i64>)>, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("list.txt"), list).unwrap();
        let ids = ["a/1.JPEG", "a/2.JPEG", "b/2.JPEG", "b/3.x.png"].map(str::to_owned);
        let selector = Selector::FromFile("list.txt".into());
        selector.choose("d", &ids, folder.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_orders_samples_and_may_label_them() {
        assert_eq!(chosen("b/2.JPEG 7\n\n  a/1.JPEG\n").unwrap(), [(2, Some(7)), (0, None)]);
        // As lists of the public split name them: other folders, other suffixes, none.
        assert_eq!(chosen("val/1.jpg 65\n3.x\n").unwrap(), [(0, Some(65)), (3, None)]);
    }

    #[test]
    fn names_that_fit_no_sample_or_several_are_named() {
        let error = chosen("1\nc/9.JPEG 3\n").unwrap_err();
        assert!(
            error.contains("list.txt") && error.contains("line 2: no sample is called `c/9.JPEG`"),
            "{error}"
        );
        assert!(chosen("2.JPEG\n").unwrap_err().contains("several samples"));
        assert!(chosen("1\na/1.JPEG\n").unwrap_err().contains("line 2: `a/1.JPEG` stands in line 1 too"));
        let selector = Selector::FromFile("absent".into());
        assert!(selector.choose("d", &[], Path::new(".")).unwrap_err().to_string().contains("absent"));
    }
}
