//! Encoding against the `tokenizers` crate, and evaluation with its bootstrap:
//! `cargo bench --bench data -- ROWS.parquet TOKENIZER.json [threads]`.
//!
//! Every row's ids are compared; a difference ends the program.

use cistage::data::encode::Encoder;
use cistage::data::metrics;
use cistage::data::rows::Reader;
use cistage::data::tokenizer;
use cistage::model::with_threads;
use cistage::seed::{Seed, normal};
use rayon::prelude::*;
use std::path::Path;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MAX_LENGTH: usize = 128;
/// Rows of the official test file.
const TEST_ROWS: usize = 71_103;

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let (Some(rows), Some(json)) = (words.next(), words.next()) else {
        println!("usage: cargo bench --bench data -- ROWS.parquet TOKENIZER.json [threads]");
        return;
    };
    let threads = words.next().and_then(|word| word.parse().ok()).unwrap_or(2);
    with_threads(threads, || {
        tokenise(Path::new(&rows), Path::new(&json));
        evaluate();
    })
    .expect("threads start");
}

fn tokenise(rows: &Path, json: &Path) {
    let text = fs_err::read_to_string(json).expect("a tokenizer file");
    let encoder = Encoder::new(&text, "tokenizer", MAX_LENGTH, false).expect("a tokenizer of bases");
    let mut theirs = tokenizer::parse(&text, "tokenizer").expect("a tokenizer");
    theirs.with_padding(None);
    let mut reader = Reader::open(rows, "rows").expect("rows");
    let (mut ours_took, mut theirs_took, mut count) = (Duration::ZERO, Duration::ZERO, 0_usize);
    while let Some(batches) = reader.next_batches().expect("readable rows") {
        let began = Instant::now();
        let tokens: Vec<_> = batches.par_iter().map(|batch| encoder.encode_all(batch.sequences.iter())).collect();
        ours_took += began.elapsed();
        for (batch, tokens) in batches.iter().zip(&tokens) {
            // What the crate takes as input is made before its clock runs.
            let sentences: Vec<String> = batch
                .sequences
                .iter()
                .map(|s| s.iter().flat_map(|base| [char::from(*base), ' ']).collect::<String>().trim_end().to_owned())
                .collect();
            let began = Instant::now();
            let encoded = theirs.encode_batch(sentences, false).expect("encoded");
            theirs_took += began.elapsed();
            let mut ids = Vec::new();
            for (row, encoding) in encoded.iter().enumerate() {
                ids.clear();
                tokens.extend(row, &mut ids);
                let equal = ids.iter().map(|id| u32::from(*id)).eq(encoding.get_ids().iter().copied());
                assert!(equal, "row {}: {ids:?} is not {:?}", count + row, encoding.get_ids());
            }
            count += batch.len();
        }
    }
    let (ours, theirs) = (ours_took.as_secs_f64(), theirs_took.as_secs_f64());
    println!("tokens: {count} rows, equal ids; {ours:.2} s, encode_batch {theirs:.2} s, ratio {:.0}", theirs / ours);
}

fn evaluate() {
    let mut rng = Seed(1).rng("bench");
    let measured: Vec<f64> = (0..TEST_ROWS).map(|_| (normal(&mut rng) * 4.0).round() / 2.0 + 11.0).collect();
    let predicted: Vec<f64> = measured.iter().map(|y| 0.5 * y + normal(&mut rng)).collect();
    for resamples in [0, 1000] {
        let began = Instant::now();
        let found = metrics::evaluate(&measured, &predicted, resamples, Seed(42));
        let took = began.elapsed().as_secs_f64();
        println!("evaluate: {TEST_ROWS} rows, {resamples} resamples, {took:.3} s (spearman {:?})", found.spearman);
    }
}
