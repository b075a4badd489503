//! The public files that model files of every kind name, and where they belong.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::find::{all_files, find};
use super::{ModelError, parse};
use crate::fetch::Source;

/// A public file of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicFile {
    /// The model, such as `lpips/alex`.
    pub model: String,
    /// Where it can be had.
    pub source: Source,
    /// Where it belongs.
    pub path: PathBuf,
}

/// What of a model file of any kind is needed; the rest is checked where the model is loaded.
#[derive(Deserialize)]
struct Sources {
    #[serde(default)]
    sources: Vec<Source>,
    #[serde(default)]
    folder: Option<String>,
}

/// The public files of a model by its name below `models/` (or the path of its file), or of all models.
///
/// # Errors
/// An unknown name; a model file that does not parse; files that belong in the data folder, and `data` is not given.
pub fn public_files(
    name: Option<&str>,
    home: Option<&Path>,
    data: Option<&Path>,
) -> Result<Vec<PublicFile>, ModelError> {
    let models = match name {
        Some(name) => vec![(name.to_owned(), find(name, home)?)],
        None => all_files(home),
    };
    let mut files: Vec<PublicFile> = Vec::new();
    for (model, file) in models {
        let Sources { sources, folder } = parse(&file)?;
        for source in sources {
            if let Some(detail) = source.problem() {
                return Err(ModelError::Invalid { path: file, detail });
            }
            let path = place(&file, &source, folder.as_deref(), data)?;
            // Three models share the weights of InceptionV3.
            if !files.iter().any(|other| other.path == path) {
                files.push(PublicFile { model: model.clone(), source, path });
            }
        }
    }
    Ok(files)
}

/// An error of a model, with what to do if it is that its weights are not here.
pub fn with_advice(error: &ModelError, name: &str, home: Option<&Path>) -> String {
    let advice = if error.is_missing() { how_to_get(name, home) } else { String::new() };
    format!("{error}{advice}")
}

/// What to do about the weights of a model that are not here; empty where they are not public.
///
/// `name` is below `models/`, such as `lpips/alex`.
pub fn how_to_get(name: &str, home: Option<&Path>) -> String {
    let sources = find(name, home).and_then(|file| parse::<Sources>(&file));
    if !sources.is_ok_and(|sources| !sources.sources.is_empty()) {
        return String::new();
    }
    format!(
        "; `dflow model fetch {name} --data FOLDER` gets its public files (tools/convert/legacy_pickle.py makes \
         safetensors of those that are old pickles)"
    )
}

/// In the data folder; beside the model file if neither it nor the source names a folder there.
fn place(
    file: &Path,
    source: &Source,
    folder: Option<&str>,
    data: Option<&Path>,
) -> Result<PathBuf, ModelError> {
    let Some(folder) = source.folder.as_deref().or(folder) else {
        return Ok(file.with_file_name(source.file()));
    };
    let data = data.ok_or_else(|| ModelError::NoDataFolder {
        file: file.to_owned(),
        folder: folder.to_owned(),
        weights: source.file().to_owned(),
    })?;
    Ok(data.join(folder).join(source.file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_model_that_is_not_in_the_repository_says_where_its_files_are() {
        let home = Path::new(env!("CARGO_MANIFEST_DIR"));
        let files = public_files(None, Some(home), Some(Path::new("data"))).unwrap();
        let find = |path: &str| files.iter().find(|file| file.path == Path::new("data").join(path));
        for (path, hash) in [
            ("adm_imagenet128/128x128_diffusion.pt", None),
            ("torchvision/alexnet-owt-7be5be79.pth", Some("7be5be79")),
            ("torchvision/vgg16-397923af.pth", Some("397923af")),
            ("torchvision/squeezenet1_1-b8a52dc0.pth", Some("b8a52dc0")),
            ("inception/pt_inception-2015-12-05-6726825d.pth", Some("6726825d")),
        ] {
            let file = find(path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!(file.source.sha256.as_deref(), hash, "{path}");
        }
        assert!(find("lpips/heads_v0.1/alex.pth").is_some_and(|file| file.source.sha256.is_some()));
        let mut paths: Vec<_> = files.iter().map(|file| &file.path).collect();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), files.len());
        let error = public_files(Some("imagenet128"), Some(home), None).unwrap_err().to_string();
        assert!(error.contains("--data"), "{error}");
        assert!(
            public_files(Some("imagenet182"), Some(home), None)
                .unwrap_err()
                .to_string()
                .contains("imagenet128")
        );
    }
}
