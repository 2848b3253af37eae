//! Bootstrap intervals: the rows are drawn again and again with replacement.

use super::correlation::{ROUNDING, order};
use crate::seed::Seed;
use rand_chacha::rand_core::RngCore;
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

/// Draws `resamples` of the rows; the draws depend on seed and measured values alone, so models are compared on equal ones.
pub fn intervals(expression: &[f64], prediction: &[f64], resamples: u32, seed: Seed) -> Intervals {
    let sample = Sample::new(expression, prediction);
    // Each resample has a stream of its own: which thread draws it changes nothing.
    let drawn: Vec<Statistics> = (0..resamples)
        .into_par_iter()
        .map_init(Room::default, |room, i| {
            room.draw(&mut seed.rng(&format!("bootstrap {i}")), expression.len());
            sample.statistics(room)
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

/// Rows in the order of their measured values: a resample is then a count per row, and its ranks need no sorting.
struct Sample {
    expression: Vec<f64>,
    prediction: Vec<f64>,
    /// Rows of equal measured values: where each run of them ends.
    expression_ties: Vec<u32>,
    /// Places of the rows in the order of their predictions, and where each run of equal ones ends.
    by_prediction: Vec<u32>,
    prediction_ties: Vec<u32>,
    center: (f64, f64),
}

/// What one resample after the other is worked out in.
#[derive(Default)]
struct Room {
    /// How often each row was drawn.
    counts: Vec<u32>,
    /// Each row's rank by its measured value.
    ranks: Vec<f32>,
}

impl Room {
    /// Draws `rows` rows with replacement.
    fn draw(&mut self, rng: &mut impl RngCore, rows: usize) {
        self.counts.clear();
        self.counts.resize(rows, 0);
        let bound = u32::try_from(rows).expect("fewer than 2^32 rows are measured at once");
        // Lemire's multiply and reject, on half the random bits that `below` takes.
        let reject = bound.wrapping_neg().checked_rem(bound).unwrap_or(0);
        for _ in 0..rows {
            let product = loop {
                let product = u64::from(rng.next_u32()) * u64::from(bound);
                if product as u32 >= reject {
                    break product;
                }
            };
            self.counts[(product >> 32) as usize] += 1;
        }
    }
}

impl Sample {
    fn new(expression: &[f64], prediction: &[f64]) -> Self {
        let mean = |v: &[f64]| super::mean(v).unwrap_or(0.0);
        let center = (mean(expression), mean(prediction));
        let sorted = order(expression);
        let pick = |v: &[f64]| -> Vec<f64> { sorted.iter().map(|&i| v[i as usize]).collect() };
        let (expression, prediction) = (pick(expression), pick(prediction));
        let by_prediction = order(&prediction);
        let expression_ties = ends_of_ties(expression.iter().copied());
        let prediction_ties = ends_of_ties(by_prediction.iter().map(|&i| prediction[i as usize]));
        Self { expression, prediction, expression_ties, by_prediction, prediction_ties, center }
    }

    fn statistics(&self, room: &mut Room) -> Statistics {
        let counts = &room.counts;
        let n = counts.len() as f64;
        let moments = Moments::of(&self.expression, &self.prediction, self.center, counts);
        let squared: f64 =
            (0..counts.len()).map(|i| f64::from(counts[i]) * (self.prediction[i] - self.expression[i]).powi(2)).sum();
        let pearson = moments.correlation(self.center);
        let spearman = pearson.and_then(|_| self.rank_moments(room).correlation((0.0, 0.0)));
        let r2 = (moments.xx > 0.0).then(|| 1.0 - squared / moments.xx);
        Statistics { pearson, spearman, r2, mse: squared / n }
    }

    /// The second moments of the ranks that the rows have in a resample, about their mean. Rows that were not drawn count nothing.
    fn rank_moments(&self, Room { counts, ranks }: &mut Room) -> Moments {
        let n = counts.len() as f64;
        let middle = f64::midpoint(n, 1.0);
        ranks.clear();
        let (mut start, mut before, mut xx) = (0, 0_u64, 0.0);
        for &end in &self.expression_ties {
            let drawn: u64 = counts[start..end as usize].iter().map(|&count| u64::from(count)).sum();
            let rank = before as f64 + (drawn as f64 + 1.0) / 2.0 - middle;
            // Half a rank is the finest there is: exact in single precision up to eight million rows.
            ranks.resize(end as usize, rank as f32);
            xx += drawn as f64 * rank * rank;
            (start, before) = (end as usize, before + drawn);
        }
        let (mut start, mut before, mut yy, mut xy) = (0, 0_u64, 0.0, 0.0);
        for &end in &self.prediction_ties {
            let (mut drawn, mut along) = (0_u64, 0.0);
            for &i in &self.by_prediction[start..end as usize] {
                drawn += u64::from(counts[i as usize]);
                along += f64::from(counts[i as usize]) * f64::from(ranks[i as usize]);
            }
            let rank = before as f64 + (drawn as f64 + 1.0) / 2.0 - middle;
            yy += drawn as f64 * rank * rank;
            xy += along * rank;
            (start, before) = (end as usize, before + drawn);
        }
        Moments { n, xx, yy, xy }
    }
}

/// Where each run of equal values ends.
fn ends_of_ties(values: impl Iterator<Item = f64>) -> Vec<u32> {
    let values: Vec<f64> = values.collect();
    let mut end = 0;
    let runs = values.chunk_by(|a, b| a == b).map(|run| {
        end += run.len() as u32;
        end
    });
    runs.collect()
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
    use crate::seed::below;

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
        let sorted = order(&y);
        let in_order = Room { counts: sorted.iter().map(|&i| counts[i as usize]).collect(), ranks: Vec::new() };
        let found = Sample::new(&y, &p).statistics(&mut { in_order });
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
