//! Equal to the public packages with the same random weights; bad weights and images are named.

use super::testing::{
    golden, head_tensors, image, random_inception, random_lpips, random_tensors, random_weights,
    trunk_weights,
};
use super::{
    ConvStack, ConvStackConfig, FeatureNet, Inception, InceptionConfig, Lpips, Normalization,
    PerceptualError, Resize, Scaling, Trunk, inception,
};
use crate::flow::{Cond, ReadOut};
use crate::net::testing::{distance, pool};
use crate::net::weights::{Tensor, Weights};
use crate::test_data;

/// Norm-wise: up to 94 convolutions in f32, summed in another order than PyTorch does.
const TOLERANCE: f64 = 1e-4;
/// The sides of the images behind the golden LPIPS.
const SIDES: [usize; 3] = [3, 33, 35];

fn layers(lpips: &Lpips) -> Vec<f32> {
    let score = lpips.distance(&image("a", SIDES), &image("b", SIDES), SIDES).unwrap();
    assert_eq!(score.total, score.layers.iter().sum::<f64>());
    score.layers.iter().map(|term| *term as f32).collect()
}

#[test]
fn inception_has_the_features_of_every_tool_for_fid() {
    let tools = [
        ("tf1", InceptionConfig { resize: Resize::Tf1, scaling: Scaling::Offset128 }),
        ("antialias", InceptionConfig { resize: Resize::Antialias, scaling: Scaling::Offset128 }),
        ("half_pixel", InceptionConfig { resize: Resize::HalfPixel, scaling: Scaling::SignedUnit }),
    ];
    // The tools differ by more than the tolerance, so that no profile can pass as another.
    for (a, b) in [("tf1", "antialias"), ("tf1", "half_pixel"), ("half_pixel", "antialias")] {
        for name in ["small", "large"] {
            let [a, b] = [a, b].map(|tool| golden(&format!("inception.{tool}.{name}")));
            assert!(distance(&a, &b) > 10.0 * TOLERANCE, "{name}");
        }
    }
    let weights = random_weights("inception", inception::tensors());
    for (tool, config) in tools {
        let net = Inception::new(config, weights.clone()).unwrap();
        for (name, sides) in [("small", [3, 32, 32]), ("large", [3, 340, 310])] {
            let features = net.features(&image(name, sides), sides).unwrap();
            let apart = distance(&features, &golden(&format!("inception.{tool}.{name}")));
            assert!(apart < TOLERANCE, "{tool} {name}: {apart:.1e}");
        }
    }
}

#[test]
fn lpips_has_the_layer_terms_of_both_packages() {
    for trunk in Trunk::ALL {
        for (package, normalization) in [
            ("torchmetrics", Normalization::Torchmetrics),
            ("perceptual_similarity", Normalization::PerceptualSimilarity),
        ] {
            let lpips = random_lpips(trunk, normalization).unwrap();
            let apart = distance(&layers(&lpips), &golden(&format!("lpips.{trunk}.{package}")));
            assert!(apart < TOLERANCE, "{trunk} {package}: {apart:.1e}");
        }
    }
}

#[test]
fn the_gradient_of_lpips_is_autograds() {
    for trunk in Trunk::ALL {
        let lpips = random_lpips(trunk, Normalization::Torchmetrics).unwrap();
        let mut read_out = lpips.read_out(&image("b", SIDES), SIDES).unwrap();
        // Autograd was asked at the clamped image, one where no ReLU of VGG16 is within rounding of its kink.
        let x: Vec<f32> = image("a0", SIDES).iter().map(|x| x.clamp(-1.0, 1.0)).collect();
        let mut gradient = vec![0.0; x.len()];
        read_out.vjp(&x, &[Cond::None], &[1.0], &mut gradient).unwrap();
        let apart = distance(&gradient, &golden(&format!("lpips.{trunk}.gradient")));
        assert!(apart < TOLERANCE, "{trunk}: {apart:.1e}");
    }
}

#[test]
fn gradients_of_lpips_are_finite_differences() {
    for (trunk, normalization) in [
        (Trunk::Alex, Normalization::PerceptualSimilarity),
        (Trunk::Squeeze, Normalization::PerceptualSimilarity),
        (Trunk::Squeeze, Normalization::Torchmetrics),
    ] {
        let lpips = random_lpips(trunk, normalization).unwrap();
        // Inside of the clamp.
        let x: Vec<f32> = image("a", SIDES).iter().map(|x| 0.5 * x).collect();
        let reference = image("b", SIDES);
        let mut read_out = lpips.read_out(&reference, SIDES).unwrap();
        let mut gradient = vec![0.0; x.len()];
        read_out.vjp(&x, &[Cond::None], &[-3.0], &mut gradient).unwrap();
        let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        // Along the gradient, where its length is the slope.
        let at = |step: f64| {
            let moved: Vec<f32> = x
                .iter()
                .zip(&gradient)
                .map(|(x, g)| (f64::from(*x) + step * f64::from(*g) / norm) as f32)
                .collect();
            lpips.distance(&moved, &reference, SIDES).unwrap().total
        };
        let step = 0.01;
        let expected = -3.0 * (at(step) - at(-step)) / (2.0 * step);
        // Kinks of ReLU and of maxima lie within a step; f32 features.
        assert!((norm - expected).abs() < 0.02 * norm, "{trunk}: {norm} against {expected}");
    }
}

