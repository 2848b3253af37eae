//! The index: what is derived from files and worth keeping; may be lost, locked or damaged at any time.
//!
//! The only file that names sled. A database is opened for one exchange and closed again: sled lets no second process
//! in, and several runs share a cache. Every value carries a checksum, since sled gives back flipped bits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Once;
use std::time::{Duration, Instant};

/// Changes when keys or values mean something else; an entry of another format reads as absent.
const FORMAT: u8 = 1;
const CHECKSUM: usize = 8;
/// Others hold the database for milliseconds only.
const PATIENCE: Duration = Duration::from_millis(300);

/// Why the index can't be used now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unavailable {
    /// Another process has it.
    Busy,
    /// It can't be read: to be moved aside and made anew.
    Broken(String),
}

/// An open database.
pub struct Table(sled::Db);

/// Opens the database, lets `work` use it, makes what it wrote durable, and closes it.
pub fn with<T>(dir: &Path, work: impl FnOnce(&Table) -> Result<T, String>) -> Result<T, Unavailable> {
    hush();
    // sled has hundreds of asserts on what it reads from disk.
    let exchange = catch_unwind(AssertUnwindSafe(|| {
        let table = Table(open(dir)?);
        let result = work(&table).map_err(Unavailable::Broken)?;
        table.0.flush().map_err(|e| Unavailable::Broken(e.to_string()))?;
        Ok(result)
    }));
    exchange.unwrap_or_else(|_| Err(Unavailable::Broken("the index made sled panic".to_owned())))
}

/// Keeps sled's panics, which are caught or end a thread of its own, from being told as ours.
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let is_sleds = panic.location().is_some_and(|at| at.file().contains("/sled-"));
            if !is_sleds {
                tell(panic);
            }
        }));
    });
}

fn open(dir: &Path) -> Result<sled::Db, Unavailable> {
    let begun = Instant::now();
    loop {
        // No flusher thread: `with` flushes, and closing is quicker.
        let config = sled::Config::new().path(dir).cache_capacity(8 << 20).flush_every_ms(None);
        match config.open() {
            Ok(db) => return Ok(db),
            Err(sled::Error::Io(e)) if e.to_string().contains("lock") => {
                if begun.elapsed() > PATIENCE {
                    return Err(Unavailable::Busy);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(e) => return Err(Unavailable::Broken(e.to_string())),
        }
    }
}

/// A key and its value.
type Pair = (Vec<u8>, Vec<u8>);

impl Table {
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let value = self.0.get(key).map_err(|e| e.to_string())?;
        Ok(value.and_then(|sealed| unseal(key, &sealed)))
    }

    /// All entries whose key begins so, and how many of them are damaged.
    pub fn scan(&self, prefix: &[u8]) -> Result<(Vec<Pair>, usize), String> {
        let (mut found, mut damaged) = (Vec::new(), 0);
        for entry in self.0.scan_prefix(prefix) {
            let (key, sealed) = entry.map_err(|e| e.to_string())?;
            match unseal(&key, &sealed) {
                Some(value) => found.push((key.to_vec(), value)),
                None => damaged += 1,
            }
        }
        Ok((found, damaged))
    }

    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<(), String> {
        self.0.insert(key, seal(key, value)).map(drop).map_err(|e| e.to_string())
    }

    pub fn remove(&self, key: &[u8]) -> Result<(), String> {
        self.0.remove(key).map(drop).map_err(|e| e.to_string())
    }
}

fn seal(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut sealed = vec![FORMAT];
    sealed.extend_from_slice(value);
    let sum = checksum(key, &sealed);
    sealed.extend_from_slice(&sum);
    sealed
}

fn unseal(key: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (body, sum) = sealed.split_at_checked(sealed.len().checked_sub(CHECKSUM)?)?;
    (body.first() == Some(&FORMAT) && sum == checksum(key, body)).then(|| body[1..].to_vec())
}

fn checksum(key: &[u8], body: &[u8]) -> [u8; CHECKSUM] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes()).update(key).update(body);
    hasher.finalize().as_bytes()[..CHECKSUM].try_into().expect("a BLAKE3 is longer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_in_a_value_reads_as_absent() {
        let sealed = seal(b"key", b"value");
        assert_eq!(unseal(b"key", &sealed), Some(b"value".to_vec()));
        assert_eq!(unseal(b"kez", &sealed), None);
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert_eq!(unseal(b"key", &flipped), None);
        }
    }

    #[test]
    fn what_one_exchange_wrote_the_next_one_reads() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("index");
        with(&path, |table| table.put(b"m1", b"a").and(table.put(b"m2", b"b")).and(table.put(b"n", b"c")))
            .expect("opens");
        let begun = Instant::now();
        let (found, damaged) = with(&path, |table| table.scan(b"m")).expect("opens");
        eprintln!("one exchange with the index: {:?}", begun.elapsed());
        assert_eq!((found.len(), damaged), (2, 0));
    }

    #[test]
    fn a_database_that_is_rubbish_is_called_broken_or_starts_empty() {
        for rubbish in [vec![], vec![7_u8; 9000]] {
            let dir = tempfile::tempdir().expect("a temporary folder");
            let path = dir.path().join("index");
            with(&path, |table| table.put(b"m1", b"a")).expect("opens");
            for name in ["conf", "db"] {
                fs_err::write(path.join(name), &rubbish).expect("writes");
                let found = with(&path, |table| table.scan(b"m"));
                eprintln!("{name}: {found:?}");
                assert!(matches!(found, Err(Unavailable::Broken(_)) | Ok((_, 0))), "{found:?}");
            }
        }
    }
}
