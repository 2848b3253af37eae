//! How large a plan may become: parameters are repeated wherever they are named, and stages in each of their branches, so
//! a small file could ask for more memory than there is.

use serde_json::Value;
use std::cell::Cell;

/// Bytes, about; a plan of a hundred thousand steps takes a third of it.
const MOST: usize = 256 << 20;

/// What was repeated so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Growth(Cell<usize>);

impl Growth {
    /// Adds some bytes; an error is a message and a help, as of a wrong value.
    pub fn add(&self, bytes: usize) -> Result<(), (String, Option<String>)> {
        self.0.set(self.0.get().saturating_add(bytes));
        if self.0.get() <= MOST {
            return Ok(());
        }
        let message = format!("with parameters and branches written out, the plan has more than {} MiB", MOST >> 20);
        Err((message, Some("keep long texts in files that the stages read".to_owned())))
    }
}

/// About the bytes that a value takes.
pub fn size_of(value: &Value) -> usize {
    std::mem::size_of::<Value>()
        + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(size_of).sum(),
            Value::Object(map) => map.iter().map(|(key, value)| key.len() + size_of(value)).sum(),
            _ => 0,
        }
}
