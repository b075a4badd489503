//! Colours, markers and dashes by which series are told apart.

/// Text and axes.
pub(super) const BLACK: &str = "#1a1a1a";
/// Notes and captions.
pub(super) const GREY: &str = "#555555";
/// Grid lines.
pub(super) const LIGHT: &str = "#e4e4e4";
/// Stands for an image that is not there.
pub(super) const MISSING: &str = "#e1e1e1";

/// The palette of Okabe and Ito (2008) in an order whose neighbours also differ in lightness.
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555"];

/// Shape of a point's marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
}

const MARKERS: [Marker; 4] = [Marker::Circle, Marker::Square, Marker::Triangle, Marker::Diamond];
/// `stroke-dasharray`; empty: solid.
const DASHES: [&str; 4] = ["", "7 3", "2 3", "9 3 2 3"];

/// How series number `index` is drawn: colour, marker and dash; repeats after 28 in colour and marker.
pub(super) fn style(index: usize) -> (&'static str, Marker, &'static str) {
    (COLOURS[index % COLOURS.len()], MARKERS[index % MARKERS.len()], DASHES[index % DASHES.len()])
}
