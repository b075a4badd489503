//! A small plot kit: charts, arrows and image grids as SVG text, and as PNG with a font of its own.
//!
//! A [`Figure`] is a title, [`Panel`]s side by side, and notes that must be read with it. Equal figures give equal
//! bytes: nothing is taken from the machine, neither fonts nor locale nor time. Series differ by colour (the palette of
//! Okabe and Ito, which colour-blind readers can tell apart), by marker and by dash, so that a grey print can be read.

mod base64;
mod chart;
mod images;
mod lanes;
mod marks;
mod palette;
mod raster;
mod scale;
mod svg;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub use chart::{Arrow, Chart, Mark, Point, Series};
pub use images::{ImageGrid, ImageRow, Picture};
pub use lanes::{Bar, LaneGroup, Lanes};
pub use raster::png;
pub use scale::{Axis, Scale};

use svg::{Anchor, Svg, Text};

/// Why a figure cannot be drawn.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlotError {
    /// An image has another number of entries than its shape.
    #[error(
        "image grid, row {row}, column {column}: {found} numbers, but its shape {shape:?} has {expected}"
    )]
    Size {
        /// Row, from 0.
        row: usize,
        /// Column, from 0.
        column: usize,
        /// Numbers found.
        found: usize,
        /// Numbers expected.
        expected: usize,
        /// Channels, height, width.
        shape: [usize; 3],
    },
    /// Only grey and colour images can be drawn.
    #[error("image grid: images have {0} channels; 1 or 3 can be drawn")]
    Channels(usize),
    /// An image could not be encoded.
    #[error("image grid: {0}")]
    Encode(String),
    /// The SVG could not be made a bitmap.
    #[error("the figure cannot be made a PNG: {0}")]
    Raster(String),
}

/// White space around and between everything, in px.
const GAP: f64 = 16.0;
/// Font size of titles, of panel titles and labels, and of ticks and notes, in px.
const SIZES: [f64; 3] = [17.0, 14.0, 12.0];
/// Height of a line of notes, in px.
const NOTE_LINE: f64 = 16.0;
/// Narrowest figure in px: notes need room.
const LEAST_WIDTH: f64 = 560.0;

/// A figure.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figure {
    /// What it shows, with profile and n.
    pub title: String,
    /// Its parts.
    pub panels: Vec<Panel>,
    /// Panels in a row, at least 1.
    pub columns: usize,
    /// What the reader has to know, such as what it may not be compared with.
    pub notes: Vec<String>,
}

/// A part of a figure.
#[derive(Debug, Clone, PartialEq)]
pub enum Panel {
    /// Series over two axes.
    Chart(Chart),
    /// Labelled images in rows.
    Images(ImageGrid),
    /// Bars on lanes over a time axis.
    Lanes(Lanes),
}

impl Panel {
    /// Width and height in px.
    fn size(&self) -> [f64; 2] {
        match self {
            Self::Chart(chart) => chart.size(),
            Self::Images(grid) => grid.size(),
            Self::Lanes(lanes) => lanes.size(),
        }
    }

    fn draw(&self, svg: &mut Svg, corner: [f64; 2]) -> Result<(), PlotError> {
        match self {
            Self::Chart(chart) => {
                chart.draw(svg, corner);
                Ok(())
            }
            Self::Images(grid) => grid.draw(svg, corner),
            Self::Lanes(lanes) => {
                lanes.draw(svg, corner);
                Ok(())
            }
        }
    }
}

impl Figure {
    /// The figure as an SVG document.
    ///
    /// # Errors
    /// When an image does not fit its shape.
    pub fn svg(&self) -> Result<String, PlotError> {
        let rows: Vec<&[Panel]> = self.panels.chunks(self.columns.max(1)).collect();
        let sizes: Vec<[f64; 2]> = rows.iter().map(|row| row_size(row)).collect();
        let widest = sizes.iter().map(|size| size[0]).fold(LEAST_WIDTH, f64::max);
        let title = wrapped(&self.title, widest, SIZES[0]);
        let notes: Vec<String> = self.notes.iter().flat_map(|note| wrapped(note, widest, SIZES[2])).collect();
        let head = GAP + title.len() as f64 * SIZES[0] * 1.3;
        let panels: f64 = sizes.iter().map(|size| size[1] + GAP).sum();
        let foot = notes.len() as f64 * NOTE_LINE;
        let mut svg = Svg::begin([widest + 2.0 * GAP, head + GAP + panels + foot + GAP], &self.title);
        for (i, line) in title.iter().enumerate() {
            let y = GAP + (i as f64 + 0.8) * SIZES[0] * 1.3;
            svg.text(&Text { size: SIZES[0], anchor: Anchor::Start, ..Text::new([GAP, y], line) });
        }
        let mut top = head + GAP;
        for (row, size) in rows.iter().zip(&sizes) {
            let mut left = GAP;
            for panel in *row {
                panel.draw(&mut svg, [left, top])?;
                left += panel.size()[0] + GAP;
            }
            top += size[1] + GAP;
        }
        for (i, line) in notes.iter().enumerate() {
            let at = [GAP, top + (i as f64 + 0.7) * NOTE_LINE];
            let text = Text::new(at, line);
            svg.text(&Text { size: SIZES[2], anchor: Anchor::Start, colour: palette::GREY, ..text });
        }
        Ok(svg.end())
    }
}

/// Extent of panels side by side.
fn row_size(row: &[Panel]) -> [f64; 2] {
    let sizes: Vec<[f64; 2]> = row.iter().map(Panel::size).collect();
    let gaps = GAP * sizes.len().saturating_sub(1) as f64;
    let width: f64 = sizes.iter().map(|size| size[0]).sum();
    [width + gaps, sizes.iter().map(|size| size[1]).fold(0.0, f64::max)]
}

/// Width of a text in px, from above: mean width of the font's letters.
fn text_width(text: &str, size: f64) -> f64 {
    0.53 * size * text.chars().count() as f64
}

/// A text as lines of a width in px, broken at spaces.
fn wrapped(text: &str, width: f64, size: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(line, size) + text_width(word, size) + 0.5 * size <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
