//! How well predictions agree with measured values: overall, per bin, in thirds, with bootstrap intervals.

use super::bins::{BINS, Rule};
use crate::seed::Seed;
use serde::Serialize;

mod bootstrap;
mod correlation;

pub use bootstrap::Intervals;
pub use correlation::{pearson, ranks, spearman};

/// Predictions that spread less than this share of the measured values' spread are called constant.
const CONSTANT: f64 = 1e-3;

/// The metrics of one model on one set of rows; a number that is not defined is null.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelMetrics {
    pub pearson: Option<f64>,
    pub spearman: Option<f64>,
    /// 1 - squared error / spread of the measured values around their mean.
    pub r2: Option<f64>,
    pub mse: Option<f64>,
    pub mae: Option<f64>,
    /// Standard deviation of the predictions (over n).
    pub sd: Option<f64>,
    /// The predictions hardly vary: whatever the other numbers say, the model tells rows apart by nothing.
    pub constant: bool,
    pub bins: Vec<BinMetrics>,
    pub low: ThirdMetrics,
    pub middle: ThirdMetrics,
    pub high: ThirdMetrics,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intervals: Option<Intervals>,
}

/// The metrics of one unit bin of measured expression.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BinMetrics {
    /// From 1.
    pub bin: usize,
    pub from: f64,
    pub to: f64,
    pub rows: usize,
    pub mse: Option<f64>,
    pub mae: Option<f64>,
    /// Mean of prediction minus measured.
    pub bias: Option<f64>,
}

/// The metrics of the rows in one third of measured expression.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ThirdMetrics {
    pub rows: usize,
    /// The lowest and highest measured value in it.
    pub from: Option<f64>,
    pub to: Option<f64>,
    pub mse: Option<f64>,
    pub mae: Option<f64>,
    pub bias: Option<f64>,
    pub r2: Option<f64>,
    pub pearson: Option<f64>,
}

/// Compares predictions with measured values; `bootstrap` resamples of the rows give the intervals, 0 for none.
///
/// # Panics
///
/// Where the two differ in length.
pub fn evaluate(expression: &[f64], prediction: &[f64], bootstrap: u32, seed: Seed) -> ModelMetrics {
    assert_eq!(expression.len(), prediction.len(), "each row has its prediction");
    let errors = Errors::of(expression, prediction);
    let [low, middle, high] = thirds(expression).map(|rows| third(&pick(expression, &rows), &pick(prediction, &rows)));
    let sd = sd(prediction);
    ModelMetrics {
        pearson: pearson(expression, prediction),
        spearman: spearman(expression, prediction),
        r2: r2(expression, prediction),
        mse: errors.mse(),
        mae: errors.mae(),
        sd,
        constant: match (sd, self::sd(expression)) {
            (Some(predicted), Some(measured)) => predicted <= CONSTANT * measured,
            _ => false,
        },
        bins: per_bin(expression, prediction),
        low,
        middle,
        high,
        intervals: (bootstrap > 0 && !expression.is_empty())
            .then(|| bootstrap::intervals(expression, prediction, bootstrap, seed)),
    }
}

/// The share of the measured values' variance that predictions explain; `None` where these do not vary.
pub fn r2(expression: &[f64], prediction: &[f64]) -> Option<f64> {
    let mean = mean(expression)?;
    let spread: f64 = expression.iter().map(|y| (y - mean).powi(2)).sum();
    let error: f64 = expression.iter().zip(prediction).map(|(y, p)| (p - y).powi(2)).sum();
    (spread > 0.0).then(|| 1.0 - error / spread)
}

