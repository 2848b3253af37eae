//! The live table on a terminal: a row for each running stage, and one that says how far the run is.

use super::plan::grouped;
use super::printer::duration;
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Rows are drawn anew this often: time passes without events.
const TICK: Duration = Duration::from_millis(150);

/// Names are cut to this.
const LONGEST_NAME: usize = 28;

#[derive(Debug, Default)]
pub(super) struct Live {
    bars: MultiProgress,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// All stages, and the places of those that have not begun.
    stages: Vec<String>,
    places: BTreeMap<String, usize>,
    waiting: BTreeSet<usize>,
    running: Vec<Running>,
    done: usize,
    status: Option<(ProgressBar, Arc<Mutex<String>>)>,
}

#[derive(Debug)]
struct Running {
    stage: String,
    bar: ProgressBar,
    /// Whether there is room for it on the screen.
    shown: bool,
    said: Arc<Mutex<Said>>,
}

/// What a stage last said of itself.
#[derive(Debug, Default)]
struct Said {
    unit: String,
    numbers: String,
}

impl Live {
    /// Calls `work`, which writes to the terminal, while the table is out of the way.
    pub(super) fn suspend(&self, work: impl FnOnce()) {
        self.bars.suspend(work);
    }

    /// Leaves the terminal as it was.
    pub(super) fn clear(&self) {
        let mut table = self.table();
        for running in table.running.drain(..) {
            running.bar.finish_and_clear();
        }
        if let Some((bar, _)) = table.status.take() {
            bar.finish_and_clear();
        }
        let _ = self.bars.clear();
    }

    pub(super) fn begin(&self, stages: Vec<String>) {
        let mut table = self.table();
        table.places = stages.iter().cloned().zip(0..).collect();
        table.waiting = (0..stages.len()).collect();
        table.stages = stages;
        let text = Arc::new(Mutex::new(String::new()));
        let shared = Arc::clone(&text);
        let bar = self.bars.add(ProgressBar::new_spinner());
        bar.set_style(style(move |state: &ProgressState, out: &mut dyn Write| {
            let time = clock(state.elapsed());
            let room = screen().0.saturating_sub(time.len() + 6);
            let _ = write!(out, "{time}  {}", cut(&lock(&shared), room));
        }));
        bar.enable_steady_tick(TICK);
        table.status = Some((bar, text));
        table.tell();
    }

    pub(super) fn start(&self, stage: &str) {
        let mut table = self.table();
        table.begun(stage);
        let said = Arc::new(Mutex::new(Said::default()));
        let (shared, name, width) = (Arc::clone(&said), stage.to_owned(), table.name_width());
        let bar = ProgressBar::hidden();
        bar.set_style(style(move |state: &ProgressState, out: &mut dyn Write| {
            let said = lock(&shared);
            let progress = state.len().map(|len| Progress {
                done: state.pos(),
                total: len,
                unit: &said.unit,
                left: (state.pos() > 0).then(|| state.eta()),
            });
            let name = format!("{:width$}", cut(&name, LONGEST_NAME));
            let _ = out.write_str(&row(&name, state.elapsed(), progress, &said.numbers, screen().0.saturating_sub(4)));
        }));
        let shown = table.running.iter().filter(|running| running.shown).count() < screen().1.saturating_sub(4).max(1);
        let bar = if shown { self.show(&table, bar) } else { bar };
        table.running.push(Running { stage: stage.to_owned(), bar, shown, said });
        table.tell();
    }

    /// Puts a bar above the last row.
    fn show(&self, table: &Table, bar: ProgressBar) -> ProgressBar {
        let bar = match &table.status {
            Some((status, _)) => self.bars.insert_before(status, bar),
            None => self.bars.add(bar),
        };
        bar.enable_steady_tick(TICK);
        bar
    }

    pub(super) fn progress(&self, stage: &str, done: u64, total: u64, unit: &str) {
        let table = self.table();
        let Some(running) = table.running.iter().find(|running| running.stage == stage) else { return };
        if running.bar.length() != Some(total) {
            running.bar.set_length(total);
            // A training that goes on from a checkpoint did not make those steps just now.
            running.bar.set_position(done);
            running.bar.reset_eta();
        }
        running.bar.set_position(done);
        unit.clone_into(&mut lock(&running.said).unit);
    }

    pub(super) fn numbers(&self, stage: &str, numbers: String) {
        if let Some(running) = self.table().running.iter().find(|running| running.stage == stage) {
            lock(&running.said).numbers = numbers;
        }
    }

