//! Pictures drawn in the plane: stripes, a tree, a building, a star.

use super::colour::{Draw, Noise, Rgb, mix, scale, smoothstep};

/// Wavy stripes on a lit cloth.
#[derive(Debug)]
pub(super) struct Stripes {
    direction: [f64; 2],
    frequency: f64,
    wave: [f64; 3],
    colours: [Rgb; 3],
    light: [f64; 2],
    folds: Noise,
}

impl Stripes {
    pub(super) fn draw(d: &mut Draw) -> Self {
        let angle = d.range(0.0, std::f64::consts::PI);
        let side = d.range(0.0, std::f64::consts::TAU);
        Self {
            direction: [libm::cos(angle), libm::sin(angle)],
            frequency: d.range(1.0, 2.4),
            wave: [d.range(0.0, 0.25), d.range(1.0, 3.0), d.range(0.0, 6.3)],
            colours: [
                d.colour([0.2, 0.8], [0.6, 1.0]),
                d.colour([0.3, 0.9], [0.2, 0.6]),
                d.colour([0.0, 0.3], [0.7, 1.0]),
            ],
            light: [0.25 * libm::cos(side), 0.25 * libm::sin(side)],
            folds: d.noise(1.3),
        }
    }

    pub(super) fn colour(&self, u: f64, v: f64) -> Rgb {
        let [c, s] = self.direction;
        let [height, rate, phase] = self.wave;
        let across = c * u + s * v + height * libm::sin(rate * (c * v - s * u) + phase);
        let turn = across * self.frequency;
        let within = turn - turn.floor();
        let first = smoothstep(0.0, 0.06, within) * (1.0 - smoothstep(0.46, 0.52, within));
        let third = smoothstep(0.68, 0.72, within) * (1.0 - smoothstep(0.8, 0.84, within));
        let paint = mix(mix(self.colours[1], self.colours[0], first), self.colours[2], third);
        scale(paint, 0.78 + self.light[0] * u + self.light[1] * v + 0.16 * self.folds.at(u, v))
    }
}

/// A tree with a crown of shaded blobs before hills and sky.
#[derive(Debug)]
pub(super) struct Tree {
    sky: [Rgb; 2],
    hill: [f64; 3],
    grass: Rgb,
    trunk: [f64; 3],
    bark: Rgb,
    crown: Vec<[f64; 3]>,
    leaf: Rgb,
    light: [f64; 2],
    leaves: Noise,
    ground: Noise,
}

impl Tree {
    pub(super) fn draw(d: &mut Draw) -> Self {
        let trunk = [d.range(-0.4, 0.4), d.range(0.06, 0.12), d.range(-0.15, 0.2)];
        let count = d.integer(4, 7);
        let spread = d.range(0.3, 0.5);
        let crown = (0..count)
            .map(|_| {
                let (dx, dy) = (d.range(-spread, spread), d.range(-0.1, 0.5));
                [trunk[0] + dx, trunk[2] + dy, d.range(0.2, 0.36)]
            })
            .collect();
        // Summer and autumn crowns.
        let hue = if d.chance(0.7) { 0.31 } else { 0.08 };
        let side = d.range(-1.0, 1.0);
        Self {
            sky: [d.hued(0.58, 0.1, [0.05, 0.35], [0.8, 1.0]), d.hued(0.6, 0.08, [0.3, 0.65], [0.5, 0.9])],
            hill: [d.range(-0.55, -0.25), d.range(0.03, 0.14), d.range(0.0, 6.3)],
            grass: d.hued(0.25, 0.1, [0.3, 0.6], [0.35, 0.65]),
            trunk,
            bark: d.hued(0.07, 0.03, [0.3, 0.6], [0.22, 0.45]),
            crown,
            leaf: d.hued(hue, 0.06, [0.45, 0.8], [0.4, 0.75]),
            light: [0.7 * side, 0.75],
            leaves: d.noise(4.5),
            ground: d.noise(2.2),
        }
    }

    pub(super) fn colour(&self, u: f64, v: f64) -> Rgb {
        if let Some(leaf) = self.crown_colour(u, v) {
            return leaf;
        }
        let [x, half, top] = self.trunk;
        let foot = -0.78;
        let flare = half * (1.0 + 0.8 * smoothstep(-0.55, foot, v));
        if v < top + 0.1 && v > foot && (u - x).abs() < flare {
            let round = 0.75 + 0.5 * self.light[0] * (u - x) / flare;
            return scale(self.bark, round + 0.2 * self.leaves.at(3.0 * u, 0.7 * v));
        }
        let horizon = self.hill[0] + self.hill[1] * libm::sin(2.4 * u + self.hill[2]);
        if v > horizon {
            return mix(self.sky[0], self.sky[1], ((v - horizon) / 1.4).clamp(0.0, 1.0));
        }
        let shadow = smoothstep(0.75, 0.3, hypot((u - x + 0.3 * self.light[0]) * 1.1, (v - foot) * 3.0));
        scale(self.grass, (0.85 + 0.2 * self.ground.at(u, 2.0 * v)) * (1.0 - 0.45 * shadow))
    }

