//! Calls that may take long: they are done in steps, each in another batch, and others get their turns in
//! between.
//!
//! A method reads its parameters into a value that knows what is left to do, and is asked for one step after
//! the other. Nothing of the message is read twice but the items of its list, which are checked first.

use super::listed::Listed;
use super::reply::{Nothing, answer_in_band, ok_pair, true_pair};
use super::work::{Ask, chain_until};
use crate::cbor::Writer;
use crate::coordinate::storage::{OutputSliceId, Storage};
use crate::coordinate::{
    Archival, DeletionInStatus, HandedOut, LockPath, Operation, Result, Retention,
};
use crate::limits;

/// What is left of a call.
pub(super) enum Steps {
    /// Looking for work.
    GetWork(Ask),
    /// Archiving.
    Archive(Retention, Archival),
    /// Deleting the units that are in some statuses.
    DeleteInStatus(DeletionInStatus),
    /// Removing the locks of a path and of all below it.
    DeleteLocksUnder(LockPath),
    /// Adding what the output of a unit names that has been finished, up to this slice.
    Chain(OutputSliceId),
    /// Going through a list of units.
    Listed(Box<Listed>),
}

/// What a step works on.
pub(super) struct Bench<'b, 'a, S> {
    pub(super) operation: &'b mut Operation<'a, S>,
    pub(super) handed_out: &'b mut HandedOut,
    /// The content of the message that the call came in.
    pub(super) message: &'b [u8],
}

impl Steps {
    /// Bytes that it keeps, other than a few.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::GetWork(ask) => ask.held(),
            Self::Listed(listed) => listed.held(),
            Self::Archive(..)
            | Self::DeleteInStatus(_)
            | Self::DeleteLocksUnder(_)
            | Self::Chain(_) => 0,
        }
    }

    /// Does the next step. Gives what is left; `None` if that was all, and the result has been written.
    ///
    /// # Errors
    /// What the operation fails with. The steps before this one stand.
    pub(super) fn take_step<S: Storage>(
        self,
        bench: &mut Bench<'_, '_, S>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Self>> {
        match self {
            Self::GetWork(ask) => Ok(ask.take_step(bench, out)?.map(Self::GetWork)),
            Self::Archive(retention, mut archival) => {
                let rows_max = limits::SWEEP_REMOVED;
                let operation = &mut *bench.operation;
                operation.archive_some(&retention, &mut archival, rows_max)?;
                if !archival.is_over() {
                    return Ok(Some(Self::Archive(retention, archival)));
                }
                Writer::new(out).null();
                Ok(None)
            }
            Self::DeleteInStatus(mut deletion) => {
                let units_max = limits::SWEEP_REMOVED;
                let is_over = bench.operation.delete_some(&mut deletion, units_max);
                match answer_in_band(out, Nothing::Zero, is_over)? {
                    Some(false) => return Ok(Some(Self::DeleteInStatus(deletion))),
                    Some(true) => ok_pair(out, |writer| writer.unsigned(deletion.deleted())),
                    None => {}
                }
                Ok(None)
            }
            Self::DeleteLocksUnder(path) => {
                if !bench.operation.delete_locks_under(&path)? {
                    return Ok(Some(Self::DeleteLocksUnder(path)));
                }
                Writer::new(out).unsigned(0);
                Ok(None)
            }
            Self::Chain(last) => {
                if !chain_until(last, bench.operation)? {
                    return Ok(Some(Self::Chain(last)));
                }
                true_pair(out);
                Ok(None)
            }
            Self::Listed(listed) => Ok(listed.take_step(bench, out)?.map(Self::Listed)),
        }
    }
}
