//! Drawings of molecules as SVG: balls and sticks, seen along the axis in which they are thinnest, and grids of them.
//!
//! Equal molecules give equal text. Colours are those of Corey, Pauling and Koltun as Jmol has them; carbon has no
//! letter.

mod projection;

use std::fmt::Write as _;

use crate::molecule::{Bond, Element, Molecule};

/// A molecule with what is drawn and written about it.
#[derive(Debug, Clone, Copy)]
pub struct Drawing<'a> {
    /// Atoms and positions in Å.
    pub molecule: &'a Molecule,
    /// Bonds to draw.
    pub bonds: &'a [Bond],
    /// Formal charges of the atoms; empty if there are none.
    pub charges: &'a [i8],
    /// Line above it.
    pub title: &'a str,
    /// Line below it.
    pub caption: &'a str,
}

/// Width and height of the place of a molecule, in px.
const PLACE: [f64; 2] = [240.0, 200.0];
/// Height of a line of text, in px.
const LINE: f64 = 22.0;
/// White space around everything and between panels, in px.
const GAP: f64 = 12.0;
/// Largest scale, in px/Å: small molecules do not fill their place.
const MOST_SCALE: f64 = 42.0;
/// Radius of hydrogen and of the others, in Å.
const RADII: [f64; 2] = [0.24, 0.36];
/// Width of a bond's line, in Å; it is also the space between the lines of a double bond.
const BOND_WIDTH: f64 = 0.09;
const FONT: &str = "font-family=\"Helvetica, Arial, sans-serif\" text-anchor=\"middle\"";

/// One molecule as an SVG document.
///
/// # Panics
/// If a bond names an atom that is not there.
pub fn drawing(drawing: &Drawing<'_>) -> String {
    figure("", &[vec![*drawing]])
}

/// Several molecules side by side, row by row, all at one scale, under a title (none if empty).
///
/// # Panics
/// If a bond names an atom that is not there.
pub fn figure(title: &str, rows: &[Vec<Drawing<'_>>]) -> String {
    let panels: Vec<Vec<Panel<'_>>> =
        rows.iter().map(|row| row.iter().map(|drawing| Panel::new(*drawing)).collect()).collect();
    let scale = panels.iter().flatten().map(Panel::scale).fold(MOST_SCALE, f64::min);
    let head = if title.is_empty() { 0.0 } else { LINE + GAP };
    let [width, height] = [PLACE[0] + GAP, PLACE[1] + 2.0 * LINE + GAP];
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let total = [GAP + columns as f64 * width, GAP + head + rows.len() as f64 * height];

    let mut svg = Svg::begin(total, if title.is_empty() { "Molecules" } else { title });
    if !title.is_empty() {
        svg.text([total[0] / 2.0, GAP + LINE * 0.7], 17.0, "#111", title);
    }
    for (row, panels) in panels.iter().enumerate() {
        for (column, panel) in panels.iter().enumerate() {
            let corner = [GAP + column as f64 * width, GAP + head + row as f64 * height];
            panel.draw(&mut svg, corner, scale);
        }
    }
    svg.end()
}

/// A drawing with its view; none where a position is no number.
struct Panel<'a> {
    drawing: Drawing<'a>,
    view: Option<Vec<[f64; 3]>>,
}

/// What is drawn, from the back to the front.
#[derive(Debug, Clone, Copy)]
enum Item<'a> {
    Bond(&'a Bond),
    Atom(usize),
}

impl<'a> Panel<'a> {
    fn new(drawing: Drawing<'a>) -> Self {
        Self { drawing, view: projection::project(drawing.molecule) }
    }

    /// Centre and half the extent of what is seen, without the discs, in Å.
    fn frame(&self) -> [[f64; 2]; 2] {
        let mut bounds = [[0.0_f64; 2]; 2];
        for (atom, position) in self.view.iter().flatten().enumerate() {
            for axis in 0..2 {
                let value = position[axis];
                bounds[0][axis] = if atom == 0 { value } else { bounds[0][axis].min(value) };
                bounds[1][axis] = if atom == 0 { value } else { bounds[1][axis].max(value) };
            }
        }
        let [low, high] = bounds;
        [
            std::array::from_fn(|axis| f64::midpoint(low[axis], high[axis])),
            std::array::from_fn(|axis| (high[axis] - low[axis]) / 2.0),
        ]
    }

