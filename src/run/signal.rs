//! Stop requests from the system: the first INT, TERM or USR1 checkpoints, a second INT ends at once.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

/// Why a run should stop at the next evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopRequest {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGUSR1: Slurm's warning before the time limit.
    Warning,
}

impl fmt::Display for StopRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "interrupted (INT)",
            Self::Terminate => "asked to terminate (TERM)",
            Self::Warning => "warned of the time limit (USR1)",
        })
    }
}

/// Whether a stop was asked for since it listens: for loops on several threads, which ask now and then.
#[derive(Debug)]
pub struct Latch {
    requests: Receiver<StopRequest>,
    is_set: AtomicBool,
}

impl Latch {
    /// As [`listen`].
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self { requests: listen()?, is_set: AtomicBool::new(false) })
    }

    /// Once true, for good.
    pub fn is_set(&self) -> bool {
        if self.requests.try_recv().is_ok() {
            self.is_set.store(true, Ordering::Relaxed);
        }
        self.is_set.load(Ordering::Relaxed)
    }
}

/// Listens from now on; a second INT ends the process with 130 without waiting for the workers.
///
/// # Errors
/// When the system refuses the handlers.
pub fn listen() -> std::io::Result<Receiver<StopRequest>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1])?;
    let (sender, receiver) = bounded(4);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut interrupts = 0;
        for signal in signals.forever() {
            interrupts += u32::from(signal == SIGINT);
            if interrupts > 1 {
                // What is durable stays so: a record is whole or absent.
                std::process::exit(crate::exit::INTERRUPTED);
            }
            let request = match signal {
                SIGINT => StopRequest::Interrupt,
                SIGTERM => StopRequest::Terminate,
                _ => StopRequest::Warning,
            };
            // A full channel means that a stop is under way already.
            let _ = sender.try_send(request);
        }
    })?;
    Ok(receiver)
}
