//! A training that was stopped goes on to the very bytes that it would have had; a longer one goes on from a shorter one.

use super::checkpoint::{Checkpoints, Saved, file};
use super::{
    Engine, FitError, Fitted, Fused, Kept, LabelScale, Learner, Loss, OnProcessor, Options, Rows, Schedule, Shape,
    Training, Watch,
};
use crate::collective::Single;
use crate::data::tokens::Tokens;
use crate::digest::Digest;
use crate::model::{Bert, BertConfig, ModelError, with_threads};
use crate::seed::{Seed, normal};
use crate::training::Epoch;
use std::path::Path;

/// Stops after a number of steps, and keeps the states at which shorter trainings end.
#[derive(Default)]
struct Stopping<'a> {
    after: Option<u64>,
    made: u64,
    resumed_at: Option<u64>,
    states: Option<(&'a Path, Digest)>,
    shorter: Vec<Fitted>,
}

impl Watch for Stopping<'_> {
    fn resumed(&mut self, step: u64, _of: u64) {
        self.resumed_at = Some(step);
    }
    fn step(&mut self, step: u64, _of: u64, _loss: f64, _norm: f64, _rate: f64) {
        self.made += 1;
        assert_eq!(step, self.resumed_at.unwrap_or(0) + self.made, "steps count over the whole training");
    }
    fn speed(&mut self, _step: u64, _samples_per_second: f64) {}
    fn epoch(&mut self, _epoch: &Epoch) {}
    fn reached(&mut self, training: &Training<'_>) -> Result<(), FitError> {
        self.shorter.push(training.fitted()?);
        if let Some((folder, identity)) = self.states {
            training.save(&folder.join(format!("epoch-{}", training.epochs())), identity)?;
        }
        Ok(())
    }
    fn is_cancelled(&self) -> bool {
        self.after.is_some_and(|after| self.made >= after)
    }
}

struct Bench {
    engine: Fused,
    start: Vec<f32>,
    tokens: Tokens,
    targets: Vec<f64>,
}

impl Bench {
    fn new() -> Self {
        let mut config = BertConfig::new(10, 2, 16, 2, 32);
        config.max_position_embeddings = 32;
        let bert = Bert::new(config);
        let start = bert.layout.init(&bert.config, Seed(5));
        let (mut tokens, mut rng) = (Tokens::new(10), Seed(1).rng("test"));
        for row in 0..50_usize {
            tokens.push(&(0..5 + row % 20).map(|i| (5 + (i * row) % 4) as u8).collect::<Vec<_>>());
        }
        let targets = (0..50).map(|_| normal(&mut rng)).collect();
        Self { engine: Fused::new(bert), start, tokens, targets }
    }

    fn rows(&self) -> Rows<'_> {
        Rows { tokens: &self.tokens, targets: &self.targets }
    }

    fn run(
        &self,
        options: &Options,
        saved: Option<Saved>,
        checkpoints: Option<&mut Checkpoints>,
        watch: &mut Stopping<'_>,
        threads: usize,
    ) -> Result<Fitted, FitError> {
        with_threads(threads, || {
            let learner = |start| -> Result<Box<dyn Learner>, ModelError> {
                Ok(Box::new(OnProcessor::new(&self.engine, start, options.weight_decay, options.clip_norm)?))
            };
            let (layout, rows) = (&self.engine.bert().layout, self.rows());
            let mut training = Training::new(layout, self.start.clone(), rows, Some(rows), options, &Single, learner)?;
            if let Some(saved) = saved {
                training.restore(saved)?;
            }
            training.run(checkpoints, watch)
        })
        .expect("threads start")
    }

    fn whole(&self, options: &Options) -> Fitted {
        self.run(options, None, None, &mut Stopping::default(), 1).expect("trains")
    }
}

/// 50 rows in batches of 8: seven steps each epoch.
fn options(epochs: u32, shape: Shape) -> Options {
    Options {
        epochs,
        batch_size: 8,
        schedule: Schedule { peak: 1e-3, shape, warmup: 3, steps: 7 * u64::from(epochs) },
        loss: Loss::Mse,
        labels: LabelScale::standard(&[-1.0, 2.0]),
        weight_decay: 0.01,
        clip_norm: 1.0,
        kept: Kept::Best,
        shuffle: true,
        seed: Seed(42),
    }
}

