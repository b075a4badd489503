//! Public data that some tests need and the repository does not hold.

use std::env::var_os;
use std::path::PathBuf;

/// The folder of the test data (`DFLOW_TEST_DATA`). Without one the caller has nothing to test, which is said on stderr,
/// or is a failure where `DFLOW_REQUIRE_TEST_DATA=1`.
pub(crate) fn folder() -> Option<PathBuf> {
    // Make sets the variable to nothing where the user has not set it.
    let folder = var_os("DFLOW_TEST_DATA").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let is_required = var_os("DFLOW_REQUIRE_TEST_DATA").is_some_and(|required| required == "1");
    assert!(folder.is_some() || !is_required, "DFLOW_REQUIRE_TEST_DATA=1 but DFLOW_TEST_DATA is not set");
    if folder.is_none() {
        eprintln!("skipped: no test data");
    }
    folder
}
