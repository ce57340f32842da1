//! Archiving completed units when a client asks for it.

use super::call::{Call, Continuation, Progress};
use super::params::{Options, Params};
use crate::coordinate::storage::Storage;
use crate::coordinate::{Archival, Result};
use crate::limits;
use coordinated_client::cbor::Writer;

/// Removes completed units beyond the configured limits; without any it does nothing. The answer waits until
/// all is done.
pub(super) fn archive<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let options = Options::read(params.get("options"))?;
    let names = options.get("work_spec_names").optional_names()?;
    if !call.daemon.retention.has_limits() {
        Writer::new(out).null();
        return Ok(Progress::Done);
    }
    let archival = call.operation.begin_archival(names.as_deref());
    Box::new(Archive(archival)).step(call, out)
}

struct Archive(Archival);

impl<S: Storage> Continuation<S> for Archive {
    fn step(mut self: Box<Self>, call: &mut Call<'_, S>, out: &mut Vec<u8>) -> Result<Progress<S>> {
        let (retention, rows_max) = (call.daemon.retention, limits::SWEEP_REMOVED);
        call.operation
            .archive_some(retention, &mut self.0, rows_max)?;
        if !self.0.is_over() {
            return Ok(Progress::More(self));
        }
        Writer::new(out).null();
        Ok(Progress::Done)
    }
}
