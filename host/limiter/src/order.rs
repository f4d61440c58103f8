//! The order in which waiters are served. This file, and no other, decides who is next.
//!
//! # Lines
//! Waiters with equal targets, priority and fairness key form a *line*. Inside a line it is first come, first served:
//! nobody overtakes, and a large cost at the head holds back the line, and only the line. A line is *parked* at one
//! counter that stands in the way of its head; when that one frees up, the head is looked at whole: it is granted, stays,
//! or the line moves to another counter that blocks it. Of several it is parked at the one that is closed, else at that which time
//! opens last, else at the first: where it waits for longest, so that it is in nobody's way elsewhere. The waitlist of a counter holds the
//! lines parked there.
//!
//! # Between lines
//! 1. Priority, highest first. Each class that was passed over for [`PATIENCE`] has its first line looked at before all
//!    others, that of the longest first.
//! 2. Weighted fairness between fairness keys, by start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): a key's
//!    next unit of work has a start tag, a grant moves it on by `units / weight`, and the lowest tag is next. A key that
//!    joins starts at the tag served last, or at the lowest that waits if what was served last was out of turn, so that it neither owes
//!    nor owns the time before. What is admitted at once while
//!    others wait moves its key on as well.
//! 3. Arrival.
//!
//! Worked example: `a` (weight 3) and `b` (weight 1) wait with calls of cost 1 for a counter that serves one at a time.
//! Tags move on by 1/3 and by 1: the grants are a b a a a b a a a b ...
//!
//! # What is owed
//! What is free may be too little for who is first, and enough for others: they pass it, up to a bound. Of a lower
//! priority nobody passes; of the same one a key passes until it has had a whole turn of the first more, in units by
//! weight ([`Waitlist::owed`]). Then what is free stays free until the first fits. So between keys that wait all the
//! time, whatever they cost, the lag behind the ideal share is at most a turn of each. Not held back is who names a
//! lease at that counter: the first waits for its holder. Nobody is held back where the first lacks nothing but has a
//! barrier before it.
//!
//! Worked example: ten units are held at once. `L` needs ten and `s` one, both with weight 1, and five are free. `s`
//! may take ten in all, as they come free; from then on all that ends is kept for `L`.
//!
//! # Barriers
//! A wide request that lacks one counter, then another, is first at neither for long, and its own key's other lines
//! pass it freely. So the first in the order of each counter counts who passes it, and a line that moves on counts what
//! it leaves to others; after [`MAX_PASSES`] the head raises a *barrier* at the counters it needs, and later tickets
//! stop there until it has gone. A barrier holds no capacity, and lets lower tickets by, so that barriers form no
//! cycle. It also lets by who names a lease that is on what its owner lacks: that is whom the owner waits for. What
//! a borrower does not take passes nobody. Whose owner lacks a rate stands where that rate is and nowhere else; whose owner's way is
//! closed stands nowhere. Whatever may change that has the owner asked again: a pushback, a start at a counter where it stands, an
//! operator, a change of rules.
//!
//! # Bounds
//! Joining, leaving and moving a line, and finding the next that fits where each needs the same: O(log lines). A line that
//! does not fit costs one look at its counter whenever that one frees up.

use crate::line::Line;
use crate::planted::{self, Bug};
use crate::request::{Inline, WaiterId};
use hashbrown::HashMap;
use slab::Slab;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
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
    /// Its number in the shard of its head.
    pub(crate) number: u32,
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
    /// Every line, by its place here.
    lines: Slab<Parked>,
    /// By priority, highest first.
    classes: BTreeMap<Reverse<u8>, Class>,
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
    /// The keys that wait, by start tag and the ticket of their first line; and its place.
    order: BTreeMap<(u128, WaiterId), (Arc<str>, u32)>,
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
    /// Their places, by their heads.
    lines: BTreeMap<WaiterId, u32>,
}

