//! Durations, counts and shares as people read them.

use std::time::Duration;

/// `47 s`, `3 min 20 s`, `5 h 12 min`, `2 d 4 h`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// `4.4 GB`, `512 MB`, `12 kB`.
pub fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 100.0 {
        format!("{value:.0} {}", units[unit])
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

/// `12:31:07`: the time of day, UTC, of ms since 1970.
pub fn clock(ms: u64) -> String {
    let seconds = ms / 1000;
    format!("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

/// `1 sample`, `3 samples`.
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_name_two_units() {
        let text = |s| duration(Duration::from_secs(s));
        assert_eq!(text(47), "47 s");
        assert_eq!(text(200), "3 min 20 s");
        assert_eq!(text(18_720), "5 h 12 min");
        assert_eq!(text(187_200), "2 d 4 h");
    }

    #[test]
    fn bytes_keep_two_digits() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(4_400_000_000), "4.4 GB");
        assert_eq!(bytes(512_000_000), "512 MB");
    }
}
