//! Workers as child processes, one per GPU: a poisoned CUDA context, or a device that hangs, takes one worker with it.
//!
//! The parent speaks the worker's protocol through stdin and stdout (`worker::pipe`); the first message says what the
//! child is to open. A child whose parent is gone sees its stdin close, checkpoints and ends.

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use serde::{Deserialize, Serialize};

use super::device::Device;
use super::protocol::{Cause, Command, Event};
use super::{Settings, pipe};
use crate::plan::{CellHash, Plan};
use crate::run::Launch;
use crate::store::RunDir;
use crate::store::run_dir::{Part, Written};

/// Time between two looks whether a child has ended that has closed its output.
const END_STEP: Duration = Duration::from_millis(5);

/// What a child process opens: it resolves the pipeline anew, and must find the same plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setup {
    /// The pipeline as written.
    pub pipeline: Written,
    /// Folder of the shipped datasets and models; none: found as the program finds it.
    pub home: Option<PathBuf>,
    /// Folder of the user's data.
    pub data: Option<PathBuf>,
    /// The run directory.
    pub run: PathBuf,
    /// The part of the run that this is.
    pub part: Option<Part>,
    /// The plan's cells, in order: those of the units that the child will be told.
    pub cells: Vec<CellHash>,
    /// The plan's number of samples.
    pub samples: usize,
    /// Settings of every worker.
    pub settings: Settings,
}

impl Setup {
    /// Everything that a child needs to know of a run.
    pub fn new(
        plan: &Plan,
        pipeline: Written,
        (home, data): (Option<PathBuf>, Option<PathBuf>),
        run_dir: &RunDir,
        settings: Settings,
    ) -> Self {
        Self {
            pipeline,
            home,
            data,
            run: run_dir.layout().root().to_owned(),
            part: run_dir.part().cloned(),
            cells: plan.cells.iter().map(|cell| cell.hash).collect(),
            samples: plan.dataset.samples.len(),
            settings,
        }
    }
}

/// The first message to a child.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Opening {
    pub(super) setup: Setup,
    pub(super) device: Device,
    /// Workers that share this machine's memory.
    pub(super) workers: usize,
}

/// Starts one child process per device.
pub struct Processes {
    /// The program, and the arguments that make it a worker.
    pub program: PathBuf,
    /// See there.
    pub arguments: Vec<String>,
    /// What every child opens.
    pub setup: Setup,
    /// The devices, in the dispatcher's order.
    pub devices: Vec<Device>,
    /// The newest child of each device.
    children: Mutex<BTreeMap<usize, SharedChild>>,
}

/// Two threads know it: one waits for its end, the other may bring it about.
type SharedChild = Arc<Mutex<Child>>;

impl Launch for Processes {
    fn launch(
        &self,
        index: usize,
        commands: Receiver<Command>,
        events: Sender<(usize, Event)>,
    ) -> Result<(), String> {
        let device = self.devices[index].clone();
        let opening = Opening { setup: self.setup.clone(), device, workers: self.devices.len() };
        let (child, stdin, stdout) = self.spawn(&opening.device)?;
        let child = Arc::new(Mutex::new(child));
        locked(&self.children).insert(index, Arc::clone(&child));
        let name = format!("worker-{index}");
        let to_child = move || {
            let mut stdin = stdin;
            // A pipe that is closed is a child that is gone: its end is told by the other thread.
            let _ = pipe::write(&mut stdin, &opening)
                .and_then(|()| commands.iter().try_for_each(|command| pipe::write(&mut stdin, &command)));
        };
        let from_child = move || {
            let say = |event| {
                let _ = events.send((index, event));
            };
            if let Some(error) = forward(stdout, &say, &child) {
                say(Event::Broken { cause: Cause::Crash, error });
            }
        };
        let threads = thread::Builder::new().name(name.clone()).spawn(to_child);
        let threads = threads.and_then(|_| thread::Builder::new().name(name).spawn(from_child));
        threads.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
    }

    fn can_kill(&self, index: usize) -> bool {
        self.devices[index].kind.visible().is_some()
    }

    fn kill(&self, index: usize) {
        if let Some(child) = locked(&self.children).get(&index) {
            // An error says that it has ended.
            let _ = locked(child).kill();
        }
    }
}

impl Processes {
    /// Starts `program` with `arguments` for each of `devices`.
    pub fn new(program: PathBuf, arguments: Vec<String>, setup: Setup, devices: Vec<Device>) -> Self {
        Self { program, arguments, setup, devices, children: Mutex::default() }
    }

    fn spawn(&self, device: &Device) -> Result<(Child, ChildStdin, ChildStdout), String> {
        let mut command = std::process::Command::new(&self.program);
        // Lists of processes show this name.
        command.arg0("dflow").args(&self.arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(visible) = device.kind.visible() {
            command.env("CUDA_VISIBLE_DEVICES", visible);
        }
        let refused = |error| format!("cannot start {} for {}: {error}", self.program.display(), device.name);
        let mut child = command.spawn().map_err(refused)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        Ok((child, stdin.expect("it is piped"), stdout.expect("it is piped")))
    }
}

/// Forwards what a child says until its end; the error of one that ended without a last word.
fn forward(stdout: ChildStdout, say: &dyn Fn(Event), child: &SharedChild) -> Option<String> {
    let (mut stdout, mut has_ended) = (BufReader::new(stdout), false);
    let strange = loop {
        match pipe::read::<Event>(&mut stdout) {
            Ok(Some(event)) => {
                has_ended |= matches!(event, Event::Ended(_) | Event::Broken { .. });
                say(event);
            }
            Ok(None) => break None,
            Err(error) => {
                // It cannot be understood any more; what it had made durable stays.
                let _ = locked(child).kill();
                break Some(error.to_string());
            }
        }
    };
    let id = locked(child).id();
    let status = end(child);
    if has_ended {
        return None;
    }
    let how = match (strange, status) {
        (Some(strange), _) => strange,
        (None, Ok(status)) => end_of(status),
        (None, Err(error)) => error.to_string(),
    };
    Some(format!("its process ({id}) {how}"))
}

/// Waits for the end of a child that has nothing more to say: in steps, so that it can be killed meanwhile.
fn end(child: &SharedChild) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = locked(child).try_wait()? {
            return Ok(status);
        }
        thread::sleep(END_STEP);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind it is whole also where a thread has panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a process ended, in words.
fn end_of(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(9), _) => "was killed (signal 9): out of memory, or by hand".to_owned(),
        (Some(signal), _) => format!("was ended by signal {signal}"),
        (None, Some(code)) => format!("ended with exit code {code}: its messages stand above"),
        (None, None) => "ended".to_owned(),
    }
}