impl Share {
    /// Where it stands in the order of its class, and the place of its first line. It has one.
    fn first(&self) -> ((u128, WaiterId), u32) {
        let nobody = WaiterId { ticket: 0, shard: 0, slot: 0 };
        let (head, place) = self.lines.first_key_value().map_or((nobody, 0), |(head, place)| (*head, *place));
        ((self.tag, head), place)
    }
}

impl Waitlist {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
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

    /// Parks a line, and answers at which place.
    pub(crate) fn park(&mut self, parked: Parked, now: u64) -> u32 {
        self.waiters += parked.waiters;
        self.count((parked.calls, parked.cost));
        let (line, head) = (Arc::clone(&parked.line), parked.head);
        let place = self.lines.insert(parked) as u32;
        let class = self.classes.entry(Reverse(line.priority)).or_default();
        if class.shares.is_empty() {
            class.passed_since = now;
        }
        class.park(&line.share, head, place);
        place
    }

    /// Takes a line away, wherever it stands.
    pub(crate) fn take(&mut self, place: u32) -> Option<Parked> {
        let parked = self.lines.try_remove(place as usize)?;
        let priority = Reverse(parked.line.priority);
        if let Some(class) = self.classes.get_mut(&priority) {
            class.take(&parked.line.share, parked.head);
            if class.shares.is_empty() {
                self.classes.remove(&priority);
            }
        }
        self.waiters -= parked.waiters;
        self.uncount((parked.calls, parked.cost));
        if self.lines.is_empty() && self.lines.capacity() > 64 {
            self.lines = Slab::new();
        }
        Some(parked)
    }

    /// The head of a line has left it, and the next takes its place, which needs so much (calls and cost).
    pub(crate) fn advance(&mut self, place: u32, head: WaiterId, needs: (u32, u32)) {
        let Some(parked) = self.lines.get_mut(place as usize) else { return };
        let (before, had) = (std::mem::replace(&mut parked.head, head), (parked.calls, parked.cost));
        (parked.calls, parked.cost) = needs;
        parked.waiters -= 1;
        parked.passes = 0;
        self.waiters -= 1;
        if let Some(class) = self.classes.get_mut(&Reverse(parked.line.priority)) {
            class.advance(&parked.line.share, before, head);
        }
        if had != needs {
            self.count(needs);
            self.uncount(had);
        }
    }

    /// A line, by its place.
    pub(crate) fn get(&self, place: u32) -> Option<&Parked> {
        self.lines.get(place as usize)
    }

    /// Puts another in the place of a line: its own, with something more known of it.
    pub(crate) fn renew(&mut self, place: u32, line: Arc<Line>) {
        if let Some(parked) = self.lines.get_mut(place as usize) {
            parked.line = line;
        }
    }

    /// The place of a line, by its head.
    ///
    /// O(lines).
    pub(crate) fn find(&self, head: WaiterId) -> Option<u32> {
        self.lines.iter().find(|(_, parked)| parked.head == head).map(|(place, _)| place as u32)
    }

    /// One more waits in a line that is parked here, behind its head.
    pub(crate) fn joined(&mut self, place: u32) {
        if let Some(parked) = self.lines.get_mut(place as usize) {
            parked.waiters += 1;
            self.waiters += 1;
        }
    }

    /// One less waits in a line that is parked here; its head stays.
    pub(crate) fn left(&mut self, place: u32) {
        if let Some(parked) = self.lines.get_mut(place as usize) {
            parked.waiters -= 1;
            self.waiters -= 1;
        }
    }

    /// Moves the key of a line on, because its head was served here.
    pub(crate) fn served(&mut self, place: u32, units: u32, now: u64) {
        let Some(parked) = self.lines.get(place as usize) else { return };
        let Some(class) = self.classes.get_mut(&Reverse(parked.line.priority)) else { return };
        class.passed_since = now;
        class.served(&parked.line, units);
    }

