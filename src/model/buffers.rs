//! Memory of passes over a batch, kept from one to the next.
//!
//! Fresh memory is cleared by the kernel, a page at a time and on one thread: of a large model's step a fifth. What a
//! buffer holds when it is taken is what some pass left there.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Memory that was given back; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Buffers(Arc<Mutex<Vec<Free>>>);

#[derive(Debug)]
struct Free {
    values: Vec<f32>,
    /// Whether it was on loan since memory was last let go.
    used: bool,
}

/// Numbers on loan, given back when dropped. Whoever takes it writes each before reading it.
#[derive(Debug)]
pub struct Buffer {
    values: Vec<f32>,
    len: usize,
    home: Buffers,
}

impl Buffers {
    /// So many numbers, of any value.
    pub fn take(&self, len: usize) -> Buffer {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Not one of more than twice the size: that may be wanted as such.
        let fitting = free.iter().enumerate().filter(|(_, free)| (len..=2 * len).contains(&free.values.len()));
        let found = fitting.min_by_key(|(_, free)| free.values.len()).map(|(i, _)| i);
        let values = found.map(|i| free.swap_remove(i).values);
        drop(free);
        // Batches differ by a few tokens: sizes are rounded up, by an eighth at most.
        let step = (len.next_power_of_two() / 16).max(1);
        let mut values = values.unwrap_or_else(|| vec![0.0; len.next_multiple_of(step)]);
        if cfg!(test) {
            values.fill(f32::NAN);
        }
        Buffer { values, len, home: self.clone() }
    }

    /// A copy of numbers.
    pub fn copy(&self, values: &[f32]) -> Buffer {
        let mut copy = self.take(values.len());
        copy.copy_from_slice(values);
        copy
    }

    /// Lets go of what was not taken since the last call: what remains is what one pass needs.
    pub fn settle(&self) {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        free.retain_mut(|free| mem::take(&mut free.used));
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(Free { values: mem::take(&mut self.values), used: true });
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_lent_again_while_it_is_wanted() {
        let buffers = Buffers::default();
        let kept = |buffers: &Buffers| buffers.0.lock().expect("no panic").len();
        let first = buffers.take(1000);
        let place = first.as_ptr();
        drop(first);
        // A few numbers more or less: the same memory. Far fewer: other memory.
        let (again, small) = (buffers.take(1003), buffers.take(10));
        assert_eq!((again.as_ptr(), again.len(), small.len()), (place, 1003, 10));
        drop((again, small));
        assert_eq!(kept(&buffers), 2);
        buffers.settle();
        drop(buffers.take(1000));
        assert_eq!(kept(&buffers), 2);
        buffers.settle();
        assert_eq!(kept(&buffers), 1);
        assert!(buffers.take(0).is_empty());
    }
}
