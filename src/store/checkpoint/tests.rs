//! Tests of checkpoints.

use std::io::ErrorKind;

use super::*;
use crate::plan::identity::NUMERICS;
use crate::store::Finished;
use crate::store::fault::{Fault, FaultFs};
use crate::store::record::Status;

fn key(i: u8) -> Key {
    (format!("hash-{i}"), format!("sample-{i}"))
}

fn open_on(fs: &FaultFs, attempt: &str, origin: Origin) -> Checkpoints {
    let attempt = AttemptId::from_text(attempt);
    Checkpoints::open(Arc::new(fs.clone()), &Layout::new("/run"), &attempt, origin, &[]).unwrap()
}

fn open(fs: &FaultFs, attempt: &str) -> Checkpoints {
    open_on(fs, attempt, Origin::new("avx512", "cpu:0"))
}

fn files() -> FaultFs {
    FaultFs::new(Path::new("/run"))
}

/// The bytes of an item that stands for itself.
fn item(number: u64) -> Vec<u8> {
    vec![number as u8; 3]
}

/// A solve whose items stand for themselves.
struct Sample<'a> {
    key: Key,
    core: Vec<u8>,
    items: Range<u64>,
    asked: &'a dyn Fn(u64),
}

impl Running for Sample<'_> {
    fn key(&self) -> Key {
        self.key.clone()
    }

    fn core(&self) -> Vec<u8> {
        self.core.clone()
    }

    fn items(&self) -> Range<u64> {
        self.items.clone()
    }

    fn item(&self, number: u64) -> Vec<u8> {
        (self.asked)(number);
        item(number)
    }
}

fn running(i: u8, core: u8, items: Range<u64>) -> Sample<'static> {
    Sample { key: key(i), core: vec![core; 5], items, asked: &|_| {} }
}

fn stored(core: u8, pairs: Range<u64>) -> Stored {
    Stored { core: vec![core; 5], items: pairs.map(item).collect() }
}

fn save(checkpoints: &mut Checkpoints, solves: Vec<Sample<'static>>) -> Result<(), StoreError> {
    checkpoints.save(solves.into_iter())
}

#[test]
fn a_solve_goes_on_with_its_newest_core_and_the_items_it_needs() {
    let fs = files();
    let mut a = open(&fs, "a");
    save(&mut a, vec![running(0, 1, 0..3), running(1, 9, 0..0)]).unwrap();
    save(&mut a, vec![running(0, 2, 0..5)]).unwrap();
    save(&mut a, vec![running(0, 3, 2..7)]).unwrap();
    let mut b = open(&fs, "b");
    assert_eq!(b.take(&key(0)), Some(stored(3, 2..7)));
    assert_eq!(b.take(&key(0)), None, "once");
    assert_eq!(b.take(&key(1)), Some(stored(9, 0..0)));
}

#[test]
fn an_item_is_written_once() {
    let fs = files();
    let mut a = open(&fs, "a");
    let asked = std::cell::RefCell::new(Vec::new());
    let note = |number| asked.borrow_mut().push(number);
    for items in [0..3, 0..3, 1..5, 4..8] {
        a.save(std::iter::once(Sample { asked: &note, ..running(0, 0, items) })).unwrap();
    }
    assert_eq!(*asked.borrow(), (0..8).collect::<Vec<_>>());
}

#[test]
fn the_newest_attempt_counts() {
    let fs = files();
    save(&mut open(&fs, "b"), vec![running(1, 2, 0..1)]).unwrap();
    save(&mut open(&fs, "a"), vec![running(1, 1, 0..9), running(0, 1, 0..0)]).unwrap();
    let mut resumed = open(&fs, "c");
    assert_eq!(resumed.take(&key(1)), Some(stored(2, 0..1)));
    assert_eq!(resumed.take(&key(0)), Some(stored(1, 0..0)));
}

