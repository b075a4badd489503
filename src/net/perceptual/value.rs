//! Values between the steps of a network, and how images become one.

use super::PerceptualError;

/// Activations of one image: `[height, width, channels]`, channels contiguous.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Value {
    /// Rows and columns.
    pub sides: [usize; 2],
    /// Numbers per pixel.
    pub channels: usize,
    /// The numbers.
    pub data: Vec<f32>,
}

impl Value {
    /// Zeros.
    pub(super) fn zeros(sides: [usize; 2], channels: usize) -> Self {
        Self { sides, channels, data: vec![0.0; sides[0] * sides[1] * channels] }
    }

    /// From planes `[channels, height, width]`.
    pub(super) fn from_planes(planes: &[f32], [channels, height, width]: [usize; 3]) -> Self {
        let mut value = Self::zeros([height, width], channels);
        for (channel, plane) in planes.chunks_exact(height * width).enumerate() {
            for (pixel, x) in value.data.chunks_exact_mut(channels).zip(plane) {
                pixel[channel] = *x;
            }
        }
        value
    }

    /// As planes `[channels, height, width]`.
    pub(super) fn into_planes(self) -> Vec<f32> {
        let pixel = |channel| self.data.iter().skip(channel).step_by(self.channels).copied();
        (0..self.channels).flat_map(pixel).collect()
    }

    /// The pixels, each with all channels.
    pub(super) fn pixels(&self) -> std::slice::ChunksExact<'_, f32> {
        self.data.chunks_exact(self.channels)
    }

    /// Values of the same sides, channels one after the other.
    pub(super) fn concat(parts: &[Self]) -> Self {
        let mut whole = Self::zeros(parts[0].sides, parts.iter().map(|part| part.channels).sum());
        let mut first = 0;
        for part in parts {
            for (to, from) in whole.data.chunks_exact_mut(whole.channels).zip(part.pixels()) {
                to[first..first + part.channels].copy_from_slice(from);
            }
            first += part.channels;
        }
        whole
    }

    /// Some of the channels: the reverse of [`Self::concat`].
    pub(super) fn channels(&self, range: std::ops::Range<usize>) -> Self {
        let data = self.pixels().flat_map(|pixel| &pixel[range.clone()]).copied().collect();
        Self { sides: self.sides, channels: range.len(), data }
    }

    /// The inside of a border of `border` rows and columns, of `sides`.
    pub(super) fn cropped(&self, border: [usize; 2], sides: [usize; 2]) -> Self {
        let row_len = self.sides[1] * self.channels;
        let inner = border[1] * self.channels..(border[1] + sides[1]) * self.channels;
        let rows = self.data.chunks_exact(row_len).skip(border[0]).take(sides[0]);
        let data = rows.flat_map(|row| &row[inner.clone()]).copied().collect();
        Self { sides, channels: self.channels, data }
    }

    /// Adds another value, number by number.
    pub(super) fn add(&mut self, other: &Self) {
        self.data.iter_mut().zip(&other.data).for_each(|(a, b)| *a += b);
    }

    /// The mean of every channel over the pixels, summed in f64 in their order.
    pub(super) fn spatial_mean(&self) -> Vec<f32> {
        let mut sums = vec![0.0_f64; self.channels];
        for pixel in self.pixels() {
            sums.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        let count = (self.sides[0] * self.sides[1]) as f64;
        sums.into_iter().map(|sum| (sum / count) as f32).collect()
    }
}

/// The image, clamped to [−1, 1].
///
/// # Errors
/// Where it has other channels than `wanted`, another length than its sides say, or holds NaN or infinity.
pub(super) fn clamped(image: &[f32], sides: [usize; 3], wanted: usize) -> Result<Vec<f32>, PerceptualError> {
    if sides[0] != wanted {
        return Err(PerceptualError::Sides { channels: sides[0], wanted });
    }
    if image.len() != sides.iter().product::<usize>() {
        return Err(PerceptualError::Length { found: image.len(), sides });
    }
    if let Some(index) = image.iter().position(|x| !x.is_finite()) {
        return Err(PerceptualError::NotFinite { index, value: image[index] });
    }
    Ok(image.iter().map(|x| x.clamp(-1.0, 1.0)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_come_back_and_parts_of_a_whole_too() {
        let planes: Vec<f32> = (0..24).map(|i| i as f32).collect();
        let value = Value::from_planes(&planes, [4, 2, 3]);
        assert_eq!(value.pixels().next().unwrap(), [0.0, 6.0, 12.0, 18.0]);
        assert_eq!(value.clone().into_planes(), planes);
        let parts = [value.channels(0..1), value.channels(1..4)];
        assert_eq!(Value::concat(&parts), value);
        assert_eq!(value.spatial_mean(), [2.5, 8.5, 14.5, 20.5]);
    }

    #[test]
    fn images_that_are_none_are_named() {
        let text = |image: &[f32], sides| clamped(image, sides, 3).unwrap_err().to_string();
        assert!(text(&[0.0; 4], [1, 2, 2]).contains("1 channels"));
        assert!(text(&[0.0; 4], [3, 2, 2]).contains("say 12"));
        assert!(text(&[0.0, 0.0, f32::NAN], [3, 1, 1]).contains("NaN at index 2"));
        assert_eq!(clamped(&[-3.0, 0.5, 1.5], [3, 1, 1], 3).unwrap(), [-1.0, 0.5, 1.0]);
    }
}
