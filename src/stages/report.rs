//! `report`: writes one self-contained HTML page about its inputs.

use crate::artifact::Format;
use crate::report;
use crate::stage::{Contract, Stage, StageContext, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Writes one self-contained HTML page about its inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Report {
    /// The heading of the page.
    pub title: String,
}

impl Default for Report {
    fn default() -> Self {
        Self { title: "Report".to_owned() }
    }
}

impl Stage for Report {
    /// 1: first. 2: evaluations first, errors of validation rows apart from losses, published scores.
    fn version(&self) -> u32 {
        2
    }

    fn contract(&self) -> Contract {
        Contract {
            inputs: vec![],
            more_inputs: Some(Format::Raw),
            gathers: true,
            outputs: vec![("report".to_owned(), Format::Report)],
            ..Contract::default()
        }
    }

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        if ctx.inputs.is_empty() {
            return Err(StageError::Input(
                "`report` has no inputs: name what it shall show under `in:`, for example `evaluation: evaluate.metrics`"
                    .to_owned(),
            ));
        }
        // Port names only: the user's paths and stage names are not part of the key.
        let page = report::page(&self.title, &ctx.inputs).map_err(|e| StageError::Failed(e.to_string()))?;
        for alarm in &page.alarms {
            ctx.warning(alarm);
        }
        let path = ctx.output("report", Format::Report);
        fs_err::write(path, page.html)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::compare::tests::{Silent, context};

    #[test]
    fn a_report_of_nothing_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut ctx = context(dir.path(), &Silent, &[]);
        let error = Report::default().run(&mut ctx).expect_err("no inputs");
        assert!(matches!(&error, StageError::Input(message) if message.contains("under `in:`")), "{error}");
    }

    #[test]
    fn the_bytes_depend_on_ports_and_contents_alone() {
        let pages: Vec<Vec<u8>> = (0..2)
            .map(|_| {
                let dir = tempfile::tempdir().expect("a temporary folder");
                let mut ctx = context(dir.path(), &Silent, &[("a", r#"{"rows":3}"#), ("b", "raw")]);
                Report::default().run(&mut ctx).expect("a page");
                fs_err::read(dir.path().join("report.html")).expect("the page")
            })
            .collect();
        assert_eq!(pages[0], pages[1]);
    }
}
