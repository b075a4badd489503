//! Pooling layers and their pull-backs.

use super::value::Value;

/// Maximum of square windows without padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MaxPool {
    /// Side of a window.
    pub size: usize,
    /// Step between windows.
    pub stride: usize,
    /// Whether a window that reaches beyond the end is kept (`ceil_mode` of PyTorch).
    pub ceil: bool,
    /// Whether one pixel on each side is padded, which never is the maximum.
    pub padding: usize,
}

impl MaxPool {
    /// Windows of `size` with steps of `stride`, all inside of the input.
    pub(super) const fn new(size: usize, stride: usize) -> Self {
        Self { size, stride, ceil: false, padding: 0 }
    }

    /// Sides of the result; `None` where there is none.
    pub(super) fn output(self, sides: [usize; 2]) -> Option<[usize; 2]> {
        let along = |side: usize| {
            let slack = if self.ceil { self.stride - 1 } else { 0 };
            let count = (side + 2 * self.padding + slack).checked_sub(self.size)? / self.stride + 1;
            // The last window must begin inside (of the input or the padding before it), as in PyTorch.
            let overhangs = (count - 1) * self.stride >= side + self.padding;
            Some(if overhangs { count - 1 } else { count }).filter(|&count| count > 0)
        };
        Some([along(sides[0])?, along(sides[1])?])
    }

    /// The result.
    pub(super) fn forward(self, x: &Value) -> Value {
        let sides = self.output(x.sides).expect("the image's size has been checked");
        let mut y = Value { sides, channels: x.channels, data: Vec::new() };
        y.data = vec![f32::NEG_INFINITY; sides[0] * sides[1] * x.channels];
        for (pixel, to) in y.data.chunks_exact_mut(x.channels).enumerate() {
            for from in self.window(x.sides, pixel / sides[1], pixel % sides[1]) {
                let from = &x.data[from * x.channels..][..x.channels];
                to.iter_mut().zip(from).for_each(|(to, from)| *to = if *from > *to { *from } else { *to });
            }
        }
        y
    }

    /// (∂y/∂x)ᵀ cotangent: to the first maximum of every window, as PyTorch does.
    pub(super) fn pull_back(self, x: &Value, cotangent: &Value) -> Value {
        let mut gradient = Value::zeros(x.sides, x.channels);
        for (pixel, g) in cotangent.pixels().enumerate() {
            let [row, column] = [pixel / cotangent.sides[1], pixel % cotangent.sides[1]];
            for (channel, g) in g.iter().enumerate().filter(|(_, g)| **g != 0.0) {
                let candidates = self.window(x.sides, row, column).map(|pixel| pixel * x.channels + channel);
                let first = candidates.reduce(|best, at| if x.data[at] > x.data[best] { at } else { best });
                gradient.data[first.expect("a window has a pixel")] += g;
            }
        }
        gradient
    }

    /// Pixels of a window, in row-major order.
    fn window(self, sides: [usize; 2], row: usize, column: usize) -> impl Iterator<Item = usize> {
        let range = move |at: usize, side: usize| {
            let first = at * self.stride;
            first.saturating_sub(self.padding)..(first + self.size - self.padding).min(side)
        };
        let columns = range(column, sides[1]);
        range(row, sides[0]).flat_map(move |y| columns.clone().map(move |x| y * sides[1] + x))
    }
}

/// Mean of 3×3 windows with stride 1 around every pixel, over the pixels that exist (`count_include_pad=False`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AveragePool;

impl AveragePool {
    /// The result, of the input's sides.
    pub(super) fn forward(self, x: &Value) -> Value {
        let mut y = Value::zeros(x.sides, x.channels);
        for (pixel, to) in y.data.chunks_exact_mut(x.channels).enumerate() {
            let mut count = 0.0;
            for from in AROUND.window(x.sides, pixel / x.sides[1], pixel % x.sides[1]) {
                count += 1.0;
                to.iter_mut().zip(&x.data[from * x.channels..]).for_each(|(to, from)| *to += from);
            }
            to.iter_mut().for_each(|to| *to /= count);
        }
        y
    }

    /// (∂y/∂x)ᵀ cotangent.
    pub(super) fn pull_back(self, cotangent: &Value) -> Value {
        let Value { sides, channels, .. } = *cotangent;
        let mut gradient = Value::zeros(sides, channels);
        for (pixel, from) in cotangent.pixels().enumerate() {
            let window = || AROUND.window(sides, pixel / sides[1], pixel % sides[1]);
            let count = window().count() as f32;
            for to in window() {
                let to = &mut gradient.data[to * channels..][..channels];
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from / count);
            }
        }
        gradient
    }
}

/// The 3×3 pixels around a pixel.
pub(super) const AROUND: MaxPool = MaxPool { size: 3, stride: 1, ceil: false, padding: 1 };

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(sides: [usize; 2]) -> Value {
        Value { sides, channels: 1, data: (0..sides[0] * sides[1]).map(|i| i as f32).collect() }
    }

    #[test]
    fn windows_are_counted_as_pytorch_counts_them() {
        let ceil = MaxPool { ceil: true, ..MaxPool::new(3, 2) };
        // torch.nn.MaxPool2d(3, 2, ceil_mode=…) on sides 1 to 8.
        let counted =
            |pool: MaxPool| (1..=8).map(|n| pool.output([n, 8]).map_or(0, |s| s[0])).collect::<Vec<_>>();
        assert_eq!(counted(MaxPool::new(3, 2)), [0, 0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(counted(ceil), [0, 1, 1, 2, 2, 3, 3, 4]);
        assert_eq!(counted(AROUND), [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn maxima_and_means_by_hand() {
        let x = ramp([3, 4]);
        assert_eq!(MaxPool::new(2, 2).forward(&x).data, [5.0, 7.0]);
        let ceil = MaxPool { ceil: true, ..MaxPool::new(3, 2) };
        assert_eq!(ceil.forward(&x).data, [10.0, 11.0]);
        // The corner has 4 pixels: 0, 1, 4, 5; the edge 6: 0, 1, 2, 4, 5, 6.
        assert_eq!(AveragePool.forward(&x).data[..2], [2.5, 3.0]);
    }

    #[test]
    fn a_cotangent_goes_to_the_first_of_equal_maxima() {
        let x = Value { sides: [2, 2], channels: 1, data: vec![1.0, 3.0, 3.0, 2.0] };
        let g = Value { sides: [1, 1], channels: 1, data: vec![5.0] };
        assert_eq!(MaxPool::new(2, 2).pull_back(&x, &g).data, [0.0, 5.0, 0.0, 0.0]);
    }

    #[test]
    fn means_and_their_pull_back_are_adjoint() {
        let (x, g) = (
            ramp([3, 4]),
            Value { data: ramp([3, 4]).data.iter().map(|v| v.sin()).collect(), ..ramp([3, 4]) },
        );
        let dot =
            |a: &Value, b: &Value| a.data.iter().zip(&b.data).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        // Rounding of f32.
        assert!((dot(&AveragePool.forward(&x), &g) - dot(&x, &AveragePool.pull_back(&g))).abs() < 1e-4);
    }
}