    /// The scale at which it fills its place, in px/Å.
    fn scale(&self) -> f64 {
        let [_, half] = self.frame();
        let fits = |axis: usize| PLACE[axis] / 2.0 / (half[axis] + RADII[1]);
        fits(0).min(fits(1))
    }

    fn draw(&self, svg: &mut Svg, corner: [f64; 2], scale: f64) {
        let middle = [corner[0] + PLACE[0] / 2.0, corner[1] + LINE + PLACE[1] / 2.0];
        svg.text([middle[0], corner[1] + LINE * 0.7], 14.0, "#111", self.drawing.title);
        svg.text([middle[0], corner[1] + LINE * 1.7 + PLACE[1]], 13.0, "#555", self.drawing.caption);
        let Some(view) = &self.view else {
            return svg.text(middle, 13.0, "#a00", "a position is no number");
        };
        if view.is_empty() {
            return svg.text(middle, 13.0, "#555", "no atoms");
        }
        let [centre, _] = self.frame();
        let place = |atom: usize| -> [f64; 2] {
            let [x, y, _] = view[atom];
            [middle[0] + scale * (x - centre[0]), middle[1] - scale * (y - centre[1])]
        };
        for item in self.items(view) {
            match item {
                Item::Bond(bond) => svg.bond(bond.atoms.map(place), bond.order, scale),
                Item::Atom(atom) => {
                    let charge = self.drawing.charges.get(atom).copied().unwrap_or(0);
                    svg.atom(self.drawing.molecule.elements[atom], charge, place(atom), scale);
                }
            }
        }
    }

    /// Bonds behind both of their atoms, and everything behind what is nearer to the reader.
    fn items(&self, view: &[[f64; 3]]) -> Vec<Item<'a>> {
        let bonds = self.drawing.bonds.iter().map(|bond| {
            let [a, b] = bond.atoms.map(|atom| view[atom][2]);
            (a.min(b), Item::Bond(bond))
        });
        let atoms = view.iter().enumerate().map(|(atom, position)| (position[2], Item::Atom(atom)));
        let mut items: Vec<_> = bonds.chain(atoms).collect();
        // Stable: bonds come before atoms of the same depth.
        items.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        items.into_iter().map(|(_, item)| item).collect()
    }
}

/// A document that is being written.
struct Svg(String);

impl Svg {
    fn begin([width, height]: [f64; 2], title: &str) -> Self {
        let mut svg = Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\">\n<title>{}</title>\n<defs>\n",
            escaped(title)
        ));
        for element in Element::ALL {
            let [light, colour, _] = colours(element);
            svg.line(format_args!(
                "<radialGradient id=\"{}\" cx=\"0.38\" cy=\"0.34\" r=\"0.75\"><stop offset=\"0\" \
                 stop-color=\"{light}\"/><stop offset=\"1\" stop-color=\"{colour}\"/></radialGradient>",
                element.symbol()
            ));
        }
        svg.line(format_args!("</defs>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"));
        svg
    }

    fn end(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{text}").expect("a string takes everything");
    }

    fn text(&mut self, [x, y]: [f64; 2], size: f64, colour: &str, text: &str) {
        if !text.is_empty() {
            let text = escaped(text);
            self.line(format_args!(
                "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size:.1}\" fill=\"{colour}\" {FONT}>{text}</text>"
            ));
        }
    }

    /// As many lines as the order, on a white band that parts them from what they cross.
    fn bond(&mut self, [a, b]: [[f64; 2]; 2], order: u8, scale: f64) {
        let along = [b[0] - a[0], b[1] - a[1]];
        let length = along[0].hypot(along[1]);
        // Seen from its end a bond is hidden by its atoms.
        if length < 1e-6 {
            return;
        }
        let across = [-along[1] / length, along[0] / length];
        let width = BOND_WIDTH * scale * if order == 1 { 1.5 } else { 1.0 };
        let band = width * f64::from(2 * order.max(1) - 1) + 3.0;
        self.stroke(a, b, "#fff", band);
        for number in 0..order {
            let shift = (f64::from(number) - f64::from(order - 1) / 2.0) * 2.0 * width;
            let moved = |end: [f64; 2]| [end[0] + shift * across[0], end[1] + shift * across[1]];
            self.stroke(moved(a), moved(b), "#6b6b6b", width);
        }
    }

    fn stroke(&mut self, a: [f64; 2], b: [f64; 2], colour: &str, width: f64) {
        let ([x1, y1], [x2, y2]) = (a, b);
        self.line(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" \
             stroke-width=\"{width:.1}\"/>"
        ));
    }

    fn atom(&mut self, element: Element, charge: i8, [x, y]: [f64; 2], scale: f64) {
        let radius = scale * RADII[usize::from(element != Element::H)];
        let [_, _, dark] = colours(element);
        self.line(format_args!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" fill=\"url(#{})\" stroke=\"{dark}\" \
             stroke-width=\"0.8\"/>",
            element.symbol()
        ));
        let letter = if element == Element::C { "" } else { element.symbol() };
        let sign = match charge {
            0 => "",
            1.. => "⁺",
            _ => "⁻",
        };
        let ink = if matches!(element, Element::H | Element::F) { "#333" } else { "#fff" };
        let size = 1.15 * radius;
        // The middle of a capital is a third of the font's size above its base line.
        self.text([x, y + 0.35 * size], size, ink, &format!("{letter}{sign}"));
    }
}

