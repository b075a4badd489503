//! Rows as they come in while a run is watched.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The throughput is that of so long.
const LATELY: Duration = Duration::from_secs(600);
/// Of fewer rows, or of a shorter time, nothing is concluded.
const LEAST_ROWS: usize = 10;
const LEAST_TIME: Duration = Duration::from_secs(120);

/// How many rows were durable at each look of the last minutes.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    seen: VecDeque<(Instant, usize)>,
}

impl Arrivals {
    /// Takes note of what a look saw: rows, and whether anybody works on more.
    pub(super) fn note(&mut self, done: usize, is_worked_on: bool, now: Instant) {
        // Another plan is watched from here on.
        let is_other = self.seen.back().is_some_and(|(_, before)| *before > done);
        // The time in which nobody works says nothing of how fast those are that come.
        if is_other || !is_worked_on {
            self.seen.clear();
        }
        self.seen.push_back((now, done));
        // One look before the window stays, so that the whole of it is counted.
        while self.seen.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) > LATELY) {
            self.seen.pop_front();
        }
    }

    /// Rows per second; none while too few were seen to come.
    pub(super) fn rate(&self) -> Option<f64> {
        let ((begin, before), (end, done)) = self.seen.front().zip(self.seen.back())?;
        let (time, rows) = (end.saturating_duration_since(*begin), done - before);
        (rows >= LEAST_ROWS && time >= LEAST_TIME).then(|| rows as f64 / time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(looks: &[(u64, usize)]) -> Arrivals {
        let (mut arrivals, begin) = (Arrivals::default(), Instant::now());
        looks.iter().for_each(|(at, done)| arrivals.note(*done, true, begin + Duration::from_secs(*at)));
        arrivals
    }

    #[test]
    fn rows_that_were_there_before_do_not_count() {
        assert_eq!(arrivals(&[(0, 5000)]).rate(), None);
        assert_eq!(arrivals(&[(0, 5000), (200, 5100)]).rate(), Some(0.5));
    }

    #[test]
    fn of_little_nothing_is_concluded() {
        assert_eq!(arrivals(&[]).rate(), None);
        assert_eq!(arrivals(&[(0, 0), (500, 9)]).rate(), None);
        assert_eq!(arrivals(&[(0, 0), (119, 900)]).rate(), None);
        assert_eq!(arrivals(&[(0, 0), (120, 900)]).rate(), Some(7.5));
    }

    #[test]
    fn only_the_last_minutes_count() {
        let looks: Vec<(u64, usize)> = (0..=100)
            .map(|i| (60 * i, if i < 50 { 10 * i as usize } else { 500 + 30 * (i as usize - 50) }))
            .collect();
        let arrivals = arrivals(&looks);
        assert_eq!(arrivals.rate(), Some(0.5));
        assert!(arrivals.seen.len() < 15, "{}", arrivals.seen.len());
    }

    #[test]
    fn time_in_which_nobody_works_does_not_count() {
        let (mut arrivals, begin) = (Arrivals::default(), Instant::now());
        let looks = [(0, 0, true), (200, 100, true), (210, 100, false), (500, 100, false)];
        for (at, done, is_worked_on) in looks {
            arrivals.note(done, is_worked_on, begin + Duration::from_secs(at));
        }
        assert_eq!(arrivals.rate(), None);
        arrivals.note(300, true, begin + Duration::from_secs(700));
        assert_eq!(arrivals.rate(), Some(1.0));
    }

    #[test]
    fn fewer_rows_begin_anew() {
        assert_eq!(arrivals(&[(0, 100), (10, 40), (210, 140)]).rate(), Some(0.5));
    }
}