    /// The blob with the highest point at (u, v) is seen.
    fn crown_colour(&self, u: f64, v: f64) -> Option<Rgb> {
        let rough = 0.05 * self.leaves.at(u, v);
        let mut best: Option<(f64, f64)> = None;
        for &[x, y, r] in &self.crown {
            let (dx, dy) = ((u - x) / r, (v - y) / r);
            let height = 1.0 + rough / r - dx * dx - dy * dy;
            if height > 0.0 && best.is_none_or(|(h, _)| r * height.sqrt() > h) {
                best = Some((r * height.sqrt(), dx * self.light[0] + dy * self.light[1]));
            }
        }
        best.map(|(_, facing)| {
            scale(self.leaf, 0.78 + 0.4 * facing + 0.22 * self.leaves.at(2.0 * u, 2.0 * v))
        })
    }
}

fn hypot(x: f64, y: f64) -> f64 {
    (x * x + y * y).sqrt()
}

/// A block with two faces and rows of windows, a lower one behind it, and a street.
#[derive(Debug)]
pub(super) struct Building {
    sky: [Rgb; 2],
    street: Rgb,
    street_level: f64,
    left: f64,
    edge: f64,
    right: f64,
    roof: f64,
    slope: [f64; 2],
    walls: [Rgb; 2],
    window: [Rgb; 2],
    grid: [f64; 2],
    panes: Noise,
    behind: [f64; 3],
    behind_wall: Rgb,
    dirt: Noise,
}

impl Building {
    pub(super) fn draw(d: &mut Draw) -> Self {
        let left = d.range(-0.85, -0.35);
        let wall = d.hued(0.06, 0.12, [0.1, 0.55], [0.55, 0.9]);
        let behind = d.range(-1.0, 0.3);
        let (bright, dark) = (d.range(0.95, 1.05), d.range(0.5, 0.7));
        let sun_left = d.chance(0.5);
        let shades = if sun_left { [bright, dark] } else { [dark, bright] };
        Self {
            sky: [d.hued(0.6, 0.15, [0.05, 0.4], [0.75, 1.0]), d.hued(0.6, 0.1, [0.2, 0.6], [0.45, 0.9])],
            street: d.hued(0.1, 0.1, [0.0, 0.2], [0.3, 0.55]),
            street_level: d.range(-0.8, -0.6),
            left,
            edge: left + d.range(0.45, 0.8),
            right: left + d.range(1.0, 1.35),
            roof: d.range(0.25, 0.85),
            slope: [d.range(0.0, 0.18), d.range(0.0, 0.25)],
            walls: shades.map(|s| scale(wall, s)),
            window: [d.hued(0.58, 0.06, [0.2, 0.5], [0.15, 0.4]), d.hued(0.13, 0.03, [0.2, 0.6], [0.8, 1.0])],
            grid: [d.range(0.22, 0.32), d.range(0.26, 0.38)],
            panes: d.noise(1.0),
            behind: [behind, behind + d.range(0.6, 1.2), d.range(-0.3, 0.35)],
            behind_wall: d.colour([0.05, 0.3], [0.4, 0.75]),
            dirt: d.noise(2.0),
        }
    }

    pub(super) fn colour(&self, u: f64, v: f64) -> Rgb {
        let worn = 1.0 + 0.1 * self.dirt.at(u, v);
        if v < self.street_level {
            return scale(self.street, worn * (1.0 + 0.3 * (self.street_level - v)));
        }
        if u > self.left && u < self.right {
            let face = usize::from(u > self.edge);
            let away = if face == 0 { self.edge - u } else { u - self.edge };
            let roof = self.roof - self.slope[face] * away;
            if v < roof {
                return scale(self.wall(face, away, (roof - v) / (roof - self.street_level)), worn);
            }
        }
        let [from, to, top] = self.behind;
        if u > from && u < to && v < top {
            return scale(self.behind_wall, worn * (0.8 + 0.2 * v));
        }
        mix(self.sky[0], self.sky[1], ((v - self.street_level) / 1.6).clamp(0.0, 1.0))
    }

