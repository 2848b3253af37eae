//! `import-sequences`: reads and checks the challenge's rows, and writes them as Parquet.

use crate::artifact::Format;
use crate::data::check::Faults;
use crate::data::import::{Facts, Source, Summary};
use crate::data::rows::Writer;
use crate::name::PortName;
use crate::stage::{Contract, Estimate, Machine, Port, Resources, Size, Stage, StageContext, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What to do about a row that can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BadRows {
    /// Stop, naming file, line and column.
    Error,
    /// Leave it out, and count and list it in the metrics.
    Drop,
}

/// Whether every row must have a measured value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Labels {
    Required,
    /// `nan` or an empty second column stands for "not measured".
    Optional,
}

/// Reads and checks the challenge's rows, and writes them as Parquet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ImportSequences {
    /// What to do about a row that can't be used.
    pub bad_rows: BadRows,
    /// Whether every row must have a measured value.
    pub labels: Labels,
}

impl Default for ImportSequences {
    fn default() -> Self {
        Self { bad_rows: BadRows::Error, labels: Labels::Required }
    }
}

/// Faults shown in one message; further ones are counted.
const SHOWN: usize = 10;
/// Bytes that a row of the challenge takes in a gzip file.
const PACKED_ROW: u64 = 34;

impl Stage for ImportSequences {
    /// 1: first. 2: rows packed otherwise.
    fn version(&self) -> u32 {
        2
    }

    fn needs(&self) -> Resources {
        Resources::ALL_CPUS
    }

    fn contract(&self) -> Contract {
        Contract {
            inputs: vec![Port::required("file", Format::Raw)],
            outputs: vec![("rows".to_owned(), Format::Rows), ("metrics".to_owned(), Format::Metrics)],
            ..Contract::default()
        }
    }

    fn estimate(&self, inputs: &BTreeMap<PortName, Size>, _machine: &Machine) -> Estimate {
        let size = inputs.get("file").copied().unwrap_or_default();
        // Only the size is known before the file is read; plain text is three times as long, so this is an upper guess.
        let rows = size.rows.or(size.bytes.map(|bytes| bytes.div_ceil(PACKED_ROW)));
        Estimate { rows: rows.map(|rows| ("rows", rows)).into_iter().collect(), ..Estimate::default() }
    }

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        let label = ctx.label("file");
        let mut source = Source::open(ctx.input("file"), &label, self.labels == Labels::Required)?;
        let mut writer = Writer::create(&ctx.output("rows", Format::Rows))?;
        let (mut summary, mut faults) = (Summary::new(ctx.scratch()), Faults::default());
        while let Some(batches) = source.next_batches(&mut faults)? {
            if ctx.is_cancelled() {
                return Err(StageError::Cancelled);
            }
            if self.bad_rows == BadRows::Error && faults.count >= SHOWN as u64 {
                break;
            }
            summary.add(&batches)?;
            batches.into_iter().try_for_each(|batch| writer.append(batch))?;
            ctx.progress(summary.rows() + faults.count, 0, "rows");
        }
        if self.bad_rows == BadRows::Error && faults.count > 0 {
            return Err(StageError::Input(refusal(&label, &source, &faults)));
        }
        if summary.rows() == 0 {
            let why = faults.listed.first().map_or_else(
                || "it has no rows: expected lines of sequence<TAB>expression".to_owned(),
                |fault| {
                    let (count, first) = (faults.count, source.place(&label, fault));
                    format!("none of its {count} rows can be used; the first: {first}")
                },
            );
            return Err(StageError::Input(format!("{label}: {why}")));
        }
        let written = writer.finish()?;
        ctx.sealed("rows", written.digest, written.bytes);
        if faults.count > 0 {
            ctx.warning(&format!("{label}: {} rows dropped; the stage's metrics list them", faults.count));
        }
        let metrics = metrics(summary.facts()?, &faults);
        fs_err::write(ctx.output("metrics", Format::Metrics), format!("{metrics:#}\n"))?;
        Ok(())
    }
}

fn refusal(label: &str, source: &Source, faults: &Faults) -> String {
    let mut lines: Vec<String> = faults.listed.iter().take(SHOWN).map(|fault| source.place(label, fault)).collect();
    if faults.count > SHOWN as u64 {
        // Reading stopped there: how many more there are is not known.
        lines.push("and more".to_owned());
    }
    lines.push("mend these rows, or leave them out with `bad_rows: drop`".to_owned());
    lines.join("\n")
}

