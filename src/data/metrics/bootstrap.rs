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
    /// The rows in the order of their predictions.
    by_prediction: Vec<Place>,
    center: (f64, f64),
}

/// A row, and whether it is the last one of those with its prediction, in its lowest bit.
#[derive(Debug, Clone, Copy)]
struct Place(u32);

impl Place {
    fn row(self) -> usize {
        (self.0 >> 1) as usize
    }

    fn ends_tie(self) -> bool {
        self.0 & 1 == 1
    }
}

/// What one resample after the other is worked out in.
#[derive(Default)]
struct Room {
    /// How often each row was drawn; that one row fills 16 bits has odds of less than 1 in 10^280000.
    counts: Vec<u16>,
    /// Each row's rank by its measured value.
    ranks: Vec<f32>,
}

impl Room {
    /// Draws `rows` rows with replacement.
    fn draw(&mut self, rng: &mut impl RngCore, rows: usize) {
        self.counts.clear();
        self.counts.resize(rows, 0);
        let bound = rows as u32;
        // Lemire's multiply and reject, on half the random bits that `below` takes.
        let reject = bound.wrapping_neg().checked_rem(bound).unwrap_or(0);
        let (mut bytes, mut left) = ([0_u8; 4096], rows);
        while left > 0 {
            let bytes = &mut bytes[..4 * left.min(1024)];
            rng.fill_bytes(bytes);
            for four in bytes.chunks_exact(4) {
                let product = u64::from(u32::from_le_bytes([four[0], four[1], four[2], four[3]])) * u64::from(bound);
                if product as u32 >= reject {
                    self.counts[(product >> 32) as usize] += 1;
                    left -= 1;
                }
            }
        }
    }
}

impl Sample {
    fn new(expression: &[f64], prediction: &[f64]) -> Self {
        assert!(expression.len() < 1 << 31, "fewer than 2^31 rows are measured at once");
        let mean = |v: &[f64]| super::mean(v).unwrap_or(0.0);
        let center = (mean(expression), mean(prediction));
        let sorted = order(expression);
        let pick = |v: &[f64]| -> Vec<f64> { sorted.iter().map(|&i| v[i as usize]).collect() };
        let (expression, prediction) = (pick(expression), pick(prediction));
        let mut end = 0;
        let runs = expression.chunk_by(|a, b| a == b).map(|run| {
            end += run.len() as u32;
            end
        });
        let expression_ties = runs.collect();
        let value = |i: u32| prediction[i as usize];
        let places = order(&prediction);
        let ends = (0..places.len()).map(|at| places.get(at + 1).is_none_or(|&next| value(next) != value(places[at])));
        let by_prediction = places.iter().zip(ends).map(|(&row, ends)| Place(row << 1 | u32::from(ends))).collect();
        Self { expression, prediction, expression_ties, by_prediction, center }
    }

    fn statistics(&self, room: &mut Room) -> Statistics {
        let sums = weighted_sums(&self.expression, &self.prediction, self.center, &room.counts);
        let n = room.counts.len() as f64;
        let moments = Moments::of(n, &sums);
        let squared = sums[5];
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
        let (mut start, mut before, mut xx) = (0, 0_u32, 0.0);
        for &end in &self.expression_ties {
            let drawn: u32 = counts[start..end as usize].iter().map(|&count| u32::from(count)).sum();
            let rank = f64::from(before) + (f64::from(drawn) + 1.0) / 2.0 - middle;
            // Half a rank is the finest there is: exact in single precision up to eight million rows.
            ranks.resize(end as usize, rank as f32);
            xx += f64::from(drawn) * rank * rank;
            (start, before) = (end as usize, before + drawn);
        }
        let (mut drawn, mut along, mut before, mut yy, mut xy) = (0_u32, 0.0, 0_u32, 0.0, 0.0);
        for place in &self.by_prediction {
            let count = counts[place.row()];
            drawn += u32::from(count);
            along += f64::from(count) * f64::from(ranks[place.row()]);
            if place.ends_tie() {
                let rank = f64::from(before) + (f64::from(drawn) + 1.0) / 2.0 - middle;
                yy += f64::from(drawn) * rank * rank;
                xy += along * rank;
                (drawn, along, before) = (0, 0.0, before + drawn);
            }
        }
        Moments { n, xx, yy, xy }
    }
}

/// Sums over the rows of a resample of x, y, xx, yy and xy, measured from `center`, and of (y - x)^2.
///
/// `center` only has to be near the means: it keeps digits that subtraction would lose. Each sum runs in lanes of its own,
/// so that the order of summation is fixed and the processor adds side by side.
fn weighted_sums(x: &[f64], y: &[f64], center: (f64, f64), counts: &[u16]) -> [f64; 6] {
    const LANES: usize = 8;
    let mut sums = [[0.0; LANES]; 6];
    let mut add = |lane: usize, x: f64, y: f64, count: u16| {
        let (w, dx, dy, error) = (f64::from(count), x - center.0, y - center.1, y - x);
        let terms = [w * dx, w * dy, w * dx * dx, w * dy * dy, w * dx * dy, w * error * error];
        (0..6).for_each(|i| sums[i][lane] += terms[i]);
    };
    let (xs, ys, ws) = (x.chunks_exact(LANES), y.chunks_exact(LANES), counts.chunks_exact(LANES));
    let rest = (xs.remainder(), ys.remainder(), ws.remainder());
    for ((x, y), w) in xs.zip(ys).zip(ws) {
        (0..LANES).for_each(|lane| add(lane, x[lane], y[lane], w[lane]));
    }
    (0..rest.0.len()).for_each(|lane| add(lane, rest.0[lane], rest.1[lane], rest.2[lane]));
    sums.map(|lanes| lanes.iter().sum())
}

/// Centred second moments of a resample.
struct Moments {
    n: f64,
    xx: f64,
    yy: f64,
    xy: f64,
}

impl Moments {
    fn of(n: f64, &[sx, sy, xx, yy, xy, _]: &[f64; 6]) -> Self {
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
        let mut counts = vec![0_u16; 300];
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
