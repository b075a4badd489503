//! One device with slots, as its scheduler sees it: it takes commands between two evaluations, solves as many samples as
//! it has slots for, and checkpoints them.

use std::collections::VecDeque;
use std::time::Duration;

use dflow::plan::Unit;
use dflow::worker::protocol::{Command, Event, Finished, MemoryPlan, SlotChoice, Usage};

use super::disk::Writer;
use super::ledger::Ledger;
use super::service::Service;

/// Between two checkpoints of a running solve.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);
/// Work below which a solve is done: time has nanoseconds.
const NEARLY: f64 = 1e-6;

/// What the device is.
#[derive(Debug, Clone, Copy)]
pub struct Device {
    /// 1: as measured.
    pub speed: f64,
    /// Samples that it solves at a time.
    pub slots: usize,
    /// What a call costs by itself, in rows: with it a device whose slots are not full is slower.
    pub overhead: f64,
}

impl Device {
    /// Work per second of each of `rows` samples in slots: with full slots all of them get `speed`.
    fn rate(&self, rows: usize) -> f64 {
        let slots = self.slots as f64;
        self.speed * (slots + self.overhead) / slots / (rows as f64 + self.overhead)
    }
}

/// A running solve.
struct Running {
    unit: Unit,
    evals: u32,
    /// Device-seconds of all of it.
    total: f64,
    done: f64,
    /// Of these, held by a checkpoint.
    saved: f64,
}

/// The worker of one seat.
pub struct Worker {
    device: Device,
    /// Commands that it has not read.
    inbox: Vec<Command>,
    waiting: VecDeque<Unit>,
    running: Vec<Running>,
    /// Until when `running` is accounted for.
    at: Duration,
    next_save: Duration,
    /// Where its rows go, if they go to files.
    writer: Option<Writer>,
    /// Changes whenever the next end of a solve does: what was foreseen before is void.
    pub outlook: u64,
}

impl Worker {
    /// A worker that has its models from now on.
    pub fn new(device: Device, now: Duration, writer: Option<Writer>) -> Self {
        let (inbox, waiting, running) = (Vec::new(), VecDeque::new(), Vec::new());
        Self { device, inbox, waiting, running, at: now, next_save: now, writer, outlook: 0 }
    }

    /// What it says first.
    pub fn ready(&self) -> Event {
        let (device, attempt) = (String::new(), String::new());
        let (choice, memory) = (SlotChoice::default(), MemoryPlan::default());
        Event::Ready { device, slots: self.device.slots, choice, memory, attempt, pid: 0 }
    }

    /// Whether it solves nothing.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Takes a command into its inbox; returns when it reads it, unless that is settled already.
    pub fn post(&mut self, now: Duration, command: Command, service: &Service) -> Option<Duration> {
        self.inbox.push(command);
        (self.inbox.len() == 1).then(|| now + self.evaluation(service))
    }

    /// Time of one evaluation of what it holds.
    fn evaluation(&self, service: &Service) -> Duration {
        let rate = self.device.rate(self.running.len().max(1));
        let cell = self.running.first().map(|solve| service.seconds_per_eval(solve.unit.cell));
        cell.map_or(Duration::ZERO, |seconds| Duration::from_secs_f64(seconds / rate))
    }

    /// When the next solve ends, if nothing changes.
    pub fn foresee(&mut self) -> Option<Duration> {
        self.outlook += 1;
        let rate = self.device.rate(self.running.len().max(1));
        let left = self.running.iter().map(|solve| (solve.total - solve.done).max(0.0)).reduce(f64::min)?;
        Some(self.at + Duration::from_secs_f64(left / rate) + Duration::from_nanos(1))
    }

    /// Works until `now`, with the checkpoints that are due until then.
    pub fn advance(&mut self, now: Duration, ledger: &mut Ledger) {
        if self.running.is_empty() {
            (self.at, self.next_save) = (now, now + CHECKPOINT_EVERY);
            return;
        }
        while self.next_save <= now {
            self.work_until(self.next_save, ledger);
            self.checkpoint(ledger);
            self.next_save += CHECKPOINT_EVERY;
        }
        self.work_until(now, ledger);
    }

    fn work_until(&mut self, now: Duration, ledger: &mut Ledger) {
        let seconds = now.saturating_sub(self.at).as_secs_f64();
        let work = seconds * self.device.rate(self.running.len());
        self.running.iter_mut().for_each(|solve| solve.done += work);
        ledger.tally.work += work * self.running.len() as f64;
        ledger.tally.busy += seconds;
        self.at = now;
    }

    fn checkpoint(&mut self, ledger: &mut Ledger) {
        for solve in &mut self.running {
            solve.saved = solve.done;
            ledger.save(solve.unit, solve.done);
        }
        if let Some(writer) = &mut self.writer {
            writer.checkpoint(self.running.iter().map(|solve| (solve.unit, solve.done)));
        }
    }

