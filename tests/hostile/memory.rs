//! Counts the memory that a piece of work takes, for each thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting.
pub struct Counting;

/// What a piece of work took.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// The most that it had at a time.
    pub peak: usize,
    /// All that it asked for.
    pub total: usize,
}

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
    static TOTAL: Cell<usize> = const { Cell::new(0) };
}

/// Runs something and tells what memory it took in this thread. SQLite's own memory, which does not come
/// from here, is not counted.
pub fn while_running(work: impl FnOnce()) -> Used {
    let before = NOW.get();
    PEAK.set(before);
    TOTAL.set(0);
    work();
    Used {
        peak: PEAK.get().saturating_sub(before),
        total: TOTAL.get(),
    }
}

fn more(bytes: usize) {
    // It may be that a thread frees what another one has made.
    NOW.set(NOW.get().saturating_add(bytes));
    TOTAL.set(TOTAL.get().saturating_add(bytes));
    PEAK.set(PEAK.get().max(NOW.get()));
}

fn less(bytes: usize) {
    NOW.set(NOW.get().saturating_sub(bytes));
}

// SAFETY: all is done by the system's allocator, with what came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        less(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        less(layout.size());
        more(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
