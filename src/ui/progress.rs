//! Shows a run while it goes on.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Style, json, text};
use crate::plan::Unit;
use crate::run::event::{RunEvent, RunSummary};
use crate::worker::protocol::{Layouts, MemoryPlan, SlotChoice};

/// Least time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Shares of less are chance.
const SLOT_SECONDS_TO_SPEAK_OF: f64 = 5.0;

/// Names cells and samples for people.
pub trait Names {
    /// `inpainting-center/d-flow/img-0007`.
    fn row(&self, unit: Unit) -> String;
}

/// The consumer of a run's events.
pub struct Progress<'a> {
    style: Style,
    names: &'a dyn Names,
    state: State,
    bars: Option<Bars>,
    last_line: Option<Instant>,
}

#[derive(Default)]
struct State {
    planned: usize,
    done_before: usize,
    finished: usize,
    failed: usize,
    started: Option<Instant>,
    /// Running samples of each device, with their evaluations and observed PSNR.
    running: BTreeMap<String, BTreeMap<Unit, (u32, Option<f64>)>>,
}

struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    devices: BTreeMap<String, ProgressBar>,
}

impl<'a> Progress<'a> {
    /// A consumer in the given style.
    pub fn new(style: Style, names: &'a dyn Names) -> Self {
        Self { style, names, state: State::default(), bars: None, last_line: None }
    }

    /// Takes note of one event and shows it.
    pub fn observe(&mut self, event: &RunEvent) {
        self.state.note(event);
        match self.style {
            Style::Json => print_json(&json::event(event, self.names)),
            Style::Quiet => {}
            Style::Bars => self.draw(event),
            Style::Lines => self.line(event),
        }
        if !matches!(self.style, Style::Json) {
            self.say_what_matters(event);
        }
    }

    /// Removes the bars and prints where the time went.
    pub fn end(&mut self, summary: &RunSummary) {
        if let Some(bars) = self.bars.take() {
            bars.all.clear().ok();
        }
        match self.style {
            Style::Json => print_json(&json::summary(summary)),
            Style::Quiet => {}
            Style::Bars | Style::Lines => eprint(&summary_text(summary)),
        }
    }

    fn draw(&mut self, event: &RunEvent) {
        if let RunEvent::Begin { devices, .. } = event {
            self.bars = Some(Bars::new(&self.state, devices));
        }
        if let Some(bars) = &self.bars {
            bars.update(&self.state, self.names);
        }
    }

    fn line(&mut self, event: &RunEvent) {
        let shown = match event {
            RunEvent::WorkerEnded { .. } => true,
            RunEvent::Finished { .. } | RunEvent::Progress { .. } | RunEvent::Begin { .. } => {
                self.last_line.is_none_or(|at| at.elapsed() >= LINE_EVERY)
            }
            _ => false,
        };
        if !shown {
            return;
        }
        self.last_line = Some(Instant::now());
        eprint(&self.state.line());
    }

    fn say_what_matters(&self, event: &RunEvent) {
        let text = match event {
            RunEvent::Finished { device, sample } => match &sample.error {
                Some(error) => format!("failed: {} on {device}: {error}", self.names.row(sample.unit)),
                None => return,
            },
            RunEvent::FewerSlots { device, slots } => {
                format!("{device}: out of memory; going on with {} in a call", text::count(*slots, "sample"))
            }
            RunEvent::NoTapes { device } => {
                format!(
                    "{device}: no memory for tapes; going on with network calls repeated for the pull-back"
                )
            }
            RunEvent::WorkerBroken { device, error, restart_in } => match restart_in {
                Some(seconds) => {
                    format!("{device}: the worker broke down: {error}; it starts again in {seconds:.0} s")
                }
                None => format!("{device}: the worker broke down: {error}; it is not started again"),
            },
            RunEvent::WorkerReady { device, slots, choice, memory, .. } if self.style != Style::Quiet => {
                let slots = slots_text(*slots, choice);
                format!("{device}: {slots}; {}", memory_text(*memory))
            }
            RunEvent::Layout { layouts, is_free } if self.style != Style::Quiet => {
                layout_text(layouts, *is_free)
            }
            RunEvent::Preparing { what } if self.style != Style::Quiet => what.clone(),
            RunEvent::Stopping { reason } => {
                format!("stopping: {reason}; running solves are checkpointed at their next evaluation")
            }
            _ => return,
        };
        match &self.bars {
            Some(bars) => bars.all.suspend(|| eprint(&text)),
            None => eprint(&text),
        }
    }
}

