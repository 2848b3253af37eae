//! `split`: parts rows into training and test rows.

use crate::artifact::Format;
use crate::data::rows::{self, Reader, Rows, Writer};
use crate::name::PortName;
use crate::seed::{Seed, shuffle};
use crate::stage::{Contract, Estimate, Machine, Port, Resources, Size, Stage, StageContext, StageError};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What decides on which side a row falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SplitBy {
    /// A seeded permutation; the test part is the ceiling of the share.
    Random,
    /// A seeded hash of the sequence: equal sequences never part, and reordering rows changes nothing.
    SequenceHash,
}

/// Parts rows into training and test rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Split {
    /// The share of rows held out, above 0 and below 1.
    pub test: f64,
    pub by: SplitBy,
    pub seed: u64,
}

impl Default for Split {
    fn default() -> Self {
        Self { test: 0.01, by: SplitBy::Random, seed: 42 }
    }
}

impl Stage for Split {
    /// 1: first. 2: rows packed otherwise.
    fn version(&self) -> u32 {
        2
    }

    fn needs(&self) -> Resources {
        Resources::ALL_CPUS
    }

    fn contract(&self) -> Contract {
        Contract {
            inputs: vec![Port::required("rows", Format::Rows)],
            outputs: vec![("train".to_owned(), Format::Rows), ("test".to_owned(), Format::Rows)],
            ..Contract::default()
        }
    }

    fn problems(&self) -> Vec<(&'static str, String)> {
        if self.test > 0.0 && self.test < 1.0 {
            Vec::new()
        } else {
            vec![("test", format!("the share of test rows is {}: it has to lie between 0 and 1", self.test))]
        }
    }

    fn estimate(&self, inputs: &BTreeMap<PortName, Size>, _machine: &Machine) -> Estimate {
        let Some(rows) = inputs.get("rows").and_then(|size| size.rows) else { return Estimate::default() };
        let test = self.test_rows(rows).min(rows);
        Estimate { rows: BTreeMap::from([("train", rows - test), ("test", test)]), ..Estimate::default() }
    }

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        let label = ctx.label("rows");
        let mut reader = Reader::open(ctx.input("rows"), &label)?;
        let total = reader.rows();
        let chosen = match self.by {
            SplitBy::Random => Some(self.draw(total).ok_or_else(|| {
                StageError::Input(format!(
                    "{label}: {total} rows are more than a random split can part; use `by: sequence-hash`"
                ))
            })?),
            SplitBy::SequenceHash => None,
        };
        let (train, test) = (ctx.output("train", Format::Rows), ctx.output("test", Format::Rows));
        let (mut train, mut test) = (Writer::create(&train)?, Writer::create(&test)?);
        let mut place = 0;
        while let Some(batches) = reader.next_batches()? {
            if ctx.is_cancelled() {
                return Err(StageError::Cancelled);
            }
            let placed = rows::placed(batches, &mut place);
            let parts: Vec<(Rows, Rows)> = placed
                .into_par_iter()
                .map(|(first, batch)| {
                    batch.part(|i, sequence| match &chosen {
                        Some(chosen) => !chosen[first + i],
                        None => !self.holds_out(sequence),
                    })
                })
                .collect();
            for (kept, held_out) in parts {
                train.append(kept)?;
                test.append(held_out)?;
            }
            ctx.progress(place as u64, total, "rows");
        }
        for (port, part, writer) in [("train", "training", train), ("test", "test", test)] {
            let written = writer.finish()?;
            ctx.sealed(port, written.digest, written.bytes);
            if written.rows == 0 {
                return Err(StageError::Input(format!(
                    "{label}: with test: {} the {part} part of {total} rows is empty; change the share, or give more rows",
                    self.test
                )));
            }
        }
        Ok(())
    }
}

