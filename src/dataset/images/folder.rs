//! Folders of image files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::class::{Class, ClassSource};
use crate::dataset::Split;

/// Image files below a folder, and what their names say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FolderLayout {
    /// The folder of each split. All files ending in .jpg, .jpeg or .png (in any case) are samples, also in folders
    /// below; a sample's id is its path below this folder, and samples are sorted by it.
    pub splits: BTreeMap<Split, String>,
    /// How a file's name says its class.
    #[serde(default)]
    pub class: ClassSource,
}

/// Folders in one another.
const MAX_DEPTH: usize = 16;

/// An image file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ImageFile {
    /// Path below the split's folder, with `/`.
    pub(super) id: String,
    /// Where it is.
    pub(super) path: PathBuf,
}

impl ImageFile {
    /// All below a folder, sorted by id, whatever the file system's order.
    ///
    /// # Errors
    /// What the system says; a name that is no UTF-8.
    pub(super) fn all_below(root: &Path) -> io::Result<Vec<Self>> {
        let mut files = Vec::new();
        collect(root, "", 0, &mut files)?;
        files.sort();
        Ok(files)
    }

    /// Its class.
    pub(super) fn class(&self, source: ClassSource) -> Class {
        let name = match source {
            ClassSource::None => None,
            ClassSource::Folder => self.id.split_once('/').map(|(folder, _)| folder),
            ClassSource::FilePrefix => {
                let name = self.id.rsplit('/').next().unwrap_or(&self.id);
                name.split_once('_').map(|(prefix, _)| prefix)
            }
        };
        name.map_or(Class::None, |name| Class::Name(name.to_owned()))
    }
}

fn collect(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<ImageFile>) -> io::Result<()> {
    if depth == MAX_DEPTH {
        return Err(io::Error::other(format!(
            "more than {MAX_DEPTH} folders in one another (a link to itself?)"
        )));
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| {
            io::Error::other(format!("the name {} is not UTF-8: rename the file", name.display()))
        })?;
        let id = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        let (path, kind) = (entry.path(), entry.file_type()?);
        // Links are followed: folders of links into an archive are usual.
        if kind.is_dir() || kind.is_symlink() && path.is_dir() {
            collect(&path, &id, depth + 1, files)?;
        } else if is_image(name) {
            files.push(ImageFile { id, path });
        }
    }
    Ok(())
}

/// Whether a name ends as those of JPEG and PNG files do; names beginning with a dot are of the file system's tools.
pub(super) fn is_image(name: &str) -> bool {
    let suffix = name.rsplit_once('.').map(|(_, suffix)| suffix.to_ascii_lowercase());
    !name.starts_with('.') && suffix.is_some_and(|suffix| ["jpg", "jpeg", "png"].contains(&&*suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_sorted_by_their_path_and_others_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b/2.JPEG", "b/1.png", "a/x/9.jpg", "c.png", "a.txt", "a/.hidden.png"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        let files = ImageFile::all_below(folder.path()).unwrap();
        let ids: Vec<&str> = files.iter().map(|file| file.id.as_str()).collect();
        assert_eq!(ids, ["a/x/9.jpg", "b/1.png", "b/2.JPEG", "c.png"]);
        let classes: Vec<Class> = files.iter().map(|file| file.class(ClassSource::Folder)).collect();
        let name = |name: &str| Class::Name(name.to_owned());
        assert_eq!(classes, [name("a"), name("b"), name("b"), Class::None]);
    }

    #[test]
    fn a_prefix_is_what_stands_before_the_first_underline_of_the_name() {
        let file = |id: &str| ImageFile { id: id.to_owned(), path: PathBuf::new() };
        let class = |id| file(id).class(ClassSource::FilePrefix);
        assert_eq!(class("a_b/n01440764_tench.png"), Class::Name("n01440764".to_owned()));
        assert_eq!(class("a_b/plain.png"), Class::None);
        assert_eq!(file("a/n1_b.png").class(ClassSource::None), Class::None);
    }

    #[test]
    fn a_folder_that_holds_itself_ends() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
        let error = ImageFile::all_below(folder.path()).unwrap_err().to_string();
        assert!(error.contains("in one another"), "{error}");
    }
}
