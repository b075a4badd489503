//! Downloads from a server on this machine.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::server::{Reply, Server};
use super::*;

const PATIENCE: Patience = Patience { attempts: 3, wait: Duration::ZERO };

fn file(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("models/weights.pt")
    }

    fn get(&self, url: &str, sha256: Option<&str>) -> Result<Fetched, FetchError> {
        Download { url, path: &self.path(), sha256, patience: PATIENCE }.run(&mut |_, _| ())
    }

    /// Names of all files, sorted.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join("models")).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn holds(&self, bytes: &[u8]) {
        assert!(fs::read(self.path()).unwrap() == bytes);
        assert_eq!(self.names(), ["weights.pt", "weights.pt.hash.json"]);
    }
}

fn sha(bytes: &[u8]) -> String {
    Sha256::of(bytes).unwrap()
}

#[test]
fn a_file_comes_whole_and_its_hash_is_recorded() {
    let (place, bytes) = (Place::new(), file(700_000, 1));
    let server = Server::new(vec![Reply::File { bytes: bytes.clone(), etag: "\"a\"" }]);
    let mut seen = Vec::new();
    let (path, patience) = (place.path(), PATIENCE);
    let download = Download { url: &server.url, path: &path, sha256: None, patience };
    let fetched = download.run(&mut |here, total| seen.push((here, total))).unwrap();
    place.holds(&bytes);
    assert_eq!(seen.last(), Some(&(700_000, Some(700_000))));
    assert!(seen.is_sorted());
    assert!(!fetched.verified && fetched.sha256 == sha(&bytes) && fetched.bytes == 700_000);
    assert_eq!(fetched.blake3, blake3::hash(&bytes).to_hex().to_string());
    // It is there: nothing is asked, and a change is noticed by the record.
    assert_eq!(place.get(&server.url, None).unwrap().sha256, fetched.sha256);
    assert_eq!(server.requests(), [None]);
    fs::write(&path, b"else").unwrap();
    let error = place.get(&server.url, None).unwrap_err().to_string();
    assert!(error.contains(&fetched.sha256) && error.contains("remove it"), "{error}");
}

#[test]
fn a_cut_connection_is_continued_where_it_ended() {
    let (place, bytes) = (Place::new(), file(100_000, 2));
    let cut = |after| Reply::Cut { bytes: bytes.clone(), etag: "\"a\"", after };
    let replies = vec![cut(30_000), cut(20_000), cut(0), Reply::File { bytes: bytes.clone(), etag: "\"a\"" }];
    let server = Server::new(replies);
    let fetched = place.get(&server.url, Some(&sha(&bytes)[..8])).unwrap();
    place.holds(&bytes);
    assert!(fetched.verified);
    assert_eq!(server.requests(), [None, Some(30_000), Some(50_000), Some(50_000)]);
}

#[test]
fn a_later_run_continues_what_an_earlier_one_left() {
    let (place, bytes) = (Place::new(), file(50_000, 3));
    let cut = |after| Reply::Cut { bytes: bytes.clone(), etag: "\"a\"", after };
    let first = Server::new(vec![cut(20_000), cut(0)]);
    let error = place.get(&first.url, None).unwrap_err().to_string();
    assert!(error.contains("20000 bytes are kept") && error.contains("weights.pt"), "{error}");
    assert!(!place.path().exists());
    let second = Server::new(vec![Reply::File { bytes: bytes.clone(), etag: "\"a\"" }]);
    place.get(&second.url, None).unwrap();
    place.holds(&bytes);
    assert_eq!(second.requests(), [Some(20_000)]);
}

#[test]
fn a_file_that_changed_in_between_is_begun_anew() {
    let (place, old, new) = (Place::new(), file(50_000, 4), file(40_000, 5));
    let server = Server::new(vec![
        Reply::Cut { bytes: old, etag: "\"old\"", after: 20_000 },
        Reply::File { bytes: new.clone(), etag: "\"new\"" },
    ]);
    place.get(&server.url, Some(&sha(&new))).unwrap();
    place.holds(&new);
    assert_eq!(server.requests(), [None, Some(20_000)]);
}

#[test]
fn a_server_that_knows_no_parts_sends_all_again() {
    let (place, bytes) = (Place::new(), file(50_000, 6));
    let cut = Reply::Cut { bytes: bytes.clone(), etag: "\"a\"", after: 20_000 };
    let server = Server::new(vec![cut, Reply::Whole(bytes.clone())]);
    place.get(&server.url, None).unwrap();
    place.holds(&bytes);
}

