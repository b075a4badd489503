//! Names of process attempts: sortable by start time, unique among processes, some with a tag.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Name of one writer of one process attempt, such as `20261122T035424.017Z-5f3a9c01`: UTC time, then random bits, then
/// perhaps a tag (`…-5f3a9c01-c7s1a2b`) that says for which part of a run it works.
///
/// Ids sort by start time: its text has one width and comes first. The random part keeps two writers of the same
/// millisecond apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(String);

impl AttemptId {
    /// A fresh id.
    pub fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Keyed by the operating system's randomness, and differently at every call of a thread.
        let random = RandomState::new().hash_one((std::process::id(), now.as_nanos())) as u32;
        Self(format!("{}-{random:08x}", utc(now.as_millis() as u64)))
    }

    /// A fresh id with a tag: whoever works on the same part of a run later finds its files by their names alone.
    ///
    /// # Panics
    /// If the tag is empty or has other characters than ASCII letters and digits.
    pub fn tagged(tag: &str) -> Self {
        assert!(is_tag(tag), "{tag:?} is no tag of an attempt: ASCII letters and digits only");
        Self(format!("{}-{tag}", Self::new()))
    }

    /// The tag, if the id has one.
    pub fn tag(&self) -> Option<&str> {
        self.0.splitn(3, '-').nth(2)
    }

    /// The id in the name of a file `<attempt>-<number>.<ending>`, which journals, parts and artifacts have.
    pub fn of_file(name: &str) -> Option<Self> {
        let (stem, _) = name.rsplit_once('.')?;
        let (attempt, number) = stem.rsplit_once('-')?;
        let numbered = number.len() >= 3 && number.bytes().all(|byte| byte.is_ascii_digit());
        numbered.then(|| Self(attempt.to_owned()))
    }

    /// Whether it was made longer than `age` ago, by the clock of its maker. A text that is no id of ours was not.
    pub fn is_older(&self, age: Duration) -> bool {
        let then = SystemTime::now().checked_sub(age).and_then(|then| then.duration_since(UNIX_EPOCH).ok());
        then.is_some_and(|then| self.has_shape() && *self.0 < *utc(then.as_millis() as u64))
    }

    /// Whether it reads like `20261122T035424.017Z-5f3a9c01`, perhaps with a tag.
    fn has_shape(&self) -> bool {
        let is_like = |(place, byte): (usize, u8)| match place {
            8 => byte == b'T',
            15 => byte == b'.',
            19 => byte == b'Z',
            20 => byte == b'-',
            21..29 => byte.is_ascii_hexdigit(),
            _ => byte.is_ascii_digit(),
        };
        self.0.len() >= 29 && self.0.bytes().take(29).enumerate().all(is_like)
    }

    /// A given id, for tests and for readers of file names.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for AttemptId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

fn is_tag(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// `YYYYMMDDThhmmss.mmmZ` of milliseconds since 1970.
fn utc(milliseconds: u64) -> String {
    let (seconds, fraction) = (milliseconds / 1000, milliseconds % 1000);
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{fraction:03}Z")
}

/// Year, month and day of a number of days since 1970 (proleptic Gregorian; years counted from March, so that the
/// leap day is the last of its year).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day - (153 * march_month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_written_as_utc() {
        assert_eq!(utc(0), "19700101T000000.000Z");
        assert_eq!(utc(951_782_400_000), "20000229T000000.000Z");
        assert_eq!(utc(1_795_319_664_017), "20261122T035424.017Z");
        assert_eq!(utc(4_107_542_399_999), "21000228T235959.999Z");
        assert_eq!(utc(4_107_542_400_000), "21000301T000000.000Z");
    }

    #[test]
    fn ids_differ_and_have_one_width() {
        let ids: std::collections::BTreeSet<_> = (0..200).map(|_| AttemptId::new()).collect();
        assert_eq!(ids.len(), 200);
        assert!(ids.iter().all(|id| id.as_str().len() == 29 && id.tag().is_none()));
    }

    #[test]
    fn a_tag_is_read_back_from_the_id_and_from_its_files() {
        let (plain, tagged) = (AttemptId::new(), AttemptId::tagged("c17s1a2b"));
        assert_eq!(tagged.tag(), Some("c17s1a2b"));
        for id in [plain, tagged] {
            for number in [0, 999, 1000] {
                assert_eq!(AttemptId::of_file(&format!("{id}-{number:03}.journal")).as_ref(), Some(&id));
            }
        }
        for name in ["README", "a.parquet", ".a-000.parquet.x.tmp", "a-b.parquet"] {
            assert_eq!(AttemptId::of_file(name), None, "{name}");
        }
        for odd in ["", "a-b", "a b", "é", "../x"] {
            assert!(std::panic::catch_unwind(|| AttemptId::tagged(odd)).is_err(), "{odd}");
        }
    }

    #[test]
    fn the_age_of_an_id_is_told_by_its_text() {
        let hour = Duration::from_secs(3600);
        for id in [AttemptId::new(), AttemptId::tagged("c1")] {
            assert!(!id.is_older(hour));
            let old = AttemptId::from_text(format!("2020{}", &id.as_str()[4..]));
            assert!(old.is_older(hour), "{old}");
        }
        for odd in ["", "1", "20200101", "20200101T000000.000Z_5f3a9c01", "20200101T000000.000Z-5f3a9c0x"] {
            assert!(!AttemptId::from_text(odd).is_older(hour), "{odd}");
        }
    }

    #[test]
    fn tagged_and_other_ids_sort_by_start_time() {
        let id = |start: &str, rest: &str| AttemptId::from_text(format!("{start}-{rest}"));
        let (early, late) = ("20261122T035424.017Z", "20261122T035424.018Z");
        for (first, second) in
            [("ffffffff", "00000000-c1"), ("ffffffff-c1", "00000000"), ("ffffffff-z", "0-a")]
        {
            assert!(id(early, first) < id(late, second));
        }
    }
}
