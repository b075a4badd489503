//! How long it takes to store all running solves of a worker, and to find one again: `cargo bench --bench checkpoints`.
//!
//! One worker with 16 slots, L-BFGS with 100 pairs, states of 32×32 and 128×128 images and of an audio latent. The first
//! save writes every pair, a later one those since the last (here one per solve). Times depend on the disk under
//! `target/`; each is shown beside a plain write and fsync of as many bytes.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use dflow::store::attempt::AttemptId;
use dflow::store::checkpoint::{Checkpoints, Origin, Running};
use dflow::store::fs::OsFs;
use dflow::store::{Key, Layout};

const SLOTS: usize = 16;
const PAIRS: u64 = 100;
/// Vectors of a core: x, direction, gradients at the accepted point, before it and at the trial, x(1) of the accepted
/// point, of the trial and of the best.
const CORE_VECTORS: usize = 8;

/// A solve of a state of `dim` numbers that has made so many steps.
struct Solve {
    slot: usize,
    dim: usize,
    steps: u64,
}

impl Running for Solve {
    fn key(&self) -> Key {
        ("5f3a".repeat(16), format!("sample-{:06}", self.slot))
    }

    fn core(&self) -> Vec<u8> {
        vec![self.steps as u8; CORE_VECTORS * self.dim * 4]
    }

    fn items(&self) -> Range<u64> {
        self.steps.saturating_sub(PAIRS)..self.steps
    }

    fn item(&self, number: u64) -> Vec<u8> {
        vec![number as u8; 2 * self.dim * 4]
    }
}

fn solves(dim: usize, steps: u64) -> impl Iterator<Item = Solve> {
    (0..SLOTS).map(move |slot| Solve { slot, dim, steps })
}

fn bytes_under(folder: &Path) -> u64 {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// Seconds to write so many bytes into one file and make them durable.
fn plain_write(folder: &Path, bytes: u64) -> f64 {
    let content = vec![7; bytes as usize];
    let begin = Instant::now();
    let mut file = File::create(folder.join("plain")).unwrap();
    file.write_all(&content).unwrap();
    file.sync_all().unwrap();
    begin.elapsed().as_secs_f64()
}

fn main() {
    println!(
        "{SLOTS} slots, {PAIRS} pairs each (seconds; in brackets a plain write and fsync of as many bytes)"
    );
    println!("{:<22} {:>9} {:>18} {:>18} {:>14}", "state", "MB", "first save", "next save", "find and take");
    for (name, dim) in [("32x32x3", 3_072), ("128x128x3", 49_152), ("audio latent", 64_000)] {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let layout = Layout::new(folder.path());
        let open = || {
            let origin = Origin::new("portable", "cpu:0");
            Checkpoints::open(Arc::new(OsFs), &layout, &AttemptId::new(), origin, &[]).unwrap()
        };
        let mut checkpoints = open();
        let begin = Instant::now();
        checkpoints.save(solves(dim, PAIRS)).unwrap();
        let first = begin.elapsed().as_secs_f64();
        let bytes = bytes_under(&layout.checkpoints());
        let begin = Instant::now();
        checkpoints.save(solves(dim, PAIRS + 1)).unwrap();
        let next = begin.elapsed().as_secs_f64();
        let more = bytes_under(&layout.checkpoints()) - bytes;
        let begin = Instant::now();
        let mut resumed = open();
        for solve in solves(dim, PAIRS + 1) {
            let stored = resumed.take(&solve.key()).unwrap();
            assert_eq!(stored.items.len() as u64, PAIRS);
        }
        let find = begin.elapsed().as_secs_f64();
        let plain = [bytes, more].map(|bytes| plain_write(folder.path(), bytes));
        println!(
            "{name:<22} {:>9.1} {:>8.2} [{:>6.2}]  {:>8.2} [{:>6.2}]  {find:>13.2}",
            bytes as f64 / 1e6,
            first,
            plain[0],
            next,
            plain[1]
        );
    }
}
