//! Properties, and equality with TorchMetrics 1.3.1 and 1.9.0 (`tools/reference/metrics.py`).

use serde::Deserialize;

use super::*;
use crate::random::{Purpose, Stream};

const SHAPE: Shape = Shape::new(3, 20, 16);
const ALL: &[MetricSpec] = &[MetricSpec::Psnr, MetricSpec::Ssim];

fn image(seed: u64) -> Vec<f32> {
    let mut stream = Stream::new(seed, "metrics", "x", Purpose::Init);
    (0..SHAPE.dim()).map(|_| (2.0 * stream.uniform() - 1.0) as f32).collect()
}

fn central_hole() -> Vec<bool> {
    (0..SHAPE.pixels()).map(|p| (7..13).contains(&(p / 16)) && (5..11).contains(&(p % 16))).collect()
}

#[test]
fn an_exact_match_scores_perfectly() {
    let x = image(1);
    let scores = image_scores(&x, &x, SHAPE, Some(&central_hole()), ALL);
    assert_eq!(scores.mse, Some(0.0));
    assert_eq!(scores.psnr, Some(f64::INFINITY));
    assert_eq!(scores.psnr_u8wrap, Some(f64::INFINITY));
    for value in [scores.ssim_tm13, scores.ssim_tm19, scores.hole_ssim_tm13, scores.hole_ssim_tm19] {
        // Rounding of the variances: 1e-15 against C₂ ≈ 1e-3.
        assert!((value.unwrap() - 1.0).abs() < 1e-12);
    }
}

/// The metrics that [`image_scores`] gives.
fn without_network() -> impl Iterator<Item = &'static Metric> {
    METRICS.iter().filter(|metric| metric.name != "lpips")
}

#[test]
fn scores_are_symmetric_and_similarity_is_at_most_one() {
    let (a, b) = (image(1), image(2));
    let hole = central_hole();
    let (forth, back) =
        (image_scores(&a, &b, SHAPE, Some(&hole), ALL), image_scores(&b, &a, SHAPE, Some(&hole), ALL));
    for metric in without_network() {
        let (x, y) = ((metric.value)(&forth).unwrap(), (metric.value)(&back).unwrap());
        assert!((x - y).abs() < 1e-12, "{} {x} {y}", metric.name);
        assert!(metric.unit == "dB" || x.abs() <= 1.0, "{} {x}", metric.name);
    }
}

#[test]
fn reconstructions_are_clamped_to_the_range_of_images() {
    let truth = vec![1.0_f32; SHAPE.dim()];
    let beyond = vec![1.5_f32; SHAPE.dim()];
    assert_eq!(image_scores(&beyond, &truth, SHAPE, None, ALL).mse, Some(0.0));
}

#[test]
fn only_asked_families_and_applicable_metrics_are_given() {
    let (a, b) = (image(1), image(2));
    let scores = image_scores(&a, &b, SHAPE, None, &[MetricSpec::Psnr]);
    assert!(scores.psnr.is_some() && scores.ssim_tm13.is_none() && scores.hole_psnr.is_none());
    let tiny = Shape::new(3, 8, 8);
    let scores = image_scores(&a[..tiny.dim()], &b[..tiny.dim()], tiny, None, ALL);
    assert!(scores.ssim_tm19.is_some() && scores.ssim_tm13.is_none(), "the crop leaves nothing of 8×8");
    let tiny = Shape::new(3, 5, 8);
    assert!(image_scores(&a[..tiny.dim()], &b[..tiny.dim()], tiny, None, ALL).ssim_tm19.is_none());
}

#[test]
fn bytes_are_truncated_as_torch_does() {
    assert_eq!([-1.0, 1.0, 0.0, 0.999].map(psnr::to_byte), [0, 255, 127, 254]);
}

#[test]
fn wrapped_psnr_of_unrelated_images_is_the_published_figure() {
    let (a, b) = (image(5), image(6));
    let bytes_mse =
        a.iter().zip(&b).map(|(&x, &y)| (f64::from(psnr::to_byte(x)) - f64::from(psnr::to_byte(y))).powi(2));
    let honest = psnr::psnr(bytes_mse.sum::<f64>() / a.len() as f64, 255.0);
    // TorchMetrics issue #2787 reports 27.9 dB for a true 7.8 dB; 0.6 dB is the sampling error of 960 entries.
    assert!((psnr::psnr_u8wrap(&a, &b) - 27.9).abs() < 0.6);
    assert!((honest - 7.8).abs() < 0.6);
}

#[test]
fn pooled_and_mean_psnr_differ() {
    let mses = [1e-2, 1e-4];
    let mean = mses.map(|mse| psnr::psnr(mse, psnr::RANGE)).iter().sum::<f64>() / 2.0;
    assert!((mean - 36.02).abs() < 0.01);
    assert!((psnr::pooled(&mses, psnr::RANGE) - 28.99).abs() < 0.01);
}

#[test]
fn noise_of_the_paper_s_level_has_the_paper_s_target() {
    assert!((psnr::psnr(0.05 * 0.05, psnr::RANGE) - 32.04).abs() < 0.005);
}

#[test]
fn metric_names_are_unique_and_found() {
    for metric in METRICS {
        assert_eq!(super::metric(metric.name).unwrap().display, metric.display);
    }
    let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), METRICS.len());
}

#[derive(Deserialize)]
struct Golden {
    /// `[channels, height, width]`.
    shape: [usize; 3],
    /// Image entries are integers over this number, so that they are exact in f32.
    denominator: f32,
    pooled_psnr: f64,
    mean_psnr: f64,
    pairs: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    name: String,
    reconstruction: Vec<i32>,
    truth: Vec<i32>,
    hole: Vec<u8>,
    scores: ImageScores,
}

fn golden() -> (Golden, Vec<ImageScores>) {
    let golden: Golden =
        serde_json::from_str(include_str!("../../tests/golden/metrics/metrics.json")).unwrap();
    let [channels, height, width] = golden.shape;
    let shape = Shape::new(channels, height, width);
    let floats = |values: &[i32]| values.iter().map(|&v| v as f32 / golden.denominator).collect::<Vec<_>>();
    let score = |pair: &Pair| {
        let hole: Vec<bool> = pair.hole.iter().map(|&h| h == 1).collect();
        image_scores(&floats(&pair.reconstruction), &floats(&pair.truth), shape, Some(&hole), ALL)
    };
    let scores = golden.pairs.iter().map(score).collect();
    (golden, scores)
}

#[test]
fn every_metric_equals_torchmetrics() {
    let (golden, scores) = golden();
    assert!(golden.pairs.len() >= 5);
    for (pair, ours) in golden.pairs.iter().zip(&scores) {
        for metric in without_network() {
            let (a, b) = ((metric.value)(ours).unwrap(), (metric.value)(&pair.scores).unwrap());
            // 1e-5: TorchMetrics was fed f64, so what differs is the f32 rounding of (x + 1)/2.
            assert!((a - b).abs() <= 1e-5, "{} {}: {a} {b}", pair.name, metric.name);
        }
    }
}

#[test]
fn aggregates_equal_torchmetrics() {
    let (golden, scores) = golden();
    let mses: Vec<f64> = scores.iter().map(|s| s.mse.unwrap()).collect();
    let mean = scores.iter().map(|s| s.psnr.unwrap()).sum::<f64>() / scores.len() as f64;
    // 1e-5 dB: TorchMetrics accumulates in f32.
    assert!((psnr::pooled(&mses, psnr::RANGE) - golden.pooled_psnr).abs() < 1e-5);
    assert!((mean - golden.mean_psnr).abs() < 1e-5);
}
