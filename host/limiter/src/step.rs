//! Steps: one input, at one instant, over the shards it touches.
//!
//! Whoever calls brings the shards (all that a request's scopes lie in, see [`Placement`]) and the time; a step first
//! takes everything that has come due by then, in order, and then the input. What happens to others comes back as
//! [`Effect`]s, in the order in which it happened.
//!
//! A waiter over several shards whose turn comes while not all of its shards are at hand cannot be decided on the spot:
//! the step answers [`Effect::Retry`], and the caller brings all its shards for [`Input::Retry`].

use crate::acquire::Arrival;
use crate::book::RuleBook;
use crate::explain::Explanation;
use crate::limits::MAX_WAIT;
use crate::name::CounterName;
use crate::operator::{Outcome, Verb};
use crate::order::Waitlist;
use crate::placement::Placement;
use crate::planted::{self, Bug};
use crate::refusal::{Constraint, Reason, Refusal};
use crate::request::{Caller, Grant, LeaseId, LeaseRef, Request, WaiterId};
use crate::restore::Restored;
use crate::shard::{Shard, ShardLimits, Timer};
use crate::snapshot::CounterSnapshot;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;

/// What can be asked of the limiter.
#[derive(Debug, Clone)]
pub enum Input<'a> {
    /// A request arrives. With `wait` it may be parked; `secret` makes a timed lease of it, found by its id.
    Acquire {
        /// What is asked for. The set holds the shards of all its scopes.
        request: &'a Request,
        /// Whether it may wait.
        wait: bool,
        /// 128 unguessable bits for each timed lease that it asks for; none for held leases.
        secrets: &'a [u128],
    },
    /// The decision for a request that does not wait, with no effect.
    Check {
        /// What would be asked for.
        request: &'a Request,
    },
    /// Looks at a waiter again, with all its shards at hand.
    Retry {
        /// Which waiter.
        waiter: WaiterId,
    },
    /// A waiter leaves. Nothing happens if it is no longer there.
    Cancel {
        /// Which waiter.
        waiter: WaiterId,
    },
    /// One part of a lease ends. Where [`Shard::release_needs_time`] says no, an earlier time will do.
    Release {
        /// Which part.
        lease: LeaseRef,
        /// How the work under it ended. Unless it was well, it is said with the first part, the set holds the shards of
        /// all of them, and the others are ended afterwards.
        outcome: Outcome,
    },
    /// Where the parts of a timed lease are.
    Find {
        /// Its id.
        id: LeaseId,
        /// Who asks: what another has taken is gone to it. None: whoever has the id.
        caller: Option<Caller>,
    },
    /// Moves the end of a lease to `lease_time` from now, never back. All parts or none: the set holds their shards.
    Extend {
        /// Its first part.
        lease: LeaseRef,
        /// How long it lasts from now on.
        lease_time: Duration,
    },
    /// Says what the work under a lease has really cost. All parts or none: the set holds their shards.
    Settle {
        /// Its first part.
        lease: LeaseRef,
        /// The cost in the place of what was asked for.
        cost: u32,
    },
    /// An operator's word on one counter, which is made if need be. The set holds every shard.
    Operate {
        /// Which counter.
        counter: &'a CounterName,
        /// What is to be done.
        verb: &'a Verb,
    },
    /// Why a request would be granted or not, and when, with no effect.
    Explain {
        /// What would be asked for.
        request: &'a Request,
    },
    /// Something that has survived a restart is put back. The set holds every shard.
    Restore {
        /// What.
        what: &'a Restored<'a>,
    },
    /// Takes what has come due, and nothing else.
    Tick,
    /// A new rule book. The set holds every shard.
    SetBook {
        /// The book.
        book: Arc<RuleBook>,
    },
    /// Ends every waiter and refuses every request from now on.
    Close,
    /// The counters whose names begin with a prefix, in no order.
    Counters {
        /// What the names begin with.
        prefix: &'a str,
    },
}

