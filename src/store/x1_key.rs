//! Identity of a reconstruction: what features and scores belong to.

use std::sync::Arc;

/// The row of a reconstruction, and the reconstruction itself. The order is that of files of features and scores.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct X1Key {
    /// Cell hash of its row; shared by the keys of a cell.
    pub cell_hash: Arc<str>,
    /// Sample id of its row.
    pub sample_id: String,
    /// blake3 (hex) of the reconstruction, as in the row.
    pub x1_blake3: String,
}

impl X1Key {
    /// The key as text, for comparisons.
    pub fn as_text(&self) -> (&str, &str, &str) {
        (&self.cell_hash, &self.sample_id, &self.x1_blake3)
    }
}

/// `text`, as the same allocation as the last one if they are equal.
pub(super) fn share(last: Option<&Arc<str>>, text: &str) -> Arc<str> {
    match last {
        Some(last) if **last == *text => Arc::clone(last),
        _ => text.into(),
    }
}