    /// Everybody, in the order in which they are to be looked at.
    pub(crate) fn in_order(&self, now: u64) -> impl Iterator<Item = &Parked> {
        let mut overdue: SmallVec<[&Class; 2]> = self.overdue(now).collect();
        overdue.sort_by_key(|class| class.passed_since);
        let first: SmallVec<[u32; 2]> = overdue.into_iter().filter_map(Class::first).collect();
        let rest = self.classes.values().flat_map(Class::in_order);
        let all = first.clone().into_iter().chain(rest.filter(move |place| !first.contains(place)));
        all.filter_map(|place| self.get(place))
    }

    /// Who is to be looked at first.
    pub(crate) fn first(&self, now: u64) -> Option<&Parked> {
        self.get(self.first_place(now)?)
    }

    fn first_place(&self, now: u64) -> Option<u32> {
        let overdue = self.overdue(now).min_by_key(|class| class.passed_since);
        overdue.or_else(|| self.classes.values().next())?.first()
    }

    /// The classes of which nobody was served for long: the first line of each goes before all others, that of the longest first.
    /// Of each, since that of the longest may not be served for want of something else.
    fn overdue(&self, now: u64) -> impl Iterator<Item = &Class> {
        let classes = self.classes.values().filter(|_| !planted::is(Bug::PatienceNever));
        classes.filter(move |class| now.saturating_sub(class.passed_since) >= PATIENCE)
    }

    /// Somebody with this ticket (a newcomer: the end of numbers) is granted at this counter: who is first here is
    /// passed if it came earlier. Answers who, when it was so too often, and each time that it was so as often again.
    pub(crate) fn passed(&mut self, ticket: u64, now: u64) -> Option<Parked> {
        let first = self.first_place(now)?;
        let parked = self.lines.get_mut(first as usize).filter(|parked| parked.head.ticket < ticket)?;
        parked.passes = parked.passes.saturating_add(1);
        // Again from time to time: it may lack something else by then, or what was closed is open.
        (parked.passes >= MAX_PASSES && parked.passes.is_multiple_of(MAX_PASSES)).then(|| parked.clone())
    }

    /// Whether this head is the first of the highest priority, and others wait too.
    pub(crate) fn is_led_by(&self, head: WaiterId) -> bool {
        let first = || self.get(self.classes.values().next()?.first()?);
        self.lines.len() > 1 && first().is_some_and(|first| first.head == head)
    }

    /// Who is owed the next of what is free here before somebody of this priority and fairness key takes any: the first of the highest
    /// priority, if that is another key. Of a lower priority nobody goes before it; of its own, who has had less than a whole turn of
    /// it more than its key. With the instant at which patience ends for who is passed over. `counts_cost`: what a turn is here.
    pub(crate) fn owed(
        &self,
        (priority, share): (u8, &str),
        counts_cost: bool,
        now: u64,
    ) -> Option<(&Parked, Option<u64>)> {
        let (Reverse(top), class) = self.classes.first_key_value()?;
        let first = self.get(class.first()?)?;
        if priority > *top || priority == *top && *first.line.share == *share {
            return None;
        }
        if priority < *top {
            let below = self.classes.get(&Reverse(priority));
            let until = below.map_or(now, |class| class.passed_since).saturating_add(PATIENCE);
            return (until > now).then_some((first, Some(until)));
        }
        let units = first.turn(counts_cost);
        let finish = class.tag_of(&first.line.share) + step(units, first.line.weight);
        (class.tag_of(share) >= finish).then_some((first, None))
    }

    /// Moves a key on that is served here without its line being parked here: a newcomer's, or one that has waited elsewhere. Whether
    /// it is the key of the first of the highest priority: what that is owed is less now, or another's.
    pub(crate) fn charge(&mut self, (priority, share): (u8, &str), weight: NonZeroU16, units: u32, now: u64) -> bool {
        let top = self.classes.first_key_value().is_some_and(|(Reverse(top), _)| *top == priority);
        let Some(class) = self.classes.get_mut(&Reverse(priority)) else { return false };
        let leads = top && class.order.first_key_value().is_some_and(|(_, (key, _))| **key == *share);
        class.passed_since = now;
        class.charge(share, weight, units);
        leads
    }