/// What a step answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The request is granted.
    Granted(Grant),
    /// The request waits; an effect will tell.
    Waiting(WaiterId),
    /// The request is refused.
    Refused(Refusal),
    /// The request would be granted; these constraints bind it.
    WouldGrant(Vec<Constraint>),
    /// The parts of a lease.
    Found(SmallVec<[LeaseRef; 1]>),
    /// The end of a lease, in the engine's nanoseconds; absent: none.
    Extended(Option<u64>),
    /// What settling a lease came to.
    Settled(Settled),
    /// There is no such lease or waiter, any more or at all.
    Gone,
    /// These shards are needed, ascending; nothing was done.
    Elsewhere(SmallVec<[u16; 4]>),
    /// The counter that was operated on.
    Operated(Box<CounterSnapshot>),
    /// Why, and when.
    Explained(Box<Explanation>),
    /// The counters asked for.
    Counters(Vec<CounterSnapshot>),
    /// Done.
    Done,
}

/// What settling a lease came to, in units of cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settled {
    /// What it holds less than before.
    pub refunded: u32,
    /// What it has used beyond what it had asked for; booked, and perhaps above a limit.
    pub overrun: u32,
}

/// What a step did to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A waiter is granted.
    Granted {
        /// Which.
        waiter: WaiterId,
        /// What it gets.
        grant: Grant,
    },
    /// A waiter is refused.
    Refused {
        /// Which.
        waiter: WaiterId,
        /// Why.
        refusal: Refusal,
    },
    /// A waiter must be looked at with all its shards at hand.
    Retry {
        /// Which.
        waiter: WaiterId,
        /// Its shards, ascending.
        shards: SmallVec<[u16; 4]>,
    },
    /// Another part of a lease that has ended is to end too: at a pool in a shard that is not at hand.
    Release {
        /// The part.
        lease: LeaseRef,
        /// How the work under it ended.
        outcome: Outcome,
    },
}

/// The shards that a step may touch, ascending by index.
#[derive(Debug)]
pub struct ShardSet<'s, 'a> {
    pub(crate) shards: &'s mut [&'a mut Shard],
    /// The instant of what is being taken: of a timer that comes late, when it was due. Usage is charged at the step's own time, and who
    /// had not waited too long when their turn came is not sent away because a thread woke up late.
    pub(crate) as_of: u64,
}