fn metrics(facts: Facts, faults: &Faults) -> Value {
    json!({
        "rows": facts.rows,
        "dropped": faults.count,
        "duplicates": facts.duplicates,
        "labelled": facts.labelled,
        "unlabelled": facts.rows - facts.labelled,
        "mean": facts.mean,
        "sd": facts.sd,
        "shortest": facts.shortest,
        "longest": facts.longest,
        "dropped_rows": faults.listed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rows::{self, Rows};
    use crate::stages::bench::Bench;

    const DROP: ImportSequences = ImportSequences { bad_rows: BadRows::Drop, labels: Labels::Required };

    #[test]
    fn bad_rows_stop_the_import_with_their_places() {
        let text = b"ACGT\t1\nACXT\t2\nACGT\tinf\nACGT\n";
        let error = Bench::new().with("file", text).run(&ImportSequences::default()).expect_err("refused");
        assert!(matches!(error, StageError::Input(_)));
        assert_eq!(
            error.to_string(),
            "file:2:3: 'X' is not a base: expected A, C, G, T or N\n\
             file:3:6: the expression is inf: it has to be a finite number\n\
             file:4:5: 1 column, where two are expected: sequence<TAB>expression\n\
             mend these rows, or leave them out with `bad_rows: drop`"
        );
    }

    #[test]
    fn dropped_rows_are_counted_and_listed() {
        let made = Bench::new().with("file", b"ACGT\t1\nACXT\t2\nacgt\t4\nAC\t4\n").run(&DROP).expect("imported");
        assert_eq!(rows::read(&made.path("rows")).expect("read").pos, [0, 2, 3]);
        let metrics = made.json("metrics");
        assert_eq!(["rows", "dropped", "duplicates", "shortest"].map(|k| metrics[k].as_u64()), [3, 1, 1, 2].map(Some));
        assert_eq!(metrics["mean"], json!(3.0));
        assert_eq!(metrics["dropped_rows"][0]["line"], json!(2));
        assert_eq!(made.warnings.len(), 1);
    }

    #[test]
    fn parquet_rows_pass_through_the_same_checks() {
        let mut given = Rows::default();
        given.push(7, b"acgt", Some(1.0));
        given.push(9, b"AC-T", Some(1.0));
        given.push(11, b"GG", None);
        let error = Bench::new().with_rows("file", &given).run(&ImportSequences::default()).expect_err("refused");
        let text = error.to_string();
        assert!(text.starts_with("file: row 2: base 3: '-' is not a base"), "{text}");
        assert!(text.contains("file: row 3: no expression is given"), "{text}");
        let stage = ImportSequences { bad_rows: BadRows::Drop, labels: Labels::Optional };
        let made = Bench::new().with_rows("file", &given).run(&stage).expect("imported");
        let found = rows::read(&made.path("rows")).expect("read");
        assert_eq!((found.pos.clone(), found.sequences.get(0)), (vec![7, 11], &b"ACGT"[..]));
    }

    #[test]
    fn files_without_a_usable_row_are_refused() {
        for (bytes, message) in [
            (&b""[..], "file: the file is empty"),
            (b"sequence\texpression\n", "file: it has no rows: expected lines of sequence<TAB>expression"),
            (
                b"XX\t1\n",
                "file: none of its 1 rows can be used; the first: file:1:1: 'X' is not a base: expected A, C, G, T or N",
            ),
            (b"PAR1 and then something else", "file: not a readable Parquet file"),
        ] {
            let error = Bench::new().with("file", bytes).run(&DROP).expect_err("refused");
            assert!(matches!(error, StageError::Input(_)) && error.to_string().starts_with(message), "{error}");
        }
    }

    #[test]
    fn the_challenges_rows_are_imported() {
        let path = crate::data::tests::shared().join("data/dream_train_rows.tsv.gz");
        if !path.exists() {
            eprintln!("skipped: no rows at {}", path.display());
            return;
        }
        let made = Bench::new().with_path("file", &path).run(&ImportSequences::default()).expect("imported");
        let metrics = made.json("metrics");
        assert_eq!((&metrics["rows"], &metrics["dropped"]), (&json!(7369), &json!(0)));
        eprintln!("{metrics:#}");
    }
}
