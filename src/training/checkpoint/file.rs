//! The file of a checkpoint: a line that names it, a header, numbers end to end, and a BLAKE3 over all of that.

use crate::collective::Collective;
use crate::digest::Digest;
use crate::training::course::Course;
use fs_err::File;
use serde::{Deserialize, Serialize};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

const MAGIC: &[u8] = b"cistage/checkpoint/1\n";
const CHECKSUM: usize = 32;
/// Bytes handled at a time.
const PIECE: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    training: Digest,
    course: Course,
    /// How many numbers each section has.
    lengths: Vec<usize>,
}

/// What a checkpoint holds: how far the training came, and its numbers, section by section.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    pub course: Course,
    pub sections: Vec<Vec<f32>>,
}

impl Saved {
    /// What rank 0 read, for all ranks.
    pub fn of_first(here: Option<Self>, together: &dyn Collective) -> Option<Self> {
        if together.world() == 1 {
            return here;
        }
        let (course, sections) = here.map_or_else(Default::default, |saved| (Some(saved.course), saved.sections));
        let lengths: Vec<usize> = sections.iter().map(Vec::len).collect();
        let header = serde_json::to_vec(&(course, lengths)).expect("a header is plain data");
        let header = together.of_first(header);
        let (course, lengths): (Option<Course>, Vec<usize>) =
            serde_json::from_slice(&header).expect("rank 0 wrote it just now");
        let mut sections = sections.into_iter();
        let section = |_| {
            let numbers = sections.next().unwrap_or_default();
            let bytes = together.of_first(numbers.iter().flat_map(|x| x.to_le_bytes()).collect());
            bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect()
        };
        let sections = lengths.iter().map(section).collect();
        Some(Self { course: course?, sections })
    }
}

/// Why a file is no checkpoint to go on from.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("is damaged: {0}")]
    Damaged(String),
    #[error("belongs to another training")]
    Other,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes a checkpoint of `training` and makes its bytes durable.
pub fn write(path: &Path, training: Digest, course: &Course, sections: &[&[f32]]) -> io::Result<()> {
    let lengths = sections.iter().map(|section| section.len()).collect();
    let header = Header { training, course: course.clone(), lengths };
    let header = serde_json::to_vec(&header).expect("a header is plain data");
    let file = File::create(path)?;
    let mut out = BufWriter::with_capacity(PIECE, &file);
    let mut hasher = blake3::Hasher::new();
    let mut put = |bytes: &[u8]| {
        hasher.update_rayon(bytes);
        out.write_all(bytes)
    };
    put(MAGIC)?;
    put(&(header.len() as u64).to_le_bytes())?;
    put(&header)?;
    let mut piece = Vec::with_capacity(PIECE);
    for numbers in sections.iter().flat_map(|section| section.chunks(PIECE / 4)) {
        piece.clear();
        piece.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
        put(&piece)?;
    }
    out.write_all(hasher.finalize().as_bytes())?;
    out.flush()?;
    drop(out);
    file.sync_all()
}

/// Reads and checks a checkpoint of `training`.
pub fn read(path: &Path, training: Digest) -> Result<Saved, Unusable> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut hasher = blake3::Hasher::new();
    let damaged = |what: &str| Unusable::Damaged(what.to_owned());
    let short = |e: io::Error| match e.kind() {
        io::ErrorKind::UnexpectedEof => damaged("it is cut short"),
        _ => e.into(),
    };
    let mut start = [0_u8; MAGIC.len() + 8];
    file.read_exact(&mut start).map_err(short)?;
    hasher.update(&start);
    let (magic, length) = start.split_at(MAGIC.len());
    let length = u64::from_le_bytes(length.try_into().expect("eight bytes"));
    if magic != MAGIC {
        return Err(damaged("it does not begin as one"));
    }
    // Lengths are compared with the file's size before memory is taken for them.
    let rest = size.saturating_sub((start.len() + CHECKSUM) as u64);
    if length > rest {
        return Err(damaged("it is cut short"));
    }
    let mut header = vec![0_u8; length as usize];
    file.read_exact(&mut header).map_err(short)?;
    hasher.update(&header);
    let header: Header = serde_json::from_slice(&header).map_err(|e| damaged(&format!("its header: {e}")))?;
    let numbers = header.lengths.iter().try_fold(0_u64, |sum, n| sum.checked_add((*n as u64).checked_mul(4)?));
    match numbers {
        Some(bytes) if bytes == rest - length => {}
        Some(bytes) if bytes > rest - length => return Err(damaged("it is cut short")),
        _ => return Err(damaged("it is longer than its header says")),
    }
    let mut sections = Vec::with_capacity(header.lengths.len());
    let mut piece = vec![0_u8; PIECE];
    for length in header.lengths {
        let mut section = Vec::with_capacity(length);
        while section.len() < length {
            let piece = &mut piece[..(4 * (length - section.len())).min(PIECE)];
            file.read_exact(piece).map_err(short)?;
            hasher.update_rayon(piece);
            section.extend(piece.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes"))));
        }
        sections.push(section);
    }
    let mut checksum = [0_u8; CHECKSUM];
    file.read_exact(&mut checksum).map_err(short)?;
    if hasher.finalize() != blake3::Hash::from_bytes(checksum) {
        return Err(damaged("its checksum is not that of its bytes"));
    }
    if header.training != training {
        return Err(Unusable::Other);
    }
    Ok(Saved { course: header.course, sections })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::course::Epoch;

    fn course() -> Course {
        let epochs = vec![Epoch { epoch: 1, loss: 1.0 / 3.0, validation: None }];
        Course { step: 7, sum: 0.1 + 0.2, epochs, best: None }
    }

    #[test]
    fn what_is_written_is_read_bit_for_bit() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("checkpoint");
        let long: Vec<f32> = (0..600_000).map(|i| (i as f32).sin()).collect();
        let sections: [&[f32]; 4] = [&long, &[], &[f32::MIN_POSITIVE, -0.0], &[1.5]];
        write(&path, Digest::of(b"this"), &course(), &sections).expect("written");
        let saved = read(&path, Digest::of(b"this")).expect("whole");
        assert_eq!(saved.course, course());
        assert!(saved.sections == sections);
        assert!(saved.sections[2][1].is_sign_negative());
        assert!(matches!(read(&path, Digest::of(b"other")), Err(Unusable::Other)));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_found() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("checkpoint");
        let training = Digest::of(b"this");
        write(&path, training, &course(), &[&[1.0, 2.0], &[3.0]]).expect("written");
        let whole = fs_err::read(&path).expect("there");
        for length in 0..whole.len() {
            fs_err::write(&path, &whole[..length]).expect("written");
            assert!(matches!(read(&path, training), Err(Unusable::Damaged(_))), "cut to {length}");
        }
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs_err::write(&path, bytes).expect("written");
            assert!(matches!(read(&path, training), Err(Unusable::Damaged(_))), "bit {bit}");
        }
        fs_err::write(&path, [&whole[..], b"more"].concat()).expect("written");
        assert!(matches!(read(&path, training), Err(Unusable::Damaged(_))));
    }
}
