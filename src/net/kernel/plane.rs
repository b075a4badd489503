//! Shapes and views of values: planes of one sample, channels contiguous.

/// Shape of a value of one sample: `[height, width, channels]` inside a border of `border` zero pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Channels (contiguous).
    pub channels: usize,
    /// Rows of pixels, without the border.
    pub height: usize,
    /// Pixels in a row, without the border.
    pub width: usize,
    /// Zero pixels on each side: 1 where a 3×3 convolution reads, else 0.
    pub border: usize,
}

impl Shape {
    /// A shape without border.
    pub(crate) const fn new(channels: usize, height: usize, width: usize) -> Self {
        Self { channels, height, width, border: 0 }
    }

    /// The same with a border of `border` pixels.
    pub(crate) const fn bordered(self, border: usize) -> Self {
        Self { border, ..self }
    }

    /// Numbers in the buffer, border included.
    pub(crate) const fn len(self) -> usize {
        (self.height + 2 * self.border) * self.row_stride()
    }

    /// Numbers between a pixel and the one below it.
    pub(crate) const fn row_stride(self) -> usize {
        (self.width + 2 * self.border) * self.channels
    }

    /// Numbers in a row of pixels, without the border.
    pub(crate) const fn row_len(self) -> usize {
        self.width * self.channels
    }

    /// Index of the first number of pixel (`y`, 0).
    pub(crate) const fn row_start(self, y: usize) -> usize {
        (y + self.border) * self.row_stride() + self.border * self.channels
    }

    /// The numbers of row `y` of pixels.
    pub(crate) const fn row(self, y: usize) -> std::ops::Range<usize> {
        let start = self.row_start(y);
        start..start + self.row_len()
    }

    /// Pixels.
    pub(crate) const fn pixels(self) -> usize {
        self.height * self.width
    }
}

/// A value to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plane<'a> {
    /// Its numbers, [`Shape::len`] of them; empty where an op did not ask to keep it.
    pub data: &'a [f32],
    /// Its shape.
    pub shape: Shape,
}

impl<'a> Plane<'a> {
    /// A view of the first [`Shape::len`] numbers of `data`.
    pub(crate) fn new(data: &'a [f32], shape: Shape) -> Self {
        Self { data: &data[..shape.len()], shape }
    }

    /// The numbers of row `y`.
    pub(crate) fn row(&self, y: usize) -> &'a [f32] {
        &self.data[self.shape.row(y)]
    }
}

/// A value to write, or to add to.
#[derive(Debug)]
pub(crate) struct PlaneMut<'a> {
    /// Its numbers, [`Shape::len`] of them.
    pub data: &'a mut [f32],
    /// Its shape.
    pub shape: Shape,
    /// Whether results are added to what is there (a further use of the same value, in a pull-back).
    pub accumulate: bool,
}

impl<'a> PlaneMut<'a> {
    /// A view of the first [`Shape::len`] numbers of `data`, to be overwritten.
    pub(crate) fn new(data: &'a mut [f32], shape: Shape) -> Self {
        Self { data: &mut data[..shape.len()], shape, accumulate: false }
    }

    /// The numbers of row `y`.
    pub(crate) fn row_mut(&mut self, y: usize) -> &mut [f32] {
        &mut self.data[self.shape.row(y)]
    }

    /// Writes zeros into the border.
    pub(crate) fn clear_border(&mut self) {
        if self.shape.border == 0 {
            return;
        }
        let first = self.shape.row_start(0);
        self.data[..first].fill(0.0);
        for y in 0..self.shape.height {
            let end = self.shape.row(y).end;
            let next = if y + 1 < self.shape.height { self.shape.row_start(y + 1) } else { self.data.len() };
            self.data[end..next].fill(0.0);
        }
    }
}
