//! Shared by the tests of networks: the random numbers of `tools/reference/adm.py`, and comparisons.

/// Stream `name` of `tools/reference/adm.py`: numbers in (0, 1) by position. FNV-1a seed, splitmix64 numbers.
pub(super) fn uniform(name: &str) -> impl Fn(u64) -> f64 {
    let fnv = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    move |k: u64| {
        let mut z = seed.wrapping_add((k + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / 9007199254740992.0
    }
}

/// Box–Muller normals of a stream.
pub(super) fn normals(name: &str) -> impl Iterator<Item = f64> {
    let uniform = uniform(name);
    (0..).map(move |i| {
        (-2.0 * uniform(2 * i).ln()).sqrt() * (std::f64::consts::TAU * uniform(2 * i + 1)).cos()
    })
}

/// The first `len` numbers of a stream.
pub(super) fn state(name: &str, len: usize) -> Vec<f32> {
    normals(name).map(|n| n as f32).take(len).collect()
}

/// ‖a − b‖/‖b‖.
pub(super) fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f64| x * x;
    let difference: f64 = a.iter().zip(b).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    (difference / b.iter().map(|b| square(f64::from(*b))).sum::<f64>()).sqrt()
}

/// A pool of its own.
pub(super) fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}
