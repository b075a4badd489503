//! Ray-marched solids on a ground plane under a sky: sphere, cube, cylinder, cone, torus, and the bare checker floor.

use super::colour::{Draw, Noise, Rgb, mix, scale, smoothstep};

type V3 = [f64; 3];

fn add(a: V3, b: V3) -> V3 {
    std::array::from_fn(|i| a[i] + b[i])
}

fn along(o: V3, d: V3, t: f64) -> V3 {
    std::array::from_fn(|i| o[i] + t * d[i])
}

fn dot(a: V3, b: V3) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn unit(a: V3) -> V3 {
    let s = 1.0 / dot(a, a).sqrt();
    a.map(|v| v * s)
}

fn hypot(x: f64, y: f64) -> f64 {
    (x * x + y * y).sqrt()
}

/// The solids; their half extent is 1 before scaling.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Sphere,
    Cube,
    Cylinder,
    Cone,
    Torus,
}

impl Shape {
    /// Signed distance (a lower bound of it outside) of the shape of half extent 1 at the origin.
    fn distance(self, p: V3) -> f64 {
        match self {
            Self::Sphere => dot(p, p).sqrt() - 1.0,
            Self::Cube => {
                let q = p.map(|v| v.abs() - 0.74);
                let outside = q.map(|v| v.max(0.0));
                dot(outside, outside).sqrt() + q[0].max(q[1]).max(q[2]).min(0.0) - 0.04
            }
            Self::Cylinder => {
                let (r, h) = (hypot(p[0], p[2]) - 0.66, p[1].abs() - 0.9);
                hypot(r.max(0.0), h.max(0.0)) + r.max(h).min(0.0) - 0.04
            }
            Self::Cone => {
                // The slant plane and the base; the gradient of their maximum has length 1.
                let r = hypot(p[0], p[2]);
                let slant = r * 0.916 + (p[1] - 1.0) * 0.402;
                slant.max(-1.0 - p[1])
            }
            Self::Torus => hypot(hypot(p[0], p[1]) - 0.68, p[2]) - 0.3,
        }
    }
}

/// One solid (or none), ground, sky and a light.
#[derive(Debug)]
pub(super) struct SolidScene {
    shape: Option<Shape>,
    centre: V3,
    size: f64,
    turn: [f64; 2],
    albedo: [Rgb; 2],
    bands: f64,
    gloss: f64,
    grain: Noise,
    ground: [Rgb; 2],
    checks: Option<f64>,
    ground_turn: [f64; 2],
    ground_noise: Noise,
    sky: [Rgb; 2],
    clouds: Noise,
    light: V3,
    ambient: f64,
    eye: V3,
    pitch: [f64; 2],
    zoom: f64,
}

impl SolidScene {
    /// Draws the scene of a solid, or of a checker floor without one.
    pub(super) fn draw(d: &mut Draw, shape: Option<Shape>) -> Self {
        let size = d.range(0.72, 1.05);
        let ground_hue = d.range(0.0, 1.0);
        let ground = d.hued(ground_hue, 0.02, [0.1, 0.45], [0.35, 0.75]);
        let contrast = d.range(0.35, 0.7);
        let azimuth = d.range(-2.6, 2.6);
        let height = d.range(0.5, 1.1);
        let pitch = if shape.is_some() { d.range(0.2, 0.38) } else { d.range(0.12, 0.34) };
        let turn = d.range(0.0, std::f64::consts::TAU);
        let ground_turn = d.range(0.0, std::f64::consts::FRAC_PI_2);
        let body = d.colour([0.35, 0.85], [0.55, 0.95]);
        let checks = if shape.is_none() { Some(d.range(0.7, 1.3)) } else { None };
        let distance = 4.6;
        Self {
            shape,
            centre: [d.range(-0.75, 0.75), size * 0.97, d.range(-0.4, 0.5)],
            size,
            turn: [libm::cos(turn), libm::sin(turn)],
            albedo: [body, scale(body, d.range(0.55, 0.85))],
            bands: if d.chance(0.4) { d.range(2.0, 5.0) } else { 0.0 },
            gloss: d.range(0.0, 0.5),
            grain: d.noise(2.6),
            ground: [ground, scale(ground, contrast)],
            checks,
            ground_turn: [libm::cos(ground_turn), libm::sin(ground_turn)],
            ground_noise: d.noise(1.6),
            sky: [d.hued(0.58, 0.12, [0.1, 0.5], [0.75, 1.0]), d.hued(0.58, 0.2, [0.3, 0.7], [0.35, 0.8])],
            clouds: d.noise(1.4),
            light: unit([libm::sin(azimuth), height, -libm::cos(azimuth).abs() - 0.15]),
            ambient: d.range(0.3, 0.45),
            eye: [0.0, 0.55 + distance * libm::sin(pitch), -distance * libm::cos(pitch)],
            pitch: [libm::cos(pitch), libm::sin(pitch)],
            zoom: d.range(2.2, 2.7),
        }
    }

