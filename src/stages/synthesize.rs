//! `synthesize`: makes up seeded promoters in the challenge's form, with expression from composition and planted motifs.

use crate::artifact::Format;
use crate::data::rows::Writer;
use crate::data::synthetic;
use crate::name::PortName;
use crate::seed::Seed;
use crate::stage::{Contract, Estimate, Machine, Size, Stage, StageContext, StageError};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Makes up seeded promoters in the challenge's form, with expression from planted motifs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Synthesize {
    /// How many rows.
    pub rows: u64,
    pub seed: u64,
}

impl Default for Synthesize {
    fn default() -> Self {
        Self { rows: 100_000, seed: 42 }
    }
}

/// Rows made between two looks at the progress.
const BATCH: u64 = 1 << 16;

impl Stage for Synthesize {
    /// 1: first.
    fn version(&self) -> u32 {
        1
    }

    fn contract(&self) -> Contract {
        Contract { inputs: vec![], outputs: vec![("rows".to_owned(), Format::Rows)], ..Contract::default() }
    }

    fn problems(&self) -> Vec<(&'static str, String)> {
        if self.rows == 0 { vec![("rows", "at least one row has to be made".to_owned())] } else { Vec::new() }
    }

    fn estimate(&self, _inputs: &BTreeMap<PortName, Size>, _machine: &Machine) -> Estimate {
        Estimate { rows: BTreeMap::from([("rows", self.rows)]), ..Estimate::default() }
    }

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        let mut writer = Writer::create(&ctx.output("rows", Format::Rows))?;
        for start in (0..self.rows).step_by(BATCH as usize) {
            if ctx.is_cancelled() {
                return Err(StageError::Cancelled);
            }
            let places = start..self.rows.min(start.saturating_add(BATCH));
            let made: Vec<(Vec<u8>, f64)> =
                places.clone().into_par_iter().map(|i| synthetic::row(Seed(self.seed), i)).collect();
            for (pos, (sequence, expression)) in places.zip(&made) {
                writer.push(pos as i64, sequence, Some(*expression))?;
            }
            ctx.progress(start + made.len() as u64, self.rows, "rows");
        }
        writer.finish()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rows;
    use crate::stages::bench::Bench;

    #[test]
    fn equal_parameters_give_equal_bytes_and_more_rows_only_add() {
        let make = |rows, seed| Bench::new().run(&Synthesize { rows, seed }).expect("made");
        let (a, b) = (make(300, 1), make(300, 1));
        assert_eq!(a.bytes("rows"), b.bytes("rows"));
        assert_ne!(a.bytes("rows"), make(300, 2).bytes("rows"));
        let (few, many) =
            (rows::read(&a.path("rows")).expect("read"), rows::read(&make(400, 1).path("rows")).expect("read"));
        assert_eq!(few, many.select(&(0..300).collect::<Vec<_>>()));
    }
}
