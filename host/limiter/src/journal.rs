//! What must survive the process, as records in the order in which it happened.
//!
//! A shard keeps a journal if it was told to. A step adds to it under the shard's lock, and whoever made the step takes
//! the records along and writes them down; a grant that has [`Grant::recorded`] is told to nobody before they are
//! written. Where an end is lost, the lease lives on until its lease time.
//!
//! # What is recorded
//! - Of timed leases: grant, extension, settling, end. Held leases die with the process, and are not.
//! - Of rates: every start. Starts of timed leases are recorded one by one, to the nanosecond. Those of held leases are
//!   booked ahead, in *blocks* of a sixteenth of the limit, so that one start in so many waits for the disk, and under a smooth rate of
//!   no more than a second lets in, since what is booked there closes it. When the limit is lowered, a block that is too large for it ends
//!   with the next start; when the engine ends in order, all do. A block that
//!   was open counts as used after a restart, at the instant of the restart, and the starts of a block that is used up count as
//!   made at the last of them: never over, and under by less than two blocks.
//! - What an operator or a pushback has said of a counter.
//!
//! Worked example, 160 a minute, held leases: the first start books ten units, and is written down. The next nine are
//! not. The eleventh writes that nine more were started when the tenth was, and one now, and books the next nine. A process that
//! is killed then and comes back one second later has 9 units more at its return.
//!
//! [`Grant::recorded`]: crate::Grant::recorded

use crate::acquire::units;
use crate::counter::Counter;
use crate::history::Touched;
use crate::limits::{Counts, Limits, Mode};
use crate::name::CounterKind;
use crate::operator::HandState;
use crate::refusal::Ended;
use crate::request::{Inline, Request};
use crate::shard::Shard;
use hashbrown::HashMap;
use smallvec::SmallVec;
use std::num::NonZeroU32;
use std::sync::Arc;

/// A held start books this fraction of a limit ahead.
const BLOCKS: u32 = 16;
/// And under a smooth rate no more than drains in so many nanoseconds.
const MOST_AHEAD: u64 = 1_000_000_000;

/// Which history of a counter: one for each mode, period and counting, and at an inline key for each pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RateKind {
    /// Window or smooth.
    pub mode: Mode,
    /// The period in nanoseconds.
    pub period: u64,
    /// Calls or cost.
    pub counts: Counts,
    /// Nanoseconds between units of a smooth rate at an inline key. 0 everywhere else: it goes at one pace at a time.
    pub pace: u64,
}

/// How a smooth rate stands: when its next unit would be on time, at so many nanoseconds a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SmoothState {
    /// In the engine's nanoseconds; 0: never used.
    pub arrival: u64,
    /// Nanoseconds between units, not 0.
    pub interval: u64,
    /// Units that come later still: an arrival is at most two hundred years ahead.
    pub beyond: u64,
}

/// Something that must survive.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A timed lease was granted.
    Granted(Box<GrantedLease>),
    /// A timed lease lasts until another instant.
    Extended {
        /// Its id's secret.
        secret: u128,
        /// When it ends.
        ends_at: u64,
    },
    /// A timed lease costs something else than what was asked for.
    Settled {
        /// Its id's secret.
        secret: u128,
        /// What it costs.
        cost: u32,
    },
    /// A timed lease has ended.
    Ended {
        /// Its id's secret.
        secret: u128,
        /// How.
        how: Ended,
        /// When.
        at: u64,
    },
    /// Units were started under a rate, or booked ahead.
    Started {
        /// The counter.
        counter: String,
        /// Under which rate.
        kind: RateKind,
        /// When.
        at: u64,
        /// How many, of a window.
        units: u64,
        /// How a smooth rate stands now.
        smooth: Option<SmoothState>,
        /// What is booked ahead from now on; absent: as before.
        booked: Option<u32>,
    },
    /// Units were taken back from a start; or none, and a smooth rate has come to another pace.
    Refunded {
        /// The counter.
        counter: String,
        /// Of which rate.
        kind: RateKind,
        /// When they had started.
        at: u64,
        /// How many, of a window.
        units: u64,
        /// How a smooth rate stands now.
        smooth: Option<SmoothState>,
    },
    /// What an operator or a pushback says of a counter.
    Hand {
        /// The counter.
        counter: String,
        /// What.
        hand: HandState,
    },
    /// Nothing of what a counter has started counts any more.
    Forgotten {
        /// The counter.
        counter: String,
    },
}

/// A timed lease as it must survive.
#[derive(Debug, Clone, PartialEq)]
pub struct GrantedLease {
    /// The secret of its id.
    pub secret: u128,
    /// The shard of its id.
    pub shard: u16,
    /// Its fencing number.
    pub fence: u64,
    /// What was asked for; of a batch, all of its leases have the same.
    pub request: Request,
    /// What it costs, where that was said since.
    pub settled: Option<u32>,
    /// When it was granted.
    pub granted_at: u64,
    /// When it ends unless it is extended.
    pub ends_at: u64,
}

/// What held leases have started since that was last written down, and what is booked ahead.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    unsaved: u32,
    /// When the last of them was started.
    last: u64,
    open: u32,
}

