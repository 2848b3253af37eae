//! What two sets of rows have in common: the same sequences, reverse complements, near-duplicates.

use super::DataError;
use super::distinct::Distinct;
use super::rows::{Batches, Reader, Rows, Sequences};
use super::synthetic::{AFTER, BEFORE, reverse_complement};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use twox_hash::XxHash3_128;

/// Near-duplicates have the same length and at most so many other bases.
pub const DISTANCE: usize = 3;
/// A sequence within that distance of another has at least one of so many stretches in common with it.
const STRETCHES: usize = DISTANCE + 1;
/// So many shared sequences are shown.
const EXAMPLES: usize = 5;

const SAME: u8 = 1;
const REVERSED: u8 = 2;
const NEAR: u8 = 4;

/// The distinct sequences of some rows, to be looked for among others.
pub struct Wanted {
    sequences: Sequences,
    /// How many rows each sequence has, and the `pos` of the first of them.
    rows: Vec<(u64, i64)>,
    places: HashMap<u128, u32>,
    reversed: HashMap<u128, u32>,
    stretches: HashMap<u64, Vec<u32>>,
}

/// Which of the wanted sequences were found, and how.
pub struct Found {
    marks: Vec<AtomicU8>,
    /// The lowest `pos` at which each was found as it is.
    first: Vec<AtomicI64>,
    /// Rows that were searched.
    pub rows: u64,
}

/// What the wanted rows share with those that were searched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlap {
    /// Distinct sequences that are found as they are, and the rows that have them.
    pub shared_sequences: u64,
    pub shared_rows: u64,
    /// Distinct sequences whose reverse complement is found: between the challenge's flanks where both have them.
    pub reverse_complements: u64,
    /// Distinct sequences that are not found as they are, but with at most `distance` substitutions.
    pub near_duplicates: u64,
    pub distance: usize,
    pub examples: Vec<Example>,
}

/// A shared sequence, with its `pos` on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    pub sequence: String,
    pub evaluation_pos: i64,
    pub training_pos: i64,
}

impl Wanted {
    /// Reads the rows to look for; messages name the file `label`.
    pub fn read(path: &Path, label: &str) -> Result<Self, DataError> {
        let mut wanted = Self {
            sequences: Sequences::default(),
            rows: Vec::new(),
            places: HashMap::new(),
            reversed: HashMap::new(),
            stretches: HashMap::new(),
        };
        for batch in Batches::from(Reader::open(path, label)?) {
            let batch = batch?;
            (0..batch.len()).for_each(|i| wanted.add(batch.sequences.get(i), batch.pos[i]));
        }
        Ok(wanted)
    }

    fn add(&mut self, sequence: &[u8], pos: i64) {
        let new = self.rows.len() as u32;
        let place = *self.places.entry(Distinct::hash(sequence)).or_insert(new);
        if place < new {
            self.rows[place as usize].0 += 1;
            return;
        }
        self.sequences.push(sequence);
        self.rows.push((1, pos));
        self.reversed.entry(Distinct::hash(&reverse_complement(core(sequence)))).or_insert(new);
        stretches(sequence).for_each(|stretch| self.stretches.entry(stretch).or_default().push(new));
    }

    /// How many rows there are, and how many distinct sequences.
    pub fn size(&self) -> (u64, u64) {
        (self.rows.iter().map(|(rows, _)| rows).sum(), self.rows.len() as u64)
    }

    /// Searches the rows of a file, on the current pool of threads: for all likeness, or for the same sequences alone.
    pub fn search(&self, path: &Path, label: &str, alike: bool) -> Result<Found, DataError> {
        let mut found = self.nothing();
        let mut reader = Reader::open(path, label)?;
        while let Some(batches) = reader.next_batches()? {
            found.rows += batches.iter().map(|rows| rows.len() as u64).sum::<u64>();
            batches.par_iter().for_each(|rows| self.mark(rows, alike, &found));
        }
        Ok(found)
    }

    /// What is found where nothing was searched.
    pub fn nothing(&self) -> Found {
        let marks = self.rows.iter().map(|_| AtomicU8::new(0)).collect();
        let first = self.rows.iter().map(|_| AtomicI64::new(i64::MAX)).collect();
        Found { marks, first, rows: 0 }
    }

    fn mark(&self, rows: &Rows, alike: bool, found: &Found) {
        let mark = |place: u32, how: u8| found.marks[place as usize].fetch_or(how, Ordering::Relaxed);
        for (i, sequence) in rows.sequences.iter().enumerate() {
            if let Some(&place) = self.places.get(&Distinct::hash(sequence)) {
                mark(place, SAME);
                found.first[place as usize].fetch_min(rows.pos[i], Ordering::Relaxed);
            }
            if !alike {
                continue;
            }
            if let Some(&place) = self.reversed.get(&Distinct::hash(core(sequence))) {
                mark(place, REVERSED);
            }
            for stretch in stretches(sequence) {
                for &place in self.stretches.get(&stretch).into_iter().flatten() {
                    let known = found.marks[place as usize].load(Ordering::Relaxed) & NEAR != 0;
                    if !known && (1..=DISTANCE).contains(&distance(self.sequences.get(place as usize), sequence)) {
                        mark(place, NEAR);
                    }
                }
            }
        }
    }

