//! Whole training steps and predictions on packed rows: `cargo bench --bench train -- [tiny|small|base] [threads] [f32|bf16]
//! [cpu|cuda[:N]]`.

use cistage::collective::Single;
use cistage::device::Device;
use cistage::model::bert::StepKey;
use cistage::model::device::Gpu;
use cistage::model::{Batch, Bert, BertConfig, Precision, speed, with_threads};
use cistage::seed::Seed;
use cistage::training::{Fused, Learner, Loss, OnGpu, OnProcessor, Part};
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: usize = 36;
const TOKENS: usize = 110;

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with('-'));
    let size = words.next().unwrap_or_else(|| "tiny".to_owned());
    let threads = words.next().and_then(|word| word.parse().ok()).unwrap_or(2);
    let precision = if words.next().is_some_and(|word| word == "bf16") { Precision::Bf16 } else { Precision::F32 };
    let (config, steps) = match size.as_str() {
        "base" => (BertConfig::new(10, 12, 768, 12, 3072), 3),
        "small" => (BertConfig::new(10, 4, 256, 4, 1024), 15),
        _ => (BertConfig::new(10, 2, 128, 4, 512), 100),
    };
    let flops = config.forward_flops(TOKENS as f64);
    let bert = Bert::new(config).with_precision(precision);
    let device = words.next().map_or(Device::Cpu, |word| word.parse().expect("cpu or cuda[:N]"));
    let [training, inference] = match device {
        Device::Cpu => {
            println!("product: {:.0} GFLOP/s on {threads} threads", speed::measure(device, threads) / 1e9);
            with_threads(threads, || on_processor(&bert, steps)).expect("threads start")
        }
        // A GPU is done in no time.
        Device::Cuda(_) => on_gpu(&bert, 20 * steps, device),
    };
    report(&format!("{size} training"), training, 3.0 * flops);
    report(&format!("{size} inference"), inference, flops);
}

fn batch() -> Batch {
    let rows: Vec<Vec<u8>> = (0..ROWS).map(|r| (0..TOKENS).map(|i| 5 + ((i * 7 + r) % 4) as u8).collect()).collect();
    Batch::new(rows.iter().map(|row| &row[..]))
}

/// Seconds of each step, and of each prediction.
fn on_processor(bert: &Bert, steps: u64) -> [Vec<f64>; 2] {
    let engine = Fused::new(bert.clone());
    let start = bert.layout.init(&bert.config, Seed(1));
    let mut learner = OnProcessor::new(&engine, start.clone(), 0.0, 1.0).expect("memory suffices");
    let training = train(&mut learner, steps);
    let parameters = learner.parameters().expect("there");
    let batch = batch();
    [training, timed(steps, || drop(std::hint::black_box(bert.predict(&parameters, &batch))))]
}

fn on_gpu(bert: &Bert, steps: u64, device: Device) -> [Vec<f64>; 2] {
    let start = bert.layout.init(&bert.config, Seed(1));
    let mut learner = OnGpu::new(bert.clone(), &start, 0.0, 1.0, device).expect("a GPU");
    let training = train(&mut learner, steps);
    drop(learner);
    let (mut gpu, batch) = (Gpu::new(bert, &start, device).expect("a GPU"), batch());
    [training, timed(steps, || drop(gpu.predict(&batch).expect("runs")))]
}

fn train(learner: &mut dyn Learner, steps: u64) -> Vec<f64> {
    let mut step = 0;
    timed(steps, || {
        step += 1;
        let slope = learner
            .look(Part::whole(batch(), vec![1.0; ROWS]), Loss::Mse, StepKey { seed: 1, step, first_row: 0 }, &Single)
            .expect("runs");
        learner.update(slope.norm, 1e-5).expect("runs");
    })
}

/// Seconds of each call but the first, which warms up.
fn timed(steps: u64, mut work: impl FnMut()) -> Vec<f64> {
    work();
    let mut once = || {
        let began = Instant::now();
        work();
        began.elapsed().as_secs_f64()
    };
    (0..steps).map(|_| once()).collect()
}

fn report(what: &str, mut spent: Vec<f64>, flops: f64) {
    spent.sort_by(f64::total_cmp);
    let (median, best) = (ROWS as f64 / spent[spent.len() / 2], ROWS as f64 / spent[0]);
    println!("{what}: {median:.1} samples/s (best {best:.1}), {:.0} GFLOP/s", median * flops / 1e9);
}