    /// Wall or window, `away` from the edge and `down` (0 roof, 1 street) from the roof.
    fn wall(&self, face: usize, away: f64, down: f64) -> Rgb {
        let column = away / self.grid[0];
        let row = down * (self.roof - self.street_level) / self.grid[1];
        let (x, y) = (column - column.floor(), row - row.floor());
        if down < 0.06 {
            return scale(self.walls[face], 0.7);
        }
        if !(0.25..=0.75).contains(&x) || !(0.3..=0.82).contains(&y) {
            return self.walls[face];
        }
        let (dim, other_face) = if face == 0 { (1.0, 0) } else { (0.85, 50) };
        let lit = self.panes.lattice(column.floor() as i64 + other_face, row.floor() as i64);
        scale(self.window[usize::from(lit > 0.45)], dim * (0.85 + 0.3 * (1.0 - y)))
    }
}

/// A bevelled star or polygon that casts a shadow on a textured board.
#[derive(Debug)]
pub(super) struct Star {
    centre: [f64; 2],
    points: f64,
    phase: f64,
    outer: f64,
    inner: f64,
    paint: Rgb,
    board: [Rgb; 2],
    board_noise: Noise,
    planks: [f64; 2],
    light: [f64; 2],
}

impl Star {
    pub(super) fn draw(d: &mut Draw) -> Self {
        let points = f64::from(d.integer(3, 7));
        // An inner radius of outer · cos(π/n) is the straight-sided polygon.
        let flat = libm::cos(std::f64::consts::PI / points);
        let star = if points > 4.0 && d.chance(0.65) { d.range(0.5, 0.7) } else { 1.0 };
        let outer = d.range(0.55, 0.8);
        let side = d.range(0.0, std::f64::consts::TAU);
        let board = d.colour([0.1, 0.5], [0.3, 0.85]);
        Self {
            centre: [d.range(-0.25, 0.25), d.range(-0.25, 0.25)],
            points,
            phase: d.range(0.0, std::f64::consts::TAU),
            outer,
            inner: outer * flat * star,
            paint: d.colour([0.4, 0.9], [0.55, 0.95]),
            board: [board, scale(board, d.range(0.5, 0.9))],
            board_noise: d.noise(1.8),
            planks: [d.range(0.0, 0.2), d.range(3.0, 7.0)],
            light: [libm::cos(side), libm::sin(side)],
        }
    }

    pub(super) fn colour(&self, u: f64, v: f64) -> Rgb {
        let (x, y) = (u - self.centre[0], v - self.centre[1]);
        let (depth, facing) = self.inside(x, y);
        if depth > 0.0 {
            let rim = 1.0 - smoothstep(0.0, 0.22, depth);
            return scale(self.paint, 0.82 + (0.12 + 0.22 * rim) * facing);
        }
        let (shade, _) = self.inside(x + 0.1 * self.light[0], y + 0.1 * self.light[1]);
        let grain = 0.5 + 0.5 * self.board_noise.at(u, 3.0 * v);
        let seam = self.planks[0] * smoothstep(0.7, 1.0, libm::sin(self.planks[1] * v));
        let glow = 0.9 + 0.12 * (self.light[0] * u + self.light[1] * v);
        let lit = glow * (1.0 - 0.5 * smoothstep(-0.08, 0.06, shade)) * (1.0 - seam);
        scale(mix(self.board[0], self.board[1], grain), lit)
    }

    /// Distance to the outline (positive inside) and how far the facet at (x, y) faces the light.
    fn inside(&self, x: f64, y: f64) -> (f64, f64) {
        let sector = std::f64::consts::TAU / self.points;
        let angle = libm::atan2(y, x) - self.phase;
        let nearest = libm::round(angle / sector);
        let folded = angle - nearest * sector;
        let radius = hypot(x, y);
        // In the folded half sector the edge runs from the tip (outer, 0) to the notch at half the sector.
        let (px, py) = (radius * libm::cos(folded), radius * libm::sin(folded.abs()));
        let notch = [self.inner * libm::cos(sector / 2.0), self.inner * libm::sin(sector / 2.0)];
        let along = [notch[0] - self.outer, notch[1]];
        let length = hypot(along[0], along[1]);
        let normal = [along[1] / length, -along[0] / length];
        let depth = -((px - self.outer) * normal[0] + py * normal[1]);
        let turn = self.phase + nearest * sector;
        let (c, s) = (libm::cos(turn), libm::sin(turn));
        let flip = if folded < 0.0 { -1.0 } else { 1.0 };
        let (nx, ny) = (normal[0], normal[1] * flip);
        (depth, (c * nx - s * ny) * self.light[0] + (s * nx + c * ny) * self.light[1])
    }
}
