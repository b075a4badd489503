//! CPU time and memory of a process, from `/proc`.

use std::fs;
use std::time::{Duration, Instant};

/// Reads one process again and again: its use of cores is a difference of two readings.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    before: Option<(Instant, Duration)>,
}

/// One reading; what the system does not tell is none.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ProcessReading {
    /// CPU time per wall time since the reading before: 1 is one busy core.
    pub cpu_cores: Option<f64>,
    /// Resident memory in bytes.
    pub resident: Option<u64>,
}

impl Process {
    /// A process, which need not live.
    pub fn new(pid: u32) -> Self {
        Self { pid, before: None }
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Reads it; nothing of a process that is gone.
    pub fn read(&mut self) -> ProcessReading {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok();
        let Some(busy) = stat.as_deref().and_then(cpu_ticks) else { return ProcessReading::default() };
        let now = (Instant::now(), from_ticks(busy));
        let cpu_cores = self.before.and_then(|(at, busy)| {
            let wall = (now.0 - at).as_secs_f64();
            (wall > 0.0).then(|| now.1.saturating_sub(busy).as_secs_f64() / wall)
        });
        self.before = Some(now);
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok();
        ProcessReading { cpu_cores, resident: status.as_deref().and_then(resident) }
    }
}

/// utime + stime of a line of `/proc/<pid>/stat`, in clock ticks. The second field is the program's name in
/// parentheses, which may hold anything, parentheses and spaces too.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11); // the third field, the state, is the first here
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    user.checked_add(system)
}

/// `USER_HZ`, in which Linux counts these ticks on every architecture that this program is built for.
const TICKS_PER_SECOND: f64 = 100.0;

fn from_ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND)
}

/// `VmRSS` of the text of `/proc/<pid>/status`, in bytes.
fn resident(status: &str) -> Option<u64> {
    let figure = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = figure.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_hides_no_figure() {
        let stat = "42 (a) (b) S 1 42 42 0 -1 4194304 100 0 0 0 700 55 9 9 20 0 4 0 1000 1 1";
        assert_eq!(cpu_ticks(stat), Some(755));
        for bad in ["", "42 (a", "42 (a) S 1", "42 (a) S 1 2 3 4 5 6 7 8 9 10 x y"] {
            assert_eq!(cpu_ticks(bad), None, "{bad:?}");
        }
        assert_eq!(cpu_ticks(&stat.replace("700", &u64::MAX.to_string())), None, "no overflow");
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2_097_152));
        assert_eq!(resident("VmRSS:\t-1 kB\n"), None);
        assert_eq!(resident(""), None);
    }

    #[test]
    fn this_process_uses_memory_and_time_and_a_dead_one_nothing() {
        let mut own = Process::new(std::process::id());
        let first = own.read();
        assert!(first.resident.is_some_and(|bytes| bytes > 100_000) && first.cpu_cores.is_none());
        let mut x = 1_u64;
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(60) {
            x = x.wrapping_mul(31).wrapping_add(7);
        }
        let second = own.read();
        assert!(second.cpu_cores.is_some_and(|cores| cores > 0.0), "{second:?} {x}");
        assert_eq!(Process::new(u32::MAX).read(), ProcessReading::default());
    }
}
