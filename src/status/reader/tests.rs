//! What a look costs the file system, and what it survives.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::*;
use crate::plan::Unit;
use crate::store::attempt::AttemptId;
use crate::store::counted::Counted;
use crate::store::nodes::{self, FORMAT, Node, now_ms};
use crate::store::samples::{document, plan, row};
use crate::store::{Layout, Start, Store};

const ROOT: &str = "/run";

/// A run of ten samples, and its reader; nobody is asked for a queue.
fn run() -> (Counted, Plan, Reader) {
    let fs = Counted::new(Path::new(ROOT));
    let document = document("");
    let plan = plan(&document);
    let start = Start { plan: &plan, document: &document };
    RunDir::open_on(Arc::new(fs.clone()), Path::new(ROOT), &start).unwrap();
    let queue = QueueWatch::new(|_| Ok(Vec::new()), Duration::ZERO);
    let reader = Reader::open(Arc::new(fs.clone()), Path::new(ROOT), queue).unwrap();
    (fs, plan, reader)
}

fn store(fs: &Counted) -> Store {
    Store::with_fs(Arc::new(fs.clone()), Layout::new(ROOT), AttemptId::from_text("a")).unwrap()
}

fn now(seconds: u64) -> Now {
    Now { ms: now_ms() + 1000 * seconds, instant: Instant::now() + Duration::from_secs(seconds) }
}

#[test]
fn a_watch_asks_for_one_listing_a_second_at_the_most_however_often_it_looks() {
    for asked in [1, 2, 3, 5, 60] {
        let (fs, plan, mut reader) = run();
        let mut store = store(&fs);
        let every = Reader::interval(asked).as_secs();
        assert!(every >= asked);
        for look in 0..8 {
            store.append(&row(&plan, Unit { cell: 0, sample: look })).unwrap();
            if look % 3 == 2 {
                store.flush_part().unwrap();
            }
            let attempt = format!("n{look}");
            let node = Node { dflow_node: FORMAT, attempt, written_ms: now_ms(), ..Node::default() };
            nodes::write(&fs, &Layout::new(ROOT), &node).unwrap();
            fs.listings.store(0, Ordering::Relaxed);
            let snapshot = reader.look(now(look as u64 * every)).unwrap();
            assert_eq!((snapshot.done, snapshot.nodes.len()), (look + 1, look + 1));
            let listings = fs.listings.load(Ordering::Relaxed) as u64;
            assert!(
                0 < listings && listings <= every,
                "look {look}: {listings} listings, {every} s till the next"
            );
        }
    }
}

#[test]
fn a_passing_error_is_shown_beside_what_was_seen_last() {
    let (fs, plan, mut reader) = run();
    let mut store = store(&fs);
    store.append(&row(&plan, Unit { cell: 0, sample: 0 })).unwrap();
    assert_eq!(reader.look(now(0)).unwrap().trouble, None);
    store.append(&row(&plan, Unit { cell: 0, sample: 1 })).unwrap();
    fs.is_away.store(true, Ordering::Relaxed);
    let away = reader.look(now(5)).unwrap();
    assert_eq!(away.done, 1);
    assert!(away.trouble.is_some_and(|text| text.contains(ROOT)));
    fs.is_away.store(false, Ordering::Relaxed);
    let back = reader.look(now(10)).unwrap();
    assert_eq!((back.done, back.trouble), (2, None));
}

#[test]
fn the_first_look_tells_its_error() {
    let (fs, _, mut reader) = run();
    fs.is_away.store(true, Ordering::Relaxed);
    assert!(reader.look(now(0)).is_err());
    let queue = QueueWatch::new(|_| Ok(Vec::new()), Duration::ZERO);
    assert!(Reader::open(Arc::new(Counted::new(Path::new(ROOT))), Path::new(ROOT), queue).is_err());
}
