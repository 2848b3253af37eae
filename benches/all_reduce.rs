//! The sum of a gradient over the ranks that `mpirun` started: `make bench-mpi`.

use cistage::collective::{Adder, meet};
use cistage::device::Device;
use std::path::Path;
use std::time::Instant;

/// Parameters of the models of `benches/train.rs`.
const SIZES: [(&str, usize, usize); 3] =
    [("2 layers x 128", 430_000, 100), ("4 layers x 256", 3_260_000, 30), ("12 layers x 768", 85_750_000, 3)];

fn main() {
    let (together, _) = meet(Device::Cpu, Path::new(".")).expect("started by mpirun");
    for (name, length, rounds) in SIZES {
        let (mut adder, mut values) = (Adder::default(), vec![1.0_f32; length]);
        let mut once = || {
            // All begin at once: what is timed is the sum.
            together.any(false);
            let began = Instant::now();
            adder.sum(&*together, &mut values);
            began.elapsed().as_secs_f64()
        };
        once();
        let mut spent: Vec<f64> = (0..rounds).map(|_| once()).collect();
        spent.sort_by(f64::total_cmp);
        if together.rank() == 0 {
            let (median, best) = (spent[rounds / 2], spent[0]);
            let rate = 4e-9 * length as f64 / best;
            let world = together.world();
            println!("{name}, {world} ranks: {:.2} ms (best {:.2} ms, {rate:.1} GB/s)", 1e3 * median, 1e3 * best);
        }
    }
}
