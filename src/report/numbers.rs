//! Numbers as people read them.

/// Four significant digits; thousands separated by a thin space where whole.
pub fn short(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return grouped(value);
    }
    let magnitude = value.abs();
    if (1e-3..1e6).contains(&magnitude) {
        // 4 digits: 0.1234, 1.234, 12.34, 123.4, 1234.5
        let decimals = match magnitude {
            m if m >= 100.0 => 1,
            m if m >= 10.0 => 2,
            m if m >= 1.0 => 3,
            _ => 4,
        };
        format!("{value:.decimals$}").replace('-', "−")
    } else {
        format!("{value:.2e}").replace('-', "−")
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push('\u{2009}');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("−{text}") } else { text }
}

/// A tick of an axis, with as many decimals as its step needs.
pub fn tick(value: f64, step: f64) -> String {
    if !(1e-4..1.0).contains(&step) || value == 0.0 {
        return short(value);
    }
    let decimals = (-step.log10().floor()) as usize;
    format!("{value:.decimals$}").replace('-', "−")
}

/// A size in bytes: `805.4 MB`.
pub fn bytes(size: u64) -> String {
    let mut value = size as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{value:.0} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// A duration as people say it: `0.3 s`, `2 min 5 s`, `3.5 h`, `12 days`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.01 => format!("{:.0} ms", s * 1000.0),
        s if s < 10.0 => format!("{s:.2} s"),
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{} min {} s", (s / 60.0) as u64, (s % 60.0) as u64),
        s if s < 86_400.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_digits_and_no_surprises() {
        let shown: Vec<String> =
            [0.0, -0.0, 0.123_456, -1.5, 12.345, 6_739_258.0, 1e-9, f64::NAN].into_iter().map(short).collect();
        assert_eq!(shown, ["0", "0", "0.1235", "−1.500", "12.35", "6\u{2009}739\u{2009}258", "1.00e−9", "–"]);
        assert_eq!(
            ["999 B", "1.0 kB", "805.4 MB"],
            [bytes(999), bytes(1000), bytes(805_369_640)].each_ref().map(String::as_str)
        );
    }
}
