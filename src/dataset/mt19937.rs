//! NumPy's legacy `RandomState`, as far as public splits are made with it: the Mersenne Twister MT19937
//! (Matsumoto and Nishimura 1998) seeded by an integer, and `permutation(n)`.
//!
//! It repeats orders that others published, and draws nothing of this program's own (that is `crate::random`). The
//! stream of `RandomState` is frozen by NumPy (NEP 19); compared with numpy 2.4.6 (`tools/reference/qm9.py`).

/// Words of the state.
const N: usize = 624;
/// Distance of the words that are combined.
const M: usize = 397;

/// `numpy.random.RandomState(seed)`.
#[derive(Clone)]
pub struct RandomState {
    words: [u32; N],
    next: usize,
}

impl RandomState {
    /// Seeded as NumPy seeds it by an integer (`init_genrand` of the authors' code).
    pub fn new(seed: u32) -> Self {
        let mut words = [seed; N];
        for i in 1..N {
            let last = words[i - 1];
            words[i] = 1_812_433_253_u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i as u32);
        }
        Self { words, next: N }
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        if self.next == N {
            self.renew();
        }
        let mut y = self.words[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn renew(&mut self) {
        for i in 0..N {
            let y = (self.words[i] & 0x8000_0000) | (self.words[(i + 1) % N] & 0x7fff_ffff);
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.words[i] = self.words[(i + M) % N] ^ (y >> 1) ^ odd;
        }
        self.next = 0;
    }

    /// Uniform in 0..=`max`: draws under the smallest mask that covers `max` are rejected while they are above it.
    fn up_to(&mut self, max: u32) -> u32 {
        if max == 0 {
            return 0;
        }
        let mask = u32::MAX >> max.leading_zeros();
        loop {
            let value = self.bits() & mask;
            if value <= max {
                return value;
            }
        }
    }

    /// `permutation(n)`: 0..n shuffled by Fisher and Yates, from the last element down.
    pub fn permutation(&mut self, n: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n).collect();
        for i in (1..n).rev() {
            let j = self.up_to(i);
            order.swap(i as usize, j as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_of_the_reference_implementation() {
        // The first outputs of mt19937ar.c for its default seed.
        let mut state = RandomState::new(5489);
        let first: Vec<u32> = (0..5).map(|_| state.bits()).collect();
        assert_eq!(first, [3499211612, 581869302, 3890346734, 3586334585, 545404204]);
        // The 10,000th, as the C++ standard requires it of std::mt19937.
        assert_eq!((5..10_000).map(|_| state.bits()).last(), Some(4123659995));
    }

    #[test]
    fn permutations_are_numpys() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/qm9/splits.json")).unwrap();
        let cases = golden["permutations"].as_array().unwrap();
        assert!(cases.len() >= 8);
        for case in cases {
            let number = |key: &str| u32::try_from(case[key].as_u64().unwrap()).unwrap();
            let order = RandomState::new(number("seed")).permutation(number("n"));
            let first: Vec<u32> = serde_json::from_value(case["first"].clone()).unwrap();
            assert_eq!(order[..first.len()], first, "{case}");
            assert_eq!(hash_of(&order), case["blake3"], "{case}");
        }
    }

    #[test]
    fn a_permutation_of_none_or_one_draws_nothing() {
        let mut state = RandomState::new(0);
        assert!(state.permutation(0).is_empty());
        assert_eq!(state.permutation(1), [0]);
        assert_eq!(state.bits(), RandomState::new(0).bits());
    }

    fn hash_of(order: &[u32]) -> String {
        let bytes: Vec<u8> = order.iter().flat_map(|i| i.to_le_bytes()).collect();
        blake3::hash(&bytes).to_hex().to_string()
    }
}
