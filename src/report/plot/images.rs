//! Images in rows, with labels and captions, as bitmaps inside of the SVG.

use super::palette::{GREY, MISSING};
use super::svg::{Anchor, Svg, Text};
use super::{PlotError, SIZES, base64, text_width};

/// A table of images of one shape.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageGrid {
    /// Channels (1 or 3), height, width.
    pub shape: [usize; 3],
    /// px per pixel of an image, at least 1.
    pub scale: usize,
    /// Headings of the columns; empty: none.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<ImageRow>,
}

/// A row of images.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageRow {
    /// What stands before it; empty: nothing.
    pub label: String,
    /// Its images, in the order of the columns.
    pub pictures: Vec<Picture>,
}

/// An image and the line below it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Picture {
    /// Planar, `channels × height × width`, in [−1, 1] (clamped); `None`: a grey field.
    pub image: Option<Vec<f32>>,
    /// The line below; empty: none.
    pub caption: String,
}

/// Space between images, in px.
const GAP: f64 = 6.0;
/// Height of a line of captions or headings, in px.
const LINE: f64 = 17.0;
/// Narrowest column in px: names have to fit.
const LEAST: f64 = 74.0;

impl ImageGrid {
    /// Extent of an image in px.
    fn image(&self) -> [f64; 2] {
        let scale = self.scale.max(1) as f64;
        [self.shape[2] as f64 * scale, self.shape[1] as f64 * scale]
    }

    /// Width of a column: of its images, or of the longest text over or under one.
    fn column(&self) -> f64 {
        let captions = self.rows.iter().flat_map(|row| row.pictures.iter().map(|picture| &picture.caption));
        let texts = self.columns.iter().chain(captions);
        let widest = texts.map(|text| text_width(text, SIZES[2])).fold(0.0, f64::max);
        self.image()[0].max(LEAST).max(widest) + GAP
    }

    fn row_height(&self, row: &ImageRow) -> f64 {
        let has_caption = row.pictures.iter().any(|picture| !picture.caption.is_empty());
        self.image()[1] + GAP + if has_caption { LINE } else { 0.0 }
    }

    fn labels(&self) -> f64 {
        let widest = self.rows.iter().map(|row| text_width(&row.label, SIZES[2])).fold(0.0, f64::max);
        if widest > 0.0 { widest + 2.0 * GAP } else { 0.0 }
    }

    fn heading(&self) -> f64 {
        if self.columns.is_empty() { 0.0 } else { LINE + GAP }
    }

    /// Width and height in px.
    pub(super) fn size(&self) -> [f64; 2] {
        let columns = self.rows.iter().map(|row| row.pictures.len()).chain([self.columns.len()]).max();
        let height: f64 = self.rows.iter().map(|row| self.row_height(row)).sum();
        let empty = if self.rows.is_empty() { LINE } else { 0.0 };
        [self.labels() + columns.unwrap_or(0) as f64 * self.column(), self.heading() + height + empty]
    }

    pub(super) fn draw(&self, svg: &mut Svg, [left, top]: [f64; 2]) -> Result<(), PlotError> {
        if !matches!(self.shape[0], 1 | 3) {
            return Err(PlotError::Channels(self.shape[0]));
        }
        let ([width, height], column) = (self.image(), self.column());
        let middle = |j: usize| left + self.labels() + (j as f64 + 0.5) * column;
        for (j, name) in self.columns.iter().enumerate() {
            svg.text(&Text { size: SIZES[2], ..Text::new([middle(j), top + 12.0], name) });
        }
        let mut y = top + self.heading();
        if self.rows.is_empty() {
            let text = Text::new([left, y + 12.0], "no images: run with save: [reconstructions]");
            svg.text(&Text { anchor: Anchor::Start, colour: GREY, ..text });
        }
        for (i, row) in self.rows.iter().enumerate() {
            let label = Text::new([left + self.labels() - GAP, y + height / 2.0 + 4.0], &row.label);
            svg.text(&Text { anchor: Anchor::End, ..label });
            for (j, picture) in row.pictures.iter().enumerate() {
                let corner = [middle(j) - width / 2.0, y];
                match &picture.image {
                    Some(image) => svg.image(corner, [width, height], &self.encoded(image, i, j)?),
                    None => svg.rect(corner, [width, height], MISSING),
                }
                let caption = Text::new([middle(j), y + height + 13.0], &picture.caption);
                svg.text(&Text { colour: GREY, ..caption });
            }
            y += self.row_height(row);
        }
        Ok(())
    }

    /// An image as PNG in base64.
    fn encoded(&self, image: &[f32], row: usize, column: usize) -> Result<String, PlotError> {
        let [channels, height, width] = self.shape;
        let (pixels, found) = (height * width, image.len());
        if found != channels * pixels {
            let expected = channels * pixels;
            return Err(PlotError::Size { row, column, found, expected, shape: self.shape });
        }
        // NaN becomes black.
        let byte = |x: f32| ((x.clamp(-1.0, 1.0) + 1.0) * 127.5).round() as u8;
        let planes = (0..pixels).flat_map(|p| (0..3).map(move |c| c.min(channels - 1) * pixels + p));
        let bytes: Vec<u8> = planes.map(|i| byte(image[i])).collect();
        let mut png = Vec::new();
        let encoder = image::codecs::png::PngEncoder::new(&mut png);
        let colour = image::ExtendedColorType::Rgb8;
        image::ImageEncoder::write_image(encoder, &bytes, width as u32, height as u32, colour)
            .map_err(|error| PlotError::Encode(error.to_string()))?;
        Ok(base64::encode(&png))
    }
}
