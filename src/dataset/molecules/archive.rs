//! The public QM9 archive (`dsgdb9nsd.xyz.tar.bz2`): a tar of `.xyz` files, compressed or not, or a folder of them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use bzip2::read::MultiBzDecoder;

use super::split::QM9_MOLECULES;
use super::xyz::{self, AtomReferences};
use super::{Failure, LabelledMolecule, Wrong};

/// A molecule's file has some 2 kB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads the molecules whose index is not in `excluded`, by rising index.
pub(super) fn read(
    path: &Path,
    excluded: &BTreeSet<u32>,
    references: &AtomReferences,
    max_atoms: usize,
) -> Result<Vec<LabelledMolecule>, Failure> {
    let mut molecules = Vec::new();
    let mut add = |member: &str, file: &mut dyn Read| -> Result<(), Wrong> {
        let mut bytes = Vec::new();
        let whole = file.take(MAX_FILE_BYTES).read_to_end(&mut bytes);
        whole.map_err(|error| Wrong::new(member, format!("it cannot be read to its end ({error})")))?;
        let text = String::from_utf8_lossy(&bytes);
        let (index, molecule) = xyz::parse(&text, references, max_atoms)
            .map_err(|(line, reason)| Wrong::new(format!("{member}, line {line}"), reason))?;
        if !excluded.contains(&index) {
            molecules.push((index, molecule));
        }
        Ok(())
    };
    if path.is_dir() {
        each_in_folder(path, &mut add)?;
    } else {
        each_in_archive(path, &mut add)?;
    }
    molecules.sort_by_key(|(index, _)| *index);
    if let Some([(index, _), ..]) = molecules.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Wrong::new(format!("molecule {index}"), "two files have this index").into());
    }
    Ok(molecules.into_iter().map(|(_, molecule)| molecule).collect())
}

type Add<'a> = &'a mut dyn FnMut(&str, &mut dyn Read) -> Result<(), Wrong>;

fn is_molecule(path: &Path) -> bool {
    // Names such as `._dsgdb9nsd_000001.xyz` are what a Mac adds to an archive.
    path.extension() == Some(OsStr::new("xyz"))
        && path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
}

fn each_in_folder(folder: &Path, add: Add<'_>) -> Result<(), Failure> {
    let paths: Result<Vec<_>, io::Error> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths?;
    paths.sort();
    for path in paths.iter().filter(|path| is_molecule(path)) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut file = File::open(path).map_err(|error| Wrong::new(&*name, error.to_string()))?;
        add(&name, &mut file)?;
    }
    Ok(())
}

fn each_in_archive(path: &Path, add: Add<'_>) -> Result<(), Failure> {
    let mut file = File::open(path)?;
    let mut magic = [0; 3];
    let is_bzip2 = file.read_exact(&mut magic).is_ok() && magic == *b"BZh";
    file.rewind()?;
    let file = BufReader::new(file);
    let file: Box<dyn Read> = if is_bzip2 { Box::new(MultiBzDecoder::new(file)) } else { Box::new(file) };
    let mut archive = tar::Archive::new(file);
    let mut last = "the archive's beginning".to_owned();
    let cut = |last: &str, error: io::Error| {
        Wrong::new(format!("after {last}"), format!("this is no tar archive, or it is damaged ({error})"))
    };
    for entry in archive.entries()? {
        let mut entry = entry.map_err(|error| cut(&last, error))?;
        let member = entry.path().map_err(|error| cut(&last, error))?.into_owned();
        let name = member.display().to_string();
        if is_molecule(&member) {
            add(&name, &mut entry)?;
        }
        last = name;
    }
    // To the end of the file, where bzip2 has its checksum.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|error| cut(&last, error))?;
    Ok(())
}

