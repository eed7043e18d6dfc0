//! Encrypted bytes that wait, in memory that a worker's busy connections take turns with.

use std::cell::RefCell;

/// Spares of one worker: a relay over one session uses up to two at once.
const SPARES: usize = 4;
/// Larger memory is given back to the allocator: spares may cost 4 MiB per worker at most. What
/// waits to be sent grows to 400 KiB, for which a vector takes up to twice as much.
const LARGEST_SPARE: usize = 1024 * 1024;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A queue of bytes in one piece. Its memory stays initialised, so that it is not cleared again
/// for each use; it owns none while it is idle.
#[derive(Debug, Default)]
pub(super) struct Window {
    memory: Vec<u8>,
    start: usize,
    end: usize,
}

impl Window {
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(super) fn filled(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    pub(super) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.end]
    }

    /// Room for exactly `wanted` bytes behind those that are filled; [`Window::fill`] keeps them.
    pub(super) fn room(&mut self, wanted: usize) -> &mut [u8] {
        if self.memory.is_empty() {
            self.memory = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        }
        if self.memory.len() - self.end < wanted {
            self.memory.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.len());
        }
        let needed = self.end + wanted;
        if self.memory.len() < needed {
            self.memory.resize(needed, 0);
        }
        &mut self.memory[self.end..needed]
    }

    /// Takes in the first `count` bytes of the room that was asked for last.
    pub(super) fn fill(&mut self, count: usize) {
        debug_assert!(self.end + count <= self.memory.len());
        self.end += count;
    }

    /// Drops `count` bytes at the front.
    pub(super) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len());
        self.start += count;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Leaves an empty window without memory; the memory is kept for the next that needs some.
    pub(super) fn rest(&mut self) {
        if !self.is_empty() || self.memory.is_empty() {
            return;
        }
        let spare = std::mem::take(&mut self.memory);
        if spare.capacity() > LARGEST_SPARE {
            return;
        }
        SPARE.with_borrow_mut(|spares| {
            if spares.len() < SPARES {
                spares.push(spare);
            }
        });
    }

    #[cfg(test)]
    pub(super) fn owns_memory(&self) -> bool {
        !self.memory.is_empty()
    }
}
