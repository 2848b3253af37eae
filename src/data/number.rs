//! Numbers as text: the forms that the challenge's files and C programs use.

/// Writes a number as C's `%.9g`: 9 significant digits, no trailing zeros.
pub fn nine_digits(value: f64) -> String {
    const DIGITS: i32 = 9;
    if !value.is_finite() {
        return if value.is_nan() {
            "nan".into()
        } else if value > 0.0 {
            "inf".into()
        } else {
            "-inf".into()
        };
    }
    let rounded = format!("{value:.*e}", DIGITS as usize - 1);
    let (mantissa, exponent) = rounded.split_once('e').expect("`e` notation has an e");
    let exponent: i32 = exponent.parse().expect("and a whole exponent after it");
    if (-4..DIGITS).contains(&exponent) {
        let places = usize::try_from(DIGITS - 1 - exponent).expect("the exponent is below the digits");
        trimmed(&format!("{value:.places$}")).to_owned()
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs())
    }
}

fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::nine_digits;

    #[test]
    fn nine_digits_are_those_of_c() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (12.0, "12"),
            (11.301_043_210_987, "11.3010432"),
            (-0.000_123_456_789_123, "-0.000123456789"),
            (0.000_012_345, "1.2345e-05"),
            (999_999_999.4, "999999999"),
            (999_999_999.5, "1e+09"),
            (1.5e300, "1.5e+300"),
            (9.999_999_999, "10"),
            (100.0, "100"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(nine_digits(value), text);
        }
    }
}
