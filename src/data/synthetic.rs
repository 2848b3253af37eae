//! Made-up promoters: the challenge's form, with expression that a sequence model can learn.
//!
//! The recipe, in full. A sequence is 17 fixed bases, a region of its own (80 bases; 3 % of rows have 48 to 112), 13 fixed bases.
//! Each row draws a share of G and C from 0.25 to 0.75, then its bases, each for itself, then plants up to three motifs
//! at random places on random strands; 1 % of rows get one to five N. The expression is a function of the finished sequence
//! plus noise:
//!
//! - composition: each percent of G and C lowers it, which by itself correlates with expression at about 0.65;
//! - motifs: four raise it and two lower it; the nearer to the end of the region, the more, and half as much
//!   when read backwards;
//! - noise: normal, s.d. 1.2.
//!
//! It is clipped to 0..17, and 58 % of the values are rounded to whole numbers, as the challenge's are. The mean is about 11, the s.d.
//! about 2.3. Composition is stronger here than in yeast: a small BERT picks it up first, and a demonstration has minutes.
//! The motifs are the cores of yeast factors' sites, their effects are invented.

use crate::seed::{Seed, below, normal, unit};
use rand_chacha::rand_core::RngCore;
use std::sync::LazyLock;

/// What stands before and after the region in every promoter of the challenge.
pub const BEFORE: &[u8] = b"TGCATTTTTTTCACATC";
pub const AFTER: &[u8] = b"GGTTACGGCTGTT";
const REGION: usize = 80;
const ODD_REGION: std::ops::RangeInclusive<usize> = 48..=112;

/// A planted motif and what one copy at the end of the region does.
struct Motif {
    site: &'static [u8],
    effect: f64,
}

static MOTIFS: [Motif; 6] = [
    Motif { site: b"TTACCCG", effect: 1.5 },   // Reb1
    Motif { site: b"ACACCCA", effect: 2.4 },   // Rap1
    Motif { site: b"TGACTCA", effect: 1.8 },   // Gcn4
    Motif { site: b"TATAAAA", effect: 1.2 },   // TATA box
    Motif { site: b"TAGCCGCC", effect: -2.1 }, // Ume6
    Motif { site: b"CCCCGCA", effect: -1.5 },  // Mig1
];

/// Expression of a motif-free region that is half G and C.
const BASE: f64 = 10.5;
/// Change of expression from a region without G and C to one of nothing else.
const COMPOSITION: f64 = -9.9;
const NOISE: f64 = 1.2;
const WHOLE_NUMBERS: f64 = 0.58;

/// Makes row `index` of the set that belongs to a seed; each row has a stream of its own.
pub fn row(seed: Seed, index: u64) -> (Vec<u8>, f64) {
    let mut rng = seed.rng(&format!("row {index}"));
    let region = region(&mut rng);
    let value = (mean_expression(&region) + NOISE * normal(&mut rng)).clamp(0.0, 17.0);
    let expression = if unit(&mut rng) < WHOLE_NUMBERS { value.round() } else { value };
    ([BEFORE, &region, AFTER].concat(), expression)
}

fn region(rng: &mut impl RngCore) -> Vec<u8> {
    let odd = unit(rng) < 0.03;
    let spread = (ODD_REGION.end() - ODD_REGION.start() + 1) as u64;
    let length = if odd { ODD_REGION.start() + below(rng, spread) as usize } else { REGION };
    let strong = 0.25 + 0.5 * unit(rng);
    let mut bases: Vec<u8> = (0..length)
        .map(|_| {
            let pair = if unit(rng) < strong { b"CG" } else { b"AT" };
            pair[below(rng, 2) as usize]
        })
        .collect();
    for _ in 0..below(rng, 4) {
        let motif = MOTIFS[below(rng, MOTIFS.len() as u64) as usize].site;
        let at = below(rng, (length - motif.len() + 1) as u64) as usize;
        let site = if below(rng, 2) == 0 { motif.to_vec() } else { reverse_complement(motif) };
        bases[at..at + site.len()].copy_from_slice(&site);
    }
    if unit(rng) < 0.01 {
        for _ in 0..=below(rng, 5) {
            bases[below(rng, length as u64) as usize] = b'N';
        }
    }
    bases
}

/// The expression of a region before noise, clipping and rounding.
fn mean_expression(region: &[u8]) -> f64 {
    let strong = region.iter().filter(|b| matches!(b, b'C' | b'G')).count() as f64 / region.len() as f64;
    let mut sums = [0.0; MOTIFS.len()];
    for at in 0..region.len() {
        let word = word(&region[at..]);
        for (site, sum) in SITES.iter().zip(&mut sums) {
            let found = word & site.mask;
            let strand = if found == site.forwards {
                1.0
            } else if found == site.backwards {
                0.5
            } else {
                continue;
            };
            let along = at as f64 / (region.len() - site.length) as f64;
            *sum += site.effect * strand * (0.5 + 0.5 * along);
        }
    }
    BASE + COMPOSITION * (strong - 0.5) + sums.iter().sum::<f64>()
}

