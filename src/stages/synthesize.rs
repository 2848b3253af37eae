//! `synthesize`: makes up seeded promoters in the challenge's form, with expression from composition and planted motifs.

use crate::artifact::Format;
use crate::data::rows::{Rows, Writer};
use crate::data::synthetic;
use crate::name::PortName;
use crate::seed::Seed;
use crate::stage::{Contract, Estimate, Machine, Resources, Size, Stage, StageContext, StageError};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;

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
/// Rows that one thread makes in one go.
const PIECE: u64 = 1 << 12;

impl Stage for Synthesize {
    /// 1: first. 2: rows packed otherwise.
    fn version(&self) -> u32 {
        2
    }

    fn needs(&self) -> Resources {
        Resources::ALL_CPUS
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
            let end = self.rows.min(start.saturating_add(BATCH));
            let pieces: Vec<u64> = (start..end).step_by(PIECE as usize).collect();
            let made: Vec<Rows> = pieces.into_par_iter().map(|from| self.make(from..end.min(from + PIECE))).collect();
            made.into_iter().try_for_each(|rows| writer.append(rows))?;
            ctx.progress(end, self.rows, "rows");
        }
        let written = writer.finish()?;
        ctx.sealed("rows", written.digest, written.bytes);
        Ok(())
    }
}

impl Synthesize {
    fn make(&self, places: Range<u64>) -> Rows {
        let mut rows = Rows::default();
        for place in places {
            let (sequence, expression) = synthetic::row(Seed(self.seed), place);
            rows.push(place as i64, &sequence, Some(expression));
        }
        rows
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
