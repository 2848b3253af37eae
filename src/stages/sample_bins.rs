//! `sample-bins`: draws the same number of rows from each bin of expression.

use crate::artifact::Format;
use crate::data::bins::Rule;
use crate::data::rows::{self, Batches, Reader, Rows, Writer};
use crate::name::PortName;
use crate::seed::{Seed, shuffle};
use crate::stage::{Contract, Estimate, Machine, Port, Resources, Size, Stage, StageContext, StageError};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// Which bin an expression value falls in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BinRule {
    /// The whole part, clipped to the first and last bin.
    Floor,
    /// The nearest whole number, clipped to the first and last bin.
    Round,
    /// The open interval (i, i+1): whole numbers belong to no bin (as submitted).
    OpenInterval,
}

/// What to do about a bin that no row falls into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EmptyBins {
    /// Stop, naming it.
    Error,
    /// Go on with a warning: a small file may have no row at the ends of the range.
    Allow,
}

/// Draws the same number of rows from each bin of expression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SampleBins {
    /// How many unit bins, from 0 up.
    pub bins: u32,
    pub rule: BinRule,
    /// Rows drawn from each bin, without replacement; has to be given.
    pub per_bin: u64,
    /// What to do about a bin that no row falls into.
    pub empty_bins: EmptyBins,
    pub seed: u64,
}

impl Default for SampleBins {
    fn default() -> Self {
        Self { bins: 18, rule: BinRule::Floor, per_bin: 0, empty_bins: EmptyBins::Error, seed: 42 }
    }
}

impl Stage for SampleBins {
    /// 1: first. 2: rows packed otherwise; an empty bin is an error unless allowed.
    fn version(&self) -> u32 {
        2
    }

    fn needs(&self) -> Resources {
        Resources::ALL_CPUS
    }

    fn contract(&self) -> Contract {
        Contract {
            inputs: vec![Port::required("rows", Format::Rows)],
            outputs: vec![("rows".to_owned(), Format::Rows), ("metrics".to_owned(), Format::Metrics)],
            ..Contract::default()
        }
    }

    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.per_bin == 0 {
            problems.push(("per_bin", "say how many rows to draw from each bin, at least 1".to_owned()));
        }
        if !(1..=1000).contains(&self.bins) {
            problems.push(("bins", format!("{} bins: use 1 to 1000", self.bins)));
        }
        problems
    }

    fn estimate(&self, inputs: &BTreeMap<PortName, Size>, _machine: &Machine) -> Estimate {
        let most = self.per_bin.saturating_mul(u64::from(self.bins));
        let rows = inputs.get("rows").and_then(|size| size.rows).map(|rows| rows.min(most));
        Estimate { rows: rows.map(|rows| ("rows", rows)).into_iter().collect(), ..Estimate::default() }
    }

    fn run(&self, ctx: &mut StageContext<'_>) -> Result<(), StageError> {
        let label = ctx.label("rows");
        let places = Places::read(Reader::open(ctx.input("rows"), &label)?, self)?;
        let before: Vec<usize> = places.bins.iter().map(Vec::len).collect();
        if before.iter().sum::<usize>() == 0 {
            return Err(StageError::Input(format!(
                "{label}: none of the {} rows falls into a bin ({} unlabelled, {} outside the bins)",
                places.rows, places.unlabelled, places.excluded
            )));
        }
        let empty: Vec<String> =
            (1..).zip(&before).filter(|(_, rows)| **rows == 0).map(|(bin, _): (u32, _)| bin.to_string()).collect();
        if !empty.is_empty() {
            let message = format!("{label}: no rows in bin {}", empty.join(", "));
            if self.empty_bins == EmptyBins::Error {
                return Err(StageError::Input(format!(
                    "{message}: give rows with such values, use fewer `bins`, or go on without with `empty_bins: allow`"
                )));
            }
            ctx.warning(&message);
        }
        let (chosen, after) = self.draw(places.bins, places.rows);

        let mut reader = Reader::open(ctx.input("rows"), &label)?;
        let mut writer = Writer::create(&ctx.output("rows", Format::Rows))?;
        let mut place = 0;
        while let Some(batches) = reader.next_batches()? {
            if ctx.is_cancelled() {
                return Err(StageError::Cancelled);
            }
            let drawn: Vec<Rows> = rows::placed(batches, &mut place)
                .into_par_iter()
                .map(|(first, batch)| batch.part(|i, _| chosen[first + i]).0)
                .collect();
            drawn.into_iter().try_for_each(|rows| writer.append(rows))?;
            ctx.progress(place as u64, places.rows as u64, "rows");
        }
        let written = writer.finish()?;
        ctx.sealed("rows", written.digest, written.bytes);

        let short = |bin: usize| (before[bin] as u64) < self.per_bin;
        let bins: Vec<_> = (0..before.len())
            .map(|bin| {
                let (from, to) = self.rule().range(bin);
                json!({
                    "bin": bin + 1, "from": from, "to": to,
                    "before": before[bin], "after": after[bin], "short": short(bin),
                })
            })
            .collect();
        let metrics = json!({
            "rows": written.rows,
            "rows_before": places.rows,
            "per_bin": self.per_bin,
            "excluded": places.excluded,
            "unlabelled": places.unlabelled,
            "short_bins": (0..before.len()).filter(|&bin| short(bin)).map(|bin| bin + 1).collect::<Vec<_>>(),
            "bins": bins,
        });
        let path = ctx.output("metrics", Format::Metrics);
        fs_err::write(path, format!("{metrics:#}\n"))?;
        Ok(())
    }
}

