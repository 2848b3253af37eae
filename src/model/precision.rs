//! In which numbers the large products are made.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The numbers that linear layers multiply; all else, and every sum, is in single precision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    #[default]
    F32,
    /// Products of numbers rounded to bfloat16, summed in f32; weights are kept in f32. Faster on AMD's
    /// processors with AVX512_BF16 (Zen 4 and later); others do the same arithmetic, no faster than in f32.
    Bf16,
}
