//! Leakage in words: for `audit --leakage` and `show`.

use super::App;
use super::exit::CliError;
use super::printer::{Style, table};
use crate::provenance::{Leakage, Seen};

/// Prints what the rows of each evaluation share with training rows.
pub(super) fn print(app: &App, found: &[Leakage]) -> Result<(), CliError> {
    let printer = &app.printer;
    if found.is_empty() {
        return printer.line("leakage: this lineage holds no evaluation of a model; name a metrics file, or a run");
    }
    for leakage in found {
        let overlap = &leakage.overlap;
        let verdict = match (overlap.shared_sequences, leakage.unknown.is_empty()) {
            (0, true) => printer.paint("no leak", Style::Good),
            (0, false) => printer.paint("no leak known", Style::Note),
            (n, _) => printer.paint(&format!("LEAK of {n} sequences"), Style::Bad),
        };
        printer.line(&format!(
            "{verdict}: {} at {}, evaluated on {} rows, {} sequences",
            leakage.model, leakage.evaluation, leakage.evaluation_rows, leakage.evaluation_sequences
        ))?;
        let row = |how: &str, seen: &Seen| {
            let place = format!("{}.{}", seen.stage, seen.port);
            let shared = format!("{} of the sequences", seen.shared_sequences);
            vec![format!("  {how}"), place, format!("{} rows", seen.rows), shared]
        };
        let mut rows: Vec<Vec<String>> = leakage.trained_on.iter().map(|seen| row("trained on", seen)).collect();
        rows.extend(leakage.seen_apart.iter().map(|seen| row("seen apart", seen)));
        printer.document(&table(&rows, &[2]))?;
        printer.line(&format!(
            "  in training rows: {} rows shared; {} sequences as reverse complement; {} with 1 to {} other bases",
            overlap.shared_rows, overlap.reverse_complements, overlap.near_duplicates, overlap.distance
        ))?;
        for example in &overlap.examples {
            printer.line(&format!(
                "  {}  pos {} in the evaluation, {} in training",
                example.sequence, example.evaluation_pos, example.training_pos
            ))?;
        }
        for unknown in &leakage.unknown {
            printer.line(&format!(
                "  {} {unknown}: what it learned from is not known",
                printer.paint("note:", Style::Note)
            ))?;
        }
    }
    Ok(())
}
