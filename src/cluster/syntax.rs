//! Whether bash can read a batch script: what users put into it may be anything.

use std::io::Write;
use std::process::{Command, Stdio};

use super::error::ClusterError;
use super::script::setup;
use crate::spec::cluster::ClusterSpec;

/// Has bash read a batch script without running it, and its setup before, by itself: what that leaves open, such as a
/// quotation mark, something further on may close. Where there is no bash, nothing is known to be wrong.
///
/// # Errors
/// [`ClusterError::Script`] with what bash says.
pub fn check(script: &str, spec: &ClusterSpec) -> Result<(), ClusterError> {
    read(&setup(spec))?;
    read(script)
}

fn read(script: &str) -> Result<(), ClusterError> {
    let mut bash = Command::new("bash");
    bash.args(["-n", "-s"]).env_remove("BASH_ENV").env("LC_ALL", "C");
    bash.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let Ok(mut child) = bash.spawn() else { return Ok(()) };
    if let Some(mut stdin) = child.stdin.take() {
        // It may have read enough.
        let _ = stdin.write_all(script.as_bytes());
    }
    let output = child.wait_with_output().map_err(ClusterError::io("wait for", "bash"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines = said.lines().map(|line| line.trim_start_matches("bash: "));
    Err(ClusterError::Script { message: lines.collect::<Vec<_>>().join("; ") })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cluster::script;
    use crate::cluster::submission::tests::submission_in;

    fn checked(setup: &str) -> Result<(), ClusterError> {
        let cluster = ClusterSpec { setup: Some(vec![setup.to_owned()]), ..ClusterSpec::default() };
        let submission = submission_in(Path::new("/shared/reports/small"), cluster.clone());
        check(&script::job(&submission, &[]).unwrap(), &cluster)
    }

    #[test]
    fn setup_that_bash_does_not_read_is_told_in_its_words() {
        for setup in ["if", "echo 'never closed", "for i in 1 2; do echo $i", "export A=(1"] {
            let said = checked(setup).unwrap_err().to_string();
            assert!(said.contains("`setup:`") && said.contains("line "), "{setup}: {said}");
        }
        for setup in
            ["", "export TMPDIR=/scratch/$USER", "if true; then echo \"it's $HOSTNAME\"; fi", "exit 1"]
        {
            checked(setup).unwrap();
        }
    }

    #[test]
    fn what_is_in_a_script_is_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let trace = dir.path().join("trace");
        read(&format!(": > {}", trace.display())).unwrap();
        assert!(!trace.exists());
    }
}