impl<'s, 'a> ShardSet<'s, 'a> {
    /// A step over these shards, which are in ascending order of their indices.
    #[inline]
    #[must_use]
    pub fn new(shards: &'s mut [&'a mut Shard]) -> Self {
        debug_assert!(shards.is_sorted_by(|a, b| a.index < b.index));
        Self { shards, as_of: 0 }
    }

    /// Takes what is due by `now`, then the input. Effects are appended.
    ///
    /// A `now` before an earlier one of the same shards counts as that earlier one.
    ///
    /// # Panics
    /// When a shard of the request is not in the set: the caller's mistake, never a guest's.
    #[inline]
    pub fn step(&mut self, now: u64, input: Input<'_>, effects: &mut Vec<Effect>) -> Output {
        let now = self.shards.iter().map(|shard| shard.now).fold(now, u64::max);
        let mut due = false;
        for shard in self.shards.iter_mut() {
            shard.now = now;
            due |= shard.next_due <= now;
        }
        if due {
            self.run_due(now, effects);
        }
        self.as_of = now;
        match input {
            Input::Acquire { request, .. } if request.is_unscoped() => Output::Granted(Grant::unscoped(request, now)),
            Input::Check { request } if request.is_unscoped() => Output::WouldGrant(Vec::new()),
            Input::Acquire { request, wait, secrets } => match self.arrive(now, request, wait, secrets, effects) {
                Arrival::Granted(grant) => Output::Granted(grant),
                Arrival::Waiting(waiter) => Output::Waiting(waiter),
                Arrival::Refused(refusal) => Output::Refused(refusal),
                Arrival::Elsewhere => self.elsewhere(request),
            },
            Input::Release { lease, outcome } => {
                let at = self.position(lease.shard);
                if self.release(at, lease.slot, lease.fence, outcome, now, effects) {
                    Output::Done
                } else {
                    Output::Gone
                }
            }
            Input::Settle { lease, cost } => self.settle(lease, cost, now, effects),
            Input::Operate { counter, verb } => self.operate(counter, verb, now, effects),
            Input::Explain { request } => match self.explain(request, now) {
                Ok(explanation) => Output::Explained(Box::new(explanation)),
                Err(shards) => Output::Elsewhere(shards),
            },
            Input::Check { request } => match self.check(now, request) {
                Some(Ok(constraints)) => Output::WouldGrant(constraints),
                Some(Err(refusal)) => Output::Refused(refusal),
                None => self.elsewhere(request),
            },
            Input::Retry { waiter } => self.retry(waiter, now, effects),
            Input::Cancel { waiter } => self.cancel(waiter, now, effects),
            Input::Find { id, caller } => self.find(id, caller),
            Input::Extend { lease, lease_time } => self.extend(lease, lease_time, now),
            Input::Restore { what } => self.restore(what, now),
            Input::Tick => Output::Done,
            Input::SetBook { book } => self.set_book(&book, now, effects),
            Input::Close => self.close(effects),
            Input::Counters { prefix } => self.counters(prefix, now),
        }
    }

    fn elsewhere(&self, request: &Request) -> Output {
        Output::Elsewhere(self.shards_of(request))
    }

    /// All the shards of a request, those of pools and of the lease that it names too, ascending.
    pub(crate) fn shards_of(&self, request: &Request) -> SmallVec<[u16; 4]> {
        let (placement, book) = (&self.shards[0].placement, &self.shards[0].book);
        let mut shards = placement.all_shards_of(request.scopes(), book);
        let named = request.rides_on().iter().map(|part| part.shard);
        shards.extend(named.filter(|shard| *shard < placement.shards()));
        shards.sort_unstable();
        shards.dedup();
        shards
    }

    #[inline]
    pub(crate) fn position(&self, shard: u16) -> usize {
        let at = self.shards.iter().position(|candidate| candidate.index == shard);
        at.expect("the set holds every shard of the request")
    }

    /// The next fencing number or ticket; see the module `shard`.
    #[inline]
    pub(crate) fn next_number(&mut self, now: u64) -> u64 {
        let last = self.shards.iter().map(|shard| shard.sequence).max().unwrap_or(0);
        let next = now.max(last + u64::from(!planted::is(Bug::FenceRepeats)));
        for shard in self.shards.iter_mut() {
            shard.sequence = next;
        }
        next
    }

    #[cold]
    fn run_due(&mut self, now: u64, effects: &mut Vec<Effect>) {
        // In the order of their instants, whichever shard they are in, and each as of when it was due.
        while let Some(at) = (0..self.shards.len()).min_by_key(|at| self.shards[*at].next_timer()) {
            self.as_of = self.shards[at].next_due;
            let Some(timer) = self.shards[at].pop_due(now) else { return };
            self.due(at, timer, now, effects);
        }
    }

    fn due(&mut self, at: usize, timer: Timer, now: u64, effects: &mut Vec<Effect>) {
        match timer {
            Timer::Expiry { slot, fence } => {
                if !planted::is(Bug::ExpiryForgotten) && self.release(at, slot, fence, Outcome::Ok, now, effects) {
                    self.shards[at].metrics.expired += 1;
                }
            }
            Timer::Refill { counter } => {
                self.shards[at].counters[counter].queue().refill_at = 0;
                self.serve(at, counter, now, effects);
            }
            Timer::Deadline { ticket, slot } => self.deadline(ticket, slot, at, now, effects),
            Timer::Sweep { counter } => self.shards[at].sweep(counter, now),
            Timer::CatchUp => self.shards[at].walk(now),
        }
    }

    /// Puts a new book in force: waiters that can never fit under it end, those that fit now are granted.
    fn set_book(&mut self, book: &Arc<RuleBook>, now: u64, effects: &mut Vec<Effect>) -> Output {
        // Counters look their rule up when they are next used: those that somebody waits for, below; idle ones, later.
        let before = Arc::clone(&self.shards[0].book);
        for shard in self.shards.iter_mut() {
            shard.book = Arc::clone(book);
            shard.note_change(now);
        }
        if !planted::is(Bug::PoolBeginsEmpty) {
            self.adopt(&before, now);
        }
        self.look_at_all(now, effects);
        Output::Done
    }

    fn close(&mut self, effects: &mut Vec<Effect>) -> Output {
        for at in 0..self.shards.len() {
            let shard = &mut *self.shards[at];
            shard.closed = true;
            let waiters = shard.clear_lines();
            shard.parked = 0;
            let now = shard.now;
            let mut emptied: SmallVec<[(u32, u64); 8]> = SmallVec::new();
            for (slot, counter) in shard.counters.iter_mut() {
                if let Some(queue) = &mut counter.queue {
                    queue.waitlist = Waitlist::default();
                    queue.barriers.clear();
                    emptied.push((slot, std::mem::take(&mut queue.refill_at)));
                }
            }
            for (counter, refill) in emptied {
                if refill != 0 {
                    shard.clear_timer(refill, Timer::Refill { counter });
                }
                shard.sweep_later(counter, now);
            }
            for waiter in waiters {
                let refusal = self.refuse(Reason::Unavailable, Vec::new());
                effects.push(Effect::Refused { waiter, refusal });
            }
        }
        Output::Done
    }

    fn counters(&mut self, prefix: &str, now: u64) -> Output {
        let mut snapshots = Vec::new();
        for shard in self.shards.iter_mut() {
            let found: Vec<u32> = shard
                .counters
                .iter()
                .filter(|(_, counter)| counter.name.starts_with(prefix))
                .map(|(slot, _)| slot)
                .collect();
            for slot in found {
                shard.refresh(slot);
                snapshots.push(CounterSnapshot::of(&mut shard.counters[slot], now));
            }
        }
        Output::Counters(snapshots)
    }
}

