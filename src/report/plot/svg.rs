//! An SVG document that is being written. Numbers have two digits, so that equal figures give equal bytes.

use std::fmt::{Arguments, Write as _};

use super::palette::BLACK;

/// What a viewer without the PNG's font takes instead.
const FAMILY: &str = "Ubuntu, 'Ubuntu Light', Helvetica, Arial, sans-serif";

/// Which point of a text stands at its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A line of text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) at: [f64; 2],
    pub(super) line: &'a str,
    /// Font size in px.
    pub(super) size: f64,
    pub(super) anchor: Anchor,
    pub(super) colour: &'a str,
    /// Whether it runs upwards.
    pub(super) upwards: bool,
}

impl<'a> Text<'a> {
    /// Black text of 12 px about `at`.
    pub(super) const fn new(at: [f64; 2], line: &'a str) -> Self {
        Self { at, line, size: 12.0, anchor: Anchor::Middle, colour: BLACK, upwards: false }
    }
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stroke<'a> {
    pub(super) colour: &'a str,
    /// Width in px.
    pub(super) width: f64,
    /// `stroke-dasharray`; empty: solid.
    pub(super) dash: &'a str,
}

impl<'a> Stroke<'a> {
    pub(super) const fn solid(colour: &'a str, width: f64) -> Self {
        Self { colour, width, dash: "" }
    }

    fn attributes(self) -> String {
        let Self { colour, width, dash } = self;
        let dash = if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") };
        format!("stroke=\"{colour}\" stroke-width=\"{width}\"{dash}")
    }
}

/// The document.
#[derive(Debug)]
pub(super) struct Svg(String);

impl Svg {
    /// A white document of so many px.
    pub(super) fn begin([width, height]: [f64; 2], title: &str) -> Self {
        let (width, height) = (width.ceil(), height.ceil());
        Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"{FAMILY}\">\n<title>{}</title>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
            escaped(title)
        ))
    }

    pub(super) fn end(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }

    fn element(&mut self, text: Arguments<'_>) {
        writeln!(self.0, "{text}").expect("a string takes everything");
    }

    pub(super) fn text(&mut self, text: &Text<'_>) {
        if text.line.is_empty() {
            return;
        }
        let [x, y] = text.at;
        let anchor = match text.anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let turn =
            if text.upwards { format!(" transform=\"rotate(-90 {x:.2} {y:.2})\"") } else { String::new() };
        self.element(format_args!(
            "<text x=\"{x:.2}\" y=\"{y:.2}\" font-size=\"{}\" fill=\"{}\" text-anchor=\"{anchor}\"{turn}>{}</text>",
            text.size,
            text.colour,
            spans(text.line)
        ));
    }

    pub(super) fn line(&mut self, from: [f64; 2], to: [f64; 2], stroke: Stroke<'_>) {
        self.element(format_args!(
            "<line x1=\"{:.2}\" y1=\"{:.2}\" x2=\"{:.2}\" y2=\"{:.2}\" {}/>",
            from[0],
            from[1],
            to[0],
            to[1],
            stroke.attributes()
        ));
    }

    pub(super) fn polyline(&mut self, points: &[[f64; 2]], stroke: Stroke<'_>) {
        self.element(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke-linejoin=\"round\" {}/>",
            listed(points),
            stroke.attributes()
        ));
    }

    /// A filled polygon with a white rim.
    pub(super) fn polygon(&mut self, points: &[[f64; 2]], fill: &str) {
        self.element(format_args!(
            "<polygon points=\"{}\" fill=\"{fill}\" stroke=\"#ffffff\" stroke-width=\"0.8\"/>",
            listed(points)
        ));
    }

    /// A disc with a white rim.
    pub(super) fn circle(&mut self, [x, y]: [f64; 2], radius: f64, fill: &str) {
        self.element(format_args!(
            "<circle cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"{radius}\" fill=\"{fill}\" stroke=\"#ffffff\" \
             stroke-width=\"0.8\"/>"
        ));
    }

    /// A disc without a rim, half transparent, for crowds of points.
    pub(super) fn dot(&mut self, [x, y]: [f64; 2], radius: f64, fill: &str) {
        self.element(format_args!(
            "<circle cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"{radius}\" fill=\"{fill}\" fill-opacity=\"0.45\"/>"
        ));
    }

    pub(super) fn rect(&mut self, [x, y]: [f64; 2], [width, height]: [f64; 2], fill: &str) {
        self.element(format_args!(
            "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" fill=\"{fill}\"/>"
        ));
    }

    /// A bitmap without smoothing between its pixels; `png` in base64.
    pub(super) fn image(&mut self, [x, y]: [f64; 2], [width, height]: [f64; 2], png: &str) {
        self.element(format_args!(
            "<image x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" \
             image-rendering=\"optimizeSpeed\" preserveAspectRatio=\"none\" href=\"data:image/png;base64,{png}\"/>"
        ));
    }
}

fn listed(points: &[[f64; 2]]) -> String {
    points.iter().map(|[x, y]| format!("{x:.2},{y:.2}")).collect::<Vec<_>>().join(" ")
}

/// Signs that the first font of the PNG lacks; named as spans of the second, they do not take the whole line with them.
const SIGNS: [char; 4] = ['↑', '↓', '→', '∇'];

/// A line as the content of a text element.
fn spans(line: &str) -> String {
    let mut out = String::new();
    for part in line.split_inclusive(SIGNS) {
        let plain = part.trim_end_matches(SIGNS);
        out.push_str(&escaped(plain));
        if plain.len() < part.len() {
            out.push_str(&format!(
                "<tspan font-family=\"Hack, sans-serif\">{}</tspan>",
                &part[plain.len()..]
            ));
        }
    }
    out
}

/// A text without what XML would read as its own, nor control characters, which it forbids.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
