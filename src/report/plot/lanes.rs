//! Bars on lanes over one time axis: who did what when.

use super::palette::{GREY, LIGHT, style};
use super::scale::{Axis, Fitted};
use super::svg::{Anchor, Stroke, Svg, Text};
use super::{GAP, SIZES, text_width};

/// Height of a lane in px: several of one label stand closer together than two labels.
const LANE: f64 = 9.0;
/// Height of a thin bar in px.
const THIN: f64 = 3.0;
/// Height of the axis below the lanes in px.
const AXIS: f64 = 44.0;
/// Height of the legend's line above the lanes in px.
const LEGEND: f64 = 24.0;

/// Lanes over one axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Lanes {
    /// The time axis.
    pub axis: Axis,
    /// Names of the kinds of bars, in the order of their colours.
    pub kinds: Vec<String>,
    /// From top to bottom.
    pub groups: Vec<LaneGroup>,
    /// Width of the plane in px.
    pub width: f64,
}

/// Lanes of one label.
#[derive(Debug, Clone, PartialEq)]
pub struct LaneGroup {
    /// What they are lanes of.
    pub label: String,
    /// Bars of each lane.
    pub lanes: Vec<Vec<Bar>>,
}

/// One bar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bar {
    /// Begin and end in units of the axis.
    pub span: [f64; 2],
    /// Index of its kind.
    pub kind: usize,
    /// Whether it is drawn thin: it is not like the others.
    pub thin: bool,
}

impl Lanes {
    fn labels(&self) -> f64 {
        self.groups.iter().map(|group| text_width(&group.label, SIZES[2])).fold(0.0, f64::max) + GAP
    }

    fn height(&self) -> f64 {
        self.groups.iter().map(|group| LANE * group.lanes.len().max(2) as f64 + GAP / 2.0).sum()
    }

    /// Width and height in px.
    pub(super) fn size(&self) -> [f64; 2] {
        [self.labels() + self.width, LEGEND + self.height() + AXIS]
    }

    pub(super) fn draw(&self, svg: &mut Svg, [left, top]: [f64; 2]) {
        let bars = self.groups.iter().flat_map(|group| group.lanes.iter().flatten());
        let Some(axis) = Fitted::new(&self.axis, bars.flat_map(|bar| bar.span)) else {
            let text = Text::new([left, top + LEGEND], "nothing happened yet");
            return svg.text(&Text { anchor: Anchor::Start, colour: GREY, ..text });
        };
        let (begin, bottom) = (left + self.labels(), top + LEGEND + self.height());
        let x = |value: f64| begin + axis.share(value).unwrap_or(0.0).clamp(0.0, 1.0) * self.width;
        self.legend(svg, [begin, top]);
        for (place, label) in &axis.ticks {
            let x = begin + axis.share_of_place(*place) * self.width;
            svg.line([x, top + LEGEND], [x, bottom], Stroke::solid(LIGHT, 1.0));
            svg.text(&Text { size: SIZES[2], ..Text::new([x, bottom + 15.0], label) });
        }
        svg.text(&Text {
            size: SIZES[2],
            ..Text::new([begin + self.width / 2.0, bottom + 33.0], &self.axis.label)
        });
        let mut y = top + LEGEND;
        for group in &self.groups {
            let height = LANE * group.lanes.len().max(2) as f64;
            let label = Text::new([begin - GAP / 2.0, y + height / 2.0 + 4.0], &group.label);
            svg.text(&Text { size: SIZES[2], anchor: Anchor::End, ..label });
            for (i, lane) in group.lanes.iter().enumerate() {
                for Bar { span: [from, to], kind, thin } in lane {
                    let (from, to) = (x(*from), x(*to));
                    let height = if *thin { THIN } else { LANE - 2.0 };
                    let corner = [from, y + i as f64 * LANE + (LANE - height) / 2.0];
                    svg.rect(corner, [(to - from - 0.4).max(0.4), height], style(*kind).0);
                }
            }
            y += height + GAP / 2.0;
        }
    }

    fn legend(&self, svg: &mut Svg, [left, top]: [f64; 2]) {
        let mut x = left;
        for (kind, name) in self.kinds.iter().enumerate() {
            svg.rect([x, top + 2.0], [12.0, LANE], style(kind).0);
            let text = Text::new([x + 17.0, top + 11.0], name);
            svg.text(&Text { size: SIZES[2], anchor: Anchor::Start, ..text });
            x += 17.0 + text_width(name, SIZES[2]) + GAP;
        }
    }
}
