//! Batches: units that are added in one call.

use coordinated_client::cbor::{Item, Writer};
use coordinated_client::{Name, Request};
use std::collections::VecDeque;
use std::mem::take;
use std::num::NonZeroUsize;

/// A batch has so many bytes at the most, but for a single unit: some are held at once.
const BATCH_BYTES: usize = 1 << 20;

/// Units that are put together to be added.
pub(super) struct Batches {
    units_max: NonZeroUsize,
    /// The last one, which takes more units.
    filling: Batch,
    /// Those that are to be sent.
    full: VecDeque<Batch>,
}

/// Units to be added in one call.
#[derive(Default)]
pub(super) struct Batch {
    encoded: Vec<u8>,
    pub(super) units: usize,
    /// The records that have units in it.
    first: u64,
    last: u64,
    /// All records up to this one are complete when it is added.
    pub(super) through: u64,
}

impl Batches {
    /// Batches of so many units at the most, from the records behind the first `skipped` ones.
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

    /// The next one that takes no more units.
    pub(super) fn next(&mut self) -> Option<Batch> {
        self.full.pop_front()
    }

    /// True if there is no unit that [`Batches::next`] has not given.
    pub(super) fn is_empty(&self) -> bool {
        self.full.is_empty() && self.filling.units == 0
    }

    /// Takes one more unit.
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

    /// Is told that a record has no more units.
    pub(super) fn end_record(&mut self, record: u64) {
        self.filling.through = record;
        if self.is_full() {
            self.close();
        }
    }

    fn is_full(&self) -> bool {
        self.filling.units >= self.units_max.get()
    }

    /// Takes no more units into the last batch.
    pub(super) fn close(&mut self) {
        if self.filling.units > 0 {
            let through = self.filling.through;
            self.full.push_back(take(&mut self.filling));
            self.filling.through = through;
        }
    }
}

impl Batch {
    /// The first and the last record that it has units of.
    pub(super) fn records(&self) -> (u64, u64) {
        (self.first, self.last)
    }

    /// The call that adds it.
    pub(super) fn request(&self, work_spec: &Name) -> Request {
        Request::with_params("add_work_units", |writer| {
            writer.array(2);
            work_spec.write(writer);
            writer.array(self.units);
            writer.encoded(&self.encoded);
        })
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
