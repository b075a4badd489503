use faer::{Mat, Scale};
use serde::Deserialize;

use super::frechet::{by_covariance, by_rows};
use super::*;

/// `n` numbers in [0, 1), multiples of 2⁻²⁴, as `uniform` of tools/reference/set_metrics.py.
fn uniform(seed: u64, n: usize) -> impl Iterator<Item = f32> {
    (0..n as u64).map(move |i| {
        let mut z = (i + (seed << 40)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
    })
}

/// Correlated, rectified features of unequal variances, as `features` of tools/reference/set_metrics.py.
fn features((seed, shift): (u64, f32), n: usize, dims: usize) -> FeatureSet {
    let common: Vec<f32> = uniform(2 * seed + 1, n).map(|u| (u - 0.5) * 0.5).collect();
    let feature = |(i, u): (usize, f32)| {
        let scale = 1.0 / (1.0 + (i % dims) as f32 / 256.0);
        ((u - 0.5) * scale + common[i / dims] + shift).max(0.0)
    };
    let data = uniform(2 * seed, n * dims).enumerate().map(feature).collect();
    set(dims, data)
}

fn set(dims: usize, data: Vec<f32>) -> FeatureSet {
    let ids = (0..data.len() / dims).map(|i| format!("{i:05}")).collect();
    FeatureSet::new(ids, dims, data).unwrap()
}

fn distance(reference: &FeatureSet, features: &FeatureSet) -> f64 {
    frechet(&Reference::from_features(reference).unwrap(), features).unwrap().value
}

fn assert_near(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance * b.abs(), "{a} is not {b} (relative {:e})", (a - b) / b);
}

/// The same features with every number changed.
fn changed(features: &FeatureSet, change: impl Fn(usize, f32) -> f32) -> FeatureSet {
    let data = features.data().iter().enumerate().map(|(i, x)| change(i % features.dims(), *x)).collect();
    set(features.dims(), data)
}

#[derive(Deserialize)]
struct Golden {
    reference: (u64, f32),
    set: (u64, f32),
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    dims: usize,
    n: usize,
    blake3: [String; 2],
    fid_pytorch_fid: f64,
    fid_torchmetrics: f64,
    kid_torch_fidelity: f64,
    kid_torchmetrics: f64,
}

impl Golden {
    fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/set_metrics/set_metrics.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    /// Reference and set of a case, once they are what the packages saw.
    fn sets(&self, case: &Case) -> [FeatureSet; 2] {
        let sets = [self.reference, self.set].map(|source| features(source, case.n, case.dims));
        for (set, hash) in sets.iter().zip(&case.blake3) {
            let bytes: Vec<u8> = set.data().iter().flat_map(|x| x.to_le_bytes()).collect();
            assert_eq!(blake3::hash(&bytes).to_hex().as_str(), hash);
        }
        sets
    }
}

#[test]
fn frechet_is_that_of_pytorch_fid_and_torchmetrics() {
    let golden = Golden::read();
    assert_eq!(golden.cases.iter().map(|case| case.dims).collect::<Vec<_>>(), [64, 192, 2048]);
    for case in &golden.cases {
        let [reference, set] = golden.sets(case);
        let value = distance(&reference, &set);
        // The packages themselves agree to 1e-11 below 200 dimensions; at 2,048 the bound is the one asked for.
        let tolerance = if case.dims > 200 { 1e-6 } else { 1e-9 };
        assert_near(value, case.fid_pytorch_fid, tolerance);
        assert_near(value, case.fid_torchmetrics, tolerance);
    }
}

#[test]
fn kernel_distance_is_that_of_torch_fidelity_and_torchmetrics() {
    let golden = Golden::read();
    for case in golden.cases.iter().filter(|case| case.n < 1000) {
        let [reference, set] = golden.sets(case);
        let kid = KidReference::new(reference, 0).unwrap().distance(&set).unwrap();
        assert_eq!((kid.subsets, kid.std, kid.n, kid.reference_n), (1, None, case.n, case.n));
        // Inner products in f32: errors of 1e-7 of kernel values about 1, hardly averaged as they are correlated.
        assert!(
            (kid.mean - case.kid_torch_fidelity).abs() < 1e-7,
            "{} {}",
            kid.mean,
            case.kid_torch_fidelity
        );
        assert!((kid.mean - case.kid_torchmetrics).abs() < 1e-7);
    }
}

