//! The classifiers that LPIPS looks through: AlexNet, VGG16 and SqueezeNet 1.1, with torchvision's names and layers.
//!
//! A trunk is cut into slices; the output of each, behind its ReLU, is one layer of the distance. Layers after
//! torchvision 0.29 and the `lpips` package 0.1.4.

pub use crate::spec::metric::LpipsTrunk as Trunk;

use crate::net::kernel::Window;

use super::layer::{Layer, conv};
use super::pool::MaxPool;

impl Trunk {
    /// Channels of the layers that are compared.
    pub const fn channels(self) -> &'static [usize] {
        match self {
            Self::Alex => &[64, 192, 384, 256, 256],
            Self::Vgg => &[64, 128, 256, 512, 512],
            Self::Squeeze => &[64, 128, 256, 384, 384, 512, 512],
        }
    }

    /// The slices, each ending in a layer that is compared.
    pub(super) fn slices(self) -> Vec<Vec<Layer>> {
        match self {
            Self::Alex => alex(),
            Self::Vgg => vgg(),
            Self::Squeeze => squeeze(),
        }
    }
}

fn alex() -> Vec<Vec<Layer>> {
    let pool = || Layer::MaxPool(MaxPool::new(3, 2));
    vec![
        vec![conv("0", 64, 3, Window::square(11, 4, 2))],
        vec![pool(), conv("3", 192, 64, Window::square(5, 1, 2))],
        vec![pool(), conv("6", 384, 192, Window::square(3, 1, 1))],
        vec![conv("8", 256, 384, Window::square(3, 1, 1))],
        vec![conv("10", 256, 256, Window::square(3, 1, 1))],
    ]
}

fn vgg() -> Vec<Vec<Layer>> {
    let slice = |indices: &[usize], outputs: usize, mut inputs: usize| {
        let mut layers = Vec::new();
        if indices[0] > 0 {
            layers.push(Layer::MaxPool(MaxPool::new(2, 2)));
        }
        for index in indices {
            layers.push(conv(index.to_string(), outputs, inputs, Window::square(3, 1, 1)));
            inputs = outputs;
        }
        layers
    };
    vec![
        slice(&[0, 2], 64, 3),
        slice(&[5, 7], 128, 64),
        slice(&[10, 12, 14], 256, 128),
        slice(&[17, 19, 21], 512, 256),
        slice(&[24, 26, 28], 512, 512),
    ]
}

fn squeeze() -> Vec<Vec<Layer>> {
    let pool = || Layer::MaxPool(MaxPool { ceil: true, ..MaxPool::new(3, 2) });
    let concat = |parts: [Vec<Layer>; 3]| parts.into_iter().flatten().collect();
    vec![
        vec![conv("0", 64, 3, Window::square(3, 2, 0))],
        concat([vec![pool()], fire(3, 64, 16, 64), fire(4, 128, 16, 64)]),
        concat([vec![pool()], fire(6, 128, 32, 128), fire(7, 256, 32, 128)]),
        [vec![pool()], fire(9, 256, 48, 192)].concat(),
        fire(10, 384, 48, 192),
        fire(11, 384, 64, 256),
        fire(12, 512, 64, 256),
    ]
}

/// 1×1 to `squeezed` channels, then `expanded` channels by 1×1 beside as many by 3×3.
fn fire(index: usize, inputs: usize, squeezed: usize, expanded: usize) -> Vec<Layer> {
    let name = |part: &str| format!("{index}.{part}");
    vec![
        conv(name("squeeze"), squeezed, inputs, Window::square(1, 1, 0)),
        Layer::Split(vec![
            vec![conv(name("expand1x1"), expanded, squeezed, Window::square(1, 1, 0))],
            vec![conv(name("expand3x3"), expanded, squeezed, Window::square(3, 1, 1))],
        ]),
    ]
}
