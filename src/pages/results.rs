//! A run's metrics and pictures, and what its evaluations share with its training rows.

use super::{PageError, agreement};
use crate::artifact::Format;
use crate::cache::{Cache, RunRecord};
use crate::provenance::Leakage;
use crate::report::html::Table;
use crate::report::numbers::short;
use crate::report::{About, Alarm, Html, Subject};
use serde::Deserialize;

/// Larger files than this are no pictures that a page should carry.
const MAX_PICTURE: u64 = 1 << 20;

/// The chapter, and what nobody must overlook.
pub struct Results {
    pub html: Html,
    pub alarms: Vec<Alarm>,
}

/// Collects what a run has to show.
pub fn of(cache: &Cache, run: &RunRecord) -> Result<Results, PageError> {
    let (mut about, mut gone) = (About::default(), Vec::new());
    for step in &run.steps {
        for (port, output) in &step.outputs {
            let shown = match output.format {
                Format::Metrics => true,
                Format::Raw => output.bytes <= MAX_PICTURE,
                _ => false,
            };
            let name = format!("{}.{port}", step.stage);
            if !shown {
                continue;
            }
            if cache.verify_object(output.digest)? {
                let path = cache.object_path(output.digest);
                about.add(&name, &path, |subject| {
                    output.format == Format::Metrics || matches!(subject, Subject::Picture(_))
                })?;
            } else if output.format == Format::Metrics {
                gone.push(format!("{name} is no longer in the cache, or is damaged there: it can't be shown"));
            }
        }
    }
    let (contents, sections, mut alarms) = about.finish();
    let mut html = contents;
    let leakage: Vec<Leakage> = run.leakage.iter().filter_map(|found| Leakage::deserialize(found).ok()).collect();
    alarms.extend(leakage.iter().filter(|found| found.overlap.shared_sequences > 0).map(|found| {
        format!(
            "{}: {} of the {} sequences that {} is evaluated on are sequences that it was trained on",
            found.evaluation, found.overlap.shared_sequences, found.evaluation_sequences, found.model
        )
    }));
    if !leakage.is_empty() {
        html.push(&shared(&leakage));
    }
    for line in &gone {
        html.note(line);
    }
    html.push(&agreement::pictures(cache, run)?);
    html.push(&sections);
    Ok(Results { html, alarms })
}

fn shared(leakage: &[Leakage]) -> Html {
    let mut table = Table::new(&["evaluation", "model", "sequences", "seen in training"]);
    for found in leakage {
        table.row(|row| {
            row.header(&found.evaluation.to_string());
            row.text(&found.model);
            row.number(&short(found.evaluation_sequences as f64));
            row.number(&short(found.overlap.shared_sequences as f64));
        });
    }
    let mut html = Html::default();
    html.element("h3", "Evaluated sequences that the models were trained on");
    html.push(&table.finish());
    html
}
