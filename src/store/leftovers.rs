//! Files that writers leave when they are killed: named by checks, and removed by merges where they are large.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::attempt::AttemptId;
use super::error::StoreError;
use super::fs::{Fs, list_if_exists};
use super::layout::Layout;

/// How old a merge's temporary file must be to be nobody's: a merge of a million rows takes half a minute.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Temporary files of writers: of some that work now, or of some that died.
pub(super) fn leftovers(fs: &dyn Fs, layout: &Layout) -> Result<Vec<PathBuf>, StoreError> {
    let folders = [
        layout.root().to_owned(),
        layout.journals(),
        layout.parts(),
        layout.checkpoints(),
        layout.nodes(),
        layout.telemetry_parts(),
    ];
    let mut found = Vec::new();
    for folder in folders {
        let names = list_if_exists(fs, &folder)?.into_iter();
        let is_ours = |name: &String| name.starts_with(".probe-") || name.ends_with(".tmp");
        found.extend(names.filter(is_ours).map(|name| folder.join(name)));
    }
    Ok(found)
}

/// Removes what merges left that were killed more than an hour ago: rows that did not fit into memory, and unfinished
/// tables, each as large as `samples.parquet`. A failure is a warning: nothing depends on it.
pub(super) fn sweep(fs: &dyn Fs, layout: &Layout) {
    let names = match list_if_exists(fs, layout.root()) {
        Ok(names) => names,
        Err(error) => return tracing::warn!("what killed merges left is not removed: {error}"),
    };
    let abandoned = names.iter().filter(|name| merge_of(name).is_some_and(|id| id.is_older(ABANDONED)));
    for path in abandoned.map(|name| layout.root().join(name)).filter(|path| !is_recent(fs, path)) {
        match fs.remove(&path) {
            Ok(()) => tracing::info!("{} was left by a merge that was killed; it is removed", path.display()),
            Err(error) => tracing::warn!("{} of a merge that was killed stays: {error}", path.display()),
        }
    }
}

/// Who made a temporary file of a merge: `.samples.parquet.<id>.tmp`, `.samples.parquet.<id>.spill.tmp`.
fn merge_of(name: &str) -> Option<AttemptId> {
    let id = name.strip_prefix(".samples.parquet.")?.strip_suffix(".tmp")?;
    Some(AttemptId::from_text(id.strip_suffix(".spill").unwrap_or(id)))
}

/// Whether somebody wrote it lately, as far as the file system tells: a merge may take long on a slow one.
fn is_recent(fs: &dyn Fs, path: &Path) -> bool {
    let modified = fs.open(path).ok().and_then(|file| file.modified());
    // A time in the future has no age, and is recent: clocks of file servers are not ours.
    modified.is_some_and(|time| !time.elapsed().is_ok_and(|age| age >= ABANDONED))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::store::fault::FaultFs;
    use crate::store::fs::OsFs;
    use crate::store::merge::merge;

    const OLD: &str = "20200101T000000.000Z-5f3a9c01";

    #[test]
    fn a_merge_removes_what_killed_merges_left_and_nothing_else() {
        let fs = FaultFs::new(Path::new("/reports"));
        let layout = Layout::new("/reports/run");
        fs.create_dir(layout.root()).unwrap();
        let now = AttemptId::new();
        let abandoned = [format!(".samples.parquet.{OLD}.spill.tmp"), format!(".samples.parquet.{OLD}.tmp")];
        let mut others = [
            format!(".run.json.{OLD}.tmp"),
            format!(".samples.parquet.{now}.spill.tmp"),
            format!(".samples.parquet.{now}.tmp"),
            format!("samples.parquet.damaged-{OLD}"),
            ".samples.parquet.1.tmp".to_owned(),
        ];
        for name in abandoned.iter().chain(&others) {
            fs.create_new(&layout.root().join(name)).unwrap();
        }
        merge(&fs, &layout, "run").unwrap();
        others.sort_unstable();
        assert_eq!(fs.list(layout.root()).unwrap(), others);
    }

    #[test]
    fn a_file_that_is_written_now_is_not_removed_however_old_its_name_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(format!(".samples.parquet.{OLD}.spill.tmp"));
        std::fs::write(&path, "rows").unwrap();
        sweep(&OsFs, &Layout::new(dir.path()));
        assert!(path.exists());
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - 2 * ABANDONED).unwrap();
        sweep(&OsFs, &Layout::new(dir.path()));
        assert!(!path.exists());
    }

    #[test]
    fn temporary_files_of_every_folder_of_writers_are_named() {
        let fs = FaultFs::new(Path::new("/reports/run"));
        let layout = Layout::new("/reports/run");
        let files = [
            layout.root().join(".run.json.x.tmp"),
            layout.journals().join(".probe-x"),
            layout.parts().join(".a-000.parquet.x.tmp"),
            layout.checkpoints().join(".a.tmp"),
            layout.nodes().join(".a.json.tmp"),
            layout.telemetry_parts().join(".a-000.parquet.x.tmp"),
        ];
        for path in &files {
            fs.create_dir(path.parent().unwrap()).unwrap();
            fs.create_new(path).unwrap();
        }
        fs.create_new(&layout.journals().join("a-000.journal")).unwrap();
        assert_eq!(leftovers(&fs, &layout).unwrap(), files);
    }
}
