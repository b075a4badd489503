//! Shows a run while it goes on.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Style, json, text};
use crate::plan::Unit;
use crate::run::event::{RunEvent, RunSummary};
use crate::worker::protocol::MemoryPlan;

/// Least time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

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
            RunEvent::WorkerReady { device, slots, memory, .. } if self.style != Style::Quiet => {
                format!("{device}: {}; {}", text::count(*slots, "slot"), memory_text(*memory))
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
    let busy: f64 = summary.usage.iter().map(|usage| usage.busy_seconds).sum();
    let network: f64 = summary.usage.iter().map(|usage| usage.network_seconds).sum();
    let idle: f64 =
        summary.usage.iter().map(|usage| usage.idle_share).sum::<f64>() / summary.usage.len().max(1) as f64;
    let mut text = format!(
        "{} finished ({} failed), {} left, in {}",
        summary.finished,
        summary.failed,
        summary.left,
        text::duration(Duration::from_secs_f64(summary.seconds))
    );
    // Without a network there is nothing to compare with.
    if busy > 0.0 && network > 0.0 {
        text += &format!(
            "; {:.1} % of the workers' time outside network calls, {:.0} % of slot time idle",
            100.0 * (1.0 - network / busy).max(0.0),
            100.0 * idle
        );
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
