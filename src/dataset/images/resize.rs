//! From a picture of any size to the size of a dataset's samples.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pixels::Pixels;
use super::resample::{Filter, resize};

/// How pictures of other sizes become samples. Part of a manifest's hash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResizeRule {
    /// They do not: an image of another size is an error of its sample.
    #[default]
    None,
    /// Squashed to the sample's sides, whatever the proportions, by a box filter: how the public downsampled ImageNet
    /// is made (the ImageNet32 resizer, `-a box`).
    BoxSquash,
    /// Halved by a box filter while the shorter side stays at least twice the sample's, then bicubic to the shorter
    /// side, then the centre: `center_crop_arr` of guided-diffusion. Samples must be square.
    CentreCrop,
}

impl ResizeRule {
    /// As it enters a manifest's hash; none for no resize.
    pub(super) const fn identity(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::BoxSquash => Some("box_squash"),
            Self::CentreCrop => Some("centre_crop"),
        }
    }

    /// `image` with `width` × `height` pixels; with [`Self::None`] (and for [`Self::CentreCrop`] of a sample that is not
    /// square) as it is.
    pub(super) fn apply(self, image: Pixels, width: usize, height: usize) -> Pixels {
        match self {
            Self::BoxSquash => resize(&image, width, height, Filter::Box),
            Self::CentreCrop if width == height => centre_crop(image, width),
            Self::None | Self::CentreCrop => image,
        }
    }
}

/// Most pixels of a picture before its centre is cropped.
const MAX_SCALED: usize = 1 << 26;

fn centre_crop(mut image: Pixels, side: usize) -> Pixels {
    while image.width.min(image.height) >= 2 * side {
        image = resize(&image, image.width / 2, image.height / 2, Filter::Box);
    }
    let scale = side as f64 / image.width.min(image.height) as f64;
    // Python's round: halves to even.
    let scaled = |length: usize| (length as f64 * scale).round_ties_even() as usize;
    let (width, height) = (scaled(image.width), scaled(image.height));
    // A strip whose shorter side is scaled up may become gigabytes: it stays as it is, an image of another size.
    if width.saturating_mul(height) > MAX_SCALED {
        return image;
    }
    let image = resize(&image, width, height, Filter::Bicubic);
    image.cropped((image.width - side) / 2, (image.height - side) / 2, side, side)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strip_that_would_become_gigabytes_stays_as_it_is() {
        let strip = Pixels { width: 1_000_000, height: 1, channels: 3, bytes: vec![0; 3_000_000] };
        let cropped = ResizeRule::CentreCrop.apply(strip, 128, 128);
        assert_eq!((cropped.width, cropped.height), (1_000_000, 1));
    }

    #[derive(Deserialize)]
    struct Golden {
        rule: ResizeRule,
        source: [usize; 2],
        side: usize,
        /// In hex.
        bytes: String,
    }

    /// The source picture of the golden file: waves, an edge, and noise of a linear congruence.
    fn picture(width: usize, height: usize) -> Pixels {
        let mut state = 12345u32;
        let mut bytes = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            for x in 0..width {
                for channel in 0..3 {
                    state = state.wrapping_mul(1664525).wrapping_add(1013904223);
                    let ramp = (x * (channel + 2) + y * 3) % 256;
                    let edge = if x * height > y * width { 60 } else { 0 };
                    bytes.push(((ramp + edge + (state >> 26) as usize) % 256) as u8);
                }
            }
        }
        Pixels { width, height, channels: 3, bytes }
    }

    #[test]
    fn bytes_are_those_of_pillow() {
        let golden: Vec<Golden> =
            serde_json::from_str(include_str!("../../../tests/golden/images/resize.json")).unwrap();
        assert!(golden.len() >= 8);
        for Golden { rule, source: [width, height], side, bytes } in golden {
            let ours = rule.apply(picture(width, height), side, side);
            let hex: String = ours.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            // No tolerance: the same integers in the same order.
            assert_eq!((ours.width, ours.height), (side, side));
            assert!(hex == bytes, "{rule:?} of {width}×{height} to {side}");
        }
    }

    #[test]
    fn no_rule_leaves_the_size() {
        let image = picture(5, 4);
        assert_eq!(ResizeRule::None.apply(image.clone(), 9, 9), image);
    }
}
