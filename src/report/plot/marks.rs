//! How the points of a series are drawn.

use super::chart::{Mark, Plane, Point, Series};
use super::palette::{Marker, style};
use super::svg::{Stroke, Svg};

/// Radius of a marker, and of a dot of a crowd, in px.
const RADII: [f64; 2] = [4.0, 1.6];
/// Width of lines, in px.
const WIDTH: f64 = 1.8;
/// Half the width of the ends of an error bar, in px.
const CAP: f64 = 6.0;
/// Length and half width of an arrow's head, in px.
const HEAD: [f64; 2] = [8.0, 3.2];

/// Draws a series; gives how many of its points have no place.
pub(super) fn draw(svg: &mut Svg, plane: &Plane, series: &Series) -> usize {
    let places: Vec<Option<[f64; 2]>> =
        series.points.iter().map(|point| plane.place(point.x, point.y)).collect();
    let (colour, marker, dash) = style(series.style);
    match &series.mark {
        Mark::Line => {
            // A gap in the data is a gap in the line.
            for part in places.split(Option::is_none).filter(|part| part.len() > 1) {
                let part: Vec<[f64; 2]> = part.iter().flatten().copied().collect();
                svg.polyline(&part, Stroke { colour, width: WIDTH, dash });
            }
            draw_markers(svg, plane, series, colour, marker);
        }
        Mark::Markers => draw_markers(svg, plane, series, colour, marker),
        Mark::Dots => places.iter().flatten().for_each(|at| svg.dot(*at, RADII[1], colour)),
        Mark::Arrows(arrows) => {
            for (point, [dx, dy]) in series.points.iter().zip(arrows) {
                if let (Some(from), Some(to)) =
                    (plane.place(point.x, point.y), plane.place(point.x + dx, point.y + dy))
                {
                    arrow(svg, from, to, Stroke { colour, width: WIDTH, dash });
                }
            }
        }
    }
    places.iter().filter(|place| place.is_none()).count()
}

fn draw_markers(svg: &mut Svg, plane: &Plane, series: &Series, colour: &str, marker: Marker) {
    for point in &series.points {
        error_bar(svg, plane, point, colour);
    }
    for point in &series.points {
        if let Some(at) = plane.place(point.x, point.y) {
            draw_marker(svg, marker, at, colour);
        }
    }
}

fn error_bar(svg: &mut Svg, plane: &Plane, point: &Point, colour: &str) {
    let Some(error) = point.error.filter(|error| error.is_finite()) else { return };
    let (Some(low), Some(high)) =
        (plane.place(point.x, point.y - error), plane.place(point.x, point.y + error))
    else {
        return;
    };
    let stroke = Stroke::solid(colour, 1.2);
    svg.line(low, high, stroke);
    for [x, y] in [low, high] {
        svg.line([x - CAP, y], [x + CAP, y], stroke);
    }
}

fn draw_marker(svg: &mut Svg, marker: Marker, [x, y]: [f64; 2], colour: &str) {
    let r = RADII[0];
    match marker {
        Marker::Circle => svg.circle([x, y], r, colour),
        Marker::Square => {
            svg.polygon(&[[x - r, y - r], [x + r, y - r], [x + r, y + r], [x - r, y + r]], colour);
        }
        Marker::Triangle => {
            svg.polygon(&[[x, y - 1.3 * r], [x + 1.2 * r, y + r], [x - 1.2 * r, y + r]], colour);
        }
        Marker::Diamond => {
            let r = 1.3 * r;
            svg.polygon(&[[x, y - r], [x + r, y], [x, y + r], [x - r, y]], colour);
        }
    }
}

/// An arrow; one that is too short for its head is a dot.
fn arrow(svg: &mut Svg, from: [f64; 2], to: [f64; 2], stroke: Stroke<'_>) {
    let along = [to[0] - from[0], to[1] - from[1]];
    let length = along[0].hypot(along[1]);
    if length < 1.0 {
        return svg.dot(from, RADII[1], stroke.colour);
    }
    let unit = along.map(|v| v / length);
    let head = HEAD[0].min(length);
    let half = HEAD[1] * head / HEAD[0];
    let base = [to[0] - unit[0] * head, to[1] - unit[1] * head];
    // A short arrow is all head: a line without length cannot be dashed.
    if length > head + 0.5 {
        svg.line(from, base, stroke);
    }
    let side = |s: f64| [base[0] - s * half * unit[1], base[1] + s * half * unit[0]];
    svg.polygon(&[to, side(1.0), side(-1.0)], stroke.colour);
}

/// How a series looks, for the legend.
pub(super) fn sample(svg: &mut Svg, series: &Series, [left, y]: [f64; 2], width: f64) {
    let (colour, marker, dash) = style(series.style);
    let middle = [left + width / 2.0, y];
    let stroke = Stroke { colour, width: WIDTH, dash };
    match series.mark {
        Mark::Line => {
            svg.line([left, y], [left + width, y], stroke);
            draw_marker(svg, marker, middle, colour);
        }
        Mark::Markers => draw_marker(svg, marker, middle, colour),
        Mark::Dots => svg.dot(middle, RADII[1], colour),
        Mark::Arrows(_) => arrow(svg, [left, y], [left + width, y], stroke),
    }
}
