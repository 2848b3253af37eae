//! Counts distinct sequences among any number of them, in bounded memory.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rayon::prelude::*;
use twox_hash::XxHash3_128;

/// Hashes are sorted bucket by bucket, each small enough for a processor's cache.
const BUCKETS: usize = 256;
/// Hashes held in memory, 256 MiB of them; more are written away.
const HELD: usize = 1 << 24;

/// A hash of 128 bits for each sequence: 16 bytes, where the sequence takes 110. Among a thousand million different sequences
/// the odds that any two share one are below one in 10^20.
pub struct Distinct {
    buckets: Vec<Vec<u128>>,
    held: usize,
    limit: usize,
    spills: Vec<Spill>,
    folder: PathBuf,
    added: u64,
}

/// Hashes written away, bucket after bucket, in a file that has no name any more.
struct Spill {
    file: File,
    /// Where each bucket begins, in hashes; one more for the end.
    starts: Vec<u64>,
}

impl Distinct {
    /// `folder` is for files that come and go.
    pub fn new(folder: PathBuf) -> Self {
        let buckets = vec![Vec::new(); BUCKETS];
        Self { buckets, held: 0, limit: HELD, spills: Vec::new(), folder, added: 0 }
    }

    /// The hash by which a sequence is known.
    pub fn hash(sequence: &[u8]) -> u128 {
        XxHash3_128::oneshot(sequence)
    }

    pub fn added(&self) -> u64 {
        self.added
    }

    pub fn add(&mut self, hashes: &[u128]) -> io::Result<()> {
        for &hash in hashes {
            self.buckets[(hash >> 120) as usize].push(hash);
        }
        self.added += hashes.len() as u64;
        self.held += hashes.len();
        if self.held >= self.limit { self.spill() } else { Ok(()) }
    }

    /// How many different ones were added.
    pub fn count(mut self) -> io::Result<u64> {
        let buckets = std::mem::take(&mut self.buckets);
        let counts: Vec<io::Result<u64>> = buckets
            .into_par_iter()
            .enumerate()
            .map(|(i, mut bucket)| {
                self.spills.iter().try_for_each(|spill| spill.read(i, &mut bucket))?;
                bucket.sort_unstable();
                bucket.dedup();
                Ok(bucket.len() as u64)
            })
            .collect();
        counts.into_iter().sum()
    }

    fn spill(&mut self) -> io::Result<()> {
        self.buckets.par_iter_mut().for_each(|bucket| {
            bucket.sort_unstable();
            bucket.dedup();
        });
        let mut file = BufWriter::new(tempfile::tempfile_in(&self.folder)?);
        let mut starts = vec![0];
        let mut end = 0;
        for bucket in &mut self.buckets {
            for hash in bucket.drain(..) {
                file.write_all(&hash.to_le_bytes())?;
                end += 1;
            }
            starts.push(end);
        }
        self.held = 0;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        self.spills.push(Spill { file, starts });
        Ok(())
    }
}

impl Spill {
    fn read(&self, bucket: usize, into: &mut Vec<u128>) -> io::Result<()> {
        let (start, end) = (self.starts[bucket], self.starts[bucket + 1]);
        let mut bytes = vec![0; (end - start) as usize * 16];
        self.file.read_exact_at(&mut bytes, start * 16)?;
        into.extend(bytes.chunks_exact(16).map(|b| u128::from_le_bytes(b.try_into().expect("chunks of 16"))));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_does_not_depend_on_what_was_written_away() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let hashes: Vec<u128> = (0..30_000_u32).map(|i| Distinct::hash(&(i % 11_000).to_le_bytes())).collect();
        for limit in [1 << 24, 7_000, 100] {
            let mut distinct = Distinct { limit, ..Distinct::new(folder.path().to_owned()) };
            hashes.chunks(999).for_each(|some| distinct.add(some).expect("written"));
            assert!((limit == 1 << 24) == distinct.spills.is_empty());
            assert_eq!((distinct.added(), distinct.count().expect("read")), (30_000, 11_000));
        }
    }
}
