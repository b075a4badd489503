//! A file that comes whole or stays apart: `<file>.part` grows over any number of runs, and takes its name at the end.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use ureq::Agent;

use super::request::{self, Answer, Content};
use super::{FetchError, Sha256};
use crate::atomic;

/// How often, and after how long, a cut or refused connection is tried again.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Attempts without any progress, the first included.
    pub attempts: u32,
    /// Wait before the second attempt; doubled before each further one.
    pub wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { attempts: 5, wait: Duration::from_secs(1) }
    }
}

/// A file to be fetched.
#[derive(Debug, Clone)]
pub struct Download<'a> {
    /// Where it is.
    pub url: &'a str,
    /// Where it belongs.
    pub path: &'a Path,
    /// Its SHA-256 in hex, or the first digits.
    pub sha256: Option<&'a str>,
    /// When to give up.
    pub patience: Patience,
}

/// A file that is here, as recorded in `<file>.hash.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// Where it came from.
    pub url: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in hex.
    pub sha256: String,
    /// Its blake3 in hex, as model files name it.
    pub blake3: String,
    /// Whether a hash that a public source states was compared.
    pub verified: bool,
}

/// Why an attempt ended.
enum Cut {
    /// Another attempt may do.
    Again(String),
    /// None will.
    Final(FetchError),
}

