//! The method that archives completed units.

use super::call::{Call, Continuation, Progress};
use super::params::{Options, Params};
use crate::coordinate::storage::Storage;
use crate::coordinate::{ArchivePass, Result};
use crate::limits;
use coordinated_client::cbor::Writer;

/// Archives completed units beyond the limits of the retention policy; without limits it does nothing. It is answered
/// when all are archived.
pub(super) fn archive<S: Storage>(
    call: &mut Call<'_, S>,
    params: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let options = Options::read(params.get("options"))?;
    let names = options.get("work_spec_names").optional_names()?;
    if !call.retention.has_limits() {
        Writer::new(out).null();
        return Ok(Progress::Done);
    }
    let pass = call.operation.begin_archive_pass(names.as_deref());
    Archive(pass).step(call, out)
}

struct Archive(ArchivePass);

impl<S: Storage> Continuation<S> for Archive {
    fn step(&self, call: &mut Call<'_, S>, out: &mut Vec<u8>) -> Result<Progress<S>> {
        let (retention, rows_max) = (call.retention, limits::SWEEP_REMOVED);
        let pass = call.operation.archive_some(retention, &self.0, rows_max)?;
        if !pass.is_over() {
            return Ok(Progress::More(Box::new(Self(pass))));
        }
        Writer::new(out).null();
        Ok(Progress::Done)
    }
}
