//! Dropout from a counter: an element's mask is a hash of (seed, step, site, row, position, channel).
//!
//! Nothing is stored: backward computes the same mask again. A row is named by its place in the whole batch, of which a
//! process may have a part, an element by its position in the row: how rows are laid out in memory does not matter.

use super::simd::{change, multiversion};

/// The masks of one optimiser step.
#[derive(Debug, Clone, Copy)]
pub struct Masks {
    key: u64,
    /// An element stays where its 32 bits are below this.
    threshold: u32,
    scale: f32,
    /// The place in the whole batch of the first row here.
    first_row: u32,
}

/// The mask of one row at one site.
#[derive(Debug, Clone, Copy)]
pub struct RowMask {
    keys: [u32; 2],
    threshold: u32,
    scale: f32,
}

/// Steele, Lea and Flood's finalizer: a bijection of 64 bits in which each bit moves all.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Masks {
    /// `None` where nothing is dropped.
    pub fn new(seed: u64, step: u64, probability: f64) -> Option<Self> {
        (probability > 0.0).then(|| Self {
            key: mix(mix(seed) ^ step),
            threshold: ((1.0 - probability) * 4_294_967_296.0) as u32,
            scale: (1.0 / (1.0 - probability)) as f32,
            first_row: 0,
        })
    }

    /// The masks of rows that begin with this one of the whole batch.
    pub fn from_row(self, first_row: u32) -> Self {
        Self { first_row, ..self }
    }

    /// Key, threshold, scale and first row, for kernels elsewhere.
    pub fn parts(&self) -> (u64, u32, f32, u32) {
        (self.key, self.threshold, self.scale, self.first_row)
    }

    /// The mask of row `row` here at a site of the model.
    pub fn row(&self, site: u32, row: u32) -> RowMask {
        let key = mix(self.key ^ ((u64::from(site) << 32) | u64::from(self.first_row + row)));
        RowMask { keys: [key as u32, (key >> 32) as u32], threshold: self.threshold, scale: self.scale }
    }
}

impl RowMask {
    /// Multiplies by the mask; `start` is the counter of the first element.
    pub fn apply(&self, values: &mut [f32], start: u32) {
        apply(values, start, self.keys, self.threshold, self.scale);
    }

    /// Writes `values` times the mask.
    pub fn write(&self, values: &[f32], start: u32, out: &mut [f32]) {
        out.copy_from_slice(values);
        self.apply(out, start);
    }
}

#[inline(always)]
fn bits(counter: u32, keys: [u32; 2]) -> u32 {
    let mut x = counter.wrapping_add(keys[0]);
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15) ^ keys[1]).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

multiversion! {
    pub fn apply(values: &mut [f32], start: u32, keys: [u32; 2], threshold: u32, scale: f32) {
        change(values, |i, value| {
            let kept = bits(start.wrapping_add(i as u32), keys) < threshold;
            value * if kept { scale } else { 0.0 }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keep_rate_and_the_mean_are_right_and_masks_differ() {
        let masks = Masks::new(42, 7, 0.1).expect("above 0");
        let draw = |masks: &Masks, site, row| {
            let mut ones = vec![1.0_f32; 200_000];
            masks.row(site, row).apply(&mut ones, 0);
            ones
        };
        let first = draw(&masks, 0, 0);
        let kept = first.iter().filter(|x| **x > 0.0).count() as f64 / 200_000.0;
        let mean = first.iter().map(|x| f64::from(*x)).sum::<f64>() / 200_000.0;
        assert!((kept - 0.9).abs() < 0.003 && (mean - 1.0).abs() < 0.004, "{kept} {mean}");
        assert_eq!(first, draw(&masks, 0, 0));
        // Two independent masks agree on 0.9 * 0.9 + 0.1 * 0.1 of the elements.
        let other_step = Masks::new(42, 8, 0.1).expect("above 0");
        for other in [draw(&masks, 1, 0), draw(&masks, 0, 1), draw(&other_step, 0, 0)] {
            let equal = first.iter().zip(&other).filter(|(a, b)| a == b).count() as f64 / 200_000.0;
            assert!((equal - 0.82).abs() < 0.005, "{equal}");
        }
        assert!(Masks::new(1, 1, 0.0).is_none());
    }
}