/// Where the rows of each bin stand.
struct Places {
    bins: Vec<Vec<usize>>,
    rows: usize,
    /// Rows with a value that belongs to no bin.
    excluded: u64,
    unlabelled: u64,
}

impl Places {
    fn read(reader: Reader, stage: &SampleBins) -> Result<Self, StageError> {
        let count = stage.bins as usize;
        let mut places = Self { bins: vec![Vec::new(); count], rows: 0, excluded: 0, unlabelled: 0 };
        for batch in Batches::from(reader.without_sequences()) {
            for value in &batch?.expression {
                match value.map(|value| stage.rule().bin(value, count)) {
                    Some(Some(bin)) => places.bins[bin].push(places.rows),
                    Some(None) => places.excluded += 1,
                    None => places.unlabelled += 1,
                }
                places.rows += 1;
            }
        }
        Ok(places)
    }
}

impl SampleBins {
    fn rule(&self) -> Rule {
        match self.rule {
            BinRule::Floor => Rule::Floor,
            BinRule::Round => Rule::Round,
            BinRule::OpenInterval => Rule::OpenInterval,
        }
    }

    /// Draws from each bin: for each row whether it is drawn, and the number drawn from each bin.
    fn draw(&self, bins: Vec<Vec<usize>>, rows: usize) -> (Vec<bool>, Vec<usize>) {
        let mut chosen = vec![false; rows];
        let wanted = usize::try_from(self.per_bin).unwrap_or(usize::MAX);
        let drawn = |(bin, mut places): (usize, Vec<usize>)| {
            // A bin has a stream of its own: rows added to one bin change no other's draw.
            shuffle(&mut Seed(self.seed).rng(&format!("bin {bin}")), &mut places);
            places.truncate(wanted);
            places.iter().for_each(|&place| chosen[place] = true);
            places.len()
        };
        let after = bins.into_iter().enumerate().map(drawn).collect();
        (chosen, after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::bench::Bench;

    fn made_up() -> Rows {
        let mut rows = Rows::default();
        let values = (0..900).map(|i| Some(f64::from(i) / 100.0)).chain([None, Some(17.0), Some(-2.0)]);
        values.enumerate().for_each(|(i, value)| rows.push(i as i64 * 2, b"ACGT", value));
        rows
    }

    fn stage(rule: BinRule, per_bin: u64) -> SampleBins {
        SampleBins { rule, per_bin, empty_bins: EmptyBins::Allow, ..SampleBins::default() }
    }

    #[test]
    fn each_bin_gives_what_is_asked_or_all_it_has() {
        let made = Bench::new().with_rows("rows", &made_up()).run(&stage(BinRule::Floor, 30)).expect("sampled");
        let rows = rows::read(&made.path("rows")).expect("read");
        assert!(rows.pos.is_sorted() && rows.len() == 9 * 30 + 1);
        let metrics = made.json("metrics");
        let bin = |i: usize| ["bin", "before", "after"].map(|k| metrics["bins"][i][k].as_u64().expect("a number"));
        assert_eq!((bin(0), bin(8), bin(17)), ([1, 101, 30], [9, 100, 30], [18, 1, 1]));
        assert_eq!(metrics["short_bins"], json!([10, 11, 12, 13, 14, 15, 16, 17, 18]));
        assert_eq!(
            (&metrics["unlabelled"], &metrics["excluded"], &metrics["rows"]),
            (&json!(1), &json!(0), &json!(271))
        );
    }

    #[test]
    fn open_intervals_leave_whole_numbers_out() {
        let made =
            Bench::new().with_rows("rows", &made_up()).run(&stage(BinRule::OpenInterval, 1000)).expect("sampled");
        let rows = rows::read(&made.path("rows")).expect("read");
        assert!(rows.len() == 891 && rows.expression.iter().all(|v| v.is_some_and(|v| v.fract() != 0.0)));
        assert_eq!(made.json("metrics")["excluded"], json!(11));
    }

    #[test]
    fn draws_follow_the_seed_and_nothing_to_draw_is_refused() {
        let draw = |seed| {
            let made = Bench::new().with_rows("rows", &made_up()).run(&SampleBins { seed, ..stage(BinRule::Round, 9) });
            made.expect("sampled").bytes("rows")
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let mut rows = Rows::default();
        rows.push(0, b"A", None);
        let error = Bench::new().with_rows("rows", &rows).run(&stage(BinRule::Floor, 5)).expect_err("refused");
        assert!(matches!(&error, StageError::Input(m) if m.contains("1 unlabelled")), "{error}");
        assert_eq!(SampleBins::default().problems()[0].0, "per_bin");
    }

    #[test]
    fn an_empty_bin_stops_the_stage_unless_it_is_allowed() {
        let mut rows = Rows::default();
        [0.5, 2.5].into_iter().for_each(|value| rows.push(0, b"A", Some(value)));
        let run = |empty_bins| {
            let stage = SampleBins { bins: 3, per_bin: 1, empty_bins, ..SampleBins::default() };
            Bench::new().with_rows("rows", &rows).run(&stage)
        };
        let error = run(EmptyBins::Error).expect_err("refused");
        assert!(matches!(&error, StageError::Input(m) if m.starts_with("rows: no rows in bin 2: ")), "{error}");
        assert_eq!(run(EmptyBins::Allow).expect("sampled").warnings, ["rows: no rows in bin 2"]);
    }

    #[test]
    fn open_intervals_give_the_sample_sizes_of_the_whole_challenge_file() {
        // Rows with a broken value in each of (0,1) to (16,17) of the challenge's training file, and what samples of k rows
        // from each then hold.
        let rows_in = [
            1877, 3264, 7149, 13925, 26241, 46619, 86554, 173_801, 351_155, 511_184, 542_984, 341_055, 274_112,
            227_625, 168_954, 66980, 17791,
        ];
        let sizes = [(3000, 49877), (15000, 221_215), (25000, 344_006), (50000, 616_866), (1_000_000, 2_861_270)];
        let mut rows = Rows::default();
        for (interval, count) in rows_in.iter().enumerate() {
            (0..*count).for_each(|i| rows.push(i, b"A", Some(interval as f64 + 0.5)));
            (0..100).for_each(|i| rows.push(i, b"A", Some(interval as f64)));
        }
        let bench = || Bench::new().with_rows("rows", &rows);
        for (per_bin, size) in sizes {
            let made = bench().run(&SampleBins { bins: 17, ..stage(BinRule::OpenInterval, per_bin) }).expect("sampled");
            assert_eq!(made.json("metrics")["rows"], json!(size), "k = {per_bin}");
        }
    }
}
