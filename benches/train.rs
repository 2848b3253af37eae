//! Whole training steps and predictions on packed rows: `cargo bench --bench train -- [tiny|small|base] [threads] [f32|bf16]`.

use candle_core::{Device, Tensor, Var};
use cistage::model::bert::StepKey;
use cistage::model::op::{BertOp, Gradient, with_values};
use cistage::model::{Batch, Bert, BertConfig, Precision, speed, with_threads};
use cistage::seed::Seed;
use cistage::training::{AdamW, Loss, optimizer};
use std::sync::Arc;
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
    println!("product: {:.0} GFLOP/s on {threads} threads", speed::measure(threads) / 1e9);
    with_threads(threads, || {
        let bert = Arc::new(Bert::new(config).with_precision(precision));
        let parameters = Var::from_vec(bert.layout.init(&bert.config, Seed(1)), bert.layout.len(), &Device::Cpu)
            .expect("memory suffices");
        let mut adam = AdamW::new(bert.layout.len(), 0.0, 1.0);
        let gradient = Gradient::default();
        let rows: Vec<Vec<u8>> =
            (0..ROWS).map(|r| (0..TOKENS).map(|i| 5 + ((i * 7 + r) % 4) as u8).collect()).collect();
        let targets = Tensor::new(vec![1.0_f32; ROWS], &Device::Cpu).expect("small");
        let mut spent = Vec::new();
        for step in 1..=steps + 1 {
            let began = Instant::now();
            let batch = Batch::new(rows.iter().map(|row| &row[..]));
            let op = BertOp::new(bert.clone(), batch, StepKey { seed: 1, step }, gradient.clone());
            let outputs = parameters.apply_op1(op).expect("runs");
            Loss::Mse.of(&outputs, &targets).expect("runs").backward().expect("runs");
            let gradient = gradient.lock().expect("no pass panicked");
            let norm = optimizer::gradient_norm(&bert.layout, &gradient);
            adam.step(&bert.layout, &parameters, &gradient, norm, 1e-5).expect("runs");
            spent.push(began.elapsed().as_secs_f64());
        }
        report(&format!("{size} training"), spent, 3.0 * flops);
        let batch = Batch::new(rows.iter().map(|row| &row[..]));
        let predict = |p: &[f32]| {
            let spent = (0..=steps).map(|_| {
                let began = Instant::now();
                std::hint::black_box(bert.predict(p, &batch));
                began.elapsed().as_secs_f64()
            });
            spent.collect()
        };
        let spent = with_values(&parameters, predict).expect("flat");
        report(&format!("{size} inference"), spent, flops);
    })
    .expect("threads start");
}

fn report(what: &str, mut spent: Vec<f64>, flops: f64) {
    // The first step warms up.
    spent.remove(0);
    spent.sort_by(f64::total_cmp);
    let (median, best) = (ROWS as f64 / spent[spent.len() / 2], ROWS as f64 / spent[0]);
    println!("{what}: {median:.1} samples/s (best {best:.1}), {:.0} GFLOP/s", median * flops / 1e9);
}
