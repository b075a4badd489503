//! What is printed on stdout, and whether it got there.

use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Why stdout did not take something, the first time that it did not.
static REFUSED: OnceLock<io::Error> = OnceLock::new();

/// Prints a text, with an end of line; false if it did not get there. That a reader has gone away (`| head`) is no
/// error: it has read what it wanted. Anything else [`refused`] tells.
pub fn print(text: &str) -> bool {
    let mut out = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let written = out
        .write_all(text.as_bytes())
        .and_then(|()| out.write_all(end.as_bytes()))
        .and_then(|()| out.flush());
    let Err(error) = written else { return true };
    if error.kind() != ErrorKind::BrokenPipe {
        // The first tells most.
        let _ = REFUSED.set(error);
    }
    false
}

/// Why something that was printed is not whole, if it is not.
pub fn refused() -> Option<&'static io::Error> {
    REFUSED.get()
}

/// Whether somebody may still read what is printed: whoever prints nothing for long does not learn it from a write.
pub fn has_reader() -> bool {
    let out = io::stdout();
    let mut ends = [PollFd::new(&out, PollFlags::empty())];
    match poll(&mut ends, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(_) => !ends[0].revents().intersects(PollFlags::ERR | PollFlags::HUP),
        Err(_) => true,
    }
}
