//! Tar files as WebDataset writes them: members of one sample share a key and differ in their suffix.
//!
//! `a/b.jpg` (or `.jpeg`, `.png`) is an image, `a/b.cls` the digits of its label, `a/b.json` an object with the label;
//! other members are passed over. The key is the name without its last suffix, so that a key may hold dots.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Component, Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::class::Class;
use super::folder::is_image;
use super::listing::{Listed, Place};
use crate::dataset::Split;

/// Names of tar files, and of the label in `.json` members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebDatasetLayout {
    /// Files of each split, in order, relative to the dataset's folder; `*` and `?` in a file name stand for any
    /// letters, and such files follow sorted by name. Not compressed: images are read from their place.
    pub files: BTreeMap<Split, Vec<String>>,
    /// Key of the label in `.json` members: an integer, or the name of a class.
    #[serde(default = "default_label")]
    pub label: String,
}

fn default_label() -> String {
    "label".to_owned()
}

/// Most bytes of a `.cls` or `.json` member.
const MAX_LABEL_BYTES: u64 = 1 << 20;

/// What is known of a key.
#[derive(Default)]
struct Parts {
    /// The image's name, place and hash.
    image: Option<(String, Place, [u8; 32])>,
    class: Option<Class>,
}

/// Lists the samples of a tar file in the order of their first members.
///
/// # Errors
/// What the system says; a member that is refused, by its name.
pub(super) fn list(path: &Path, layout: &WebDatasetLayout) -> io::Result<Vec<Listed>> {
    let mut archive = tar::Archive::new(BufReader::new(File::open(path)?));
    let mut keys = Keys::default();
    for member in archive.entries()? {
        let mut member = member?;
        let name = checked_name(&member)?;
        let kind = member.header().entry_type();
        if kind.is_dir() {
            continue;
        }
        let Some((key, suffix)) = name.rsplit_once('.') else { continue };
        let is_label = suffix == "cls" || suffix == "json";
        if !is_label && !is_image(name.rsplit('/').next().unwrap_or(&name)) {
            continue;
        }
        if !kind.is_file() && !kind.is_contiguous() {
            return Err(refused(&name, "it is a link or another thing than a file"));
        }
        if is_label {
            let class = read_class(&mut member, &name, suffix, &layout.label)?;
            keys.of(key).class = class.or(keys.of(key).class.take());
        } else {
            let place = Place::Slice { offset: member.raw_file_position(), length: member.size() };
            let mut hasher = blake3::Hasher::new();
            if io::copy(&mut member, &mut hasher)? != place.length().unwrap_or_default() {
                return Err(io::Error::other(format!("the file ends inside of `{name}`")));
            }
            if let Some((other, ..)) =
                keys.of(key).image.replace((name.clone(), place, hasher.finalize().into()))
            {
                return Err(refused(&name, &format!("`{other}` has the same key")));
            }
        }
    }
    keys.samples()
}

/// Parts by key, in the order of their first members.
#[derive(Default)]
struct Keys {
    order: Vec<String>,
    parts: BTreeMap<String, Parts>,
}

impl Keys {
    fn of(&mut self, key: &str) -> &mut Parts {
        if !self.parts.contains_key(key) {
            self.order.push(key.to_owned());
        }
        self.parts.entry(key.to_owned()).or_default()
    }

    fn samples(mut self) -> io::Result<Vec<Listed>> {
        let sample = |key: String| {
            let Parts { image, class } = self.parts.remove(&key).unwrap_or_default();
            let Some((_, place, content)) = image else {
                return Err(refused(&key, "a label without an image (.jpg, .jpeg or .png)"));
            };
            Ok(Listed { id: key, class: class.unwrap_or(Class::None), content, place })
        };
        self.order.into_iter().map(sample).collect()
    }
}

/// A member's name without `./`; one that leads out of the folder it would be unpacked to is refused.
fn checked_name<R: Read>(member: &tar::Entry<'_, R>) -> io::Result<String> {
    let bytes = member.path_bytes();
    let name = std::str::from_utf8(&bytes)
        .map_err(|_| refused(&String::from_utf8_lossy(&bytes), "its name is not UTF-8"))?;
    let mut parts = Vec::new();
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str().unwrap_or_default()),
            Component::CurDir => {}
            Component::ParentDir => return Err(refused(name, "its name leads upwards by `..`")),
            Component::RootDir | Component::Prefix(_) => return Err(refused(name, "its name is absolute")),
        }
    }
    Ok(parts.join("/"))
}