/// All shards in one hand: the limiter for whoever needs no threads, such as a simulation. Two that are made alike and
/// asked alike answer alike.
#[derive(Debug)]
pub struct Limiter {
    shards: Vec<Shard>,
}

impl Limiter {
    /// A limiter of so many shards, at least one.
    #[must_use]
    pub fn new(shards: u16, limits: ShardLimits) -> Self {
        let placement = Placement::fixed(shards);
        Self { shards: (0..placement.shards()).map(|index| Shard::new(index, placement.clone(), limits)).collect() }
    }

    /// One step over all shards, by the short way where that answers, and the retries that it asks for.
    pub fn step(&mut self, now: u64, input: Input<'_>, effects: &mut Vec<Effect>) -> Output {
        if let Some(output) = self.direct(now, &input) {
            return output;
        }
        let mut shards: SmallVec<[&mut Shard; 1]> = self.shards.iter_mut().collect();
        let mut set = ShardSet::new(&mut shards);
        let mut next = effects.len();
        let output = set.step(now, input, effects);
        while next < effects.len() {
            match effects[next] {
                Effect::Retry { waiter, .. } => {
                    effects.remove(next);
                    set.step(now, Input::Retry { waiter }, effects);
                }
                Effect::Granted { .. } | Effect::Refused { .. } | Effect::Release { .. } => next += 1,
            }
        }
        output
    }

    fn direct(&mut self, now: u64, input: &Input<'_>) -> Option<Output> {
        if self.next_due().is_some_and(|due| due <= now) {
            return None;
        }
        match *input {
            Input::Acquire { request, secrets: [], .. } => {
                let (key, cost) = request.direct()?;
                let hash = self.shards[0].placement.hash(key.scope());
                let shard = usize::from(self.shards[0].placement.shard_of_hash(hash));
                let taken = self.shards[shard].take(now, key, hash, cost, request.caller)?;
                Some(Output::Granted(Grant::from(taken)))
            }
            Input::Release { lease, outcome: Outcome::Ok } => {
                self.shards.get_mut(usize::from(lease.shard))?.give_back(lease, || now).then_some(Output::Done)
            }
            _ => None,
        }
    }

    /// When the next timer is due.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        self.shards.iter().filter_map(Shard::next_due).min()
    }

    /// The shards.
    #[must_use]
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }
}

const _: () = assert!(MAX_WAIT.as_secs() < u64::MAX / 1_000_000_000);
