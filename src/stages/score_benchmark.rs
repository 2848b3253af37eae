//! `score-benchmark`: gives predictions for the official test set the challenge's scores.

use crate::artifact::Format;
use crate::data::benchmark::{self, Scores};
use crate::data::{predictions, subsets, text::Lines};
use crate::stage::{Contract, Port, Stage, StageContext, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

fn official_weights() -> BTreeMap<String, f64> {
    [
        ("all", 1.0),
        ("high", 0.3),
        ("low", 0.3),
        ("native", 0.3),
        ("random", 0.3),
        ("challenging", 0.5),
        ("snv", 1.25),
        ("motif_perturbation", 0.3),
        ("motif_tiling", 0.4),
    ]
    .into_iter()
    .map(|(name, weight)| (name.to_owned(), weight))
    .collect()
}

/// Gives predictions for the official test set the challenge's scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScoreBenchmark {
    /// Weight of each subset in the scores; the official ones unless given.
    pub weights: BTreeMap<String, f64>,
}

impl Default for ScoreBenchmark {
    fn default() -> Self {
        Self { weights: official_weights() }
    }
}

impl Stage for ScoreBenchmark {
    /// 1: first.
    fn version(&self) -> u32 {
        1
    }

    fn contract(&self) -> Contract {
        Contract {
            inputs: vec![
                Port::required("predictions", Format::Predictions),
                Port::required("labels", Format::Raw),
                Port::required("subsets", Format::Subsets),
            ],
            outputs: vec![("metrics".to_owned(), Format::Metrics)],
            ..Contract::default()
        }
    }

    fn problems(&self) -> Vec<(&'static str, String)> {
        let bad: Vec<String> = self
            .weights
            .iter()
            .filter(|(_, w)| !(w.is_finite() && **w >= 0.0))
            .map(|(name, w)| format!("{name}: {w}"))
            .collect();
        if !bad.is_empty() {
            vec![("weights", format!("a weight has to be a number from 0 up ({})", bad.join(", ")))]
        } else if self.weights.values().sum::<f64>() <= 0.0 {
            vec![("weights", "give at least one subset a weight above 0".to_owned())]
        } else {
            Vec::new()
        }
    }

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        let predictions = predictions::read(ctx.input("predictions"), &ctx.label("predictions"))?;
        let predicted =
            benchmark::by_position(predictions.pos.into_iter().zip(predictions.prediction), &ctx.label("predictions"))?;
        let mut lines = Lines::open(ctx.input("labels"), &ctx.label("labels"))?;
        let measured = benchmark::by_position(predictions::read_pairs(&mut lines)?, &ctx.label("labels"))?;
        let subsets = subsets::read_folder(ctx.input("subsets"), &ctx.label("subsets"))?;

        let names = benchmark::Names {
            predictions: ctx.label("predictions"),
            labels: ctx.label("labels"),
            subsets: ctx.label("subsets"),
        };
        let scores = Scores::of(&predicted, &measured, subsets, &self.weights, &names)?;
        let undefined = scores.undefined();
        if !undefined.is_empty() {
            ctx.warning(&format!(
                "constant predictions have no correlation: null, and 0 in the score, for {}",
                undefined.join(", ")
            ));
        }
        let text = serde_json::to_string_pretty(&scores).expect("scores are plain data");
        fs_err::write(ctx.output("metrics", Format::Metrics), text + "\n")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::bench::Bench;
    use serde_json::{Value, json};

    #[test]
    fn the_official_scores_are_reproduced() {
        let folder = crate::data::tests::shared().join("data/official_test");
        let Ok(expected) = fs_err::read(folder.join("peer_predictions_public.expected.json")) else {
            eprintln!("skipped: no official test set in {}", folder.display());
            return;
        };
        let expected: Value = serde_json::from_slice(&expected).expect("JSON");
        let made = Bench::new()
            .with_path("predictions", &folder.join("peer_predictions_public.tsv"))
            .with_path("labels", &folder.join("public_labels.tsv"))
            .with_path("subsets", &folder.join("public_subsets"))
            .run(&ScoreBenchmark::default())
            .expect("scored");
        let found = made.json("metrics");
        let close = |a: &Value, b: &Value| {
            let (a, b) = (a.as_f64().expect("a number"), b.as_f64().expect("a number"));
            assert!((a - b).abs() <= 1e-9 * b.abs(), "{a} {b}");
        };
        close(&found["pearson_score"], &expected["pearson_score"]);
        close(&found["spearman_score"], &expected["spearman_score"]);
        let subsets = expected["subsets"].as_object().expect("an object");
        assert_eq!(found["subsets"].as_object().expect("an object").len(), subsets.len());
        for (name, subset) in subsets {
            close(&found["subsets"][name]["pearson"], &subset["pearson"]);
            close(&found["subsets"][name]["spearman"], &subset["spearman"]);
            assert_eq!(found["subsets"][name]["n"], subset["n"], "{name}");
        }
    }

    /// Four rows, one subset of single rows and one of pairs.
    fn bench(predictions: &str) -> Bench {
        let lists = [("high.tsv", "pos\n0\n1\n2\n"), ("snv.tsv", "alt_pos\tref_pos\n0\t1\n2\t3\n0\t3\n")];
        Bench::new()
            .with("predictions", predictions.as_bytes())
            .with("labels", b"pos\texpression\n0\t1\n1\t2\n2\t4\n3\t9\n")
            .with_folder("subsets", &lists)
    }

    fn weighing(names: &[&str]) -> ScoreBenchmark {
        ScoreBenchmark { weights: names.iter().map(|name| ((*name).to_owned(), 1.0)).collect() }
    }

    #[test]
    fn pairs_are_differences_and_all_means_every_label() {
        let made = bench("pos\tprediction\n0\t2\n1\t4\n2\t8\n3\t18\n")
            .run(&weighing(&["all", "high", "snv"]))
            .expect("scored");
        let metrics = made.json("metrics");
        assert_eq!((&metrics["subsets"]["all"]["n"], &metrics["subsets"]["snv"]["n"]), (&json!(4), &json!(3)));
        assert!((metrics["pearson_score"].as_f64().expect("a number") - 1.0).abs() < 1e-12);
    }

    #[test]
    fn constant_predictions_score_nothing_and_are_warned_of() {
        let made = bench("0\t5\n1\t5\n2\t5\n3\t5\n").run(&weighing(&["all", "snv"])).expect("scored");
        let metrics = made.json("metrics");
        assert_eq!((&metrics["pearson_score"], &metrics["subsets"]["snv"]["pearson"]), (&json!(0.0), &Value::Null));
        assert_eq!(made.warnings.len(), 1);
    }

    #[test]
    fn what_is_missing_is_named() {
        let message = |predictions: &str, names: &[&str]| {
            bench(predictions).run(&weighing(names)).expect_err("refused").to_string()
        };
        assert_eq!(
            message("0\t5\n1\t6\n2\t5\n", &["all"]),
            "predictions: no prediction for the row at position 3, which subset `all` needs"
        );
        assert_eq!(
            message("0\t5\n", &["low"]),
            "subsets: there is no list low.tsv, which `weights` names; the folder has: high, snv"
        );
        assert_eq!(message("0\t5\n0\t6\n", &["all"]), "predictions: position 0 stands there twice");
    }
}
