//! Axes: from values to positions, and the ticks that people read.

/// How values lie along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// Evenly.
    #[default]
    Linear,
    /// By their decimal logarithm; zero stands one decade before the smallest positive value. Negative values have no
    /// place.
    LogWithZero,
    /// Named places 0, 1, 2 …
    Categories,
}

/// One axis.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Axis {
    /// What it measures, with the unit.
    pub label: String,
    /// How values lie along it.
    pub scale: Scale,
    /// Names of the places of [`Scale::Categories`].
    pub categories: Vec<String>,
    /// Ends in values; default: those of the data, with some room.
    pub range: Option<[f64; 2]>,
}

/// Most ticks of a linear axis.
const MOST_TICKS: f64 = 6.0;
/// Room beyond the data, as a share of its extent.
const ROOM: f64 = 0.06;

impl Axis {
    /// A linear axis.
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), ..Self::default() }
    }

    /// A logarithmic axis with a place for zero.
    pub fn log_with_zero(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::LogWithZero, ..Self::default() }
    }

    /// An axis of named places.
    pub fn categories(label: impl Into<String>, categories: Vec<String>) -> Self {
        Self { label: label.into(), scale: Scale::Categories, categories, range: None }
    }
}

/// An axis fitted to values.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fitted {
    scale: Scale,
    /// Smallest positive value's decade, where zero has a place.
    first_decade: f64,
    /// Ends, in units of the scale.
    ends: [f64; 2],
    /// Positions in units of the scale, and what stands there.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Fitted {
    /// `None` if no value has a place on the axis.
    pub(super) fn new(axis: &Axis, values: impl Iterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        let positive = values.iter().copied().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
        let first_decade = if positive.is_finite() { libm::log10(positive).floor() } else { 0.0 };
        let mut fitted = Self { scale: axis.scale, first_decade, ends: [0.0; 2], ticks: Vec::new() };
        let places: Vec<f64> = values.iter().filter_map(|value| fitted.place(*value)).collect();
        let low = places.iter().copied().reduce(f64::min)?;
        let high = places.iter().copied().reduce(f64::max)?;
        fitted.ends = match (axis.scale, axis.range) {
            (Scale::Categories, _) => [-0.5, axis.categories.len().max(1) as f64 - 0.5],
            (_, Some([low, high])) if fitted.place(low) < fitted.place(high) => {
                [fitted.place(low)?, fitted.place(high)?]
            }
            _ => with_room(low, high),
        };
        fitted.ticks = match axis.scale {
            Scale::Linear => linear_ticks(fitted.ends),
            Scale::LogWithZero => fitted.decades(low, high, values.contains(&0.0)),
            Scale::Categories => axis.categories.iter().cloned().enumerate().map(place_of).collect(),
        };
        Some(fitted)
    }

    /// A value in units of the scale.
    fn place(&self, value: f64) -> Option<f64> {
        match self.scale {
            Scale::Linear | Scale::Categories => value.is_finite().then_some(value),
            Scale::LogWithZero if value == 0.0 => Some(self.first_decade - 1.0),
            Scale::LogWithZero => (value.is_finite() && value > 0.0).then(|| libm::log10(value)),
        }
    }

    /// Position of a value along the axis: 0 at its begin, 1 at its end.
    pub(super) fn share(&self, value: f64) -> Option<f64> {
        Some(self.share_of_place(self.place(value)?))
    }

    /// Position of a tick.
    pub(super) fn share_of_place(&self, place: f64) -> f64 {
        (place - self.ends[0]) / (self.ends[1] - self.ends[0])
    }

    fn decades(&self, low: f64, high: f64, has_zero: bool) -> Vec<(f64, String)> {
        let first = if has_zero { self.first_decade } else { low.floor() };
        let count = (high.ceil() - first).clamp(0.0, 40.0) as i32;
        let decade = |k: i32| (first + f64::from(k), power(first as i32 + k));
        let zero = has_zero.then(|| (self.first_decade - 1.0, "0".to_owned()));
        let inside = |(place, _): &(f64, String)| (self.ends[0]..=self.ends[1]).contains(place);
        zero.into_iter().chain((0..=count).map(decade)).filter(inside).collect()
    }
}

