//! Procedural images: small renderings in ten classes, made from (seed, split, index) alone.
//!
//! 32×32 RGB; shaded solids, a checker floor, stripes, trees, buildings and stars, with texture, shadow, occlusion and
//! a little sensor noise. Every picture is sampled 3×3 per pixel and stored as bytes, and equal keys give equal bytes
//! on every machine (golden hashes below).

mod colour;
mod flat;
mod solid;

use crate::random::{Purpose, Stream};
use colour::{Draw, Rgb, mix, scale, smoothstep};
use flat::{Building, Star, Stripes, Tree};
use solid::{Shape, SolidScene};

use super::manifest::{Entry, Manifest};
use super::{Dataset, DatasetError, Image, SampleError, Split};

/// Names of the classes; the position is the label.
pub const CLASSES: [&str; 10] =
    ["sphere", "cube", "cylinder", "cone", "torus", "checker-floor", "stripes", "tree", "building", "star"];

/// Image side in pixels.
pub const SIZE: usize = 32;
/// Channels, height and width.
pub const SHAPE: [usize; 3] = [3, SIZE, SIZE];

/// Enters every sample's hash: to be raised whenever any picture changes.
pub const VERSION: u32 = 1;

/// Samples per pixel and axis.
const SUPERSAMPLING: usize = 3;

/// What is seen behind the occluder.
#[derive(Debug)]
enum Picture {
    Solid(SolidScene),
    Stripes(Stripes),
    Tree(Tree),
    Building(Building),
    Star(Star),
}

impl Picture {
    fn draw(d: &mut Draw, class: usize) -> Self {
        let solid = |d: &mut Draw, shape| Self::Solid(SolidScene::draw(d, shape));
        match class {
            0 => solid(d, Some(Shape::Sphere)),
            1 => solid(d, Some(Shape::Cube)),
            2 => solid(d, Some(Shape::Cylinder)),
            3 => solid(d, Some(Shape::Cone)),
            4 => solid(d, Some(Shape::Torus)),
            5 => solid(d, None),
            6 => Self::Stripes(Stripes::draw(d)),
            7 => Self::Tree(Tree::draw(d)),
            8 => Self::Building(Building::draw(d)),
            _ => Self::Star(Star::draw(d)),
        }
    }

    fn colour(&self, u: f64, v: f64) -> Rgb {
        match self {
            Self::Solid(scene) => scene.colour(u, v),
            Self::Stripes(cloth) => cloth.colour(u, v),
            Self::Tree(tree) => tree.colour(u, v),
            Self::Building(building) => building.colour(u, v),
            Self::Star(star) => star.colour(u, v),
        }
    }
}

/// Something out of focus before the picture.
#[derive(Debug)]
enum Occluder {
    /// A round post: centre, half width, lean.
    Post { x: f64, half: f64, lean: f64, paint: Rgb },
    /// A ball near a corner: centre, radius.
    Ball { x: f64, y: f64, radius: f64, paint: Rgb },
}

impl Occluder {
    fn draw(d: &mut Draw) -> Option<Self> {
        if !d.chance(0.35) {
            return None;
        }
        let side = if d.chance(0.5) { 1.0 } else { -1.0 };
        let paint = d.colour([0.1, 0.6], [0.15, 0.6]);
        if d.chance(0.5) {
            let x = side * d.range(0.45, 0.95);
            Some(Self::Post { x, half: d.range(0.07, 0.16), lean: d.range(-0.12, 0.12), paint })
        } else {
            let (x, y) = (side * d.range(0.75, 1.1), d.range(-1.05, -0.5));
            Some(Self::Ball { x, y, radius: d.range(0.3, 0.55), paint })
        }
    }

    fn over(&self, behind: Rgb, u: f64, v: f64) -> Rgb {
        let (offset, light, paint) = match *self {
            Self::Post { x, half, lean, paint } => {
                let offset = (u - x - lean * v) / half;
                (offset.abs(), 0.85 - 0.35 * offset, paint)
            }
            Self::Ball { x, y, radius, paint } => {
                let (dx, dy) = ((u - x) / radius, (v - y) / radius);
                ((dx * dx + dy * dy).sqrt(), 0.8 - 0.25 * dx + 0.3 * dy, paint)
            }
        };
        mix(scale(paint, light), behind, smoothstep(0.92, 1.08, offset))
    }
}

