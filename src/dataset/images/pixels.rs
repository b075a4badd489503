//! A decoded picture.

/// 8-bit pixels, interleaved, rows from the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::dataset) struct Pixels {
    /// Columns.
    pub(in crate::dataset) width: usize,
    /// Rows.
    pub(in crate::dataset) height: usize,
    /// Bytes of a pixel.
    pub(in crate::dataset) channels: usize,
    /// `height × width × channels` bytes.
    pub(in crate::dataset) bytes: Vec<u8>,
}

impl Pixels {
    /// Channels, height, width.
    pub(in crate::dataset) const fn shape(&self) -> [usize; 3] {
        [self.channels, self.height, self.width]
    }

    /// The part of `width` × `height` pixels from column `left` and row `top`, which lies inside.
    pub(super) fn cropped(&self, left: usize, top: usize, width: usize, height: usize) -> Self {
        let row = self.width * self.channels;
        let bytes = (top..top + height)
            .flat_map(|y| &self.bytes[y * row + left * self.channels..][..width * self.channels])
            .copied()
            .collect();
        Self { width, height, channels: self.channels, bytes }
    }
}
