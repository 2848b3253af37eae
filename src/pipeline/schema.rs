//! The JSON Schema of pipeline files.

use serde_json::{Value, json};

/// Made from the catalogue of stages.
pub fn schema() -> Value {
    json!({})
}
