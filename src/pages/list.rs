//! The list of runs, newest first.

use super::PageError;
use crate::cache::{Cache, RunRecord};
use crate::event::Outcome;
use crate::name::RunId;
use crate::report::Html;
use crate::report::html::{Table, served};
use crate::report::numbers::duration;

/// So many runs stand on one page.
const PAGE: usize = 50;

/// The newest runs, or those before `before`; `words` narrow them to those with such a pipeline, file or overlay.
pub fn list_page(cache: &Cache, before: Option<&RunId>, words: Option<&str>) -> Result<String, PageError> {
    let mut ids = cache.runs()?;
    if let Some(at) = before.and_then(|before| ids.iter().position(|id| id == before)) {
        ids.truncate(at);
    }
    let mut found = Vec::new();
    // One more than fits, to know whether there is another page.
    while let Some(id) = ids.pop().filter(|_| found.len() <= PAGE) {
        let record = cache.run(&id)?;
        if words.is_none_or(|words| record.as_ref().is_some_and(|run| has(run, words))) {
            found.push((id, record));
        }
    }
    let more = found.len() > PAGE;
    found.truncate(PAGE);

    let mut body = Html::default();
    let title = words.map_or_else(|| "Runs".to_owned(), |words| format!("Runs with {words:?}"));
    body.element("h1", &title);
    let Some((oldest, _)) = found.last() else {
        body.note(match words {
            Some(_) => "No run, and no artifact, is called so.",
            None => "There are none. `cistage run PIPELINE` makes one.",
        });
        return Ok(served(&title, &body, false));
    };
    let mut table = Table::new(&["a", "b", "run", "pipeline", "", "began", "took", "ran", "hit", "failed", "given"]);
    found.iter().for_each(|(id, record)| row(cache, &mut table, id, record.as_ref()));
    body.form("/compare", &table.finish(), "compare a with b");
    if more {
        let words = words.map_or(String::new(), |words| format!("&q={}", encoded(words)));
        body.linked("", &format!("/?before={oldest}{words}"), "older runs");
    }
    Ok(served(&title, &body, false))
}

fn row(cache: &Cache, table: &mut Table, id: &RunId, record: Option<&RunRecord>) {
    let counted = [Outcome::Ran, Outcome::Hit, Outcome::Failed];
    table.row(|row| {
        row.choice("a", id.as_str(), &format!("run {id} as a"));
        row.choice("b", id.as_str(), &format!("run {id} as b"));
        row.link(&format!("/run/{id}"), id.as_str());
        let Some(run) = record else {
            let Ok(known) = cache.underway(id) else { return row.sentence("damaged") };
            row.text(&known.pipeline);
            row.state(if known.lives { "under way" } else { "killed" });
            row.text(&known.started);
            row.text("");
            counted.iter().for_each(|outcome| row.number(&known.count(*outcome).to_string()));
            return row.sentence("");
        };
        let count = |outcome| run.steps.iter().filter(|step| step.outcome == outcome).count().to_string();
        row.text(&run.pipeline);
        row.state(run.outcome.word());
        row.text(&run.started);
        row.number(&duration(run.seconds));
        counted.iter().for_each(|outcome| row.number(&count(*outcome)));
        row.sentence(&run.profiles.iter().chain(&run.sets).cloned().collect::<Vec<_>>().join(" "));
    });
}

fn has(run: &RunRecord, words: &str) -> bool {
    let texts = [&run.pipeline, &run.file].into_iter().chain(&run.profiles).chain(&run.sets);
    texts.chain(run.published.keys()).any(|text| text.contains(words))
}

/// A text as the value of a query.
fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