    /// How many are served before a newcomer to this line, or to none that is here, with its priority and its fairness key; or before
    /// the head of this line: as far as the order alone decides, and each is a unit.
    ///
    /// O(lines): for those that ask, and those that are refused.
    pub(crate) fn before(&self, line: Option<u32>, newcomer: bool, rank: (u8, &str), now: u64) -> usize {
        let own = line.and_then(|place| self.get(place));
        let (priority, share) = own.map_or(rank, |own| (own.line.priority, &*own.line.share));
        let waiters = |place: u32| self.get(place).map_or(0, |parked| parked.waiters);
        let above = self.classes.range(..Reverse(priority)).flat_map(|(_, class)| class.in_order());
        let above: usize = above.map(waiters).sum();
        let in_line = own.filter(|_| newcomer).map_or(0, |own| own.waiters);
        let beside = self.classes.get(&Reverse(priority)).map_or(0, |class| {
            let head = own.filter(|_| !newcomer).map(|own| own.head);
            class.before(share, head, in_line, &|place| self.get(place))
        });
        // One of each of those below goes first when they were passed over for long.
        let overdue = self.overdue(now).filter_map(|class| self.get(class.first()?));
        above + beside + overdue.filter(|parked| parked.line.priority < priority).count()
    }

    fn count(&mut self, (calls, cost): (u32, u32)) {
        self.riding += usize::from(calls == 0);
        *self.costs.entry(cost).or_default() += 1;
    }

    fn uncount(&mut self, (calls, cost): (u32, u32)) {
        self.riding -= usize::from(calls == 0);
        if let Some(lines) = self.costs.get_mut(&cost) {
            *lines -= 1;
            if *lines == 0 {
                self.costs.remove(&cost);
            }
        }
    }
}

/// How far a start tag moves on.
fn step(units: u32, weight: NonZeroU16) -> u128 {
    u128::from(units) * TAG_UNIT / u128::from(weight.get())
}

impl Parked {
    /// What its head takes of its key's share here: of one who rides, as much as without that.
    fn turn(&self, counts_cost: bool) -> u32 {
        let (calls, cost) = self.line.alone.as_ref().map_or((self.calls, self.cost), |alone| alone.need);
        if counts_cost { cost } else { calls }
    }
}

impl Class {
    /// The start tag of a key's next unit.
    fn tag_of(&self, share: &str) -> u128 {
        match self.shares.get(share) {
            Some(share) => share.tag,
            None => self.ahead.get(share).copied().unwrap_or(0).max(self.served),
        }
    }

    fn charge(&mut self, key: &str, weight: NonZeroU16, units: u32) {
        let tag = self.tag_of(key);
        // Who rides is served out of turn, and runs ahead of the others by as much: whoever comes next begins where these are.
        let first = self.order.first_key_value().map_or(tag, |((first, _), _)| *first);
        self.served = self.served.max(tag.min(first));
        let next = tag + step(units, weight);
        if let Some(share) = self.shares.get_mut(key) {
            if let Some(first) = self.order.remove(&share.first().0) {
                share.tag = next;
                self.order.insert(share.first().0, first);
            }
        } else {
            let key = Arc::from(key);
            self.recall(&key);
            self.remember(&key, next);
        }
        self.forget_served();
    }

    fn forget_served(&mut self) {
        let served = self.served;
        while self.ahead_in_order.first().is_some_and(|(tag, _)| *tag <= served) {
            self.forget_first();
        }
    }

