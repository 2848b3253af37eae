//! Unit bins of expression, shown to people as 1 to 18 with their ranges.

/// Which bin an expression value falls in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The whole part, clipped to the first and last bin.
    Floor,
    /// The nearest whole number (halves to the even one), clipped to the first and last bin.
    Round,
    /// The open interval (i, i+1): whole numbers belong to no bin.
    OpenInterval,
}

/// The bins of the report's evaluation.
pub const BINS: usize = 18;

impl Rule {
    /// The bin of a finite value, from 0; `None` where it belongs to none.
    pub fn bin(self, value: f64, bins: usize) -> Option<usize> {
        let clipped = |whole: f64| whole.clamp(0.0, bins as f64 - 1.0) as usize;
        match self {
            Self::Floor => Some(clipped(value.floor())),
            Self::Round => Some(clipped(value.round_ties_even())),
            Self::OpenInterval => {
                let inside = value > 0.0 && value < bins as f64 && value.fract() != 0.0;
                inside.then(|| clipped(value.floor()))
            }
        }
    }

    /// The values of a bin: from, to. The first and the last also take what lies outside, unless intervals are open.
    pub fn range(self, bin: usize) -> (f64, f64) {
        let shift = if self == Self::Round { 0.5 } else { 0.0 };
        (bin as f64 - shift, bin as f64 + 1.0 - shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_puts_values_where_it_says() {
        let bins = |rule: Rule| [-0.4, 0.0, 0.5, 1.5, 2.0, 16.7, 17.0, 17.2, 18.0, 19.4].map(|v| rule.bin(v, 18));
        assert_eq!(bins(Rule::Floor), [0, 0, 0, 1, 2, 16, 17, 17, 17, 17].map(Some));
        assert_eq!(bins(Rule::Round), [0, 0, 0, 2, 2, 17, 17, 17, 17, 17].map(Some));
        let open = [None, None, Some(0), Some(1), None, Some(16), None, Some(17), None, None];
        assert_eq!(bins(Rule::OpenInterval), open);
        assert_eq!(Rule::OpenInterval.bin(17.2, 17), None);
        assert_eq!((Rule::Floor.range(3), Rule::Round.range(3)), ((3.0, 4.0), (2.5, 3.5)));
    }
}
