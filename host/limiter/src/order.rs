//! The order in which waiters are served. This file, and no other, decides who is next.
//!
//! # Lines
//! Waiters with equal targets, priority and fairness key form a *line*. Inside a line it is first come, first served:
//! nobody overtakes, and a large cost at the head holds back the line, and only the line. A line is *parked* at one
//! counter that stands in the way of its head; when that one frees up, the head is looked at whole: it is granted, stays,
//! or the line moves to another counter that blocks it. The waitlist of a counter holds the lines parked there.
//!
//! # Between lines
//! 1. Priority, highest first. A class that was passed over for [`PATIENCE`] has its first line looked at before all
//!    others.
//! 2. Weighted fairness between fairness keys, by start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): a key's
//!    next unit of work has a start tag, a grant moves it on by `units / weight`, and the lowest tag is next. A key that
//!    joins starts at the tag served last, so that it neither owes nor owns the time before. Per round between two keys
//!    that both wait all the time, the lag behind the ideal share is at most one largest cost.
//! 3. Arrival.
//!
//! Worked example: `a` (weight 3) and `b` (weight 1) wait with calls of cost 1 for a counter that serves one at a time.
//! Tags move on by 1/3 and by 1: the grants are a b a a a b a a a b ...
//!
//! # Barriers
//! What fits is granted: the order chooses among those that fit, and a large or wide request could be passed forever by
//! small ones. So the first in the order of each counter counts who passes it, and a line that moves on counts what it
//! leaves to others; after [`MAX_PASSES`] the head raises a *barrier* at the counters it needs, and later tickets stop
//! there until it has gone. A barrier holds no capacity, and lets lower
//! tickets by, so that barriers form no cycle.
//!
//! # Bounds
//! Joining, leaving and moving a line, and finding the next that fits where each needs the same: O(log lines). A line that
//! does not fit costs one look at its counter whenever that one frees up.

use crate::request::{Inline, Line, WaiterId};
use hashbrown::HashMap;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How long a class of priority is passed over before its first line goes before all others: 10 s.
pub const PATIENCE: u64 = 10_000_000_000;
/// How often the first in the order of a counter is passed before it raises a barrier.
pub const MAX_PASSES: u32 = 64;

/// Start tags are units divided by weight, times this: fine enough that rounding by weights up to 1,000 stays under a
/// thousandth of a unit.
const TAG_UNIT: u128 = 1 << 20;
/// How many keys that have left are remembered by their tag while it is ahead of the others. Past it the one least ahead
/// is forgotten, which forgives it at most what it is ahead.
const MAX_REMEMBERED: usize = 1_024;

/// A line parked at a counter, by its head. At a pool over several scopes, heads of different shards may have the same
/// ticket: only with their shards are they told apart.
#[derive(Debug, Clone)]
pub(crate) struct Parked {
    pub(crate) line: Arc<Line>,
    /// The head.
    pub(crate) head: WaiterId,
    /// What the head needs here at least: calls and cost.
    pub(crate) calls: u32,
    pub(crate) cost: u32,
    /// How many wait in the line.
    pub(crate) waiters: usize,
    /// How often its head was passed, while it was the first somewhere or by moving away from what was free.
    pub(crate) passes: u32,
    /// The numbers it has brought along for the counter, if that is an inline key.
    pub(crate) own: Option<Arc<Inline>>,
}

/// The lines parked at one counter. Empty, it takes no memory but its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waitlist {
    /// By priority, highest first.
    classes: BTreeMap<Reverse<u8>, Class>,
    /// Where each line stands: its class, its key, and its head's ticket.
    places: HashMap<Arc<Line>, WaiterId>,
    waiters: usize,
    /// How many lines need so much cost here.
    costs: BTreeMap<u32, usize>,
    /// Lines that need no call here, because they ride on one.
    riding: usize,
}

/// The lines of one priority.
#[derive(Debug, Clone, Default)]
struct Class {
    shares: HashMap<Arc<str>, Share>,
    /// The keys that wait, by start tag and the ticket of their first line.
    order: BTreeMap<(u128, WaiterId), Arc<str>>,
    /// The tag served last.
    served: u128,
    /// Keys that have left, with the tag at which they would go on, as long as that is ahead of the others.
    ahead: HashMap<Arc<str>, u128>,
    /// The same, by tag.
    ahead_in_order: BTreeSet<(u128, Arc<str>)>,
    /// Since when its first line is passed over.
    passed_since: u64,
}

/// The lines of one fairness key, in the order of their heads.
#[derive(Debug, Clone)]
struct Share {
    tag: u128,
    lines: BTreeMap<WaiterId, Parked>,
}

impl Share {
    fn place(&self) -> (u128, WaiterId) {
        (self.tag, self.lines.keys().next().copied().unwrap_or(WaiterId { ticket: 0, shard: 0 }))
    }
}

