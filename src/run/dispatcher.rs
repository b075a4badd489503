//! Drives a [`Scheduler`] with real workers: two kinds of channel, a clock, and no shared state.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, after, never, select, unbounded};

use super::event::{RunEvent, RunSummary};
use super::scheduler::{Action, LOOK_EVERY, Limits, Scheduler};
use super::signal::StopRequest;
use crate::plan::Unit;
use crate::worker::protocol::{Cause, Command, Event};

/// Starts workers; a thread, a child process, or a stand-in in tests.
pub trait Launch {
    /// Starts the worker of one device, or starts it again after it broke down. It reads commands until the channel
    /// closes, and tags its events with `index`. Its last event is `Ended` or `Broken`.
    ///
    /// # Errors
    /// When the worker cannot be started; the text says why.
    fn launch(
        &self,
        index: usize,
        commands: Receiver<Command>,
        events: Sender<(usize, Event)>,
    ) -> Result<(), String>;

    /// Whether the worker of a device can be ended from outside.
    fn can_kill(&self, _index: usize) -> bool {
        false
    }

    /// Ends the worker of a device that does not listen any more, if it can be ended from outside.
    fn kill(&self, _index: usize) {}
}

/// One run.
pub struct Dispatcher<'a> {
    scheduler: Scheduler,
    /// Where each worker listens.
    commands: Vec<Option<Sender<Command>>>,
    observer: &'a mut dyn FnMut(&RunEvent),
    clock: Instant,
}

impl<'a> Dispatcher<'a> {
    /// A run of `units`, in this order, on `devices`.
    pub fn new(
        units: Vec<Unit>,
        devices: &[String],
        limits: Limits,
        observer: &'a mut dyn FnMut(&RunEvent),
    ) -> Self {
        let scheduler = Scheduler::new(units, devices, limits);
        Self { scheduler, commands: vec![None; devices.len()], observer, clock: Instant::now() }
    }

    /// Runs until every sample is durable, every worker is gone for good, or a stop is asked for.
    pub fn run(mut self, launch: &dyn Launch, stop: &Receiver<StopRequest>) -> RunSummary {
        let (sender, events) = unbounded();
        let mut stop = stop.clone();
        let spared = (0..self.commands.len()).filter(|index| !launch.can_kill(*index));
        spared.for_each(|index| self.scheduler.spare(index));
        loop {
            self.act(launch, &sender);
            if self.scheduler.is_over() {
                break;
            }
            select! {
                recv(events) -> message => {
                    let (index, event) = message.expect("this function holds a sender");
                    self.scheduler.handle(self.clock.elapsed(), index, event);
                }
                recv(stop) -> request => match request {
                    Ok(request) => self.scheduler.stop(self.clock.elapsed(), &request.to_string()),
                    Err(_) => stop = never(),
                },
                recv(after(self.patience())) -> _ => self.tick(&events),
            }
        }
        self.scheduler.summary(self.clock.elapsed())
    }

    /// Time until the scheduler has something to do by itself, or is to see that it is not forgotten.
    fn patience(&self) -> Duration {
        let wake_at = self.scheduler.wake_at();
        wake_at.map_or(LOOK_EVERY, |at| at.saturating_sub(self.clock.elapsed()).min(LOOK_EVERY))
    }

    /// Time has passed. First what workers have said meanwhile: none of them is silent because nobody listened.
    fn tick(&mut self, events: &Receiver<(usize, Event)>) {
        for (index, event) in events.try_iter() {
            self.scheduler.handle(self.clock.elapsed(), index, event);
        }
        self.scheduler.tick(self.clock.elapsed());
    }