impl Block {
    /// Whether so many units can be taken out of it, where a new one would have this size.
    fn has(&self, units: u32, size: u32) -> bool {
        units <= self.open && self.open <= size
    }

    /// Whether the starts that were taken out of it are to be written down. How a smooth rate stands says it all, and what has left the
    /// window says nothing, but would lie where later ones do.
    fn counts(&self, kind: RateKind, now: u64) -> bool {
        kind.mode == Mode::Window && self.last.saturating_add(kind.period) > now
    }
}

/// How many units are booked ahead for a history of a rate with this limit.
fn block_size(touched: &Touched, limit: NonZeroU32) -> u32 {
    let most = touched.smooth.map_or(u64::MAX, |smooth| MOST_AHEAD / smooth.interval.max(1));
    (limit.get() / BLOCKS).min(u32::try_from(most).unwrap_or(u32::MAX)).max(1)
}

/// The histories of which a start at a counter is recorded, and how many units.
fn recorded(counter: &Counter, limits: &Limits, start: (u32, u32)) -> impl Iterator<Item = (Touched, u32)> {
    counter.touched(limits).filter_map(move |touched| {
        let units = units(touched.kind.counts, start);
        let is_recorded = units > 0 && (touched.limit.is_some() || counter.kind == CounterKind::Inline);
        is_recorded.then_some((touched, units))
    })
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Journal {
    records: Vec<Record>,
    /// Whether a start was taken out of a block since that was last asked.
    drawn: bool,
    /// Nothing can be written for now.
    unwritable: bool,
    /// By counter, then by history. Those of small limits book nothing ahead, and have none.
    blocks: HashMap<u32, SmallVec<[(u32, Block); 1]>>,
}

impl Journal {
    fn started(
        &mut self,
        slot: u32,
        counter: &str,
        touched: &Touched,
        now: u64,
        units: u32,
        ahead_of: Option<NonZeroU32>,
    ) {
        let mut started = |at: u64, units: u32, booked| {
            self.records.push(Record::Started {
                counter: counter.to_owned(),
                kind: touched.kind,
                at,
                units: u64::from(units),
                smooth: touched.smooth,
                booked,
            });
        };
        let Some(limit) = ahead_of else { return started(now, units, None) };
        let blocks = self.blocks.entry(slot).or_default();
        let index = blocks.iter().position(|(history, _)| *history == touched.id).unwrap_or_else(|| {
            blocks.push((touched.id, Block::default()));
            blocks.len() - 1
        });
        let block = &mut blocks[index].1;
        let size = block_size(touched, limit);
        if block.has(units, size) {
            block.open -= units;
            block.unsaved += units;
            block.last = now;
            self.drawn = true;
            return;
        }
        let size = size.max(units);
        if block.counts(touched.kind, now) && block.unsaved > 0 {
            started(block.last, block.unsaved, None);
        }
        started(now, units, Some(size - units));
        *block = Block { open: size - units, ..Block::default() };
        if block.open == 0 {
            blocks.swap_remove(index);
        }
        if blocks.is_empty() {
            self.blocks.remove(&slot);
        }
    }

    /// Whether units of a history can be taken out of a block that is open.
    fn has_open(&self, slot: u32, touched: &Touched, units: u32) -> bool {
        let Some(limit) = touched.limit else { return false };
        let mut blocks = self.blocks.get(&slot).into_iter().flatten();
        blocks.any(|(history, block)| *history == touched.id && block.has(units, block_size(touched, limit)))
    }

    /// Counts what was booked ahead when the process ended as started, and to be written down with the next block.
    pub(crate) fn reopened(&mut self, slot: u32, history: u32, booked: u32, now: u64) {
        self.blocks.entry(slot).or_default().push((history, Block { unsaved: booked, last: now, open: 0 }));
    }
}

impl Shard {
    /// Keeps a journal from now on.
    pub fn keep_journal(&mut self) {
        self.journal.get_or_insert_default();
    }

    /// Whether something was recorded that nobody has taken yet.
    #[inline]
    #[must_use]
    pub fn has_records(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| !journal.records.is_empty())
    }

    /// Says whether anything can be written for now. What would have to be is refused as [`crate::Reason::Unavailable`] if not, and
    /// starts nothing.
    #[inline]
    pub fn set_unwritable(&mut self, unwritable: bool) {
        if let Some(journal) = &mut self.journal {
            journal.unwritable = unwritable;
        }
    }

    /// Whether nothing can be written for now.
    #[inline]
    pub(crate) fn is_unwritable(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.unwritable)
    }

    /// Whether a start of a held lease at one counter would have to be written.
    pub(crate) fn would_record(&self, slot: u32, own: Option<&Arc<Inline>>, start: (u32, u32)) -> bool {
        let (Some(journal), counter) = (&self.journal, &self.counters[slot]) else { return false };
        let Some(limits) = Counter::limits(counter.rule.as_ref(), own) else { return false };
        // A rate that has no history yet begins one.
        limits.rates.iter().any(|rate| units(rate.counts, start) > 0 && !counter.histories.knows(rate))
            || recorded(counter, limits, start).any(|(touched, units)| !journal.has_open(slot, &touched, units))
    }

    /// Writes down what was started out of every open block, and books nothing ahead any more: the engine ends in order.
    pub fn close_blocks(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        for (slot, blocks) in std::mem::take(&mut journal.blocks) {
            let Some(counter) = self.counters.get(slot) else { continue };
            for touched in counter.touched(&Limits::default()) {
                let Some((_, block)) = blocks.iter().find(|(history, _)| *history == touched.id) else { continue };
                let counts = block.counts(touched.kind, self.now);
                journal.records.push(Record::Started {
                    counter: counter.name.to_string(),
                    kind: touched.kind,
                    at: if counts { block.last } else { self.now },
                    units: if counts { u64::from(block.unsaved) } else { 0 },
                    smooth: touched.smooth,
                    booked: Some(0),
                });
            }
        }
    }

    /// Whether a start was taken out of a block since this was last asked: no record says so, and it is worth no more than the one that
    /// has booked the block.
    pub fn take_drawn(&mut self) -> bool {
        self.journal.as_mut().is_some_and(|journal| std::mem::take(&mut journal.drawn))
    }

    /// Takes what was recorded since, in order.
    pub fn take_records(&mut self) -> Vec<Record> {
        self.journal.as_mut().map(|journal| std::mem::take(&mut journal.records)).unwrap_or_default()
    }

    /// Records something, if a journal is kept.
    #[inline]
    pub(crate) fn record(&mut self, record: impl FnOnce() -> Record) {
        if let Some(journal) = &mut self.journal {
            journal.records.push(record());
        }
    }

    /// Records the starts that a grant or an overrun has just made at one counter.
    #[cold]
    pub(crate) fn record_starts(
        &mut self,
        slot: u32,
        own: Option<&Arc<Inline>>,
        start: (u32, u32),
        now: u64,
        timed: bool,
    ) {
        let (Some(journal), counter) = (&mut self.journal, &self.counters[slot]) else { return };
        let none = Limits::default();
        let limits = Counter::limits(counter.rule.as_ref(), own).unwrap_or(&none);
        for (touched, units) in recorded(counter, limits, start) {
            let ahead_of = touched.limit.filter(|_| !timed);
            journal.started(slot, &counter.name, &touched, now, units, ahead_of);
        }
    }

    /// Records that units were taken back from starts at one counter.
    pub(crate) fn record_refunds(&mut self, slot: u32, taken: &[(u32, u64, u64)]) {
        let (Some(journal), counter) = (&mut self.journal, &self.counters[slot]) else { return };
        for (history, at, units) in taken.iter().filter(|(.., units)| *units > 0) {
            let none = Limits::default();
            let Some(touched) = counter.touched(&none).find(|touched| touched.id == *history) else {
                continue;
            };
            journal.records.push(Record::Refunded {
                counter: counter.name.to_string(),
                kind: touched.kind,
                at: *at,
                units: *units,
                smooth: touched.smooth,
            });
        }
    }

    /// Records how the smooth histories of a counter stand at their new pace.
    #[cold]
    pub(crate) fn record_paces(&mut self, slot: u32) {
        let (Some(journal), counter) = (&mut self.journal, &self.counters[slot]) else { return };
        for touched in counter.touched(&Limits::default()).filter(|touched| touched.smooth.is_some()) {
            let (counter, Touched { kind, smooth, .. }) = (counter.name.to_string(), touched);
            journal.records.push(Record::Refunded { counter, kind, at: 0, units: 0, smooth });
        }
    }

    /// Records that the histories of a counter are gone.
    pub(crate) fn record_forgotten(&mut self, slot: u32) {
        let (Some(journal), counter) = (&mut self.journal, &self.counters[slot]) else { return };
        journal.blocks.remove(&slot);
        if !counter.histories.is_empty() {
            journal.records.push(Record::Forgotten { counter: counter.name.to_string() });
        }
    }

    /// Records what an operator or a pushback says of a counter now.
    pub(crate) fn record_hand(&mut self, slot: u32) {
        let (Some(journal), counter) = (&mut self.journal, &self.counters[slot]) else { return };
        let hand = counter.rare.as_ref().map(|rare| rare.hand.state()).unwrap_or_default();
        journal.records.push(Record::Hand { counter: counter.name.to_string(), hand });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::Placement;
    use crate::shard::ShardLimits;

    #[test]
    fn a_journal_of_nothing_has_nothing_and_nothing_was_taken_of_it() {
        let mut shard = Shard::new(0, Placement::fixed(1), ShardLimits::default());
        for _ in 0..2 {
            assert!(!shard.has_records() && !shard.take_drawn() && !shard.is_unwritable());
            shard.keep_journal();
        }
        shard.record(|| Record::Forgotten { counter: "s".to_owned() });
        assert!(shard.has_records() && shard.take_records().len() == 1 && !shard.has_records());
        shard.set_unwritable(true);
        assert!(shard.is_unwritable());
    }
}
