//! Counters: the live usage of one concrete `scope[/l1[/l2]]`, of a pool, or of an inline key.
//!
//! A counter knows what is held (calls and cost), what was started (one history for each mode, period and counting that
//! any rule ever used here and that has not aged out), who is parked at it, and which rule binds it. The rule is looked
//! up when the book changed since, not at every acquire.
//!
//! Most counters have a rule and nothing else. What is rare (a shadow rule, pools, an operator's word) is behind one
//! pointer, [`Rare`], and what waiting takes behind another, [`Queue`], so that the usual counter pays a look at each and
//! eight bytes. Its name lies in it, if it has up to 24 bytes: finding it costs no look elsewhere.
//!
//! A counter that equals a fresh one is dropped by its shard's sweep; until its rate history has aged out it does not
//! equal one, so dropping never forgives quota.

use crate::book::{Rule, RuleBook};
use crate::histogram::Histogram;
use crate::history::{Histories, Touched};
use crate::lease::Hold;
use crate::limits::{Counts, Limits};
use crate::name::CounterKind;
use crate::operator::Hand;
use crate::order::{Parked, Waitlist};
use crate::planted::{self, Bug};
use crate::request::{Inline, WaiterId};
use crate::shadow::Shadow;
use crate::sweeps;
use crate::waiting::Spot;
use compact_str::CompactString;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::Arc;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Counter {
    /// `scope[/l1[/l2]]`, the pattern of a pool, or `scope#key`.
    pub(crate) name: CompactString,
    pub(crate) kind: CounterKind,
    /// Who made it, of those who share the host, and has it and its log on its account; 0: nobody in particular.
    pub(crate) caller: u32,
    /// Calls held now.
    pub(crate) calls: u64,
    /// Cost held now.
    pub(crate) cost: u64,
    /// The rule that binds, as of `book_version`; pinned numbers stand in its place.
    pub(crate) rule: Option<Arc<Rule>>,
    pub(crate) book_version: u64,
    pub(crate) histories: Histories,
    /// Mean time that a lease is held, of those that are measured, in nanoseconds; 0: none was yet.
    mean_hold: f32,
    /// When it was last charged or given back to.
    pub(crate) last_used: u64,
    pub(crate) granted: u64,
    pub(crate) refused: u32,
    /// Leases that ended with a failure or a pushback.
    pub(crate) failed: u32,
    /// There is none where nobody ever waited.
    pub(crate) queue: Option<Box<Queue>>,
    pub(crate) rare: Option<Box<Rare>>,
    /// Whether a sweep is due that will look at it, and the next in its chain; see `sweeps`.
    pub(crate) swept_later: bool,
    pub(crate) next_swept: u32,
}

/// Who waits at a counter, and what waiting leaves behind. Once there, it stays until its counter goes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Queue {
    pub(crate) waitlist: Waitlist,
    /// Whose barriers stand here, and where each lacks what others hold; see `order`.
    pub(crate) barriers: BTreeMap<WaiterId, SmallVec<[Spot; 1]>>,
    /// When a refill is due that will look at the waitlist; 0: none.
    pub(crate) refill_at: u64,
    /// Waits of those who had to.
    pub(crate) waits: Histogram,
}

/// What few counters have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rare {
    /// The `total` rules that match: their pools are counters of their own.
    pub(crate) totals: Vec<Arc<Rule>>,
    pub(crate) shadow: Shadow,
    pub(crate) hand: Hand,
}

impl Counter {
    pub(crate) fn new(name: &str, kind: CounterKind, caller: u32, book: &RuleBook) -> Self {
        let mut counter = Self {
            name: name.into(),
            kind,
            caller,
            calls: 0,
            cost: 0,
            rule: None,
            book_version: 0,
            histories: Histories::default(),
            mean_hold: 0.0,
            last_used: 0,
            granted: 0,
            refused: 0,
            failed: 0,
            queue: None,
            rare: None,
            swept_later: false,
            next_swept: sweeps::NONE,
        };
        counter.refresh(book, 0);
        counter
    }