    fn act(&mut self, launch: &dyn Launch, events: &Sender<(usize, Event)>) {
        loop {
            let actions = self.scheduler.actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    Action::Launch(index) => self.launch(index, launch, events),
                    Action::Tell(index, command) => {
                        // A worker that is gone reports itself by its last event.
                        let _ = self.commands[index].as_ref().map(|commands| commands.send(command));
                    }
                    Action::Kill(index) => launch.kill(index),
                    Action::Show(event) => (self.observer)(&event),
                }
            }
        }
    }

    fn launch(&mut self, index: usize, launch: &dyn Launch, events: &Sender<(usize, Event)>) {
        let (commands, receiver) = unbounded();
        self.commands[index] = Some(commands);
        if let Err(error) = launch.launch(index, receiver, events.clone()) {
            let event = Event::Broken { cause: Cause::Start, error };
            self.scheduler.handle(self.clock.elapsed(), index, event);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::thread;

    use super::*;
    use crate::worker::protocol::{Finished, MemoryPlan, SlotChoice, Usage};

    /// Workers without work, on threads: each ends its samples at once; the first launches break down at their third.
    #[derive(Default)]
    struct Mock {
        break_downs: usize,
        launched: AtomicUsize,
        solved: Arc<Mutex<Vec<Unit>>>,
    }

    impl Launch for Mock {
        fn launch(
            &self,
            index: usize,
            commands: Receiver<Command>,
            events: Sender<(usize, Event)>,
        ) -> Result<(), String> {
            let breaks = self.launched.fetch_add(1, Ordering::Relaxed) < self.break_downs;
            let solved = Arc::clone(&self.solved);
            thread::spawn(move || {
                let say = |event| events.send((index, event)).unwrap();
                say(Event::Ready {
                    device: String::new(),
                    slots: 2,
                    choice: SlotChoice::default(),
                    memory: MemoryPlan::default(),
                    attempt: String::new(),
                    pid: 0,
                });
                let mut left = if breaks { 2 } else { usize::MAX };
                for command in commands {
                    match command {
                        Command::Solve { .. } if left == 0 => {
                            let error = "pulled the plug".to_owned();
                            return say(Event::Broken { cause: Cause::Store, error });
                        }
                        Command::Solve { unit, .. } => {
                            left -= 1;
                            solved.lock().unwrap().push(unit);
                            let (error, stop_reason, psnr) = (None, None, None);
                            say(Event::Started { unit, resumed: false });
                            say(Event::Finished(Finished {
                                unit,
                                error,
                                stop_reason,
                                evals: 1,
                                seconds: 0.0,
                                psnr,
                            }));
                        }
                        Command::Recall(_) | Command::Fail { .. } => {}
                        Command::Stop | Command::Finish => break,
                    }
                }
                say(Event::Ended(Usage::default()));
            });
            Ok(())
        }
    }

    #[test]
    fn every_sample_is_solved_once_on_any_number_of_workers() {
        for (devices, break_downs) in [(1, 0), (3, 0), (1, 1), (2, 2)] {
            let mock = Mock { break_downs, ..Mock::default() };
            let units: Vec<Unit> = (0..40).map(|sample| Unit { cell: 0, sample }).collect();
            let names: Vec<String> = (0..devices).map(|i| format!("mock:{i}")).collect();
            let mut restarts = 0;
            let mut observe =
                |event: &RunEvent| restarts += usize::from(matches!(event, RunEvent::WorkerBroken { .. }));
            let dispatcher = Dispatcher::new(units.clone(), &names, Limits::default(), &mut observe);
            let summary = dispatcher.run(&mock, &never());
            let solved = mock.solved.lock().unwrap();
            assert_eq!(solved.iter().copied().collect::<BTreeSet<_>>(), units.into_iter().collect());
            assert_eq!((solved.len(), summary.finished, summary.left, restarts), (40, 40, 0, break_downs));
        }
    }

    #[test]
    fn a_worker_that_cannot_be_launched_is_one_that_broke_down() {
        struct Refuses;
        impl Launch for Refuses {
            fn launch(
                &self,
                _: usize,
                _: Receiver<Command>,
                _: Sender<(usize, Event)>,
            ) -> Result<(), String> {
                Err("no such program".to_owned())
            }
        }
        let limits = Limits { max_restarts: 0, ..Limits::default() };
        let mut observe = |_: &RunEvent| {};
        let units = vec![Unit { cell: 0, sample: 0 }];
        let summary =
            Dispatcher::new(units, &["mock:0".to_owned()], limits, &mut observe).run(&Refuses, &never());
        assert_eq!((summary.left, summary.broken), (1, vec!["mock:0: no such program".to_owned()]));
    }
}