impl Waitlist {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiters
    }

    /// The least that any line needs here: calls and cost. Who cannot admit that admits nobody.
    pub(crate) fn least(&self) -> Option<(u32, u32)> {
        let (cost, _) = self.costs.first_key_value()?;
        Some((u32::from(self.riding == 0), *cost))
    }

    /// Parks a line.
    pub(crate) fn park(&mut self, parked: Parked, now: u64) {
        self.count(&parked);
        self.places.insert(Arc::clone(&parked.line), parked.head);
        let class = self.classes.entry(Reverse(parked.line.priority)).or_default();
        if class.shares.is_empty() {
            class.passed_since = now;
        }
        class.park(parked);
    }

    /// Takes a line away, wherever it stands.
    pub(crate) fn take(&mut self, line: &Line) -> Option<Parked> {
        let head = self.places.remove(line)?;
        let class = self.classes.get_mut(&Reverse(line.priority))?;
        let parked = class.take(line, head)?;
        if class.shares.is_empty() {
            self.classes.remove(&Reverse(line.priority));
        }
        self.uncount(&parked);
        if self.places.is_empty() && self.places.capacity() > 64 {
            self.places.shrink_to_fit();
        }
        Some(parked)
    }

    /// A line, as it is parked here.
    pub(crate) fn get(&self, line: &Line) -> Option<&Parked> {
        let head = self.places.get(line)?;
        self.classes.get(&Reverse(line.priority))?.shares.get(&line.share)?.lines.get(head)
    }

    fn get_mut(&mut self, line: &Line) -> Option<&mut Parked> {
        let head = self.places.get(line)?;
        self.classes.get_mut(&Reverse(line.priority))?.shares.get_mut(&line.share)?.lines.get_mut(head)
    }

    /// One more waits in a line that is parked here, behind its head.
    pub(crate) fn joined(&mut self, line: &Line) {
        if let Some(parked) = self.get_mut(line) {
            parked.waiters += 1;
        }
        self.waiters += 1;
    }

    /// One less waits in a line that is parked here; its head stays.
    pub(crate) fn left(&mut self, line: &Line) {
        if let Some(parked) = self.get_mut(line) {
            parked.waiters -= 1;
        }
        self.waiters -= 1;
    }

    /// Moves the key of a line on, because its head was served here.
    pub(crate) fn served(&mut self, line: &Line, units: u32, now: u64) {
        let Some(class) = self.classes.get_mut(&Reverse(line.priority)) else { return };
        class.passed_since = now;
        class.served(line, units);
    }

    /// Everybody, in the order in which they are to be looked at.
    pub(crate) fn in_order(&self, now: u64) -> impl Iterator<Item = &Parked> {
        let overdue = |class: &Class| now.saturating_sub(class.passed_since) >= PATIENCE;
        // The one that is overdue the longest, once; then all by priority.
        let several = self.classes.len() > 1;
        let overdue = self.classes.values().filter(|class| several && overdue(class));
        let first = overdue.min_by_key(|class| class.passed_since).and_then(|class| class.in_order().next());
        let rest = self.classes.values().flat_map(Class::in_order);
        first.into_iter().chain(rest.filter(move |parked| first.is_none_or(|first| first.head != parked.head)))
    }

    /// Somebody with this ticket (a newcomer: the end of numbers) is granted at this counter: who is first here is
    /// passed if it came earlier. Answers who, when it was so once too often.
    pub(crate) fn passed(&mut self, ticket: u64, now: u64) -> Option<Parked> {
        let line = {
            let first = self.in_order(now).next().filter(|first| first.head.ticket < ticket)?;
            Arc::clone(&first.line)
        };
        let parked = self.get_mut(&line)?;
        parked.passes = parked.passes.saturating_add(1);
        (parked.passes == MAX_PASSES).then(|| parked.clone())
    }

    /// How many stand before a newcomer to this line, or to none that is here; or before the head of it.
    ///
    /// O(lines): for those that ask, and those that are refused.
    pub(crate) fn before(&self, line: Option<&Line>, newcomer: bool, now: u64) -> usize {
        let Some(own) = line.and_then(|line| self.get(line)) else { return self.len() };
        let earlier = self.in_order(now).take_while(|parked| parked.line != own.line).map(|parked| parked.waiters);
        earlier.sum::<usize>() + if newcomer { own.waiters } else { 0 }
    }

    fn count(&mut self, parked: &Parked) {
        self.waiters += parked.waiters;
        self.riding += usize::from(parked.calls == 0);
        *self.costs.entry(parked.cost).or_default() += 1;
    }

    fn uncount(&mut self, parked: &Parked) {
        self.waiters -= parked.waiters;
        self.riding -= usize::from(parked.calls == 0);
        if let Some(lines) = self.costs.get_mut(&parked.cost) {
            *lines -= 1;
            if *lines == 0 {
                self.costs.remove(&parked.cost);
            }
        }
    }
}

impl Class {
    fn park(&mut self, parked: Parked) {
        let key = Arc::clone(&parked.line.share);
        let tag = match self.shares.get(&key) {
            Some(share) => {
                self.order.remove(&share.place());
                share.tag
            }
            None => self.recall(&key).max(self.served),
        };
        let share = self.shares.entry(Arc::clone(&key)).or_insert_with(|| Share { tag, lines: BTreeMap::new() });
        share.lines.insert(parked.head, parked);
        self.order.insert(share.place(), key);
    }