impl Split {
    /// The ceiling of the share, where 0.07 of 100 rows are 7, not the 7.000000000000001 of binary fractions.
    fn test_rows(&self, rows: u64) -> u64 {
        let exact = self.test * rows as f64;
        let whole = exact.round();
        if (exact - whole).abs() < 1e-9 * exact.max(1.0) { whole as u64 } else { exact.ceil() as u64 }
    }

    /// Draws the test rows: for each row, whether it is one. `None` for more than 2^32 rows.
    fn draw(&self, rows: u64) -> Option<Vec<bool>> {
        let mut order: Vec<u32> = (0..u32::try_from(rows).ok()?).collect();
        shuffle(&mut Seed(self.seed).rng("split"), &mut order);
        let mut chosen = vec![false; order.len()];
        order.iter().take(self.test_rows(rows) as usize).for_each(|&i| chosen[i as usize] = true);
        Some(chosen)
    }

    /// Whether the hash of a sequence, as a number in [0, 1), lies below the share.
    fn holds_out(&self, sequence: &[u8]) -> bool {
        let mut hasher = blake3::Hasher::new_derive_key("cistage 2026 split by hash of the sequence");
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(sequence);
        let head = hasher.finalize().as_bytes()[..8].try_into().expect("a hash has 32 bytes");
        ((u64::from_le_bytes(head) >> 11) as f64) < self.test * (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::bench::Bench;
    use std::collections::BTreeSet;

    fn made_up(n: u64) -> Rows {
        let mut rows = Rows::default();
        for i in 0..n {
            let sequence: Vec<u8> = (0..12).map(|j| b"ACGT"[((i / 2) >> (2 * j)) as usize % 4]).collect();
            rows.push(i as i64 + 5, &sequence, (i % 3 > 0).then_some(i as f64));
        }
        rows
    }

    fn parts(split: &Split, rows: &Rows) -> (Rows, Rows) {
        let made = Bench::new().with_rows("rows", rows).run(split).expect("split");
        (rows::read(&made.path("train")).expect("read"), rows::read(&made.path("test")).expect("read"))
    }

    #[test]
    fn a_random_split_has_the_exact_count_and_keeps_file_order() {
        for (n, share, count) in [(7369, 0.01, 74), (100, 0.07, 7), (100, 0.071, 8), (3, 0.5, 2)] {
            let (train, test) = parts(&Split { test: share, ..Split::default() }, &made_up(n));
            assert_eq!((train.len() as u64, test.len()), (n - count as u64, count));
            assert!(train.pos.is_sorted() && test.pos.is_sorted());
            let all: BTreeSet<i64> = train.pos.iter().chain(&test.pos).copied().collect();
            assert_eq!(all.len() as u64, n);
        }
        let rows = made_up(500);
        let split = |seed| parts(&Split { seed, ..Split::default() }, &rows).1.pos;
        assert_eq!(split(1), split(1));
        assert_ne!(split(1), split(2));
    }

    #[test]
    fn equal_sequences_never_part_and_order_does_not_matter() {
        let rows = made_up(4000);
        let split = Split { test: 0.1, by: SplitBy::SequenceHash, seed: 42 };
        let (train, test) = parts(&split, &rows);
        assert!((300..500).contains(&test.len()), "{}", test.len());
        let seen: BTreeSet<&[u8]> = train.sequences.iter().collect();
        assert!(test.sequences.iter().all(|s| !seen.contains(s)));
        let backwards = parts(&split, &rows.select(&(0..4000).rev().collect::<Vec<_>>())).1;
        let set = |rows: &Rows| rows.pos.iter().copied().collect::<BTreeSet<i64>>();
        assert_eq!(set(&test), set(&backwards));
    }

    #[test]
    fn an_empty_part_is_the_users_to_mend() {
        for n in [0, 1] {
            let error = Bench::new().with_rows("rows", &made_up(n)).run(&Split::default()).expect_err("refused");
            assert!(matches!(error, StageError::Input(_)), "{error}");
        }
    }
}