    /// The colour at (u, v) in [−1, 1]², v upwards.
    pub(super) fn colour(&self, u: f64, v: f64) -> Rgb {
        let [cos, sin] = self.pitch;
        let ray = unit([u, v * cos - self.zoom * sin, v * sin + self.zoom * cos]);
        if let Some(t) = self.march(self.eye, ray) {
            return self.surface(along(self.eye, ray, t), ray);
        }
        let sky = self.sky_colour(ray);
        if ray[1] >= -1e-4 {
            return sky;
        }
        let t = -self.eye[1] / ray[1];
        let haze = 1.0 - 1.0 / (1.0 + 0.0016 * t * t);
        mix(self.floor(along(self.eye, ray, t)), sky, haze)
    }

    fn sky_colour(&self, ray: V3) -> Rgb {
        let up = (ray[1] * 2.2).clamp(0.0, 1.0);
        let cloud = smoothstep(0.0, 0.9, self.clouds.at(ray[0] * 3.0, ray[1] * 7.0)) * 0.35;
        mix(mix(self.sky[0], self.sky[1], up), [0.95, 0.95, 0.95], cloud)
    }

    fn local(&self, p: V3) -> V3 {
        let q: V3 = std::array::from_fn(|i| (p[i] - self.centre[i]) / self.size);
        let [c, s] = self.turn;
        [c * q[0] - s * q[2], q[1], s * q[0] + c * q[2]]
    }

    fn distance(&self, shape: Shape, p: V3) -> f64 {
        shape.distance(self.local(p)) * self.size
    }

    /// The ray's first hit with the solid.
    fn march(&self, origin: V3, ray: V3) -> Option<f64> {
        let shape = self.shape?;
        let (mut t, end) = self.bounds(origin, ray)?;
        for _ in 0..48 {
            let gap = self.distance(shape, along(origin, ray, t));
            if gap < 2e-3 {
                return Some(t);
            }
            t += gap;
            if t > end {
                return None;
            }
        }
        None
    }

    /// Entry and exit of the sphere around the solid.
    fn bounds(&self, origin: V3, ray: V3) -> Option<(f64, f64)> {
        let to: V3 = std::array::from_fn(|i| origin[i] - self.centre[i]);
        let b = dot(to, ray);
        let radius = 1.42 * self.size;
        let root = b * b - dot(to, to) + radius * radius;
        (root > 0.0 && root.sqrt() > b).then(|| ((-b - root.sqrt()).max(0.0), root.sqrt() - b))
    }

    /// 1 in full light, 0 in full shadow; the closest miss softens the edge.
    fn light_at(&self, p: V3) -> f64 {
        let Some(shape) = self.shape else { return 1.0 };
        let Some((start, end)) = self.bounds(p, self.light) else { return 1.0 };
        let mut t = start.max(0.02);
        let mut open: f64 = 1.0;
        for _ in 0..24 {
            let gap = self.distance(shape, along(p, self.light, t));
            open = open.min(7.0 * gap / t);
            if open < 0.01 || t > end {
                break;
            }
            t += gap.max(0.03);
        }
        smoothstep(0.0, 1.0, open)
    }

    fn floor(&self, p: V3) -> Rgb {
        let [c, s] = self.ground_turn;
        let (x, z) = (c * p[0] - s * p[2], s * p[0] + c * p[2]);
        let weight = match self.checks {
            Some(cell) => {
                let parity = (x / cell).floor() + (z / cell).floor();
                parity - 2.0 * (parity / 2.0).floor()
            }
            None => 0.5 + 0.5 * self.ground_noise.at(x, z),
        };
        let shade = 1.0 + 0.08 * self.ground_noise.at(x * 2.0, z * 2.0);
        // The solid hides part of the sky from the ground beside it.
        let near = hypot(p[0] - self.centre[0], p[2] - self.centre[2]) / self.size;
        let contact = if self.shape.is_some() { 0.55 + 0.45 * smoothstep(0.3, 1.6, near) } else { 1.0 };
        let lit = self.ambient * contact + 0.75 * self.light[1] * self.light_at(p);
        scale(mix(self.ground[0], self.ground[1], weight), lit * shade)
    }

    fn surface(&self, p: V3, ray: V3) -> Rgb {
        let Some(shape) = self.shape else { return self.sky[0] };
        let step = |axis: usize| {
            let mut e = [0.0; 3];
            e[axis] = 1e-3;
            self.distance(shape, add(p, e)) - self.distance(shape, add(p, e.map(|v| -v)))
        };
        let normal = unit([step(0), step(1), step(2)]);
        let q = self.local(p);
        let band = if self.bands > 0.0 {
            smoothstep(-0.25, 0.25, libm::sin(q[1] * self.bands * 2.0 + q[0]))
        } else {
            0.5 + 0.5 * self.grain.at(q[0] + q[2], q[1] - 0.5 * q[2])
        };
        let facing = dot(normal, self.light);
        let direct = if facing > 0.0 { facing * self.light_at(along(p, normal, 0.02)) } else { 0.0 };
        let ambient = self.ambient * (0.7 + 0.3 * normal[1]);
        let half = unit(std::array::from_fn(|i| self.light[i] - ray[i]));
        let shine = dot(normal, half).max(0.0);
        let (s2, gloss) = (shine * shine, self.gloss);
        let s16 = s2 * s2 * s2 * s2 * s2 * s2 * s2 * s2;
        let body = scale(mix(self.albedo[0], self.albedo[1], band), ambient + 0.8 * direct);
        body.map(|v| v + gloss * s16 * direct)
    }
}