impl State {
    fn note(&mut self, event: &RunEvent) {
        match event {
            RunEvent::Begin { planned, done, .. } => {
                self.planned = *planned;
                self.done_before = *done;
                self.started = Some(Instant::now());
            }
            RunEvent::Started { device, unit, .. } => {
                self.running.entry(device.clone()).or_default().insert(*unit, (0, None));
            }
            RunEvent::Progress { device, unit, evals, psnr } => {
                self.running.entry(device.clone()).or_default().insert(*unit, (*evals, *psnr));
            }
            RunEvent::Finished { device, sample } => {
                self.finished += 1;
                self.failed += usize::from(sample.error.is_some());
                self.running.entry(device.clone()).or_default().remove(&sample.unit);
            }
            RunEvent::Suspended { device, unit } => {
                self.running.entry(device.clone()).or_default().remove(unit);
            }
            _ => {}
        }
    }

    fn done(&self) -> usize {
        self.done_before + self.finished
    }

    fn eta(&self) -> Option<Duration> {
        let elapsed = self.started?.elapsed();
        let left = self.planned.checked_sub(self.done())?;
        (self.finished > 0).then(|| elapsed.mul_f64(left as f64 / self.finished as f64))
    }

    fn rate(&self) -> f64 {
        let hours = self.started.map_or(0.0, |at| at.elapsed().as_secs_f64() / 3600.0);
        if hours > 0.0 { self.finished as f64 / hours } else { 0.0 }
    }

    fn line(&self) -> String {
        let eta = self.eta().map_or_else(|| "?".to_owned(), text::duration);
        let running: usize = self.running.values().map(BTreeMap::len).sum();
        format!(
            "{}/{} done, {} failed, {running} running, {:.0}/h, about {eta} left",
            self.done(),
            self.planned,
            self.failed,
            self.rate()
        )
    }
}

impl Bars {
    fn new(state: &State, devices: &[String]) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(5));
        let total = all.add(ProgressBar::new(state.planned as u64));
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}");
        total.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let devices = devices
            .iter()
            .map(|device| {
                let bar = all.add(ProgressBar::new_spinner());
                let style = ProgressStyle::with_template("  {prefix} {msg}");
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
                bar.set_prefix(device.clone());
                (device.clone(), bar)
            })
            .collect();
        Self { all, total, devices }
    }

    fn update(&self, state: &State, names: &dyn Names) {
        self.total.set_position(state.done() as u64);
        let eta = state.eta().map_or_else(|| "?".to_owned(), text::duration);
        self.total.set_message(format!("{} failed, {:.0}/h, about {eta} left", state.failed, state.rate()));
        for (device, bar) in &self.devices {
            bar.set_message(device_line(state.running.get(device), names));
        }
    }
}

fn device_line(running: Option<&BTreeMap<Unit, (u32, Option<f64>)>>, names: &dyn Names) -> String {
    let Some(running) = running.filter(|running| !running.is_empty()) else { return "idle".to_owned() };
    let Some((unit, (evals, psnr))) = running.iter().next() else { return "idle".to_owned() };
    let psnr = psnr.map_or_else(String::new, |db| format!(", {db:.1} dB"));
    format!("{} running; {}: {evals} evals{psnr}", running.len(), names.row(*unit))
}

