//! Why a file could not be fetched.

use std::path::PathBuf;

/// Why a file could not be fetched: what is wrong, and where to put it by hand.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server has no such file, or does not give it.
    #[error("{url}: the server answers {status}; get the file in another way, and put it at {}", path.display())]
    Status {
        /// The URL.
        url: String,
        /// The answer's code.
        status: u16,
        /// Where the file belongs.
        path: PathBuf,
    },
    /// Nothing answers, or connections are cut again and again.
    #[error(
        "{url}: {reason} ({attempts} attempts{}). Is there a network here, and does it need a proxy (HTTPS_PROXY)? Else \
         get the file elsewhere, and put it at {}",
        if *kept > 0 { format!(", {kept} bytes are kept: run again to continue") } else { String::new() },
        path.display()
    )]
    Unreachable {
        /// The URL.
        url: String,
        /// What the last attempt said.
        reason: String,
        /// Attempts without any progress.
        attempts: u32,
        /// Bytes that are here.
        kept: u64,
        /// Where the file belongs.
        path: PathBuf,
    },
    /// The file that came is another one than the one wanted.
    #[error(
        "{url}: the file that came is not the one wanted: its sha256 is {found}, expected is {expected}; it was set aside \
         as {}. Put the right file at {}",
        aside.display(), path.display()
    )]
    Hash {
        /// The URL.
        url: String,
        /// As stated.
        expected: String,
        /// Of what came.
        found: String,
        /// Where it is now.
        aside: PathBuf,
        /// Where the right one belongs.
        path: PathBuf,
    },
    /// The file that is here already is another one than the one wanted.
    #[error(
        "{} is not the file of {url}: its sha256 is {found}, expected is {expected}; remove it to fetch it again",
        path.display()
    )]
    Present {
        /// The URL.
        url: String,
        /// As stated or recorded.
        expected: String,
        /// Of the file.
        found: String,
        /// The file.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("cannot write {}: {source}; free some space or give another folder (--data), and run again to continue",
        path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}
