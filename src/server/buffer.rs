//! A buffer of bytes between a socket and the messages or answers that pass through it.

use super::limits::IDLE_BUFFER_BYTES;

/// Bytes that are appended at the end and taken from the front.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// Where the bytes begin that have not been taken yet.
    start: usize,
}

impl Buffer {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Appends received bytes. A buffer that has to grow grows by an eighth, since its memory counts against the limit
    /// of all messages.
    pub(super) fn append(&mut self, more: &[u8]) {
        self.make_room();
        let needed = self.bytes.len() + more.len();
        if needed > self.bytes.capacity() {
            self.bytes.reserve_exact(more.len() + needed / 8);
        }
        self.bytes.extend_from_slice(more);
    }

    pub(super) fn append_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.make_room();
        write(&mut self.bytes);
    }

    /// Moves what is left to the front once it is no more than what was taken. So no more bytes are moved than are
    /// taken.
    fn make_room(&mut self) {
        if self.start > 0 && self.start >= self.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }

    /// Takes `count` bytes from the front, or all if there are fewer.
    pub(super) fn take(&mut self, count: usize) -> &[u8] {
        let from = self.start;
        self.start = from.saturating_add(count).min(self.bytes.len());
        self.bytes.get(from..self.start).unwrap_or_default()
    }

    /// Undoes the last [`Self::take`], which took `count` bytes, if nothing has changed since.
    pub(super) fn put_back(&mut self, count: usize) {
        self.start = self.start.saturating_sub(count);
    }

    /// The memory that it takes, in bytes; 0 if it is empty, since it then keeps almost nothing.
    pub(super) fn memory(&self) -> usize {
        if self.is_empty() {
            0
        } else {
            self.bytes.capacity()
        }
    }

    /// Frees memory if less than a quarter of it is in use. So no more bytes are moved than are taken.
    pub(super) fn shrink(&mut self) {
        let capacity = self.bytes.capacity();
        if capacity > IDLE_BUFFER_BYTES && self.len() < capacity / 4 {
            self.bytes.drain(..self.start);
            self.start = 0;
            self.bytes.shrink_to(2 * self.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_gives_the_bytes_in_order_and_keeps_no_more_than_twice_what_it_holds() {
        let mut buffer = Buffer::default();
        let mut expected = 0u8;
        let mut next = 0u8;
        for _ in 0..1000 {
            let piece: Vec<u8> = (0..100).map(|offset| next.wrapping_add(offset)).collect();
            next = next.wrapping_add(100);
            buffer.append(&piece);
            let taken = buffer.take(97).to_vec();
            assert_eq!(taken.first(), Some(&expected));
            expected = expected.wrapping_add(97);
            assert!(buffer.bytes.len() <= 2 * buffer.len() + 200);
        }
    }

    #[test]
    fn a_buffer_takes_little_more_memory_than_what_it_holds_and_next_to_none_when_it_is_empty() {
        let mut buffer = Buffer::default();
        buffer.append(&vec![7; 1 << 20]);
        for left in (1..8).map(|halvings| (1 << 20) >> halvings) {
            buffer.take(buffer.len() - left);
            buffer.shrink();
            assert_eq!(buffer.bytes(), vec![7; left]);
            assert!(buffer.memory() <= 4 * left, "{}", buffer.memory());
        }
        buffer.take(buffer.len());
        for size in [1 << 20, 100] {
            buffer.append(&vec![0; size]);
            buffer.take(size);
            buffer.shrink();
            assert_eq!(buffer.memory(), 0);
            assert!(buffer.bytes.capacity() <= IDLE_BUFFER_BYTES);
        }
    }
}