    fn take(&mut self, line: &Line, head: WaiterId) -> Option<Parked> {
        let share = self.shares.get_mut(&line.share)?;
        self.order.remove(&share.place());
        let parked = share.lines.remove(&head);
        if share.lines.is_empty() {
            let tag = share.tag;
            self.shares.remove(&line.share);
            self.remember(&line.share, tag);
        } else {
            self.order.insert(share.place(), Arc::clone(&line.share));
        }
        parked
    }

    fn served(&mut self, line: &Line, units: u32) {
        let step = u128::from(units) * TAG_UNIT / u128::from(line.weight.get());
        // It is still parked while its head is served.
        let Some(share) = self.shares.get_mut(&line.share) else { return };
        self.order.remove(&share.place());
        self.served = self.served.max(share.tag);
        share.tag += step;
        self.order.insert(share.place(), Arc::clone(&line.share));
        let served = self.served;
        while self.ahead_in_order.first().is_some_and(|(tag, _)| *tag <= served) {
            self.forget_first();
        }
    }

    /// The tag at which a key left, if it was ahead of the others.
    fn recall(&mut self, key: &Arc<str>) -> u128 {
        let Some(tag) = self.ahead.remove(key) else { return 0 };
        self.ahead_in_order.remove(&(tag, Arc::clone(key)));
        tag
    }

    fn remember(&mut self, key: &Arc<str>, tag: u128) {
        if tag > self.served {
            self.ahead.insert(Arc::clone(key), tag);
            self.ahead_in_order.insert((tag, Arc::clone(key)));
            if self.ahead.len() > MAX_REMEMBERED {
                self.forget_first();
            }
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, key)) = self.ahead_in_order.pop_first() {
            self.ahead.remove(&key);
        }
    }

    fn in_order(&self) -> impl Iterator<Item = &Parked> {
        self.order.values().filter_map(|key| self.shares.get(key)).flat_map(|share| share.lines.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU16;

    fn parked(key: &str, ticket: u64) -> Parked {
        let request = crate::Request::new("s".parse().unwrap()).fairness(key, NonZeroU16::MIN).unwrap();
        let head = WaiterId { ticket, shard: 0 };
        Parked { line: Arc::new(request.line(0)), head, calls: 1, cost: 1, waiters: 1, passes: 0, own: None }
    }

    #[test]
    fn keys_that_left_ahead_are_remembered_up_to_a_bound_and_forgotten_when_the_others_are_there() {
        let mut waitlist = Waitlist::default();
        // One stays, so that the class does, and is served last of all.
        waitlist.park(parked("stays", 1), 0);
        let ahead = |waitlist: &Waitlist| waitlist.classes.values().map(|class| class.ahead.len()).sum::<usize>();
        for n in 0..MAX_REMEMBERED + 10 {
            let other = parked(&format!("k{n}"), 2 + n as u64);
            waitlist.park(other.clone(), 0);
            // The later ones are further ahead: it is the first that are forgotten.
            waitlist.served(&other.line, 2 + n as u32, 0);
            assert_eq!(waitlist.take(&other.line).map(|taken| taken.head), Some(other.head));
            assert_eq!(ahead(&waitlist), (n + 1).min(MAX_REMEMBERED));
        }
        let class = waitlist.classes.values().next().unwrap();
        assert!(class.ahead.contains_key("k10") && !class.ahead.contains_key("k9"));
        assert_eq!(class.ahead_in_order.len(), MAX_REMEMBERED);
        // Served until it is as far as they are: nobody is ahead any more.
        let stays = parked("stays", 1).line;
        waitlist.served(&stays, 500, 0);
        waitlist.served(&stays, 1, 0);
        assert_eq!(ahead(&waitlist), MAX_REMEMBERED + 10 - 499);
        waitlist.served(&stays, 100_000, 0);
        waitlist.served(&stays, 1, 0);
        assert_eq!(ahead(&waitlist), 0);
        assert!(waitlist.take(&stays).is_some() && waitlist.is_empty());
        assert_eq!(waitlist.waiters, 0);
    }

    #[test]
    fn the_least_that_anybody_needs_is_known() {
        let mut waitlist = Waitlist::default();
        assert_eq!(waitlist.least(), None);
        let needing = |key: &str, calls, cost| Parked { calls, cost, ..parked(key, u64::from(cost)) };
        let all = [needing("a", 1, 5), needing("b", 1, 3), needing("c", 1, 3), needing("d", 0, 9)];
        let least: Vec<_> = all
            .iter()
            .map(|parked| {
                waitlist.park(parked.clone(), 0);
                waitlist.least().unwrap()
            })
            .collect();
        assert_eq!(least, [(1, 5), (1, 3), (1, 3), (0, 3)]);
        let least = all.iter().map(|parked| {
            waitlist.take(&parked.line);
            waitlist.least()
        });
        assert_eq!(least.collect::<Vec<_>>(), [Some((0, 3)), Some((0, 3)), Some((0, 9)), None]);
        assert_eq!(waitlist.riding, 0);
    }
}