    /// Looks its rules up again, because the book or a pin changed at `changed`. Smooth rates go on at their new pace
    /// from then; whether it is another for any.
    #[cold]
    pub(crate) fn refresh(&mut self, book: &RuleBook, changed: u64) -> bool {
        self.book_version = book.version();
        let pinned = self.rare.as_ref().and_then(|rare| rare.hand.pinned.clone());
        match self.kind {
            CounterKind::Named => {
                let binding = book.binding(&self.name);
                self.rule = binding.rule;
                if self.rare.is_some() || binding.shadow.is_some() || !binding.totals.is_empty() {
                    let rare = self.rare.get_or_insert_default();
                    rare.totals = binding.totals;
                    rare.shadow.set_rule(binding.shadow, changed);
                }
            }
            CounterKind::Pool => {
                self.rule = book.pool(&self.name).cloned();
                let shadow = self.rule.clone().filter(|rule| rule.spec.shadow_limits.is_some());
                if self.rare.is_some() || shadow.is_some() {
                    self.rare.get_or_insert_default().shadow.set_rule(shadow, changed);
                }
            }
            CounterKind::Inline => self.rule = None,
        }
        if pinned.is_some() {
            self.rule = pinned;
        }
        self.tidy(changed);
        self.at_pace_in_force(changed)
    }

    /// Puts smooth rates at the pace of the rule from `changed` on; whether that was another for any. Where callers bring their
    /// own numbers each pace has a history, and none changes.
    pub(crate) fn at_pace_in_force(&mut self, changed: u64) -> bool {
        match &self.rule {
            Some(rule) if self.kind != CounterKind::Inline => self.histories.at_pace_of(&rule.spec.limits, changed),
            _ => false,
        }
    }

    /// Its histories as they must survive.
    pub(crate) fn touched(&self, limits: &Limits) -> impl Iterator<Item = Touched> {
        self.histories.touched(limits, self.kind == CounterKind::Inline)
    }

    /// Lets go of what it no longer has at `now`.
    pub(crate) fn tidy(&mut self, now: u64) {
        if self.rare.as_ref().is_some_and(|rare| {
            rare.totals.is_empty()
                && rare.shadow.is_empty()
                && rare.hand.is_open()
                && rare.hand.pushed_back_until <= now
        }) {
            self.rare = None;
        }
    }

    /// What is held, in what a limit counts.
    #[inline]
    pub(crate) fn held(&self, counts: Counts) -> u64 {
        match counts {
            Counts::Calls => self.calls,
            Counts::Cost => self.cost,
        }
    }

    /// The numbers that hold for a request here: the rule's, or those it has brought along.
    pub(crate) fn limits<'a>(rule: Option<&'a Arc<Rule>>, own: Option<&'a Arc<Inline>>) -> Option<&'a Limits> {
        rule.map(|rule| &rule.spec.limits).or(own.map(|own| &own.limits))
    }

    /// Whether its next start opens a log that it does not have yet, for who brings these numbers along.
    #[inline]
    pub(crate) fn starts_a_log(&self, own: Option<&Arc<Inline>>) -> bool {
        self.histories.logged() == 0 && Self::limits(self.rule.as_ref(), own).is_some_and(Limits::keeps_log)
    }

    /// Log entries of all its windows.
    pub(crate) fn log_entries(&self) -> usize {
        self.histories.log_entries() + self.rare.as_ref().map_or(0, |rare| rare.shadow.log_entries())
    }

    /// Forgets what has left its windows.
    pub(crate) fn forget(&mut self, now: u64) {
        self.histories.forget(now);
        if let Some(rare) = &mut self.rare {
            rare.shadow.forget(now);
        }
        self.tidy(now);
    }

    /// Takes what a lease holds from now on.
    #[inline]
    pub(crate) fn hold(&mut self, hold: &Hold, now: u64) {
        self.calls += u64::from(hold.calls);
        self.cost += u64::from(hold.cost);
        self.last_used = now;
    }

    /// Takes back what a lease held.
    #[inline]
    pub(crate) fn give_back(&mut self, hold: &Hold, now: u64) {
        self.calls -= u64::from(hold.calls);
        self.cost -= u64::from(hold.cost);
        self.last_used = now;
        if hold.shadowed
            && let Some(rare) = &mut self.rare
        {
            rare.shadow.give_back(hold);
        }
    }

