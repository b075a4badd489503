//! A chart: series over two axes, with a legend.

use super::marks;
use super::palette::{self, BLACK, GREY, LIGHT};
use super::scale::{Axis, Fitted};
use super::svg::{Anchor, Stroke, Svg, Text};
use super::{SIZES, text_width};

/// Series over two axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Line above it.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// What is drawn, from the back to the front.
    pub series: Vec<Series>,
    /// Width and height of the plane between the axes, in px.
    pub plane: [f64; 2],
    /// Whether a unit of x is as long as a unit of y: directions are then seen as they are. Both axes must be linear.
    pub equal_units: bool,
}

/// Values of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name in the legend; empty: not in it.
    pub name: String,
    /// Which colour, marker and dash.
    pub style: usize,
    /// How the points are drawn.
    pub mark: Mark,
    /// The points, in order.
    pub points: Vec<Point>,
}

/// How points are drawn.
#[derive(Debug, Clone, PartialEq)]
pub enum Mark {
    /// Markers joined by a line, with error bars.
    Line,
    /// Markers with error bars.
    Markers,
    /// Small dots, for crowds.
    Dots,
    /// An arrow at every point.
    Arrows(Vec<Arrow>),
}

/// An arrow from its point, in units of the axes.
pub type Arrow = [f64; 2];

/// A point.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Point {
    /// Along the horizontal axis.
    pub x: f64,
    /// Along the vertical axis.
    pub y: f64,
    /// Half of the error bar, in units of y.
    pub error: Option<f64>,
}

/// Room for the numbers and the label of the vertical axis, in px.
const LEFT: f64 = 64.0;
/// Room for those of the horizontal axis, in px.
const BELOW: f64 = 46.0;
/// Room for the title, in px.
const ABOVE: f64 = 26.0;
/// Height of a line of the legend, and width of its sample, in px.
const LEGEND: [f64; 2] = [18.0, 30.0];

/// A plane with its axes, in px.
#[derive(Debug)]
pub(super) struct Plane {
    corner: [f64; 2],
    size: [f64; 2],
    x: Fitted,
    y: Fitted,
}

impl Plane {
    /// Where a point lies; `None`: nowhere on these axes.
    pub(super) fn place(&self, x: f64, y: f64) -> Option<[f64; 2]> {
        let (x, y) = (self.x.share(x)?, self.y.share(y)?);
        Some([self.corner[0] + x * self.size[0], self.corner[1] + (1.0 - y) * self.size[1]])
    }

    fn frame(&self, svg: &mut Svg, chart: &Chart) {
        let [left, top] = self.corner;
        let [right, bottom] = [left + self.size[0], top + self.size[1]];
        for (at, label) in &self.x.ticks {
            let x = left + self.x.share_of_place(*at) * self.size[0];
            svg.line([x, top], [x, bottom], Stroke::solid(LIGHT, 1.0));
            svg.line([x, bottom], [x, bottom + 4.0], Stroke::solid(BLACK, 1.0));
            svg.text(&Text::new([x, bottom + 17.0], label));
        }
        for (at, label) in &self.y.ticks {
            let y = bottom - self.y.share_of_place(*at) * self.size[1];
            svg.line([left, y], [right, y], Stroke::solid(LIGHT, 1.0));
            svg.line([left - 4.0, y], [left, y], Stroke::solid(BLACK, 1.0));
            svg.text(&Text { anchor: Anchor::End, ..Text::new([left - 7.0, y + 4.0], label) });
        }
        svg.polyline(&[[left, top], [left, bottom], [right, bottom]], Stroke::solid(BLACK, 1.0));
        let below = Text::new([f64::midpoint(left, right), bottom + 37.0], &chart.x.label);
        svg.text(&Text { size: SIZES[1], ..below });
        let aside = Text::new([left - LEFT + 14.0, f64::midpoint(top, bottom)], &chart.y.label);
        svg.text(&Text { size: SIZES[1], upwards: true, ..aside });
    }
}

impl Chart {
    /// Width and height with everything around the plane.
    pub(super) fn size(&self) -> [f64; 2] {
        let legend = self.legend_rows().len() as f64 * LEGEND[0];
        [LEFT + self.plane[0] + 10.0, ABOVE + self.plane[1] + BELOW + legend]
    }

