//! What a shared cache says of itself: the layout's number, and how its records are named.

use super::layout::{ABOUT, About, FORMAT};
use super::store::{Fault, Put, Stop};
use super::{Remote, probe};

impl Remote {
    /// What it says; `None` where nobody wrote to it yet.
    fn read_about(&self, stop: Stop<'_>) -> Result<Option<About>, Fault> {
        if let Some(about) = self.about.get() {
            return Ok(Some(*about));
        }
        let Some(text) = self.store.read(ABOUT, 4096, stop)? else { return Ok(None) };
        let about: About = serde_json::from_slice(&text).map_err(|_| {
            Fault::Down(format!("{ABOUT} there is damaged: remove it, and the next push writes it anew"))
        })?;
        if about.format != FORMAT {
            let found = about.format;
            return Err(Fault::Down(format!("its layout has number {found}, and this program knows number {FORMAT}")));
        }
        Ok(Some(*self.about.get_or_init(|| about)))
    }

    /// How records are named there, for a reader.
    pub(super) fn keeps_names(&self, stop: Stop<'_>) -> Result<Option<bool>, Fault> {
        Ok(self.read_about(stop)?.map(|about| about.create_only))
    }

    /// How records are named there, for a writer: the first one finds out what the store does, and says so there.
    pub(super) fn prepare(&self, stop: Stop<'_>) -> Result<bool, Fault> {
        if let Some(about) = self.read_about(stop)? {
            return Ok(about.create_only);
        }
        let about = About { format: FORMAT, create_only: probe::keeps_names(&self.store, stop)? };
        let text = serde_json::to_vec(&about).expect("plain data");
        // Whoever was quicker has found out the same.
        self.store.put(ABOUT, text, Put::New, stop)?;
        Ok(self.read_about(stop)?.unwrap_or(about).create_only)
    }
}