#[test]
fn a_read_out_clamps_is_the_distance_and_does_not_depend_on_the_batch() {
    let lpips = random_lpips(Trunk::Alex, Normalization::Torchmetrics).unwrap();
    let (a, b) = (image("a", SIDES), image("b", SIDES));
    let mut read_out = lpips.read_out(&b, SIDES).unwrap();
    let (dim, batch) = (read_out.dim(), [&a[..], &b, &a].concat());
    let (mut alone, mut together) = ([0.0; 1], [0.0; 3]);
    read_out.read(&a, &[Cond::None], &mut alone).unwrap();
    pool(2).install(|| read_out.read(&batch, &[Cond::None; 3], &mut together)).unwrap();
    assert_eq!(together, [alone[0], 0.0, alone[0]]);
    assert_eq!(alone[0], lpips.distance(&a, &b, SIDES).unwrap().total as f32);

    let (mut alone, mut together) = (vec![0.0; dim], vec![0.0; 3 * dim]);
    read_out.vjp(&a, &[Cond::None], &[2.0], &mut alone).unwrap();
    pool(2).install(|| read_out.vjp(&batch, &[Cond::None; 3], &[2.0; 3], &mut together)).unwrap();
    assert_eq!((&together[..dim], &together[2 * dim..]), (&alone[..], &alone[..]));
    assert!(together[dim..2 * dim].iter().all(|g| *g == 0.0), "the minimum is flat");
    let outside = a.iter().zip(&alone).filter(|(x, _)| x.abs() > 1.0);
    assert!(outside.clone().count() > 100 && outside.into_iter().all(|(_, g)| *g == 0.0));
}

#[test]
fn the_small_classifier_is_the_one_that_was_trained() {
    let config = ConvStackConfig { stages: vec![vec![16, 32], vec![48], vec![64]], classes: 10 };
    let net = ConvStack::new(&config, &random_weights("stack", config.tensors())).unwrap();
    let features = net.features(&image("stack", [3, 32, 32]), [3, 32, 32]).unwrap();
    assert!(distance(&features, &golden("stack.features")) < TOLERANCE);
    assert!(distance(&net.scores(&features), &golden("stack.scores")) < TOLERANCE);
    let error = net.features(&image("stack", [3, 9, 3]), [3, 9, 3]).unwrap_err().to_string();
    assert!(error.contains("9×3") && error.contains("at least 4×4"), "{error}");
}

#[test]
fn images_of_other_sizes_that_fit_are_measured_and_smaller_ones_say_the_least() {
    for (trunk, least) in [(Trunk::Alex, 31), (Trunk::Vgg, 16), (Trunk::Squeeze, 17)] {
        let lpips = random_lpips(trunk, Normalization::Torchmetrics).unwrap();
        let measure = |side: usize| {
            let sides = [3, side, side + 1];
            lpips.distance(&image("a", sides), &image("b", sides), sides)
        };
        assert!(measure(least).unwrap().total > 0.0);
        let error = measure(least - 1).unwrap_err().to_string();
        assert!(error.contains(&format!("at least {least}×{least}")), "{error}");
    }
}

#[test]
fn images_without_features_are_refused() {
    let lpips = random_lpips(Trunk::Alex, Normalization::Torchmetrics).unwrap();
    let (good, grey) = (image("a", SIDES), image("a", [1, 33, 35]));
    assert!(matches!(lpips.distance(&good, &grey, [1, 33, 35]), Err(PerceptualError::Sides { .. })));
    assert!(matches!(lpips.distance(&good, &grey, SIDES), Err(PerceptualError::Length { .. })));
    let mut bad = good.clone();
    bad[5] = f32::NAN;
    let error = lpips.distance(&good, &bad, SIDES).unwrap_err().to_string();
    assert!(error.contains("NaN at index 5"), "{error}");
    let mut read_out = lpips.read_out(&good, SIDES).unwrap();
    let error =
        read_out.read(&[good, bad].concat(), &[Cond::None; 2], &mut [0.0; 2]).unwrap_err().to_string();
    assert!(error.contains("row 1") && error.contains("NaN"), "{error}");
}

