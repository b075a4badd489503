//! What is wrong in a pipeline file, and where: messages with file:line:column, the line itself and a caret.

use std::fmt;

/// A text with the name it is known by (a path, or what the user typed).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Shown before line and column.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// A stretch of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters covered; at least 1.
    pub width: usize,
}

/// Where a wrong value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The file.
    File(Position),
    /// A `--set` argument, as typed.
    Set(String),
    /// Somewhere in the file.
    Unknown,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub place: Place,
    /// What to do, where the message does not say it.
    pub help: Option<String>,
}

/// Everything that is wrong in one file; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    /// The file.
    pub source: Source,
    /// Its errors, in the order of the file.
    pub list: Vec<Diagnostic>,
}

impl std::error::Error for Diagnostics {}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.list.len() > 1 {
            writeln!(f, "{} errors in {}", self.list.len(), self.source.name)?;
        }
        for (i, diagnostic) in self.list.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            diagnostic.write(f, &self.source)?;
        }
        Ok(())
    }
}

impl Diagnostic {
    fn write(&self, f: &mut fmt::Formatter<'_>, source: &Source) -> fmt::Result {
        let Self { message, place, help } = self;
        match place {
            Place::File(position) => {
                writeln!(f, "{}:{}:{}: {message}", source.name, position.line, position.column)?;
                write_snippet(f, source, *position)?;
            }
            Place::Set(text) => writeln!(f, "--set {text}: {message}")?,
            Place::Unknown => writeln!(f, "{}: {message}", source.name)?,
        }
        match help {
            Some(help) => writeln!(f, "  = help: {help}"),
            None => Ok(()),
        }
    }
}

/// Characters of a long line that are shown.
const WINDOW: usize = 100;

/// The line of `position` with a caret below; a long line is cut to a window about the caret.
fn write_snippet(f: &mut fmt::Formatter<'_>, source: &Source, position: Position) -> fmt::Result {
    let Some(line) = source.text.lines().nth(position.line - 1) else { return Ok(()) };
    // One column a character, so that the caret stands below what it means.
    let line: Vec<char> = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let column = (position.column - 1).min(line.len());
    let start = if line.len() > WINDOW { column.saturating_sub(WINDOW / 2) } else { 0 };
    let end = line.len().min(start + WINDOW);
    let (before, after) = (if start > 0 { "…" } else { "" }, if end < line.len() { "…" } else { "" });
    let shown: String = line[start..end].iter().collect();
    let number = position.line.to_string();
    let margin = " ".repeat(number.len());
    let indent = " ".repeat(column - start + before.chars().count());
    let carets = "^".repeat(position.width.clamp(1, (end - column).max(1)));
    writeln!(f, "{margin} |\n{number} | {before}{shown}{after}\n{margin} | {indent}{carets}")
}

/// The candidate nearest to a mistyped name, if any is near.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.chars().count() / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

/// "did you mean …?" where a name is near, then every name there is.
pub fn names_help(name: &str, candidates: &[&str]) -> String {
    let all = candidates.join(", ");
    match nearest(name, candidates.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? There are: {all}"),
        None => format!("there are: {all}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, line: usize, column: usize, width: usize) -> String {
        let source = Source { name: "p.yaml".to_owned(), text: text.to_owned() };
        let place = Place::File(Position { line, column, width });
        let diagnostic = Diagnostic { message: "wrong".to_owned(), place, help: Some("mend it".to_owned()) };
        Diagnostics { source, list: vec![diagnostic] }.to_string()
    }

    #[test]
    fn the_caret_stands_below_the_value() {
        let expected = "p.yaml:2:7: wrong\n  |\n2 | σ_y:  -1\n  |       ^^\n  = help: mend it\n";
        assert_eq!(shown("a: 1\nσ_y:  -1\n", 2, 7, 2), expected);
    }

    #[test]
    fn a_long_line_is_cut_about_the_caret() {
        let text = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let shown = shown(&text, 1, 501, 1);
        let lines: Vec<&str> = shown.lines().collect();
        let caret = lines[3].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[2].chars().nth(caret), Some('X'));
        assert!(lines[2].chars().count() < 120);
    }

    #[test]
    fn positions_beyond_the_text_do_not_panic() {
        for (line, column) in [(1, 99), (7, 1)] {
            assert!(shown("a: 1", line, column, 5).contains("wrong"));
        }
    }

    #[test]
    fn only_near_names_are_proposed() {
        let names = ["center_mask", "random_mask", "bicubic"];
        assert_eq!(nearest("centre_mask", names), Some("center_mask"));
        assert_eq!(nearest("Bicubic", names), Some("bicubic"));
        assert_eq!(nearest("motion_blur", names), None);
    }
}