    pub(super) fn end(&self, stage: &str) {
        let mut table = self.table();
        table.begun(stage);
        table.done += 1;
        if let Some(i) = table.running.iter().position(|running| running.stage == stage) {
            table.running.remove(i).bar.finish_and_clear();
            if let Some(next) = table.running.iter().position(|running| !running.shown) {
                let bar = self.show(&table, table.running[next].bar.clone());
                (table.running[next].bar, table.running[next].shown) = (bar, true);
            }
        }
        table.tell();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

impl Table {
    fn begun(&mut self, stage: &str) {
        if let Some(place) = self.places.get(stage) {
            self.waiting.remove(place);
        }
    }

    fn name_width(&self) -> usize {
        self.stages.iter().map(|name| name.chars().count()).max().unwrap_or(0).min(LONGEST_NAME)
    }

    /// Says anew how far the run is.
    fn tell(&self) {
        let Some((_, text)) = &self.status else { return };
        let (all, running) = (self.stages.len(), self.running.len());
        let mut line = format!("{} of {all} stages done", self.done);
        if running > 0 {
            line += &format!(", {running} running");
        }
        let next: Vec<&str> = self.waiting.iter().take(8).map(|&place| self.stages[place].as_str()).collect();
        if !next.is_empty() {
            line += &format!(", {} waiting: {}", self.waiting.len(), next.join(", "));
        }
        *lock(text) = line;
    }
}

/// How far a stage is.
struct Progress<'a> {
    done: u64,
    total: u64,
    unit: &'a str,
    left: Option<Duration>,
}

/// A stage's row: its name, its time, then as much as there is room for: a bar (else the share), the time that is left,
/// the numbers that matter, the count.
fn row(name: &str, elapsed: Duration, progress: Option<Progress<'_>>, numbers: &str, width: usize) -> String {
    let mut line = format!("{name}  {:>6}", clock(elapsed));
    let Some(Progress { done, total, unit, left }) = progress else {
        return if numbers.is_empty() { line } else { cut(&format!("{line}  {numbers}"), width) };
    };
    let share = if total == 0 { 1.0 } else { (done as f64 / total as f64).min(1.0) };
    let percent = format!("{:>3.0} %", 100.0 * share);
    let left = left.map_or(String::new(), |left| match left.as_secs() {
        seconds if seconds < 60 => format!("{seconds} s left"),
        seconds => format!("{} left", duration(seconds as f64)),
    });
    let count = format!("{}/{} {unit}", grouped(done), grouped(total));
    let mut room = width.saturating_sub(line.chars().count());
    let mut fits = |text: &str, least: usize| {
        let needs = 2 + text.chars().count().max(least);
        let fits = !text.is_empty() && needs <= room;
        room -= if fits { needs } else { 0 };
        fits
    };
    let [has_percent, has_left, has_numbers, has_count] =
        [fits(&percent, 0), fits(&left, 0), fits(numbers, 0), fits(&count, 0)];
    let cells = room.saturating_sub(2).min(30);
    if cells >= 8 {
        let full = (share * cells as f64) as usize;
        line += &format!("  {}{}", "█".repeat(full), "░".repeat(cells - full));
    }
    for (text, is_there) in
        [(percent.as_str(), has_percent), (&count, has_count), (numbers, has_numbers), (&left, has_left)]
    {
        if is_there {
            line += &format!("  {text}");
        }
    }
    line
}

/// Minutes and seconds, or hours.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

/// Text that is no longer than so many characters.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Columns and lines of the terminal.
fn screen() -> (usize, usize) {
    let size = terminal_size::terminal_size_of(std::io::stderr());
    size.map_or((80, 24), |(width, height)| (usize::from(width.0), usize::from(height.0)))
}

fn style(row: impl Fn(&ProgressState, &mut dyn Write) + Clone + Send + Sync + 'static) -> ProgressStyle {
    let style = ProgressStyle::with_template("{spinner} {row}").expect("our own template");
    style.with_key("row", row)
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(width: usize) -> String {
        let progress = Progress { done: 1_250, total: 5_000, unit: "samples", left: Some(Duration::from_secs(95)) };
        row("finetune", Duration::from_secs(31), Some(progress), "loss 0.512  1310/s", width)
    }

    #[test]
    fn a_row_says_as_much_as_there_is_room_for() {
        assert_eq!(
            at(96),
            "finetune    0:31  ███░░░░░░░░░░   25 %  1,250/5,000 samples  loss 0.512  1310/s  1 min 35 s left"
        );
        assert_eq!(at(60), "finetune    0:31   25 %  loss 0.512  1310/s  1 min 35 s left");
        assert_eq!(at(42), "finetune    0:31   25 %  1 min 35 s left");
        assert_eq!(at(36), "finetune    0:31  ██░░░░░░░░░   25 %");
        assert_eq!(at(20), "finetune    0:31");
        for width in 20..200 {
            assert!(at(width).chars().count() <= width, "{width}");
        }
    }

    #[test]
    fn a_row_without_progress_has_its_time_and_numbers() {
        assert_eq!(row("split", Duration::from_secs(3_725), None, "", 80), "split  1:02:05");
        assert_eq!(row("split", Duration::from_secs(5), None, "R2 0.5", 80), "split    0:05  R2 0.5");
    }

    #[test]
    fn the_last_row_counts_stages() {
        let live = Live::default();
        live.begin(["a", "b", "c"].map(str::to_owned).to_vec());
        live.end("a");
        live.start("b");
        live.progress("b", 1, 0, "rows");
        let text = live.table().status.as_ref().map(|(_, text)| lock(text).clone());
        assert_eq!(text.as_deref(), Some("1 of 3 stages done, 1 running, 1 waiting: c"));
        live.end("b");
        live.end("c");
        let text = live.table().status.as_ref().map(|(_, text)| lock(text).clone());
        assert_eq!(text.as_deref(), Some("3 of 3 stages done"));
        live.clear();
    }
}