fn assert_same(a: &Fitted, b: &Fitted) {
    let bits = |fitted: &Fitted| fitted.parameters.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert!(bits(a) == bits(b), "the parameters differ");
    assert_eq!((&a.curves, a.spread.to_bits()), (&b.curves, b.spread.to_bits()));
}

#[test]
fn a_training_stopped_after_any_step_ends_with_the_same_bits() {
    let bench = Bench::new();
    for shape in [Shape::Linear, Shape::Constant] {
        let options = options(3, shape);
        let whole = bench.whole(&options);
        let identity = options.identity(&bench.start, 50, 1);
        for after in 1..21 {
            let dir = tempfile::tempdir().expect("a temporary folder");
            let mut checkpoints = Checkpoints::open(dir.path(), identity).expect("opens");
            let mut watch = Stopping { after: Some(after), ..Stopping::default() };
            let stopped = bench.run(&options, None, Some(&mut checkpoints), &mut watch, 1);
            assert!(matches!(stopped, Err(FitError::Cancelled { step, of: 21 }) if step == after));
            drop(checkpoints);
            let mut checkpoints = Checkpoints::open(dir.path(), identity).expect("opens");
            let saved = checkpoints.read(&mut |text| panic!("{text}")).expect("reads");
            let mut watch = Stopping::default();
            // On other numbers of threads, too.
            let resumed = bench.run(&options, saved, Some(&mut checkpoints), &mut watch, 1 + after as usize % 3);
            assert_same(&resumed.expect("trains"), &whole);
            assert_eq!((watch.resumed_at, watch.made), (Some(after), 21 - after));
        }
    }
}

#[test]
fn a_longer_training_goes_on_from_a_shorter_one_and_makes_it_on_its_way() {
    let bench = Bench::new();
    for kept in [Kept::Last, Kept::Best] {
        let with = |epochs| Options { kept, ..options(epochs, Shape::Constant) };
        let (three, five) = (with(3), with(5));
        let identity = three.identity(&bench.start, 50, 1);
        assert_eq!(identity, five.identity(&bench.start, 50, 1));
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut watch = Stopping { states: Some((dir.path(), identity)), ..Stopping::default() };
        let short = bench.run(&three, None, None, &mut watch, 1).expect("trains");
        let saved = file::read(&dir.path().join("epoch-3"), identity).expect("whole");
        let mut watch = Stopping::default();
        let continued = bench.run(&five, Some(saved), None, &mut watch, 2).expect("trains");
        assert_eq!((watch.resumed_at, watch.made), (Some(21), 14));
        let mut watch = Stopping::default();
        let whole = bench.run(&five, None, None, &mut watch, 1).expect("trains");
        assert_same(&continued, &whole);
        assert_same(&watch.shorter[2], &short);
    }
}

#[test]
fn a_linear_schedule_tells_trainings_of_different_lengths_apart() {
    let bench = Bench::new();
    let identity = |epochs| options(epochs, Shape::Linear).identity(&bench.start, 50, 1);
    assert_ne!(identity(3), identity(5));
}

#[test]
fn a_loss_that_is_no_number_keeps_the_state_from_before_it() {
    let mut bench = Bench::new();
    let options = Options { shuffle: false, ..options(2, Shape::Linear) };
    let good = bench.targets[30];
    bench.targets[30] = 1e30;
    let identity = options.identity(&bench.start, 50, 1);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut checkpoints = Checkpoints::open(dir.path(), identity).expect("opens");
    let stopped = bench.run(&options, None, Some(&mut checkpoints), &mut Stopping::default(), 1);
    assert!(matches!(stopped, Err(FitError::NotFinite { what: "loss", step: 4, .. })));
    assert!(checkpoints.holds(3));
    let saved = checkpoints.read(&mut |text| panic!("{text}")).expect("reads");
    bench.targets[30] = good;
    let whole = bench.whole(&options);
    assert_same(&bench.run(&options, saved, None, &mut Stopping::default(), 1).expect("trains"), &whole);
}
