//! Removing checkpoints that nobody needs any more, also under writers that live.
//!
//! Nobody can tell from outside whether a writer lives, and a clock or a heartbeat would only guess. So a log loses its
//! name first, and is then looked at once more. A writer appends, and then looks whether its log has its name still
//! ([`Checkpoints::save`](super::Checkpoints::save)). Whichever comes first: either the second look finds what was
//! appended, and the log gets its name back, or the writer finds that the name has gone, and stores its solves anew.

use std::io::ErrorKind;
use std::path::Path;

use super::EXTENSION;
use super::file::contents;
use crate::store::error::StoreError;
use crate::store::fs::Fs;
use crate::store::gather::{Finished, paths};
use crate::store::layout::Layout;

/// Ending of the name that a log has between the two looks.
const ASIDE: &str = "ckpt-aside";

/// Removes the files whose solves are all durable rows, and those of no use: damaged, or of another version. What
/// another origin left stays, for a worker there.
///
/// # Errors
/// What the file system says.
pub fn remove_finished(fs: &dyn Fs, layout: &Layout, finished: &Finished) -> Result<(), StoreError> {
    let dir = layout.checkpoints();
    // Of a process that died between the two looks.
    for aside in paths(fs, &dir, ASIDE)? {
        look_again(fs, &aside, finished)?;
    }
    for path in paths(fs, &dir, EXTENSION)? {
        let aside = path.with_extension(ASIDE);
        if !is_needed(fs, &path, finished)? && moved(fs, &path, &aside)? {
            look_again(fs, &aside, finished)?;
        }
    }
    Ok(())
}

/// Removes a log that was put aside, or gives it its name back.
fn look_again(fs: &dyn Fs, aside: &Path, finished: &Finished) -> Result<(), StoreError> {
    if is_needed(fs, aside, finished)? {
        return moved(fs, aside, &aside.with_extension(EXTENSION)).map(drop);
    }
    match fs.remove(aside) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io("remove", aside)(error)),
        _ => Ok(()),
    }
}

fn is_needed(fs: &dyn Fs, path: &Path, finished: &Finished) -> Result<bool, StoreError> {
    let trails = contents(fs, path)?.map(|contents| contents.trails).unwrap_or_default();
    Ok(!trails.keys().all(|key| finished.rows.contains_key(key)))
}

/// Gives a file another name; false if it has gone.
fn moved(fs: &dyn Fs, from: &Path, to: &Path) -> Result<bool, StoreError> {
    match fs.rename(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::io("rename", from)(error)),
    }
}