    /// Whether nothing is admitted until somebody says so.
    pub(crate) fn is_closed(&self, own: Option<&Arc<Inline>>) -> bool {
        let limits = Self::limits(self.rule.as_ref(), own);
        limits.and_then(|limits| limits.concurrency).is_some_and(|concurrency| concurrency.limit == 0)
            || self.rare.as_ref().is_some_and(|rare| rare.hand.paused)
    }

    /// Whether a barrier stops this ticket here; a newcomer has none yet, and is later than all. `on`: the counters that the lease is on
    /// which it names.
    #[inline]
    pub(crate) fn bars(&self, ticket: Option<u64>, on: &[Spot]) -> bool {
        !planted::is(Bug::BarrierIgnored)
            && self.first_barrier(on).is_some_and(|barrier| ticket.is_none_or(|ticket| barrier < ticket))
    }

    /// The lowest ticket whose barrier here concerns whose lease is on these counters: whoever lacks one of them waits for its holder,
    /// and so does not stop it.
    #[inline]
    pub(crate) fn first_barrier(&self, on: &[Spot]) -> Option<u64> {
        let barriers = &self.queue.as_ref()?.barriers;
        let waits_for_it = |lacks: &[Spot]| !on.is_empty() && lacks.iter().any(|spot| on.contains(spot));
        barriers.iter().find(|(_, lacks)| !waits_for_it(lacks)).map(|(owner, _)| owner.ticket)
    }

    /// Whether any limit counts cost here, for who brings these numbers along.
    pub(crate) fn counts_cost(&self, own: Option<&Arc<Inline>>) -> bool {
        Self::limits(self.rule.as_ref(), own).is_some_and(|limits| {
            limits.concurrency.is_some_and(|concurrency| concurrency.counts == Counts::Cost)
                || limits.rates.iter().any(|rate| rate.counts == Counts::Cost)
        })
    }

    /// Who waits here; `None`: nobody ever did.
    #[inline]
    pub(crate) fn waitlist(&self) -> Option<&Waitlist> {
        self.queue.as_ref().map(|queue| &queue.waitlist)
    }

    /// The line that is parked here at this place.
    pub(crate) fn parked(&self, place: u32) -> Option<&Parked> {
        self.waitlist()?.get(place)
    }

    /// How many wait here.
    #[inline]
    pub(crate) fn waiting(&self) -> usize {
        self.waitlist().map_or(0, Waitlist::len)
    }

    /// What was made to wait here, now that somebody does.
    pub(crate) fn queue(&mut self) -> &mut Queue {
        self.queue.get_or_insert_default()
    }

    /// Nothing is held, nobody waits, no barrier stands here, and no operator has said anything that lasts.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.calls == 0
            && self.cost == 0
            && self.queue.as_ref().is_none_or(|queue| queue.waitlist.is_empty() && queue.barriers.is_empty())
            && self.rare.as_ref().is_none_or(|rare| rare.hand.is_open())
    }

    /// Whether a drain has come to its end.
    pub(crate) fn is_drained(&self) -> bool {
        self.calls == 0 && self.cost == 0 && self.waiting() == 0
    }

    /// When what it remembers has aged out. In the past: it has.
    pub(crate) fn history_ends_at(&self) -> u64 {
        let rare = self.rare.as_ref().map_or(0, |rare| rare.shadow.ends_at().max(rare.hand.pushed_back_until));
        self.histories.ends_at().max(rare)
    }

    /// Takes the end of a hold into the mean: an exponential average that forgets after about eight.
    #[inline]
    pub(crate) fn held_for(&mut self, nanos: u64) {
        let nanos = nanos.max(1) as f32;
        self.mean_hold += if self.mean_hold == 0.0 { nanos } else { (nanos - self.mean_hold) / 8.0 };
    }

    /// How long a lease is held on the mean, in nanoseconds; 0: not known.
    pub(crate) fn mean_hold(&self) -> u64 {
        self.mean_hold as u64
    }
}
