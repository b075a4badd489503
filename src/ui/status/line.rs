//! One line of a view, cut to a width, with or without colour.

use std::fmt::Write;

/// How a part of a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    Bold,
    Dim,
    Good,
    Bad,
}

impl Look {
    /// The terminal's code; none for plain text.
    const fn code(self) -> Option<u8> {
        match self {
            Self::Plain => None,
            Self::Bold => Some(1),
            Self::Dim => Some(2),
            Self::Good => Some(32),
            Self::Bad => Some(31),
        }
    }
}

/// A line under construction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Line(Vec<(Look, String)>);

impl Line {
    /// A line of plain text.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::default().with(Look::Plain, text)
    }

    /// With more text at its end.
    #[must_use]
    pub(super) fn with(mut self, look: Look, text: impl Into<String>) -> Self {
        self.0.push((look, one_line(&text.into())));
        self
    }

    /// With spaces up to a column.
    #[must_use]
    pub(super) fn padded_to(self, column: usize) -> Self {
        let missing = column.saturating_sub(self.width());
        self.with(Look::Plain, " ".repeat(missing))
    }

    /// With more text that ends at a column, if there is room for it.
    #[must_use]
    pub(super) fn ending_at(self, column: usize, look: Look, text: &str) -> Self {
        let begin = column.saturating_sub(width(text));
        if begin <= self.width() { self } else { self.padded_to(begin).with(look, text) }
    }

    /// Signs of the whole line.
    pub(super) fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| width(text)).sum()
    }

    /// The line in at most `limit` signs.
    pub(super) fn render(&self, limit: usize, colour: bool) -> String {
        let mut out = String::new();
        let mut left = limit;
        for (i, (look, text)) in self.0.iter().enumerate() {
            let rest: usize = self.0[i..].iter().map(|(_, text)| width(text)).sum();
            let text = if rest > left && width(text) >= left { cut(text, left) } else { text.clone() };
            left -= width(&text);
            match look.code().filter(|_| colour && !text.is_empty()) {
                Some(code) => {
                    let _ = write!(out, "\x1b[{code}m{text}\x1b[0m");
                }
                None => out.push_str(&text),
            }
        }
        if colour { out } else { out.trim_end().to_owned() }
    }
}

/// What would move the cursor or change colours becomes a space: errors come from anywhere.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|sign| if sign.is_control() { ' ' } else { sign }).collect()
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Text in at most `limit` signs; `…` stands for what is left out.
pub(super) fn cut(text: &str, limit: usize) -> String {
    if width(text) <= limit {
        return text.to_owned();
    }
    let kept = text.chars().take(limit.saturating_sub(1));
    kept.chain((limit > 0).then_some('…')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_once_and_never_longer_than_asked() {
        let line = Line::text("abc").with(Look::Bad, "defgh").with(Look::Plain, "ij");
        assert_eq!(line.render(10, false), "abcdefghij");
        assert_eq!(line.render(6, false), "abcde…");
        for limit in 0..12 {
            assert!(line.render(limit, false).chars().count() <= limit, "{limit}");
        }
        assert_eq!(line.render(10, true), "abc\x1b[31mdefgh\x1b[0mij");
    }

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(Line::text("a\x1b[2J\nb\tc").render(80, false), "a [2J b c");
    }

    #[test]
    fn text_stands_in_columns() {
        assert_eq!(Line::text("ab").padded_to(4).with(Look::Plain, "c").render(80, false), "ab  c");
        assert_eq!(Line::text("ab").ending_at(6, Look::Plain, "cd").render(80, false), "ab  cd");
        assert_eq!(Line::text("abcde").ending_at(6, Look::Plain, "cd").render(80, false), "abcde");
    }
}
