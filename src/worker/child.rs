//! The other end of [`super::process`]: a worker that is a process of its own.

use std::io::{BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use crossbeam_channel::{Receiver, unbounded};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};

use super::assembly::Assembly;
use super::process::{Opening, Setup};
use super::protocol::{Cause, Command, Event};
use super::{Worker, last_event, pipe, thread_pool};
use crate::catalog::Catalog;
use crate::plan::{Plan, Shard};
use crate::spec::diagnostic::Source;
use crate::spec::document::Document;
use crate::store::RunDir;

/// Serves one parent through these pipes until it says so or closes the input.
///
/// Signals that a batch system or a terminal sends to every process of a job are left to the parent, which passes
/// them on as a command.
///
/// # Errors
/// When the first message cannot be read; everything later is told to the parent.
pub fn serve(input: impl Read + Send + 'static, mut output: impl Write) -> Result<(), String> {
    let ignored = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGUSR1] {
        signal_hook::flag::register(signal, Arc::clone(&ignored)).map_err(|error| error.to_string())?;
    }
    let mut input = BufReader::new(input);
    let opening: Option<Opening> = pipe::read(&mut input).map_err(|error| error.to_string())?;
    let opening =
        opening.ok_or("this command is started by `dflow run` for each of its devices, not by hand")?;
    let commands = listen(input);
    let (events, said) = unbounded();
    thread::scope(|scope| {
        scope.spawn(move || {
            let say = |event| drop(events.send(event));
            say(work(&opening, &commands, &say));
        });
        for event in said {
            // A parent that is gone needs no events: the input closes as well.
            let _ = pipe::write(&mut output, &event);
        }
    });
    Ok(())
}

/// Reads commands on a thread of its own; the channel closes with the input.
fn listen(mut input: impl Read + Send + 'static) -> Receiver<Command> {
    let (sender, commands) = unbounded();
    thread::spawn(move || {
        while let Ok(Some(command)) = pipe::read(&mut input) {
            if sender.send(command).is_err() {
                return;
            }
        }
    });
    commands
}

fn work(opening: &Opening, commands: &Receiver<Command>, say: &(dyn Fn(Event) + Sync)) -> Event {
    let Opening { setup, device, workers } = opening;
    let prepared = open(setup).and_then(|ready| Ok((ready, thread_pool(device)?)));
    let ((assembly, run_dir), pool) = match prepared {
        Ok(ready) => ready,
        Err(error) => return Event::Broken { cause: Cause::Start, error },
    };
    pool.install(|| {
        last_event(|| {
            Worker::start(&assembly, &run_dir, device, &setup.settings, *workers, say)?.work(commands)
        })
    })
}

/// Opens what the parent has opened.
fn open(setup: &Setup) -> Result<(Assembly, RunDir), String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let source = Source { name: setup.pipeline.file.clone(), text: setup.pipeline.text.clone() };
    let mut document = Document::parse(source).map_err(|error| said(&error))?;
    for set in &setup.pipeline.set {
        document.set(set).map_err(|error| said(&error))?;
    }
    let catalog = Catalog::new(setup.home.as_deref(), setup.data.as_deref());
    let plan = Plan::resolve(&document, &catalog).map_err(|error| said(&error))?;
    let is_same = plan.cells.iter().map(|cell| cell.hash).eq(setup.cells.iter().copied())
        && plan.dataset.samples.len() == setup.samples;
    if !is_same {
        return Err("data or weights have changed since the run began: start it again".to_owned());
    }
    let run_dir = RunDir::existing(&setup.run).map_err(|error| said(&error))?;
    let run_dir = setup.part.iter().fold(run_dir, |run_dir, part| run_dir.with_part(part.clone()));
    let assembly = Assembly::new(plan, &document.spec.dataset, &catalog)?;
    let units: Vec<_> = assembly.plan().units(Shard::WHOLE).collect();
    for what in assembly.prepare(&units) {
        tracing::debug!("{what}");
    }
    Ok((assembly, run_dir))
}
