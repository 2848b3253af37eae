//! Memory of passes: taken piece by piece, all given back at once, and kept for the next pass.

use super::driver::{Driver, Floats, Memory};
use crate::model::ModelError;

/// Pieces start at multiples of this many numbers: what the vector units of a GPU like.
const ALIGNMENT: usize = 64;

#[derive(Debug, Default)]
pub struct Arena {
    chunks: Vec<Memory>,
    /// Taken from the last chunk.
    taken: usize,
}

impl Arena {
    /// Memory for so many numbers until [`Arena::clear`]; holds anything.
    pub fn take(&mut self, driver: &Driver, len: usize) -> Result<Floats, ModelError> {
        let room = self.chunks.last().map_or(0, |chunk| chunk.floats.len - self.taken);
        let rounded = len.next_multiple_of(ALIGNMENT);
        if rounded > room {
            // A first pass asks piece by piece: later ones find one chunk for all.
            self.chunks.push(driver.allocate(rounded.max(1 << 22))?);
            self.taken = 0;
        }
        let chunk = self.chunks.last().expect("one was there or was made").floats;
        let piece = Floats { at: chunk.at + 4 * self.taken as u64, len };
        self.taken += rounded;
        Ok(piece)
    }

    /// Takes all pieces back; what had grown in several chunks becomes one.
    pub fn clear(&mut self, driver: &Driver) -> Result<(), ModelError> {
        if self.chunks.len() > 1 {
            let all = self.chunks.iter().map(|chunk| chunk.floats.len).sum();
            self.chunks.clear();
            self.chunks.push(driver.allocate(all)?);
        }
        self.taken = 0;
        Ok(())
    }
}
