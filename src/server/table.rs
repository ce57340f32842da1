//! The open connections, found by key in constant time.

/// Names one connection while it is open. Slots are reused, serial numbers are not: the key of a closed connection finds
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    slot: usize,
    serial: u64,
}

impl Key {
    /// The slot in the table, small enough to be part of a poll token.
    pub(super) fn slot(self) -> usize {
        self.slot
    }
}

/// Values in numbered slots.
pub(super) struct Table<T> {
    slots: Vec<Option<(u64, T)>>,
    free: Vec<usize>,
    next_serial: u64,
}

impl<T> Table<T> {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            next_serial: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, value: T) -> Key {
        let serial = self.next_serial;
        self.next_serial += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some((serial, value));
        Key { slot, serial }
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.slots.get_mut(key.slot) {
            Some(Some((serial, value))) if *serial == key.serial => Some(value),
            _ => None,
        }
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        self.get_mut(key)?;
        let (_, value) = self.slots[key.slot].take()?;
        self.free.push(key.slot);
        Some(value)
    }

    /// The key of the value that is in a slot now.
    pub(super) fn key_at(&self, slot: usize) -> Option<Key> {
        let (serial, _) = self.slots.get(slot)?.as_ref()?;
        Some(Key {
            slot,
            serial: *serial,
        })
    }

    /// All values. Visits every slot, so it is too slow for each turn.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().enumerate().filter_map(|(slot, entry)| {
            let (serial, value) = entry.as_ref()?;
            Some((
                Key {
                    slot,
                    serial: *serial,
                },
                value,
            ))
        })
    }

    /// As [`Table::iter`], with mutable values.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        self.slots
            .iter_mut()
            .enumerate()
            .filter_map(|(slot, entry)| {
                let (serial, value) = entry.as_mut()?;
                Some((
                    Key {
                        slot,
                        serial: *serial,
                    },
                    value,
                ))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_finds_nothing_once_its_slot_is_used_again() {
        let mut table = Table::new();
        let old = table.insert("old");
        assert_eq!(table.remove(old), Some("old"));
        let new = table.insert("new");
        assert_eq!(old.slot(), new.slot());
        assert_eq!(table.get_mut(old), None);
        assert_eq!(table.remove(old), None);
        assert_eq!(table.get_mut(new), Some(&mut "new"));
        assert_eq!(table.key_at(new.slot()), Some(new));
        assert_eq!(table.len(), 1);
    }
}