    pub fn overlap(&self, found: &Found) -> Overlap {
        let marks: Vec<u8> = found.marks.iter().map(|mark| mark.load(Ordering::Relaxed)).collect();
        let count = |yes: fn(u8) -> bool| marks.iter().filter(|mark| yes(**mark)).count() as u64;
        let shared = || (0..marks.len()).filter(|&i| marks[i] & SAME != 0);
        let example = |i: usize| Example {
            sequence: String::from_utf8_lossy(self.sequences.get(i)).into_owned(),
            evaluation_pos: self.rows[i].1,
            training_pos: found.first[i].load(Ordering::Relaxed),
        };
        Overlap {
            shared_sequences: found.shared_sequences(),
            shared_rows: shared().map(|i| self.rows[i].0).sum(),
            reverse_complements: count(|mark| mark & REVERSED != 0),
            near_duplicates: count(|mark| mark & (NEAR | SAME) == NEAR),
            distance: DISTANCE,
            examples: shared().take(EXAMPLES).map(example).collect(),
        }
    }
}

impl Found {
    /// How many of the distinct sequences were found as they are.
    pub fn shared_sequences(&self) -> u64 {
        self.marks.iter().filter(|mark| mark.load(Ordering::Relaxed) & SAME != 0).count() as u64
    }

    /// Takes in what was found elsewhere.
    pub fn join(&mut self, other: &Self) {
        for (mark, others) in self.marks.iter().zip(&other.marks) {
            mark.fetch_or(others.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        for (first, others) in self.first.iter().zip(&other.first) {
            first.fetch_min(others.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.rows += other.rows;
    }
}

/// A promoter without the challenge's flanks, where it has both.
fn core(sequence: &[u8]) -> &[u8] {
    sequence.strip_prefix(BEFORE).and_then(|rest| rest.strip_suffix(AFTER)).unwrap_or(sequence)
}

/// The stretches of a sequence, each as a hash of its bases, its number, and the sequence's length.
fn stretches(sequence: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let len = sequence.len();
    (0..STRETCHES).map(move |i| {
        let bases = &sequence[i * len / STRETCHES..(i + 1) * len / STRETCHES];
        XxHash3_128::oneshot_with_seed((len * STRETCHES + i) as u64, bases) as u64
    })
}

/// How many bases differ; more than any limit where the lengths do.
fn distance(a: &[u8], b: &[u8]) -> usize {
    if a.len() == b.len() { a.iter().zip(b).filter(|(a, b)| a != b).count() } else { usize::MAX }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rows::Writer;

    fn file(folder: &Path, name: &str, sequences: &[&str]) -> std::path::PathBuf {
        let mut rows = Rows::default();
        (0..).zip(sequences).for_each(|(i, sequence)| rows.push(i, sequence.as_bytes(), Some(1.0)));
        let path = folder.join(name);
        let mut writer = Writer::create(&path).expect("creates");
        writer.append(rows).expect("writes");
        writer.finish().expect("ends");
        path
    }

    fn flanked(core: &str) -> String {
        format!("{}{core}{}", String::from_utf8_lossy(BEFORE), String::from_utf8_lossy(AFTER))
    }

    #[test]
    fn each_kind_of_likeness_is_counted_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let core = "ACGGTCATTGACCAGTACCAGGATTACATTGACCAGATTA";
        let [same, back, near, far] = [flanked(core), flanked("AAAACCCCGGTACGT"), flanked("TTGACA"), flanked("GGGGGG")];
        let wanted = file(folder.path(), "test", &[&same, &back, &near, &far, &same, "ACGT"]);
        let (reversed, mutated) = (flanked("ACGTACCGGGGTTTT"), near.replace("TTGACA", "TTCCCA"));
        let trained = file(folder.path(), "train", &["CCCCC", &reversed, &same, &mutated, &same, "ACGTA"]);
        let wanted = Wanted::read(&wanted, "test").expect("rows");
        assert_eq!(wanted.size(), (6, 5));
        let found = wanted.search(&trained, "train", true).expect("rows");
        assert_eq!(found.rows, 6);
        let example = Example { sequence: same.clone(), evaluation_pos: 0, training_pos: 2 };
        let expected = Overlap {
            shared_sequences: 1,
            shared_rows: 2,
            reverse_complements: 1,
            near_duplicates: 1,
            distance: DISTANCE,
            examples: vec![example],
        };
        assert_eq!(wanted.overlap(&found), expected);

        let mut both = wanted.nothing();
        let other = file(folder.path(), "other", &["ACGT", &far.replace("GGGGGG", "GGGGGC")]);
        [found, wanted.search(&other, "other", true).expect("rows")].iter().for_each(|part| both.join(part));
        let overlap = wanted.overlap(&both);
        assert_eq!((both.rows, overlap.shared_sequences, overlap.near_duplicates), (8, 2, 2));
    }

    #[test]
    fn every_sequence_within_the_distance_is_found() {
        let mut rng = crate::seed::Seed(1).rng("test");
        let mut draw = |n: u64| crate::seed::below(&mut rng, n) as usize;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let sequences: Vec<Vec<u8>> = (0..200).map(|i| (0..30 + i % 50).map(|_| b"ACGT"[draw(4)]).collect()).collect();
        for changes in [1, 2, DISTANCE, DISTANCE + 1] {
            let mut changed = sequences.clone();
            for sequence in &mut changed {
                let len = sequence.len();
                (0..changes).for_each(|i| {
                    let base = &mut sequence[i * len / changes + draw((len / changes) as u64)];
                    *base = if *base == b'N' { b'A' } else { b'N' };
                });
            }
            let texts = |all: &[Vec<u8>]| -> Vec<String> {
                all.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect()
            };
            let (a, b) = (texts(&sequences), texts(&changed));
            let wanted = file(folder.path(), "a", &a.iter().map(String::as_str).collect::<Vec<_>>());
            let trained = file(folder.path(), "b", &b.iter().map(String::as_str).collect::<Vec<_>>());
            let wanted = Wanted::read(&wanted, "a").expect("rows");
            let near = wanted.overlap(&wanted.search(&trained, "b", true).expect("rows")).near_duplicates;
            assert_eq!(near, if changes <= DISTANCE { 200 } else { 0 }, "{changes} changes");
        }
    }
}
