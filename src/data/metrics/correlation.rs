//! Correlation coefficients: Pearson's, and Spearman's with average ranks for ties.

/// Pearson's correlation; `None` where one side does not vary.
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    let n = x.len() as f64;
    let (mean_x, mean_y) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (dx, dy) = (x - mean_x, y - mean_y);
        xx += dx * dx;
        yy += dy * dy;
        xy += dx * dy;
    }
    let varies = |squares: f64, mean: f64| squares > n * (ROUNDING * mean).powi(2);
    (x.len() > 1 && varies(xx, mean_x) && varies(yy, mean_y)).then(|| (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0))
}

/// The spread, relative to the mean, that single precision makes out of equal numbers.
pub(super) const ROUNDING: f64 = 1e-7;

/// Spearman's correlation: Pearson's of the ranks; `None` where one side does not vary.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    // Asked of the values: rounding noise has ranks too.
    pearson(x, y)?;
    pearson(&ranks(x), &ranks(y))
}

/// Ranks from 1, equal values sharing their mean rank.
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let order = order(values);
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for tie in order.chunk_by(|&a, &b| values[a as usize] == values[b as usize]) {
        let rank = start as f64 + (tie.len() as f64 + 1.0) / 2.0;
        tie.iter().for_each(|&i| ranks[i as usize] = rank);
        start += tie.len();
    }
    ranks
}

/// Places of the values in rising order.
pub(super) fn order(values: &[f64]) -> Vec<u32> {
    let mut order: Vec<u32> =
        (0..u32::try_from(values.len()).expect("fewer than 2^32 rows are measured at once")).collect();
    order.sort_unstable_by(|&a, &b| values[a as usize].total_cmp(&values[b as usize]).then(a.cmp(&b)));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_share_their_mean_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0, 3.0]), [4.0, 1.0, 4.0, 2.0, 4.0]);
    }

    #[test]
    fn rising_numbers_correlate_perfectly_by_rank_alone() {
        let (x, y) = ([1.0, 2.0, 3.0, 4.0], [1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(spearman(&x, &y), Some(1.0));
        assert!(pearson(&x, &y).expect("both vary") < 0.9);
        assert_eq!(pearson(&x, &[-2.0, -4.0, -6.0, -8.0]), Some(-1.0));
        assert_eq!(pearson(&x, &[5.0; 4]), None);
        assert_eq!(pearson(&[1.0], &[1.0]), None);
    }
}
