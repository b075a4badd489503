//! Picture grids: one row per sample, one column per image (ground truth, degraded, methods), as PNG.

use image::{ImageEncoder, Rgb, RgbImage};
use thiserror::Error;

use crate::operator::Shape;

/// Why a grid cannot be drawn.
#[derive(Debug, Error)]
pub enum GridError {
    /// There is nothing to draw.
    #[error("the picture grid has no images; run with `save: [reconstructions]`")]
    Empty,
    /// An image of another size.
    #[error(
        "picture grid, row {row}, column {column}: {found} numbers, but an image of shape {shape} has {expected}"
    )]
    Size {
        /// Row, from 0.
        row: usize,
        /// Column, from 0.
        column: usize,
        /// Length found.
        found: usize,
        /// Length expected.
        expected: usize,
        /// Shape of all images.
        shape: Shape,
    },
    /// Only grey and colour images can be drawn.
    #[error("picture grid: images have {0} channels; 1 or 3 can be drawn")]
    Channels(usize),
    /// The encoder failed.
    #[error("picture grid: {0}")]
    Png(#[from] image::ImageError),
}

/// A grid of images in [−1, 1], `[channels, height, width]` each.
#[derive(Debug, Clone)]
pub struct Grid {
    shape: Shape,
    scale: u32,
    rows: Vec<Vec<Option<Vec<f32>>>>,
}

/// White space between images, in pixels of the picture.
const GAP: u32 = 4;
const PAPER: Rgb<u8> = Rgb([255, 255, 255]);
/// Stands for an image that is not there.
const MISSING: Rgb<u8> = Rgb([225, 225, 225]);

impl Grid {
    /// An empty grid; every pixel of an image becomes `scale`×`scale` (at least 1).
    pub fn new(shape: Shape, scale: u32) -> Result<Self, GridError> {
        if !matches!(shape.channels, 1 | 3) {
            return Err(GridError::Channels(shape.channels));
        }
        Ok(Self { shape, scale: scale.max(1), rows: Vec::new() })
    }

    /// Adds a row below; `None` leaves a grey field.
    pub fn push_row(&mut self, images: Vec<Option<Vec<f32>>>) -> Result<(), GridError> {
        let expected = self.shape.dim();
        for (column, image) in images.iter().enumerate() {
            let found = image.as_ref().map_or(expected, Vec::len);
            if found != expected {
                let (row, shape) = (self.rows.len(), self.shape);
                return Err(GridError::Size { row, column, found, expected, shape });
            }
        }
        self.rows.push(images);
        Ok(())
    }

    /// The picture; rows may have different lengths.
    pub fn draw(&self) -> Result<RgbImage, GridError> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0) as u32;
        if columns == 0 {
            return Err(GridError::Empty);
        }
        let (width, height) = self.cell_size();
        let extent = |count: u32, side: u32| count * (side + GAP) + GAP;
        let mut picture =
            RgbImage::from_pixel(extent(columns, width), extent(self.rows.len() as u32, height), PAPER);
        for (i, row) in (0_u32..).zip(&self.rows) {
            for (j, image) in (0_u32..).zip(row) {
                let corner = (GAP + j * (width + GAP), GAP + i * (height + GAP));
                self.paint(&mut picture, corner, image.as_deref());
            }
        }
        Ok(picture)
    }

    /// The picture as a PNG file.
    pub fn png(&self) -> Result<Vec<u8>, GridError> {
        let picture = self.draw()?;
        let mut bytes = Vec::new();
        let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
        encoder.write_image(
            picture.as_raw(),
            picture.width(),
            picture.height(),
            image::ExtendedColorType::Rgb8,
        )?;
        Ok(bytes)
    }

    fn cell_size(&self) -> (u32, u32) {
        (self.shape.width as u32 * self.scale, self.shape.height as u32 * self.scale)
    }

    fn paint(&self, picture: &mut RgbImage, (left, top): (u32, u32), image: Option<&[f32]>) {
        let (width, height) = self.cell_size();
        for y in 0..height {
            for x in 0..width {
                let color = image.map_or(MISSING, |image| {
                    self.color(image, (y / self.scale) as usize, (x / self.scale) as usize)
                });
                picture.put_pixel(left + x, top + y, color);
            }
        }
    }

    fn color(&self, image: &[f32], row: usize, column: usize) -> Rgb<u8> {
        let pixel = row * self.shape.width + column;
        Rgb(std::array::from_fn(|channel| {
            let plane = channel.min(self.shape.channels - 1);
            let value = image[plane * self.shape.pixels() + pixel].clamp(-1.0, 1.0);
            ((value + 1.0) * 127.5).round() as u8
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape::new(3, 2, 2);

    #[test]
    fn images_lie_in_reading_order_with_gaps_between() {
        let mut grid = Grid::new(SHAPE, 3).unwrap();
        let red: Vec<f32> = (0..12).map(|k| if k < 4 { 1.0 } else { -1.0 }).collect();
        grid.push_row(vec![Some(red), None]).unwrap();
        let picture = grid.draw().unwrap();
        assert_eq!((picture.width(), picture.height()), (4 + 2 * 10, 4 + 10));
        assert_eq!(*picture.get_pixel(4, 4), Rgb([255, 0, 0]));
        assert_eq!(*picture.get_pixel(9, 9), Rgb([255, 0, 0]));
        assert_eq!(*picture.get_pixel(10, 4), PAPER);
        assert_eq!(*picture.get_pixel(14, 4), MISSING);
        let png = image::load_from_memory(&grid.png().unwrap()).unwrap().to_rgb8();
        assert_eq!(png, picture);
    }

    #[test]
    fn grey_images_and_values_out_of_range_are_drawn() {
        let mut grid = Grid::new(Shape::new(1, 1, 2), 1).unwrap();
        grid.push_row(vec![Some(vec![-7.0, 0.0])]).unwrap();
        let picture = grid.draw().unwrap();
        assert_eq!((*picture.get_pixel(4, 4), *picture.get_pixel(5, 4)), (Rgb([0; 3]), Rgb([128; 3])));
    }

    #[test]
    fn wrong_input_is_an_error() {
        assert!(matches!(Grid::new(Shape::new(2, 4, 4), 1), Err(GridError::Channels(2))));
        let mut grid = Grid::new(SHAPE, 1).unwrap();
        assert!(matches!(grid.png(), Err(GridError::Empty)));
        assert!(matches!(
            grid.push_row(vec![None, Some(vec![0.0; 3])]),
            Err(GridError::Size { column: 1, .. })
        ));
    }
}
