//! A terminal that is redrawn in place.

use std::io::{self, Write};

/// The screen while something is watched; gives the cursor back when it is dropped.
#[derive(Debug)]
pub struct Screen<W: Write> {
    out: W,
    is_begun: bool,
}

const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";
const CLEAR: &str = "\x1b[2J";
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

impl<W: Write> Screen<W> {
    /// A screen that is not touched before the first frame.
    pub fn new(out: W) -> Self {
        Self { out, is_begun: false }
    }

    /// Draws a frame over the one before in a single write: nothing flickers.
    ///
    /// # Errors
    /// A terminal that is gone.
    pub fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let begin = if self.is_begun { HOME.to_owned() } else { format!("{HIDE_CURSOR}{CLEAR}{HOME}") };
        self.is_begun = true;
        let body: String = lines.iter().map(|line| format!("{line}{CLEAR_LINE}\n")).collect();
        self.out.write_all(format!("{begin}{body}{CLEAR_BELOW}").as_bytes())?;
        self.out.flush()
    }
}

impl<W: Write> Drop for Screen<W> {
    fn drop(&mut self) {
        if self.is_begun {
            // A terminal that is gone needs no cursor.
            let _ = self.out.write_all(SHOW_CURSOR.as_bytes()).and_then(|()| self.out.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_covers_the_one_before_and_the_cursor_comes_back() {
        let mut out = Vec::new();
        let mut screen = Screen::new(&mut out);
        screen.draw(&["one".to_owned(), "two".to_owned()]).unwrap();
        screen.draw(&["1".to_owned()]).unwrap();
        drop(screen);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "\x1b[?25l\x1b[2J\x1b[Hone\x1b[K\ntwo\x1b[K\n\x1b[J\x1b[H1\x1b[K\n\x1b[J\x1b[?25h");
        let mut out = Vec::new();
        drop(Screen::new(&mut out));
        assert!(out.is_empty(), "what was never drawn leaves no trace");
    }
}
