//! Adding the lines of an upload, batch by batch.

use crate::coordinate::storage::Storage;
use crate::coordinate::{Error, IfExists, Name, NewUnit, Operation, Result, Uploaded};
use coordinated_client::cbor::Item;

/// Some lines of an upload, which follow those that are done.
pub struct UploadedLines<'a> {
    /// The number of each line that has units, from 1 on, and what it says.
    pub lines: Vec<(u64, Item<'a>)>,
    /// The number of the last line, with or without units.
    pub last: u64,
}

/// What became of lines.
#[derive(Debug)]
pub struct UploadStep {
    /// All that is done now.
    pub uploaded: Uploaded,
    /// The first line that can't be used, and why. Nothing of it, and nothing behind it, is added.
    pub bad_line: Option<(u64, String)>,
}

impl<S: Storage> Operation<'_, S> {
    /// How far an upload with this name has come; nothing if it is not known.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `Storage`.
    pub fn uploaded(&mut self, work_spec: &Name, upload: &str) -> Result<Uploaded> {
        let spec = self.work_spec(work_spec)?.id;
        Ok(self.store.find_upload(spec, upload)?.unwrap_or_default())
    }

    /// Adds the units of lines, after `before`. If the upload has a name, how far it has come is kept with them.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `Storage`; `Refused` if a unit exists and is to be refused, or if an upload of this name has not come
    /// as far as `before`, or farther: then none of the units is added.
    pub fn upload_units(
        &mut self,
        work_spec: &Name,
        upload: Option<&str>,
        before: &Uploaded,
        lines: &UploadedLines<'_>,
        if_exists: IfExists,
    ) -> Result<UploadStep> {
        if let Some(upload) = upload {
            let kept = self.uploaded(work_spec, upload)?;
            if kept.lines != before.lines {
                return Err(Error::Refused(format!(
                    "another request has changed the upload, which has come to line {} and not to {}",
                    kept.lines, before.lines
                )));
            }
        }
        let mut units = Vec::with_capacity(lines.lines.len());
        let mut bad_line = None;
        for (number, line) in &lines.lines {
            match NewUnit::from_line(*line, self.limits) {
                Ok(more) => units.extend(more),
                Err(error) => {
                    bad_line = Some((*number, error.to_string()));
                    break;
                }
            }
        }
        let mut uploaded = *before;
        uploaded.added += self.add_work_units(work_spec, &units, if_exists)?;
        uploaded.lines = match bad_line {
            Some((number, _)) => number - 1,
            None => lines.last,
        };
        if let Some(upload) = upload.filter(|_| uploaded.lines > before.lines) {
            let spec = self.work_spec(work_spec)?.id;
            self.store.put_upload(spec, upload, &uploaded)?;
        }
        Ok(UploadStep { uploaded, bad_line })
    }
}
