//! Inline SVG charts: lines over steps, grouped bars over bins.

use super::html::{Html, escape};
use super::numbers;
use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 40.0;
const COLOURS: usize = 6;
/// A line has no more points than the eye can tell apart.
const MAX_POINTS: usize = 480;

/// A named line.
pub struct Line {
    pub name: String,
    /// In ascending order of x.
    pub points: Vec<(f64, f64)>,
    /// Marks each point: for lines of few points.
    pub dots: bool,
}

/// Bars of one kind, one for each category.
pub struct Bars {
    pub name: String,
    pub values: Vec<Option<f64>>,
}

/// Draws lines; `None` where there is nothing to draw.
pub fn lines(x_title: &str, y_title: &str, lines: &[Line]) -> Option<Html> {
    let drawn: Vec<Line> = lines
        .iter()
        .filter_map(|line| {
            let finite: Vec<(f64, f64)> =
                line.points.iter().copied().filter(|(x, y)| drawable(*x) && drawable(*y)).collect();
            (!finite.is_empty()).then(|| Line {
                name: line.name.clone(),
                points: thin_out(&finite),
                dots: line.dots || finite.len() == 1,
            })
        })
        .collect();
    let mut xs = Axis::over(drawn.iter().flat_map(|line| line.points.iter().map(|p| p.0)), Zero::Optional)?;
    // Steps and epochs are counted: nothing stands between two of them.
    xs.step = xs.step.max(1.0);
    let ys = Axis::over(drawn.iter().flat_map(|line| line.points.iter().map(|p| p.1)), Zero::Optional)?;
    let x_at = |x: f64| LEFT + xs.share(x) * (WIDTH - LEFT - RIGHT);
    let y_at = |y: f64| HEIGHT - BOTTOM - ys.share(y) * (HEIGHT - TOP - BOTTOM);

    let mut svg = open(&format!("{y_title} over {x_title}"));
    vertical_axis(&mut svg, &ys, y_title, y_at);
    for tick in xs.ticks() {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x_at(tick),
            HEIGHT - BOTTOM + 15.0,
            escape(&numbers::tick(tick, xs.step))
        );
    }
    x_axis_title(&mut svg, x_title);
    for (i, line) in drawn.iter().enumerate() {
        let colour = i % COLOURS;
        let path: Vec<String> = line.points.iter().map(|(x, y)| format!("{:.1},{:.1}", x_at(*x), y_at(*y))).collect();
        let _ = writeln!(svg, "<polyline class=\"l s{colour}\" points=\"{}\"/>", path.join(" "));
        if line.dots {
            for (x, y) in &line.points {
                let _ = writeln!(
                    svg,
                    "<circle class=\"b{colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.2\"><title>{}: {} at {}</title></circle>",
                    x_at(*x),
                    y_at(*y),
                    escape(&line.name),
                    escape(&numbers::short(*y)),
                    escape(&numbers::short(*x))
                );
            }
        }
    }
    legend(&mut svg, &drawn.iter().map(|line| line.name.as_str()).collect::<Vec<_>>());
    Some(close(svg))
}

/// Draws groups of bars from zero, one group for each category; `None` where there is nothing to draw.
pub fn bars(x_title: &str, y_title: &str, categories: &[String], kinds: &[Bars]) -> Option<Html> {
    let kinds: Vec<Bars> = kinds
        .iter()
        .map(|kind| Bars {
            name: kind.name.clone(),
            values: kind.values.iter().map(|value| value.filter(|v| drawable(*v))).collect(),
        })
        .filter(|kind| kind.values.iter().any(Option::is_some))
        .collect();
    let ys = Axis::over(kinds.iter().flat_map(|kind| kind.values.iter().flatten().copied()), Zero::Included)?;
    let y_at = |y: f64| HEIGHT - BOTTOM - ys.share(y) * (HEIGHT - TOP - BOTTOM);
    let group = (WIDTH - LEFT - RIGHT) / categories.len().max(1) as f64;
    let bar = group * 0.8 / kinds.len() as f64;

    let mut svg = open(&format!("{y_title} by {x_title}"));
    vertical_axis(&mut svg, &ys, y_title, y_at);
    for (c, category) in categories.iter().enumerate() {
        let left = LEFT + group * c as f64;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            left + group / 2.0,
            HEIGHT - BOTTOM + 15.0,
            escape(category)
        );
        for (k, kind) in kinds.iter().enumerate() {
            let Some(value) = kind.values.get(c).copied().flatten() else { continue };
            let (top, bottom) = (y_at(value.max(0.0)), y_at(value.min(0.0)));
            let _ = writeln!(
                svg,
                "<rect class=\"b{}\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}, {} {}: {}</title></rect>",
                k % COLOURS,
                left + group * 0.1 + bar * k as f64,
                bar.max(0.5),
                // A value of nearly zero still shows as a line.
                (bottom - top).max(0.6),
                escape(&kind.name),
                escape(x_title),
                escape(category),
                escape(&numbers::short(value))
            );
        }
    }
    let _ = writeln!(
        svg,
        "<line class=\"zero\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
        WIDTH - RIGHT,
        y = y_at(0.0)
    );
    x_axis_title(&mut svg, x_title);
    legend(&mut svg, &kinds.iter().map(|kind| kind.name.as_str()).collect::<Vec<_>>());
    Some(close(svg))
}

