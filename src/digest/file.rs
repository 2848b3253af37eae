//! Digests of files on disk, read and hashed on all processors.
//!
//! BLAKE3 is a tree: each block of a file is a subtree whose value depends on its bytes and its place alone, so threads
//! take blocks as they come and the values are joined at the end. Files are read, never mapped: one that is cut short
//! under a map kills the process.

use super::Digest;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root};
use std::fs::File;
use std::io::{self, Read};
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Bytes that are read at a time, a power of two: a thread's buffer stays in its cache.
const PIECE: u64 = 256 << 10;
/// Files are cut into no more blocks than this: the values of all are kept, 32 bytes each.
const MOST_BLOCKS: u64 = 1 << 14;
/// Most bytes in a row that a thread takes: a disk is read faster at several places, far from each other, than at one.
const RUN: u64 = 128 << 20;
/// Smaller files are read by one thread.
const SMALL: u64 = 2 << 20;

impl Digest {
    /// Reads a file from its beginning to its end, for as long as `go_on` says so; gives digest and size in bytes. A file
    /// that grows or shrinks meanwhile is an error, or has the digest of what was read.
    pub fn of_open_file(file: &File, go_on: &(dyn Fn() -> bool + Sync)) -> io::Result<(Self, u64)> {
        let size = file.metadata()?.len();
        if size < SMALL {
            // Not all that has no size is empty: the kernel's own files.
            let mut bytes = Vec::with_capacity(size as usize + 1);
            let mut reader = file;
            reader.read_to_end(&mut bytes)?;
            return Ok((Self::of(&bytes), bytes.len() as u64));
        }
        let block = block_of(size);
        let blocks = size.div_ceil(block);
        let (next, values) = (AtomicU64::new(0), Mutex::new(vec![ChainingValue::default(); blocks as usize]));
        let failed: Mutex<Option<io::Error>> = Mutex::default();
        // Short enough that no thread is left with a long last run.
        let run = (RUN / block).min(blocks / (4 * rayon::current_num_threads() as u64)).max(1);
        read_far_ahead(file);
        let take_runs = || {
            let mut buffer = vec![0_u8; PIECE as usize];
            while let Some(first) = Some(next.fetch_add(run, Ordering::Relaxed)).filter(|&n| n < blocks) {
                for n in first..(first + run).min(blocks) {
                    match subtree(file, n * block, block.min(size - n * block), &mut buffer, go_on) {
                        Ok(value) => values.lock().unwrap_or_else(PoisonError::into_inner)[n as usize] = value,
                        Err(error) => {
                            next.store(blocks, Ordering::Relaxed);
                            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                            return;
                        }
                    }
                }
            }
        };
        rayon::scope(|scope| (0..rayon::current_num_threads()).for_each(|_| scope.spawn(|_| take_runs())));
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let values = values.into_inner().unwrap_or_else(PoisonError::into_inner);
        let left = left_subtree_len(size);
        let join = |offset, size| join(&values, block, offset, size);
        let root = merge_subtrees_root(&join(0, left), &join(left, size - left), Mode::Hash);
        Ok((Self(root.into()), size))
    }
}

/// Has the kernel fetch more of a file ahead of its readers than it would by itself.
fn read_far_ahead(file: &File) {
    #[cfg(target_os = "linux")]
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and no memory is handed over.
    unsafe {
        // Advice: where it is not taken, reading is slower and nothing else.
        libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_SEQUENTIAL);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

fn block_of(size: u64) -> u64 {
    PIECE.max((size / MOST_BLOCKS).next_power_of_two())
}

/// Reads a block, and gives its value.
fn subtree(
    file: &File,
    offset: u64,
    size: u64,
    buffer: &mut [u8],
    go_on: &(dyn Fn() -> bool + Sync),
) -> io::Result<ChainingValue> {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(offset);
    let mut done = 0;
    while done < size {
        if !go_on() {
            return Err(io::Error::other("stopped on request"));
        }
        let piece = &mut buffer[..PIECE.min(size - done) as usize];
        file.read_exact_at(piece, offset + done)?;
        hasher.update(piece);
        done += piece.len() as u64;
    }
    Ok(hasher.finalize_non_root())
}

/// The value of the subtree of `size` bytes that begins at `offset`.
fn join(values: &[ChainingValue], block: u64, offset: u64, size: u64) -> ChainingValue {
    if size <= block {
        return values[(offset / block) as usize];
    }
    let left = left_subtree_len(size);
    let (one, other) = (join(values, block, offset, left), join(values, block, offset + left, size - left));
    merge_subtrees_non_root(&one, &other, Mode::Hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};

    fn file(size: u64) -> (File, Vec<u8>) {
        let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8 ^ (i >> 13) as u8).collect();
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(&bytes).expect("writes");
        file.rewind().expect("rewinds");
        (file, bytes)
    }

    #[test]
    fn the_digest_is_that_of_the_bytes_whatever_the_size() {
        let around = |size: u64| [size - 1, size, size + 1];
        let sizes =
            [0, 1].into_iter().chain(around(SMALL)).chain(around(SMALL + PIECE)).chain(around(8 * PIECE + 1024));
        // The last: runs of several blocks, the last one short.
        for size in sizes.chain([9 * PIECE + 1, 13 * PIECE + 77_777, 150 * PIECE + 5]) {
            let (file, bytes) = file(size);
            let found = Digest::of_open_file(&file, &|| true).expect("reads");
            assert_eq!(found, (Digest::of(&bytes), size), "{size} bytes");
        }
    }

    #[test]
    fn a_request_to_stop_ends_it_after_the_pieces_under_way() {
        let (file, _) = file(64 * PIECE);
        let asked = AtomicU64::new(0);
        let go_on = || asked.fetch_add(1, Ordering::SeqCst) < 3;
        assert!(Digest::of_open_file(&file, &go_on).is_err());
        let most = 3 + rayon::current_num_threads() as u64;
        assert!(asked.load(Ordering::SeqCst) <= most, "{asked:?} questions");
    }

    #[test]
    fn a_file_of_any_size_takes_little_memory() {
        assert_eq!(block_of(SMALL), PIECE);
        for size in [1 << 31, (1 << 40) + 1, u64::MAX >> 1] {
            assert!(size.div_ceil(block_of(size)) <= MOST_BLOCKS + 1 && block_of(size).is_power_of_two());
        }
    }
}
