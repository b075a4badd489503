//! The site file: what holds for a cluster, whatever the pipeline.

use std::path::{Path, PathBuf};

use super::error::ClusterError;
use crate::spec::cluster::ClusterSpec;
use crate::spec::diagnostic::Source;

/// Names a site file.
pub const VARIABLE: &str = "DFLOW_SITE";

/// The site file: `given`, else the one that [`VARIABLE`] names, else `dflow/cluster.yaml` in the user's folder of
/// settings if it is there. `variable` reads the environment.
pub fn find(given: Option<&Path>, variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.as_os_str().is_empty());
    let named = given.map(Path::to_owned).or_else(|| set(VARIABLE));
    named.or_else(|| {
        let settings = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
        Some(settings.join("dflow/cluster.yaml")).filter(|path| path.exists())
    })
}

/// Reads a site file.
///
/// # Errors
/// It cannot be read, or what is wrong in it, with its place.
pub fn read(path: &Path) -> Result<ClusterSpec, ClusterError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ClusterError::SiteFile { path: path.to_owned(), source })?;
    Ok(ClusterSpec::parse(&Source { name: path.display().to_string(), text })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_site_file_is_taken() {
        let home = tempfile::tempdir().unwrap();
        let usual = home.path().join(".config/dflow/cluster.yaml");
        let with = |site: &'static str| {
            let home = home.path().to_owned();
            move |name: &str| match name {
                "HOME" => Some(home.clone()),
                VARIABLE => Some(PathBuf::from(site)),
                _ => None,
            }
        };
        assert_eq!(find(Some(Path::new("a")), with("b")), Some(PathBuf::from("a")));
        assert_eq!(find(None, with("b")), Some(PathBuf::from("b")));
        assert_eq!(find(None, with("")), None);
        std::fs::create_dir_all(usual.parent().unwrap()).unwrap();
        std::fs::write(&usual, "partition: gpu").unwrap();
        assert_eq!(find(None, with("")), Some(usual.clone()));
        assert_eq!(read(&usual).unwrap().partition.as_deref(), Some("gpu"));
    }

    #[test]
    fn a_site_file_that_is_not_there_is_named() {
        let error = read(Path::new("/nowhere/cluster.yaml")).unwrap_err();
        assert_eq!(error.exit_code(), crate::exit::USAGE);
        assert!(error.to_string().contains("cannot read the site file /nowhere/cluster.yaml"), "{error}");
    }
}