/// The mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The standard deviation, over n; `None` of nothing.
pub fn sd(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    Some((values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt())
}

/// Sums of errors over some rows.
#[derive(Debug, Clone, Copy, Default)]
struct Errors {
    rows: usize,
    squared: f64,
    absolute: f64,
    signed: f64,
}

impl Errors {
    fn of(expression: &[f64], prediction: &[f64]) -> Self {
        let mut errors = Self::default();
        expression.iter().zip(prediction).for_each(|(y, p)| errors.add(p - y));
        errors
    }

    fn add(&mut self, error: f64) {
        self.rows += 1;
        self.squared += error * error;
        self.absolute += error.abs();
        self.signed += error;
    }

    fn over_rows(&self, sum: f64) -> Option<f64> {
        (self.rows > 0).then(|| sum / self.rows as f64)
    }

    fn mse(&self) -> Option<f64> {
        self.over_rows(self.squared)
    }

    fn mae(&self) -> Option<f64> {
        self.over_rows(self.absolute)
    }

    fn bias(&self) -> Option<f64> {
        self.over_rows(self.signed)
    }
}

/// All bins, also those without rows; values below 0 or above 18 count in the first and last.
fn per_bin(expression: &[f64], prediction: &[f64]) -> Vec<BinMetrics> {
    let mut errors = [Errors::default(); BINS];
    for (y, p) in expression.iter().zip(prediction) {
        errors[Rule::Floor.bin(*y, BINS).expect("the floor rule has a bin for each value")].add(p - y);
    }
    let bin = |(i, e): (usize, &Errors)| {
        let (from, to) = Rule::Floor.range(i);
        BinMetrics { bin: i + 1, from, to, rows: e.rows, mse: e.mse(), mae: e.mae(), bias: e.bias() }
    };
    errors.iter().enumerate().map(bin).collect()
}

/// The places of the rows in each third of the measured values.
///
/// Cut by value, so that equal values never part: with many whole numbers the thirds differ in size.
fn thirds(expression: &[f64]) -> [Vec<usize>; 3] {
    let mut thirds = [Vec::new(), Vec::new(), Vec::new()];
    let mut sorted = expression.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = sorted.len();
    if n == 0 {
        return thirds;
    }
    let (first, second) = (sorted[n.div_ceil(3) - 1], sorted[(2 * n).div_ceil(3) - 1]);
    for (i, &y) in expression.iter().enumerate() {
        let third = if y <= first {
            0
        } else if y <= second {
            1
        } else {
            2
        };
        thirds[third].push(i);
    }
    thirds
}

fn pick(values: &[f64], places: &[usize]) -> Vec<f64> {
    places.iter().map(|&i| values[i]).collect()
}

fn third(expression: &[f64], prediction: &[f64]) -> ThirdMetrics {
    let errors = Errors::of(expression, prediction);
    ThirdMetrics {
        rows: errors.rows,
        from: expression.iter().copied().min_by(f64::total_cmp),
        to: expression.iter().copied().max_by(f64::total_cmp),
        mse: errors.mse(),
        mae: errors.mae(),
        bias: errors.bias(),
        r2: r2(expression, prediction),
        pearson: pearson(expression, prediction),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_worked_out_by_hand() {
        let (y, p) = ([1.0, 2.0, 3.0, 4.0, 20.0, -1.0], [1.5, 2.0, 2.0, 5.0, 10.0, 0.0]);
        let m = evaluate(&y, &p, 0, Seed(1));
        let close = |a: Option<f64>, b: f64| assert!((a.expect("defined") - b).abs() < 1e-12, "{a:?} {b}");
        close(m.mse, (0.25 + 0.0 + 1.0 + 1.0 + 100.0 + 1.0) / 6.0);
        close(m.mae, 13.5 / 6.0);
        close(m.spearman, 0.985_610_760_609_162_1);
        close(m.bins[0].bias, 1.0);
        close(m.bins[17].bias, -10.0);
        assert_eq!((m.bins[0].bin, m.bins[0].rows, m.bins[17].to, m.bins[9].mse), (1, 1, 18.0, None));
        assert_eq!((m.low.rows, m.middle.rows, m.high.rows), (2, 2, 2));
        assert_eq!((m.middle.from, m.middle.to), (Some(2.0), Some(3.0)));
        assert!(!m.constant && m.intervals.is_none());
    }

    #[test]
    fn constant_predictions_have_no_correlation_and_are_flagged() {
        let y: Vec<f64> = (0..50).map(f64::from).collect();
        let m = evaluate(&y, &[11.1; 50], 20, Seed(1));
        assert_eq!((m.pearson, m.spearman, m.constant), (None, None, true));
        assert_eq!(m.intervals.expect("asked for").pearson, None);
        assert!(m.r2.expect("defined") < 0.0);
        assert!(!evaluate(&y, &y, 0, Seed(1)).constant);
    }

    #[test]
    fn nothing_to_measure_gives_nulls() {
        let m = evaluate(&[], &[], 10, Seed(1));
        assert_eq!((m.mse, m.r2, m.pearson, m.sd, m.constant), (None, None, None, None, false));
    }
}