impl Download<'_> {
    /// Gets the file, and shows the bytes that are here and those of the whole (if known) as it comes.
    ///
    /// A file that is there already is only hashed. What came of an earlier attempt is continued if the server says that
    /// the file is still the same.
    ///
    /// # Errors
    /// See [`FetchError`]. A file of another hash is set aside, and never takes the name.
    pub fn run(&self, progress: &mut dyn FnMut(u64, Option<u64>)) -> Result<Fetched, FetchError> {
        if self.path.exists() {
            let found = self.present()?;
            // Put here by hand: from now on it is known by what it was.
            self.record(&found).map_err(|source| self.write_error(source))?;
            return Ok(found);
        }
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(|source| self.write_error(source))?;
        }
        let agent = request::agent();
        let (mut failures, mut kept) = (0, self.kept());
        loop {
            match self.attempt(&agent, progress) {
                Ok(()) => return self.accept(),
                Err(Cut::Final(error)) => return Err(error),
                Err(Cut::Again(reason)) => {
                    // A connection that is cut now and then is no reason to give up.
                    failures = if self.kept() > kept { 1 } else { failures + 1 };
                    kept = self.kept();
                    if failures >= self.patience.attempts {
                        return Err(self.unreachable(reason, failures, kept));
                    }
                    thread::sleep(self.patience.wait * 2u32.pow((failures - 1).min(6)));
                }
            }
        }
    }

    /// The file that is there, compared with the stated hash, else with the recorded one.
    ///
    /// # Errors
    /// It is another one, or cannot be read.
    pub fn present(&self) -> Result<Fetched, FetchError> {
        let found =
            self.hashed(self.path, self.sha256.is_some()).map_err(|source| self.write_error(source))?;
        let record: Option<Fetched> =
            fs::read(self.beside("hash.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let expected = self.sha256.map(str::to_owned).or_else(|| record.map(|record| record.sha256));
        match expected {
            Some(expected) if !fits(&expected, &found.sha256) => Err(FetchError::Present {
                url: self.url.to_owned(),
                expected,
                found: found.sha256,
                path: self.path.to_owned(),
            }),
            _ => Ok(found),
        }
    }

    /// One connection: what comes is appended to the part.
    fn attempt(&self, agent: &Agent, progress: &mut dyn FnMut(u64, Option<u64>)) -> Result<(), Cut> {
        let (kept, validator) = (self.kept(), fs::read_to_string(self.beside("part.tag")).ok());
        let from = validator.as_deref().filter(|_| kept > 0).map(|validator| (kept, validator));
        match request::get(agent, self.url, from).map_err(Cut::Again)? {
            Answer::Content(content) => self.append(content, kept, progress),
            Answer::BeyondEnd(Some(total)) if total == kept => Ok(()),
            Answer::BeyondEnd(_) => {
                self.forget_part();
                Err(Cut::Again("the file became shorter".to_owned()))
            }
            Answer::Refused { status } if matches!(status, 408 | 425 | 429 | 500..=599) => {
                Err(Cut::Again(format!("the server answers {status}")))
            }
            Answer::Refused { status } => {
                let (url, path) = (self.url.to_owned(), self.path.to_owned());
                Err(Cut::Final(FetchError::Status { url, status, path }))
            }
        }
    }

    fn append(
        &self,
        mut content: Content,
        kept: u64,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<(), Cut> {
        let failed = |source| Cut::Final(self.write_error(source));
        // From the start: the server knows no parts, or the file is another one.
        if content.start != 0 && content.start != kept {
            self.forget_part();
            return Err(Cut::Again("the server sent another part than the one wanted".to_owned()));
        }
        if content.start == 0 {
            self.forget_part();
            if let Some(validator) = &content.validator {
                atomic::write_bytes(&self.beside("part.tag"), validator.as_bytes()).map_err(failed)?;
            }
        }
        let mut part = File::options().append(true).create(true).open(self.beside("part")).map_err(failed)?;
        let (mut here, mut buffer) = (content.start, vec![0; 1 << 18]);
        loop {
            match content.body.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => part.write_all(&buffer[..n]).map(|()| here += n as u64).map_err(failed)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Cut::Again(format!("the connection was cut: {error}"))),
            }
            progress(here, content.total);
        }
        part.sync_all().map_err(failed)?;
        match content.total {
            Some(total) if here < total => {
                Err(Cut::Again(format!("the connection was cut after {here} of {total} bytes")))
            }
            _ => Ok(()),
        }
    }

    /// The part is whole: it takes the file's name if it is the file that is wanted.
    fn accept(&self) -> Result<Fetched, FetchError> {
        let part = self.beside("part");
        let fetched = self.hashed(&part, self.sha256.is_some()).map_err(|source| self.write_error(source))?;
        if let Some(expected) = self.sha256.filter(|expected| !fits(expected, &fetched.sha256)) {
            let aside = self.beside("wrong-hash");
            fs::rename(&part, &aside).map_err(|source| self.write_error(source))?;
            self.forget_part();
            return Err(FetchError::Hash {
                url: self.url.to_owned(),
                expected: expected.to_owned(),
                found: fetched.sha256,
                aside,
                path: self.path.to_owned(),
            });
        }
        let place = || -> io::Result<()> {
            self.record(&fetched)?;
            fs::rename(&part, self.path)?;
            File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        place().map_err(|source| self.write_error(source))?;
        self.forget_part();
        Ok(fetched)
    }

    /// Keeps what the file is beside it.
    fn record(&self, fetched: &Fetched) -> io::Result<()> {
        let record = serde_json::to_vec_pretty(fetched).map_err(io::Error::other)?;
        atomic::write_bytes(&self.beside("hash.json"), &record)
    }

    fn hashed(&self, path: &Path, verified: bool) -> io::Result<Fetched> {
        let mut file = File::open(path)?;
        let (mut sha256, mut blake3, mut bytes) = (Sha256::default(), blake3::Hasher::new(), 0);
        let mut buffer = vec![0; 1 << 18];
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            sha256.update(&buffer[..n]);
            blake3.update(&buffer[..n]);
            bytes += n as u64;
        }
        let (sha256, blake3) = (sha256.finish(), blake3.finalize().to_hex().to_string());
        Ok(Fetched { url: self.url.to_owned(), bytes, sha256, blake3, verified })
    }

    /// Bytes of the part.
    fn kept(&self) -> u64 {
        fs::metadata(self.beside("part")).map_or(0, |metadata| metadata.len())
    }

    fn forget_part(&self) {
        // What is not there need not go; what cannot go is replaced or reported by the next write.
        let _ = fs::remove_file(self.beside("part"));
        let _ = fs::remove_file(self.beside("part.tag"));
    }

    /// The file's path with a further suffix.
    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".");
        name.push(suffix);
        name.into()
    }

    fn write_error(&self, source: io::Error) -> FetchError {
        FetchError::Write { path: self.path.to_owned(), source }
    }

    fn unreachable(&self, reason: String, attempts: u32, kept: u64) -> FetchError {
        FetchError::Unreachable {
            url: self.url.to_owned(),
            reason,
            attempts,
            // Without a tag the server cannot say that the file is still the same: the next attempt begins anew.
            kept: if self.beside("part.tag").exists() { kept } else { 0 },
            path: self.path.to_owned(),
        }
    }
}

/// Whether a hash begins with the digits that are known of it.
fn fits(known: &str, found: &str) -> bool {
    found.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known))
}