#[test]
fn heads_of_another_trunk_are_told_apart() {
    let heads = |trunk: Trunk| random_weights("heads", head_tensors(trunk));
    let new = |heads: &Weights| {
        let weights = trunk_weights(Trunk::Alex);
        Lpips::new(Trunk::Alex, Normalization::Torchmetrics, &weights, heads)
    };
    let error = new(&heads(Trunk::Vgg)).unwrap_err().to_string();
    assert!(error.contains("trunk `alex`") && error.contains("these fit `vgg`"), "{error}");
    let mut negative = random_tensors("heads", head_tensors(Trunk::Alex));
    negative.get_mut("lin2.model.1.weight").unwrap().values[7] = -0.25;
    let error = new(&Weights::from_tensors("heads", negative)).unwrap_err().to_string();
    assert!(error.contains("`lin2.model.1.weight`") && error.contains("-0.25"), "{error}");
    let mut short = random_tensors("heads", head_tensors(Trunk::Alex));
    short.remove("lin0.model.1.weight");
    let error = new(&Weights::from_tensors("heads", short)).unwrap_err().to_string();
    assert!(error.contains("`lin0.model.1.weight`") && error.contains("missing"), "{error}");
}

#[test]
fn weights_of_another_inception_are_refused_and_what_is_not_used_is_left_out() {
    let tensors = || random_tensors("inception", inception::tensors());
    let with = |name: &str, shape: &[usize]| {
        let values = vec![0.5; shape.iter().product()];
        let mut all = tensors();
        all.insert(name.to_owned(), Tensor { shape: shape.to_vec(), values });
        Inception::new(InceptionConfig::default(), Weights::from_tensors("weights", all))
    };
    let error = with("fc.weight", &[1000, 4]).unwrap_err().to_string();
    assert!(error.contains("1000 classes") && error.contains("1008"), "{error}");
    assert!(with("fc.weight", &[1008, 4]).is_ok());
    assert!(with("Mixed_5b.branch1x1.bn.num_batches_tracked", &[]).is_ok());
    let error = with("Mixed_9z.weight", &[2]).unwrap_err().to_string();
    assert!(error.contains("Mixed_9z.weight"), "{error}");
    let mut negative = tensors();
    negative.get_mut("Conv2d_1a_3x3.bn.running_var").unwrap().values[3] = -1.0;
    let error = Inception::new(InceptionConfig::default(), Weights::from_tensors("weights", negative))
        .unwrap_err()
        .to_string();
    assert!(error.contains("Conv2d_1a_3x3.bn.running_var") && error.contains("index 3"), "{error}");
}

#[test]
fn images_are_rounded_down_to_bytes_for_inception() {
    let net = random_inception(InceptionConfig::default()).unwrap();
    // Bytes 0, 127 and 255, and just below 128.
    let below = 127.99 / 127.5 - 1.0;
    let seen = |x: f32| net.input(&[x; 3], [3, 1, 1])[0];
    assert_eq!([-1.0, 0.0, 1.0, below].map(seen), [-1.0, -1.0 / 128.0, 127.0 / 128.0, -1.0 / 128.0]);
}

#[test]
fn public_heads_give_what_the_lpips_package_gives() {
    let Some(data) = test_data::folder() else { return };
    for trunk in Trunk::ALL {
        let file = std::fs::read(data.join(format!("lpips/heads_v0.1/{trunk}.pth"))).unwrap();
        let heads = Weights::from_tensors("heads", legacy_heads(&file, trunk));
        let weights = trunk_weights(trunk);
        let lpips = Lpips::new(trunk, Normalization::PerceptualSimilarity, &weights, &heads).unwrap();
        let apart = distance(&layers(&lpips), &golden(&format!("lpips.{trunk}.public_heads")));
        assert!(apart < TOLERANCE, "{trunk}: {apart:.1e}");
    }
}

/// The tensors of a legacy pickle of heads, which the program itself does not read: every name is followed by the number
/// of its storage, and the storages lie at the end in the order of a last list of their numbers.
fn legacy_heads(file: &[u8], trunk: Trunk) -> std::collections::BTreeMap<String, Tensor> {
    // Strings are 'U', length, bytes.
    let text = |at: usize| {
        let length = usize::from(*file.get(at + 1)?);
        let text = std::str::from_utf8(file.get(at + 2..at + 2 + length)?).ok()?;
        (file[at] == b'U' && length > 5).then_some(text)
    };
    let texts: Vec<&str> = (0..file.len()).filter_map(text).collect();
    let is_number = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
    let numbers: Vec<&str> = texts.iter().copied().filter(is_number).collect();
    let layers = trunk.channels().len();
    let length_of: std::collections::BTreeMap<&str, usize> =
        numbers[..layers].iter().copied().zip(trunk.channels().iter().copied()).collect();
    let order = &numbers[layers..2 * layers];
    let mut rest = &file[file.len() - order.iter().map(|key| 8 + 4 * length_of[key]).sum::<usize>()..];
    let mut found = std::collections::BTreeMap::new();
    for key in order {
        let (storage, after) = rest.split_at(8 + 4 * length_of[key]);
        assert_eq!(storage[..8], (length_of[key] as u64).to_le_bytes(), "storage {key}");
        let values: Vec<f32> =
            storage[8..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let layer = numbers[..layers].iter().position(|number| number == key).unwrap();
        let shape = vec![1, values.len(), 1, 1];
        found.insert(format!("lin{layer}.model.1.weight"), Tensor { shape, values });
        rest = after;
    }
    found
}
