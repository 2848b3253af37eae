//! Predicted against measured values: dots where rows are few, shades of their number where they are many.

use super::charts::{Axis, Zero, close, drawable};
use super::html::{Html, escape};
use super::numbers;
use std::collections::BTreeMap;
use std::fmt::Write;

const SIZE: f64 = 420.0;
const LEFT: f64 = 46.0;
const BOTTOM: f64 = 40.0;
const TOP: f64 = 24.0;
const RIGHT: f64 = 12.0;
/// So many dots can be told apart.
const MAX_DOTS: usize = 1_500;
const CELLS: usize = 44;
const SHADES: usize = 8;

/// Draws pairs of a measured and a predicted value on axes of one range; `None` where there are none.
pub fn density(pairs: &[(f64, f64)]) -> Option<Html> {
    let pairs: Vec<(f64, f64)> = pairs.iter().copied().filter(|(x, y)| drawable(*x) && drawable(*y)).collect();
    let axis = Axis::over(pairs.iter().flat_map(|(x, y)| [*x, *y]), Zero::Optional)?;
    let x_at = |x: f64| LEFT + axis.share(x) * (SIZE - LEFT - RIGHT);
    let y_at = |y: f64| SIZE - BOTTOM - axis.share(y) * (SIZE - TOP - BOTTOM);
    let label = format!("predicted against measured, {} rows", numbers::short(pairs.len() as f64));
    let mut svg = format!("<svg viewBox=\"0 0 {SIZE} {SIZE}\" role=\"img\" aria-label=\"{}\">\n", escape(&label));
    for tick in axis.ticks() {
        let (x, y, text) = (x_at(tick), y_at(tick), numbers::tick(tick, axis.step));
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
            SIZE - RIGHT,
            LEFT - 6.0,
            y + 4.0,
            SIZE - BOTTOM + 15.0,
        );
    }
    if pairs.len() <= MAX_DOTS {
        let dots: String = pairs.iter().map(|(x, y)| format!("M{:.1} {:.1}h0", x_at(*x), y_at(*y))).collect();
        let _ = writeln!(svg, "<path class=\"dots\" d=\"{dots}\"/>");
    } else {
        shades(&mut svg, &pairs, &axis);
    }
    let _ = writeln!(
        svg,
        "<line class=\"equal\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>\
         <text class=\"title\" x=\"4\" y=\"14\">predicted</text>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">measured</text>",
        x_at(axis.from),
        y_at(axis.from),
        x_at(axis.to),
        y_at(axis.to),
        f64::midpoint(LEFT, SIZE - RIGHT),
        SIZE - 6.0
    );
    Some(close(svg))
}

/// Cells, each the darker the more rows it holds, on a logarithmic scale.
fn shades(svg: &mut String, pairs: &[(f64, f64)], axis: &Axis) {
    let cell = |value: f64| ((axis.share(value) * CELLS as f64) as usize).min(CELLS - 1);
    let mut counts: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for (x, y) in pairs {
        *counts.entry((cell(*x), cell(*y))).or_default() += 1;
    }
    let most = counts.values().copied().max().unwrap_or(1) as f64;
    let mut paths = vec![String::new(); SHADES];
    let (wide, high) = ((SIZE - LEFT - RIGHT) / CELLS as f64, (SIZE - TOP - BOTTOM) / CELLS as f64);
    for ((x, y), count) in counts {
        let share = (1.0 + count as f64).ln() / (1.0 + most).ln();
        let shade = ((share * SHADES as f64) as usize).min(SHADES - 1);
        let (left, top) = (LEFT + x as f64 * wide, SIZE - BOTTOM - (y + 1) as f64 * high);
        let _ = write!(paths[shade], "M{left:.1} {top:.1}h{wide:.1}v{high:.1}h-{wide:.1}z");
    }
    for (shade, path) in paths.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
        let opacity = (shade + 1) as f64 / SHADES as f64;
        let _ = writeln!(svg, "<path class=\"b0\" fill-opacity=\"{opacity}\" d=\"{path}\"/>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_are_dots_and_many_are_shades() {
        let few = density(&[(1.0, 2.0), (3.0, f64::NAN), (4.0, 4.0)]).expect("two pairs");
        assert!(few.as_str().contains("2 rows") && few.as_str().matches("h0").count() == 2);
        let many: Vec<(f64, f64)> = (0..50_000).map(|i| (f64::from(i % 18), f64::from(i % 7))).collect();
        let many = density(&many).expect("pairs");
        assert!(many.as_str().contains("fill-opacity=\"1\"") && many.as_str().len() < 60_000);
        assert!(density(&[]).is_none());
        assert!(density(&[(2.0, 2.0)]).is_some_and(|one| !one.as_str().contains("NaN")));
    }
}