    pub(super) fn draw(&self, svg: &mut Svg, corner: [f64; 2]) {
        let [left, top] = [corner[0] + LEFT, corner[1] + ABOVE];
        let middle = left + self.plane[0] / 2.0;
        svg.text(&Text { size: SIZES[1], ..Text::new([middle, corner[1] + 14.0], &self.title) });
        let Some(plane) = self.fitted([left, top]) else {
            svg.rect([left, top], self.plane, palette::MISSING);
            let why = Text::new([middle, top + self.plane[1] / 2.0], "no data: no value is a finite number");
            return svg.text(&Text { colour: GREY, ..why });
        };
        plane.frame(svg, self);
        let mut lost = 0;
        for series in &self.series {
            lost += marks::draw(svg, &plane, series);
        }
        if lost > 0 {
            let text = format!("{lost} value(s) without a finite place are left out");
            let at = [left + self.plane[0], top - 3.0];
            svg.text(&Text { anchor: Anchor::End, colour: GREY, size: 10.0, ..Text::new(at, &text) });
        }
        self.legend(svg, [left, top + self.plane[1] + BELOW]);
    }

    /// The axes fitted to all points; `None` if there is none.
    fn fitted(&self, corner: [f64; 2]) -> Option<Plane> {
        let ends = || self.series.iter().flat_map(Series::ends);
        let (mut x_axis, mut y_axis) = (self.x.clone(), self.y.clone());
        if self.equal_units {
            let x = x_axis.range.or_else(|| extent(ends().map(|end| end[0])))?;
            let y = y_axis.range.or_else(|| extent(ends().map(|end| end[1])))?;
            let [x, y] = equal_units([x, y], self.plane);
            (x_axis.range, y_axis.range) = (Some(x), Some(y));
        }
        let x = Fitted::new(&x_axis, ends().map(|end| end[0]))?;
        let y = Fitted::new(&y_axis, ends().map(|end| end[1]))?;
        Some(Plane { corner, size: self.plane, x, y })
    }

    /// The named series, in rows that fit the plane's width.
    fn legend_rows(&self) -> Vec<Vec<&Series>> {
        let mut rows: Vec<(f64, Vec<&Series>)> = Vec::new();
        let named = self.series.iter().filter(|series| !series.name.is_empty());
        for series in named {
            let width = series.legend_width();
            match rows.last_mut() {
                Some((used, row)) if *used + width <= self.plane[0] => {
                    *used += width;
                    row.push(series);
                }
                _ => rows.push((width, vec![series])),
            }
        }
        rows.into_iter().map(|(_, row)| row).collect()
    }

    fn legend(&self, svg: &mut Svg, [left, top]: [f64; 2]) {
        for (i, row) in self.legend_rows().into_iter().enumerate() {
            let (mut x, y) = (left, top + (i as f64 + 0.5) * LEGEND[0]);
            for series in row {
                marks::sample(svg, series, [x, y], LEGEND[1]);
                let text = Text::new([x + LEGEND[1] + 5.0, y + 4.0], &series.name);
                svg.text(&Text { anchor: Anchor::Start, ..text });
                x += series.legend_width();
            }
        }
    }
}

impl Series {
    fn legend_width(&self) -> f64 {
        LEGEND[1] + 20.0 + text_width(&self.name, SIZES[2])
    }

    /// All that must fit into the plane: points, ends of error bars and arrows.
    fn ends(&self) -> impl Iterator<Item = [f64; 2]> + '_ {
        self.points.iter().enumerate().flat_map(|(i, point)| {
            let tip = match &self.mark {
                Mark::Arrows(arrows) => arrows.get(i).copied().unwrap_or_default(),
                _ => [0.0; 2],
            };
            let error = point.error.filter(|error| error.is_finite()).unwrap_or(0.0);
            [[point.x, point.y - error], [point.x, point.y + error], [point.x + tip[0], point.y + tip[1]]]
        })
    }
}

fn extent(values: impl Iterator<Item = f64>) -> Option<[f64; 2]> {
    let finite = values.filter(|value| value.is_finite());
    let ends = finite.fold(None, |ends: Option<[f64; 2]>, v| {
        let [low, high] = ends.unwrap_or([v, v]);
        Some([low.min(v), high.max(v)])
    });
    ends.map(|[low, high]| {
        let room = 0.05 * (high - low).max(1e-9);
        [low - room, high + room]
    })
}

/// Ranges about the same centres with the same units per px on both axes.
fn equal_units(ranges: [[f64; 2]; 2], plane: [f64; 2]) -> [[f64; 2]; 2] {
    let per_px = |axis: usize| (ranges[axis][1] - ranges[axis][0]) / plane[axis];
    let unit = per_px(0).max(per_px(1));
    std::array::from_fn(|axis| {
        let centre = f64::midpoint(ranges[axis][0], ranges[axis][1]);
        [centre - unit * plane[axis] / 2.0, centre + unit * plane[axis] / 2.0]
    })
}
