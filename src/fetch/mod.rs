//! Downloads of public files: where they are ([`Source`]), and how they come here whole ([`Download`]).

mod download;
mod error;
mod request;
mod sha256;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use download::{Download, Fetched, Patience};
pub use error::FetchError;
pub use sha256::Sha256;

/// A public file, as a model file names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Where it is: `http://` or `https://`.
    pub url: String,
    /// Its name here, below `folder`; default: the last part of the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Sub-folder of the data folder that it belongs to; default: that of the model file's weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Its SHA-256 in hex as a public source states it: all 64 digits or the first, at least 8 (as the names of
    /// PyTorch's public files hold). Without one, the hash of the first download is recorded beside it as unverified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Where the hash is stated, and what to do with the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Source {
    /// Its name below its folder.
    pub fn file(&self) -> &str {
        let path = self.url.split(['?', '#']).next().unwrap_or(&self.url);
        self.file.as_deref().unwrap_or_else(|| path.rsplit('/').next().unwrap_or(path))
    }

    /// What is wrong in it.
    pub fn problem(&self) -> Option<String> {
        let is_hash =
            |hash: &String| (8..=64).contains(&hash.len()) && hash.bytes().all(|b| b.is_ascii_hexdigit());
        let leads_out = |path: &str| path.starts_with('/') || path.split('/').any(|part| part == "..");
        if !self.url.starts_with("https://") && !self.url.starts_with("http://") {
            Some(format!("sources: `{}` is no URL of http or https", self.url))
        } else if self.file().is_empty()
            || leads_out(self.file())
            || self.folder.as_deref().is_some_and(leads_out)
        {
            Some(format!("sources: {}: `file` and `folder` must lie in the data folder", self.url))
        } else if !self.sha256.as_ref().is_none_or(is_hash) {
            Some(format!("sources: {}: sha256: 8 to 64 hexadecimal digits are expected", self.url))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;
