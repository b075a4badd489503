//! One writer of a submission's files at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::Duration;

/// Name of the file that is locked. It stays: only the lock on it counts.
const NAME: &str = "submission.lock";
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);
/// Most tries. A writer holds the lock for the time of one small file.
const TRIES: u32 = 200;

/// Held until it is dropped, or its process ends.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl Lock {
    /// The lock on the submission in `dir`; none where the file system has no locks, or a writer hangs: what this protects
    /// from is two processes in the same moment, and being stuck would be worse.
    pub(super) fn of(dir: &Path) -> Option<Self> {
        let file = OpenOptions::new().create(true).append(true).open(dir.join(NAME)).ok()?;
        for _ in 0..TRIES {
            match file.try_lock() {
                Ok(()) => return Some(Self(file)),
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                Err(TryLockError::Error(_)) => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_writer_waits_for_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("count");
        std::fs::write(&path, "0").unwrap();
        // Without the lock some of these would read the same number.
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let _lock = Lock::of(dir.path()).unwrap();
                        let count: u32 = std::fs::read_to_string(&path).unwrap().parse().unwrap();
                        std::thread::yield_now();
                        std::fs::write(&path, (count + 1).to_string()).unwrap();
                    }
                });
            }
        });
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "160");
    }

    #[test]
    fn where_nothing_can_be_written_there_is_no_lock() {
        assert!(Lock::of(Path::new("/proc/nowhere")).is_none());
    }
}