fn slots_text(slots: usize, choice: &SlotChoice) -> String {
    let count = text::count(slots, "slot");
    match choice {
        SlotChoice::Asked => count,
        SlotChoice::Unmeasured(why) => format!("{count} (not measured: {why})"),
        SlotChoice::Measured { rates, has_pull_backs, earlier, was_busy, room } => {
            let listed: Vec<String> = rates.iter().map(|(rows, rate)| format!("{rows}: {rate:.1}")).collect();
            let room = if rates.iter().any(|(rows, _)| rows > room) {
                format!(" of {} that memory has room for", text::count(*room, "row"))
            } else {
                String::new()
            };
            let (call, how) = (call_text(*has_pull_backs), how_measured(*earlier, *was_busy));
            format!(
                "{count} (the fewest{room} within 3 % of the best; rows/s by rows in a call{call}: {}{how})",
                listed.join(", ")
            )
        }
    }
}

fn call_text(has_pull_backs: bool) -> &'static str {
    if has_pull_backs { " with pull-back" } else { "" }
}

fn how_measured(earlier: bool, was_busy: bool) -> String {
    let earlier = if earlier { ", measured by an earlier run" } else { "" };
    format!("{earlier}{}", if was_busy { ", while other processes used the cores" } else { "" })
}

fn layout_text(layouts: &Layouts, is_free: bool) -> String {
    let Layouts { workers, together, apart, has_pull_backs, earlier, was_busy } = *layouts;
    let what = if is_free && layouts.is_better_apart() {
        format!("these {workers} are used")
    } else if !is_free && layouts.is_much_better_apart() {
        format!("`devices: cpu:{workers}x1` would be faster")
    } else {
        "one is used".to_owned()
    };
    let (call, how) = (call_text(has_pull_backs), how_measured(earlier, was_busy));
    format!(
        "{workers} threads, network calls{call}: one worker {together:.1} rows/s, {workers} workers of one thread \
         {apart:.1} rows/s{how}; {what}"
    )
}

fn memory_text(plan: MemoryPlan) -> String {
    let size = text::bytes(plan.tape_bytes);
    let budget =
        plan.budget.map_or_else(String::new, |budget| format!(" of {} granted", text::bytes(budget)));
    if plan.kept {
        format!("keeps the tapes of all network calls ({size}{budget})")
    } else {
        format!("repeats network calls for the pull-back (tapes would take {size}{budget})")
    }
}

fn summary_text(summary: &RunSummary) -> String {
    let usage = summary.usage_of_all();
    let mut text = format!(
        "{} finished ({} failed), {} left, in {}",
        summary.finished,
        summary.failed,
        summary.left,
        text::duration(Duration::from_secs_f64(summary.seconds))
    );
    // Without a network there is nothing to compare with.
    if usage.busy_seconds > 0.0 && usage.network_seconds > 0.0 {
        text += &format!(
            "; {:.1} % of the workers' time outside network calls; slots idle {:.0} % of the time",
            100.0 * usage.outside_share(),
            100.0 * usage.slots.idle_share(),
        );
        // Where all samples begin at once there is no such time to speak of.
        if usage.slots_until_last.seconds > SLOT_SECONDS_TO_SPEAK_OF {
            let idle = 100.0 * usage.slots_until_last.idle_share();
            text += &format!(", {idle:.0} % until the last samples began");
        }
    }
    text
}