#[test]
fn what_another_left_since_is_found_when_looked_for_again() {
    let fs = files();
    let mut b = open(&fs, "b");
    save(&mut open(&fs, "a"), vec![running(0, 1, 0..2)]).unwrap();
    assert_eq!(b.take(&key(0)), None);
    b.look_again().unwrap();
    assert_eq!(b.take(&key(0)), Some(stored(1, 0..2)));
}

#[test]
fn only_files_of_the_own_tag_are_looked_at() {
    let fs = files();
    let (mine, other) = ("20261122T035424.017Z-5f3a9c01-c1", "20261122T035424.018Z-5f3a9c01-c2");
    save(&mut open(&fs, mine), vec![running(0, 1, 0..0)]).unwrap();
    save(&mut open(&fs, other), vec![running(0, 2, 0..0)]).unwrap();
    let mut again = open(&fs, "20261122T035424.019Z-5f3a9c01-c1");
    assert_eq!(again.take(&key(0)), Some(stored(1, 0..0)));
    assert_eq!(
        open(&fs, "20261122T035424.020Z-5f3a9c01").take(&key(0)),
        Some(stored(2, 0..0)),
        "no tag: all"
    );
}

#[test]
fn files_of_other_tags_are_looked_at_when_they_are_named() {
    let fs = files();
    let (plain, other) = ("20261122T035424.016Z-5f3a9c01", "20261122T035424.017Z-5f3a9c01-c2");
    save(&mut open(&fs, plain), vec![running(0, 1, 0..0), running(1, 1, 0..0)]).unwrap();
    save(&mut open(&fs, other), vec![running(1, 2, 0..0), running(2, 2, 0..0)]).unwrap();
    let names = [format!("{plain}-000.ckpt"), format!("{other}-000.ckpt")];
    let holders = holders(&fs, &Layout::new("/run"), |wanted| *wanted != key(2)).unwrap();
    assert_eq!(holders, BTreeMap::from([(key(0), vec![names[0].clone()]), (key(1), names.to_vec())]));
    let attempt = AttemptId::from_text("20261122T035424.019Z-5f3a9c01-c1");
    let origin = Origin::new("avx512", "cpu:0");
    let told = |names: &[String]| {
        Checkpoints::open(Arc::new(fs.clone()), &Layout::new("/run"), &attempt, origin.clone(), names)
            .unwrap()
    };
    assert_eq!(told(&[]).take(&key(0)), None);
    let mut again = told(&names);
    assert_eq!(again.take(&key(0)), Some(stored(1, 0..0)));
    assert_eq!(again.take(&key(1)), Some(stored(2, 0..0)), "the newest");
}

/// A log of three saves, and the state that each of its prefixes gives.
#[test]
fn every_prefix_of_a_log_gives_the_last_whole_state() {
    let fs = files();
    let mut a = open(&fs, "a");
    let path = Path::new("/run/checkpoints/a-000.ckpt");
    let mut ends = Vec::new();
    for (core, pairs) in [(1, 0..2), (2, 0..4), (3, 3..6)] {
        save(&mut a, vec![running(0, core, pairs.clone())]).unwrap();
        ends.push((fs.read(path).unwrap().len(), stored(core, pairs)));
    }
    let bytes = fs.read(path).unwrap();
    for cut in 0..=bytes.len() {
        let fs = FaultFs::new(Path::new("/run/checkpoints"));
        fs.create_new(path).unwrap().append(&bytes[..cut]).unwrap();
        let expected = ends.iter().rfind(|(end, _)| *end <= cut).map(|(_, state)| state.clone());
        assert_eq!(open(&fs, "b").take(&key(0)), expected, "cut at {cut}");
    }
}

#[test]
fn damage_never_gives_a_state_that_was_not_stored() {
    let fs = files();
    let mut a = open(&fs, "a");
    let path = Path::new("/run/checkpoints/a-000.ckpt");
    save(&mut a, vec![running(0, 1, 0..1)]).unwrap();
    save(&mut a, vec![running(0, 2, 0..2)]).unwrap();
    let bytes = fs.read(path).unwrap();
    let states = [None, Some(stored(1, 0..1)), Some(stored(2, 0..2))];
    let mut seen = [0; 3];
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let fs = FaultFs::new(Path::new("/run/checkpoints"));
        fs.create_new(path).unwrap().append(&damaged).unwrap();
        let found = open(&fs, "b").take(&key(0));
        seen[states.iter().position(|state| *state == found).expect("a state that was stored")] += 1;
    }
    assert!(
        seen.iter().all(|times| *times > 0),
        "the header, the second state, or what only the first needs: {seen:?}"
    );
}