#[test]
fn moments_are_those_of_the_definition() {
    let features = features((1, 0.25), 700, 5);
    let gaussian = Moments::of(&features).finish().unwrap();
    for j in 0..5 {
        let column = |j: usize| features.rows().map(move |row| f64::from(row[j]));
        let mean = |j: usize| column(j).sum::<f64>() / 700.0;
        assert_near(gaussian.mean[j], mean(j), 1e-13);
        for i in 0..5 {
            let products = column(i).zip(column(j)).map(|(x, y)| (x - mean(i)) * (y - mean(j)));
            assert_near(gaussian.covariance[(i, j)], products.sum::<f64>() / 699.0, 1e-12);
        }
    }
}

#[test]
fn features_far_from_zero_lose_no_digits() {
    // Multiples of 2⁻⁷: 2¹⁶ more is still exact in f32. Σffᵀ − nμμᵀ would lose ten of sixteen digits here.
    let near = changed(&features((1, 0.25), 900, 6), |_, x| (x * 128.0).round() / 128.0);
    let far = changed(&near, |_, x| x + 65536.0);
    let [near, far] = [near, far].map(|set| Moments::of(&set).finish().unwrap());
    for (a, b) in near.covariance.col_iter().zip(far.covariance.col_iter()) {
        a.iter().zip(b.iter()).for_each(|(a, b)| assert_near(*b, *a, 1e-9));
    }
}

#[test]
fn moments_of_parts_are_those_of_the_whole() {
    let features = features((3, 0.25), 1300, 7);
    let part = |rows: std::ops::Range<usize>| {
        let mut moments = Moments::new(7);
        rows.for_each(|i| moments.add(features.row(i)).unwrap());
        moments
    };
    let mut joined = part(0..600);
    joined.merge(&part(600..603)).unwrap();
    joined.merge(&Moments::new(7)).unwrap();
    joined.merge(&part(603..1300)).unwrap();
    assert_eq!(joined.len(), 1300);
    let [joined, whole] = [joined, Moments::of(&features)].map(|moments| moments.finish().unwrap());
    let (difference, size) = (&joined.covariance - &whole.covariance, whole.covariance.norm_l2());
    assert!(difference.norm_l2() < 1e-13 * size);
    joined.mean.iter().zip(&whole.mean).for_each(|(a, b)| assert_near(*a, *b, 1e-13));
    // Rows one by one are the rows at once, bit for bit.
    assert_eq!(part(0..1300).finish().unwrap().covariance, whole.covariance);
}

#[test]
fn no_bit_depends_on_the_number_of_threads() {
    let (reference, set) = (features((1, 0.25), 1100, 200), features((2, 0.3), 1100, 200));
    let few = features((4, 0.3), 150, 200);
    let measure = || {
        let prepared = Reference::from_features(&reference).unwrap();
        let values = [&set, &few].map(|set| frechet(&prepared, set).unwrap().value.to_bits());
        let kid = KidReference::new(reference.clone(), 0).unwrap().distance(&set).unwrap();
        let spread = bootstrap(&prepared, &few, 5, 0).unwrap();
        (values, kid.mean.to_bits(), spread.standard_error.to_bits())
    };
    let with =
        |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(measure);
    let one = with(1);
    assert_eq!(one, with(2));
    assert_eq!(one, with(3));
}

#[test]
fn the_ways_by_covariance_and_by_rows_agree() {
    let (reference, set) = (features((1, 0.25), 400, 64), features((2, 0.3), 300, 64));
    let reference = Reference::from_features(&reference).unwrap();
    let covariance = by_covariance(&reference, &Moments::of(&set).finish().unwrap()).unwrap();
    // Different sums of about 10⁵ terms.
    assert_near(by_rows(&reference, &set).unwrap(), covariance, 1e-10);
}

