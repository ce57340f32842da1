//! Batches of units, each added by one call.

use coordinated_client::cbor::{Item, Writer};
use coordinated_client::{Coordinate, IfExists, Name, Request};
use std::collections::VecDeque;
use std::mem::take;
use std::num::NonZeroUsize;

/// The most bytes in a batch, unless it is a single unit. Several batches are in memory at once.
const BATCH_BYTES: usize = 1 << 20;

/// Collects units into batches.
pub(super) struct Batches {
    units_max: NonZeroUsize,
    /// The batch that takes more units.
    filling: Batch,
    /// Complete batches, to be sent.
    full: VecDeque<Batch>,
}

/// Units to be added in one call.
#[derive(Default)]
pub(super) struct Batch {
    encoded: Vec<u8>,
    pub(super) units: usize,
    /// The first and the last record with units in this batch.
    first: u64,
    last: u64,
    /// Once this batch is added, all records up to this one are.
    pub(super) through: u64,
}

impl Batches {
    /// Batches of at most `units_max` units, from the records after the first `skipped` ones.
    pub(super) fn new(units_max: NonZeroUsize, skipped: u64) -> Self {
        Self {
            units_max,
            filling: Batch {
                through: skipped,
                ..Batch::default()
            },
            full: VecDeque::new(),
        }
    }

    /// The next complete batch.
    pub(super) fn next(&mut self) -> Option<Batch> {
        self.full.pop_front()
    }

    /// True if [`Batches::next`] has returned every unit.
    pub(super) fn is_empty(&self) -> bool {
        self.full.is_empty() && self.filling.units == 0
    }

    /// Adds a unit.
    pub(super) fn push(&mut self, unit: &[u8], record: u64) {
        if self.is_full() || self.filling.encoded.len() + unit.len() > BATCH_BYTES {
            self.close();
        }
        let batch = &mut self.filling;
        if batch.units == 0 {
            batch.first = record;
        }
        batch.encoded.extend_from_slice(unit);
        batch.units += 1;
        batch.last = record;
    }

    /// Marks the end of a record's units.
    pub(super) fn end_record(&mut self, record: u64) {
        self.filling.through = record;
        if self.is_full() {
            self.close();
        }
    }

    fn is_full(&self) -> bool {
        self.filling.units >= self.units_max.get()
    }

    /// Completes the last batch.
    pub(super) fn close(&mut self) {
        if self.filling.units > 0 {
            let through = self.filling.through;
            self.full.push_back(take(&mut self.filling));
            self.filling.through = through;
        }
    }
}

impl Batch {
    /// The first and the last record with units in this batch.
    pub(super) fn records(&self) -> (u64, u64) {
        (self.first, self.last)
    }

    /// The call that adds it.
    pub(super) fn request(&self, work_spec: &Name, if_exists: Option<IfExists>) -> Request {
        Coordinate::request_to_add_encoded(work_spec, self.units, &self.encoded, if_exists)
    }

    /// The names of its units.
    pub(super) fn keys(&self) -> Vec<Name> {
        let mut list = Vec::with_capacity(self.encoded.len() + 9);
        Writer::new(&mut list).array(self.units);
        list.extend_from_slice(&self.encoded);
        let units = Item::from_checked(&list).as_list().into_iter().flatten();
        let keys = units.filter_map(|unit| Name::from_item(unit.as_list()?.next()?));
        keys.collect()
    }
}
