//! Buffers that a worker's busy connections take turns with, so that idle ones own none, and how
//! much they read at once.

use std::cell::RefCell;

use bytes::BytesMut;

/// Spares of one worker: a relay over one session uses up to four at once.
const SPARES: usize = 4;
/// A larger buffer is given back to the allocator: spares may cost 2 MiB per worker at most.
const LARGEST_SPARE: usize = 512 * 1024;

thread_local! {
    static SPARE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer, perhaps with memory that was used before.
pub(crate) fn take() -> BytesMut {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Leaves `buffer` empty and without memory; the memory is kept for the next who needs some.
pub(crate) fn give_back(buffer: &mut BytesMut) {
    let mut spare = std::mem::take(buffer);
    spare.clear();
    if spare.capacity() == 0 || spare.capacity() > LARGEST_SPARE {
        return;
    }
    SPARE.with_borrow_mut(|spares| {
        if spares.len() < SPARES {
            spares.push(spare);
        }
    });
}

/// How much a connection asks the socket for at once: as much as it lately brought.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadSize {
    next: usize,
    smallest: usize,
    largest: usize,
}

impl ReadSize {
    /// Starts with the smallest.
    pub(crate) const fn between(smallest: usize, largest: usize) -> Self {
        Self {
            next: smallest,
            smallest,
            largest,
        }
    }

    pub(crate) fn next(self) -> usize {
        self.next
    }

    /// Grows after a read that filled the buffer, shrinks after one that used a fraction of it.
    pub(crate) fn adapt(&mut self, count: usize) {
        if count >= self.next {
            self.next = (self.next * 4).min(self.largest);
        } else if count < self.next / 8 {
            self.next = (self.next / 2).max(self.smallest);
        }
    }
}
