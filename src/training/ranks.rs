//! Trainings on several ranks against one alone: the same curves but for rounding, the same bytes each time.

use super::checkpoint::{Checkpoints, Saved};
use super::{
    Engine, FitError, Fitted, Fused, Kept, LabelScale, Learner, Loss, OnProcessor, Options, Rows, Schedule, Shape,
    Training, Watch,
};
use crate::collective::{Collective, Single, threads::with_ranks};
use crate::data::tokens::Tokens;
use crate::model::{Bert, BertConfig, ModelError, with_threads};
use crate::seed::{Seed, normal};
use crate::training::Epoch;
use std::path::Path;

/// Keeps the curve; one rank may be told to stop.
#[derive(Default)]
struct Curve {
    losses: Vec<f64>,
    norms: Vec<f64>,
    stop_after: Option<usize>,
    resumed_at: Option<u64>,
}

impl Watch for Curve {
    fn resumed(&mut self, step: u64, _of: u64) {
        self.resumed_at = Some(step);
    }
    fn step(&mut self, _step: u64, _of: u64, loss: f64, norm: f64, _rate: f64) {
        self.losses.push(loss);
        self.norms.push(norm);
    }
    fn speed(&mut self, _step: u64, _samples_per_second: f64) {}
    fn epoch(&mut self, _epoch: &Epoch) {}
    fn is_cancelled(&self) -> bool {
        self.stop_after.is_some_and(|after| self.losses.len() >= after)
    }
}

struct Bench {
    engine: Fused,
    start: Vec<f32>,
    tokens: Tokens,
    targets: Vec<f64>,
}

/// 50 rows in batches of 8: seven steps each epoch, the last one of two rows.
const ROWS: usize = 50;

impl Bench {
    fn new(dropout: f64) -> Self {
        let mut config = BertConfig::new(10, 2, 16, 2, 32);
        config.max_position_embeddings = 32;
        (config.hidden_dropout_prob, config.attention_probs_dropout_prob) = (dropout, dropout);
        let bert = Bert::new(config);
        let start = bert.layout.init(&bert.config, Seed(5));
        let (mut tokens, mut rng) = (Tokens::new(10), Seed(1).rng("test"));
        for row in 0..ROWS {
            tokens.push(&(0..5 + row % 20).map(|i| (5 + (i * row) % 4) as u8).collect::<Vec<_>>());
        }
        let targets = (0..ROWS).map(|_| normal(&mut rng)).collect();
        Self { engine: Fused::new(bert), start, tokens, targets }
    }

    /// One rank's training, from the newest checkpoint of `folder` where there is one.
    fn rank(
        &self,
        together: &dyn Collective,
        folder: Option<&Path>,
        stop_after: Option<usize>,
        threads: usize,
    ) -> (Result<Fitted, FitError>, Curve) {
        let (options, mut curve) = (options(), Curve { stop_after, ..Curve::default() });
        let identity = options.identity(&self.start, ROWS, together.world());
        let mut checkpoints =
            folder.filter(|_| together.rank() == 0).map(|folder| Checkpoints::open(folder, identity).expect("opens"));
        let saved = checkpoints.as_mut().and_then(|all| all.read(&mut |text| panic!("{text}")).expect("can be read"));
        let saved = Saved::of_first(saved, together);
        let ended = with_threads(threads, || {
            let learner = |start| -> Result<Box<dyn Learner>, ModelError> {
                Ok(Box::new(OnProcessor::new(&self.engine, start, options.weight_decay, options.clip_norm)?))
            };
            let rows = Rows { tokens: &self.tokens, targets: &self.targets };
            let layout = &self.engine.bert().layout;
            let mut training =
                Training::new(layout, self.start.clone(), rows, Some(rows), &options, together, learner)?;
            if let Some(saved) = saved {
                training.restore(saved)?;
            }
            training.run(checkpoints.as_mut(), &mut curve)
        });
        (ended.expect("threads start"), curve)
    }

    /// The same on all ranks; what each of them has.
    fn ranks(&self, world: usize) -> Vec<(Fitted, Curve)> {
        let threads = |rank| 1 + rank % 2;
        let all = with_ranks(world, |together| self.rank(together, None, None, threads(together.rank())));
        all.into_iter().map(|(fitted, curve)| (fitted.expect("trains"), curve)).collect()
    }
}