#[test]
fn fewer_samples_than_dimensions_give_the_distance_of_the_definition() {
    let (reference, set) = (features((1, 0.25), 40, 64), features((2, 0.3), 30, 64));
    let by_factor = Reference::from_features(&reference).unwrap();
    assert_eq!(by_factor.factor().shape(), (64, 40));
    let gaussian = Moments::of(&reference).finish().unwrap();
    let by_gaussian = Reference::from_gaussian(gaussian).unwrap();
    let value = frechet(&by_factor, &set).unwrap();
    assert!(value.is_meaningless());
    assert_near(frechet(&by_gaussian, &set).unwrap().value, value.value, 1e-9);
    // The eigenvalues of a singular matrix: roots of rounding errors, 64 times 1e-8.
    let covariance = by_covariance(&by_gaussian, &Moments::of(&set).finish().unwrap()).unwrap();
    assert_near(covariance, value.value, 1e-6);
    assert!(
        !frechet(
            &Reference::from_features(&features((1, 0.0), 65, 64)).unwrap(),
            &features((2, 0.0), 65, 64)
        )
        .unwrap()
        .is_meaningless()
    );
}

#[test]
fn a_shift_and_a_scale_have_their_closed_forms() {
    let set = features((1, 0.25), 500, 16);
    let trace = Reference::from_features(&set).unwrap().trace();
    // Cancellation of traces of about 1.
    assert!(distance(&set, &set) < 1e-13);
    // ‖δ‖² with δ = 0.5 in 16 dimensions; sums rounded to f32.
    assert_near(distance(&set, &changed(&set, |_, x| x + 0.5)), 4.0, 1e-6);
    let gaussian = Moments::of(&set).finish().unwrap();
    let mean: f64 = gaussian.mean.iter().map(|x| x * x).sum();
    // Twice the features: (2 − 1)² of mean and deviations.
    assert_near(distance(&set, &changed(&set, |_, x| 2.0 * x)), mean + trace, 1e-9);
}

#[test]
fn a_singular_covariance_has_a_distance() {
    let (reference, set) = (features((1, 0.25), 300, 12), features((2, 0.3), 300, 12));
    let dead = |features: &FeatureSet| {
        let rows = features.rows().flat_map(|row| row.iter().copied().chain([0.0, 0.0, 3.0]));
        self::set(15, rows.collect())
    };
    assert_near(distance(&dead(&reference), &dead(&set)), distance(&reference, &set), 1e-7);
    // Every feature twice: twice the distance.
    let twice = |features: &FeatureSet| {
        self::set(24, features.rows().flat_map(|row| row.iter().chain(row).copied()).collect())
    };
    assert_near(distance(&twice(&reference), &twice(&set)), 2.0 * distance(&reference, &set), 1e-6);
    let constant = self::set(3, vec![1.0; 30]);
    assert_eq!(distance(&constant, &changed(&constant, |_, x| x + 2.0)), 12.0);
}

#[test]
fn stored_parts_are_the_reference() {
    let reference = Reference::from_features(&features((1, 0.25), 300, 12)).unwrap();
    let factor: Vec<f64> = reference.factor().col_iter().flat_map(|c| c.iter().copied()).collect();
    let again = Reference::from_parts(reference.n(), reference.mean().to_vec(), &factor).unwrap();
    let set = features((2, 0.3), 300, 12);
    assert_eq!(frechet(&again, &set), frechet(&reference, &set));
    assert_near(
        reference.trace(),
        (0..12)
            .map(|i| Moments::of(&features((1, 0.25), 300, 12)).finish().unwrap().covariance[(i, i)])
            .sum(),
        1e-12,
    );
}

#[test]
fn sets_that_have_no_distance_say_why() {
    let reference = Reference::from_features(&features((1, 0.25), 30, 4)).unwrap();
    for n in [0, 1] {
        let few = features((1, 0.25), n, 4);
        assert_eq!(frechet(&reference, &few), Err(SetError::TooFew { n }));
        assert_eq!(Reference::from_features(&few).unwrap_err(), SetError::TooFew { n });
        assert_eq!(KidReference::new(few.clone(), 0).unwrap_err(), SetError::TooFew { n });
        let kid = KidReference::new(features((1, 0.25), 30, 4), 0).unwrap();
        assert_eq!(kid.distance(&few), Err(SetError::TooFew { n }));
        assert_eq!(Moments::of(&few).finish().unwrap_err(), SetError::TooFew { n });
    }
    let other = features((1, 0.25), 30, 5);
    assert_eq!(frechet(&reference, &other), Err(SetError::Dims { expected: 4, found: 5 }));
    assert_eq!(Moments::new(4).add(&[0.0; 5]), Err(SetError::Dims { expected: 4, found: 5 }));
    assert_eq!(bootstrap(&reference, &other, 1, 0), Err(SetError::Resamples(1)));
}

