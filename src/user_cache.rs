//! Where what is made once is kept between runs.

use std::env;
use std::path::PathBuf;

/// The user's cache folder of this program: `$XDG_CACHE_HOME/dflow` or `~/.cache/dflow`; none without a home. It may not
/// exist yet.
pub fn folder() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("dflow"))
}
