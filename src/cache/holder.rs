//! A look at a claim from afar, for those who would rather not wait for it blindly.

use super::{Cache, CacheError, claim, lock};
use crate::action::ActionKey;

impl Cache {
    /// Who holds the claim on `key` at this moment; `None` where nobody does.
    pub fn holder(&self, key: ActionKey) -> Result<Option<String>, CacheError> {
        let path = self.root.join("locks").join(format!("{}.lock", key.0.hex()));
        if !path.exists() {
            return Ok(None);
        }
        Ok(match lock::try_take(&path)? {
            // Ours for a moment: given back at once, and left to whoever takes it next.
            Some(_) => None,
            None => Some(claim::holder(&path)),
        })
    }
}