    /// What it has said of its solves by `now`.
    pub fn progress(&self, now: Duration) -> Vec<Event> {
        let rate = self.device.rate(self.running.len().max(1));
        let since = now.saturating_sub(self.at).as_secs_f64() * rate;
        let evals = |solve: &Running| f64::from(solve.evals) * ((solve.done + since) / solve.total).min(1.0);
        let event =
            |solve: &Running| Event::Progress { unit: solve.unit, evals: evals(solve) as u32, psnr: None };
        self.running.iter().map(event).collect()
    }

    /// Reads its commands; what it says to them.
    pub fn read(&mut self, service: &Service, ledger: &mut Ledger) -> Vec<Event> {
        let mut events = Vec::new();
        for command in std::mem::take(&mut self.inbox) {
            match command {
                Command::Solve { unit, again } => {
                    if let (true, Some(writer)) = (again, &mut self.writer) {
                        writer.look_again();
                    }
                    self.waiting.push_back(unit);
                }
                Command::Recall(unit) => {
                    if let Some(place) = self.waiting.iter().position(|waiting| *waiting == unit) {
                        self.waiting.remove(place);
                        events.push(Event::Returned { unit });
                    }
                }
                Command::Fail { unit, error } => events.push(self.fail(unit, error, ledger)),
                Command::Stop => return self.stop(events, ledger),
                Command::Finish => events.push(self.end(false)),
            }
        }
        events.extend(self.fill(service, ledger));
        events
    }

    /// Begins what waits, as far as there are slots.
    fn fill(&mut self, service: &Service, ledger: &mut Ledger) -> Vec<Event> {
        let free = self.device.slots.saturating_sub(self.running.len()).min(self.waiting.len());
        let begun: Vec<Unit> = self.waiting.drain(..free).collect();
        let begin = |unit: Unit| {
            let newest = ledger.saved(unit);
            // A copy that runs elsewhere may have gone on since this worker looked.
            let saved = self.writer.as_mut().map_or(newest, |writer| writer.stored(unit));
            assert!(saved <= newest, "{unit:?}: a checkpoint of {saved} s, and {newest} s were written");
            let resumed = saved > 0.0;
            ledger.tally.resumed += u64::from(resumed);
            let (total, evals) = (service.seconds(unit), service.evals(unit));
            self.running.push(Running { unit, evals, total, done: saved, saved });
            Event::Started { unit, resumed }
        };
        begun.into_iter().map(begin).collect()
    }

    /// The solves that have come to their end: their rows are durable, and their slots taken by what waits.
    pub fn finish(&mut self, service: &Service, ledger: &mut Ledger) -> Vec<Event> {
        let (done, running) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|solve| solve.done + NEARLY >= solve.total);
        self.running = running;
        let finish = |solve: Running| {
            if let Some(writer) = &mut self.writer {
                writer.row(solve.unit, solve.evals, solve.total);
            }
            ledger.finish(solve.unit);
            let (unit, evals, seconds) = (solve.unit, solve.evals, solve.total);
            Event::Finished(Finished { unit, error: None, stop_reason: None, evals, seconds, psnr: None })
        };
        let done: Vec<Running> = done;
        let finished: Vec<Event> = done.into_iter().map(finish).collect();
        finished.into_iter().chain(self.fill(service, ledger)).collect()
    }

    /// Writes down that a sample failed: two workers died while they solved it.
    fn fail(&mut self, unit: Unit, error: String, ledger: &mut Ledger) -> Event {
        if let Some(writer) = &mut self.writer {
            writer.failed(unit, &error);
        }
        ledger.finish(unit);
        ledger.tally.failed += 1;
        let (evals, seconds, error) = (0, 0.0, Some(error));
        Event::Finished(Finished { unit, error, stop_reason: None, evals, seconds, psnr: None })
    }

    /// Checkpoints what it solves, and ends.
    fn stop(&mut self, mut events: Vec<Event>, ledger: &mut Ledger) -> Vec<Event> {
        self.checkpoint(ledger);
        let leaves_solves = !self.running.is_empty();
        events.extend(self.running.drain(..).map(|solve| Event::Suspended { unit: solve.unit }));
        events.push(self.end(leaves_solves));
        events
    }

    fn end(&mut self, leaves_solves: bool) -> Event {
        if let Some(writer) = &mut self.writer {
            writer.close(leaves_solves);
        }
        Event::Ended(Usage::default())
    }

    /// It is dead: what no checkpoint held is lost. Returns the number of samples that it was solving.
    pub fn kill(self, ledger: &mut Ledger) -> usize {
        ledger.tally.lost += self.running.iter().map(|solve| solve.done - solve.saved).sum::<f64>();
        self.running.len()
    }
}
