//! The world: a limiter, its book and a clock, beside the model.

use crate::model::{Lease, Model};
use crate::program::{Ask, Op, Program, Time, counter, period};
use std::sync::Arc;
use std::time::Duration;
use weir_limiter::{
    CounterName, CounterSnapshot, Effect, Grant, Input, LeaseRef, Limiter, MAX_LEASE_LIFE, MAX_WAIT, Outcome, Output,
    Reason, Request, RuleBook, ScopedKey, Settled, Shard, Verb, WaiterId,
};

const YEAR: u64 = 366 * 24 * 60 * 60 * 1_000_000_000;
/// Where the clock stops: what an overrun adds, two centuries at most, and a century's burst still fit 64 bits.
const END_OF_TIME: u64 = 1 << 62;
/// How many leases that have ended are remembered: enough for their slots to be used again.
const MAX_STALE: usize = 32;
/// More timers than any program sets: past it, one sets the next for ever.
const MAX_TIMERS: usize = 100_000;

/// See the module.
#[derive(Debug)]
pub struct World {
    limiter: Limiter,
    book: RuleBook,
    now: u64,
    model: Model,
    waiters: Vec<Waiter>,
    stale: Vec<Lease>,
    secrets: u128,
    closed: bool,
}

#[derive(Debug)]
struct Waiter {
    id: WaiterId,
    request: Request,
    secrets: Vec<u128>,
    until: u64,
}

/// All that can be seen from outside.
#[derive(Debug, PartialEq, Eq)]
struct Picture {
    counters: Vec<CounterSnapshot>,
    /// Of each shard, what it granted, refused, let wait and saw expire, and what it holds.
    shards: Vec<[u64; 8]>,
    next_due: Option<u64>,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("less than centuries")
}

impl World {
    /// Runs a program to its end and gives everything back.
    ///
    /// # Panics
    /// When something does not hold that must; see the crate.
    pub fn run(program: &Program) {
        let limits = program.limits();
        // Placed alike in every run, so a crash can be replayed.
        let limiter = Limiter::new(if program.several_shards { 2 } else { 1 }, limits);
        let mut world = Self {
            limiter,
            book: RuleBook::default(),
            now: 0,
            model: Model::default(),
            waiters: Vec::new(),
            stale: Vec::new(),
            secrets: 0,
            closed: false,
        };
        world.settle();
        for op in &program.ops {
            world.op(op);
            world.settle();
        }
        if program.close {
            world.close();
            world.settle();
        }
        world.drain();
    }

    /// One step, with what came due by now and what it did to others.
    fn step(&mut self, input: Input<'_>) -> Output {
        let (output, effects) = self.decide(input);
        self.take(effects);
        output
    }

