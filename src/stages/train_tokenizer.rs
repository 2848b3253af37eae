//! `train-tokenizer`: trains the ten-word WordPiece tokenizer: each base is a word.

use crate::artifact::Format;
use crate::data::rows::Reader;
use crate::data::tokenizer::{Counts, train};
use crate::stage::{Contract, Port, Resources, Stage, StageContext, StageError};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Trains the ten-word WordPiece tokenizer: each base is a word.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub struct TrainTokenizer {}

impl Stage for TrainTokenizer {
    /// 1: first.
    fn version(&self) -> u32 {
        1
    }

    fn needs(&self) -> Resources {
        Resources::ALL_CPUS
    }

    fn contract(&self) -> Contract {
        Contract {
            inputs: vec![Port::required("rows", Format::Rows)],
            outputs: vec![("tokenizer".to_owned(), Format::Tokenizer)],
            ..Contract::default()
        }
    }

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        let label = ctx.label("rows");
        let mut reader = Reader::open(ctx.input("rows"), &label)?;
        let (mut counts, mut done) = (Counts::default(), 0);
        while let Some(batches) = reader.next_batches()? {
            if ctx.is_cancelled() {
                return Err(StageError::Cancelled);
            }
            let counted: Vec<Counts> = batches.par_iter().map(|batch| Counts::of(&batch.sequences)).collect();
            counted.iter().for_each(|of_batch| counts.add(of_batch));
            done += batches.iter().map(|batch| batch.len() as u64).sum::<u64>();
            ctx.progress(done, reader.rows(), "rows");
        }
        if done == 0 {
            return Err(StageError::Input(format!("{label}: no rows to train a tokenizer on")));
        }
        let path = ctx.output("tokenizer", Format::Tokenizer);
        fs_err::write(path, train(&counts, &label)?)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rows::Rows;
    use crate::stages::bench::Bench;

    #[test]
    fn the_same_ten_words_come_from_any_rows() {
        let made = |sequence: &[u8]| {
            let mut rows = Rows::default();
            rows.push(0, sequence, None);
            Bench::new().with_rows("rows", &rows).run(&TrainTokenizer {})
        };
        let texts = [made(b"ACGTN"), made(b"TTTA")].map(|made| made.expect("trained").bytes("tokenizer"));
        assert_eq!(texts[0], texts[1]);
        assert!(matches!(
            Bench::new().with_rows("rows", &Rows::default()).run(&TrainTokenizer {}),
            Err(StageError::Input(_))
        ));
    }
}