/// Writes one line to stderr; a closed stderr is no reason to lose a run.
fn eprint(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn print_json(value: &serde_json::Value) {
    super::stdout::print(&value.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::protocol::{SlotTime, Usage};

    #[test]
    fn the_choice_between_tape_and_recompute_is_said_with_its_numbers() {
        let plan = |kept, budget| MemoryPlan { kept, tape_bytes: 61_400_000, budget };
        for (kept, budget, text) in [
            (true, Some(12_400_000_000), "keeps the tapes of all network calls (61.4 MB of 12.4 GB granted)"),
            (true, None, "keeps the tapes of all network calls (61.4 MB)"),
            (
                false,
                Some(50_000_000),
                "repeats network calls for the pull-back (tapes would take 61.4 MB of 50.0 MB granted)",
            ),
            (false, None, "repeats network calls for the pull-back (tapes would take 61.4 MB)"),
        ] {
            assert_eq!(memory_text(plan(kept, budget)), text);
        }
    }

    #[test]
    fn the_faster_layout_is_used_or_advised() {
        let quiet = Layouts {
            workers: 2,
            together: 100.0,
            apart: 112.0,
            has_pull_backs: true,
            earlier: false,
            was_busy: false,
        };
        let text = |apart, is_free| layout_text(&Layouts { apart, ..quiet }, is_free);
        let measured =
            "2 threads, network calls with pull-back: one worker 100.0 rows/s, 2 workers of one thread ";
        for (apart, is_free, end) in [
            (112.0, true, "112.0 rows/s; these 2 are used"),
            (112.0, false, "112.0 rows/s; `devices: cpu:2x1` would be faster"),
            (100.0, true, "100.0 rows/s; these 2 are used"),
            (104.0, false, "104.0 rows/s; one is used"),
            (99.0, true, "99.0 rows/s; one is used"),
            (90.0, false, "90.0 rows/s; one is used"),
        ] {
            assert_eq!(text(apart, is_free), format!("{measured}{end}"));
        }
        let busy = Layouts { was_busy: true, earlier: true, has_pull_backs: false, ..quiet };
        assert_eq!(
            layout_text(&busy, true),
            "2 threads, network calls: one worker 100.0 rows/s, 2 workers of one thread 112.0 rows/s, measured by an earlier \
             run, while other processes used the cores; one is used"
        );
    }

    #[test]
    fn the_number_of_slots_is_said_with_its_reason() {
        assert_eq!(slots_text(3, &SlotChoice::Asked), "3 slots");
        let none = SlotChoice::Unmeasured("no network is called".to_owned());
        assert_eq!(slots_text(1, &none), "1 slot (not measured: no network is called)");
        let measured = |earlier, room| SlotChoice::Measured {
            rates: vec![(1, 20.04), (2, 39.0), (4, 39.5)],
            has_pull_backs: true,
            earlier,
            was_busy: false,
            room,
        };
        assert_eq!(
            slots_text(2, &measured(false, 4)),
            "2 slots (the fewest within 3 % of the best; rows/s by rows in a call with pull-back: 1: 20.0, 2: 39.0, 4: 39.5)"
        );
        assert_eq!(
            slots_text(2, &measured(true, 3)),
            "2 slots (the fewest of 3 rows that memory has room for within 3 % of the best; rows/s by rows in a call \
             with pull-back: 1: 20.0, 2: 39.0, 4: 39.5, measured by an earlier run)"
        );
    }

    #[test]
    fn the_end_says_where_the_time_of_all_workers_went() {
        let slots = |seconds, idle_seconds| SlotTime { seconds, idle_seconds };
        let usage = |busy_seconds, network_seconds| Usage {
            busy_seconds,
            network_seconds,
            slots: slots(400.0, 40.0),
            slots_until_last: slots(300.0, 3.0),
        };
        let summary = RunSummary {
            finished: 7,
            seconds: 101.0,
            usage: vec![usage(100.0, 99.0), usage(50.0, 49.0)],
            ..RunSummary::default()
        };
        assert_eq!(
            summary_text(&summary),
            "7 finished (0 failed), 0 left, in 1 min 41 s; 1.3 % of the workers' time outside network calls; slots idle \
             10 % of the time, 1 % until the last samples began"
        );
        let end = json::summary(&summary);
        assert_eq!(
            (&end["idle_slot_share"], &end["idle_slot_share_until_last"]),
            (&0.1.into(), &0.01.into())
        );
        assert!(
            end["outside_network_share"].as_f64().is_some_and(|share| (share - 2.0 / 150.0).abs() < 1e-12)
        );
        assert!(!summary_text(&RunSummary::default()).contains("network"));
    }
}
