//! The text of lists, which may be long: it is written item by item, up to a limit.

use crate::coordinate::{Error, Result};
use crate::limits::ANSWER_BYTES_MAX;
use serde::Serialize;

/// A list that is being written.
pub(super) struct ListText {
    text: Vec<u8>,
    begin: usize,
    is_object: bool,
}

impl ListText {
    /// A list that is the only value of an object.
    pub(super) fn of_key(key: &str) -> Self {
        let text = format!("{{\"{key}\":[").into_bytes();
        Self {
            begin: text.len(),
            text,
            is_object: true,
        }
    }

    /// A list by itself.
    pub(super) fn bare() -> Self {
        Self {
            text: b"[".to_vec(),
            begin: 1,
            is_object: false,
        }
    }

    /// Appends an item.
    ///
    /// # Errors
    /// `Invalid` if the list is too long by now.
    pub(super) fn push(&mut self, item: &impl Serialize) -> Result<()> {
        if self.text.len() > self.begin {
            self.text.push(b',');
        }
        // Fails for no document: the keys of its maps are strings.
        let _ = serde_json::to_writer(&mut self.text, item);
        if self.text.len() > ANSWER_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "the list has more than {ANSWER_BYTES_MAX} bytes: ask for less of it, for example with the parameters \
                 limit and previous"
            )));
        }
        Ok(())
    }

    /// The whole text.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.text.push(b']');
        if self.is_object {
            self.text.push(b'}');
        }
        self.text
    }
}
