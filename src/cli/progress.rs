//! Progress for who has no terminal: a line now and then, with the time that is left.

use super::plan::grouped;
use super::printer::duration;
use std::time::{Duration, Instant};

/// Between two lines.
const EVERY: Duration = Duration::from_secs(30);

/// How fast a stage goes: what it had done when it was first heard of, and when a line was last said.
#[derive(Debug, Default)]
pub(super) struct Pace {
    first: Option<(Instant, u64)>,
    said: Option<Instant>,
}

impl Pace {
    /// A line about where the work stands, if it is time for one.
    pub(super) fn line(&mut self, done: u64, total: u64, unit: &str, now: Instant) -> Option<String> {
        // The first word tells where the work began: a training that goes on from a checkpoint did not make that just now.
        let (began, before) = *self.first.get_or_insert((now, done));
        let said = *self.said.get_or_insert(now);
        if now.duration_since(said) < EVERY || total == 0 {
            return None;
        }
        self.said = Some(now);
        let share = done as f64 / total as f64;
        let rate = done.saturating_sub(before) as f64 / now.duration_since(began).as_secs_f64();
        let mut line = format!("{:.0} %: {} of {} {unit}", 100.0 * share, grouped(done), grouped(total));
        if rate > 0.0 {
            line += &format!(", {} left", duration(total.saturating_sub(done) as f64 / rate));
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_counts_what_was_done_while_it_was_watched() {
        let mut pace = Pace::default();
        let start = Instant::now();
        assert_eq!(pace.line(9_000, 12_000, "samples", start), None);
        assert_eq!(pace.line(9_500, 12_000, "samples", start + Duration::from_secs(20)), None);
        let line = pace.line(10_000, 12_000, "samples", start + Duration::from_secs(40));
        assert_eq!(line, Some(format!("83 %: 10,000 of 12,000 samples, {} left", duration(80.0))));
        assert_eq!(pace.line(10_100, 12_000, "samples", start + Duration::from_secs(50)), None);
    }
}
