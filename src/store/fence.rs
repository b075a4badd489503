//! One submission of a run at a time: whoever looks what is left to submit records what it submitted before the next looks.

use std::path::Path;
use std::time::Duration;

use super::error::StoreError;
use super::fs::{Asked, LOCK_PAUSE, LockGuard, OsFs, ask_lock};
use super::layout::Layout;
use super::log::create_dirs;

/// Keeps others out until it is dropped or the process ends; where there are no locks it keeps nobody out.
pub struct Fence {
    _guard: Option<LockGuard>,
}

impl Fence {
    /// For the run in `root`, which is created if need be; none if another process holds it for so long.
    ///
    /// # Errors
    /// The directory or the file of the lock cannot be made.
    pub fn of(root: &Path, patience: Duration) -> Result<Option<Self>, StoreError> {
        create_dirs(&OsFs, root)?;
        let path = Layout::new(root).submit_lock();
        let attempts = 1 + patience.as_millis() / LOCK_PAUSE.as_millis();
        let asked = ask_lock(&path, attempts as u32, LOCK_PAUSE).map_err(StoreError::io("lock", &path))?;
        Ok(match asked {
            Asked::Held(guard) => Some(Self { _guard: Some(guard) }),
            Asked::NoLocks => Some(Self { _guard: None }),
            Asked::Busy => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("reports/new");
        let ask = || Fence::of(&root, Duration::ZERO).unwrap();
        let first = ask().expect("nobody is there");
        assert!(ask().is_none());
        drop(first);
        assert!(ask().is_some());
    }

    #[test]
    fn a_directory_that_cannot_be_made_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let Err(error) = Fence::of(&dir.path().join("file/run"), Duration::ZERO) else {
            panic!("a file is in the way")
        };
        assert!(error.to_string().contains("a file is in the way"), "{error}");
        // Nobody can make a directory there.
        let Err(error) = Fence::of(Path::new("/proc/dflow-run"), Duration::ZERO) else {
            panic!("/proc takes no directory")
        };
        let said = error.to_string();
        assert!(said.contains("/proc/dflow-run") && said.contains("choose an `output`"), "{said}");
    }
}
