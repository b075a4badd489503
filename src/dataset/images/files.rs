//! Names of files with `*` and `?`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The files that `patterns` name below `folder`: patterns in their order, what one stands for sorted by name.
///
/// A name without `*` and `?` stands for itself, whether it is there or not.
///
/// # Errors
/// A pattern without any file; files numbered `-00003-of-00014` that are not all there.
pub(super) fn expand(folder: &Path, patterns: &[String]) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for pattern in patterns {
        let path = folder.join(pattern);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.contains(['*', '?']) {
            files.push(path);
            continue;
        }
        let found = matching(path.parent().unwrap_or(folder), name);
        if found.is_empty() {
            return Err(format!("no file {}", path.display()));
        }
        check_complete(&found)?;
        files.extend(found);
    }
    Ok(files)
}

/// The files of a folder whose names a pattern fits, sorted.
fn matching(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let fits = |path: &PathBuf| {
        path.is_file()
            && path
                .file_name()
                .and_then(|n| n.to_str())
                .is_some_and(|n| fits(pattern.as_bytes(), n.as_bytes()))
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(fits).collect();
    files.sort();
    files
}

/// Whether `*` (any letters) and `?` (one) of a pattern can be filled so that it is `name`.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|passed| fits(rest, &name[passed..])),
        Some((letter, rest)) => name
            .split_first()
            .is_some_and(|(first, name)| (*letter == b'?' || letter == first) && fits(rest, name)),
    }
}

/// Of files that say how many they are, all must be there: a missing one would only make the dataset smaller.
fn check_complete(files: &[PathBuf]) -> Result<(), String> {
    let mut counts: BTreeMap<(String, usize), usize> = BTreeMap::new();
    let numbered = files.iter().filter_map(|file| numbering(file.file_stem()?.to_str()?));
    numbered.for_each(|key| *counts.entry(key).or_default() += 1);
    match counts.into_iter().find(|((_, all), found)| all != found) {
        Some(((stem, all), found)) => {
            let folder = files[0].parent().unwrap_or(Path::new(".")).display();
            Err(format!("{folder}: {found} of the {all} files {stem}-…-of-{all:05} are there"))
        }
        None => Ok(()),
    }
}

/// `train` and 14 of `train-00003-of-00014` (and of `train-00003-of-00014-0123abcd`, as older copies are named).
fn numbering(stem: &str) -> Option<(String, usize)> {
    let (before, after) = stem.split_once("-of-")?;
    let (name, number) = before.rsplit_once('-')?;
    let all = after.split('-').next()?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(number) && is_number(all)).then(|| Some((name.to_owned(), all.parse().ok()?)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        names.iter().for_each(|name| fs::write(folder.path().join(name), b"").unwrap());
        folder
    }

    fn expanded(folder: &Path, pattern: &str) -> Result<Vec<String>, String> {
        let files = expand(folder, &[pattern.to_owned()])?;
        Ok(files.iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }

    #[test]
    fn patterns_stand_for_sorted_files() {
        let folder = folder(&["b-2.tar", "b-10.tar", "b-1.tar", "c.txt"]);
        assert_eq!(expanded(folder.path(), "b-*.tar").unwrap(), ["b-1.tar", "b-10.tar", "b-2.tar"]);
        assert_eq!(expanded(folder.path(), "b-?.tar").unwrap(), ["b-1.tar", "b-2.tar"]);
        assert_eq!(expanded(folder.path(), "absent.tar").unwrap(), ["absent.tar"]);
        assert!(expanded(folder.path(), "x*.tar").unwrap_err().contains("x*.tar"));
    }

    #[test]
    fn a_missing_part_is_noticed() {
        let names =
            ["test-00000-of-00003.parquet", "test-00002-of-00003.parquet", "test-00000-of-00001-ab.parquet"];
        let folder = folder(&names);
        let error = expanded(folder.path(), "test-*.parquet").unwrap_err();
        assert!(error.contains("2 of the 3 files test-…-of-00003"), "{error}");
        fs::write(folder.path().join("test-00001-of-00003.parquet"), b"").unwrap();
        assert_eq!(expanded(folder.path(), "test-*.parquet").unwrap().len(), 4);
    }
}