#[test]
fn a_part_that_is_whole_already_is_taken() {
    let (place, bytes) = (Place::new(), file(1000, 7));
    fs::create_dir_all(place.path().parent().unwrap()).unwrap();
    fs::write(place.path().with_file_name("weights.pt.part"), &bytes).unwrap();
    fs::write(place.path().with_file_name("weights.pt.part.tag"), "\"a\"").unwrap();
    let server = Server::new(vec![Reply::File { bytes: bytes.clone(), etag: "\"a\"" }]);
    place.get(&server.url, None).unwrap();
    place.holds(&bytes);
}

#[test]
fn a_file_of_another_hash_is_set_aside() {
    let (place, bytes) = (Place::new(), file(1000, 8));
    let server = Server::new(vec![Reply::File { bytes: bytes.clone(), etag: "\"a\"" }]);
    let error = place.get(&server.url, Some("00000000")).unwrap_err();
    assert!(matches!(&error, FetchError::Hash { found, .. } if *found == sha(&bytes)), "{error}");
    assert!(error.to_string().contains("weights.pt.wrong-hash"), "{error}");
    assert_eq!(place.names(), ["weights.pt.wrong-hash"]);
}

#[test]
fn answers_that_will_not_change_are_not_asked_for_again() {
    let place = Place::new();
    let server = Server::new(vec![Reply::Status(404)]);
    let error = place.get(&server.url, None).unwrap_err().to_string();
    assert!(error.contains("404") && error.contains(&place.path().display().to_string()), "{error}");
    assert_eq!(server.requests().len(), 1);
    let busy = Server::new(vec![Reply::Status(503), Reply::Whole(file(10, 9))]);
    place.get(&busy.url, None).unwrap();
    assert_eq!(busy.requests().len(), 2);
}

#[test]
fn nobody_there_is_said_with_the_place_for_the_file() {
    let place = Place::new();
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = place.get(&format!("http://127.0.0.1:{port}/a"), None).unwrap_err().to_string();
    assert!(error.contains("3 attempts") && error.contains(&place.path().display().to_string()), "{error}");
}

#[test]
fn a_full_disk_is_said_and_is_no_reason_to_try_again() {
    let server = Server::new(vec![Reply::Whole(file(1000, 10))]);
    // Linux: every write to this device fails as on a full disk.
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.path().join("w.part")).unwrap();
    let path = folder.path().join("w");
    let part = fs::File::options().append(true).open(folder.path().join("w.part"));
    assert!(part.is_ok(), "the device is there");
    // The part is a link that is removed when a download begins; so a folder takes its place.
    fs::remove_file(folder.path().join("w.part")).unwrap();
    fs::create_dir(folder.path().join("w.part")).unwrap();
    let download = Download { url: &server.url, path: &path, sha256: None, patience: PATIENCE };
    let error = download.run(&mut |_, _| ()).unwrap_err();
    assert!(matches!(error, FetchError::Write { .. }), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn sources_are_checked() {
    let source = |url: &str, file: Option<&str>, sha256: Option<&str>| Source {
        url: url.to_owned(),
        file: file.map(str::to_owned),
        folder: None,
        sha256: sha256.map(str::to_owned),
        note: None,
    };
    let good = source("https://a.b/c/d.pt?raw=1", None, Some("7be5be79"));
    assert_eq!((good.file(), good.problem()), ("d.pt", None));
    for bad in [
        source("ftp://a/b", None, None),
        source("https://a/b", Some("../b"), None),
        source("https://a/b", Some("/b"), None),
        source("https://a/", None, None),
        source("https://a/b", None, Some("7be5")),
        source("https://a/b", None, Some("xyzxyzxyz")),
    ] {
        assert!(bad.problem().is_some(), "{bad:?}");
    }
    assert!(Path::new(good.file()).is_relative());
}

#[test]
fn a_file_put_here_by_hand_is_recorded_and_known_from_then_on() {
    let (place, bytes) = (Place::new(), file(3_000, 9));
    fs::create_dir_all(place.path().parent().unwrap()).unwrap();
    fs::write(place.path(), &bytes).unwrap();
    let nobody = "http://127.0.0.1:9/weights.pt";
    let found = place.get(nobody, None).unwrap();
    assert!(!found.verified && found.sha256 == sha(&bytes), "nobody was asked");
    place.holds(&bytes);
    fs::write(place.path(), &bytes[1..]).unwrap();
    assert!(place.get(nobody, None).unwrap_err().to_string().contains(&found.sha256));
}
