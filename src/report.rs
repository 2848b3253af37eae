//! The HTML report: one self-contained page about a set of artifacts.
//!
//! A page shows what each file turns out to be, judged by its content: the numbers of an evaluation
//! beside one another, the curves of a training, the bins of a sample, a comparison, or else its kind,
//! size and digest. Its bytes depend on the files and the names of their ports alone: no clock, no
//! path, no script, and nothing that a browser would have to fetch.

use crate::name::PortName;
pub use charts::{Line, lines};
pub use comparison::Comparison;
pub use density::density;
pub use html::Html;
use html::Table;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use subject::Inspected;
pub use subject::Subject;
pub use training::{curves, losses};
pub use word::shell_word;

mod bins;
mod charts;
mod comparison;
mod density;
mod evaluation;
mod files;
pub mod graph;
pub mod html;
mod json;
pub mod leaves;
pub mod numbers;
mod order;
mod scores;
mod subject;
pub mod tensorboard;
mod training;
mod word;

/// Why a page can't be made.
#[derive(Debug, thiserror::Error)]
#[error("can't read the input `{name}` of the report: {source}")]
pub struct ReportError {
    pub name: String,
    pub source: std::io::Error,
}

/// Something a reader must not overlook, for the top of the page and for the log.
pub type Alarm = String;

/// A page, and what stands loudly on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub html: String,
    pub alarms: Vec<Alarm>,
}

/// Makes the page about `inputs`, each named by its port.
pub fn page(title: &str, inputs: &BTreeMap<PortName, PathBuf>) -> Result<Page, ReportError> {
    let mut about = About::default();
    for (port, path) in inputs {
        about.add(port.as_str(), path, |_| true)?;
    }
    let (contents, sections, alarms) = about.finish();
    let mut body = Html::default();
    body.element("h1", title);
    for alarm in &alarms {
        body.alarm(alarm);
    }
    body.element("h2", "Inputs");
    body.push(&contents);
    body.push(&sections);
    Ok(Page { html: html::document(title, &body), alarms })
}

/// What a page says about some files.
#[derive(Default)]
pub struct About(Vec<Inspected>);

impl About {
    /// Looks at a file or a folder, and keeps it where `wanted` says so of what it is.
    pub fn add(&mut self, name: &str, path: &Path, wanted: impl Fn(&Subject) -> bool) -> Result<(), ReportError> {
        let found = subject::inspect(name, path).map_err(|source| ReportError { name: name.to_owned(), source })?;
        if wanted(&found.subject) {
            self.0.push(found);
        }
        Ok(())
    }

    /// The list of the files, a section for each, and what nobody must overlook.
    pub fn finish(mut self) -> (Html, Html, Vec<Alarm>) {
        // What a reader came for stands first: how good the models are.
        self.0.sort_by(|a, b| (a.subject.rank().cmp(&b.subject.rank())).then_with(|| order::by_name(&a.name, &b.name)));
        let (mut sections, mut alarms) = (Html::default(), Vec::new());
        for input in &self.0 {
            sections.push(&section(input, &mut alarms));
        }
        (contents(&self.0), sections, alarms)
    }
}

/// The list of inputs.
fn contents(inspected: &[Inspected]) -> Html {
    let mut table = Table::new(&["name", "what it is", "size", "digest"]);
    for input in inspected {
        table.row(|row| {
            row.link(&format!("#{}", anchor(&input.name)), &input.name);
            row.text(&input.subject.describe());
            row.number(&numbers::bytes(input.bytes));
            match &input.digest {
                Some(digest) => row.code(&digest.short(), &digest.to_string()),
                None => row.text("folder"),
            }
        });
    }
    table.finish()
}

fn section(input: &Inspected, alarms: &mut Vec<Alarm>) -> Html {
    let mut html = Html::default();
    let name = &input.name;
    html.heading(&anchor(name), name, &input.subject.describe());
    html.push(&match &input.subject {
        Subject::Evaluation(value) => evaluation::section(name, value, alarms),
        Subject::Training(value) => training::section(value),
        Subject::BinSample(value) => bins::section(value),
        Subject::Comparison(value) => comparison::section(name, value, alarms),
        Subject::Scores(value) => scores::section(value),
        Subject::Numbers(value) => scores::leaves_table(value),
        Subject::Table(summary) => files::parquet_section(summary),
        Subject::Picture(picture) => files::picture_section(name, picture),
        Subject::Folder(files) => files::folder_section(files),
        Subject::Page | Subject::Other => Html::default(),
    });
    html
}

