//! Hashing while writing: what was written need not be read again to know its digest.

use super::Digest;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

/// Bytes that are written and hashed at a time: large enough to keep BLAKE3 in its widest code.
const CHUNK: usize = 1 << 20;
/// Chunks on their way to the hashing thread; with the one being filled, all the memory that is used.
const AHEAD: usize = 3;

/// Passes bytes on to another writer and hashes them meanwhile, on a thread of its own.
///
/// Buffers: give it the file itself. `finish` is the end of it; dropped before, it writes nothing more.
#[derive(Debug)]
pub struct HashingWriter<W: Write> {
    inner: W,
    chunk: Vec<u8>,
    bytes: u64,
    /// Started with the first full chunk: small files don't pay for a thread.
    thread: Option<Thread>,
    /// Some bytes did not reach `inner`: there is no digest of what it holds.
    broken: bool,
}

#[derive(Debug)]
struct Thread {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    handle: JoinHandle<blake3::Hasher>,
}

impl<W: Write> HashingWriter<W> {
    pub fn new(inner: W) -> Self {
        Self { inner, chunk: Vec::new(), bytes: 0, thread: None, broken: false }
    }

    /// Writes what is left; gives the writer back, and the digest and size in bytes of all that went through.
    pub fn finish(mut self) -> io::Result<(W, Digest, u64)> {
        self.write_chunk()?;
        self.inner.flush()?;
        if self.broken {
            return Err(io::Error::other("an earlier write failed"));
        }
        let hasher = match self.thread {
            None => {
                let mut hasher = blake3::Hasher::new();
                hasher.update(&self.chunk);
                hasher
            }
            Some(Thread { full, empty, handle }) => {
                drop((full, empty));
                handle.join().map_err(|_| io::Error::other("the hashing thread panicked"))?
            }
        };
        Ok((self.inner, Digest::from_hash(hasher.finalize()), self.bytes))
    }

    /// Writes the chunk; once there is a thread, hands it on to be hashed.
    fn write_chunk(&mut self) -> io::Result<()> {
        if let Err(error) = self.inner.write_all(&self.chunk) {
            self.broken = true;
            return Err(error);
        }
        self.bytes += self.chunk.len() as u64;
        // One chunk that is all there is stays, and is hashed at the end.
        if self.thread.is_some() || self.chunk.len() == CHUNK {
            self.hand_over()?;
        }
        Ok(())
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let thread = match &mut self.thread {
            Some(thread) => thread,
            none => none.insert(Thread::start()?),
        };
        // Bounded: a slow processor holds the writer up, and memory stays as it is.
        let chunk = std::mem::take(&mut self.chunk);
        if thread.full.send(chunk).is_err() {
            self.broken = true;
            return Err(io::Error::other("the hashing thread ended early"));
        }
        self.chunk = thread.empty.try_recv().unwrap_or_default();
        Ok(())
    }
}

impl Thread {
    fn start() -> io::Result<Self> {
        let (full, to_hash) = sync_channel::<Vec<u8>>(AHEAD);
        let (hashed, empty): (Sender<Vec<u8>>, _) = channel();
        let hash = move || {
            let mut hasher = blake3::Hasher::new();
            while let Ok(mut chunk) = to_hash.recv() {
                hasher.update(&chunk);
                chunk.clear();
                // Nobody wants it back once all is written.
                let _ = hashed.send(chunk);
            }
            hasher
        };
        let handle = std::thread::Builder::new().name("hashing".to_owned()).spawn(hash)?;
        Ok(Self { full, empty, handle })
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.broken {
            return Err(io::Error::other("an earlier write failed"));
        }
        if self.chunk.len() == CHUNK {
            self.write_chunk()?;
        }
        let taken = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// Does nothing: what is smaller than a chunk waits for the rest of it, or for `finish`.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_out_is_what_went_in_and_its_digest_is_that_of_the_bytes() {
        let bytes: Vec<u8> = (0..7_500_000_u32).map(|i| (i % 251) as u8).collect();
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, bytes.len()] {
            for piece in [977, 65_536, 3 * CHUNK] {
                let mut writer = HashingWriter::new(Vec::new());
                bytes[..size].chunks(piece).try_for_each(|piece| writer.write_all(piece)).expect("memory");
                let (written, digest, count) = writer.finish().expect("memory");
                assert!(written == bytes[..size], "{size} bytes in pieces of {piece}");
                assert_eq!((digest, count), (Digest::of(&bytes[..size]), size as u64), "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn after_a_failed_write_there_is_no_digest() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let taken = bytes.len().min(self.0);
                self.0 -= taken;
                if taken == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut writer = HashingWriter::new(Full(CHUNK + 5));
        let error = writer.write_all(&vec![1; 4 * CHUNK]).expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(writer.write_all(b"more").is_err());
        assert!(writer.finish().is_err());
    }
}