    /// One step, and what it did to others afterwards.
    fn decide(&mut self, input: Input<'_>) -> (Output, Vec<Effect>) {
        while let Some(lease) = self.model.expire(self.now) {
            self.bury(lease);
        }
        let mut effects = Vec::new();
        let output = self.limiter.step(self.now, input, &mut effects);
        (output, effects)
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Granted { waiter, grant } => {
                    let Waiter { request, secrets, .. } = self.leave(waiter);
                    self.granted(&request, &grant, &secrets, true);
                }
                Effect::Refused { waiter, refusal } => {
                    self.leave(waiter);
                    let expected = match refusal.reason {
                        Reason::TimedOut | Reason::TooLarge => true,
                        _ => self.closed,
                    };
                    assert!(expected, "a waiter is refused: {refusal}");
                }
                Effect::Retry { .. } | Effect::Release { .. } => panic!("all shards are at hand"),
            }
        }
    }

    /// Takes in a grant, and the further ones of a batch.
    fn granted(&mut self, request: &Request, grant: &Grant, secrets: &[u128], waited: bool) {
        let got = grant.more.len() + 1;
        let wanted = request.least.get() as usize..=request.count.get() as usize;
        assert!(wanted.contains(&got), "{got} of a batch of {wanted:?}");
        for (index, grant) in std::iter::once(grant).chain(&grant.more).enumerate() {
            self.model.grant(self.now, &self.book, request, grant, secrets.get(index).copied(), waited);
        }
    }

    fn leave(&mut self, id: WaiterId) -> Waiter {
        let index = self.waiters.iter().position(|waiter| waiter.id == id).expect("an effect on somebody who waits");
        self.waiters.remove(index)
    }

    fn bury(&mut self, lease: Lease) {
        if self.stale.len() == MAX_STALE {
            self.stale.remove(0);
        }
        self.stale.push(lease);
    }

    fn op(&mut self, op: &Op) {
        match op {
            Op::Acquire(ask) => self.acquire(ask),
            Op::Explain(ask) => {
                let request = self.request(ask);
                self.explain(&request);
            }
            Op::Release(index, end) => {
                if !self.model.leases.is_empty() {
                    self.release(usize::from(*index) % self.model.leases.len(), end.get());
                }
            }
            Op::Settle(index, cost) => {
                if !self.model.leases.is_empty() {
                    self.settle_cost(usize::from(*index) % self.model.leases.len(), cost.get());
                }
            }
            Op::Operate(index, verb) => {
                if let Some(verb) = verb.get() {
                    self.operate(&counter(*index), &verb);
                }
            }
            Op::Stale(index) => {
                if !self.stale.is_empty() {
                    self.all_gone(usize::from(*index) % self.stale.len());
                }
            }
            Op::Extend(index, time) => {
                if !self.model.leases.is_empty() {
                    self.extend(usize::from(*index) % self.model.leases.len(), time.get());
                }
            }
            Op::Cancel(index) => {
                if !self.waiters.is_empty() {
                    self.cancel(usize::from(*index) % self.waiters.len());
                }
            }
            Op::Pass(time) => {
                let until = match time {
                    Time::Nothing => self.now,
                    Time::Nanos(nanos) => self.now + u64::from(*nanos),
                    Time::Millis(millis) => self.now + u64::from(*millis) * 1_000_000,
                    Time::AlmostPeriod(index) => self.now + nanos(period(*index)) - 1,
                    Time::Due => self.limiter.next_due().unwrap_or(self.now),
                    Time::Years(years) => self.now.saturating_add(u64::from(*years) * YEAR),
                };
                self.now = until.clamp(self.now, END_OF_TIME.max(self.now));
                self.step(Input::Tick);
            }
            Op::Rules(changes) => {
                let changes: Vec<_> = changes.iter().map(|change| change.change()).collect();
                if let Ok(next) = self.book.apply(&changes, self.now / 1_000_000) {
                    self.book = next;
                    self.step(Input::SetBook { book: Arc::new(self.book.clone()) });
                }
            }
        }
    }

    /// The request of an ask, with what it rides on.
    fn request(&self, ask: &Ask) -> Request {
        let mut request = ask.request();
        if request.count.get() > 1 {
            return request;
        }
        // Lenders are leases of one part, as ingress takes them.
        let lenders: Vec<LeaseRef> =
            self.model.leases.iter().filter(|lease| lease.parts.len() == 1).map(|lease| lease.parts[0]).collect();
        let lender = ask.lend.filter(|_| !lenders.is_empty());
        request.lend_from.extend(lender.map(|index| lenders[usize::from(index) % lenders.len()]));
        request
    }

    fn acquire(&mut self, ask: &Ask) {
        let request = self.request(ask);
        let wait = ask.wait.is_some() && request.lend_from.is_empty();
        let named = if ask.named { request.count.get() } else { 0 };
        let secrets: Vec<u128> = (1..=u128::from(named)).map(|n| self.secrets + n).collect();
        self.secrets += u128::from(named);

        let foreseen = self.check(&request);
        let (output, effects) = self.decide(Input::Acquire { request: &request, wait, secrets: &secrets });
        match (foreseen, output) {
            (Output::WouldGrant(_), Output::Granted(grant)) => {
                self.granted(&request, &grant, &secrets, false);
            }
            (Output::Refused(foreseen), Output::Waiting(id)) => {
                let passes = matches!(foreseen.reason, Reason::Limited | Reason::Paused | Reason::PushedBack);
                assert!(wait && passes, "it waits for what never comes: {foreseen}");
                assert!(self.waiters.iter().all(|waiter| waiter.id != id));
                // Where it has no wish, the longest that a rule may say.
                let until = self.now + nanos(request.max_wait.unwrap_or(MAX_WAIT));
                self.waiters.push(Waiter { id, request, secrets, until });
            }
            (Output::Refused(foreseen), Output::Refused(refusal)) => {
                let waitlist_is_full = wait && refusal.reason == Reason::Overloaded;
                assert!(waitlist_is_full || foreseen == refusal, "foreseen: {foreseen}; got: {refusal}");
            }
            other => panic!("the check and the acquire do not agree: {other:?}"),
        }
        self.take(effects);
    }

    /// Checks a request, which changes nothing.
    fn check(&mut self, request: &Request) -> Output {
        let before = self.picture();
        let output = self.step(Input::Check { request });
        assert_eq!(self.picture(), before, "a check has an effect");
        output
    }

    /// Explains a request, which changes nothing and says what a check says.
    fn explain(&mut self, request: &Request) {
        let foreseen = self.check(request);
        let before = self.picture();
        let output = self.step(Input::Explain { request });
        assert_eq!(self.picture(), before, "an explanation has an effect");
        match (foreseen, output) {
            (Output::WouldGrant(_), Output::Explained(explanation)) => {
                assert!(explanation.refusal.is_none(), "{explanation:?}");
            }
            (Output::Refused(foreseen), Output::Explained(explanation)) => {
                // Or that it could not wait either.
                let reason = explanation.refusal.as_ref().map(|refusal| refusal.reason);
                assert!([Some(foreseen.reason), Some(Reason::Overloaded)].contains(&reason), "{explanation:?}");
            }
            other => panic!("the check and the explanation do not agree: {other:?}"),
        }
    }

    fn settle_cost(&mut self, index: usize, cost: u32) {
        let lease = self.model.leases[index].parts[0];
        let Some((refunded, overrun)) = self.model.settle(self.now, &self.book, index, cost) else { return };
        let units = |units: u64| u32::try_from(units).expect("32 bits");
        let expected = Settled { refunded: units(refunded), overrun: units(overrun) };
        assert_eq!(self.step(Input::Settle { lease, cost }), Output::Settled(expected));
        // The same again is nothing, unless the lease has ended with what it set free: it cannot.
        assert_eq!(self.step(Input::Settle { lease, cost }), Output::Settled(Settled::default()));
    }

    fn operate(&mut self, counter: &CounterName, verb: &Verb) {
        // What it sets free is granted within the step, by the numbers that hold then.
        self.model.operate(counter.as_str(), verb);
        match self.step(Input::Operate { counter, verb }) {
            Output::Operated(shown) => assert_eq!(shown.counter, counter.as_str()),
            Output::Refused(refusal) => {
                assert_eq!(refusal.reason, Reason::Overloaded, "{refusal}");
                self.model.operate(counter.as_str(), &Verb::Resume);
                self.model.operate(counter.as_str(), &Verb::Unpin);
            }
            other => panic!("not operated: {other:?}"),
        }
    }

    fn release(&mut self, index: usize, outcome: Outcome) {
        // The parts end one by one; between them the model is ahead, which only frees.
        self.model.ends(self.now, &self.book, index, outcome);
        let lease = self.model.end(index);
        for (part, outcome) in lease.parts.iter().zip(std::iter::once(outcome).chain(std::iter::repeat(Outcome::Ok))) {
            assert_eq!(self.step(Input::Release { lease: *part, outcome }), Output::Done);
            assert_eq!(
                self.step(Input::Release { lease: *part, outcome: Outcome::Ok }),
                Output::Gone,
                "released twice"
            );
        }
        self.bury(lease);
    }

    fn all_gone(&mut self, index: usize) {
        for part in self.stale[index].parts.clone() {
            assert_eq!(self.step(Input::Release { lease: part, outcome: Outcome::Ok }), Output::Gone);
            assert_eq!(self.step(Input::Extend { lease: part, lease_time: Duration::from_secs(1) }), Output::Gone);
            assert_eq!(self.step(Input::Settle { lease: part, cost: 1 }), Output::Gone);
        }
        if let Some(id) = self.stale[index].id {
            assert_eq!(self.step(Input::Find { id, caller: None }), Output::Gone);
        }
    }

    fn extend(&mut self, index: usize, lease_time: Duration) {
        let Lease { parts, granted_at, ends_at, id, .. } = &self.model.leases[index];
        let (parts, id) = (parts.clone(), *id);
        let latest = granted_at + nanos(MAX_LEASE_LIFE);
        let expected = ends_at.map(|end| end.max(latest.min(self.now + nanos(lease_time))));
        self.model.leases[index].ends_at = expected;
        for part in &parts {
            assert_eq!(self.step(Input::Extend { lease: *part, lease_time }), Output::Extended(expected));
        }
        if let Some(id) = id {
            assert_eq!(self.step(Input::Find { id, caller: None }), Output::Found(parts.into_iter().collect()));
        }
    }

    fn cancel(&mut self, index: usize) {
        let waiter = self.waiters.remove(index).id;
        assert_eq!(self.step(Input::Cancel { waiter }), Output::Done);
        assert_eq!(self.step(Input::Cancel { waiter }), Output::Gone);
    }

    fn close(&mut self) {
        self.closed = true;
        self.step(Input::Close);
        assert!(self.waiters.is_empty(), "somebody waits for a limiter that is closed");
        let request = Request::new(ScopedKey::new("a", None).expect("a valid scope"));
        let foreseen = self.check(&request);
        let output = self.step(Input::Acquire { request: &request, wait: true, secrets: &[] });
        assert_eq!(foreseen, output);
        assert!(matches!(&output, Output::Refused(refusal) if refusal.reason == Reason::Unavailable), "{output:?}");
    }

    fn picture(&mut self) -> Picture {
        let Output::Counters(mut counters) = self.step(Input::Counters { prefix: "" }) else { panic!("no counters") };
        counters.sort_by(|a, b| a.counter.cmp(&b.counter));
        let shards = self.limiter.shards().iter().map(Shard::metrics);
        let shards = shards.map(|m| {
            [m.granted, m.refused.iter().sum(), m.waited, m.expired, m.waiting, m.leases, m.counters, m.log_entries]
        });
        Picture { counters, shards: shards.collect(), next_due: self.limiter.next_due() }
    }

    /// What must hold between steps.
    fn settle(&mut self) {
        let Picture { counters, next_due, .. } = self.picture();
        assert!(next_due.is_none_or(|due| due > self.now), "what was due is still to come");
        for shown in &counters {
            assert_eq!((shown.calls, shown.cost), self.model.held(&shown.counter), "{}", shown.counter);
        }
        for held in self.model.held_counters() {
            assert!(counters.iter().any(|shown| shown.counter == held), "{held} is held and not shown");
        }
        assert_eq!(counters.iter().map(|shown| shown.waiting).sum::<usize>(), self.waiters.len());
        for waiter in &self.waiters {
            assert!(waiter.until > self.now, "waits longer than it wished: {waiter:?}");
        }
    }

    /// Gives everything back and lets it age.
    fn drain(&mut self) {
        for counter in self.model.operated() {
            let counter: CounterName = counter.parse().expect("a name");
            for verb in [Verb::Resume, Verb::Unpin] {
                self.operate(&counter, &verb);
                self.settle();
            }
        }
        while !self.waiters.is_empty() || !self.model.leases.is_empty() {
            if self.waiters.is_empty() {
                self.release(0, Outcome::Ok);
            } else {
                self.cancel(0);
            }
            self.settle();
        }
        for _ in 0..MAX_TIMERS {
            let Some(due) = self.limiter.next_due() else { break };
            self.now = due;
            self.step(Input::Tick);
        }
        let Picture { counters, shards, .. } = self.picture();
        assert!(shards.iter().all(|[.., waiting, leases, _, _]| (*waiting, *leases) == (0, 0)), "{shards:?}");
        assert!(counters.iter().all(|shown| (shown.calls, shown.cost, shown.waiting) == (0, 0, 0)), "{counters:?}");
        assert!(self.limiter.shards().iter().all(Shard::is_empty), "something is left: {:?}", self.limiter);
        for index in 0..self.stale.len() {
            self.all_gone(index);
        }
    }
}