fn refused(name: &str, why: &str) -> io::Error {
    io::Error::other(format!("the member `{name}` is refused: {why}"))
}

/// The class that a `.cls` or `.json` member states; none if a `.json` has no label.
fn read_class(member: &mut impl Read, name: &str, suffix: &str, label: &str) -> io::Result<Option<Class>> {
    let mut text = String::new();
    member.take(MAX_LABEL_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_LABEL_BYTES {
        return Err(refused(name, "a label of more than a megabyte"));
    }
    if suffix == "cls" {
        let number = text.trim().parse().map_err(|_| refused(name, "it does not hold a label in digits"))?;
        return Ok(Some(Class::Label(number)));
    }
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| refused(name, &format!("it is no JSON: {error}")))?;
    match value.get(label) {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(class)) => Ok(Some(Class::Name(class.clone()))),
        Some(number) => match number.as_i64() {
            Some(label) => Ok(Some(Class::Label(label))),
            None => Err(refused(name, &format!("its `{label}` is neither an integer nor a name"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> WebDatasetLayout {
        WebDatasetLayout { files: BTreeMap::new(), label: "label".to_owned() }
    }

    /// A member whose name is taken as it is.
    fn header(name: &str, size: u64) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(size);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        header
    }

    fn listed(members: &[(&str, &[u8])]) -> Result<Vec<Listed>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut tar = tar::Builder::new(file.as_file());
        for (name, bytes) in members {
            tar.append(&header(name, bytes.len() as u64), *bytes).unwrap();
        }
        tar.finish().unwrap();
        let samples = list(file.path(), &layout()).map_err(|error| error.to_string())?;
        for sample in &samples {
            let Place::Slice { offset, length } = sample.place else { panic!("a slice") };
            let bytes = super::super::slice(file.path(), offset, Some(length)).unwrap();
            assert_eq!(*blake3::hash(&bytes).as_bytes(), sample.content, "{}", sample.id);
        }
        Ok(samples)
    }

    #[test]
    fn members_of_one_key_are_a_sample() {
        let samples = listed(&[
            ("./v1.0/b.2.jpg", b"second"),
            ("v1.0/b.2.cls", b"7\n"),
            ("a.json", br#"{"label": "tench", "caption": "a"}"#),
            ("a.PNG", b"first"),
            ("a.txt", b"passed over"),
            ("c.jpeg", b"no label"),
            ("c.json", b"{}"),
        ])
        .unwrap();
        let found: Vec<_> = samples.iter().map(|s| (s.id.as_str(), s.class.clone())).collect();
        let expected =
            [("v1.0/b.2", Class::Label(7)), ("a", Class::Name("tench".to_owned())), ("c", Class::None)];
        assert_eq!(found, expected);
    }

    #[test]
    fn members_that_lead_elsewhere_are_refused_by_name() {
        for (name, why) in [("../a.jpg", "`..`"), ("a/../../b.jpg", "`..`"), ("/etc/a.jpg", "absolute")] {
            let error = listed(&[("fine.jpg", b"1"), (name, b"2")]).unwrap_err();
            assert!(error.contains(&format!("`{name}`")) && error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_the_member() {
        for (members, word) in [
            (&[("a.jpg", &b"1"[..]), ("a.png", b"2")][..], "`a.jpg` has the same key"),
            (&[("a.cls", b"1")], "without an image"),
            (&[("a.jpg", b"1"), ("a.cls", b"one")], "label in digits"),
            (&[("a.jpg", b"1"), ("a.json", b"{")], "no JSON"),
            (&[("a.jpg", b"1"), ("a.json", br#"{"label": 1.5}"#)], "neither an integer nor a name"),
        ] {
            let error = listed(members).unwrap_err();
            assert!(error.contains(word) && error.contains("`a"), "{error}");
        }
    }

    #[test]
    fn a_file_that_ends_early_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = header("a.jpg", 4000).as_bytes().to_vec();
        bytes.extend([1; 1000]);
        std::fs::write(file.path(), bytes).unwrap();
        assert!(list(file.path(), &layout()).is_err());
        let link = {
            let mut header = header("a.jpg", 0);
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_cksum();
            header
        };
        std::fs::write(file.path(), link.as_bytes()).unwrap();
        let error = list(file.path(), &layout()).unwrap_err().to_string();
        assert!(error.contains("`a.jpg`") && error.contains("link"), "{error}");
    }
}