static SITES: LazyLock<[Site; MOTIFS.len()]> = LazyLock::new(|| MOTIFS.each_ref().map(Site::of));

/// A motif as the words that it is looked for by: comparing letter by letter took most of the time.
struct Site {
    forwards: u64,
    backwards: u64,
    mask: u64,
    length: usize,
    effect: f64,
}

impl Site {
    fn of(motif: &Motif) -> Self {
        let length = motif.site.len();
        let mask = u64::MAX >> (64 - 8 * length);
        let backwards = word(&reverse_complement(motif.site));
        Self { forwards: word(motif.site), backwards, mask, length, effect: motif.effect }
    }
}

/// The first eight letters as one number; zeros where there are fewer, which no letter is.
fn word(letters: &[u8]) -> u64 {
    match letters.first_chunk() {
        Some(eight) => u64::from_le_bytes(*eight),
        None => letters.iter().rev().fold(0, |word, letter| word << 8 | u64::from(*letter)),
    }
}

/// The other strand; letters that are no base stay as they are.
pub fn reverse_complement(site: &[u8]) -> Vec<u8> {
    let complement = |b: &u8| match b {
        b'A' => b'T',
        b'C' => b'G',
        b'G' => b'C',
        b'T' => b'A',
        other => *other,
    };
    site.iter().rev().map(complement).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::metrics::{mean, pearson, sd};

    #[test]
    fn rows_have_the_form_of_the_challenges() {
        let rows: Vec<_> = (0..20_000).map(|i| row(Seed(42), i)).collect();
        let y: Vec<f64> = rows.iter().map(|r| r.1).collect();
        type Made = (Vec<u8>, f64);
        let share = |f: &dyn Fn(&Made) -> bool| rows.iter().filter(|r| f(r)).count() as f64 / rows.len() as f64;
        assert!(
            rows.iter().all(|r| r.0.starts_with(BEFORE) && r.0.ends_with(AFTER) && (78..=142).contains(&r.0.len()))
        );
        let (whole, odd, unknown) =
            (share(&|r| r.1.fract() == 0.0), share(&|r| r.0.len() != 110), share(&|r| r.0.contains(&b'N')));
        assert!((0.56..0.61).contains(&whole) && (0.02..0.04).contains(&odd) && (0.005..0.02).contains(&unknown));
        let (mean, sd) = (mean(&y).expect("rows"), sd(&y).expect("rows"));
        assert!((mean - 11.0).abs() < 0.3 && (sd - 2.3).abs() < 0.2, "{mean} {sd}");
        let strong = |r: &(Vec<u8>, f64)| {
            let region = &r.0[BEFORE.len()..r.0.len() - AFTER.len()];
            region.iter().filter(|b| matches!(b, b'C' | b'G')).count() as f64 / region.len() as f64
        };
        let composition: Vec<f64> = rows.iter().map(strong).collect();
        let truth: Vec<f64> =
            rows.iter().map(|r| mean_expression(&r.0[BEFORE.len()..r.0.len() - AFTER.len()])).collect();
        let (r, ceiling) = (-pearson(&composition, &y).expect("varies"), pearson(&truth, &y).expect("varies"));
        eprintln!("mean {mean:.3} sd {sd:.3} composition {r:.3} ceiling {ceiling:.3}");
        assert!((0.58..0.72).contains(&r) && (0.78..0.88).contains(&ceiling), "{r} {ceiling}");
    }

    #[test]
    fn motifs_count_by_place_and_strand() {
        let with = |site: &[u8], at: usize| {
            let mut region = b"AC".repeat(40);
            region[at..at + site.len()].copy_from_slice(site);
            region
        };
        let plain = |site: &[u8], at: usize| {
            let region = with(site, at);
            let strong = region.iter().filter(|b| matches!(b, b'C' | b'G')).count() as f64 / 80.0;
            mean_expression(&region) - BASE - COMPOSITION * (strong - 0.5)
        };
        let gcn4: &[u8] = b"TGACTCA";
        assert!((plain(gcn4, 73) - 1.8).abs() < 1e-9 && (plain(gcn4, 0) - 0.9).abs() < 1e-9);
        assert!((plain(&reverse_complement(gcn4), 73) - 0.9).abs() < 1e-9);
    }
}
