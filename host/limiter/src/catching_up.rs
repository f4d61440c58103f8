//! How counters come under a new book: when they are next used; and those that are not used, page by page, soon after.
//!
//! A change of the book looks at no counter, so that it costs what is changed, not what is live. But a smooth rate drains at the
//! pace that was in force at each instant: a shard remembers the last changes and their times for it. What is written down for a
//! restart must know that pace too: so a shard that keeps a journal walks through its counters once after each change, a page at a
//! time, and lets those that have a smooth rate catch up.

use crate::counter::Counter;
use crate::name::CounterKind;
use crate::pages::Pages;
use crate::shard::{Shard, Timer};
use std::sync::Arc;

/// Nanoseconds from one page to the next, so that the shard is free for others in between: a millisecond.
const STEP: u64 = 1_000_000;

/// How many changes of the book a shard remembers, for counters that have not been looked at since.
const KNOWN_CHANGES: usize = 16;

/// How many rules the books that it remembers may have together; the books are the same ones in all shards.
const KNOWN_RULES: usize = 200_000;

/// Where the walk is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Walk {
    /// The page to look at next, if it is under way; then a timer is set.
    next: Option<usize>,
    /// The book has changed since it began: once more.
    again: bool,
}

impl Shard {
    /// Notes when the book in force came to be so, and sets out to look at every counter where that must be written down.
    pub(crate) fn note_change(&mut self, now: u64) {
        let mut rules = self.book.len() + self.changes.iter().map(|(book, _)| book.len()).sum::<usize>();
        while self.changes.len() == KNOWN_CHANGES || rules > KNOWN_RULES {
            let Some((book, _)) = self.changes.pop_front() else { break };
            (self.forgotten, rules) = (book.version(), rules - book.len());
        }
        self.changes.push_back((Arc::clone(&self.book), now));
        if self.journal.is_some() {
            if self.walk.next.is_some() {
                self.walk.again = true;
            } else if !self.counters.is_empty() {
                self.walk.next = Some(0);
                self.set_timer(now.saturating_add(STEP), Timer::CatchUp);
            }
        }
    }

    /// Looks at the next page of counters.
    pub(crate) fn walk(&mut self, now: u64) {
        let Some(page) = self.walk.next else { return };
        let behind = |counter: &Counter| {
            counter.book_version != self.book.version()
                && counter.kind != CounterKind::Inline
                && counter.histories.has_smooth()
        };
        let slots: Vec<u32> =
            Pages::<Counter>::slots(page).filter(|slot| self.counters.get(*slot).is_some_and(behind)).collect();
        for slot in slots {
            self.refresh(slot);
        }
        self.walk.next = if page + 1 < self.counters.pages() {
            Some(page + 1)
        } else {
            // Where the book changes all the time it goes round and round.
            std::mem::take(&mut self.walk.again).then_some(0)
        };
        if self.walk.next.is_some() {
            self.set_timer(now.saturating_add(STEP), Timer::CatchUp);
        }
    }

    /// Puts a counter under the book in force.
    #[inline]
    pub(crate) fn refresh(&mut self, slot: u32) {
        if self.counters[slot].book_version != self.book.version() {
            self.catch_up(slot);
        }
    }

    /// Each book that a counter has not seen has its time, and smooth rates their pace in it. Of the time of books that are not
    /// known any more nothing has drained.
    #[cold]
    fn catch_up(&mut self, slot: u32) {
        let counter = &mut self.counters[slot];
        let seen = counter.book_version;
        if counter.kind != CounterKind::Inline && counter.histories.has_smooth() {
            if seen < self.forgotten
                && let Some((_, known_from)) = self.changes.front()
            {
                counter.histories.stand_still(counter.last_used, *known_from);
            }
            let mut paces_changed = false;
            for (book, at) in self.changes.iter().filter(|(book, _)| book.version() > seen) {
                paces_changed |= counter.refresh(book, *at);
            }
            // Until now it has drained as it should.
            let now = self.now;
            let counter = &mut self.counters[slot];
            counter.last_used = counter.last_used.max(now);
            if paces_changed {
                self.record_paces(slot);
            }
        }
        let counter = &mut self.counters[slot];
        if counter.book_version != self.book.version() {
            counter.refresh(&self.book, self.now);
        }
    }
}