fn options() -> Options {
    Options {
        epochs: 3,
        batch_size: 8,
        schedule: Schedule { peak: 1e-3, shape: Shape::Linear, warmup: 3, steps: 21 },
        loss: Loss::Huber { delta: 1.0 },
        labels: LabelScale::standard(&[-1.0, 2.0]),
        weight_decay: 0.01,
        clip_norm: 1.0,
        kept: Kept::Best,
        shuffle: true,
        seed: Seed(42),
    }
}

fn bits(fitted: &Fitted) -> Vec<u32> {
    fitted.parameters.iter().map(|x| x.to_bits()).collect()
}

fn assert_same(a: &Fitted, b: &Fitted) {
    assert!(bits(a) == bits(b), "the parameters differ");
    assert_eq!((&a.curves, a.spread.to_bits()), (&b.curves, b.spread.to_bits()));
}

/// The largest difference, as a share of the larger number.
fn farthest(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs() / a.abs().max(b.abs())).fold(0.0, f64::max)
}

#[test]
fn ranks_make_the_curve_of_one_process_but_for_rounding() {
    for dropout in [0.0, 0.3] {
        let bench = Bench::new(dropout);
        let (alone, curve) = bench.rank(&Single, None, None, 2);
        let alone = alone.expect("trains");
        for world in [2, 3, 4, 5] {
            let ranks = bench.ranks(world);
            let (first, theirs) = &ranks[0];
            // Masks of other rows, or a mean over other rows, would be off by a hundredth and more.
            let off = [farthest(&theirs.losses, &curve.losses), farthest(&theirs.norms, &curve.norms)];
            assert!(off.iter().all(|off| *off < 2e-5), "{world} ranks, dropout {dropout}: {off:?}");
            let agreement = |fitted: &Fitted| fitted.curves.epochs[2].validation.expect("rows").mse;
            assert!((agreement(first) / agreement(&alone) - 1.0).abs() < 1e-4);
            for (other, same) in &ranks[1..] {
                assert_same(other, first);
                assert_eq!(same.losses, theirs.losses);
            }
            assert_same(&bench.ranks(world)[0].0, first);
        }
    }
}

#[test]
fn all_ranks_stop_at_the_step_at_which_one_is_told_to_and_go_on_to_the_same_bits() {
    let bench = Bench::new(0.1);
    for (world, told, after) in [(2, 0, 5), (2, 1, 13), (3, 2, 20), (4, 3, 7)] {
        let undisturbed = bench.ranks(world).swap_remove(0).0;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let stopped = with_ranks(world, |together| {
            let stop = (together.rank() == told).then_some(after);
            bench.rank(together, Some(dir.path()), stop, 1).0
        });
        for ended in stopped {
            assert!(matches!(ended, Err(FitError::Cancelled { step, of: 21 }) if step == after as u64));
        }
        let resumed = with_ranks(world, |together| bench.rank(together, Some(dir.path()), None, 2));
        for (fitted, curve) in resumed {
            assert_eq!((curve.resumed_at, curve.losses.len()), (Some(after as u64), 21 - after));
            assert_same(&fitted.expect("trains"), &undisturbed);
        }
    }
}

#[test]
fn a_loss_that_is_no_number_on_one_rank_ends_all_at_that_step() {
    let mut bench = Bench::new(0.0);
    bench.targets[30] = 1e39; // infinite in f32
    let ended = with_ranks(3, |together| bench.rank(together, None, None, 1).0);
    let step = |ended: &Result<Fitted, FitError>| match ended {
        Err(FitError::NotFinite { step, .. }) => *step,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("trained"),
    };
    assert!(ended.iter().all(|end| step(end) == step(&ended[0])));
}

#[test]
fn the_number_of_ranks_tells_trainings_apart() {
    let bench = Bench::new(0.0);
    let identity = |ranks| options().identity(&bench.start, ROWS, ranks);
    assert_ne!(identity(1), identity(2));
    assert_ne!(identity(2), identity(4));
}