/// Beyond this the differences that an axis needs overflow.
pub(super) fn drawable(value: f64) -> bool {
    value.is_finite() && value.abs() < 1e100
}

/// Means of equally long stretches, so that no point of a long line is left out of the picture.
fn thin_out(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MAX_POINTS {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(MAX_POINTS);
    points
        .chunks(stretch)
        .map(|chunk| {
            let n = chunk.len() as f64;
            (chunk.iter().map(|p| p.0).sum::<f64>() / n, chunk.iter().map(|p| p.1).sum::<f64>() / n)
        })
        .collect()
}

/// Whether an axis has to begin or end at zero.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Zero {
    Included,
    Optional,
}

/// A range of values with round ticks.
pub(super) struct Axis {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) step: f64,
}

impl Axis {
    pub(super) fn over(values: impl Iterator<Item = f64>, zero: Zero) -> Option<Self> {
        let (mut from, mut to) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
        if from > to {
            return None;
        }
        if zero == Zero::Included {
            (from, to) = (from.min(0.0), to.max(0.0));
        }
        if to - from < 1e-12 * to.abs().max(1.0) {
            let pad = from.abs().max(1.0) * 0.5;
            // A single value stands in the middle; a bar of height 0 on the ground.
            (from, to) = if zero == Zero::Included { (from, to + pad) } else { (from - pad, to + pad) };
        }
        let rough = (to - from) / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= rough).unwrap_or(10.0 * power);
        Some(match zero {
            Zero::Included => Self { from: (from / step).floor() * step, to: (to / step).ceil() * step, step },
            Zero::Optional => Self { from, to, step },
        })
    }

    pub(super) fn share(&self, value: f64) -> f64 {
        (value - self.from) / (self.to - self.from)
    }

    /// Multiples of the step, none of them with the dust of addition.
    pub(super) fn ticks(&self) -> impl Iterator<Item = f64> {
        let first = (self.from / self.step - 1e-9).ceil();
        let last = (self.to / self.step + 1e-9).floor();
        let decimals = 10_f64.powf((-self.step.log10().floor()).clamp(0.0, 12.0) + 1.0);
        let count = (last - first).clamp(0.0, 20.0) as usize;
        let step = self.step;
        (0..=count).map(move |i| {
            let tick = (first + i as f64) * step;
            if tick.abs() < 1e6 { (tick * decimals).round() / decimals } else { tick }
        })
    }
}

fn open(label: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n", escape(label))
}

pub(super) fn close(mut svg: String) -> Html {
    svg.push_str("</svg>\n");
    Html::from_markup(svg)
}

fn vertical_axis(svg: &mut String, axis: &Axis, title: &str, y_at: impl Fn(f64) -> f64) {
    for tick in axis.ticks() {
        let y = y_at(tick);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0,
            escape(&numbers::tick(tick, axis.step))
        );
    }
    let _ = writeln!(svg, "<text class=\"title\" x=\"4\" y=\"14\">{}</text>", escape(title));
}

fn x_axis_title(svg: &mut String, title: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        f64::midpoint(LEFT, WIDTH - RIGHT),
        HEIGHT - 6.0,
        escape(title)
    );
}

/// Names at the upper right, the last one at the edge.
fn legend(svg: &mut String, names: &[&str]) {
    let mut right = WIDTH - RIGHT;
    for (i, name) in names.iter().enumerate().rev() {
        // SVG can't measure text; 6.2 units a character is about right for 11 px.
        let left = right - 6.2 * name.chars().count() as f64;
        let _ = writeln!(
            svg,
            "<rect class=\"b{}\" x=\"{:.1}\" y=\"5\" width=\"10\" height=\"10\"/><text x=\"{left:.1}\" y=\"14\">{}</text>",
            i % COLOURS,
            left - 14.0,
            escape(name)
        );
        right = left - 26.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        let axis = Axis::over([0.0, 6.3, -2.1].into_iter(), Zero::Included).expect("values");
        assert_eq!(axis.ticks().collect::<Vec<_>>(), [-4.0, -2.0, 0.0, 2.0, 4.0, 6.0, 8.0]);
        let axis = Axis::over([0.31, 0.52].into_iter(), Zero::Optional).expect("values");
        assert_eq!(axis.ticks().collect::<Vec<_>>(), [0.35, 0.4, 0.45, 0.5]);
        let flat = Axis::over([3.0].into_iter(), Zero::Optional).expect("a value");
        assert!((flat.share(3.0) - 0.5).abs() < 1e-12);
        assert!(Axis::over(std::iter::empty(), Zero::Included).is_none());
    }

    #[test]
    fn a_long_line_is_thinned_by_means() {
        let points: Vec<(f64, f64)> = (0..10_000).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        let thin = thin_out(&points);
        assert!(thin.len() <= MAX_POINTS);
        assert!(thin.iter().all(|(_, y)| (y - 0.5).abs() < 0.05));
    }
}