    fn park(&mut self, key: &Arc<str>, head: WaiterId, place: u32) {
        let tag = match self.shares.get(key) {
            Some(share) => {
                self.order.remove(&share.first().0);
                share.tag
            }
            None => self.recall(key).max(self.served),
        };
        let share = self.shares.entry(Arc::clone(key)).or_insert_with(|| Share { tag, lines: BTreeMap::new() });
        share.lines.insert(head, place);
        let (at, place) = share.first();
        self.order.insert(at, (Arc::clone(key), place));
    }

    fn take(&mut self, key: &Arc<str>, head: WaiterId) {
        let Some(share) = self.shares.get_mut(key) else { return };
        self.order.remove(&share.first().0);
        share.lines.remove(&head);
        if share.lines.is_empty() {
            let tag = share.tag;
            self.shares.remove(key);
            self.remember(key, tag);
        } else {
            let (at, place) = share.first();
            self.order.insert(at, (Arc::clone(key), place));
        }
    }

    /// A line goes on with another head, and its key at the tag where it was: it has waited all the time. Were a head that leaves
    /// taken for a key that joins anew, a key that is passed would lose what it is owed whenever one of its waiters gives up.
    fn advance(&mut self, key: &Arc<str>, before: WaiterId, head: WaiterId) {
        let Some(share) = self.shares.get_mut(key) else { return };
        let Some((key, _)) = self.order.remove(&share.first().0) else { return };
        let Some(place) = share.lines.remove(&before) else { return };
        share.lines.insert(head, place);
        let (at, place) = share.first();
        self.order.insert(at, (key, place));
    }

    fn served(&mut self, line: &Line, units: u32) {
        let step = step(units, line.weight);
        // It is still parked while its head is served.
        let Some(share) = self.shares.get_mut(&line.share) else { return };
        let Some(first) = self.order.remove(&share.first().0) else { return };
        self.served = self.served.max(share.tag);
        share.tag += step;
        self.order.insert(share.first().0, first);
        self.forget_served();
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

    fn first(&self) -> Option<u32> {
        self.order.first_key_value().map(|(_, (_, place))| *place)
    }

    /// How many are served before the one of this fairness key that has `in_line` before it in its line; `head`: it is the head of its
    /// line, and no newcomer. Of each other key as many as have earlier start tags.
    fn before<'a>(
        &self,
        share: &str,
        head: Option<WaiterId>,
        in_line: usize,
        get: &impl Fn(u32) -> Option<&'a Parked>,
    ) -> usize {
        let last = WaiterId { ticket: u64::MAX, shard: u16::MAX, slot: u32::MAX };
        let head = head.unwrap_or(last);
        let step = |share: &Share| {
            let weight = get(share.first().1).map_or(1, |parked| u128::from(parked.line.weight.get()));
            (TAG_UNIT / weight).max(1)
        };
        let waiters = |places: &mut dyn Iterator<Item = &u32>| -> usize {
            places.filter_map(|place| get(*place)).map(|parked| parked.waiters).sum()
        };
        let (own, tag) = match self.shares.get(share) {
            Some(own) => {
                let earlier = waiters(&mut own.lines.range(..head).map(|(_, place)| place)).max(in_line);
                (earlier, own.tag + step(own) * earlier as u128)
            }
            None => (0, self.tag_of(share)),
        };
        let others = self.order.range(..=(tag, head)).filter(|(_, (key, _))| **key != *share);
        let others = others.filter_map(|(_, (key, _))| self.shares.get(key)).map(|other| {
            let turns = usize::try_from((tag - other.tag) / step(other)).unwrap_or(usize::MAX);
            waiters(&mut other.lines.values()).min(turns.saturating_add(1))
        });
        own + others.sum::<usize>()
    }

    fn in_order(&self) -> impl Iterator<Item = u32> {
        let shares = self.order.values().filter_map(|(key, _)| self.shares.get(key));
        shares.flat_map(|share| share.lines.values().copied())
    }
}

#[cfg(test)]
mod tests;
