//! Random numbers: a seed and a purpose give a generator of their own.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The seed of a stage; every draw names its purpose, so that a draw added in one place moves no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// Gives the generator for one purpose: ChaCha8 keyed by BLAKE3 of purpose and seed.
    pub fn rng(self, purpose: &str) -> ChaCha8Rng {
        let mut hasher = blake3::Hasher::new_derive_key("cistage 2026 random generator of a stage");
        hasher.update(purpose.as_bytes());
        hasher.update(&self.0.to_le_bytes());
        ChaCha8Rng::from_seed(hasher.finalize().into())
    }
}

/// Draws a whole number below `bound`, unbiased (Lemire's multiply and reject).
pub fn below(rng: &mut impl RngCore, bound: u64) -> u64 {
    assert!(bound > 0, "no whole number lies below 0");
    loop {
        let product = u128::from(rng.next_u64()) * u128::from(bound);
        if product as u64 >= bound.wrapping_neg() % bound {
            return (product >> 64) as u64;
        }
    }
}

/// Draws a number in [0, 1) with 53 random bits.
pub fn unit(rng: &mut impl RngCore) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Draws from the standard normal distribution (Box and Muller, one of the pair).
pub fn normal(rng: &mut impl RngCore) -> f64 {
    let radius = (-2.0 * (1.0 - unit(rng)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(rng)).cos()
}

/// Shuffles in place (Fisher and Yates): each order is equally likely.
pub fn shuffle<T>(rng: &mut impl RngCore, items: &mut [T]) {
    for i in (1..items.len()).rev() {
        items.swap(i, below(rng, i as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_have_streams_of_their_own() {
        let first = |purpose| Seed(42).rng(purpose).next_u64();
        assert_eq!(first("split"), first("split"));
        assert_ne!(first("split"), first("bins"));
        assert_ne!(first("split"), Seed(43).rng("split").next_u64());
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..1000).collect();
        shuffle(&mut Seed(1).rng("test"), &mut items);
        assert_ne!(items, (0..1000).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn normal_draws_have_mean_0_and_deviation_1() {
        let mut rng = Seed(7).rng("test");
        let draws: Vec<f64> = (0..20_000).map(|_| normal(&mut rng)).collect();
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.04, "{mean} {variance}");
    }
}