fn place_of((index, name): (usize, String)) -> (f64, String) {
    (index as f64, name)
}

/// A power of ten as text.
fn power(exponent: i32) -> String {
    match exponent {
        0..=3 => format!("{}", 10_i32.pow(exponent as u32)),
        -2..0 => format!("{:.*}", exponent.unsigned_abs() as usize, 10_f64.powi(exponent)),
        _ => format!("1e{exponent}").replace('-', "−"),
    }
}

/// The ends with room beyond them; equal ends get one unit.
fn with_room(low: f64, high: f64) -> [f64; 2] {
    let extent = high - low;
    let room =
        if extent > 1e-12 * high.abs().max(low.abs()) { ROOM * extent } else { low.abs().max(1.0) * 0.5 };
    [low - room, high + room]
}

/// Ticks at multiples of 1, 2 or 5 times a power of ten.
fn linear_ticks([low, high]: [f64; 2]) -> Vec<(f64, String)> {
    let raw = (high - low) / MOST_TICKS;
    let magnitude = libm::pow(10.0, libm::log10(raw).floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * magnitude).into_iter().find(|step| *step >= raw * 0.999);
    let step = step.unwrap_or(10.0 * magnitude);
    let digits = (-libm::log10(step).floor()).clamp(0.0, 12.0) as usize;
    let (first, last) = ((low / step).ceil(), (high / step).floor());
    let count = (last - first).clamp(0.0, 4.0 * MOST_TICKS) as usize;
    (0..=count).map(|k| (first + k as f64) * step).map(|at| (at, number(at, digits))).collect()
}

/// A number with a real minus sign, never "−0".
fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let is_zero = text.chars().all(|c| matches!(c, '-' | '0' | '.'));
    if is_zero { text.replace('-', "") } else { text.replace('-', "−") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis, values: &[f64]) -> Vec<String> {
        let fitted = Fitted::new(axis, values.iter().copied()).unwrap();
        fitted.ticks.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn linear_ticks_are_round_and_inside() {
        assert_eq!(labels(&Axis::linear(""), &[24.1, 31.7]), ["24", "26", "28", "30", "32"]);
        assert_eq!(labels(&Axis::linear(""), &[-0.2, 0.2]), ["−0.2", "−0.1", "0.0", "0.1", "0.2"]);
        assert_eq!(labels(&Axis::linear(""), &[1e6, 3e6]).len(), 5);
        for values in [&[0.0, 0.0][..], &[5.0], &[-1e-30, 1e-30], &[1e300, -1e300]] {
            let fitted = Fitted::new(&Axis::linear(""), values.iter().copied()).unwrap();
            assert!(fitted.ticks.len() >= 2, "{values:?} {:?}", fitted.ticks);
            assert!(
                fitted.ticks.iter().all(|(at, _)| (-1e-9..=1.0 + 1e-9).contains(&fitted.share_of_place(*at)))
            );
        }
    }

    #[test]
    fn zero_has_a_place_before_the_smallest_decade() {
        let axis = Axis::log_with_zero("λ");
        let values = [0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0];
        assert_eq!(labels(&axis, &values), ["0", "1e−4", "1e−3", "0.01", "0.1", "1"]);
        let fitted = Fitted::new(&axis, values.into_iter()).unwrap();
        let steps: Vec<f64> = values.iter().map(|v| fitted.share(*v).unwrap()).collect();
        assert!(steps.windows(2).all(|pair| (pair[1] - pair[0] - (steps[1] - steps[0])).abs() < 1e-9));
        assert_eq!(fitted.share(-1.0), None);
        assert_eq!(labels(&axis, &[0.0]), ["0"]);
    }

    #[test]
    fn values_without_a_place_give_no_axis() {
        assert_eq!(Fitted::new(&Axis::linear(""), [f64::NAN, f64::INFINITY].into_iter()), None);
        assert_eq!(Fitted::new(&Axis::log_with_zero(""), [-1.0].into_iter()), None);
        assert_eq!(Fitted::new(&Axis::linear(""), std::iter::empty()), None);
    }
}