#[test]
fn a_nan_names_its_sample() {
    let ids: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
    let error = FeatureSet::new(ids.clone(), 2, vec![0.0, 1.0, 2.0, f32::NAN, 4.0, 5.0]).unwrap_err();
    assert!(error.to_string().starts_with("feature 1 of sample b is NaN"), "{error}");
    assert_eq!(
        FeatureSet::new(ids, 2, vec![0.0; 5]),
        Err(SetError::Size { samples: 3, dims: 2, numbers: 5 })
    );
    assert!(matches!(Moments::new(1).add(&[f32::INFINITY]), Err(SetError::NotFinite { .. })));
}

#[test]
fn statistics_that_are_none_are_refused() {
    let gaussian =
        |mean: Vec<f64>, covariance| Reference::from_gaussian(Gaussian { n: None, mean, covariance });
    let identity = || Mat::<f64>::identity(2, 2);
    assert!(gaussian(vec![0.0; 2], identity()).is_ok());
    for (mean, covariance) in [
        (vec![0.0; 3], identity()),
        (vec![f64::NAN, 0.0], identity()),
        (vec![0.0; 2], identity() * Scale(f64::INFINITY)),
        (vec![0.0; 2], identity() * Scale(-1.0)),
    ] {
        assert!(matches!(gaussian(mean, covariance), Err(SetError::Statistics(_))));
    }
    assert!(Reference::from_parts(None, vec![0.0; 2], &[0.0; 3]).is_err());
    assert!(Reference::from_parts(None, Vec::new(), &[]).is_err());
    assert!(Reference::from_parts(None, vec![0.0], &[f64::NAN]).is_err());
}

#[test]
fn subsets_of_a_set_of_their_size_are_the_set() {
    let (reference, set) = (features((1, 0.25), 1000, 8), features((2, 0.3), 1000, 8));
    let prepared = KidReference::new(reference, 0).unwrap();
    let (drawn, whole) = (prepared.distance(&set).unwrap(), prepared.of_whole(&set));
    assert_eq!(drawn.subsets, 100);
    // Permutations of one set: sums in another order.
    assert!(drawn.std.unwrap() < 1e-12);
    assert!((drawn.mean - whole).abs() < 1e-12, "{drawn:?} {whole}");
}

#[test]
fn sets_of_one_kind_have_a_kernel_distance_about_zero() {
    let reference = KidReference::new(features((1, 0.25), 3000, 8), 0).unwrap();
    let same = reference.distance(&features((5, 0.25), 3000, 8)).unwrap();
    let other = reference.distance(&features((5, 0.3), 3000, 8)).unwrap();
    // Subsets overlap: 100 of them are worth about 3 independent ones of each set.
    assert!(same.mean.abs() < 3.0 * same.std.unwrap(), "{same:?}");
    assert!(other.mean > 5.0 * same.mean.abs(), "{same:?} {other:?}");
}

#[test]
fn the_bootstrap_gives_the_spread_of_independent_sets() {
    let reference = Reference::from_features(&features((1, 0.25), 4000, 4)).unwrap();
    let value = |seed: u64| frechet(&reference, &features((seed, 0.35), 300, 4)).unwrap().value;
    let values: Vec<f64> = (100..160).map(value).collect();
    let mean = values.iter().sum::<f64>() / 60.0;
    let spread = (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 59.0).sqrt();
    let interval = bootstrap(&reference, &features((100, 0.35), 300, 4), 200, 0).unwrap();
    // Errors of both estimates: 1/√(2·60) and 1/√(2·200), and the one set that was resampled.
    let ratio = interval.standard_error / spread;
    assert!((0.6..1.6).contains(&ratio), "{ratio}");
    assert!(interval.low < interval.mean && interval.mean < interval.high);
    assert_eq!(bootstrap(&reference, &features((100, 0.35), 300, 4), 200, 0).unwrap(), interval);
}
