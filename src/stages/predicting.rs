//! Predictions for the rows of a file of any size, batch by batch.

use crate::data::predictions::Predictions;
use crate::data::rows::{Batches, Reader};
use crate::model::{Model, ModelError};
use crate::stage::{StageContext, StageError};

/// Where a prediction stands in all of a stage's work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// Rows that were predicted for before.
    pub before: u64,
    pub total: u64,
}

/// How many rows the input `rows` has.
pub(super) fn count(ctx: &StageContext<'_>) -> Result<u64, StageError> {
    Ok(Reader::open(ctx.input("rows"), &ctx.label("rows"))?.rows())
}

/// Predicts for the rows of the input `rows`, in their order. Memory is for one batch of rows, and 16 bytes for each
/// row of the file.
pub(super) fn predict(model: &Model, span: Span, ctx: &StageContext<'_>) -> Result<Predictions, StageError> {
    let label = ctx.label("rows");
    let mut made = Predictions::default();
    let mut predictor = model.on(ctx.device)?;
    for rows in Batches::from(Reader::open(ctx.input("rows"), &label)?) {
        let rows = rows?;
        let first = made.len();
        let mut progress = |done: usize| {
            ctx.progress(span.before + (first + done) as u64, span.total, "rows");
            !ctx.is_cancelled()
        };
        let predicted =
            predictor.predict(&rows.sequences, ctx.threads, &mut progress).map_err(|error| match error {
                ModelError::NoBases { row } => StageError::Input(format!(
                    "{label}: row {} has no bases: there is nothing to predict from",
                    first + row
                )),
                other => other.into(),
            })?;
        made.prediction.extend(predicted.ok_or(StageError::Cancelled)?);
        made.pos.extend(rows.pos);
    }
    Ok(made)
}

/// Whether the model says the same whatever it is asked.
pub(super) fn is_constant(predictions: &[f64]) -> bool {
    predictions.len() > 1 && predictions.iter().all(|value| value == &predictions[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::Format;
    use crate::data::rows::Rows;
    use crate::data::tokenizer;
    use crate::data::{predictions, rows};
    use crate::model::folder::Tokenizer;
    use crate::model::{Bert, BertConfig};
    use crate::seed::Seed;
    use crate::stage::Stage;
    use crate::stages::Predict;
    use crate::stages::bench::Bench;
    use std::path::Path;

    /// A small random model, written to `folder`.
    fn model(folder: &Path) -> Model {
        let json = tokenizer::train(&tokenizer::Counts::default(), "t").expect("trained");
        let file = folder.join("plain.json");
        fs_err::write(&file, json).expect("written");
        let tokenizer = Tokenizer::read(&file).expect("as written").with(16, false);
        let mut config = BertConfig::new(tokenizer.words(), 1, 8, 2, 8);
        config.max_position_embeddings = 16;
        let bert = Bert::new(config);
        let mut parameters = bert.layout.init(&bert.config, Seed(1));
        parameters.iter_mut().for_each(|x| *x *= 20.0);
        let model = Model { bert, parameters, tokenizer, folder: folder.to_owned() };
        model.write(folder, &serde_json::json!({})).expect("written");
        model
    }

    #[test]
    fn rows_of_several_batches_come_back_in_their_order_each_as_if_it_were_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let model = model(folder.path());
        let mut all = Rows::default();
        let sequence = |i: u64| -> Vec<u8> { (0..=i % 13).map(|k| b"ACGT"[((i >> k) % 4) as usize]).collect() };
        // More than a row group, and more than a window of encoding.
        (0..70_000).for_each(|i| all.push(i as i64 * 2, &sequence(i), None));
        let made = Bench::new().with_rows("rows", &all).with_path("model", folder.path()).run(&Predict::default());
        let made = made.expect("predicts");
        assert_eq!(made.warnings, Vec::<String>::new());
        let made = predictions::read(&made.path("predictions"), "made").expect("as written");
        assert_eq!(made.pos, all.pos);
        for i in [0, 1, 16_383, 16_384, 65_535, 65_536, 69_999] {
            let mut one = rows::Sequences::default();
            one.push(&sequence(i as u64));
            let alone = model
                .on(crate::device::Device::Cpu)
                .expect("always there")
                .predict(&one, 3, &mut |_| true)
                .expect("runs")
                .expect("not stopped");
            assert_eq!(alone, [made.prediction[i]], "row {i}");
        }
        assert_eq!(Predict::default().contract().outputs[0].1, Format::Predictions);
    }

    #[test]
    fn a_row_without_bases_is_named_by_its_place_in_the_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        model(folder.path());
        let mut all = Rows::default();
        (0..20_000).for_each(|i| all.push(i, if i == 17_000 { b"" } else { b"ACGT" }, None));
        let made = Bench::new().with_rows("rows", &all).with_path("model", folder.path()).run(&Predict::default());
        let message = made.expect_err("refused").to_string();
        assert_eq!(message, "rows: row 17001 has no bases: there is nothing to predict from");
    }
}
