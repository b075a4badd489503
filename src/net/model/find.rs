//! Where model files are: `models/` under the program's home.

use std::path::{Path, PathBuf};

use super::ModelError;
use crate::spec::diagnostic::nearest;

/// The file of a model: a path ending in `.yaml` as it is, or `models/<name>.yaml` under `home`.
///
/// Without `home` it is looked for under the working directory, then under every folder above the executable.
///
/// # Errors
/// [`ModelError::Unknown`], with the nearest name and where it was looked for.
pub fn find(name: &str, home: Option<&Path>) -> Result<PathBuf, ModelError> {
    if Path::new(name).extension().is_some_and(|suffix| suffix == "yaml") {
        // Reading it will say if it is absent.
        return Ok(PathBuf::from(name));
    }
    let homes = home.map_or_else(default_homes, |home| vec![home.to_owned()]);
    let file = format!("models/{name}.yaml");
    let found = homes.iter().map(|home| home.join(&file)).find(|path| path.is_file());
    found.ok_or_else(|| {
        let folder = name.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let known: Vec<String> = homes
            .iter()
            .flat_map(|home| names(&home.join("models").join(&folder)))
            .map(|known| format!("{folder}{known}"))
            .collect();
        let nearest = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
        ModelError::Unknown { name: name.to_owned(), nearest, searched: homes }
    })
}

/// Names of all models that [`find`] knows, sorted, each once.
pub fn names_under(home: Option<&Path>) -> Vec<String> {
    names_in("models", home)
}

/// Names of all files in a folder of [`find`]'s homes, sorted, each once.
pub(super) fn names_in(folder: &str, home: Option<&Path>) -> Vec<String> {
    let homes = home.map_or_else(default_homes, |home| vec![home.to_owned()]);
    let mut known: Vec<String> = homes.iter().flat_map(|home| names(&home.join(folder))).collect();
    known.sort();
    known.dedup();
    known
}

/// Every model file of every kind with its name below `models/`, sorted; of two homes with one name the first has it.
pub(super) fn all_files(home: Option<&Path>) -> Vec<(String, PathBuf)> {
    let homes = home.map_or_else(default_homes, |home| vec![home.to_owned()]);
    let mut files = std::collections::BTreeMap::new();
    for models in homes.iter().map(|home| home.join("models")) {
        let folders = std::fs::read_dir(&models).into_iter().flatten().flatten().map(|entry| entry.path());
        let kinds = folders
            .filter(|path| path.is_dir())
            .filter_map(|path| Some(format!("{}/", path.file_name()?.to_str()?)));
        for kind in std::iter::once(String::new()).chain(kinds) {
            for name in names(&models.join(&kind)) {
                let path = models.join(format!("{kind}{name}.yaml"));
                files.entry(format!("{kind}{name}")).or_insert(path);
            }
        }
    }
    files.into_iter().collect()
}

fn default_homes() -> Vec<PathBuf> {
    let mut homes = vec![PathBuf::from(".")];
    if let Ok(executable) = std::env::current_exe() {
        homes.extend(executable.ancestors().skip(1).map(Path::to_owned));
    }
    homes
}

/// Names of the model files in a folder, sorted.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::fs::DirEntry| {
        let path = entry.path();
        let is_yaml = path.extension().is_some_and(|suffix| suffix == "yaml");
        is_yaml.then(|| path.file_stem()?.to_str().map(str::to_owned)).flatten()
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(name).collect();
    names.sort();
    names
}