/// Light side, colour and outline of an atom.
const fn colours(element: Element) -> [&'static str; 3] {
    match element {
        Element::H => ["#ffffff", "#e4e4e4", "#8c8c8c"],
        Element::C => ["#8a8a8a", "#4a4a4a", "#2a2a2a"],
        Element::N => ["#7d92ff", "#3050f8", "#1c319c"],
        Element::O => ["#ff7a70", "#f01a10", "#96100a"],
        Element::F => ["#c4f29a", "#90e050", "#548a2b"],
    }
}

/// Text as XML takes it: its marks escaped, control characters as spaces.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use Element::{C, H, N, O};

    fn nitromethyl() -> (Molecule, Vec<Bond>) {
        let molecule = Molecule {
            elements: vec![C, N, O, O, H],
            positions: vec![
                [0.0; 3],
                [1.49, 0.0, 0.0],
                [2.05, 1.09, 0.0],
                [2.05, -1.09, 0.0],
                [-0.4, 0.5, 0.9],
            ],
        };
        let bonds = [(1, 0, 1), (2, 1, 1), (3, 1, 2), (4, 0, 1)];
        (molecule, bonds.map(|(a, b, order)| Bond { atoms: [a, b], order }).to_vec())
    }

    fn count(text: &str, part: &str) -> usize {
        text.matches(part).count()
    }

    fn shown(molecule: &Molecule, bonds: &[Bond], charges: &[i8], title: &str) -> String {
        drawing(&Drawing { molecule, bonds, charges, title, caption: "α = 70" })
    }

    #[test]
    fn every_atom_and_every_line_of_a_bond_is_drawn() {
        let (molecule, bonds) = nitromethyl();
        let text = shown(&molecule, &bonds, &[0, 1, -1, 0, 0], "nitro");
        assert_eq!(count(&text, "<circle"), 5);
        assert_eq!(count(&text, "stroke=\"#fff\""), 4);
        assert_eq!(count(&text, "stroke=\"#6b6b6b\""), 5, "one bond is double");
        for label in [">N⁺<", ">O⁻<", ">O<", ">H<", ">nitro<", ">α = 70<"] {
            assert_eq!(count(&text, label), 1, "{label}");
        }
        assert_eq!(count(&text, ">C<"), 0);
        assert_eq!(text, shown(&molecule, &bonds, &[0, 1, -1, 0, 0], "nitro"));
    }

    #[test]
    fn a_triple_bond_has_three_lines() {
        let molecule = Molecule { elements: vec![C, N], positions: vec![[0.0; 3], [0.0, 1.15, 0.0]] };
        let text = shown(&molecule, &[Bond { atoms: [1, 0], order: 3 }], &[], "");
        assert_eq!(count(&text, "stroke=\"#6b6b6b\""), 3);
    }

    #[test]
    fn bonds_lie_behind_their_atoms_and_what_is_near_before_what_is_far() {
        let (molecule, bonds) = nitromethyl();
        let view = projection::project(&molecule).unwrap();
        let panel =
            Panel::new(Drawing { molecule: &molecule, bonds: &bonds, charges: &[], title: "", caption: "" });
        let items = panel.items(&view);
        let at = |wanted: usize| items.iter().position(|item| matches!(item, Item::Atom(i) if *i == wanted));
        for (place, item) in items.iter().enumerate() {
            if let Item::Bond(bond) = item {
                assert!(bond.atoms.iter().all(|atom| Some(place) < at(*atom)));
            }
        }
        for (a, b) in [(0, 1), (1, 4), (0, 4), (2, 3)] {
            assert_eq!(at(a) < at(b), view[a][2] < view[b][2] || view[a][2] == view[b][2] && a < b);
        }
    }

    #[test]
    fn everything_stays_inside_of_its_place() {
        let chain = Molecule {
            elements: vec![C; 29],
            positions: (0..29).map(|i| [i as f32 * 1.3, (i % 2) as f32, 0.1 * i as f32]).collect(),
        };
        let text = shown(&chain, &[], &[], "");
        let numbers = |name: &str| -> Vec<f64> {
            let name = format!("{name}=\"");
            text.split(&name).skip(1).map(|part| part.split('"').next().unwrap().parse().unwrap()).collect()
        };
        let (x, y) = (numbers(" cx"), numbers(" cy"));
        // The gradients have a centre too.
        let (x, y) = (&x[5..], &y[5..]);
        assert_eq!(x.len(), 29);
        assert!(x.iter().all(|v| (GAP..GAP + PLACE[0]).contains(v)));
        assert!(y.iter().all(|v| (GAP + LINE..GAP + LINE + PLACE[1]).contains(v)));
        assert!(x.iter().copied().fold(0.0, f64::max) > GAP + 0.9 * PLACE[0], "the place is used");
    }

    #[test]
    fn what_cannot_be_drawn_says_so() {
        let (mut molecule, bonds) = nitromethyl();
        molecule.positions[2][1] = f32::NAN;
        assert!(shown(&molecule, &bonds, &[], "").contains("a position is no number"));
        assert!(shown(&Molecule::default(), &[], &[], "").contains("no atoms"));
        let alone = Molecule { elements: vec![O, O], positions: vec![[1.0; 3]; 2] };
        let text = shown(&alone, &[Bond { atoms: [1, 0], order: 2 }], &[], "");
        assert_eq!((count(&text, "<circle"), count(&text, "<line")), (2, 0));
    }

    #[test]
    fn texts_are_escaped() {
        let (molecule, bonds) = nitromethyl();
        let text = shown(&molecule, &bonds, &[], "<a & \"b\"\u{0}>");
        assert!(text.contains(">&lt;a &amp; &quot;b&quot; &gt;<"), "{text}");
        let text = figure("α < 80", &[]);
        assert_eq!(count(&text, "α &lt; 80"), 2);
        assert!(text.ends_with("</svg>\n"));
    }

    #[test]
    fn a_figure_has_one_scale_and_a_place_for_each() {
        let (molecule, bonds) = nitromethyl();
        let mut large = molecule.clone();
        large.positions[4] = [-9.0, 0.0, 0.0];
        let small = Drawing { molecule: &molecule, bonds: &bonds, charges: &[], title: "", caption: "" };
        let panels = vec![small, Drawing { molecule: &large, bonds: &[], ..small }];
        let text = figure("two", &[panels, vec![small]]);
        let radii: std::collections::BTreeSet<&str> =
            text.split(" r=\"").skip(6).map(|part| part.split('"').next().unwrap()).collect();
        assert_eq!(radii.len(), 2, "hydrogen and the others");
        let width = GAP + 2.0 * (PLACE[0] + GAP);
        assert!(text.contains(&format!("width=\"{width}\"")));
    }
}
