//! Shards: `2/8` is the second of eight parts of a run.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Part `index` (from 1) of `count` equal parts of a run's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    index: NonZeroU32,
    count: NonZeroU32,
}

/// Why a text is no shard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no shard: write M/N with 1 ≤ M ≤ N, such as 1/4 for the first of four parts")]
pub struct ShardError(String);

impl Shard {
    /// The whole run.
    pub const WHOLE: Self = Self { index: NonZeroU32::MIN, count: NonZeroU32::MIN };

    /// Whether the sample at this place of the manifest belongs to the shard.
    ///
    /// Samples are dealt out in turn, so that the parts differ by one sample at most, and more samples (a larger
    /// limit) leave the earlier ones where they were.
    pub fn contains(self, sample: usize) -> bool {
        let count = self.count.get() as usize;
        sample % count == self.index.get() as usize - 1
    }

    /// M, from 1.
    pub const fn index(self) -> u32 {
        self.index.get()
    }

    /// N.
    pub const fn count(self) -> u32 {
        self.count.get()
    }
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let number = |digits: &str| -> Option<NonZeroU32> {
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
        };
        let parsed = text.split_once('/').and_then(|(m, n)| Some((number(m)?, number(n)?)));
        match parsed {
            Some((index, count)) if index <= count => Ok(Self { index, count }),
            _ => Err(ShardError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Shard {
    type Error = ShardError;

    fn try_from(text: String) -> Result<Self, ShardError> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_disjoint_and_complete_and_even() {
        for count in 1..=7_u32 {
            let shards: Vec<Shard> = (1..=count).map(|m| format!("{m}/{count}").parse().unwrap()).collect();
            for samples in [0_usize, 1, 5, 7, 64] {
                let owners = |sample| shards.iter().filter(|shard| shard.contains(sample)).count();
                assert!((0..samples).all(|sample| owners(sample) == 1));
                let sizes = shards.iter().map(|shard| (0..samples).filter(|s| shard.contains(*s)).count());
                let sizes: Vec<usize> = sizes.collect();
                assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
            }
        }
    }

    #[test]
    fn only_m_of_n_is_read() {
        assert_eq!("2/8".parse::<Shard>().unwrap().to_string(), "2/8");
        for text in ["", "1", "0/4", "5/4", "1/0", "1/2/3", "-1/4", "+1/4", "a/b", "1 / 4"] {
            let error = text.parse::<Shard>().unwrap_err();
            assert!(error.to_string().contains("1/4"), "{text}");
        }
    }
}