#[test]
fn after_a_fault_the_next_save_writes_everything_anew() {
    for fault in [Fault::ShortWrite, Fault::Fail(ErrorKind::StorageFull)] {
        for operation in 0.. {
            let fs = files();
            let mut a = open(&fs, "a");
            save(&mut a, vec![running(0, 1, 0..3), running(1, 1, 0..0)]).unwrap();
            fs.inject(fs.operations() + operation, fault);
            let failed = save(&mut a, vec![running(0, 2, 0..5), running(1, 2, 0..1)]).is_err();
            assert_eq!(a.begins_anew(), failed);
            let found = open(&fs, "b").take(&key(0));
            assert!(found == Some(stored(1, 0..3)) || found == Some(stored(2, 0..5)), "{found:?}");
            save(&mut a, vec![running(0, 3, 1..6), running(1, 3, 0..2)]).unwrap();
            let mut resumed = open(&fs, "b");
            assert_eq!(resumed.take(&key(0)), Some(stored(3, 1..6)));
            assert_eq!(resumed.take(&key(1)), Some(stored(3, 0..2)));
            if !failed {
                break;
            }
        }
    }
}

#[test]
fn a_long_log_is_replaced_by_one_of_what_is_alive() {
    let fs = files();
    let mut a = open(&fs, "a");
    let big = |core: u8| Sample { core: vec![core; 5 << 20], ..running(0, core, 0..2) };
    let mut saves = 0;
    while !a.begins_anew() {
        saves += 1;
        a.save(std::iter::once(big(saves))).unwrap();
    }
    assert!((12..=13).contains(&saves), "{saves} cores of 5 MiB are more than 64 MiB");
    a.save(std::iter::once(big(99))).unwrap();
    assert_eq!(fs.list(Path::new("/run/checkpoints")).unwrap(), ["a-001.ckpt"]);
    let state = open(&fs, "b").take(&key(0)).unwrap();
    assert_eq!((state.core[0], state.items.len()), (99, 2), "its items stand in the new log");
}

#[test]
fn files_are_removed_once_all_their_rows_are_durable() {
    let fs = files();
    let mut a = open(&fs, "a");
    save(&mut a, vec![running(0, 0, 0..0), running(1, 0, 0..0)]).unwrap();
    save(&mut open(&fs, "b"), vec![running(0, 0, 0..0)]).unwrap();
    let mut finished = Finished::default();
    finished.rows.insert(key(0), Status::Ok);
    remove_finished(&fs, &Layout::new("/run"), &finished).unwrap();
    assert_eq!(fs.list(Path::new("/run/checkpoints")).unwrap(), ["a-000.ckpt"]);
    a.clear();
    assert!(fs.list(Path::new("/run/checkpoints")).unwrap().is_empty());
}

/// A merge of the whole run comes before, after, or amid a save of a writer whose other solve is a durable row already.
#[test]
fn a_writer_whose_log_is_removed_under_it_stores_its_solves_anew() {
    let layout = Layout::new("/run");
    let mut finished = Finished::default();
    finished.rows.insert(key(0), Status::Ok);
    let fs = files();
    let mut a = open(&fs, "a");
    save(&mut a, vec![running(0, 1, 0..2)]).unwrap();
    remove_finished(&fs, &layout, &finished).unwrap();
    assert_eq!(fs.list(Path::new("/run/checkpoints")).unwrap(), [""; 0]);
    save(&mut a, vec![running(1, 2, 0..3)]).unwrap();
    assert!(a.is_broken() && a.begins_anew(), "what was stored has no name");
    save(&mut a, vec![running(1, 2, 0..3)]).unwrap();
    assert!(!a.is_broken());
    assert_eq!(open(&fs, "b").take(&key(1)), Some(stored(2, 0..3)));
    remove_finished(&fs, &layout, &finished).unwrap();
    save(&mut a, vec![running(1, 3, 0..4)]).unwrap();
    assert!(!a.is_broken(), "a log with a running solve stays");
    assert_eq!(open(&fs, "b").take(&key(1)), Some(stored(3, 0..4)));
}

