//! Bootstrap intervals: the rows are drawn again and again with replacement.

use super::correlation::{ROUNDING, order};
use crate::seed::{Seed, below};
use rayon::prelude::*;
use serde::Serialize;

/// 95 % percentile intervals, `[low, high]`; null where the number is not defined.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Intervals {
    /// How many resamples were drawn.
    pub resamples: u32,
    /// The share of resamples that lie inside.
    pub level: f64,
    pub pearson: Option<[f64; 2]>,
    pub spearman: Option<[f64; 2]>,
    pub r2: Option<[f64; 2]>,
    pub mse: Option<[f64; 2]>,
}

const LEVEL: f64 = 0.95;

/// Draws `resamples` of the rows; the draws depend on seed and number of rows alone, so models are compared on equal ones.
pub fn intervals(expression: &[f64], prediction: &[f64], resamples: u32, seed: Seed) -> Intervals {
    let sample = Sample::new(expression, prediction);
    // Each resample has a stream of its own: which thread draws it changes nothing.
    let drawn: Vec<Statistics> = (0..resamples)
        .into_par_iter()
        .map(|i| {
            let mut rng = seed.rng(&format!("bootstrap {i}"));
            let n = expression.len();
            let mut counts = vec![0_u32; n];
            (0..n).for_each(|_| counts[below(&mut rng, n as u64) as usize] += 1);
            sample.statistics(&counts)
        })
        .collect();
    let of = |get: fn(&Statistics) -> Option<f64>| percentiles(drawn.iter().filter_map(get).collect());
    Intervals {
        resamples,
        level: LEVEL,
        pearson: of(|s| s.pearson),
        spearman: of(|s| s.spearman),
        r2: of(|s| s.r2),
        mse: of(|s| Some(s.mse)),
    }
}

fn percentiles(mut values: Vec<f64>) -> Option<[f64; 2]> {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().checked_sub(1)? as f64;
    let at = |share: f64| {
        let place = share * last;
        let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
        below + (above - below) * place.fract()
    };
    Some([at((1.0 - LEVEL) / 2.0), at((1.0 + LEVEL) / 2.0)])
}

struct Statistics {
    pearson: Option<f64>,
    spearman: Option<f64>,
    r2: Option<f64>,
    mse: f64,
}

/// Rows sorted once: a resample is then a count per row, and its ranks need no sorting.
struct Sample<'a> {
    expression: &'a [f64],
    prediction: &'a [f64],
    by_expression: Vec<u32>,
    by_prediction: Vec<u32>,
    center: (f64, f64),
}

impl<'a> Sample<'a> {
    fn new(expression: &'a [f64], prediction: &'a [f64]) -> Self {
        let mean = |v: &[f64]| super::mean(v).unwrap_or(0.0);
        Self {
            expression,
            prediction,
            by_expression: order(expression),
            by_prediction: order(prediction),
            center: (mean(expression), mean(prediction)),
        }
    }

    fn statistics(&self, counts: &[u32]) -> Statistics {
        let n = counts.len() as f64;
        let moments = Moments::of(self.expression, self.prediction, self.center, counts);
        let squared: f64 =
            (0..counts.len()).map(|i| f64::from(counts[i]) * (self.prediction[i] - self.expression[i]).powi(2)).sum();
        let pearson = moments.correlation(self.center);
        let spearman = pearson.and_then(|_| {
            let x = resampled_ranks(self.expression, &self.by_expression, counts);
            let y = resampled_ranks(self.prediction, &self.by_prediction, counts);
            let middle = f64::midpoint(n, 1.0);
            Moments::of(&x, &y, (middle, middle), counts).correlation((0.0, 0.0))
        });
        let r2 = (moments.xx > 0.0).then(|| 1.0 - squared / moments.xx);
        Statistics { pearson, spearman, r2, mse: squared / n }
    }
}

/// The ranks that the rows have in a resample; those not drawn keep 0, and count nothing.
fn resampled_ranks(values: &[f64], order: &[u32], counts: &[u32]) -> Vec<f64> {
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0_u64;
    for tie in order.chunk_by(|&a, &b| values[a as usize] == values[b as usize]) {
        let drawn: u64 = tie.iter().map(|&i| u64::from(counts[i as usize])).sum();
        let rank = before as f64 + (drawn as f64 + 1.0) / 2.0;
        tie.iter().for_each(|&i| ranks[i as usize] = rank);
        before += drawn;
    }
    ranks
}

/// Centred second moments of a resample.
struct Moments {
    n: f64,
    xx: f64,
    yy: f64,
    xy: f64,
}

impl Moments {
    /// `center` only has to be near the means: it keeps digits that subtraction would lose.
    fn of(x: &[f64], y: &[f64], center: (f64, f64), counts: &[u32]) -> Self {
        let (mut sx, mut sy, mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for i in 0..counts.len() {
            let (w, dx, dy) = (f64::from(counts[i]), x[i] - center.0, y[i] - center.1);
            sx += w * dx;
            sy += w * dy;
            xx += w * dx * dx;
            yy += w * dy * dy;
            xy += w * dx * dy;
        }
        let n = counts.len() as f64;
        // What is left of equal numbers after the subtraction is rounding.
        let about_mean = |sum: f64, squares: f64| {
            let rest = squares - sum * sum / n;
            if rest > 1e-12 * squares { rest } else { 0.0 }
        };
        Self { n, xx: about_mean(sx, xx), yy: about_mean(sy, yy), xy: xy - sx * sy / n }
    }

    fn correlation(&self, center: (f64, f64)) -> Option<f64> {
        let varies = |squares: f64, mean: f64| squares > self.n * (ROUNDING * mean).powi(2);
        (varies(self.xx, center.0) && varies(self.yy, center.1))
            .then(|| (self.xy / (self.xx * self.yy).sqrt()).clamp(-1.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{pearson, r2, spearman};
    use super::*;

    fn made_up(n: usize) -> (Vec<f64>, Vec<f64>) {
        let mut rng = Seed(3).rng("test");
        let y: Vec<f64> = (0..n).map(|_| (crate::seed::normal(&mut rng) * 4.0).round() / 2.0 + 11.0).collect();
        let p = y.iter().map(|y| 0.5 * y + crate::seed::normal(&mut rng)).collect();
        (y, p)
    }

    #[test]
    fn counting_rows_gives_what_repeating_them_gives() {
        let (y, p) = made_up(300);
        let mut rng = Seed(4).rng("test");
        let mut counts = vec![0_u32; 300];
        (0..300).for_each(|_| counts[below(&mut rng, 300) as usize] += 1);
        let repeat =
            |v: &[f64]| -> Vec<f64> { v.iter().zip(&counts).flat_map(|(v, &c)| vec![*v; c as usize]).collect() };
        let found = Sample::new(&y, &p).statistics(&counts);
        let (y, p) = (repeat(&y), repeat(&p));
        for (a, b) in [(found.pearson, pearson(&y, &p)), (found.spearman, spearman(&y, &p)), (found.r2, r2(&y, &p))] {
            assert!((a.expect("defined") - b.expect("defined")).abs() < 1e-12, "{a:?} {b:?}");
        }
    }

    #[test]
    fn intervals_hold_the_estimate_and_do_not_depend_on_threads() {
        let (y, p) = made_up(500);
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            pool.install(|| intervals(&y, &p, 200, Seed(42)))
        };
        let found = with(1);
        assert_eq!(found, with(3));
        let [low, high] = found.pearson.expect("defined");
        let r = pearson(&y, &p).expect("defined");
        assert!(low < r && r < high && high - low < 0.2, "{low} {r} {high}");
    }
}
