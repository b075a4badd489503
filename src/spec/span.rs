//! Lengths of time as people and schedulers write them: `30m`, `1h30m`, `2-12:00:00`, `08:00:00`, or a number of minutes.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};

/// A length of time in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

/// A text that is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no length of time; write 30m, 1h30m, 08:00:00 (hours first), 2-12:00:00 (days first), or minutes"
)]
pub struct SpanError(String);

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

impl Span {
    /// So many seconds.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds)
    }

    /// In seconds.
    pub const fn seconds(self) -> u64 {
        self.0
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let read = if text.contains([':', '-']) {
            clock(text)
        } else {
            units(text).or_else(|| number(text)?.checked_mul(MINUTE))
        };
        read.map(Self).ok_or_else(|| SpanError(text.to_owned()))
    }
}

/// A number of plain digits: unlike `u64::from_str`, no sign.
fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// `1d2h30m15s`, each unit at most once, larger ones first.
fn units(text: &str) -> Option<u64> {
    let (mut rest, mut total, mut found) = (text, 0_u64, false);
    for (unit, seconds) in [('d', DAY), ('h', HOUR), ('m', MINUTE), ('s', 1)] {
        if let Some((count, after)) = rest.split_once(unit) {
            total = total.checked_add(number(count)?.checked_mul(seconds)?)?;
            (rest, found) = (after, true);
        }
    }
    (found && rest.is_empty()).then_some(total)
}

/// `[days-]hours:minutes:seconds`, the last parts optional after days; `minutes:seconds` without, as Slurm reads them.
fn clock(text: &str) -> Option<u64> {
    let (days, time) = match text.split_once('-') {
        Some((days, time)) => (Some(number(days)?), time),
        None => (None, text),
    };
    let parts = time.split(':').map(number).collect::<Option<Vec<u64>>>()?;
    let [hours, minutes, seconds] = match (days, &parts[..]) {
        (_, &[h, m, s]) => [h, m, s],
        (Some(_), &[h, m]) => [h, m, 0],
        (Some(_), &[h]) => [h, 0, 0],
        (None, &[m, s]) => [0, m, s],
        _ => return None,
    };
    let time = hours.checked_mul(HOUR)?.checked_add(minutes.checked_mul(MINUTE)?)?.checked_add(seconds)?;
    days.unwrap_or(0).checked_mul(DAY)?.checked_add(time)
}

impl fmt::Display for Span {
    /// As Slurm takes it: `08:00:00`, `2-12:00:00`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, rest) = (self.0 / DAY, self.0 % DAY);
        if days > 0 {
            write!(f, "{days}-")?;
        }
        write!(f, "{:02}:{:02}:{:02}", rest / HOUR, rest / MINUTE % 60, rest % 60)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(TextOrMinutes)
        } else {
            deserializer.deserialize_str(TextOrMinutes)
        }
    }
}

struct TextOrMinutes;

impl de::Visitor<'_> for TextOrMinutes {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a length of time such as 30m, 08:00:00, or a number of minutes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, minutes: u64) -> Result<Span, E> {
        minutes.to_string().parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, minutes: i64) -> Result<Span, E> {
        minutes.to_string().parse().map_err(E::custom)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A length of time: 30m, 1h30m, 08:00:00, 2-12:00:00, or a number of minutes.",
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^([0-9]+|([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?|([0-9]+-)?[0-9]+(:[0-9]+){0,2})$" }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads() {
        for (text, seconds) in [
            ("30m", 1800),
            ("90s", 90),
            ("1h30m", 5400),
            ("1d2h3m4s", 93_784),
            ("45", 2700),
            ("30:15", 1815),
            ("08:00:00", 28_800),
            ("2-12", 216_000),
            ("2-12:30", 217_800),
            ("1-00:00:01", 86_401),
        ] {
            assert_eq!(text.parse(), Ok(Span(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_printed_reads_back() {
        for (seconds, text) in [(0, "00:00:00"), (5400, "01:30:00"), (86_401, "1-00:00:01")] {
            assert_eq!(Span(seconds).to_string(), text);
            assert_eq!(text.parse(), Ok(Span(seconds)));
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_forms() {
        for text in
            ["", "m", "-30", "+30m", "1.5h", "30m1h", "1:2:3:4", "1-", "a", "10:x", "99999999999999999999d"]
        {
            let error = text.parse::<Span>().unwrap_err();
            assert!(error.to_string().contains("1h30m"), "{text}");
        }
    }
}