/// The two looks of whoever removes a log, and the append and the look of its writer, in every order.
#[test]
fn between_the_two_looks_nothing_is_lost() {
    let layout = Layout::new("/run");
    let (path, aside) = ("/run/checkpoints/a-000.ckpt", "/run/checkpoints/a-000.ckpt-aside");
    let mut finished = Finished::default();
    finished.rows.insert(key(0), Status::Ok);
    for appended_first in [true, false] {
        let fs = files();
        let mut a = open(&fs, "a");
        save(&mut a, vec![running(0, 1, 0..2)]).unwrap();
        if appended_first {
            save(&mut a, vec![running(1, 2, 0..3)]).unwrap();
        }
        // As after the first look, which was before the append.
        fs.rename(Path::new(path), Path::new(aside)).unwrap();
        if !appended_first {
            save(&mut a, vec![running(1, 2, 0..3)]).unwrap();
            assert!(a.is_broken());
        }
        remove_finished(&fs, &layout, &finished).unwrap();
        assert_eq!(fs.list(Path::new("/run/checkpoints")).unwrap(), ["a-000.ckpt"], "it has its name back");
        assert_eq!(open(&fs, "b").take(&key(1)), Some(stored(2, 0..3)));
    }
}

#[test]
fn a_solve_goes_on_only_where_its_bits_are_the_same() {
    let fs = files();
    save(&mut open(&fs, "a"), vec![running(0, 7, 0..0)]).unwrap();
    for (origin, expected) in [
        (Origin::new("avx512", "cpu:3"), true),
        (Origin::new("avx512", "sim:1"), true),
        (Origin::new("avx2", "cpu:0"), false),
        (Origin::new("avx512", "cuda:0"), false),
    ] {
        let found = open_on(&fs, "b", origin.clone()).take(&key(0));
        assert_eq!(found, expected.then(|| stored(7, 0..0)), "{origin:?}");
    }
    remove_finished(&fs, &Layout::new("/run"), &Finished::default()).unwrap();
    assert_eq!(fs.list(Path::new("/run/checkpoints")).unwrap(), ["a-000.ckpt"]);
}

#[test]
fn another_format_or_numerics_starts_anew() {
    for (format, numerics) in
        [(CHECKPOINT_FORMAT, NUMERICS), (CHECKPOINT_FORMAT - 1, NUMERICS), (CHECKPOINT_FORMAT, NUMERICS + 1)]
    {
        let fs = FaultFs::new(Path::new("/run/checkpoints"));
        let header = Header { dflow_checkpoints: format, numerics, origin: Origin::new("avx512", "cpu:0") };
        let core = labelled(&key(0), What::Core(0..0), &[7; 5]).unwrap();
        let bytes = [to_json(&header).unwrap(), core].map(|payload| frame::encode(&payload).unwrap());
        let mut file = fs.create_new(Path::new("/run/checkpoints/a-000.ckpt")).unwrap();
        file.append(&bytes.concat()).unwrap();
        let ours = (format, numerics) == (CHECKPOINT_FORMAT, NUMERICS);
        assert_eq!(open(&fs, "b").take(&key(0)), ours.then(|| stored(7, 0..0)));
    }
}

#[test]
fn a_file_that_has_gone_costs_only_the_checkpoint() {
    let fs = files();
    save(&mut open(&fs, "a"), vec![running(0, 7, 0..0)]).unwrap();
    let mut late = open(&fs, "b");
    fs.remove(Path::new("/run/checkpoints/a-000.ckpt")).unwrap();
    assert_eq!(late.take(&key(0)), None);
}