/// Indices of `uncharacterized.txt`: the first word of every line that begins with a number.
///
/// # Errors
/// If a number is no index of QM9.
pub(super) fn parse_excluded(text: &str) -> Result<BTreeSet<u32>, Wrong> {
    let mut excluded = BTreeSet::new();
    for (number, line) in text.lines().enumerate() {
        let Some(index) = line.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()) else {
            continue;
        };
        match u32::try_from(index) {
            Ok(index) if (1..=QM9_MOLECULES).contains(&index) => excluded.insert(index),
            _ => {
                let reason = format!("{index} is no index of QM9 (1 to {QM9_MOLECULES})");
                return Err(Wrong::new(format!("line {}", number + 1), reason));
            }
        };
    }
    Ok(excluded)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use bzip2::Compression;
    use bzip2::write::BzEncoder;

    use super::super::xyz::tests::water;
    use super::*;

    fn tar() -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, text) in [
            ("dsgdb9nsd_000012.xyz", water(12)),
            ("._dsgdb9nsd_000012.xyz", "rubbish".to_owned()),
            ("dsgdb9nsd_000004.xyz", water(4)),
            ("README", "rubbish".to_owned()),
            ("dsgdb9nsd_000007.xyz", water(7)),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap()
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut out = BzEncoder::new(Vec::new(), Compression::best());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn read_bytes(bytes: &[u8]) -> Result<Vec<LabelledMolecule>, Failure> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        read(file.path(), &BTreeSet::from([7]), &AtomReferences::default(), 29)
    }

    fn ids(molecules: &[LabelledMolecule]) -> Vec<&str> {
        molecules.iter().map(|molecule| &*molecule.id).collect()
    }

    #[test]
    fn archives_and_folders_give_the_same_molecules() {
        let plain = read_bytes(&tar()).unwrap();
        assert_eq!(ids(&plain), ["gdb9/4", "gdb9/12"]);
        assert_eq!(read_bytes(&bzip2(&tar())).unwrap(), plain);
        let folder = tempfile::tempdir().unwrap();
        for index in [4, 7, 12] {
            fs::write(folder.path().join(format!("{index}.xyz")), water(index)).unwrap();
        }
        let from_folder = read(folder.path(), &BTreeSet::from([7]), &AtomReferences::default(), 29).unwrap();
        assert_eq!(from_folder, plain);
        fs::write(folder.path().join("13.xyz"), water(12)).unwrap();
        let twice = read(folder.path(), &BTreeSet::new(), &AtomReferences::default(), 29).unwrap_err();
        assert!(
            matches!(twice, Failure::Wrong(wrong) if wrong.to_string().contains("molecule 12: two files"))
        );
    }

    #[test]
    fn errors_name_the_member_and_its_line() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.xyz"), water(1).replace("\nO\t", "\nXe\t")).unwrap();
        let error = read(folder.path(), &BTreeSet::new(), &AtomReferences::default(), 29).unwrap_err();
        let Failure::Wrong(wrong) = error else { panic!("no system's error") };
        assert_eq!(wrong.to_string(), "a.xyz, line 3: `Xe` is none of the elements H, C, N, O, F");
    }

    #[test]
    fn damaged_archives_are_errors_and_never_a_panic() {
        let tar = tar();
        let packed = bzip2(&tar);
        for end in (3..packed.len()).step_by(5) {
            assert!(read_bytes(&packed[..end]).is_err(), "cut at {end}");
        }
        let whole = read_bytes(&packed).unwrap();
        for at in (0..packed.len()).step_by(3) {
            let mut flipped = packed.clone();
            flipped[at] ^= 4;
            // bzip2's checksums find what changes a molecule.
            assert!(read_bytes(&flipped).map_or(true, |molecules| molecules == whole), "flip at {at}");
        }
        for at in (0..tar.len()).step_by(11) {
            let mut flipped = tar.clone();
            flipped[at] ^= 0x41;
            let _ = read_bytes(&flipped);
            let _ = read_bytes(&tar[..at]);
        }
    }

    #[test]
    fn excluded_indices_are_numbers_at_the_beginning_of_a_line() {
        let text =
            "Molecules that failed\n======\n   Index  SMILES\n   21  C#C  CC\n 133885\tCC\n\nend of 3\n";
        assert_eq!(parse_excluded(text).unwrap(), BTreeSet::from([21, 133_885]));
        assert_eq!(
            parse_excluded("1 a\n133886 b\n").unwrap_err().to_string(),
            "line 2: 133886 is no index of QM9 (1 to 133885)"
        );
    }
}
