//! What an operator, or what stands behind a limit, says about one counter: held admissions, other numbers, a closed door.
//!
//! None of it is a rule: it belongs to a counter that exists, stays with it while it is idle, and is taken back by hand or
//! by time.
//!
//! - *paused*: nothing is admitted, and those who wait stay.
//! - *draining*: nobody new is let in, waiting or not; those present are served. When nothing is held and nobody waits
//!   the counter is drained, and stays closed until it is resumed.
//! - *pinned*: these numbers hold instead of the rule's, or instead of those that callers bring.
//! - *pushed back*: nothing is admitted until an instant that the work behind the limit has named.

use crate::book::{Rule, RuleSpec};
use crate::counter::Counter;
use crate::describe::cap;
use crate::limits::{DEFAULT_MAX_PUSHBACK, Limits};
use crate::name::CounterName;
use crate::pattern::Pattern;
use crate::planted::{self, Bug};
use crate::refusal::{ConstraintKind, Reason};
use crate::shard::Shard;
use crate::snapshot::CounterSnapshot;
use crate::step::{Effect, Output, ShardSet};
use std::sync::Arc;
use std::time::Duration;

/// What an operator can do to a counter. Doing it twice is doing it once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Holds admissions; those who wait stay.
    Pause,
    /// Ends a pause, a drain and a pushback.
    Resume,
    /// Puts these numbers in the place of the rule's, or of those that callers bring.
    Pin(Limits),
    /// Takes pinned numbers back.
    Unpin,
    /// Forgets what was started; what is held stays.
    Reset,
    /// Lets nobody new in; those present are served.
    Drain,
}

/// How the work under a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outcome {
    /// It succeeded, or nobody said.
    #[default]
    Ok,
    /// It failed.
    Failed,
    /// What stands behind the limit asked for a pause of this length.
    PushedBack(Duration),
}

/// The pause that is taken where one was asked for and its length was not said.
pub const UNSAID_PUSHBACK: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hand {
    pub(crate) paused: bool,
    pub(crate) draining: bool,
    pub(crate) pinned: Option<Arc<Rule>>,
    /// Nothing is admitted before this instant; 0: never pushed back.
    pub(crate) pushed_back_until: u64,
}

/// What is said about one counter, as it must survive.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HandState {
    /// Nothing is admitted.
    pub paused: bool,
    /// Nobody new is let in.
    pub draining: bool,
    /// The numbers that hold in the place of others.
    pub pinned: Option<Limits>,
    /// Nothing is admitted before this instant, in the engine's nanoseconds; 0: never pushed back.
    pub pushed_back_until: u64,
}

impl HandState {
    /// Whether it says anything at `now`.
    #[must_use]
    pub fn is_empty(&self, now: u64) -> bool {
        !self.paused && !self.draining && self.pinned.is_none() && self.pushed_back_until <= now
    }
}

impl Hand {
    /// As it must survive.
    pub(crate) fn state(&self) -> HandState {
        HandState {
            paused: self.paused,
            draining: self.draining,
            pinned: self.pinned.as_ref().map(|rule| rule.spec.limits.clone()),
            pushed_back_until: self.pushed_back_until,
        }
    }

    /// Puts these numbers in the place of others at a counter.
    pub(crate) fn pin(&mut self, counter: &str, limits: Limits) {
        let spec = RuleSpec { limits, ..RuleSpec::default() };
        self.pinned =
            Some(Arc::new(Rule { pattern: Pattern::of_counter(counter), spec, version: 0, last_modified: 0 }));
    }

    /// Whether it says nothing that lasts.
    pub(crate) fn is_open(&self) -> bool {
        !self.paused && !self.draining && self.pinned.is_none()
    }

    /// What it has against a request, if anything, and until when. A newcomer has no ticket.
    pub(crate) fn against(&self, ticket: Option<u64>, now: u64) -> Option<(ConstraintKind, Option<u64>)> {
        if self.paused && !(planted::is(Bug::PauseForNewcomersOnly) && ticket.is_some()) {
            Some((ConstraintKind::Paused, None))
        } else if self.draining && ticket.is_none() {
            Some((ConstraintKind::Draining, None))
        } else if self.pushed_back_until > now {
            Some((ConstraintKind::PushedBack, Some(self.pushed_back_until)))
        } else {
            None
        }
    }
}

impl ShardSet<'_, '_> {
    /// Does what an operator asks, and serves who may go on by it. Limits that are pinned are valid ones.
    pub(crate) fn operate(&mut self, name: &CounterName, verb: &Verb, now: u64, effects: &mut Vec<Effect>) -> Output {
        let at = self.position(self.shards[0].placement.shard_of(name.scope()));
        let shard = &mut *self.shards[at];
        let limit = shard.limits.max_counters;
        let Some(slot) = shard.counter(name.as_str(), name.kind(), 0, limit) else {
            let cap = cap(name.as_str(), limit, shard.counters.len());
            return Output::Refused(self.refuse(Reason::Overloaded, vec![cap]));
        };
        let book = Arc::clone(&shard.book);
        let counter = &mut shard.counters[slot];
        let hand = &mut counter.rare.get_or_insert_default().hand;
        match verb {
            Verb::Pause => hand.paused = true,
            Verb::Drain => hand.draining = true,
            Verb::Resume => {
                (hand.paused, hand.draining, hand.pushed_back_until) = (false, false, 0);
            }
            Verb::Pin(limits) => hand.pin(name.as_str(), limits.clone()),
            Verb::Unpin => hand.pinned = None,
            Verb::Reset => {
                shard.record_forgotten(slot);
                shard.counters[slot].histories.clear();
            }
        }
        shard.record_hand(slot);
        let counter = &mut shard.counters[slot];
        let paces_changed = counter.refresh(&book, now);
        counter.tidy(now);
        if paces_changed {
            shard.record_paces(slot);
        }
        shard.book_log(slot);
        self.look_at_all(now, effects);
        let shard = &mut *self.shards[at];
        // One of which nothing is left to say has been dropped with the last who looked at it.
        let Some(slot) = shard.find(name.as_str()) else {
            let mut fresh = Counter::new(name.as_str(), name.kind(), 0, &book);
            return Output::Operated(Box::new(CounterSnapshot::of(&mut fresh, now)));
        };
        let snapshot = CounterSnapshot::of(&mut shard.counters[slot], now);
        if *verb == Verb::Reset {
            shard.sweep_anew(slot, now);
        } else {
            shard.sweep_later(slot, now);
        }
        Output::Operated(Box::new(snapshot))
    }
}

impl Shard {
    /// Closes the counters of a lease part for as long as was asked for, within what their rules allow: where a rule
    /// says so, and at the last part of what the request had named.
    pub(crate) fn push_back(&mut self, slot: u32, leaf: bool, asked: Duration, now: u64) {
        self.refresh(slot);
        let counter = &mut self.counters[slot];
        let rule = counter.rule.as_ref().and_then(|rule| rule.spec.limits.max_pushback);
        let Some(most) = rule.or(leaf.then_some(DEFAULT_MAX_PUSHBACK)) else { return };
        let until = now.saturating_add(u64::try_from(asked.min(most).as_nanos()).unwrap_or(u64::MAX));
        if until > now {
            let hand = &mut counter.rare.get_or_insert_default().hand;
            hand.pushed_back_until = hand.pushed_back_until.max(until);
            self.record_hand(slot);
        }
    }
}