fn anchor(name: &str) -> String {
    format!("input-{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &tempfile::TempDir, name: &str, content: &str) -> (PortName, PathBuf) {
        let path = dir.path().join(name);
        fs_err::write(&path, content).expect("a temporary file");
        (PortName::parse(name).expect("a valid port"), path)
    }

    fn example(dir: &tempfile::TempDir) -> BTreeMap<PortName, PathBuf> {
        let bins: Vec<String> = (1..=18)
            .map(|b| {
                let rows = if b == 1 { 0 } else { b * 10 };
                let mse = if b == 1 { "null".to_owned() } else { format!("{}", f64::from(b) * 0.25) };
                format!(
                    r#"{{"bin":{b},"from":{},"to":{b},"rows":{rows},"mse":{mse},"mae":{mse},"bias":{}}}"#,
                    b - 1,
                    9 - b
                )
            })
            .collect();
        let model = |r: &str, sd: f64| {
            format!(
                r#"{{"pearson":{r},"spearman":{r},"r2":0.2,"mse":4.5,"mae":1.5,"sd":{sd},"constant":{},"intervals":{{"pearson":[0.1,0.6]}},"bins":[{}],"low":{{"rows":3,"mse":9.0}},"high":{{"rows":4,"mse":8.0}}}}"#,
                sd == 0.0,
                bins.join(",")
            )
        };
        BTreeMap::from([
            write(
                dir,
                "evaluate",
                &format!(
                    r#"{{"rows":120,"models":{{"after":{},"before":{}}}}}"#,
                    model("0.5", 1.25),
                    model("null", 0.0)
                ),
            ),
            write(
                dir,
                "train",
                r#"{"rows":90,"steps":30,"curves":{"kept_epoch":2,"loss_every":10,"loss":[4.0,3.5,3.0],"epochs":[{"epoch":1,"train_loss":3.5,"validation":{"mse":3.25,"r2":0.1}},{"epoch":2,"train_loss":3.0,"validation":{"mse":3.0,"r2":0.2}}]}}"#,
            ),
            write(
                dir,
                "sample",
                r#"{"bins":[{"bin":1,"from":0,"to":1,"before":5,"after":5},{"bin":2,"from":1,"to":2,"before":500,"after":20}]}"#,
            ),
            write(
                dir,
                "compare",
                r#"{"rows":["k@per_bin=3000"],"columns":["models.a.mse"],"values":{"k@per_bin=3000":{"models.a.mse":2.5}}}"#,
            ),
            write(
                dir,
                "scores",
                r#"{"pearson_score":0.25,"spearman_score":0.5,"subsets":{"all":{"pearson":0.5,"spearman":0.4,"n":10}}}"#,
            ),
            write(dir, "other", "<script>alert(1)</script>"),
        ])
    }

    #[test]
    fn a_page_is_self_contained_escaped_and_the_same_each_time() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let inputs = example(&dir);
        let first = page("<b>Bins & models</b>", &inputs).expect("a page");
        assert_eq!(first, page("<b>Bins & models</b>", &inputs).expect("a page"));
        let html = &first.html;
        assert!(html.contains("<h1>&lt;b&gt;Bins &amp; models&lt;/b&gt;</h1>"));
        for outside in ["<script", "http:", "https:", "src=\"/", "url(", "@import", "<b>", "NaN"] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert!(!html.contains(dir.path().to_str().expect("a text path")), "a path reached the page");
        let opened = html.matches("<svg").count();
        assert!(opened >= 5 && opened == html.matches("</svg>").count(), "{opened} charts");
        for balanced in ["table", "tr", "td", "th", "section", "figure", "g"] {
            let open = html.matches(&format!("<{balanced}>")).count() + html.matches(&format!("<{balanced} ")).count();
            assert_eq!(open, html.matches(&format!("</{balanced}>")).count(), "{balanced}");
        }
    }

    #[test]
    fn a_constant_prediction_is_an_alarm_and_before_stands_before_after() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let page = page("t", &example(&dir)).expect("a page");
        assert_eq!(page.alarms.len(), 1, "{:?}", page.alarms);
        assert!(page.alarms[0].starts_with("evaluate: `before` predicts the same value for every row"));
        let (before, after) = (page.html.find(">before</th>"), page.html.find(">after</th>"));
        assert!(before.is_some() && before < after);
    }

    #[test]
    fn unforeseen_shapes_are_listed_and_never_panic() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for (i, text) in [
            "",
            "[",
            "[]",
            "{}",
            "null",
            r#"{"models":{}}"#,
            r#"{"models":{"a":3,"b":{"bins":[1,{"rows":"x"}],"pearson":"high"}}}"#,
            r#"{"epochs":[3,null,{}],"loss":[null,[1],[1,"x"],{"step":1}]}"#,
            r#"{"loss":[1e308,-1e308,0]}"#,
            r#"{"bins":[{"bin":1,"before":-5,"after":1e300}]}"#,
            r#"{"rows":["a",3],"columns":[null],"values":{"a":7}}"#,
            "PAR1 and nothing more",
        ]
        .into_iter()
        .enumerate()
        {
            let inputs = BTreeMap::from([write(&dir, &format!("f{i}"), text)]);
            let page = page("t", &inputs).expect("a page");
            assert!(!page.html.contains("NaN") && !page.html.contains("inf\""), "{text}");
        }
    }
}