/// Renders one image: 3 × 32 × 32 bytes, channel first, rows from the top.
///
/// The class is `index mod 10`; `seed`, `split` and `index` determine everything else.
pub fn render(seed: u64, split: Split, index: u64) -> Vec<u8> {
    let mut d =
        Draw(Stream::new(seed, &format!("procedural v{VERSION}"), &sample_id(split, index), Purpose::Image));
    let picture = Picture::draw(&mut d, class_of(index));
    let occluder = Occluder::draw(&mut d);
    let vignette = d.range(0.0, 0.12);
    let exposure = d.range(0.88, 1.05);
    let noise = d.range(0.008, 0.02);
    let colour = |u: f64, v: f64| {
        let seen = picture.colour(u, v);
        let seen = occluder.as_ref().map_or(seen, |o| o.over(seen, u, v));
        scale(seen, exposure * (1.0 - vignette * (u * u + v * v))).map(|c| c.clamp(0.0, 1.0))
    };
    let mut bytes = vec![0; 3 * SIZE * SIZE];
    for pixel in 0..SIZE * SIZE {
        let mean = pixel_mean(&colour, pixel % SIZE, pixel / SIZE);
        for (channel, value) in mean.into_iter().enumerate() {
            let noisy = value + noise * d.0.normal();
            bytes[channel * SIZE * SIZE + pixel] = libm::round(noisy.clamp(0.0, 1.0) * 255.0) as u8;
        }
    }
    bytes
}

/// Mean colour of the pixel in column `x`, row `y` (from the top).
fn pixel_mean(colour: &impl Fn(f64, f64) -> Rgb, x: usize, y: usize) -> Rgb {
    let mut sum = [0.0; 3];
    let place = |pixel: usize, part: usize| {
        2.0 * (pixel as f64 + (part as f64 + 0.5) / SUPERSAMPLING as f64) / SIZE as f64 - 1.0
    };
    for part in 0..SUPERSAMPLING * SUPERSAMPLING {
        let c = colour(place(x, part % SUPERSAMPLING), -place(y, part / SUPERSAMPLING));
        sum = std::array::from_fn(|i| sum[i] + c[i]);
    }
    scale(sum, 1.0 / (SUPERSAMPLING * SUPERSAMPLING) as f64)
}

fn class_of(index: u64) -> usize {
    (index % CLASSES.len() as u64) as usize
}

fn sample_id(split: Split, index: u64) -> String {
    format!("{split}/{index:06}")
}

/// The procedural images of one split, rendered when asked for.
#[derive(Debug)]
pub struct Procedural {
    seed: u64,
    split: Split,
    manifest: Manifest,
}

impl Procedural {
    /// The first `count` images of a split.
    ///
    /// Content hashes cover the recipe (version, seed, split, index), so that opening renders nothing.
    ///
    /// # Errors
    /// If `count` is 0.
    pub fn new(name: &str, seed: u64, split: Split, count: u64) -> Result<Self, DatasetError> {
        let entries = (0..count)
            .map(|index| {
                let id = sample_id(split, index);
                let recipe = format!("procedural v{VERSION} seed {seed} {id}");
                Entry { label: Some(class_of(index) as u32), content: blake3::hash(recipe.as_bytes()), id }
            })
            .collect();
        Ok(Self { seed, split, manifest: Manifest::new(name, split, Some(CLASSES.len()), entries)? })
    }
}

impl Dataset for Procedural {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn shape(&self) -> [usize; 3] {
        SHAPE
    }

    fn image(&self, index: usize) -> Result<Image, SampleError> {
        self.manifest.entry(index)?;
        Ok(Image::from_chw_bytes(&render(self.seed, self.split, index as u64), SHAPE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_give_equal_bytes_on_every_machine() {
        let hashes: Vec<String> = (0..10)
            .map(|index| blake3::hash(&render(0, Split::Test, index)).to_hex()[..12].to_owned())
            .collect();
        assert_eq!(hashes, GOLDEN);
    }

    /// Made by this code; a change here needs a new `VERSION` and newly trained weights.
    const GOLDEN: [&str; 10] = [
        "056d9321d2a2",
        "7defb98df984",
        "b519ffe104bf",
        "35cfae701b4a",
        "b09be688a342",
        "2f09e059adbb",
        "582717139de7",
        "661dcae8ae47",
        "129529c5cd85",
        "376df42ef0ee",
    ];

    #[test]
    fn splits_seeds_and_indices_give_different_pictures() {
        let base = render(0, Split::Test, 3);
        assert_ne!(base, render(1, Split::Test, 3));
        assert_ne!(base, render(0, Split::Train, 3));
        assert_ne!(base, render(0, Split::Test, 13));
    }

    #[test]
    fn pictures_use_the_range_without_saturating() {
        for index in 0..40 {
            let bytes = render(0, Split::Test, index);
            let extreme = bytes.iter().filter(|&&b| b == 0 || b == 255).count();
            let (low, high) = bytes.iter().fold((255, 0), |(l, h), &b| (l.min(b), h.max(b)));
            assert!(high - low > 60, "image {index} is flat: {low}..{high}");
            assert!(extreme * 5 < bytes.len() * 2, "image {index} saturates in {extreme} bytes");
        }
    }
}
